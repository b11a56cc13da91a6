use proptest::prelude::*;

use super::*;

#[test]
fn large_pieces_are_shared_and_small_ones_are_not() {
    let large = Bytes::from(vec![1; 100]);
    let mut chunks = Chunks::new(10);
    chunks.push(large.clone());
    assert_eq!(chunks.pop(usize::MAX).unwrap().as_ptr(), large.as_ptr());
    let small = large.slice(..9);
    chunks.push(small.clone());
    assert_ne!(chunks.pop(usize::MAX).unwrap().as_ptr(), small.as_ptr());
    assert!(chunks.is_empty());
}

proptest! {
    #[test]
    fn order_and_length_are_kept(
        pieces in prop::collection::vec((0_usize..40, any::<bool>()), 0..40),
        takes in prop::collection::vec(1_usize..50, 1..20),
    ) {
        let mut chunks = Chunks::new(10);
        let (mut expected, mut next) = (Vec::new(), 0_u8);
        for (length, copied) in pieces {
            let piece: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
            expected.extend_from_slice(&piece);
            if copied { chunks.push_slice(&piece) } else { chunks.push(Bytes::from(piece)) }
            prop_assert_eq!(chunks.len(), expected.len());
        }
        let (mut got, mut takes) = (Vec::new(), takes.into_iter().cycle());
        while let Some(piece) = chunks.pop(takes.next().unwrap()) {
            prop_assert!(!piece.is_empty());
            got.extend_from_slice(&piece);
            prop_assert_eq!(chunks.len(), expected.len() - got.len());
        }
        prop_assert_eq!(got, expected);
    }
}
