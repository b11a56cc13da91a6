//! A directory of network configurations, read at every use.
//!
//! There is no watch that could fail: the directory may be missing, be a symlink, be replaced or be filled later.
//! Reading a handful of small files costs less than a plugin's start by far. The first valid file in lexical order
//! wins; the errors of invalid ones are kept to explain the node's state.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::NetworkConfigList;
use crate::error::Error;

/// Largest configuration file read.
const MAX_FILE: u64 = 1 << 20;
/// Most files looked at.
const MAX_FILES: usize = 256;

/// A directory of network configurations, read again for every use.
#[derive(Debug, Clone)]
pub struct ConfDir {
    path: PathBuf,
}

/// The content of a configuration directory.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The network to use: of the first valid file.
    pub network: Option<NetworkConfigList>,
    /// Files that were skipped before it, and why; or why the directory could not be read.
    pub rejected: Vec<Error>,
}

impl ConfDir {
    /// A directory that need not exist.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the directory. A missing one is an empty one.
    #[must_use]
    pub fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        let files = match self.files() {
            Ok(files) => files,
            Err(source) => {
                loaded.rejected.push(Error::ReadConfig {
                    path: self.path.clone(),
                    source,
                });
                return loaded;
            }
        };
        for path in files {
            match read(&path).and_then(|bytes| NetworkConfigList::parse(&bytes, &path)) {
                Ok(network) => {
                    loaded.network = Some(network);
                    return loaded;
                }
                Err(error) => loaded.rejected.push(error),
            }
        }
        loaded
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("conf" | "conflist" | "json")) {
                files.push(path);
            }
        }
        files.sort_unstable();
        files.truncate(MAX_FILES);
        Ok(files)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::ReadConfig {
        path: path.to_path_buf(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(Error::ConfigTooLarge {
            path: path.to_path_buf(),
            limit: MAX_FILE,
        });
    }
    Ok(bytes)
}
