use std::io::Read as _;

use proptest::prelude::*;

use super::*;

const PAGE: usize = 4096;

/// The database of a containerd 1.6 with 205 images.
fn containerd() -> Vec<u8> {
    let mut bytes = Vec::new();
    let packed = include_bytes!("tests/containerd.db.gz").as_slice();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// All names of keys below a bucket, with the keys above them.
fn walk(bucket: &Bucket<'_>, prefix: &str, depth: usize, into: &mut Vec<String>) -> Result<(), Error> {
    for entry in bucket {
        let (key, value) = entry?;
        let path = format!("{prefix}/{}", String::from_utf8_lossy(key));
        match value {
            Value::Bytes(_) => into.push(path),
            Value::Bucket(inner) if depth > 0 => walk(&inner, &path, depth - 1, into)?,
            Value::Bucket(_) => {}
        }
    }
    Ok(())
}

#[test]
fn reads_what_containerd_wrote() {
    let bytes = containerd();
    let db = Db::open(&bytes).unwrap();
    let path = [b"v1".as_slice(), b"k8s.io", b"images"];
    let images = path
        .iter()
        .fold(db.root(), |bucket, key| bucket.bucket(key).unwrap().unwrap());
    let names: Vec<_> = images.iter().map(|entry| entry.unwrap().0).collect();
    assert_eq!(names.len(), 205);
    assert!(names.is_sorted());
    // A walk and a search find the same, over several leaves.
    for name in names {
        let target = images
            .bucket(name)
            .unwrap()
            .unwrap()
            .bucket(b"target")
            .unwrap()
            .unwrap();
        let digest = target.bytes(b"digest").unwrap().unwrap();
        assert!(digest.starts_with(b"sha256:"), "{digest:?}");
    }
    for missing in [b"".as_slice(), b"a", b"registry.example/many/image-1:v", b"zzz"] {
        assert!(images.get(missing).unwrap().is_none());
    }
    let mut keys = Vec::new();
    walk(&db.root(), "", 9, &mut keys).unwrap();
    assert!(keys.contains(&"/v1/version".to_owned()), "{keys:?}");
}

#[test]
fn one_damaged_meta_page_is_no_harm() {
    let good = containerd();
    let transaction = Db::open(&good).unwrap().transaction();
    let mut seen = Vec::new();
    for page in [0, 1] {
        let mut bytes = good.clone();
        bytes[page * PAGE + HEADER + 20] ^= 1;
        let db = Db::open(&bytes).unwrap();
        seen.push(db.transaction());
        walk(&db.root(), "", 3, &mut Vec::new()).unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, [transaction - 1, transaction]);
    let mut bytes = good;
    bytes[HEADER] ^= 1;
    bytes[PAGE + HEADER] ^= 1;
    assert_eq!(Db::open(&bytes).unwrap_err(), Error::NoMeta);
    assert_eq!(Db::open(b"").unwrap_err(), Error::NoMeta);
}

/// A page of elements; the positions are those of their keys, which follow in order.
fn page(number: u64, is_leaf: bool, elements: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(if is_leaf { LEAF } else { BRANCH }.to_le_bytes());
    bytes.extend(u16::try_from(elements.len()).unwrap().to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    let mut at = HEADER + elements.len() * ELEMENT;
    for (index, (key, value)) in elements.iter().enumerate() {
        let position = u32::try_from(at - HEADER - index * ELEMENT)
            .unwrap()
            .to_le_bytes();
        let [key_length, value_length] =
            [key, value].map(|part| u32::try_from(part.len()).unwrap().to_le_bytes());
        if is_leaf {
            bytes.extend([[0; 4], position, key_length, value_length].concat());
            at += key.len() + value.len();
        } else {
            bytes.extend([position, key_length].concat());
            bytes.extend_from_slice(value);
            at += key.len();
        }
    }
    for (key, value) in elements {
        bytes.extend_from_slice(key);
        if is_leaf {
            bytes.extend_from_slice(value);
        }
    }
    assert!(bytes.len() <= PAGE);
    bytes.resize(PAGE, 0);
    bytes
}

fn meta_page(number: u64, root: u64) -> Vec<u8> {
    let mut meta = [MAGIC, VERSION, u32::try_from(PAGE).unwrap(), 0]
        .map(u32::to_le_bytes)
        .concat();
    meta.extend([root, 0, 0, 100, number].map(u64::to_le_bytes).concat());
    meta.extend(checksum(&meta).to_le_bytes());
    let header = [number.to_le_bytes(), [4, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut page = [header, meta].concat();
    page.resize(PAGE, 0);
    page
}

#[test]
fn a_circle_of_pages_is_an_error() {
    let own = 2_u64.to_le_bytes();
    let elements = [(b"a".as_slice(), own.as_slice()), (b"b", &own)];
    let bytes = [meta_page(0, 2), meta_page(1, 2), page(2, false, &elements)].concat();
    let root = Db::open(&bytes).unwrap().root();
    assert!(root.get(b"a").is_err());
    let walked: Vec<_> = root.iter().collect();
    assert!(matches!(walked.as_slice(), [Err(_)]), "{walked:?}");
}

proptest! {
    #[test]
    fn what_is_written_is_read(mut keys in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..20), prop::collection::vec(any::<u8>(), 0..20), 1..200), per_page in 1_usize..40) {
        let entries: Vec<(&[u8], &[u8])> = keys.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        let leaves: Vec<_> = entries.chunks(per_page).collect();
        prop_assume!(leaves.len() <= 60);
        let numbers: Vec<[u8; 8]> = (3..).map(u64::to_le_bytes).take(leaves.len()).collect();
        let branch: Vec<(&[u8], &[u8])> = leaves.iter().zip(&numbers).map(|(leaf, number)| (leaf[0].0, number.as_slice())).collect();
        let mut bytes = [meta_page(0, 2), meta_page(1, 2), page(2, false, &branch)].concat();
        for (number, leaf) in (3..).zip(&leaves) {
            bytes.extend(page(number, true, leaf));
        }
        let root = Db::open(&bytes).unwrap().root();
        for (key, value) in &entries {
            prop_assert_eq!(root.bytes(key).unwrap(), Some(*value));
        }
        let read: Vec<_> = root.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
        prop_assert_eq!(&read, &keys.keys().cloned().collect::<Vec<_>>());
        keys.clear();
    }

    /// Any bytes, and a real database with some changed: every walk ends.
    #[test]
    fn damage_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40), length in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = containerd();
        for (at, value) in changes {
            // The meta pages stay valid.
            let at = 2 * PAGE + at.index(bytes.len() - 2 * PAGE);
            bytes[at] = value;
        }
        let cut = length.index(bytes.len());
        for bytes in [&bytes[..], &bytes[..cut], &noise] {
            if let Ok(db) = Db::open(bytes) {
                drop(walk(&db.root(), "", 6, &mut Vec::new()));
                drop(db.root().get(b"v1"));
            }
        }
    }
}
