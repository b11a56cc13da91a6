//! Keeps the interrupts of devices off CPUs that containers have for themselves.
//!
//! What an interrupt's affinity was is saved before it is changed for the first time, so that a later daemon can restore it.
//! Interrupts that the kernel manages itself, one per CPU of a device with many queues, cannot be moved and stay.
//!
//! Reference: `Documentation/core-api/irq/irq-affinity.rst`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pausa_sys::{Durability, replace_file};
use rustix::fs::CWD;

use super::CpuSet;

/// The interrupts of this node.
#[derive(Debug)]
pub(super) struct Interrupts {
    /// `/proc/irq`
    dir: PathBuf,
    /// What is to be restored, by the number of the interrupt.
    saved: PathBuf,
}

impl Interrupts {
    pub(super) fn new(dir: &Path, saved: PathBuf) -> Self {
        Self {
            dir: dir.to_owned(),
            saved,
        }
    }

    /// Moves interrupts to CPUs that are not in `pinned`; back to where they were once they can be there.
    ///
    /// # Errors
    /// The interrupts cannot be listed, or what they were cannot be read or saved: then nothing is changed.
    pub(super) fn keep_off(&self, pinned: &CpuSet) -> io::Result<()> {
        let mut saved = self.load()?;
        if saved.is_empty() && pinned.is_empty() {
            return Ok(());
        }
        let mut now = BTreeMap::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let list = fs::read_to_string(entry.path().join("smp_affinity_list"));
            // The file of the default, or an interrupt that has just been freed.
            let Ok(list) = list else { continue };
            if let Ok(cpus) = list.parse::<CpuSet>() {
                now.insert(name, cpus);
            }
        }
        saved.retain(|name, _| now.contains_key(name));
        let known = saved.len();
        for (name, cpus) in &now {
            if !cpus.intersection(pinned).is_empty() && !saved.contains_key(name) {
                saved.insert(name.clone(), cpus.clone());
            }
        }
        if saved.len() > known {
            self.save(&saved)?;
        }
        for (name, before) in &saved {
            let wanted = before.difference(pinned);
            // One that could run nowhere else stays where it is.
            if !wanted.is_empty() && now.get(name) != Some(&wanted) {
                // Refused for those that the kernel manages itself.
                fs::write(self.dir.join(name).join("smp_affinity_list"), wanted.to_string()).ok();
            }
        }
        saved.retain(|_, before| !before.intersection(pinned).is_empty());
        self.save(&saved)
    }

    fn load(&self) -> io::Result<BTreeMap<String, CpuSet>> {
        match fs::read(&self.saved) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    fn save(&self, saved: &BTreeMap<String, CpuSet>) -> io::Result<()> {
        if saved.is_empty() {
            return match fs::remove_file(&self.saved) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let bytes = serde_json::to_vec(saved)?;
        replace_file(CWD, &self.saved, &bytes, Durability::Process).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests;
