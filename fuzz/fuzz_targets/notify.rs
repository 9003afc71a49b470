#![no_main]
#![allow(missing_docs, reason = "an entry point")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weirgate_fuzz::notify::run(data));
