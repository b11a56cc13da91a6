//! Expressions of rules: written as the kernel wants them, and read as it lists them.
//!
//! Only what the rules of this crate need has a variant; [`Expression::Other`] stands for everything else, and equals
//! nothing but itself. All values go through register 1, as they do in the rules of iptables and nft.

use crate::message::Messages;
use crate::reply::{Attributes, number, text};

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of nf_tables")]
#[non_exhaustive]
pub enum Expression {
    /// Loads a part of the packet.
    Payload {
        base: u32,
        offset: u32,
        length: u32,
    },
    /// Loads something about the packet.
    Meta {
        key: u32,
    },
    /// Loads the type of the destination address, such as local.
    DestinationType,
    /// Clears the bits that the mask does not have.
    Mask(Vec<u8>),
    /// Leaves the rule if the loaded value is (not) this one.
    Compare {
        negated: bool,
        value: Vec<u8>,
    },
    /// Counts packets and bytes. The counts are not part of what is compared.
    Counter,
    Verdict(Verdict),
    /// A match of xtables.
    Match(Extension),
    /// A target of xtables.
    Target(Extension),
    Masquerade,
    /// Loads a register for [`Self::DestinationNat`].
    Load {
        register: u32,
        value: Vec<u8>,
    },
    /// Address in register 1, port in register 2.
    DestinationNat,
    /// Anything that this crate does not write, by its name.
    Other(String),
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of nft(8)")]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// A match or target of xtables with its binary settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of xtables")]
pub struct Extension {
    pub name: String,
    pub revision: u32,
    pub info: Vec<u8>,
}

/// `NFT_REG_1`, `NFT_REG_2`
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
/// `NFTA_LIST_ELEM`
const ELEMENT: u16 = 1;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
/// `NFTA_FIB_F_DADDR`, `NFT_FIB_RESULT_ADDRTYPE`
const BY_DESTINATION: u32 = 2;
const ADDRESS_TYPE: u32 = 3;
/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED` needs no attribute: the registers say so.
const DESTINATION_NAT: u32 = 1;

impl Verdict {
    const fn code(&self) -> i32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => -3,
            Self::Goto(_) => -4,
            Self::Return => -5,
        }
    }

    fn read(value: &[u8]) -> Option<Self> {
        let (mut code, mut chain) = (None, None);
        for (kind, value) in Attributes(value) {
            match kind {
                1 => code = Some(i32::from_be_bytes(value.try_into().ok()?)),
                2 => chain = Some(text(value)),
                _ => {}
            }
        }
        Some(match code? {
            0 => Self::Drop,
            1 => Self::Accept,
            -3 => Self::Jump(chain?),
            -4 => Self::Goto(chain?),
            -5 => Self::Return,
            _ => return None,
        })
    }
}

impl Expression {
    /// `family` decides how addresses are translated.
    pub(crate) fn write(&self, family: u32, messages: &mut Messages) {
        messages.nest(ELEMENT, |element| {
            let mut with = |name: &str, data: &dyn Fn(&mut Messages)| {
                element.text(NAME, name);
                element.nest(DATA, data);
            };
            let value = |kind: u16, value: &[u8], data: &mut Messages| {
                data.nest(kind, |data| data.bytes(VALUE, value));
            };
            let extension = |extension: &Extension, data: &mut Messages| {
                data.text(1, &extension.name);
                data.number(2, extension.revision);
                data.bytes(3, &extension.info);
            };
            match self {
                Self::Payload { base, offset, length } => with("payload", &|data| {
                    data.number(1, REGISTER);
                    data.number(2, *base);
                    data.number(3, *offset);
                    data.number(4, *length);
                }),
                Self::Meta { key } => with("meta", &|data| {
                    data.number(2, *key);
                    data.number(1, REGISTER);
                }),
                Self::DestinationType => with("fib", &|data| {
                    data.number(3, BY_DESTINATION);
                    data.number(2, ADDRESS_TYPE);
                    data.number(1, REGISTER);
                }),
                Self::Mask(mask) => with("bitwise", &|data| {
                    data.number(1, REGISTER);
                    data.number(2, REGISTER);
                    data.number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
                    value(4, mask, data);
                    value(5, &vec![0; mask.len()], data);
                }),
                Self::Compare {
                    negated,
                    value: with_value,
                } => with("cmp", &|data| {
                    data.number(1, REGISTER);
                    data.number(2, u32::from(*negated));
                    value(3, with_value, data);
                }),
                Self::Counter => with("counter", &|data| {
                    data.bytes(1, &[0; 8]);
                    data.bytes(2, &[0; 8]);
                }),
                Self::Verdict(verdict) => with("immediate", &|data| {
                    data.number(1, 0);
                    data.nest(2, |data| {
                        data.nest(VERDICT, |data| {
                            data.bytes(1, &verdict.code().to_be_bytes());
                            if let Verdict::Jump(chain) | Verdict::Goto(chain) = verdict {
                                data.text(2, chain);
                            }
                        });
                    });
                }),
                Self::Match(of) => with("match", &|data| extension(of, data)),
                Self::Target(of) => with("target", &|data| extension(of, data)),
                Self::Masquerade => with("masq", &|_| {}),
                Self::Load {
                    register,
                    value: with_value,
                } => with("immediate", &|data| {
                    data.number(1, *register);
                    value(2, with_value, data);
                }),
                Self::DestinationNat => with("nat", &|data| {
                    data.number(1, DESTINATION_NAT);
                    data.number(2, family);
                    data.number(3, REGISTER);
                    data.number(5, SECOND_REGISTER);
                    data.number(7, 2);
                }),
                Self::Other(name) => with(name, &|_| {}),
            }
        });
    }

    /// Reads `NFTA_RULE_EXPRESSIONS`.
    pub(crate) fn read_all(list: &[u8]) -> Vec<Self> {
        Attributes(list)
            .filter(|(kind, _)| *kind == ELEMENT)
            .map(|(_, element)| {
                let (mut name, mut data) = (String::new(), None);
                for (kind, value) in Attributes(element) {
                    match kind {
                        NAME => name = text(value),
                        DATA => data = Some(value),
                        _ => {}
                    }
                }
                Self::read(&name, data.unwrap_or_default()).unwrap_or(Self::Other(name))
            })
            .collect()
    }

    fn read(name: &str, data: &[u8]) -> Option<Self> {
        let find = |wanted: u16| {
            Attributes(data)
                .find(|(kind, _)| *kind == wanted)
                .map(|(_, value)| value)
        };
        let numeric = |wanted: u16| find(wanted).and_then(number);
        let value = |wanted: u16| {
            let (_, value) = Attributes(find(wanted)?).find(|(kind, _)| *kind == VALUE)?;
            Some(value.to_vec())
        };
        let is = |wanted: u16, expected: u32| (numeric(wanted) == Some(expected)).then_some(());
        let extension = || {
            Some(Extension {
                name: text(find(1)?),
                revision: numeric(2)?,
                info: find(3)?.to_vec(),
            })
        };
        Some(match name {
            "payload" => {
                is(1, REGISTER)?;
                Self::Payload {
                    base: numeric(2)?,
                    offset: numeric(3)?,
                    length: numeric(4)?,
                }
            }
            "meta" => {
                is(1, REGISTER)?;
                Self::Meta { key: numeric(2)? }
            }
            "fib" => {
                is(1, REGISTER)?;
                is(2, ADDRESS_TYPE)?;
                is(3, BY_DESTINATION)?;
                Self::DestinationType
            }
            "bitwise" => {
                is(1, REGISTER)?;
                is(2, REGISTER)?;
                // The operation is not said by older kernels, which have this one only.
                numeric(6).is_none_or(|operation| operation == 0).then_some(())?;
                value(5)?.iter().all(|byte| *byte == 0).then_some(())?;
                Self::Mask(value(4)?)
            }
            "cmp" => {
                is(1, REGISTER)?;
                let negated = match numeric(2)? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                Self::Compare {
                    negated,
                    value: value(3)?,
                }
            }
            "counter" => Self::Counter,
            "immediate" if numeric(1) == Some(0) => {
                let (_, verdict) = Attributes(find(2)?).find(|(kind, _)| *kind == VERDICT)?;
                Self::Verdict(Verdict::read(verdict)?)
            }
            "match" => Self::Match(extension()?),
            "target" => Self::Target(extension()?),
            _ => return None,
        })
    }
}
