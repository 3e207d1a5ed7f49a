#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keystead_aws::fuzzing::s3(data));
