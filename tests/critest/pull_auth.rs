//! Pulling with credentials, from registries that want a password or a token.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pausa::proto::v1;
use tonic::Code;

use crate::harness::issuer::{self, PASSWORD, REFRESH, USER};
use crate::harness::node::{Node, spec};
use crate::harness::registry::{Registry, guarded};
use crate::harness::{ok, on_own_node, refused};

/// `alice:s3cret`, made with the smallest cost there is.
const HTPASSWD: &str = "alice:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";

/// The answer to a pull of `base` from the host `guarded.test`.
async fn pull(
    node: &Node,
    auth: Option<v1::AuthConfig>,
) -> Result<tonic::Response<v1::PullImageResponse>, tonic::Status> {
    let request = v1::PullImageRequest {
        image: Some(spec("guarded.test/critest/base:1")),
        auth,
        ..Default::default()
    };
    node.images().pull_image(request).await
}

/// Tells the daemon where `guarded.test` is.
fn point(node: &Node, address: &str) {
    let dir = node.dir().join("hosts/guarded.test");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("hosts.toml"), format!("server = \"http://{address}\"\n")).expect("a file");
}

fn user(password: &str) -> v1::AuthConfig {
    v1::AuthConfig {
        username: USER.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

fn with_basic(dir: &Path) -> String {
    let file = dir.join("htpasswd");
    std::fs::write(&file, HTPASSWD).expect("a password file");
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: critest\n    path: {}\n",
        file.display()
    );
    guarded(dir, "", &auth)
}

async fn denied(node: &Node, auth: Option<v1::AuthConfig>) {
    let text = refused(Code::Unauthenticated, pull(node, auth).await);
    assert!(text.contains("127.0.0.1:"), "names the host: {text}");
    let encoded = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    assert!(!text.contains(PASSWORD) && !text.contains(&encoded), "{text}");
}

async fn let_in(node: &Node, auth: v1::AuthConfig) {
    let id = ok("PullImage", pull(node, Some(auth)).await).image_ref;
    assert_eq!(id, Registry::get().image("base").id);
}

/// CRI `AuthConfig`: user name and password, or both in `auth`; `server_address` says whom they are for.
#[test]
#[ignore = "needs root"]
fn a_registry_that_wants_a_password() {
    on_own_node(async |node| {
        let dir = tempfile::tempdir().expect("a directory");
        point(node, &with_basic(dir.path()));
        denied(node, None).await;
        denied(node, Some(v1::AuthConfig::default())).await;
        denied(node, Some(user("wrong"))).await;
        let mut elsewhere = user(PASSWORD);
        elsewhere.server_address = "other.test".to_owned();
        denied(node, Some(elsewhere)).await;
        let_in(node, user(PASSWORD)).await;
        let mut here = user(PASSWORD);
        here.server_address = "https://guarded.test/v1/".to_owned();
        let_in(node, here).await;
        let_in(
            node,
            v1::AuthConfig {
                auth: STANDARD.encode(format!("{USER}:{PASSWORD}")),
                ..Default::default()
            },
        )
        .await;
        // What one request may, another without credentials may not.
        denied(node, None).await;
        let broken = v1::AuthConfig {
            auth: "%%%".to_owned(),
            ..Default::default()
        };
        refused(Code::FailedPrecondition, pull(node, Some(broken)).await);
    });
}

/// CRI `AuthConfig` with a token server: the password, an identity token by OAuth2, and a token for the registry itself.
#[test]
#[ignore = "needs root"]
fn a_registry_that_wants_a_token() {
    on_own_node(async |node| {
        let dir = tempfile::tempdir().expect("a directory");
        point(node, &guarded(dir.path(), "", &issuer::start(dir.path())));
        denied(node, None).await;
        denied(node, Some(user("wrong"))).await;
        let_in(node, user(PASSWORD)).await;
        let identity = |token: &str| v1::AuthConfig {
            identity_token: token.to_owned(),
            ..Default::default()
        };
        denied(node, Some(identity("wrong"))).await;
        let_in(node, identity(REFRESH)).await;
        let registry = v1::AuthConfig {
            registry_token: "no.such.token".to_owned(),
            ..Default::default()
        };
        let text = refused(Code::Unauthenticated, pull(node, Some(registry)).await);
        assert!(!text.contains("no.such.token"), "{text}");
    });
}
