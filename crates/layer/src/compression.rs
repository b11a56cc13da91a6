//! From the bytes of a blob to the bytes of a tar archive: detection by magic numbers, gzip (RFC 1952, any number of
//! members), zstd (RFC 8878, any number of frames, skippable ones included).
//!
//! Must tell a failing source (the network) from damaged data, because only one of them is worth a plain retry.

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::{Error, Limits};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Look at the first bytes.
    #[default]
    Detect,
    /// Plain tar.
    None,
    /// gzip, one or more members.
    Gzip,
    /// zstd, one or more frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detect => "undetected",
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl Compression {
    /// Decides by the first bytes of a blob; an unknown format counts as plain tar, whose headers have a checksum.
    fn of(magic: &[u8]) -> Self {
        match *magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first, with any low nibble.
            [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50 => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The compressed stream, buffered, remembering whether it was the source that failed.
pub(crate) struct Input<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    failed: bool,
}

impl<R: Read> Input<R> {
    const SIZE: usize = 128 << 10;

    fn new(source: R) -> Self {
        Self {
            source,
            buffer: vec![0; Self::SIZE].into_boxed_slice(),
            start: 0,
            end: 0,
            failed: false,
        }
    }

    fn refill(&mut self) -> io::Result<usize> {
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
            }
        }
    }

    /// Reads until `wanted` bytes are there or the stream ends, and shows them without consuming them.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        while self.end - self.start < wanted && self.refill()? > 0 {}
        Ok(&self.buffer[self.start..self.end])
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(into.len());
        into[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }
}

/// The uncompressed stream of one layer.
pub(crate) enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(Box<ZstdDecoder<'static, Input<R>>>),
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(source: R, compression: Compression, limits: &Limits) -> Result<Self, Error> {
        let mut input = Input::new(source);
        let compression = match compression {
            Compression::Detect => Compression::of(
                input
                    .peek(4)
                    .map_err(|source| Error::Input { offset: 0, source })?,
            ),
            named => named,
        };
        match compression {
            Compression::Gzip => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(input)))),
            Compression::Zstd => {
                Self::zstd(input, limits.zstd_window_log).map_err(|source| Error::Decompress {
                    compression: Compression::Zstd,
                    offset: 0,
                    source,
                })
            }
            Compression::None | Compression::Detect => Ok(Self::Plain(input)),
        }
    }

    fn zstd(input: Input<R>, window_log: u32) -> io::Result<Self> {
        let mut decoder = ZstdDecoder::with_buffer(input)?;
        decoder.window_log_max(window_log)?;
        Ok(Self::Zstd(Box::new(decoder)))
    }

    fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    fn source_failed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Gzip(decoder) => decoder.get_ref().failed,
            Self::Zstd(decoder) => decoder.get_ref().failed,
        }
    }

    /// Fills `buffer` as far as the stream allows: less than its length means the end. `offset` is for the error.
    pub(crate) fn fill(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = match self {
                Self::Plain(input) => input.read(&mut buffer[filled..]),
                Self::Gzip(decoder) => decoder.read(&mut buffer[filled..]),
                Self::Zstd(decoder) => decoder.read(&mut buffer[filled..]),
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) if self.source_failed() => return Err(Error::Input { offset, source }),
                Err(source) => {
                    return Err(Error::Decompress {
                        compression: self.compression(),
                        offset,
                        source,
                    });
                }
            }
        }
        Ok(filled)
    }
}
