use super::*;
use crate::error::Kind;
use std::os::unix::fs::PermissionsExt as _;

fn config(dir: &Path, text: &str) -> DockerConfig {
    let path = dir.join("config.json");
    std::fs::write(&path, text).unwrap();
    let mut config = DockerConfig::load(&path).unwrap();
    config.helper_dir = Some(dir.to_owned());
    config
}

fn helper(dir: &Path, name: &str, script: &str) {
    let path = dir.join(format!("docker-credential-{name}"));
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

async fn login(config: &DockerConfig, name: &str) -> Result<Option<Login>, Error> {
    config.login(&name.parse().unwrap()).await
}

#[tokio::test]
async fn the_file_knows_hosts_in_every_spelling_and_namespaces() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(
        dir.path(),
        r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHVi"},
            "r.example:5000": {"username": "u", "password": "p"},
            "quay.example": {"auth": "aG9zdA=="},
            "quay.example/team": {"identitytoken": "t"},
            "left.example": {}
        }}"#,
    );
    let found = async |name: &str| login(&config, name).await.unwrap().map(|login| login.fields);
    assert_eq!(found("busybox").await.unwrap().auth, "aHVi");
    let basic = found("r.example:5000/a").await.unwrap();
    assert_eq!(
        (basic.username.as_str(), basic.server_address.as_str()),
        ("u", "r.example:5000")
    );
    assert_eq!(found("quay.example/other/x").await.unwrap().auth, "aG9zdA==");
    assert_eq!(found("quay.example/team/x").await.unwrap().identity_token, "t");
    assert!(found("left.example/a").await.is_none());
    assert!(found("r.example/a").await.is_none());
    let none = DockerConfig::load(&dir.path().join("missing")).unwrap();
    assert!(login(&none, "busybox").await.unwrap().is_none());
}

#[tokio::test]
async fn helpers_are_asked_by_host_before_the_store_and_the_file() {
    let dir = tempfile::tempdir().unwrap();
    helper(
        dir.path(),
        "own",
        r#"read s; echo "{\"ServerURL\":\"$s\",\"Username\":\"$s\",\"Secret\":\"x\"}""#,
    );
    helper(
        dir.path(),
        "all",
        r#"echo '{"Username":"<token>","Secret":"identity"}'"#,
    );
    helper(
        dir.path(),
        "none",
        "echo 'credentials not found in native keychain'; exit 1",
    );
    let config1 = config(
        dir.path(),
        r#"{"credsStore": "all", "credHelpers": {"r.example": "own", "docker.io": "own", "n.example": "none"},
            "auths": {"n.example": {"auth": "eDp5"}}}"#,
    );
    let found = async |name: &str| login(&config1, name).await.unwrap().unwrap();
    let own = found("r.example/a").await;
    assert_eq!(
        (own.fields.username.as_str(), own.from.as_str()),
        ("r.example", "docker-credential-own")
    );
    assert_eq!(found("busybox").await.fields.username, HUB);
    assert_eq!(found("other.example/a").await.fields.identity_token, "identity");
    assert_eq!(found("n.example/a").await.fields.auth, "eDp5");
}

#[tokio::test]
async fn helpers_that_fail_are_named_without_what_is_secret() {
    let dir = tempfile::tempdir().unwrap();
    helper(dir.path(), "bad", "echo 'vault is sealed'; exit 2");
    helper(dir.path(), "odd", "echo '{\"Secret\":\"s3cret\"}'");
    for (name, word) in [
        ("bad", "vault is sealed"),
        ("odd", "no credential"),
        ("missing", "cannot be run"),
        ("../x", "characters"),
    ] {
        let config = config(dir.path(), &format!(r#"{{"credsStore": "{name}"}}"#));
        let error = login(&config, "r.example/a").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let text = error.to_string();
        assert!(
            text.contains(word) && text.contains("r.example") && !text.contains("s3cret"),
            "{text}"
        );
    }
    let path = dir.path().join("config.json");
    std::fs::write(&path, "{\"auths\": {\"r\": {\"auth\": \"s3cret}").unwrap();
    let error = DockerConfig::load(&path).unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
}
