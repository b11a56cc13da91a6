//! Pulling over TLS: private authorities and client certificates, as `hosts.toml` says, read live.

use std::path::Path;

use pausa::proto::v1;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tonic::Code;

use crate::harness::node::{Node, spec};
use crate::harness::registry::{Registry, guarded};
use crate::harness::{ok, on_own_node, refused};

/// Writes `NAME.pem`, and returns who can sign for it.
fn authority(dir: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).expect("a file");
    Issuer::new(params, key)
}

/// Writes `NAME.crt` and `NAME.key`.
fn issue(dir: &Path, name: &str, host: &str, issuer: &Issuer<'_, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).expect("a file");
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
}

/// A registry with TLS; `clients` is the file of those whose certificates it wants.
fn registry(dir: &Path, clients: Option<&str>) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    let wanted = clients.map_or_else(String::new, |name| format!("    clientcas: [{}]\n", file(name)));
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n{wanted}",
        file("server.crt"),
        file("server.key")
    );
    guarded(dir, &tls, "")
}

fn hosts(node: &Node, toml: &str) {
    let dir = node.dir().join("hosts/tls.test");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("hosts.toml"), toml).expect("a file");
}

async fn pull(node: &Node) -> Result<tonic::Response<v1::PullImageResponse>, tonic::Status> {
    let request = v1::PullImageRequest {
        image: Some(spec("tls.test/critest/base:1")),
        ..Default::default()
    };
    node.images().pull_image(request).await
}

async fn works(node: &Node) {
    let id = ok("PullImage", pull(node).await).image_ref;
    assert_eq!(id, Registry::get().image("base").id);
}

/// containerd `docs/hosts.md`, "ca field", "skip_verify field".
#[test]
#[ignore = "needs root"]
fn a_private_authority_must_be_named() {
    on_own_node(async |node| {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        issue(dir, "server", "127.0.0.1", &authority(dir, "ca"));
        authority(dir, "other");
        let address = registry(dir, None);
        for settings in [
            String::new(),
            format!("ca = \"{}\"\n", dir.join("other.pem").display()),
        ] {
            hosts(node, &format!("server = \"https://{address}\"\n{settings}"));
            let text = refused(Code::Unknown, pull(node).await);
            assert!(text.starts_with("RegistryUnavailable"), "{text}");
            assert!(text.contains("certificate") && text.contains(&address), "{text}");
        }
        // A path beside the file, and one from the root.
        std::fs::copy(dir.join("ca.pem"), node.dir().join("hosts/tls.test/ca.pem")).expect("a copy");
        hosts(
            node,
            &format!("server = \"https://{address}\"\nca = \"ca.pem\"\n"),
        );
        works(node).await;
        hosts(
            node,
            &format!("server = \"https://{address}\"\nskip_verify = true\n"),
        );
        works(node).await;
        let missing = format!("server = \"https://{address}\"\nca = \"missing.pem\"\n");
        hosts(node, &missing);
        let text = refused(Code::FailedPrecondition, pull(node).await);
        assert!(text.contains("missing.pem"), "{text}");
    });
}

/// containerd `docs/hosts.md`, "client field": of several the one whose issuer the server trusts.
#[test]
#[ignore = "needs root"]
fn a_client_certificate_opens_the_door() {
    on_own_node(async |node| {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let server = authority(dir, "ca");
        issue(dir, "server", "127.0.0.1", &server);
        issue(dir, "stranger", "node", &authority(dir, "other"));
        issue(dir, "friend", "node", &authority(dir, "clients"));
        let address = registry(dir, Some("clients.pem"));
        let pair = |name: &str| {
            let file = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
            format!("[\"{}\", \"{}\"]", file("crt"), file("key"))
        };
        let base = format!(
            "server = \"https://{address}\"\nca = \"{}\"\n",
            dir.join("ca.pem").display()
        );
        for settings in [String::new(), format!("client = [{}]\n", pair("stranger"))] {
            hosts(node, &format!("{base}{settings}"));
            let text = refused(Code::Unknown, pull(node).await);
            assert!(text.starts_with("RegistryUnavailable"), "{text}");
        }
        hosts(
            node,
            &format!("{base}client = [{}, {}]\n", pair("stranger"), pair("friend")),
        );
        works(node).await;
    });
}
