use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

fn authority(name: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Issuer::new(params, KeyPair::generate().unwrap())
}

fn client(authority: &Issuer<'_, KeyPair>) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![certificate.der().clone()];
    Arc::new(CertifiedKey::from_der(chain, der, &aws_lc_rs::default_provider()).unwrap())
}

#[test]
fn the_certificate_whose_issuer_the_server_trusts_is_shown() {
    let (first, second) = (client(&authority("first")), client(&authority("second")));
    let name = |key: &CertifiedKey| issuer(&key.cert[0]).unwrap().to_vec();
    let (one, two) = (name(&first), name(&second));
    assert!(one != two && one.windows(5).any(|w| w == b"first"));
    let certs = ClientCerts(vec![first, second]);
    let shown = |trusted: &[&[u8]]| {
        let key = certs.resolve(trusted, &[SignatureScheme::ECDSA_NISTP256_SHA256]);
        key.map(|key| name(&key))
    };
    assert_eq!(shown(&[]), Some(one.clone()));
    assert_eq!(shown(&[&two]), Some(two.clone()));
    assert_eq!(shown(&[&two, &one]), Some(one));
    assert_eq!(shown(&[b"other"]), None);
    assert!(certs.resolve(&[], &[SignatureScheme::ED25519]).is_none());
}

#[test]
fn bytes_that_are_no_certificate_have_no_issuer() {
    for bytes in [
        &b""[..],
        b"\x30",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80",
        b"\x30\x02\x30\x00",
    ] {
        assert_eq!(issuer(&CertificateDer::from(bytes)), None);
    }
}
