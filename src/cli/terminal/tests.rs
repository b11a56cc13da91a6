use proptest::prelude::*;

use super::*;

#[test]
fn the_keys_detach_also_in_two_pieces() {
    for pieces in [&[&b"ls\n\x10\x11rest"[..]][..], &[b"ls\n\x10", b"\x11rest"]] {
        let mut keys = DetachKeys::default();
        let typed: Vec<Typed> = pieces.iter().map(|piece| keys.typed(piece)).collect();
        assert_eq!(
            typed
                .iter()
                .flat_map(|typed| typed.bytes.clone())
                .collect::<Vec<_>>(),
            b"ls\n"
        );
        assert!(typed.last().is_some_and(|typed| typed.detached), "{pieces:?}");
    }
}

#[test]
fn ctrl_p_alone_is_a_key_like_others() {
    let mut keys = DetachKeys::default();
    assert_eq!(
        keys.typed(b"\x10\x10"),
        Typed {
            bytes: vec![0x10],
            detached: false
        }
    );
    assert_eq!(
        keys.typed(b"a\x11"),
        Typed {
            bytes: b"\x10a\x11".to_vec(),
            detached: false
        }
    );
}

proptest! {
    /// Without the keys nothing is lost, added or reordered, but a last Ctrl-P that waits.
    #[test]
    fn everything_else_goes_on(pieces: Vec<Vec<u8>>) {
        let all = pieces.concat();
        prop_assume!(!all.windows(2).any(|pair| pair == [0x10, 0x11]));
        let mut keys = DetachKeys::default();
        let mut passed: Vec<u8> = Vec::new();
        for piece in &pieces {
            let typed = keys.typed(piece);
            prop_assert!(!typed.detached);
            passed.extend(typed.bytes);
        }
        if all.last() == Some(&0x10) {
            passed.push(0x10);
        }
        prop_assert_eq!(passed, all);
    }
}
