use super::*;
use crate::test_server::{Reply, Server};

const LIMIT: Duration = Duration::from_secs(10);

fn registries(files: &[(&str, &str)]) -> (tempfile::TempDir, Registries) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let found =
        Registries::new([dir.path().join("hosts")]).with_conf(dir.path().join("registries.conf"), false);
    (dir, found)
}

#[tokio::test]
async fn each_server_is_asked_once_for_the_base_of_its_api() {
    let server = Server::start(|_| Reply::new(401, "")).await;
    let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = refusing.local_addr().unwrap();
    drop(refusing);
    let text = format!("server = \"{}\"\n[host.\"http://{closed}\"]\n", server.url());
    let (_dir, registries) = registries(&[("hosts/r.example/hosts.toml", &text)]);
    let samples = registries.samples().unwrap();
    assert_eq!(samples.len(), 1);
    let reached = reach(&registries, &samples[0], &Proxies::default(), LIMIT).await;
    let reached = reached.unwrap();
    let [mirror, registry] = &reached[..] else {
        panic!("{reached:?}");
    };
    assert!(mirror.is_mirror && mirror.outcome.is_err(), "{mirror:?}");
    assert!(!registry.is_mirror && !registry.by_proxy);
    assert_eq!(registry.outcome.as_ref().ok(), Some(&401));
    assert_eq!(registry.host, server.host());
    let paths: Vec<String> = server.requests().into_iter().map(|one| one.path).collect();
    assert_eq!(paths, ["/v2/"]);
}

#[tokio::test]
async fn a_server_on_loopback_may_speak_no_tls() {
    let server = Server::start(|_| Reply::ok("{}")).await;
    let (_dir, registries) = registries(&[]);
    let reference = format!("{}/app", server.host()).parse().unwrap();
    let reached = reach(&registries, &reference, &Proxies::default(), LIMIT).await;
    let reached = reached.unwrap();
    assert_eq!(reached.len(), 1, "{reached:?}");
    assert_eq!(reached[0].outcome.as_ref().ok(), Some(&200));
}

#[test]
fn samples_are_of_all_files_and_without_wildcards() {
    let (_dir, registries) = registries(&[
        ("hosts/_default/hosts.toml", ""),
        ("hosts/a.example_5000_/hosts.toml", ""),
        ("hosts/b.example:80/hosts.toml", ""),
        (
            "registries.conf",
            "unqualified-search-registries = [\"s.example\"]\n[[registry]]\nprefix = \"*.w.example\"\n[[registry]]\nprefix = \"p.example/team\"\nlocation = \"q.example\"\n",
        ),
    ]);
    let samples = registries.samples().unwrap();
    let shown: Vec<String> = samples.iter().map(|sample| sample.name()).collect();
    assert_eq!(
        shown,
        [
            "a.example:5000/pausa",
            "b.example:80/pausa",
            "s.example/pausa",
            "p.example/team/pausa"
        ]
    );
}
