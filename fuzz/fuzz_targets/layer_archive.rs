//! Any bytes as an uncompressed layer: headers, pax records, sparse maps, names. Checksums are repaired first, or
//! the fuzzer would never get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pausa_layer::{Compression, Limits, inspect};

fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fuzz_target!(|input: (bool, &[u8])| {
    let (honest, bytes) = input;
    let mut bytes = bytes.to_vec();
    if honest {
        repair(&mut bytes);
    }
    drop(inspect(&bytes, Compression::None, &Limits::default()));
});
