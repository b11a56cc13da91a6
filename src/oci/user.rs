//! The user and groups of a process, from CRI, the image's config and the image's own `/etc/passwd` and `/etc/group`.
//!
//! | CRI, image | user | group |
//! |---|---|---|
//! | `run_as_user` | that id | `run_as_group`, else the one in passwd, else 0 |
//! | `run_as_username` | looked up | `run_as_group`, else the one in passwd |
//! | image `User`: `name`, `uid`, `name:group`, `uid:gid` | looked up | as given, else passwd, else 0 |
//! | nothing | 0 | as for `run_as_user` 0 |
//!
//! A number is always an id, whatever names the files have: ImageStatus reports it as one, and what refuses to run images
//! as root goes by that.
//!
//! Supplementary groups are the primary group, unless the policy is Strict the user's groups in `/etc/group`, and CRI's list,
//! in this order (KEP-3619). Both files come from the image and are untrusted: they are opened beneath the
//! container's root (RESOLVE_IN_ROOT), must be regular and small, and ids must fit 31 bits.
//! Reference: passwd(5), group(5), openat2(2).

mod database;

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use oci_spec::image::ImageConfiguration;

use self::database::{Root, User};
use super::error::OciError;
use super::security_context;
use crate::proto::v1::{self, SupplementalGroupsPolicy};

/// The largest id: what the peers and Kubernetes' own validation allow.
const MAX_ID: u32 = 0x7fff_ffff;

/// NGROUPS_MAX.
const MAX_GROUPS: usize = 65536;

/// The user of a container's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one first, no duplicates.
    pub groups: Vec<u32>,
    /// Home directory; `/` where passwd has none.
    pub home: String,
}

/// Resolves the user of a container's process. `root` is the container's root: a directory or detached mount.
///
/// # Errors
/// Fields that contradict each other, names that the image does not have, files that are not regular or too large.
pub fn resolve_user(
    root: BorrowedFd<'_>,
    config: &v1::ContainerConfig,
    image: &ImageConfiguration,
) -> Result<ResolvedUser, OciError> {
    let default = v1::LinuxContainerSecurityContext::default();
    let security = security_context(config).unwrap_or(&default);
    let of_image = image
        .config()
        .as_ref()
        .and_then(|config| config.user().as_deref());
    let asked = Asked::new(security, of_image.unwrap_or_default())?;
    let root = Root(root);
    let user = find_user(&root, &asked.user, asked.user_field)?;
    let gid = match &asked.group {
        Some(group) => find_group(&root, group, asked.group_field)?,
        None => user.gid,
    };
    let mut groups = vec![gid];
    let strict = security.supplemental_groups_policy() == SupplementalGroupsPolicy::Strict;
    if let Some(name) = user.name.filter(|_| !strict) {
        groups.extend(root.groups_of(&name)?);
    }
    for given in &security.supplemental_groups {
        groups.push(id("linux.security_context.supplemental_groups", *given)?);
    }
    let groups = distinct(groups);
    if groups.len() > MAX_GROUPS {
        let reason = "a process has at most 65536 groups";
        let field = "linux.security_context.supplemental_groups";
        return Err(OciError::invalid(field, groups.len(), reason));
    }
    Ok(ResolvedUser {
        uid: user.uid,
        gid,
        groups,
        home: user.home,
    })
}

/// A name or an id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Id(u32),
    Name(String),
}

impl Wanted {
    /// A text of digits is an id.
    fn parse(field: &'static str, text: &str) -> Result<Self, OciError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text.to_owned()));
        }
        // More digits than an i64 holds are too large as well.
        id(field, text.parse().unwrap_or(i64::MAX)).map(Self::Id)
    }
}

/// The requested user and group, with the fields they come from.
#[derive(Debug)]
struct Asked {
    user: Wanted,
    user_field: &'static str,
    group: Option<Wanted>,
    group_field: &'static str,
}

impl Asked {
    fn new(security: &v1::LinuxContainerSecurityContext, of_image: &str) -> Result<Self, OciError> {
        let user_field = "linux.security_context.run_as_user";
        let group_field = "linux.security_context.run_as_group";
        let group = security.run_as_group.as_ref().map(|group| group.value);
        let name = &security.run_as_username;
        let user = match (&security.run_as_user, name.as_str()) {
            (Some(_), name) if !name.is_empty() => {
                let reason = "only one of run_as_user and run_as_username can be set";
                let field = "linux.security_context.run_as_username";
                return Err(OciError::invalid(field, name, reason));
            }
            (Some(user), _) => Wanted::Id(id(user_field, user.value)?),
            (None, "") => {
                if let Some(group) = group {
                    let reason = "it needs run_as_user or run_as_username beside it";
                    return Err(OciError::invalid(group_field, group, reason));
                }
                return Self::of_image(of_image);
            }
            (None, name) => Wanted::parse("linux.security_context.run_as_username", name)?,
        };
        let group = group.map(|group| id(group_field, group)).transpose()?;
        Ok(Self {
            user,
            user_field,
            group: group.map(Wanted::Id),
            group_field,
        })
    }

    /// From the image's `User`.
    fn of_image(text: &str) -> Result<Self, OciError> {
        const FIELD: &str = "the image's User";
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let wanted = |text: &str| match text {
            "" => Ok(None),
            text => Wanted::parse(FIELD, text).map(Some),
        };
        Ok(Self {
            user: wanted(user)?.unwrap_or(Wanted::Id(0)),
            user_field: FIELD,
            group: wanted(group)?,
            group_field: FIELD,
        })
    }
}

/// Looks the user up. An id without an entry is a user without a name, with group 0.
fn find_user(root: &Root<'_>, wanted: &Wanted, field: &'static str) -> Result<User, OciError> {
    let found = match wanted {
        Wanted::Id(uid) => root.user(|_, known| known == *uid)?,
        Wanted::Name(text) => root.user(|name, _| name == text)?,
    };
    match (found, wanted) {
        (Some(user), _) => Ok(user),
        (None, Wanted::Id(uid)) => Ok(User {
            name: None,
            uid: *uid,
            gid: 0,
            home: "/".to_owned(),
        }),
        (None, Wanted::Name(name)) => Err(unknown(field, name, "/etc/passwd")),
    }
}

fn find_group(root: &Root<'_>, wanted: &Wanted, field: &'static str) -> Result<u32, OciError> {
    match wanted {
        Wanted::Id(gid) => Ok(*gid),
        Wanted::Name(name) => {
            let found = root.group(name)?;
            found.ok_or_else(|| unknown(field, name, "/etc/group"))
        }
    }
}

fn unknown(field: &'static str, name: &str, file: &'static str) -> OciError {
    OciError::UnknownName {
        field: field.into(),
        value: name.to_owned(),
        file,
    }
}

fn id(field: &'static str, value: i64) -> Result<u32, OciError> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| OciError::invalid(field, value, "an id is from 0 to 2147483647"))
}

fn distinct(groups: Vec<u32>) -> Vec<u32> {
    let mut seen = HashSet::new();
    groups.into_iter().filter(|group| seen.insert(*group)).collect()
}

#[cfg(test)]
mod tests;
