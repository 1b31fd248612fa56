//! In: bytes of the fuzzer. Out: nothing; a panic is a finding (`doors::audit_files`).

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = dpg_bench_fuzz::doors::audit_files(bytes);
});
