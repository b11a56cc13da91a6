//! Huge pages.

use std::path::Path;
use std::sync::LazyLock;

use super::parse::number;
use crate::cgroups::dir::Dir;
use crate::cgroups::error::CgroupError;

/// The sizes that the kernel has, in the words of its cgroup files. They do not change while it runs.
static SIZES: LazyLock<Vec<String>> = LazyLock::new(|| sizes(Path::new("/sys/kernel/mm/hugepages")));

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePages {
    /// For example `2MB`.
    pub size: String,
    pub usage: u64,
    /// The most that was ever in use; v2 does not tell.
    pub peak: Option<u64>,
}

/// Reads `hugetlb.SIZE.USAGE` and `hugetlb.SIZE.PEAK` for all sizes; those without a file are left out.
pub(super) fn read(dir: &Dir, usage: &str, peak: Option<&str>) -> Result<Vec<HugePages>, CgroupError> {
    let mut pages = Vec::new();
    for size in SIZES.iter() {
        let value = |file: &str| {
            let text = dir.record(&format!("hugetlb.{size}.{file}"))?;
            Ok(text.as_deref().and_then(number))
        };
        // Without the controller there is no file of any size.
        let Some(usage) = value(usage)? else {
            break;
        };
        let peak = peak.map(value).transpose()?.flatten();
        let size = size.clone();
        pages.push(HugePages { size, usage, peak });
    }
    Ok(pages)
}

/// The sizes of a directory with entries like `hugepages-2048kB`.
fn sizes(directory: &Path) -> Vec<String> {
    let mut sizes: Vec<u64> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let size = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            size.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(word).collect()
}

/// A size in kB as the kernel's `mem_fmt` writes it.
fn word(size: u64) -> String {
    match size {
        0..1024 => format!("{size}KB"),
        1024..1_048_576 => format!("{}MB", size / 1024),
        _ => format!("{}GB", size / 1_048_576),
    }
}

#[cfg(test)]
mod tests;
