//! Answers of the kernel: pure parsing, bounds checked, unknown attributes skipped.

#[cfg(test)]
mod tests;

use crate::change::NewRule;
use crate::expression::{Expression, Verdict};

/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `struct nfgenmsg`
pub(crate) const FAMILY_HEADER: usize = 4;
/// The upper bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;

/// A rule as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its number in the table, which no other rule gets as long as the table exists.
    pub handle: u64,
    /// What it does, in order.
    pub expressions: Vec<Expression>,
    /// What nft(8) shows as its comment.
    pub comment: Option<String>,
}

impl Rule {
    /// Reads the payload of `NFT_MSG_NEWRULE`; `None` when it is cut off.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        const HANDLE: u16 = 3;
        const EXPRESSIONS: u16 = 4;
        const USER_DATA: u16 = 7;
        let (mut handle, mut expressions, mut comment) = (None, Vec::new(), None);
        for (kind, value) in Attributes(payload.get(FAMILY_HEADER..)?) {
            match kind {
                HANDLE => handle = Some(u64::from_be_bytes(value.try_into().ok()?)),
                EXPRESSIONS => expressions = Expression::read_all(value),
                USER_DATA => comment = comment_of(value),
                _ => {}
            }
        }
        Some(Self {
            handle: handle?,
            expressions,
            comment,
        })
    }

    /// Whether it does the same as `rule`. Releases of iptables write the matches of a rule in different orders, and the
    /// protocol in different ways.
    #[must_use]
    pub fn does(&self, rule: &NewRule) -> bool {
        let ours = steps(&self.expressions);
        let mut theirs = steps(&rule.expressions);
        let mut taken = |step: &Vec<Expression>| {
            let at = theirs.iter().position(|other| other == step);
            at.map(|at| theirs.swap_remove(at)).is_some()
        };
        ours.iter().all(&mut taken) && theirs.is_empty()
    }

    /// The chain where it sends packets.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match self.expressions.last()? {
            Expression::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain),
            _ => None,
        }
    }
}

/// The expressions, divided into what stands for itself: something that is compared, with what loads it, or another one.
fn steps(expressions: &[Expression]) -> Vec<Vec<Expression>> {
    let loads = |expression: &Expression| {
        matches!(
            expression,
            Expression::Payload { .. }
                | Expression::Meta { .. }
                | Expression::DestinationType
                | Expression::Mask(_)
                | Expression::Load { .. }
        )
    };
    let step = |step: &[Expression]| match step {
        [
            PROTOCOL_OF_V4 | NEXT_HEADER_OF_V6,
            compare @ Expression::Compare { .. },
        ] => {
            vec![Expression::Meta { key: L4_PROTOCOL }, compare.clone()]
        }
        other => other.to_vec(),
    };
    expressions
        .split_inclusive(|expression| !loads(expression))
        .map(step)
        .collect()
}

/// `NFT_META_L4PROTO`
const L4_PROTOCOL: u32 = 16;
/// The field of the network header.
const PROTOCOL_OF_V4: Expression = Expression::Payload {
    base: 1,
    offset: 9,
    length: 1,
};
const NEXT_HEADER_OF_V6: Expression = Expression::Payload {
    base: 1,
    offset: 6,
    length: 1,
};

/// What the first element of `NFT_MSG_NEWSETELEM` leads to; `None` for an element of a set, which leads nowhere.
pub(crate) fn data_of_element(payload: &[u8]) -> Option<Vec<u8>> {
    const ELEMENTS: u16 = 3;
    const ELEMENT: u16 = 1;
    const DATA: u16 = 2;
    const VALUE: u16 = 1;
    let mut within = payload.get(FAMILY_HEADER..)?;
    for wanted in [ELEMENTS, ELEMENT, DATA, VALUE] {
        let (_, value) = Attributes(within).find(|(kind, _)| *kind == wanted)?;
        within = value;
    }
    Some(within.to_vec())
}

/// User data of nft(8) are attributes with a byte for the type and a byte for the length.
fn comment_of(mut data: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    while let [kind, length, rest @ ..] = data {
        let (value, next) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            return Some(text(value));
        }
        data = next;
    }
    None
}

/// One message of an answer.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages of a datagram; ends at the first that is cut off, which is an `Err`.
pub(crate) struct MessagesOf<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for MessagesOf<'a> {
    type Item = Result<Message<'a>, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let message = || {
            let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
            let message = Message {
                kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
                flags: u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?),
                sequence: u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?),
                payload: bytes.get(HEADER..length)?,
            };
            Some((message, length))
        };
        let Some((message, length)) = message() else {
            return Some(Err(()));
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(message))
    }
}

/// Attributes with their types; ends at the first that is cut off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    }
}

/// A number in network byte order.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// Up to the first zero byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
