use super::*;
use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;

fn descriptor(bytes: &[u8], size: u64) -> Descriptor {
    Descriptor {
        media_type: "x".into(),
        digest: Digest::sha256(bytes),
        size,
        urls: Vec::new(),
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    }
}

fn read(bytes: &[u8], descriptor: &Descriptor) -> io::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = VerifyingReader::new(bytes, descriptor);
        let mut out = Vec::new();
        reader.read_to_end(&mut out).await?;
        assert!(reader.is_verified());
        Ok(out)
    })
}

fn cause(result: io::Result<Vec<u8>>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    error
        .into_inner()
        .unwrap()
        .downcast::<Error>()
        .unwrap()
        .to_string()
}

#[test]
fn other_bytes_fewer_bytes_and_more_bytes_are_errors() {
    assert_eq!(read(b"abc", &descriptor(b"abc", 3)).unwrap(), b"abc");
    assert!(cause(read(b"abd", &descriptor(b"abc", 3))).contains("hash to"));
    assert!(cause(read(b"ab", &descriptor(b"abc", 3))).contains("has 2 bytes"));
    assert!(cause(read(b"abcd", &descriptor(b"abc", 3))).contains("descriptor says 3"));
    assert!(cause(read(b"", &descriptor(b"abc", 3))).contains("has 0 bytes"));
}

proptest! {
    #[test]
    fn one_changed_byte_is_found(mut bytes in proptest::collection::vec(any::<u8>(), 1..500), at: prop::sample::Index) {
        let good = descriptor(&bytes, u64::try_from(bytes.len()).unwrap());
        prop_assert_eq!(&read(&bytes, &good).unwrap(), &bytes);
        let at = at.index(bytes.len());
        bytes[at] ^= 1;
        prop_assert!(read(&bytes, &good).is_err());
    }
}
