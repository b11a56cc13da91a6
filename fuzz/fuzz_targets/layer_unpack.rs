//! Any bytes as a layer that is written to disk (as root; otherwise most of it is refused by the kernel): nothing beside the
//! directory may change, and what could be unpacked must verify and be reproduced byte for byte.
#![no_main]

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;

use libfuzzer_sys::fuzz_target;
use pausa_layer::{Compression, Expected, Limits, TarSplitReader, check, unpack_recorded};

fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    repair(&mut bytes);
    // In memory: the disk would be what is measured.
    let temp = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let root = temp.path().join("layer");
    std::fs::create_dir(&root).expect("a directory");
    let tar_split = temp.path().join("tar-split");
    let dir = File::open(&root).expect("a directory");
    let limits = Limits {
        content_bytes: 1 << 24,
        ..Limits::default()
    };
    let recorder = File::create(&tar_split).expect("a file");
    let unpacked = unpack_recorded(&bytes[..], Compression::None, dir.as_fd(), &limits, recorder);
    let beside = std::fs::read_dir(temp.path()).expect("a directory").count();
    assert_eq!(beside, 2);
    let Ok(unpacked) = unpacked else { return };
    if !unpacked.reproducible {
        return;
    }
    let tar_split = || File::open(&tar_split).expect("a tar-split");
    let mut again = Vec::new();
    let mut replay = TarSplitReader::new(tar_split(), dir.as_fd()).expect("a tar-split");
    replay.read_to_end(&mut again).expect("an archive");
    assert!(again == bytes);
    check(dir.as_fd(), tar_split(), &Expected::from(&unpacked), &limits).expect("a whole layer");
});
