//! The address pool: one file per address, named after it, with the pod's id and the interface.
//!
//! The layout is that of the `host-local` plugin (`<dir>/<address>`, `<dir>/last_reserved_ip.0`). The directory is the
//! truth and there is no lock: a reservation is a complete file that is linked under the address's name, which succeeds
//! only once. A crash leaves a reservation or none, never an empty one. Addresses are assigned round-robin, so that a
//! released one is reused as late as possible. A cache of the pods' addresses saves reading all files for each pod; for
//! a pod that is not in it the directory is read.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use pausa_sys::{Durability, StagedFile, replace_file};
use rustix::fs::CWD;

use super::NetworkError;

const LAST: &str = "last_reserved_ip.0";
const RANGE: &str = "pod_cidr";
/// A reservation has a few dozen bytes; a longer file is not ours.
const MAX_RESERVATION: u64 = 4096;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) dir: PathBuf,
    by_pod: Mutex<Option<Known>>,
}

/// Addresses by pod.
type Known = BTreeMap<String, BTreeSet<Ipv4Addr>>;

/// The bridge's own address: the first of the subnet.
pub(super) fn gateway(subnet: Ipv4Net) -> Result<Ipv4Addr, NetworkError> {
    if subnet.prefix_len() > 30 {
        return Err(NetworkError::SubnetTooSmall { subnet });
    }
    Ok(Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1)))
}

impl Pool {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            by_pod: Mutex::new(None),
        }
    }

    /// Reserves an address for an interface of a pod, or returns the one it has.
    pub(super) fn reserve(
        &self,
        pod: &str,
        interface: &str,
        subnet: Ipv4Net,
    ) -> Result<Ipv4Addr, NetworkError> {
        fs::create_dir_all(&self.dir).map_err(self.failed("create", &self.dir))?;
        let is_ours =
            |address: &Ipv4Addr| subnet.contains(address) && self.dir.join(address.to_string()).exists();
        if let Some(address) = self.cached(pod)?.into_iter().find(is_ours) {
            return Ok(address);
        }
        let text = format!("{pod}\r\n{interface}");
        // Neither a pod nor its address outlives a power cut. The file is never committed: a reservation is a link to
        // it, under the first address that is free.
        let staged = StagedFile::write(CWD, &self.dir.join(LAST), text.as_bytes(), Durability::Process)
            .map_err(NetworkError::unreplaced)?;
        let address = self.link_free(staged.temporary(), subnet)?;
        drop(staged);
        self.with_cache(|known| known.entry(pod.to_owned()).or_default().insert(address));
        self.replace(LAST, &address.to_string())?;
        Ok(address)
    }

    fn link_free(&self, temporary: &Path, subnet: Ipv4Net) -> Result<Ipv4Addr, NetworkError> {
        let first = u32::from(gateway(subnet)?).saturating_add(1);
        let last = u32::from(subnet.broadcast()).saturating_sub(1);
        let begin = self
            .last_reserved()
            .map_or(first, |address| u32::from(address).saturating_add(1));
        let begin = if (first..=last).contains(&begin) {
            begin
        } else {
            first
        };
        for candidate in (begin..=last).chain(first..begin) {
            let address = Ipv4Addr::from(candidate);
            let path = self.dir.join(address.to_string());
            match fs::hard_link(temporary, &path) {
                Ok(()) => return Ok(address),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.failed("create", &path)(error)),
            }
        }
        Err(NetworkError::PoolExhausted { subnet })
    }

    /// Releases every address of a pod.
    pub(super) fn release(&self, pod: &str) -> Result<(), NetworkError> {
        let cached = self.cached(pod)?;
        // An older or newer daemon may have reserved addresses in the same directory.
        let addresses = if cached.is_empty() {
            self.on_disk(pod)?
        } else {
            cached
        };
        for address in addresses {
            let path = self.dir.join(address.to_string());
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(self.failed("remove", &path))?,
            }
        }
        self.with_cache(|known| known.remove(pod));
        Ok(())
    }

    /// All pods with an address.
    pub(super) fn owners(&self) -> Result<BTreeSet<String>, NetworkError> {
        Ok(self.reservations()?.into_iter().map(|(_, owner)| owner).collect())
    }

    /// Saves the range that kubelet assigned.
    pub(super) fn save_range(&self, range: Ipv4Net) -> Result<(), NetworkError> {
        fs::create_dir_all(&self.dir).map_err(self.failed("create", &self.dir))?;
        self.replace(RANGE, &range.to_string())
    }

    /// The range that kubelet assigned before. An unreadable file is ignored: kubelet sends the range again.
    pub(super) fn saved_range(&self) -> Option<Ipv4Net> {
        fs::read_to_string(self.dir.join(RANGE)).ok()?.trim().parse().ok()
    }

    /// The addresses of a pod in the cache; the first call reads the directory.
    fn cached(&self, pod: &str) -> Result<BTreeSet<Ipv4Addr>, NetworkError> {
        if let Some(addresses) = self.with_cache(|known| known.get(pod).cloned().unwrap_or_default()) {
            return Ok(addresses);
        }
        let mut read = Known::new();
        for (address, owner) in self.reservations()? {
            read.entry(owner).or_default().insert(address);
        }
        let addresses = read.get(pod).cloned().unwrap_or_default();
        self.by_pod.lock().get_or_insert(read);
        Ok(addresses)
    }

    fn with_cache<T>(&self, use_it: impl FnOnce(&mut Known) -> T) -> Option<T> {
        self.by_pod.lock().as_mut().map(use_it)
    }

    fn on_disk(&self, pod: &str) -> Result<BTreeSet<Ipv4Addr>, NetworkError> {
        let reservations = self.reservations()?.into_iter();
        Ok(reservations
            .filter(|(_, owner)| owner == pod)
            .map(|(address, _)| address)
            .collect())
    }

    fn reservations(&self) -> Result<Vec<(Ipv4Addr, String)>, NetworkError> {
        let mut reservations = Vec::new();
        for name in self.names()? {
            let Ok(address) = name.parse::<Ipv4Addr>() else {
                continue;
            };
            let path = self.dir.join(&name);
            match read(&path) {
                Ok(text) => {
                    let owner = text.lines().next().unwrap_or_default().trim().to_owned();
                    reservations.push((address, owner));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed("read", &path)(error)),
            }
        }
        Ok(reservations)
    }

    fn names(&self) -> Result<Vec<String>, NetworkError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(self.failed("list", &self.dir))?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let names = names
            .collect::<io::Result<Vec<_>>>()
            .map_err(self.failed("list", &self.dir))?;
        Ok(names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect())
    }

    fn last_reserved(&self) -> Option<Ipv4Addr> {
        fs::read_to_string(self.dir.join(LAST)).ok()?.trim().parse().ok()
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), NetworkError> {
        // Both files are hints: allocation goes on without them, and kubelet sends the range again.
        replace_file(CWD, &self.dir.join(name), text.as_bytes(), Durability::Process)
            .map_err(NetworkError::unreplaced)
    }

    #[expect(
        clippy::unused_self,
        reason = "a method reads better at the call sites: a failure of this pool"
    )]
    fn failed(&self, operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetworkError {
        let path = path.to_path_buf();
        move |source| NetworkError::State {
            operation,
            path,
            source,
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_RESERVATION)
        .read_to_string(&mut text)?;
    Ok(text)
}
