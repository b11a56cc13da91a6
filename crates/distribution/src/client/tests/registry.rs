//! Round trips with the real registry (distribution's `docker-registry`): plain, with Basic, and over TLS with an own CA.

use super::*;
use crate::manifest::Descriptor;
use crate::test_server::descriptor;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// bcrypt of the password `s3cret`.
const HTPASSWD: &str = "u:$2b$04$IuyWDxwu6mb55kSbx4N91O6Zjt4WEgq7Pn9ylFEnnTwsQxCES4Vpu\n";

struct Registry {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

impl Registry {
    /// Starts one on a free port with additions to its configuration, `None` where the program is missing.
    fn start(http: &str, rest: &str, dir: tempfile::TempDir) -> Option<Self> {
        if !on_path("docker-registry") {
            println!("skipped: docker-registry is not on PATH");
            return None;
        }
        let address = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let root = dir.path().join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {address}\n{http}{rest}",
            root.display()
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, address, dir };
        // Up when it listens; a registry that dies instead makes the pushes fail.
        for _ in 0..200 {
            if std::net::TcpStream::connect(&registry.address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(registry)
    }

    /// Uploads through `http`, which knows the registry's scheme and secrets.
    async fn push(&self, scheme: &str, http: &reqwest::Client, blobs: &[&[u8]], manifest: &str) {
        let base = format!("{scheme}://{}/v2/team/app", self.address);
        let auth = |request: reqwest::RequestBuilder| request.basic_auth("u", Some("s3cret"));
        for blob in blobs {
            let begun = auth(http.post(format!("{base}/blobs/uploads/")))
                .send()
                .await
                .unwrap();
            let location = begun.headers()["location"].to_str().unwrap().to_owned();
            let url = format!("{location}&digest={}", Digest::sha256(blob));
            let done = auth(http.put(url).body(blob.to_vec())).send().await.unwrap();
            assert_eq!(done.status(), 201);
        }
        let request = http.put(format!("{base}/manifests/v1")).body(manifest.to_owned());
        let done = auth(request.header("content-type", manifest::OCI_MANIFEST))
            .send()
            .await
            .unwrap();
        assert_eq!(done.status(), 201);
    }

    fn reference(&self) -> Reference {
        format!("{}/team/app:v1", self.address).parse().unwrap()
    }
}

fn layer() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

/// Pushes an image and pulls it again in every way.
async fn round_trip(registry: &Registry, scheme: &str, client: &Client, credentials: &Credentials) {
    let http = client.inner.connections.client(
        &client.inner.resolver.endpoints(&registry.reference()).unwrap()[0],
        Duration::from_secs(5),
    );
    let layer = layer();
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest::OCI_MANIFEST,
        "config": value(&descriptor(b"{}")), "layers": [value(&descriptor(&layer))]})
    .to_string();
    registry
        .push(scheme, &http.unwrap(), &[b"{}", &layer], &manifest)
        .await;
    let reference = registry.reference();
    let digest = Digest::sha256(manifest.as_bytes());
    let image = client
        .image(&reference, &Platform::host(), credentials)
        .await
        .unwrap();
    assert_eq!(
        (image.digest, image.target.media_type.as_str()),
        (digest, manifest::OCI_MANIFEST)
    );
    let config = client
        .fetch_small(&reference, &image.manifest.config, 100, credentials)
        .await
        .unwrap();
    assert_eq!(config, "{}");
    for offset in [0, 123_456] {
        let mut stream = client
            .fetch_blob(
                &reference,
                &image.manifest.layers[0],
                u64::try_from(offset).unwrap(),
                credentials,
            )
            .await
            .unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.chunk().await.unwrap() {
            bytes.extend_from_slice(&chunk);
        }
        assert!(bytes == layer[offset..]);
    }
    let missing: Reference = format!("{}/team/app:v2", registry.address).parse().unwrap();
    let error = client.resolve(&missing, credentials).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("MANIFEST_UNKNOWN"), "{error}");
}

fn value(descriptor: &Descriptor) -> serde_json::Value {
    json!({"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size})
}

fn patient(hosts: HostsDir) -> Client {
    Client::with_resolver(
        Arc::new(hosts),
        ClientConfig {
            stall_timeout: Duration::from_secs(30),
            ..config()
        },
    )
}

#[tokio::test]
async fn a_plain_registry_with_basic_authentication() {
    let dir = tempfile::tempdir().unwrap();
    let htpasswd = dir.path().join("htpasswd");
    std::fs::write(&htpasswd, HTPASSWD).unwrap();
    let auth = format!(
        "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
        htpasswd.display()
    );
    let Some(registry) = Registry::start("", &auth, dir) else {
        return;
    };
    let client = patient(HostsDir::default());
    let user = Credentials::Basic {
        username: "u".into(),
        password: "s3cret".into(),
    };
    round_trip(&registry, "http", &client, &user).await;
    let error = client
        .resolve(&registry.reference(), &Credentials::Anonymous)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
}

/// A CA and a server certificate for 127.0.0.1 signed by it; `None` where `openssl` is missing.
fn certificates(dir: &Path) -> Option<(PathBuf, PathBuf, PathBuf)> {
    if !on_path("openssl") {
        println!("skipped: openssl is not on PATH");
        return None;
    }
    let run = |args: &str| {
        let done = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{args}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    run(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca",
    );
    run("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout s.key -out s.csr -subj /CN=registry");
    std::fs::write(
        dir.join("ext"),
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
    )
    .unwrap();
    run("x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem -days 2 -extfile ext");
    Some((dir.join("ca.pem"), dir.join("s.pem"), dir.join("s.key")))
}

#[tokio::test]
async fn a_tls_registry_with_its_own_ca_and_client_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let Some((ca, cert, key)) = certificates(dir.path()) else {
        return;
    };
    let tls = format!(
        "  tls: {{certificate: {}, key: {}, clientcas: [{}]}}\n",
        cert.display(),
        key.display(),
        ca.display()
    );
    let Some(registry) = Registry::start(&tls, "", dir) else {
        return;
    };
    let hosts = registry.dir.path().join("certs.d").join(&registry.address);
    std::fs::create_dir_all(&hosts).unwrap();
    let client = patient(HostsDir::new([registry.dir.path().join("certs.d")]));
    let resolve = async |toml: &str| {
        std::fs::write(hosts.join("hosts.toml"), toml).unwrap();
        client
            .resolve(&registry.reference(), &Credentials::Anonymous)
            .await
            .unwrap_err()
    };
    // Not trusted, and never asked in plain text instead.
    assert_eq!(resolve("").await.kind(), Kind::Unavailable);
    // Trusted, but the server wants to know who we are.
    assert_eq!(
        resolve(&format!("ca = \"{}\"", ca.display())).await.kind(),
        Kind::Unavailable
    );
    assert_eq!(
        resolve(&format!("ca = \"{}\"", key.display())).await.kind(),
        Kind::Config
    );
    let identity = format!("client = [[\"{}\", \"{}\"]]", cert.display(), key.display());
    let error = resolve(&format!("skip_verify = true\n{identity}")).await;
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    std::fs::write(
        hosts.join("hosts.toml"),
        format!("ca = [\"{}\"]\n{identity}", ca.display()),
    )
    .unwrap();
    round_trip(&registry, "https", &client, &Credentials::Anonymous).await;
}
