//! Tracked connections: the entries of UDP to a port are forgotten, so that new rules apply to running streams too.
//!
//! See `linux/netfilter/nfnetlink_conntrack.h`. Newer kernels delete what a filter matches. Older ones take the same request
//! for one that names a single connection, and refuse it because it lacks addresses; they never delete more than is
//! named. Then the connections are listed. The oldest list all, so each is looked at again.

use crate::Family;
use crate::error::{Error, ErrorKind};
use crate::message::Messages;
use crate::reply::{Attributes, FAMILY_HEADER};
use crate::socket::Netfilter;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*`
const NEW: u16 = 1 << 8;
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `CTA_*`
const ORIGINAL: u16 = 1;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// `CTA_TUPLE_PROTO`, `CTA_PROTO_NUM`, `CTA_PROTO_DST_PORT`
const PROTOCOL_PART: u16 = 2;
const PROTOCOL: u16 = 1;
const DESTINATION_PORT: u16 = 3;
const UDP: u8 = 17;

/// What names an entry to the kernel.
struct Entry {
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
}

impl Netfilter {
    /// Forgets the tracked UDP connections whose first packet went to `port`.
    ///
    /// # Errors
    /// If the kernel has no connection tracking, or refuses. An entry that has ended meanwhile is no error.
    pub fn forget_udp(&mut self, family: Family, port: u16) -> Result<(), Error> {
        let request = || format!("list tracked {family} connections to UDP port {port}");
        let query = |messages: &mut Messages| {
            messages.nest(ORIGINAL, |messages| {
                messages.nest(PROTOCOL_PART, |messages| {
                    messages.bytes(PROTOCOL, &[UDP]);
                    messages.bytes(DESTINATION_PORT, &port.to_be_bytes());
                });
            });
            // CTA_FILTER_ORIG_FLAGS: CTA_FILTER_FLAG(CTA_PROTO_NUM) and (CTA_PROTO_DST_PORT)
            messages.nest(FILTER, |messages| messages.bytes(1, &0x28_u32.to_ne_bytes()));
        };
        match self.ask(DELETE, family.number(), &request, query) {
            Err(Error::Refused { .. }) => {}
            outcome => return outcome,
        }
        let wanted = |payload: &[u8]| Entry::parse(payload, port);
        let entries = self.dump((GET, family.number()), NEW, &request, query, wanted)?;
        for entry in entries {
            let request = || format!("delete a tracked {family} connection to UDP port {port}");
            let outcome = self.ask(DELETE, family.number(), &request, |messages| {
                messages.bytes(ORIGINAL | 1 << 15, &entry.original);
                if let Some(zone) = &entry.zone {
                    messages.bytes(ZONE, zone);
                }
                if let Some(id) = &entry.id {
                    messages.bytes(ID, id);
                }
            });
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Entry {
    /// None for other connections.
    fn parse(payload: &[u8], port: u16) -> Option<Self> {
        let attributes = Attributes(payload.get(FAMILY_HEADER..)?);
        let (mut original, mut zone, mut id) = (None, None, None);
        for (kind, value) in attributes {
            match kind {
                ORIGINAL => original = Some(value),
                ZONE => zone = Some(value.to_vec()),
                ID => id = Some(value.to_vec()),
                _ => {}
            }
        }
        let original = original?;
        let (_, part) = Attributes(original).find(|(kind, _)| *kind == PROTOCOL_PART)?;
        let of = |wanted: u16| {
            Attributes(part)
                .find(|(kind, _)| *kind == wanted)
                .map(|(_, value)| value)
        };
        let matches = of(PROTOCOL)? == [UDP] && of(DESTINATION_PORT)? == port.to_be_bytes();
        matches.then(|| Self {
            original: original.to_vec(),
            zone,
            id,
        })
    }
}
