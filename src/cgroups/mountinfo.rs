//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)), as far as this program asks it.
//!
//! Must never be read on a container's way: it grows with every mount of the node.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Mount id, as statx(2) gives it.
    pub id: u64,
    pub mount_point: PathBuf,
    /// What of the file system is mounted there.
    pub root: PathBuf,
    /// Sends mounts to its peers (`shared:`).
    pub shared: bool,
    /// Receives mounts (`master:`).
    pub slave: bool,
    pub fstype: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

/// All mounts of the text. Lines that cannot be read are left out.
pub fn parse(text: &[u8]) -> Vec<MountInfo> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// `id parent major:minor root point options [optional…] - fstype source super-options`
fn line(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let root = path(fields.nth(2)?);
    let mount_point = path(fields.next()?);
    fields.next()?;
    let (mut shared, mut slave) = (false, false);
    loop {
        match fields.next()? {
            b"-" => break,
            tag => {
                shared |= tag.starts_with(b"shared:");
                slave |= tag.starts_with(b"master:");
            }
        }
    }
    let fstype = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let options = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    Some(MountInfo {
        id,
        mount_point,
        root,
        shared,
        slave,
        fstype,
        super_options: options.split(',').map(str::to_owned).collect(),
    })
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests;
