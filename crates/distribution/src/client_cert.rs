//! The choice among several client certificates: the first whose issuer the server trusts, as in Go's clients.
//!
//! A server that names no issuers gets the first certificate; one that names only other issuers gets none.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

#[cfg(test)]
mod tests;

/// The certificates of one endpoint, in the order of its configuration.
#[derive(Debug)]
pub(crate) struct ClientCerts(pub(crate) Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for ClientCerts {
    fn resolve(&self, trusted: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let wanted = |key: &&Arc<CertifiedKey>| {
            let mut issuers = key.cert.iter().filter_map(issuer);
            trusted.is_empty() || issuers.any(|issuer| trusted.contains(&issuer))
        };
        self.0.iter().filter(usable).find(wanted).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The issuer's name of a certificate in DER (RFC 5280, section 4.1): `TBSCertificate` holds version, serial number,
/// algorithm and then the issuer.
fn issuer<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, outer, _) = element(certificate)?;
    let (_, mut rest, _) = element(outer)?;
    if rest.first() == Some(&VERSION) {
        rest = after(rest)?;
    }
    // Serial number, then algorithm.
    rest = after(after(rest)?)?;
    let (tag, _, whole) = element(rest)?;
    (tag == SEQUENCE).then_some(whole)
}

fn after(bytes: &[u8]) -> Option<&[u8]> {
    let (_, _, whole) = element(bytes)?;
    bytes.get(whole.len()..)
}

/// Tag, content and the whole of the first DER element in `bytes`.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, &first) = (bytes.first()?, bytes.get(1)?);
    let (header, length) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let digits = bytes.get(2..2 + count)?;
            let length = digits
                .iter()
                .fold(0usize, |sum, digit| (sum << 8) | usize::from(*digit));
            (2 + count, length)
        }
        _ => return None,
    };
    let end = header.checked_add(length)?;
    Some((tag, bytes.get(header..end)?, bytes.get(..end)?))
}
