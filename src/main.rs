//! The `weirgate` command: a thin shell around the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    weirgate::cli::run(std::env::args_os())
}
