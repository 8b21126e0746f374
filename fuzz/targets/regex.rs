//! Patterns: RE2's dialect to ours, both engines, and the literals that an index goes by. A pattern, a line end, a value.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (pattern, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Ok(pattern) = std::str::from_utf8(pattern) {
        mesh_routing::hostile::regex(pattern, value);
    }
});
