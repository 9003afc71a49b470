//! Compiles the one C file of the crate: `parse.c`.

fn main() {
    println!("cargo::rerun-if-changed=src/sql/parse.c");
    cc::Build::new()
        .file("src/sql/parse.c")
        .std("c11")
        .flag("-D_POSIX_C_SOURCE=200809L")
        .compile("weirgate_sql");
}
