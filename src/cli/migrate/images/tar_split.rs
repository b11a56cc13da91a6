//! Layers of containers/storage as archives again, from the files of vbatts/tar-split and the unpacked directory.
//!
//! A file has a JSON document on each line of a gzip stream: bytes of the archive (`type` 2), or a file whose content follows
//! in it (`type` 1). Whether the archive is the right one, its digest says, which the daemon checks.
//!
//! Must never: open anything but regular files beneath the directory, or hold more than a line.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::beneath::Dir;

/// Longest line. tar-split has as many bytes in one as are between two files.
const LINE_MAX: u64 = 64 << 20;
const FILE: u8 = 1;
const SEGMENT: u8 = 2;

#[derive(Deserialize)]
struct Line {
    r#type: u8,
    #[serde(default)]
    name: String,
    /// In base64, if it is not UTF-8.
    #[serde(default)]
    name_raw: Option<String>,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    payload: Option<String>,
}

/// The archive as a stream.
pub(super) struct Reader {
    lines: BufReader<MultiGzDecoder<File>>,
    diff: Dir,
    part: Part,
}

enum Part {
    Bytes(io::Cursor<Vec<u8>>),
    File { file: File, left: u64, name: PathBuf },
    End,
}

impl Reader {
    /// From a tar-split file and the directory of its layer.
    pub(super) fn new(split: File, diff: Dir) -> Self {
        Self {
            lines: BufReader::new(MultiGzDecoder::new(split)),
            diff,
            part: Part::Bytes(io::Cursor::default()),
        }
    }

    fn next(&mut self) -> anyhow::Result<Part> {
        let mut line = Vec::new();
        (&mut self.lines).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(Part::End);
        }
        let line: Line = serde_json::from_slice(&line)?;
        match line.r#type {
            SEGMENT => {
                let bytes = STANDARD.decode(line.payload.unwrap_or_default())?;
                Ok(Part::Bytes(io::Cursor::new(bytes)))
            }
            // Directories, links and empty files have no content.
            FILE if line.size <= 0 => Ok(Part::Bytes(io::Cursor::default())),
            FILE => {
                let name = match line.name_raw {
                    Some(raw) => OsStr::from_bytes(&STANDARD.decode(raw)?).to_owned(),
                    None => line.name.into(),
                };
                // Names are as in the archive.
                let name: PathBuf = Path::new(&name)
                    .components()
                    .filter(|part| {
                        matches!(
                            part,
                            std::path::Component::Normal(_) | std::path::Component::ParentDir
                        )
                    })
                    .collect();
                let (file, _) = self.diff.file(&name)?;
                Ok(Part::File {
                    file,
                    left: u64::try_from(line.size)?,
                    name,
                })
            }
            other => anyhow::bail!("it has an entry of the unknown type {other}"),
        }
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.part {
                Part::End => return Ok(0),
                Part::Bytes(bytes) => {
                    let read = bytes.read(into)?;
                    if read > 0 {
                        return Ok(read);
                    }
                }
                Part::File { file, left, name } => {
                    let read = file.take(*left).read(into)?;
                    if read > 0 {
                        *left -= u64::try_from(read).unwrap_or(u64::MAX);
                        return Ok(read);
                    }
                    if *left > 0 {
                        let text = format!("{} is shorter than it was", name.display());
                        return Err(io::Error::other(text));
                    }
                }
            }
            let next = self.next();
            self.part =
                next.map_err(|error| io::Error::other(format!("cannot rebuild the layer: {error:#}")))?;
        }
    }
}
