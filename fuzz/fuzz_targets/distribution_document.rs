//! Any bytes as a manifest or index, with any content type: reading never panics, and what is chosen from an index is in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pausa_distribution::{Digest, Document, Platform};

fuzz_target!(|input: (Option<&str>, &[u8])| {
    let (content_type, bytes) = input;
    let digest = Digest::sha256(bytes);
    let Ok((document, media_type)) = Document::parse(bytes, content_type, &digest) else {
        return;
    };
    assert!(!media_type.is_empty());
    if let Document::Index(index) = document {
        for platform in [Platform::host(), Platform::new("linux", "arm", Some("v7"))] {
            if let Ok(chosen) = index.select(&platform) {
                assert!(index.manifests.contains(chosen));
            }
        }
    }
});
