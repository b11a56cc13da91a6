use super::*;

#[test]
fn the_dictionary_is_the_one_of_spdy_3() {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in DICTIONARY {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    assert_eq!(b << 16 | a, DICTIONARY_ID);
}

#[test]
fn a_stream_begins_with_the_dictionary_id_and_each_block_ends_with_a_sync_flush() {
    let (mut deflater, mut out) = (Deflater::default(), BytesMut::new());
    deflater.block(b"\0\0\0\0", &mut out);
    assert_eq!(out[2..6], DICTIONARY_ID.to_be_bytes());
    assert_eq!(out[0] & 0x0f, 8, "deflate");
    assert_ne!(out[1] & 0x20, 0, "with a dictionary");
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    let first = out.len();
    deflater.block(b"\0\0\0\0", &mut out);
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    assert!(out.len() - first < first, "the second block has no stream header");
}

#[test]
fn blocks_come_out_as_they_went_in() {
    let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
    for length in [0, 4, 100, 1023, 1024, 4095, 4096, 4097, 20_000, 65_536, 4] {
        let block: Vec<u8> = (0..length).map(|i: usize| (i * i / 7).to_le_bytes()[0]).collect();
        let mut wire = BytesMut::new();
        deflater.block(&block, &mut wire);
        assert_eq!(inflater.block(&wire, 65_536).unwrap(), block, "{length} bytes");
    }
}

/// A stream with stored blocks and a large window, as any end may send it.
#[test]
fn stored_blocks_are_read() {
    let mut wire = vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
    wire.extend([
        0x00, 0x04, 0x00, 0xfb, 0xff, 0, 0, 0, 0, 0x00, 0x00, 0x00, 0xff, 0xff,
    ]);
    assert_eq!(Inflater::default().block(&wire, 100).unwrap().as_ref(), [0; 4]);
}

#[test]
fn a_block_beyond_the_limit_is_refused_before_it_is_whole() {
    let mut wire = BytesMut::new();
    Deflater::default().block(&vec![b'a'; 5_000_000], &mut wire);
    assert!(wire.len() < 50_000, "a bomb: {} bytes", wire.len());
    let refused = Inflater::default().block(&wire, 65_536);
    assert_eq!(refused, Err(Violation::HeaderBlockTooLarge { limit: 65_536 }));
}

#[test]
fn rubbish_and_foreign_dictionaries_are_refused() {
    let foreign = [0x78, 0xbb, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x00, 0xff, 0xff];
    for wire in [
        &foreign[..],
        b"no zlib at all",
        &[0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01],
    ] {
        assert_eq!(Inflater::default().block(wire, 100), Err(Violation::Compression));
    }
}

#[test]
fn a_compressor_may_begin_after_any_number_of_empty_blocks() {
    for empty in [0, 1, 2, 100, 511, 512, 513, 3000] {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        // Repeats itself, the dictionary and zeros: what a compressor would look for in its past.
        let block = [
            &DICTIONARY[..200],
            &[0; 64],
            &DICTIONARY[1300..],
            &DICTIONARY[..200],
            &[0; 64],
        ]
        .concat();
        let blocks = std::iter::repeat_n(&EMPTY[..], empty).chain([&block[..], &EMPTY, &block, &EMPTY]);
        for (number, block) in blocks.enumerate() {
            let mut wire = BytesMut::new();
            deflater.block(block, &mut wire);
            assert_eq!(
                inflater.block(&wire, 65_536).unwrap(),
                block,
                "block {number} after {empty} empty ones"
            );
        }
        assert!(deflater.stream.is_some());
    }
}

#[test]
fn empty_blocks_need_no_compressor() {
    let (mut deflater, mut wire) = (Deflater::default(), BytesMut::new());
    for _ in 0..10 {
        deflater.block(&EMPTY, &mut wire);
    }
    assert!(deflater.stream.is_none());
    assert_eq!(u16::from_be_bytes(STREAM_HEAD) % 31, 0, "the check bits");
}
