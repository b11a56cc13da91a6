//! Random trees: written by the tar crate's builder, unpacked by us, compared name by name.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use crate::testing::{Site, privileged};
use crate::{Compression, Limits, inspect};

#[derive(Debug, Clone)]
enum Node {
    File { data: Vec<u8>, mode: u32, uid: u64 },
    Link { target: String },
    Directory { mode: u32 },
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        (
            proptest::collection::vec(any::<u8>(), 0..3000),
            0u32..0o10000,
            0u64..u64::from(u32::MAX)
        )
            .prop_map(|(data, mode, uid)| Node::File { data, mode, uid }),
        // The builder itself tidies up targets with empty or dotted components.
        "[a-z]{1,20}(/[a-z]{1,40}){0,6}".prop_map(|target| Node::Link { target }),
        (0u32..0o10000).prop_map(|mode| Node::Directory { mode }),
    ]
}

/// Names below directories only: a node that something lies in is a directory.
fn tree() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let name = proptest::collection::vec("[a-zA-Z0-9_é-]{1,40}", 1..6).prop_map(|parts| parts.join("/"));
    proptest::collection::btree_map(name, node(), 0..25).prop_map(|mut tree| {
        let parents: Vec<String> = tree
            .keys()
            .flat_map(|name| {
                name.match_indices('/')
                    .map(|(at, _)| name[..at].to_owned())
                    .collect::<Vec<_>>()
            })
            .collect();
        for parent in parents {
            tree.insert(parent, Node::Directory { mode: 0o755 });
        }
        tree
    })
}

fn archive(tree: &BTreeMap<String, Node>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, node) in tree {
        let mut header = Header::new_gnu();
        header.set_mtime(1_234_567_890);
        header.set_gid(0);
        header.set_uid(0);
        header.set_size(0);
        match node {
            Node::File { data, mode, uid } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(*mode);
                header.set_uid(*uid);
                header.set_size(data.len() as u64);
                builder.append_data(&mut header, name, data.as_slice()).unwrap();
            }
            Node::Link { target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, name, target).unwrap();
            }
            Node::Directory { mode } => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                builder.append_data(&mut header, name, &[][..]).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn compare(site: &Site, name: &str, node: &Node) -> Result<(), TestCaseError> {
    use std::os::unix::fs::MetadataExt;
    let path = site.root.join(name);
    let stat = std::fs::symlink_metadata(&path).unwrap();
    prop_assert_eq!(stat.mtime(), 1_234_567_890, "{}", name);
    match node {
        Node::File { data, mode, uid } => {
            prop_assert!(stat.is_file(), "{}", name);
            prop_assert_eq!(stat.mode() & 0o7777, *mode, "{}", name);
            prop_assert_eq!(u64::from(stat.uid()), *uid, "{}", name);
            prop_assert_eq!(&std::fs::read(&path).unwrap(), data, "{}", name);
        }
        Node::Link { target } => {
            let found = std::fs::read_link(&path).unwrap();
            prop_assert_eq!(found.to_str(), Some(target.as_str()), "{}", name);
        }
        Node::Directory { mode } => {
            prop_assert!(stat.is_dir(), "{}", name);
            prop_assert_eq!(stat.mode() & 0o7777, *mode, "{}", name);
        }
    }
    Ok(())
}

/// A block with a correct checksum, and fields that a header could have.
fn block() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(b"0123456xLKgS\0".to_vec());
    let name = "(\\.wh\\.)?(\\.wh\\.)?[ab./]{1,8}";
    let field = prop_oneof![
        Just(*b"00000000000\0"),
        Just(*b"00000001000\0"),
        any::<[u8; 12]>()
    ];
    let rest = "([0-9]{1,2} (path|size|uid|mtime|GNU.sparse.map|GNU.sparse.major)=[0-9a./]{0,6}\n){0,6}";
    (kind, name, field, any::<bool>(), rest).prop_map(|(kind, name, size, is_header, rest)| {
        let mut block = rest.into_bytes();
        block.resize(512, 0);
        if is_header {
            block[..100].fill(0);
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[100..136].fill(b'0');
            block[124..136].copy_from_slice(&size);
            block[136..148].fill(b'0');
            block[156] = kind;
            block[157] = b'a';
            block[257..265].copy_from_slice(b"ustar  \0");
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    })
}

/// Whatever can be unpacked passes the check afterwards, and is reproduced byte for byte if it is reproducible.
fn recorded(bytes: &[u8]) -> Result<(), TestCaseError> {
    let site = Site::new();
    let dir = std::fs::File::open(&site.root).unwrap();
    let dir = std::os::fd::AsFd::as_fd(&dir);
    let path = site.temp.path().join("tar-split");
    let tar_split = std::fs::File::create(&path).unwrap();
    let limits = Limits::default();
    let unpacked = crate::unpack_recorded(bytes, Compression::Detect, dir, &limits, tar_split);
    let Some(unpacked) = unpacked.ok().filter(|unpacked| unpacked.reproducible) else {
        return Ok(());
    };
    let mut again = Vec::new();
    let tar_split = || std::fs::File::open(&path).unwrap();
    let mut replay = crate::TarSplitReader::new(tar_split(), dir).unwrap();
    std::io::Read::read_to_end(&mut replay, &mut again).unwrap();
    prop_assert!(again == bytes);
    let checked = crate::check(dir, tar_split(), &crate::Expected::from(&unpacked), &limits);
    prop_assert!(checked.is_ok(), "{:?}", checked);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    #[ignore = "needs root"]
    fn random_trees_come_out_as_they_went_in(tree in tree()) {
        if !privileged() {
            return Ok(());
        }
        let site = Site::new();
        let unpacked = site.unpack(&archive(&tree)).unwrap();
        prop_assert_eq!(unpacked.files, tree.len() as u64 + 1);
        for (name, node) in &tree {
            compare(&site, name, node)?;
        }
        let dir = std::fs::File::open(&site.root).unwrap();
        let measured = crate::usage(std::os::fd::AsFd::as_fd(&dir)).unwrap();
        prop_assert_eq!(measured.inodes, unpacked.files);
        recorded(&archive(&tree))?;
    }

    #[test]
    #[ignore = "needs root"]
    fn headers_of_any_content_end_in_an_error_or_a_tree_but_never_in_a_panic(
        blocks in proptest::collection::vec(block(), 0..12)
    ) {
        let bytes = blocks.concat();
        drop(inspect(&bytes, Compression::None, &Limits::default()));
        if privileged() {
            recorded(&bytes)?;
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn damaged_archives_end_in_an_error_or_a_tree_but_never_in_a_panic(
        tree in tree(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        let mut bytes = archive(&tree);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        drop(inspect(&bytes, Compression::Detect, &Limits::default()));
        if privileged() {
            recorded(&bytes)?;
        }
    }
}
