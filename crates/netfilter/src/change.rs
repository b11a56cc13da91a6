//! Changes of a transaction. A change's `Display` form goes into errors.

use std::fmt;

use crate::expression::Expression;
use crate::message::{APPEND, CREATE, ECHO, EXCLUSIVE, Header, Messages};
use crate::{Chain, Family};

/// `NFNL_SUBSYS_NFTABLES`
pub(crate) const SUBSYSTEM: u16 = 10;
pub(crate) const fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}
/// `NFT_MSG_*`
pub(crate) const NEW_RULE: u16 = kind(6);
pub(crate) const GET_CHAIN: u16 = kind(4);
pub(crate) const GET_RULE: u16 = kind(7);
pub(crate) const NEW_GENERATION: u16 = kind(15);
pub(crate) const GET_GENERATION: u16 = kind(16);
const NEW_TABLE: u16 = kind(0);
const NEW_CHAIN: u16 = kind(3);
const DELETE_CHAIN: u16 = kind(5);
const DELETE_RULE: u16 = kind(8);
pub(crate) const NEW_ELEMENT: u16 = kind(12);
pub(crate) const GET_ELEMENT: u16 = kind(13);
const DELETE_ELEMENT: u16 = kind(14);

/// A change to tables, chains or rules.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the variants say what the fields are")]
#[non_exhaustive]
pub enum Change<'a> {
    /// Creates a table, unless there is one.
    AddTable {
        family: Family,
        table: &'a str,
        comment: Option<&'a str>,
    },
    /// Creates a chain, unless there is one.
    AddChain {
        chain: Chain<'a>,
        comment: Option<&'a str>,
    },
    /// Creates a chain, and fails if there is one.
    CreateChain {
        chain: Chain<'a>,
    },
    /// Creates a chain that packets come to, unless there is one. A new one accepts what no rule decides.
    AddBaseChain {
        chain: Chain<'a>,
        /// `nat` or `filter`.
        kind: &'a str,
        hook: Hook,
        priority: i32,
    },
    AddRule {
        chain: Chain<'a>,
        rule: &'a NewRule,
        place: Place,
        /// Whether its handle is wanted.
        echo: bool,
    },
    DeleteRule {
        chain: Chain<'a>,
        handle: u64,
    },
    /// Adds an element to a set or map, unless there is one. One with the same key and other data is a conflict
    /// ([`ErrorKind::Exists`](crate::ErrorKind::Exists)).
    AddElement {
        set: Set<'a>,
        element: Element<'a>,
    },
    /// Deletes the element with this key.
    DeleteElement {
        set: Set<'a>,
        element: Element<'a>,
    },
    /// Deletes all rules of a chain.
    Flush {
        chain: Chain<'a>,
    },
    DeleteChain {
        chain: Chain<'a>,
    },
}

/// A set or map of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what the fields are")]
pub struct Set<'a> {
    pub family: Family,
    pub table: &'a str,
    pub name: &'a str,
}

/// An element of a set or map. Each field of a concatenation takes a multiple of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// The key, or the first one of a range.
    pub key: &'a [u8],
    /// The last key of a range.
    pub key_end: Option<&'a [u8]>,
    /// What a map has for the key.
    pub data: Option<&'a [u8]>,
}

/// Where packets come to a chain, with the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of nft(8)")]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Where a new rule goes in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Place {
    First,
    Last,
}

/// A rule to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// What it does, in order.
    pub expressions: Vec<Expression>,
    /// What nft(8) shows as its comment.
    pub comment: Option<String>,
    /// For rules of iptables: the protocol they are for, or 0, which the extensions of xtables check.
    pub compat: Option<u32>,
}

impl Hook {
    const fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

impl Change<'_> {
    pub(crate) fn write(&self, sequence: u32, more: u16, messages: &mut Messages) {
        const TABLE: u16 = 1;
        const USER_DATA_OF_TABLE: u16 = 6;
        const CHAIN_NAME: u16 = 3;
        const USER_DATA_OF_CHAIN: u16 = 12;
        const CHAIN: u16 = 2;
        let header = |kind: u16, flags: u16, family: Family| Header {
            kind,
            flags: flags | more,
            sequence,
            family: family.number(),
            resource: 0,
        };
        let name_of_chain = |chain: &Chain<'_>, messages: &mut Messages| {
            messages.text(TABLE, chain.table);
            messages.text(CHAIN_NAME, chain.name);
        };
        let user_data = |kind: u16, comment: Option<&str>, messages: &mut Messages| {
            if let Some(comment) = comment {
                messages.bytes(kind, &user_data(comment));
            }
        };
        match self {
            Self::AddTable {
                family,
                table,
                comment,
            } => messages.push(header(NEW_TABLE, CREATE, *family), |messages| {
                messages.text(TABLE, table);
                user_data(USER_DATA_OF_TABLE, *comment, messages);
            }),
            Self::AddChain { chain, comment } => {
                messages.push(header(NEW_CHAIN, CREATE, chain.family), |messages| {
                    name_of_chain(chain, messages);
                    user_data(USER_DATA_OF_CHAIN, *comment, messages);
                });
            }
            Self::CreateChain { chain } => {
                messages.push(header(NEW_CHAIN, CREATE | EXCLUSIVE, chain.family), |messages| {
                    name_of_chain(chain, messages);
                });
            }
            Self::AddBaseChain {
                chain,
                kind,
                hook,
                priority,
            } => {
                messages.push(header(NEW_CHAIN, CREATE, chain.family), |messages| {
                    name_of_chain(chain, messages);
                    // No policy: that of a chain which exists stays as it is.
                    messages.nest(4, |messages| {
                        messages.number(1, hook.number());
                        messages.bytes(2, &priority.to_be_bytes());
                    });
                    messages.text(7, kind);
                });
            }
            Self::AddRule {
                chain,
                rule,
                place,
                echo,
            } => {
                let echo = if *echo { ECHO } else { 0 };
                let flags = match place {
                    Place::First => CREATE | echo,
                    Place::Last => CREATE | echo | APPEND,
                };
                messages.push(header(NEW_RULE, flags, chain.family), |messages| {
                    messages.text(TABLE, chain.table);
                    messages.text(CHAIN, chain.name);
                    messages.nest(4, |messages| {
                        for expression in &rule.expressions {
                            expression.write(chain.family.number().into(), messages);
                        }
                    });
                    if let Some(protocol) = rule.compat {
                        messages.nest(5, |messages| {
                            messages.number(1, protocol);
                            messages.number(2, 0);
                        });
                    }
                    user_data(7, rule.comment.as_deref(), messages);
                });
            }
            Self::AddElement { set, element } => {
                messages.push(header(NEW_ELEMENT, CREATE, set.family), |messages| {
                    element.write(set, messages);
                });
            }
            Self::DeleteElement { set, element } => {
                messages.push(header(DELETE_ELEMENT, 0, set.family), |messages| {
                    element.write(set, messages);
                });
            }
            Self::DeleteRule { chain, handle } => {
                messages.push(header(DELETE_RULE, 0, chain.family), |messages| {
                    messages.text(TABLE, chain.table);
                    messages.text(CHAIN, chain.name);
                    messages.bytes(3, &handle.to_be_bytes());
                });
            }
            Self::Flush { chain } => messages.push(header(DELETE_RULE, 0, chain.family), |messages| {
                messages.text(TABLE, chain.table);
                messages.text(CHAIN, chain.name);
            }),
            Self::DeleteChain { chain } => messages.push(header(DELETE_CHAIN, 0, chain.family), |messages| {
                name_of_chain(chain, messages);
            }),
        }
    }
}

impl Element<'_> {
    pub(crate) fn write(&self, set: &Set<'_>, messages: &mut Messages) {
        /// `NFTA_DATA_VALUE`
        const VALUE: u16 = 1;
        messages.text(1, set.table);
        messages.text(2, set.name);
        messages.nest(3, |messages| {
            messages.nest(1, |messages| {
                let fields = [(1, Some(self.key)), (2, self.data), (10, self.key_end)];
                for (kind, value) in fields {
                    if let Some(value) = value {
                        messages.nest(kind, |messages| messages.bytes(VALUE, value));
                    }
                }
            });
        });
    }
}

/// A comment as nft(8) stores it. Longer ones than it allows are cut at a character.
fn user_data(comment: &str) -> Vec<u8> {
    /// `NFTNL_UDATA_COMMENT_MAXLEN`
    const LONGEST: usize = 128;
    let comment = comment
        .get(..comment.floor_char_boundary(LONGEST))
        .unwrap_or_default();
    let length = u8::try_from(comment.len().saturating_add(1)).unwrap_or_default();
    let mut data = vec![0, length];
    data.extend(comment.as_bytes());
    data.push(0);
    data
}

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable { family, table, .. } => write!(f, "add table {family} {table}"),
            Self::AddChain { chain, .. } | Self::CreateChain { chain } | Self::AddBaseChain { chain, .. } => {
                write!(f, "add chain {chain}")
            }
            Self::AddRule { chain, .. } => write!(f, "add a rule to chain {chain}"),
            Self::AddElement { set, .. } => write!(f, "add an element to set {set}"),
            Self::DeleteElement { set, .. } => write!(f, "delete an element of set {set}"),
            Self::DeleteRule { chain, handle } => write!(f, "delete rule {handle} of chain {chain}"),
            Self::Flush { chain } => write!(f, "delete the rules of chain {chain}"),
            Self::DeleteChain { chain } => write!(f, "delete chain {chain}"),
        }
    }
}
