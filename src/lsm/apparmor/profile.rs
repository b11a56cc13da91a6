//! The text of pausa's profile, for the parser and the policy files that this node has.
//!
//! What parsers differ in:
//!
//! | parser | |
//! |---|---|
//! | before 3.0 | has no `abi`, and knows no class of rules that the profile does not have |
//! | from 3.0 | without `abi` it takes that of its configuration, and complains |
//! | from 4.0 | can compile mediation of user namespaces, io_uring and message queues. A class that is compiled without a rule is denied: with `abi <abi/3.0>` it is not compiled, without that file each of them needs a rule |
//!
//! The abi is always 3.0, not the newest: a later one would bring classes that this profile has no rules for.

use std::path::Path;
use std::process::Command;

/// The name of pausa's profile.
pub(crate) const NAME: &str = "pausa-default";

/// What a container may and may not do.
const RULES: &str = include_str!("pausa-default.rules");

/// Where the parser looks for `include <…>` and `abi <…>`.
const POLICY_FILES: &str = "/etc/apparmor.d";

/// What the text depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Major and minor version of the parser; none if it does not tell, or nothing depends on it.
    pub(super) parser: Option<(u32, u32)>,
    /// Which files there are: `abi/3.0`, `tunables/global`, `abstractions/base`.
    pub(super) abi: bool,
    pub(super) tunables: bool,
    pub(super) base: bool,
    /// The profile that the daemon itself has, with its monitors.
    pub(super) daemon: Option<String>,
}

/// The profile for this node.
pub(super) fn text(parser: &Path) -> String {
    let is_there = |name: &str| Path::new(POLICY_FILES).join(name).is_file();
    let abi = is_there("abi/3.0");
    let node = Node {
        parser: if abi { None } else { version_of(parser) },
        abi,
        tunables: is_there("tunables/global"),
        base: is_there("abstractions/base"),
        daemon: own_profile(),
    };
    node.profile()
}

impl Node {
    pub(super) fn profile(&self) -> String {
        let mut text = String::from("# The default profile of containers. Written by pausa at its start.\n");
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        if self.abi {
            line(
                "# The kernel's features that the rules below are written for. Newer ones are not mediated.",
            );
            line("abi <abi/3.0>,");
        }
        if self.tunables {
            line("# Variables that the abstraction below refers to.");
            line("include <tunables/global>");
        }
        line("");
        line(
            "# attach_disconnected: names of files that came by descriptor, from outside of the container's mounts, are taken",
        );
        line(
            "# as below its root, or no rule could allow them. mediate_deleted: a deleted file keeps its name.",
        );
        line(&format!(
            "profile {NAME} flags=(attach_disconnected, mediate_deleted) {{"
        ));
        if self.base && self.tunables {
            line(
                "  # What the distribution and the administrator let every program do: nothing below is weakened, since `deny`",
            );
            line("  # comes before whatever is allowed.");
            line("  include <abstractions/base>");
            line("");
        }
        line(RULES.trim_end());
        if let Some(daemon) = &self.daemon {
            line("");
            line("  # The daemon and its monitors are confined themselves.");
            line(&format!("  signal (receive) peer={daemon},"));
        }
        if !self.abi && self.parser.is_some_and(|version| version >= (4, 0)) {
            line("");
            line(
                "  # Without the file of the abi this parser mediates these as well. seccomp decides about them.",
            );
            line("  userns,");
            line("  io_uring,");
            line("  mqueue,");
        }
        line("}");
        text
    }
}

/// Asks the parser for its version.
fn version_of(parser: &Path) -> Option<(u32, u32)> {
    let output = Command::new(parser).arg("--version").output().ok()?;
    version(&String::from_utf8_lossy(&output.stdout))
}

/// Major and minor version in `AppArmor parser version 4.0.0~beta3`.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let number = text.lines().next()?.rsplit_once("version ")?.1;
    let mut parts = number.split(|c: char| !c.is_ascii_digit());
    let mut part = || parts.next()?.parse().ok();
    Some((part()?, part()?))
}

/// The profile of this process; none if it is unconfined. A name that would need quoting is left out: only the daemon's
/// signals depend on it.
fn own_profile() -> Option<String> {
    let paths = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"];
    let label = paths.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    let name = label.trim_end_matches(['\0', '\n']).rsplit_once(" (")?.0;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+./".contains(c);
    name.chars().all(plain).then(|| name.to_owned())
}
