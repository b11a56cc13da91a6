//! Any text as a reference, an image id and a digest: whatever is accepted means the same when it is written and read again,
//! and cannot change the shape of a URL.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pausa_distribution::{Digest, ImageId, Reference};

fuzz_target!(|text: &str| {
    drop(ImageId::parse(text));
    let _short = Reference::is_short(text);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse::<Digest>().ok(), Some(digest));
    }
    let Ok(reference) = text.parse::<Reference>() else {
        return;
    };
    let again: Reference = reference
        .to_string()
        .parse()
        .expect("what was written can be read");
    assert_eq!(again, reference);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    assert!(reference.repository().chars().all(plain) && !reference.repository().contains(".."));
});
