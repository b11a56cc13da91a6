use super::*;
use crate::error::Kind;
use crate::reference::Reference;
use url::Url;

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: username.into(),
        password: password.into(),
    }
}

#[test]
fn each_field_of_auth_config_is_honoured() {
    let none = AuthFields::default();
    assert_eq!(none.credentials().unwrap(), Credentials::Anonymous);
    let user = AuthFields {
        username: "u".into(),
        password: "p".into(),
        ..none.clone()
    };
    assert_eq!(user.credentials().unwrap(), basic("u", "p"));
    let auth = AuthFields {
        auth: STANDARD.encode("u:p:q\0\0"),
        ..none.clone()
    };
    assert_eq!(auth.credentials().unwrap(), basic("u", "p:q"));
    let token = AuthFields {
        identity_token: "t".into(),
        ..none.clone()
    };
    assert_eq!(
        token.credentials().unwrap(),
        Credentials::IdentityToken("t".into())
    );
    let registry = AuthFields {
        registry_token: "t".into(),
        ..none.clone()
    };
    assert_eq!(
        registry.credentials().unwrap(),
        Credentials::RegistryToken("t".into())
    );
    for bad in [
        AuthFields {
            auth: "%%%".into(),
            ..none.clone()
        },
        AuthFields {
            auth: STANDARD.encode("nocolon"),
            ..none.clone()
        },
        AuthFields {
            auth: STANDARD.encode([0xff, b':']),
            ..none
        },
    ] {
        assert_eq!(bad.credentials().unwrap_err().kind(), Kind::Config);
    }
}

#[test]
fn credentials_of_another_server_are_ignored() {
    for (server, host, used) in [
        ("", "r.example", true),
        ("r.example", "r.example", true),
        ("https://r.example/", "r.example", true),
        ("https://r.example:5000/v2/", "r.example:5000", true),
        ("https://index.docker.io/v1/", "docker.io", true),
        ("r.example", "r.example:5000", false),
        ("other.example", "r.example", false),
    ] {
        let fields = AuthFields {
            username: "u".into(),
            password: "p".into(),
            server_address: server.into(),
            ..AuthFields::default()
        };
        let reference: Reference = format!("{host}/team/app").parse().unwrap();
        let endpoint = Endpoint::new(Url::parse("https://elsewhere.example/v2").unwrap(), &reference);
        let found = fields.credentials().unwrap();
        assert_eq!(
            *found.at(&endpoint),
            if used {
                basic("u", "p")
            } else {
                Credentials::Anonymous
            },
            "{server} {host}"
        );
    }
}

#[test]
fn nothing_secret_is_printed() {
    let fields = AuthFields {
        username: "hunter".into(),
        password: "hunter2".into(),
        ..AuthFields::default()
    };
    let shown = format!(
        "{fields:?} {:?} {:?}",
        fields.credentials().unwrap(),
        Credentials::IdentityToken("hunter3".into())
    );
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn a_mirror_gets_only_what_is_for_it() {
    let reference: Reference = "r.example/a".parse().unwrap();
    let mut mirror = Endpoint::new(Url::parse("https://m.example:5000/v2").unwrap(), &reference);
    mirror.role = Role::Mirror;
    for (server, used) in [
        ("", true),
        ("r.example", false),
        ("https://m.example:5000", true),
        ("m.example", false),
    ] {
        let fields = AuthFields {
            username: "u".into(),
            server_address: server.into(),
            ..AuthFields::default()
        };
        let found = fields.credentials().unwrap();
        assert_eq!(*found.at(&mirror) == basic("u", ""), used, "{server}");
    }
}
