//! One spec file: devices of one kind, and the edits for all of them.
//!
//! Reading validates, so that a [`Spec`] can be applied as it is. A file is used as a whole or not at all. Everything is
//! read as YAML, as the reference implementation does; JSON is YAML.
//!
//! Invariants: names are valid, paths are absolute, no text has a NUL, every device has edits.

mod fields;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{Hook, LinuxDeviceType, LinuxIntelRdt, Mount};
use pausa_yaml::Scalars;
use serde::Deserialize;
use serde::de::IntoDeserializer;

use self::fields::Fields;
use crate::edits::{ContainerEdits, Edits, HookStage};
use crate::error::SpecError;
use crate::name;
use crate::node::DeviceNode;
use crate::version::Version;

/// Bytes that a document may take. The largest files have some MiB of text.
const MEMORY: usize = 64 << 20;

/// A valid spec file.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// `vendor/class`.
    pub(crate) kind: String,
    /// For every container that has one of the devices.
    pub(crate) edits: ContainerEdits,
    /// By the name within the kind. Not empty.
    pub(crate) devices: BTreeMap<String, ContainerEdits>,
}

impl Spec {
    /// Reads JSON or YAML.
    ///
    /// # Errors
    /// What CDI does not allow, with the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecError> {
        let text = str::from_utf8(bytes).map_err(SpecError::Encoding)?;
        let document = pausa_yaml::parse(text, Scalars::Typed, MEMORY).map_err(SpecError::Syntax)?;
        let mut fields = Fields::document(document)?;
        let kind = fields.text("kind")?;
        if !name::is_kind(&kind) {
            return Err(fields.invalid("kind", "vendor.com/class"));
        }
        let dotted = kind.split_once('/').is_some_and(|(_, class)| class.contains('.'));
        fields.since(Version::V0_6_0, "kind", dotted)?;
        fields.annotations()?;
        let edits = container_edits(&mut fields)?;
        let mut devices = BTreeMap::new();
        fields.objects("devices", |fields| match devices.entry(device_name(fields)?) {
            Entry::Occupied(_) => Err(fields.invalid("name", "the name of no other device")),
            Entry::Vacant(entry) => {
                fields.annotations()?;
                let edits = container_edits(fields)?;
                if edits == ContainerEdits::default() {
                    return Err(fields.invalid("containerEdits", "there, and not empty"));
                }
                entry.insert(edits);
                Ok(())
            }
        })?;
        if devices.is_empty() {
            return Err(fields.invalid("devices", "a list of at least one device"));
        }
        fields.finish()?;
        Ok(Self { kind, edits, devices })
    }
}

fn device_name(fields: &mut Fields) -> Result<String, SpecError> {
    let name = fields.text("name")?;
    if !name::is_device(&name) {
        let expected = "letters, digits, `_`, `-`, `.` and `:`, with a letter or digit at both ends";
        return Err(fields.invalid("name", expected));
    }
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    fields.since(Version::V0_5_0, "name", digit)?;
    Ok(name)
}

/// Those of the spec or of a device. None are empty ones.
fn container_edits(fields: &mut Fields) -> Result<ContainerEdits, SpecError> {
    let edits = fields.object("containerEdits", |fields| {
        let nodes = fields.objects("deviceNodes", device_node)?;
        let rest = Edits {
            env: fields.environment("env")?.unwrap_or_default(),
            devices: Vec::new(),
            net_devices: net_devices(fields)?,
            mounts: fields.objects("mounts", mount)?,
            hooks: fields.objects("hooks", hook)?,
            intel_rdt: fields.object("intelRdt", intel_rdt)?,
            additional_gids: fields.numbers("additionalGids")?,
        };
        fields.since(Version::V0_7_0, "intelRdt", rest.intel_rdt.is_some())?;
        fields.since(
            Version::V0_7_0,
            "additionalGids",
            !rest.additional_gids.is_empty(),
        )?;
        Ok(ContainerEdits { nodes, rest })
    })?;
    Ok(edits.unwrap_or_default())
}

fn device_node(fields: &mut Fields) -> Result<DeviceNode, SpecError> {
    let path = fields.absolute("path")?;
    let host_path = fields.some_text("hostPath")?;
    fields.since(Version::V0_5_0, "hostPath", host_path.is_some())?;
    if host_path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        return Err(fields.invalid("hostPath", "an absolute path"));
    }
    let kind = match fields.text("type")?.as_str() {
        "" => None,
        "b" => Some(LinuxDeviceType::B),
        "c" => Some(LinuxDeviceType::C),
        "u" => Some(LinuxDeviceType::U),
        "p" => Some(LinuxDeviceType::P),
        _ => return Err(fields.invalid("type", "b, c, u or p")),
    };
    let access = match fields.some_text("permissions")? {
        None => Some("rwm".to_owned()),
        Some(none) if none == "none" => None,
        Some(some) if some.chars().all(|c| "rwm".contains(c)) => Some(some),
        Some(_) => return Err(fields.invalid("permissions", "some of r, w and m, or none")),
    };
    Ok(DeviceNode {
        path,
        host_path,
        kind,
        major: fields.number("major")?.unwrap_or_default(),
        minor: fields.number("minor")?.unwrap_or_default(),
        file_mode: fields.number("fileMode")?,
        access,
        uid: fields.number("uid")?,
        gid: fields.number("gid")?,
    })
}

/// Names in the container by those on the host. Both are unique within the edits.
fn net_devices(edits: &mut Fields) -> Result<BTreeMap<String, String>, SpecError> {
    let unique = "the name of an interface that is not there twice";
    let (mut devices, mut names) = (BTreeMap::new(), BTreeSet::new());
    edits.objects("netDevices", |fields| {
        let (host, name) = (fields.text("hostInterfaceName")?, fields.text("name")?);
        if name.is_empty() || !names.insert(name.clone()) {
            return Err(fields.invalid("name", unique));
        }
        if host.is_empty() || devices.insert(host, name).is_some() {
            return Err(fields.invalid("hostInterfaceName", unique));
        }
        Ok(())
    })?;
    edits.since(Version::V1_1_0, "netDevices", !devices.is_empty())?;
    Ok(devices)
}

fn mount(fields: &mut Fields) -> Result<Mount, SpecError> {
    let source = fields.text("hostPath")?;
    let kind = fields.some_text("type")?;
    fields.since(Version::V0_4_0, "type", kind.is_some())?;
    let options = fields.texts("options")?;
    // File systems of a type of their own have sources such as `tmpfs`.
    let typed = kind
        .as_deref()
        .is_some_and(|kind| !["bind", "none"].contains(&kind));
    let bind = |option: &String| ["bind", "rbind"].contains(&option.as_str());
    let named = typed && !source.is_empty() && !options.iter().flatten().any(bind);
    if !source.starts_with('/') && !named {
        return Err(fields.invalid("hostPath", "an absolute path"));
    }
    let mut mount = Mount::default();
    mount
        .set_destination(fields.absolute("containerPath")?.into())
        .set_typ(kind)
        .set_source(Some(source.into()))
        .set_options(options);
    Ok(mount)
}

fn intel_rdt(fields: &mut Fields) -> Result<LinuxIntelRdt, SpecError> {
    let class = fields.some_text("closID")?;
    // The name of a directory, or the root of the file system.
    let usable = |class: &str| {
        class == "/" || class.len() < 4096 && ![".", ".."].contains(&class) && !class.contains(['/', '\n'])
    };
    if !class.as_deref().is_none_or(usable) {
        return Err(fields.invalid("closID", "the name of a directory, or /"));
    }
    let schemata = fields.texts("schemata")?;
    fields.since(Version::V1_1_0, "schemata", schemata.is_some())?;
    let monitoring = fields.flag("enableMonitoring")?;
    fields.since(Version::V1_1_0, "enableMonitoring", monitoring)?;
    let mut rdt = LinuxIntelRdt::default();
    rdt.set_clos_id(class)
        .set_l3_cache_schema(fields.some_text("l3CacheSchema")?)
        .set_mem_bw_schema(fields.some_text("memBwSchema")?)
        .set_schemata(schemata.filter(|lines| !lines.is_empty()))
        .set_enable_monitoring(Some(true).filter(|_| monitoring));
    Ok(rdt)
}

fn hook(fields: &mut Fields) -> Result<(HookStage, Hook), SpecError> {
    let name = fields.text("hookName")?;
    let stage = HookStage::deserialize(name.as_str().into_deserializer());
    let stage = stage.map_err(|_: serde::de::value::Error| {
        fields.invalid("hookName", "the name of a hook of the OCI runtime spec")
    })?;
    let timeout = fields.number("timeout")?;
    if timeout == Some(0) {
        return Err(fields.invalid("timeout", "a number of seconds above 0"));
    }
    let mut hook = Hook::default();
    hook.set_path(fields.absolute("path")?.into())
        .set_args(fields.texts("args")?)
        .set_env(fields.environment("env")?)
        .set_timeout(timeout.map(i64::from));
    Ok((stage, hook))
}

#[cfg(test)]
mod tests;
