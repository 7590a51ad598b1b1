#![no_main]

#[path = "../checks/packet.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::packet(data));
