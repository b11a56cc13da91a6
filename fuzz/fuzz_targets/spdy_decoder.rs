//! Any bytes as a byte stream, once whole and once cut: the frames must be the same.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pausa_spdy::{DecodeError, Decoder, Frame, Limits};

/// The frames in a form in which pieces of DATA are put together again.
fn decode(bytes: &[u8], size: usize) -> Vec<Result<Frame, DecodeError>> {
    let (mut decoder, mut input) = (Decoder::new(Limits::default()), BytesMut::new());
    let (mut all, mut gathered) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(Frame::Data { stream, fin, data })) => {
                    gathered.extend_from_slice(&data);
                    if decoder.is_between_frames() {
                        let data = std::mem::take(&mut gathered).into();
                        all.push(Ok(Frame::Data { stream, fin, data }));
                    }
                }
                Ok(Some(frame)) => all.push(Ok(frame)),
                Err(error @ DecodeError::Stream { .. }) => all.push(Err(error)),
                Err(error) => {
                    all.push(Err(error));
                    return all;
                }
            }
        }
    }
    all
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    assert_eq!(
        decode(bytes, usize::MAX),
        decode(bytes, usize::from(*size).max(1))
    );
});
