//! Small synchronous client of nf_tables and of connection tracking, and the rules of iptables.
//!
//! [`Netfilter::commit`] makes any number of [`Change`]s in one transaction of the kernel: all of them or none.
//! [`iptables::Rule`] describes a rule as iptables does, and renders it as the expressions that iptables itself writes in
//! its nf_tables variant, or as its arguments.
//!
//! Its only state is connections for the next caller. It never starts a program, holds a lock across a system call, or
//! reads beyond the bounds of an answer.
//!
//! See netlink(7), nft(8), `linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink_conntrack.h`.

mod change;
mod conntrack;
mod error;
mod expression;
pub mod iptables;
mod kept;
mod message;
mod reply;
mod socket;

pub use change::{Change, Element, Hook, NewRule, Place, Set};
pub use error::{Error, ErrorKind};
pub use expression::{Expression, Extension, Verdict};
pub use reply::Rule;
pub use socket::{Found, Netfilter};

use std::fmt;

/// The packets that a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Inet,
    /// Frames that pass a bridge.
    Bridge,
}

impl Family {
    /// `NFPROTO_*`
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::V4 => 2,
            Self::Bridge => 7,
            Self::V6 => 10,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::V4 => "ip",
            Self::V6 => "ip6",
            Self::Bridge => "bridge",
        })
    }
}

/// A chain of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say what the fields are")]
pub struct Chain<'a> {
    pub family: Family,
    pub table: &'a str,
    pub name: &'a str,
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}
