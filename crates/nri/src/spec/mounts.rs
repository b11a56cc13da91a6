//! Mounts: each replaces that of the same destination, and those further up in the tree come first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::check::{SpecError, invalid, path, text, texts};
use super::{Propagated, Rest, some};
use crate::creation::bare;
use crate::owners::REMOVAL;
use crate::proto;

/// The option that no kernel knows: NRI's way to ask for a label.
const RELABEL: &str = "relabel";

pub(super) fn apply(wanted: &[proto::Mount], spec: &mut Spec, rest: &mut Rest) -> Result<(), SpecError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut touched: BTreeSet<PathBuf> = BTreeSet::new();
    let mut added = Vec::new();
    for mount in wanted {
        let destination = path("mounts.destination", bare(&mount.destination))?;
        if !mount.destination.starts_with(REMOVAL) {
            added.push(convert(mount, &destination, spec, rest)?);
        }
        touched.insert(destination);
    }
    let mounts = spec.mounts_mut().get_or_insert_default();
    mounts.retain(|mount| !touched.contains(mount.destination()));
    mounts.extend(added);
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(())
}

fn convert(
    mount: &proto::Mount,
    destination: &Path,
    spec: &mut Spec,
    rest: &mut Rest,
) -> Result<Mount, SpecError> {
    const SOURCE: &str = "mounts.source";
    let mut options = texts("mounts.options", &mount.options)?;
    let bind = mount.r#type == "bind" || options.iter().any(|option| option == "bind" || option == "rbind");
    let source = match bind {
        true => path(SOURCE, &mount.source)?,
        false => text(SOURCE, &mount.source)?.into(),
    };
    let count = options.len();
    options.retain(|option| option != RELABEL);
    if options.len() < count {
        if !bind {
            return Err(invalid(
                "mounts.options",
                RELABEL,
                "an option of this type of mount",
            ));
        }
        rest.relabel.push(source.clone());
    }
    let propagation = options.iter().rev().find_map(|option| match option.as_str() {
        "shared" | "rshared" => Some(Some(true)),
        "slave" | "rslave" => Some(Some(false)),
        "private" | "rprivate" => Some(None),
        _ => None,
    });
    if let Some(shared) = propagation.flatten() {
        let linux = spec.linux_mut().as_mut();
        let linux = linux.ok_or(SpecError::Missing { field: "linux" })?;
        match linux.rootfs_propagation().as_deref() {
            Some("shared" | "rshared") => {}
            Some("slave" | "rslave") if !shared => {}
            _ => {
                let root = if shared { "rshared" } else { "rslave" };
                linux.set_rootfs_propagation(Some(root.to_owned()));
            }
        }
        if bind {
            let source = source.clone();
            rest.propagated.push(Propagated { source, shared });
        }
    }
    let typ = text("mounts.type", &mount.r#type)?;
    let mut oci = Mount::default();
    oci.set_destination(destination.to_owned())
        .set_typ(Some(typ).filter(|typ| !typ.is_empty()))
        .set_source(Some(source).filter(|source| !source.as_os_str().is_empty()))
        .set_options(some(options));
    Ok(oci)
}
