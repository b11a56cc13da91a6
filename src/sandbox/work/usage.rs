//! What writable layers take on disk.

use std::os::fd::AsFd;
use std::path::PathBuf;

use pausa_layer::Usage;

use super::{blocking, files};
use crate::sandbox::error::PodError;

/// The sum over all these directories; one that is gone counts as nothing.
pub(in crate::sandbox) async fn usage(directories: Vec<PathBuf>) -> Result<Usage, PodError> {
    blocking(move || {
        let mut sum = Usage::default();
        for directory in directories {
            let Ok(open) = files::open_directory(&directory) else {
                continue;
            };
            if let Ok(usage) = pausa_layer::usage(open.as_fd()) {
                sum.bytes += usage.bytes;
                sum.inodes += usage.inodes;
            }
        }
        Ok(sum)
    })
    .await
}
