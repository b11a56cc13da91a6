use super::*;
use crate::registries::Registries;

fn setup(files: &[(&str, &str)]) -> (tempfile::TempDir, Registries) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let registries =
        Registries::new([dir.path().join("hosts")]).with_conf(dir.path().join("registries.conf"), true);
    (dir, registries)
}

#[test]
fn the_endpoints_of_a_pull_are_explained_without_secrets() {
    let (dir, registries) = setup(&[
        (
            "registries.conf",
            "[[registry]]\nprefix = \"r.example\"\nlocation = \"in.example/r\"\n[[registry.mirror]]\nlocation = \"m.example\"\ninsecure = true\n[aliases]\napp = \"r.example/app\"\n",
        ),
        (
            "hosts/in.example/hosts.toml",
            "server = \"https://in.example\"\nca = \"ca.pem\"\nproxy = \"http://u:s3cret@p:1\"\ndial_timeout = \"1s\"\n[header]\nx-key = \"s3cret\"\n",
        ),
        ("hosts/in.example/ca.pem", ""),
    ]);
    let told = explain(&registries, "app:1", &Proxies::default()).unwrap();
    let [path] = &told.references[..] else {
        panic!("{told:?}");
    };
    assert_eq!(path.reference, "r.example/app:1");
    let urls: Vec<&str> = path.endpoints.iter().map(|step| step.url.as_str()).collect();
    assert_eq!(
        urls,
        [
            "https://m.example/v2",
            "http://m.example/v2",
            "https://in.example/v2"
        ]
    );
    let [mirror, plain, origin] = &path.endpoints[..] else {
        panic!("{path:?}");
    };
    assert_eq!(
        (mirror.role, mirror.transport),
        ("mirror", "TLS, any certificate")
    );
    assert_eq!(plain.transport, "plain HTTP");
    assert!(plain.condition.is_some() && mirror.rule.as_ref().unwrap().contains("m.example"));
    assert_eq!(origin.repository, "r/app");
    assert_eq!((origin.role, origin.transport), ("registry", "TLS, verified"));
    assert_eq!(origin.key.as_deref(), Some("server"));
    assert_eq!(origin.certificates.len(), 1);
    assert_eq!(origin.headers, ["x-key"]);
    assert_eq!(origin.proxy.as_deref(), Some("http://p:1"));
    assert_eq!(origin.dial_timeout_ms, Some(1000));
    assert!(!format!("{told:?}").contains("s3cret"), "{told:?}");
    drop(dir);
}

#[test]
fn what_is_refused_says_why() {
    let (_dir, registries) = setup(&[
        (
            "registries.conf",
            "[[registry]]\nlocation = \"bad.example\"\nblocked = true\n",
        ),
        ("hosts/odd.example/hosts.toml", "skipverify = true"),
    ]);
    let told = |text: &str| {
        let told = explain(&registries, text, &Proxies::default());
        told.unwrap().references.remove(0)
    };
    let blocked = told("bad.example/a");
    assert!(blocked.blocked && blocked.refused.unwrap().contains("registries.conf"));
    let mistaken = told("odd.example/a");
    assert!(!mistaken.blocked && mistaken.refused.unwrap().contains("skipverify"));
    let plain = told("r.example/a");
    assert_eq!(plain.endpoints[0].file, None);
    assert!(explain(&registries, "UPPER", &Proxies::default()).is_err());
}
