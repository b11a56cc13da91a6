//! A real registry (`docker-registry` of the distribution project) behind a proxy that counts requests and
//! can hold them back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::builder::Built;

#[derive(Default)]
struct Gate {
    /// Request lines with the requested range, and a part of the paths that are held back.
    seen: Mutex<(Vec<String>, Option<String>)>,
    changed: Condvar,
    /// Requests that fail, by a part of their path.
    faults: Mutex<Vec<(String, Fault)>>,
}

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refused with 403.
    Refuse,
    /// Answered with 503.
    Unavailable,
    /// Refused with 401 without a password. Any password is accepted.
    Login,
    /// The connection ends after this number of bytes, and later requests are refused.
    Cut(u64),
    /// As `Cut`, with the last of these bytes changed.
    Spoil(u64),
    /// The answer stops after this number of bytes. The connection ends when the registry is
    /// [healed](Registry::heal).
    Stall(u64),
}

pub(crate) struct Registry {
    child: Child,
    direct: String,
    address: String,
    gate: Arc<Gate>,
    _dir: tempfile::TempDir,
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

/// Whether all programs are installed. Prints what is missing.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|program| !on_path(program)).collect();
    if !missing.is_empty() {
        println!("skipped: {missing:?} not on PATH");
    }
    missing.is_empty()
}

impl Registry {
    /// `None` if the program is missing.
    pub(crate) fn start() -> Option<Self> {
        if !have(&["docker-registry"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let direct = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {direct}}}\n",
            dir.path().join("data").display()
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
        for _ in 0..200 {
            if TcpStream::connect(&direct).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let gate = Arc::new(Gate::default());
        let address = proxy(direct.clone(), Arc::clone(&gate));
        Some(Self {
            child,
            direct,
            address,
            gate,
            _dir: dir,
        })
    }

    /// `host:port/name`.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// How many requests had a path with `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        let seen = self.gate.seen.lock().unwrap();
        seen.0.iter().filter(|line| line.contains(part)).count()
    }

    /// Holds requests for blobs back, or releases them.
    pub(crate) fn hold(&self, hold: bool) {
        self.gate.seen.lock().unwrap().1 = hold.then(|| "/blobs/".to_owned());
        self.gate.changed.notify_all();
    }

    /// Holds paths with `part` back.
    pub(crate) fn hold_part(&self, part: &str) {
        self.gate.seen.lock().unwrap().1 = Some(part.to_owned());
    }

    pub(crate) fn release(&self) {
        self.hold(false);
    }

    /// From here on requests for paths with `part` fail.
    pub(crate) fn fail(&self, part: &str, fault: Fault) {
        self.gate.faults.lock().unwrap().push((part.to_owned(), fault));
    }

    /// Ends all faults. Answers that stall end without the rest.
    pub(crate) fn heal(&self) {
        self.gate.faults.lock().unwrap().clear();
        self.gate.changed.notify_all();
    }

    /// The last request with `part` in it.
    pub(crate) fn last(&self, part: &str) -> String {
        let seen = self.gate.seen.lock().unwrap();
        let mut found = seen.0.iter().filter(|line| line.contains(part));
        found.next_back().unwrap().clone()
    }

    /// Waits until a path with `part` was requested.
    pub(crate) fn wait_for(&self, part: &str) {
        let mut seen = self.gate.seen.lock().unwrap();
        while !seen.0.iter().any(|line| line.contains(part)) {
            let (changed, waited) = self
                .gate
                .changed
                .wait_timeout(seen, Duration::from_secs(30))
                .unwrap();
            assert!(!waited.timed_out(), "no request for {part}");
            seen = changed;
        }
    }

    /// Uploads an image as `name:tag`.
    pub(crate) fn push(&self, name: &str, tag: &str, image: &Built) {
        for blob in image.blobs() {
            self.push_blob(name, blob, &super::builder::digest(blob));
        }
        let path = format!("/v2/{name}/manifests/{tag}");
        let head = self.send("PUT", &path, image.media_type, &image.manifest);
        assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    }

    fn push_blob(&self, name: &str, blob: &[u8], digest: &str) {
        let head = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), "", &[]);
        let location = head
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .unwrap()
            .trim();
        let path = location
            .split_once(&self.direct)
            .map_or(location, |(_, path)| path);
        let head = self.send("PUT", &format!("{path}&digest={digest}"), "", blob);
        assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    }

    fn send(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.direct).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.direct,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn proxy(upstream: String, gate: Arc<Gate>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (upstream, gate) = (upstream.clone(), Arc::clone(&gate));
            // Only the tests connect here, and the listener is never closed.
            let Ok(client) = client else { return };
            std::thread::spawn(move || drop(forward(client, &upstream, &gate)));
        }
    });
    address
}

fn forward(mut client: TcpStream, upstream: &str, gate: &Gate) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let range = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("range:"));
    let first = [head.lines().next().unwrap_or_default(), range.unwrap_or_default()].join(" ");
    {
        let mut seen = gate.seen.lock().unwrap();
        seen.0.push(first.clone());
        gate.changed.notify_all();
        while seen.1.as_ref().is_some_and(|part| first.contains(part)) {
            seen = gate.changed.wait(seen).unwrap();
        }
    }
    let fault = gate.fault(&first);
    if fault == Some(Fault::Unavailable) {
        return client.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    if fault == Some(Fault::Refuse) {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if fault == Some(Fault::Login) && !head.to_ascii_lowercase().contains("\nauthorization: basic ") {
        return client.write_all(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let mut server = TcpStream::connect(upstream)?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(head.as_bytes())?;
    if let Some(Fault::Cut(bytes) | Fault::Spoil(bytes) | Fault::Stall(bytes)) = fault {
        let mut part = Vec::new();
        (&mut server).take(bytes).read_to_end(&mut part)?;
        if let (Some(Fault::Spoil(_)), Some(last)) = (fault, part.last_mut()) {
            *last ^= 1;
        }
        client.write_all(&part)?;
        if let Some(Fault::Stall(_)) = fault {
            gate.until_healed(&first);
        }
    } else {
        std::io::copy(&mut server, &mut client)?;
    }
    client.shutdown(std::net::Shutdown::Both)
}

impl Gate {
    /// The fault of this request. After a cut, requests are refused.
    fn fault(&self, request: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (_, fault) = faults
            .iter_mut()
            .find(|(part, _)| request.contains(part.as_str()))?;
        let now = *fault;
        if matches!(now, Fault::Cut(_) | Fault::Spoil(_)) {
            *fault = Fault::Refuse;
        }
        Some(now)
    }

    fn until_healed(&self, request: &str) {
        let mut faults = self.faults.lock().unwrap();
        while faults.iter().any(|(part, _)| request.contains(part.as_str())) {
            faults = self.changed.wait(faults).unwrap();
        }
    }
}
