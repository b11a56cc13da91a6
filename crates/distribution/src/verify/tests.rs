use super::*;
use proptest::prelude::*;

fn read(bytes: &[u8], digest: Digest, size: u64) -> Result<Vec<u8>, Error> {
    let mut reader = VerifyingReader::new(bytes, digest, size);
    let mut out = Vec::new();
    reader.read_to_end(&mut out).unwrap();
    reader.verify().map(|()| out)
}

#[test]
fn other_bytes_fewer_bytes_and_more_bytes_are_errors() {
    let read = |bytes: &[u8]| read(bytes, Digest::sha256(b"abc"), 3);
    let cause = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(read(b"abc").unwrap(), b"abc");
    assert!(cause(b"abd").contains("hash to"));
    assert!(cause(b"ab").contains("has 2 bytes"));
    assert!(cause(b"abcd").contains("descriptor says 3"));
    assert!(cause(b"").contains("has 0 bytes"));
}

proptest! {
    #[test]
    fn one_changed_byte_is_found(mut bytes in proptest::collection::vec(any::<u8>(), 1..500), at: prop::sample::Index) {
        let (digest, size) = (Digest::sha256(&bytes), u64::try_from(bytes.len()).unwrap());
        prop_assert_eq!(&read(&bytes, digest.clone(), size).unwrap(), &bytes);
        let at = at.index(bytes.len());
        bytes[at] ^= 1;
        prop_assert!(read(&bytes, digest, size).is_err());
    }
}
