//! Any bytes as a blob of unknown compression.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pausa_layer::{Compression, Limits, inspect};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        archive_bytes: 64 << 20,
        ..Limits::default()
    };
    drop(inspect(bytes, Compression::Detect, &limits));
});
