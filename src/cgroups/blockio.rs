//! Block I/O classes: weights and throttles of devices, by the name that a container's annotations give.
//!
//! ```text
//!   file of classes ─▶ Classes::read ─▶ resolve(class): patterns ─▶ devices ─▶ Rules ─▶ settings of a cgroup
//! ```
//!
//! The file is the one that containerd and CRI-O read, in the format of goresctrl: see
//! <https://github.com/intel/goresctrl/blob/main/doc/blockio.md>. It is read for each container that has a class, so that a
//! change needs no restart, and devices are looked up then, because they come and go.
//!
//! Must never: give a container a part of a class only because a line of the file is wrong.
//!
//! See `docs/design/0015-io-and-cache-classes.md`.

mod pattern;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use pausa_yaml::{Scalars, YamlError};
use rustix::fs::{FileType, major, minor, stat};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::pattern::Pattern;
use crate::error::{ErrorKind, Kinded};
use crate::quantity;

/// Files of classes have a few KiB.
const FILE_MAX: u64 = 1 << 20;
/// Bytes that the document of a file may take. A class takes a few KiB.
const MEMORY: usize = 16 << 20;
/// What runc takes, and BFQ.
const WEIGHTS: std::ops::RangeInclusive<u64> = 10..=1000;

/// A block device. Written `MAJOR:MINOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Parameter {
    /// From 10 to 1000, in relation to other cgroups.
    Weight,
    /// Bytes per second.
    ReadBps,
    WriteBps,
    /// Operations per second.
    ReadIops,
    WriteIops,
}

/// One value of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// None: a weight for all devices that have none of their own.
    pub device: Option<Device>,
    pub parameter: Parameter,
    /// More than 0.
    pub value: u64,
}

/// A class as it was when its container was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    pub class: String,
    pub rules: Vec<Rule>,
}

/// Why a container cannot have a block I/O class.
#[derive(Debug, thiserror::Error)]
pub enum BlockIoError {
    #[error(
        "this node has no block I/O classes: set config_file in [blockio] of the configuration, or start containers without them by \
         ignore_not_enabled = true"
    )]
    NotConfigured,
    #[error("cannot read the block I/O classes in {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the file of block I/O classes {} is not valid", path.display())]
    Yaml {
        path: PathBuf,
        #[source]
        source: YamlError,
    },
    #[error("the file of block I/O classes {} is not valid: {problem}", path.display())]
    Invalid { path: PathBuf, problem: String },
    #[error("there is no block I/O class {class:?} in {}, which has: {known}", path.display())]
    Unknown {
        class: String,
        path: PathBuf,
        /// All that there are.
        known: String,
    },
}

impl Kinded for BlockIoError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::InvalidArgument,
            Self::NotConfigured | Self::Read { .. } | Self::Yaml { .. } | Self::Invalid { .. } => {
                ErrorKind::FailedPrecondition
            }
        }
    }
}

/// The classes of this node.
#[derive(Debug)]
pub struct Classes {
    path: PathBuf,
    classes: BTreeMap<String, Vec<Item>>,
}

/// Values for some devices. Later items of a class override earlier ones.
#[derive(Debug)]
struct Item {
    /// None: for all devices.
    devices: Option<Vec<Pattern>>,
    /// 0 is no throttle.
    values: BTreeMap<Parameter, u64>,
}

/// An [`Item`] as the file has it. Numbers are texts there: Kubernetes' quantities.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct ItemText {
    devices: Option<Vec<String>>,
    weight: Option<String>,
    throttle_read_bps: Option<String>,
    throttle_write_bps: Option<String>,
    #[serde(rename = "ThrottleReadIOPS")]
    throttle_read_iops: Option<String>,
    #[serde(rename = "ThrottleWriteIOPS")]
    throttle_write_iops: Option<String>,
}

impl Classes {
    /// # Errors
    /// The file cannot be read, or anything in it is wrong.
    pub fn read(path: &Path) -> Result<Self, BlockIoError> {
        let failed = |source| BlockIoError::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(FILE_MAX).read_to_string(&mut text).map_err(failed)?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, BlockIoError> {
        let json = pausa_yaml::parse(text, Scalars::Text, MEMORY).map_err(|source| BlockIoError::Yaml {
            path: path.to_owned(),
            source,
        })?;
        let classes = classes(json).map_err(|problem| BlockIoError::Invalid {
            path: path.to_owned(),
            problem,
        })?;
        Ok(Self {
            path: path.to_owned(),
            classes,
        })
    }

    /// What a class comes to with the devices of now. Devices that are not there are left out, with a warning where that is
    /// all of a pattern: nodes with different disks share one file.
    ///
    /// # Errors
    /// [`BlockIoError::Unknown`].
    pub fn resolve(&self, class: &str) -> Result<Vec<Rule>, BlockIoError> {
        let items = self.classes.get(class).ok_or_else(|| {
            let known: Vec<&str> = self.classes.keys().map(String::as_str).collect();
            BlockIoError::Unknown {
                class: class.to_owned(),
                path: self.path.clone(),
                known: known.join(", "),
            }
        })?;
        let mut rules = BTreeMap::new();
        for item in items {
            let devices: Vec<Option<Device>> = match &item.devices {
                None => vec![None],
                Some(patterns) => patterns.iter().flat_map(devices).map(Some).collect(),
            };
            for device in devices {
                let values = item.values.iter();
                rules.extend(values.map(|(parameter, value)| ((device, *parameter), *value)));
            }
        }
        let rules = rules.into_iter().filter(|(_, value)| *value > 0);
        let rules = rules.map(|((device, parameter), value)| Rule {
            device,
            parameter,
            value,
        });
        Ok(rules.collect())
    }
}

fn classes(json: Value) -> Result<BTreeMap<String, Vec<Item>>, String> {
    let mut top = match json {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Object(top) => top,
        _ => return Err("it must have the key Classes".to_owned()),
    };
    let classes = top.remove("Classes").unwrap_or_default();
    if let Some(key) = top.keys().next() {
        return Err(format!("it has the key {key:?}; the only one known is Classes"));
    }
    let classes = match classes {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Object(classes) => classes,
        _ => return Err("Classes must have the names of classes as keys".to_owned()),
    };
    let parse = |(class, items): (String, Value)| {
        let items = serde_json::from_value::<Option<Vec<ItemText>>>(items).map_err(|error| error.to_string());
        let items = items.and_then(|items| items.unwrap_or_default().into_iter().map(item).collect());
        match items {
            Ok(items) => Ok((class, items)),
            Err(problem) => Err(format!("class {class:?}: {problem}")),
        }
    };
    classes.into_iter().map(parse).collect()
}

fn item(text: ItemText) -> Result<Item, String> {
    let mut values = BTreeMap::new();
    for (parameter, name, value) in [
        (Parameter::Weight, "Weight", text.weight),
        (Parameter::ReadBps, "ThrottleReadBps", text.throttle_read_bps),
        (Parameter::WriteBps, "ThrottleWriteBps", text.throttle_write_bps),
        (Parameter::ReadIops, "ThrottleReadIOPS", text.throttle_read_iops),
        (
            Parameter::WriteIops,
            "ThrottleWriteIOPS",
            text.throttle_write_iops,
        ),
    ] {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            continue;
        };
        let odd = |expected| format!("{name} is {value:?}, but it must be {expected}");
        let Some(number) = quantity::parse(&value) else {
            return Err(odd("a number such as 500, 10k or 50Mi"));
        };
        if parameter == Parameter::Weight && !WEIGHTS.contains(&number) {
            return Err(odd("from 10 to 1000"));
        }
        if parameter != Parameter::Weight && text.devices.is_none() {
            return Err(format!("{name} needs Devices: only a weight is for all of them"));
        }
        values.insert(parameter, number);
    }
    let patterns = |texts: Vec<String>| {
        texts
            .iter()
            .map(|text| {
                Pattern::new(text)
                    .ok_or_else(|| format!("{text:?} in Devices is no absolute path, or no pattern"))
            })
            .collect::<Result<Vec<Pattern>, String>>()
    };
    Ok(Item {
        devices: text.devices.map(patterns).transpose()?,
        values,
    })
}

/// The disks that a pattern stands for. Partitions have no limits of their own; patterns for disks by their id find them as
/// well.
fn devices(pattern: &Pattern) -> BTreeSet<Device> {
    let mut found = BTreeSet::new();
    for path in pattern.paths() {
        let Ok(stat) = stat(&path) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            continue;
        }
        let device = Device {
            major: major(stat.st_rdev),
            minor: minor(stat.st_rdev),
        };
        if !Path::new(&format!("/sys/dev/block/{device}/partition")).exists() {
            found.insert(device);
        }
    }
    if found.is_empty() {
        tracing::warn!(
            %pattern,
            "a block I/O class names devices that this node does not have; its values for them have no effect"
        );
    }
    found
}

#[cfg(test)]
mod tests;
