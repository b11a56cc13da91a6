//! The image to pull: layers of many small files, the same in every run.
//!
//! Files have 1 to 16 KiB of words, which compress about as well as programs and texts. Each layer has its
//! own words.

use std::io::Write as _;

use clap::ValueEnum;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::EntryType;

use crate::harness::recipe::digest;
use crate::harness::which;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

/// The size of the image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) layers: u32,
    pub(crate) layer_bytes: u64,
}

/// A compressed layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: String,
    /// Bytes of its files on a disk with blocks of 4 KiB.
    pub(crate) unpacked: u64,
    pub(crate) files: u64,
}

const BLOCK: u64 = 4096;
const FILES_IN_A_DIRECTORY: u64 = 64;

/// xorshift64*, with the same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn media_type(self) -> String {
        format!("application/vnd.oci.image.layer.v1.tar+{}", self.name())
    }

    /// Compresses with the default level of common build tools.
    fn compress(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain).expect("gzip in memory");
                encoder.finish().expect("gzip in memory")
            }
            Self::Zstd => zstd::bulk::compress(plain, 3).expect("zstd in memory"),
        }
    }
}

impl Plan {
    /// Builds the layer with this number. The first one contains busybox, so that a container of the image
    /// can run.
    pub(crate) fn layer(self, number: u32, compression: Compression) -> Layer {
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15 ^ (u64::from(number) + 1));
        let words: Vec<Vec<u8>> = (0..4096).map(|_| word(&mut numbers)).collect();
        let mut tar = tar::Builder::new(Vec::new());
        let mut layer = Layer {
            blob: Vec::new(),
            diff_id: String::new(),
            unpacked: 0,
            files: 0,
        };
        let top = format!("data/{number}");
        directory(&mut tar, "data");
        directory(&mut tar, &top);
        if number == 0 {
            let busybox = which("busybox").expect("checked by harness::unable");
            let program = std::fs::read(busybox).expect("busybox is readable");
            directory(&mut tar, "bin");
            layer.file(&mut tar, "bin/busybox", 0o755, &program);
        }
        let mut written = 0;
        while written < self.layer_bytes {
            let place = format!("{top}/{}", layer.files / FILES_IN_A_DIRECTORY);
            if layer.files.is_multiple_of(FILES_IN_A_DIRECTORY) {
                directory(&mut tar, &place);
            }
            let length = 1024 + numbers.below(15 * 1024);
            let text = text(&mut numbers, &words, usize::try_from(length).expect("16 KiB"));
            let path = format!("{place}/file-{}", layer.files);
            layer.file(&mut tar, &path, 0o644, &text);
            written += length;
        }
        let plain = tar.into_inner().expect("a tar in memory");
        layer.diff_id = digest(&plain);
        layer.blob = compression.compress(&plain);
        layer
    }
}

impl Layer {
    fn file(&mut self, tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, data: &[u8]) {
        let size = u64::try_from(data.len()).expect("a length");
        append(tar, path, EntryType::Regular, mode, data);
        self.files += 1;
        self.unpacked += size.div_ceil(BLOCK) * BLOCK;
    }
}

/// The configuration of an image with these layers.
pub(crate) fn config(diff_ids: &[String]) -> Vec<u8> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/busybox", "sleep", "3600"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

fn word(numbers: &mut Numbers) -> Vec<u8> {
    let length = 2 + numbers.below(9);
    let letter = |_| b'a' + u8::try_from(numbers.below(26)).expect("a letter");
    (0..length).map(letter).collect()
}

fn text(numbers: &mut Numbers, words: &[Vec<u8>], length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 16);
    let count = u64::try_from(words.len()).expect("a length");
    while text.len() < length {
        let at = usize::try_from(numbers.below(count)).expect("an index");
        text.extend_from_slice(&words[at]);
        text.push(if numbers.below(12) == 0 { b'\n' } else { b' ' });
    }
    text.truncate(length);
    text
}

fn directory(tar: &mut tar::Builder<Vec<u8>>, path: &str) {
    append(tar, path, EntryType::Directory, 0o755, b"");
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: EntryType, mode: u32, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(u64::try_from(data.len()).expect("a length"));
    header.set_mtime(0);
    tar.append_data(&mut header, path, data).expect("a tar in memory");
}
