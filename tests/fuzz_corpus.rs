//! Do the fuzz targets hold on every seed and on every input that once was a crash?

#[expect(unreachable_pub, reason = "a crate of its own in fuzz/")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

#[test]
fn every_target_holds_on_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, run) in targets::TARGETS {
        let dir = std::fs::read_dir(corpus.join(name));
        let dir = dir.unwrap_or_else(|error| panic!("{name} has no corpus: {error}"));
        let mut seeds = 0;
        for entry in dir {
            let path = entry.expect("an entry").path();
            let data = std::fs::read(&path).expect("a seed");
            println!("{}", path.display());
            run(&data);
            // A little around each seed, too: cut at every place.
            for len in 0..data.len().min(400) {
                run(data.get(..len).unwrap_or_default());
            }
            seeds += 1;
        }
        assert!(seeds >= 3, "{name} has {seeds} seeds");
    }
}
