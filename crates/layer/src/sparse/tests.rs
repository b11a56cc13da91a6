use super::*;

fn region(offset: u64, length: u64) -> Region {
    Region { offset, length }
}

#[test]
fn maps_must_ascend_fit_and_account_for_every_stored_byte() {
    assert!(check(&[region(0, 5), region(10, 5), region(20, 0)], 20, 10));
    assert!(!check(&[region(0, 5), region(4, 5)], 20, 10));
    assert!(!check(&[region(16, 5)], 20, 5));
    assert!(!check(&[region(0, 5)], 20, 6));
    assert!(!check(&[region(u64::MAX, 5)], 20, 5));
}

#[test]
fn a_map_may_be_spread_over_blocks() {
    let mut reader = MapReader::default();
    assert_eq!(reader.take(b"2\n0\n51", 9), Ok(false));
    assert_eq!(reader.take(b"2\n1024\n1\n\0\0\0", 9), Ok(true));
    assert_eq!(reader.regions, [region(0, 512), region(1024, 1)]);
}

#[test]
fn absurd_maps_are_refused() {
    assert_eq!(MapReader::default().take(b"10\n", 9), Err(MapFault::TooMany));
    assert_eq!(MapReader::default().take(b"1\n-5\n", 9), Err(MapFault::Syntax));
    assert_eq!(MapReader::default().take(b"1\n\n", 9), Err(MapFault::Syntax));
    assert_eq!(MapReader::default().take(&[b'1'; 30], 9), Err(MapFault::Syntax));
}
