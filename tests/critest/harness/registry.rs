//! A real registry on loopback with the suite's images.
//!
//! The registry's storage is filled once per build of the suite and shared; every test process serves it on a port of
//! its own, so that nothing outlives the process. With `PAUSA_CRITEST_REGISTRY` the images go to that registry
//! instead (plain HTTP), for runtimes whose configuration is not ours to write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{http, recipe, which};

/// The host in every image name; daemons are told that it is the registry on loopback.
pub(crate) const HOST: &str = "registry.test";

/// The name of an image of the suite.
pub(crate) fn named(image: &str) -> String {
    format!("{HOST}/critest/{image}")
}

/// What identifies a published image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Digest of its manifest.
    pub(crate) manifest: String,
    /// Digest of its configuration, which is its id.
    pub(crate) id: String,
}

/// A registry that has the images.
#[derive(Debug)]
pub(crate) struct Registry {
    /// `host:port`.
    pub(crate) address: String,
    images: BTreeMap<String, Published>,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    made_from: (u64, u64),
    images: BTreeMap<String, Published>,
}

impl Registry {
    /// The registry of this process.
    pub(crate) fn get() -> &'static Self {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(|| {
            let external = std::env::var("PAUSA_CRITEST_REGISTRY").ok();
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let address = external.clone().unwrap_or_else(|| serve(&storage()));
            let marker = dir.join(format!("images-{}.json", external.as_deref().unwrap_or("own")));
            let images = publish_once(&address, &marker);
            Self { address, images }
        })
    }

    /// Publishes an image of a test's own.
    pub(crate) fn push(&self, image: &recipe::Image, tag: &str) {
        push(&self.address, image, tag);
    }

    /// A published image.
    pub(crate) fn image(&self, name: &str) -> &Published {
        &self.images[name]
    }
}

/// Where a registry of this suite keeps its images.
fn storage() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("registry")
}

/// Serves `storage` until this process ends, and says where.
fn serve(storage: &Path) -> String {
    std::fs::create_dir_all(storage).expect("the registry's storage");
    let config = storage.with_extension("yml");
    // Another test process may be reading it: the new one takes its place whole.
    let beside = storage.with_extension(format!("yml.{}", std::process::id()));
    std::fs::write(&beside, configured("", "")).expect("the registry's configuration");
    std::fs::rename(&beside, &config).expect("the registry's configuration");
    run(storage, &config)
}

/// A registry with the suite's images, and doors of its own: `http` and `auth` are parts of its configuration, `dir` is the
/// caller's to keep until the end of the test. It ends with this process.
pub(crate) fn guarded(dir: &Path, http: &str, auth: &str) -> String {
    Registry::get();
    let config = dir.join("registry.yml");
    std::fs::write(&config, configured(http, auth)).expect("the registry's configuration");
    run(&storage(), &config)
}

fn configured(http: &str, auth: &str) -> String {
    let quiet = "version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\n";
    format!("{quiet}http:\n  addr: \"127.0.0.1:0\"\n  secret: critest\n{http}{auth}")
}

fn run(storage: &Path, config: &Path) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (storage, config) = (storage.to_owned(), config.to_owned());
    // The parent-death signal goes by thread, so this one stays as long as the process.
    std::thread::spawn(move || {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(which("docker-registry").expect("checked by harness::unable"))
            .arg("serve")
            .arg(&config)
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", &storage)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry starts");
        let stderr = child.stderr.take().expect("asked for above");
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
                    .collect();
                sender.send(address).ok();
            }
        }
        child.wait().ok();
    });
    receiver.recv().expect("docker-registry says where it listens")
}

/// Pushes all images unless the marker says that they are there already.
fn publish_once(address: &str, marker: &Path) -> BTreeMap<String, Published> {
    let lock = File::create(marker.with_extension("lock")).expect("the images' lock");
    flock(&lock, FlockOperation::LockExclusive).expect("the images' lock");
    let made_from = (
        modified(&which("busybox").expect("checked")),
        modified(&own_program()),
    );
    let old = std::fs::read(marker)
        .ok()
        .and_then(|text| serde_json::from_slice::<Marker>(&text).ok());
    if let Some(old) = old.filter(|old| old.made_from == made_from && has_all(address, &old.images)) {
        return old.images;
    }
    let images = recipe::all()
        .iter()
        .map(|image| publish(address, image))
        .collect();
    let new = Marker { made_from, images };
    std::fs::write(marker, serde_json::to_vec(&new).expect("plain data")).expect("the images' marker");
    new.images
}

/// Whether the registry still has what the marker says; somebody may have cleared its storage.
fn has_all(address: &str, images: &BTreeMap<String, Published>) -> bool {
    images.iter().all(|(name, image)| {
        let target = format!("/v2/critest/{name}/manifests/{}", image.manifest);
        let answer = http::request(address, "HEAD", &target, "", b"");
        answer.is_ok_and(|answer| answer.status == 200)
    })
}

fn own_program() -> PathBuf {
    std::env::current_exe().expect("our own program")
}

fn modified(path: &Path) -> u64 {
    let time = path
        .metadata()
        .and_then(|meta| meta.modified())
        .expect("a file time");
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Uploads a blob, unless the registry has it.
pub(crate) fn upload(address: &str, repository: &str, blob: &[u8]) {
    let digest = recipe::digest(blob);
    let there = http::request(address, "HEAD", &format!("{repository}/blobs/{digest}"), "", b"");
    if there.is_ok_and(|answer| answer.status == 200) {
        return;
    }
    let begun = http::request(address, "POST", &format!("{repository}/blobs/uploads/"), "", b"");
    let begun = begun.expect("the registry takes uploads");
    let place = begun
        .header("location")
        .expect("the registry says where to upload");
    let mark = if place.contains('?') { '&' } else { '?' };
    let target = format!("{place}{mark}digest={digest}");
    let put = http::request(address, "PUT", &target, "application/octet-stream", blob);
    assert_eq!(put.expect("an upload").status, 201, "upload to {target}");
}

fn publish(address: &str, image: &recipe::Image) -> (String, Published) {
    for tag in &image.tags {
        push(address, image, tag);
    }
    let published = Published {
        manifest: recipe::digest(&image.manifest),
        id: recipe::digest(&image.config),
    };
    (image.name.to_owned(), published)
}

/// Pushes one image as the distribution specification says ("Pushing a blob monolithically", "Pushing Manifests").
fn push(address: &str, image: &recipe::Image, tag: &str) {
    let repository = format!("/v2/critest/{}", image.name);
    let blobs = image.layers.iter().map(|layer| &layer.blob);
    for blob in blobs.chain([&image.config]) {
        upload(address, &repository, blob);
    }
    let target = format!("{repository}/manifests/{tag}");
    let put = http::request(address, "PUT", &target, recipe::MANIFEST, &image.manifest);
    assert_eq!(put.expect("a manifest").status, 201, "manifest to {target}");
}
