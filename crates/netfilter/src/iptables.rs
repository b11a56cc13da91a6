//! Rules of iptables: one description, two renderings.
//!
//! [`Rule::render`] gives the expressions that iptables writes in its nf_tables variant (since 1.8.8), so that `iptables
//! -S`, `-C` and `-D` take the rule for one of their own. The text form is the rule as `iptables-save` prints it, and as
//! all variants read it. Binary settings of xtables are those of `linux/netfilter/xt_*.h`.
//!
//! What the renderings are worth is shown by the tests, which compare with the real program for every shape.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::change::{Change, Hook, NewRule};
use crate::expression::{Expression, Extension, Verdict};
use crate::{Chain, Family};

/// A rule without the chain it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of iptables(8)")]
pub struct Rule {
    pub source: Option<Network>,
    pub destination: Option<Network>,
    pub in_interface: Option<Interface>,
    pub out_interface: Option<Interface>,
    pub protocol: Option<Protocol>,
    /// In the order in which they are given.
    pub matches: Vec<Match>,
    pub target: Target,
}

/// `-s` or `-d`; the address is that of a network or a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Network {
    pub net: IpNet,
    pub negated: bool,
}

/// `-i` or `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Interface {
    pub name: String,
    pub negated: bool,
}

/// `-p`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Sctp,
    Tcp,
    Udp,
}

/// A match extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `--dport` of the rule's protocol.
    Port(u16),
    /// `-m multiport --dports`, of up to 15 ports.
    Ports(Vec<u16>),
    /// `-m addrtype --dst-type LOCAL`
    LocalDestination,
    /// `-m mark --mark`, as value and mask.
    Mark(u32),
    /// `-m conntrack --ctstate RELATED,ESTABLISHED`
    Established,
    /// `-m comment --comment`
    Comment(String),
    /// Any arguments of iptables.
    Arguments(Vec<String>),
}

/// `-j`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of iptables-extensions(8)")]
pub enum Target {
    Accept,
    Drop,
    Return,
    Jump(String),
    Masquerade,
    Dnat(SocketAddr),
    /// `MARK --set-xmark`: sets these bits.
    Mark(u32),
}

/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_META_*`
const META_MARK: u32 = 3;
const META_IN: u32 = 6;
const META_OUT: u32 = 7;
const META_PROTOCOL: u32 = 16;

impl Protocol {
    /// `IPPROTO_*`
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Its name, as iptables and nft have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sctp => "sctp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Network {
    /// One address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self {
            net: address.into(),
            negated: false,
        }
    }

    /// The network of an address with a prefix.
    #[must_use]
    pub fn of(net: IpNet) -> Self {
        Self {
            net: net.trunc(),
            negated: false,
        }
    }
}

impl Rule {
    /// A rule for every packet.
    #[must_use]
    pub const fn to(target: Target) -> Self {
        Self {
            source: None,
            destination: None,
            in_interface: None,
            out_interface: None,
            protocol: None,
            matches: Vec::new(),
            target,
        }
    }

    /// The rule as iptables writes it to the kernel; none if only iptables itself knows that.
    #[must_use]
    pub fn render(&self, family: Family) -> Option<NewRule> {
        let mut list = Vec::new();
        for (interface, key) in [(&self.in_interface, META_IN), (&self.out_interface, META_OUT)] {
            if let Some(Interface { name, negated }) = interface {
                // A plus at the end stands for any name that begins so.
                (!name.ends_with('+') && (1..16).contains(&name.len())).then_some(())?;
                let mut value = name.clone().into_bytes();
                value.push(0);
                list.push(Expression::Meta { key });
                list.push(Expression::Compare {
                    negated: *negated,
                    value,
                });
            }
        }
        if let Some(protocol) = self.protocol {
            let value = vec![protocol.number()];
            list.push(Expression::Meta { key: META_PROTOCOL });
            list.push(Expression::Compare {
                negated: false,
                value,
            });
        }
        let offsets = match family {
            Family::V4 => (12, 16),
            Family::V6 => (8, 24),
            Family::Inet | Family::Bridge => return None,
        };
        for (network, offset) in [(&self.source, offsets.0), (&self.destination, offsets.1)] {
            if let Some(network) = network {
                network.render(family, offset, &mut list)?;
            }
        }
        for part in &self.matches {
            part.render(self.protocol, &mut list)?;
        }
        list.push(Expression::Counter);
        list.push(self.target.render(family)?);
        Some(NewRule {
            expressions: list,
            comment: None,
            compat: Some(self.protocol.map_or(0, |protocol| protocol.number().into())),
        })
    }
}

impl Network {
    fn render(&self, family: Family, offset: u32, list: &mut Vec<Expression>) -> Option<()> {
        let address = match (self.net.network(), family) {
            (IpAddr::V4(address), Family::V4) => address.octets().to_vec(),
            (IpAddr::V6(address), Family::V6) => address.octets().to_vec(),
            _ => return None,
        };
        let prefix = usize::from(self.net.prefix_len());
        if prefix == 0 {
            // Matches all; iptables does not write it. Nothing matches the negation, which has no use.
            return (!self.negated).then_some(());
        }
        // Whole bytes are compared as such, other prefixes with a mask.
        let (value, mask) = if prefix.is_multiple_of(8) {
            (address.get(..prefix / 8)?.to_vec(), None)
        } else {
            let mask = match self.net.netmask() {
                IpAddr::V4(mask) => mask.octets().to_vec(),
                IpAddr::V6(mask) => mask.octets().to_vec(),
            };
            (address, Some(mask))
        };
        list.push(Expression::Payload {
            base: NETWORK_HEADER,
            offset,
            length: u32::try_from(value.len()).ok()?,
        });
        list.extend(mask.map(Expression::Mask));
        list.push(Expression::Compare {
            negated: self.negated,
            value,
        });
        Some(())
    }
}

impl Match {
    fn render(&self, protocol: Option<Protocol>, list: &mut Vec<Expression>) -> Option<()> {
        let extension = |name: &str, revision, info| {
            Expression::Match(Extension {
                name: name.to_owned(),
                revision,
                info,
            })
        };
        match self {
            Self::Port(port) => match protocol? {
                Protocol::Tcp | Protocol::Udp => {
                    list.push(Expression::Payload {
                        base: TRANSPORT_HEADER,
                        offset: 2,
                        length: 2,
                    });
                    list.push(Expression::Compare {
                        negated: false,
                        value: port.to_be_bytes().to_vec(),
                    });
                }
                // struct xt_sctp_info: both ends of the range of ports, no source ports, no chunks.
                Protocol::Sctp => {
                    let mut info = [port.to_ne_bytes(), port.to_ne_bytes()].concat();
                    info.resize(268, 0);
                    info.extend([0xff, 0, 0].repeat(4));
                    info.resize(284, 0);
                    info.extend(2_u32.to_ne_bytes());
                    info.resize(296, 0);
                    list.push(extension("sctp", 0, info));
                }
            },
            // struct xt_multiport_v1
            Self::Ports(ports) => {
                protocol?;
                let count = u8::try_from(ports.len())
                    .ok()
                    .filter(|count| (1..=15).contains(count))?;
                let mut info = vec![1, count];
                info.extend(ports.iter().flat_map(|port| port.to_ne_bytes()));
                info.resize(48, 0);
                list.push(extension("multiport", 1, info));
            }
            // struct xt_addrtype_info_v1: 1 << RTN_LOCAL
            Self::LocalDestination => {
                let mut info = [0_u16.to_ne_bytes(), (1_u16 << 2).to_ne_bytes()].concat();
                info.resize(8, 0);
                list.push(extension("addrtype", 1, info));
            }
            Self::Mark(bits) => {
                let bits = bits.to_ne_bytes().to_vec();
                list.push(Expression::Meta { key: META_MARK });
                list.push(Expression::Mask(bits.clone()));
                list.push(Expression::Compare {
                    negated: false,
                    value: bits,
                });
            }
            // struct xt_conntrack_mtinfo3: XT_CONNTRACK_STATE, and the bits of the states
            Self::Established => {
                let mut info = vec![0; 146];
                info.extend(1_u16.to_ne_bytes());
                info.extend([0; 2]);
                info.extend(6_u16.to_ne_bytes());
                info.resize(168, 0);
                list.push(extension("conntrack", 3, info));
            }
            Self::Comment(comment) => {
                let mut info = comment.clone().into_bytes();
                (info.len() < 256 && !info.contains(&0)).then_some(())?;
                info.resize(256, 0);
                list.push(extension("comment", 0, info));
            }
            Self::Arguments(_) => return None,
        }
        Some(())
    }
}

impl Target {
    fn render(&self, family: Family) -> Option<Expression> {
        let extension = |name: &str, revision, info| {
            Expression::Target(Extension {
                name: name.to_owned(),
                revision,
                info,
            })
        };
        Some(match (self, family) {
            (Self::Accept, _) => Expression::Verdict(Verdict::Accept),
            (Self::Drop, _) => Expression::Verdict(Verdict::Drop),
            (Self::Return, _) => Expression::Verdict(Verdict::Return),
            (Self::Jump(chain), _) => Expression::Verdict(Verdict::Jump(chain.clone())),
            // struct nf_nat_ipv4_multi_range_compat with one range
            (Self::Masquerade, Family::V4) => {
                let mut info = 1_u32.to_ne_bytes().to_vec();
                info.resize(24, 0);
                extension("MASQUERADE", 0, info)
            }
            // struct nf_nat_range
            (Self::Masquerade, _) => extension("MASQUERADE", 0, vec![0; 40]),
            // struct nf_nat_range2: NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED
            (Self::Dnat(to), _) => {
                let mut address = match (to.ip(), family) {
                    (IpAddr::V4(address), Family::V4) => address.octets().to_vec(),
                    (IpAddr::V6(address), Family::V6) => address.octets().to_vec(),
                    _ => return None,
                };
                address.resize(16, 0);
                let port = to.port().to_be_bytes();
                let mut info = 3_u32.to_ne_bytes().to_vec();
                info.extend(address.repeat(2));
                info.extend(port.repeat(2));
                info.resize(48, 0);
                extension("DNAT", 2, info)
            }
            // struct xt_mark_tginfo2
            (Self::Mark(bits), _) => extension("MARK", 2, bits.to_ne_bytes().repeat(2)),
        })
    }
}

/// The change that creates a chain of iptables which the kernel brings packets to; none for other chains.
#[must_use]
pub fn base_chain(chain: Chain<'_>) -> Option<Change<'_>> {
    let (kind, hook, priority) = match (chain.table, chain.name) {
        ("filter", "INPUT") => ("filter", Hook::Input, 0),
        ("filter", "FORWARD") => ("filter", Hook::Forward, 0),
        ("filter", "OUTPUT") => ("filter", Hook::Output, 0),
        ("nat", "PREROUTING") => ("nat", Hook::Prerouting, -100),
        ("nat", "INPUT") => ("nat", Hook::Input, 100),
        ("nat", "OUTPUT") => ("nat", Hook::Output, -100),
        ("nat", "POSTROUTING") => ("nat", Hook::Postrouting, 100),
        _ => return None,
    };
    Some(Change::AddBaseChain {
        chain,
        kind,
        hook,
        priority,
    })
}

impl Rule {
    /// The rule as arguments of iptables, behind the chain.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.words().into_iter().map(|(word, _)| word).collect()
    }

    /// The arguments in the order of `iptables-save`, with whether it quotes them.
    fn words(&self) -> Vec<(String, bool)> {
        fn not(negated: bool, words: &mut Vec<(String, bool)>) {
            if negated {
                words.push(("!".to_owned(), false));
            }
        }
        fn push<const N: usize>(plain: [&str; N], words: &mut Vec<(String, bool)>) {
            words.extend(plain.map(|word| (word.to_owned(), false)));
        }
        let words = &mut Vec::new();
        for (option, network) in [("-s", &self.source), ("-d", &self.destination)] {
            if let Some(Network { net, negated }) = network
                && net.prefix_len() != 0
            {
                not(*negated, words);
                push([option, &net.to_string()], words);
            }
        }
        for (option, interface) in [("-i", &self.in_interface), ("-o", &self.out_interface)] {
            if let Some(Interface { name, negated }) = interface {
                not(*negated, words);
                push([option, name], words);
            }
        }
        if let Some(protocol) = self.protocol {
            push(["-p", protocol.as_str()], words);
        }
        for part in &self.matches {
            match part {
                Match::Port(port) => {
                    let protocol = self.protocol.map_or("tcp", Protocol::as_str);
                    push(["-m", protocol, "--dport", &port.to_string()], words);
                }
                Match::Ports(ports) => {
                    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
                    push(["-m", "multiport", "--dports", &ports.join(",")], words);
                }
                Match::LocalDestination => push(["-m", "addrtype", "--dst-type", "LOCAL"], words),
                Match::Mark(bits) => push(["-m", "mark", "--mark", &format!("{bits:#x}/{bits:#x}")], words),
                Match::Established => push(["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"], words),
                Match::Comment(comment) => {
                    push(["-m", "comment", "--comment"], words);
                    words.push((comment.clone(), true));
                }
                Match::Arguments(arguments) => {
                    words.extend(arguments.iter().map(|word| (word.clone(), true)));
                }
            }
        }
        match &self.target {
            Target::Accept => push(["-j", "ACCEPT"], words),
            Target::Drop => push(["-j", "DROP"], words),
            Target::Return => push(["-j", "RETURN"], words),
            Target::Jump(chain) => push(["-j", chain], words),
            Target::Masquerade => push(["-j", "MASQUERADE"], words),
            Target::Dnat(to) => push(["-j", "DNAT", "--to-destination", &to.to_string()], words),
            Target::Mark(bits) => push(
                ["-j", "MARK", "--set-xmark", &format!("{bits:#x}/{bits:#x}")],
                words,
            ),
        }
        std::mem::take(words)
    }
}

/// As `iptables-save` prints it, and `iptables-restore` reads it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words().into_iter();
        let words = words.map(|(word, quoted)| if quoted { quote(&word) } else { word });
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

/// A word as `iptables-save` prints it and `iptables-restore` reads it. An end of line cannot be quoted: it becomes a space.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' | '\'' => quoted.extend(['\\', character]),
            '\n' | '\r' | '\0' => quoted.push(' '),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
