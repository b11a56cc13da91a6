//! Frames to bytes.

use bytes::{BufMut, BytesMut};

use crate::compress::Deflater;
use crate::frame::{FLAG_CLEAR, FLAG_FIN, FLAG_UNIDIRECTIONAL, HEAD, MAX_LENGTH, VERSION, kind};
use crate::{Error, Frame, Headers, StreamId};

/// One direction's encoder. Its header compression has state: everything it encodes must be sent, in order.
#[derive(Debug, Default)]
pub struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    /// Appends a frame to `out`.
    ///
    /// # Errors
    /// [`Error::HeadersTooLarge`] if a frame cannot carry the headers or the data.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), Error> {
        match frame {
            Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            } => {
                let flags = fin_flag(*fin) | if *unidirectional { FLAG_UNIDIRECTIONAL } else { 0 };
                self.headers_frame(kind::SYN_STREAM, flags, headers, out, |out| {
                    out.put_u32(stream.value());
                    out.put_u32(*associated);
                    out.put_u8(priority << 5);
                    out.put_u8(0);
                })?;
            }
            Frame::SynReply { stream, fin, headers } => {
                self.headers_frame(kind::SYN_REPLY, fin_flag(*fin), headers, out, |out| {
                    out.put_u32(stream.value());
                })?;
            }
            Frame::Headers { stream, fin, headers } => {
                self.headers_frame(kind::HEADERS, fin_flag(*fin), headers, out, |out| {
                    out.put_u32(stream.value());
                })?;
            }
            Frame::RstStream { stream, status } => {
                two_words(kind::RST_STREAM, stream.value(), status.to_wire(), out);
            }
            Frame::GoAway { last_good, status } => two_words(kind::GOAWAY, *last_good, status.to_wire(), out),
            Frame::WindowUpdate { stream, delta } => {
                two_words(
                    kind::WINDOW_UPDATE,
                    stream.map_or(0, StreamId::value),
                    *delta,
                    out,
                );
            }
            Frame::Ping { id } => {
                control_head(kind::PING, 0, 4, out);
                out.put_u32(*id);
            }
            Frame::Settings { clear, settings } => {
                let length = fitting(4 + 8 * settings.len())?;
                control_head(kind::SETTINGS, if *clear { FLAG_CLEAR } else { 0 }, length, out);
                out.put_u32((length - 4) / 8);
                for setting in settings {
                    out.put_u32(u32::from(setting.flags) << 24 | setting.id & 0xff_ffff);
                    out.put_u32(setting.value);
                }
            }
            Frame::Data { stream, fin, data } => {
                out.put_slice(&data_head(*stream, *fin, fitting(data.len())?));
                out.put_slice(data);
            }
        }
        Ok(())
    }

    fn headers_frame(
        &mut self,
        frame: u16,
        flags: u8,
        headers: &Headers,
        out: &mut BytesMut,
        fixed: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Error> {
        // Checked before compression, because everything that the deflater has seen must be sent. Deflate adds less than 1 %
        // to incompressible input.
        fitting(headers.block_len().saturating_mul(2))?;
        let mut block = BytesMut::new();
        headers.write_block(&mut block);
        let start = out.len();
        control_head(frame, flags, 0, out);
        fixed(out);
        self.deflater.block(&block, out);
        let length = fitting(out.len() - start - HEAD)?.to_be_bytes();
        out[start + 5..start + HEAD].copy_from_slice(&length[1..]);
        Ok(())
    }
}

/// The bytes before the payload of a DATA frame of `length` bytes (24 bits).
pub(crate) fn data_head(stream: StreamId, fin: bool, length: u32) -> [u8; HEAD] {
    let word = u32::from(fin_flag(fin)) << 24 | length;
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&stream.value().to_be_bytes());
    head[4..].copy_from_slice(&word.to_be_bytes());
    head
}

fn control_head(frame: u16, flags: u8, length: u32, out: &mut BytesMut) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(frame);
    out.put_u32(u32::from(flags) << 24 | length);
}

fn two_words(frame: u16, first: u32, second: u32, out: &mut BytesMut) {
    control_head(frame, 0, 8, out);
    out.put_u32(first);
    out.put_u32(second);
}

const fn fin_flag(fin: bool) -> u8 {
    if fin { FLAG_FIN } else { 0 }
}

fn fitting(length: usize) -> Result<u32, Error> {
    u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_LENGTH)
        .ok_or(Error::HeadersTooLarge {
            length,
            limit: MAX_LENGTH,
        })
}

#[cfg(test)]
mod tests;
