#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keystead_envelope::fuzzing::luks2(data));
