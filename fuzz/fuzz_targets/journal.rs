//! libFuzzer's entry to [`fuzz::journal`].
#![no_main]
#![allow(unsafe_code, missing_docs, reason = "the macro exports a C function")]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::journal(input));
