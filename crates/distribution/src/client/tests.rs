use super::*;
use crate::error::Kind;
use crate::hosts::HostsDir;
use crate::test_server::{Reply, Server, client, config, reference};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

mod auth;
mod registry;

fn manifest() -> String {
    let descriptor =
        |bytes: &[u8]| json!({"mediaType": "x", "digest": Digest::sha256(bytes), "size": bytes.len()});
    json!({"schemaVersion": 2, "mediaType": manifest::OCI_MANIFEST, "config": descriptor(b"config"),
        "layers": [descriptor(b"layer")]})
    .to_string()
}

async fn resolve(client: &Client, server: &Server) -> Result<Resolved, Error> {
    client.resolve(&reference(server), &Credentials::Anonymous).await
}

#[tokio::test]
async fn a_plain_registry_on_loopback_needs_no_configuration() {
    let server = Server::start(|_| Reply::ok(manifest())).await;
    let client = Client::with_resolver(Arc::new(HostsDir::default()), config());
    let found = resolve(&client, &server).await.unwrap();
    assert_eq!(found.digest, Digest::sha256(manifest().as_bytes()));
    assert_eq!(found.endpoint, server.host());
    let request = &server.requests()[0];
    assert_eq!(request.path, "/v2/team/app/manifests/v1");
    assert!(request.header("accept").unwrap().contains(manifest::DOCKER_LIST));
    assert!(request.header("user-agent").unwrap().starts_with("pausa/"));
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn a_loopback_host_where_nobody_listens_says_so_once() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let client = Client::with_resolver(Arc::new(HostsDir::default()), config());
    let reference: Reference = format!("127.0.0.1:{port}/a").parse().unwrap();
    let error = client
        .resolve(&reference, &Credentials::Anonymous)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(matches!(error, Error::Transport { .. }), "{error}");
}

#[tokio::test]
async fn an_index_is_followed_to_the_manifest_of_the_platform() {
    let manifest = manifest();
    let digest = Digest::sha256(manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "mediaType": manifest::DOCKER_LIST, "manifests": [
        {"mediaType": manifest::OCI_MANIFEST, "digest": Digest::sha256(b"other"), "size": 5,
            "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": manifest::OCI_MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}]})
    .to_string();
    let (wanted, served) = (format!("/v2/team/app/manifests/{digest}"), index.clone());
    let server = Server::start(move |r| {
        if r.path == wanted {
            Reply::ok(&manifest)
        } else {
            Reply::ok(&served)
        }
    })
    .await;
    let (client, reference) = (client(&[&server]), reference(&server));
    let arm = Platform::new("linux", "arm64", None);
    let image = client
        .image(&reference, &arm, &Credentials::Anonymous)
        .await
        .unwrap();
    assert_eq!(image.target.digest, Digest::sha256(index.as_bytes()));
    assert_eq!(image.target.media_type, manifest::DOCKER_LIST);
    assert_eq!(image.digest, digest);
    assert_eq!(image.manifest.layers.len(), 1);
    let amd = Platform::new("linux", "amd64", None);
    let error = client
        .image(&reference, &amd, &Credentials::Anonymous)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NoMatchingPlatform);
    assert!(
        error.to_string().contains("linux/s390x, linux/arm64/v8"),
        "{error}"
    );
}

/// A reference on `server` by the digest of `bytes`.
fn at(server: &Server, bytes: &[u8]) -> Reference {
    format!("{}/team/app@{}", server.host(), Digest::sha256(bytes))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_digest_are_refused() {
    let lying = Server::start(|_| {
        Reply::ok(manifest()).with("Docker-Content-Digest", &Digest::sha256(b"x").to_string())
    })
    .await;
    assert_eq!(
        resolve(&client(&[&lying]), &lying).await.unwrap_err().kind(),
        Kind::DigestMismatch
    );
    let wrong = at(&lying, b"y");
    let error = client(&[&lying])
        .resolve(&wrong, &Credentials::Anonymous)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::DigestMismatch);
    // A mirror that lies does not matter where the registry has it.
    let good = Server::start(|_| Reply::ok(manifest())).await;
    let right = at(&good, manifest().as_bytes());
    let damaged = Server::start(|_| Reply::ok(format!("{} ", manifest()))).await;
    let found = client(&[&damaged, &good])
        .resolve(&right, &Credentials::Anonymous)
        .await
        .unwrap();
    assert_eq!(found.endpoint, good.host());
}

#[tokio::test]
async fn huge_manifests_are_refused() {
    let server = Server::start(|_| Reply::ok(vec![b' '; MAX_MANIFEST + 1])).await;
    let error = resolve(&client(&[&server]), &server).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_server_error_is_repeated_and_a_missing_image_is_not() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(503, "starting"),
        1 => Reply::new(429, "").with("Retry-After", "0"),
        _ => Reply::ok(manifest()),
    })
    .await;
    assert!(resolve(&client(&[&server]), &server).await.is_ok());
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no \u001b[31msuch"}]}"#;
    let missing = Server::start(move |_| Reply::new(404, body)).await;
    let error = resolve(&client(&[&missing]), &missing).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let text = error.to_string();
    assert!(text.contains("404 (\"MANIFEST_UNKNOWN: no [31msuch\")"), "{text}");
    assert!(
        text.contains(&missing.host()) && text.contains("/v2/team/app/manifests/v1"),
        "{text}"
    );
    assert_eq!(missing.requests().len(), 1);
}

#[tokio::test]
async fn a_rate_limit_that_asks_for_a_long_wait_is_told_at_once() {
    let server = Server::start(|_| Reply::new(429, "toomanyrequests").with("Retry-After", "3600")).await;
    let error = resolve(&client(&[&server]), &server).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(server.requests().len(), 1);
    let dated =
        Server::start(|_| Reply::new(429, "").with("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT")).await;
    let error = resolve(&client(&[&dated]), &dated).await.unwrap_err();
    assert!(
        error
            .retry_after()
            .is_some_and(|wait| wait > Duration::from_secs(3600))
    );
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_their_errors_are_told() {
    let empty = Server::start(|_| Reply::new(404, "not mirrored")).await;
    let broken = Server::start(|_| Reply::new(500, "disk full")).await;
    let good = Server::start(|_| Reply::ok(manifest())).await;
    let client3 = client(&[&empty, &broken, &good]);
    assert_eq!(resolve(&client3, &good).await.unwrap().endpoint, good.host());
    assert!(empty.requests()[0].path.contains("?ns=127.0.0.1%3A"));
    assert!(!good.requests()[0].path.contains("ns="));
    let error = resolve(&client(&[&broken, &empty]), &empty).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let text = error.to_string();
    assert!(
        text.contains("disk full") && text.contains("not mirrored"),
        "{text}"
    );
}

#[tokio::test]
async fn a_mirror_that_may_not_resolve_is_asked_for_digests_only() {
    let mirror = Server::start(|_| Reply::ok(manifest())).await;
    let origin = Server::start(|_| Reply::ok(manifest())).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(origin.host())).unwrap();
    let toml = format!(
        "server = \"{}\"\n[host.\"{}\"]\ncapabilities = [\"pull\"]\nheader = {{ x-key = \"k\" }}\n",
        origin.url(),
        mirror.url()
    );
    std::fs::write(dir.path().join(origin.host()).join("hosts.toml"), toml).unwrap();
    let client = Client::with_resolver(Arc::new(HostsDir::new([dir.path().to_owned()])), config());
    let found = resolve(&client, &origin).await.unwrap();
    assert_eq!(found.endpoint, origin.host());
    let again = client
        .fetch_manifest(&reference(&origin), &found.digest, &Credentials::Anonymous)
        .await
        .unwrap();
    assert_eq!(again.endpoint, mirror.host());
    assert_eq!(mirror.requests()[0].header("x-key"), Some("k"));
    assert_eq!(origin.requests()[0].header("x-key"), None);
    // Read live: a file that has become wrong is an error now, not at the next start.
    std::fs::write(dir.path().join(origin.host()).join("hosts.toml"), "sever = 1").unwrap();
    assert_eq!(resolve(&client, &origin).await.unwrap_err().kind(), Kind::Config);
}
