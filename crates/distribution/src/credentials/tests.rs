use super::*;
use crate::error::Kind;

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: username.into(),
        password: password.into(),
    }
}

#[test]
fn each_field_of_auth_config_is_honoured() {
    let host = "r.example:5000";
    let none = AuthFields::default();
    assert_eq!(none.credentials(host).unwrap(), Credentials::Anonymous);
    let user = AuthFields {
        username: "u".into(),
        password: "p".into(),
        ..none.clone()
    };
    assert_eq!(user.credentials(host).unwrap(), basic("u", "p"));
    let auth = AuthFields {
        auth: STANDARD.encode("u:p:q\0\0"),
        ..none.clone()
    };
    assert_eq!(auth.credentials(host).unwrap(), basic("u", "p:q"));
    let token = AuthFields {
        identity_token: "t".into(),
        ..none.clone()
    };
    assert_eq!(
        token.credentials(host).unwrap(),
        Credentials::IdentityToken("t".into())
    );
    for bad in [
        AuthFields {
            registry_token: "t".into(),
            ..none.clone()
        },
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
        assert_eq!(bad.credentials(host).unwrap_err().kind(), Kind::Config);
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
        let found = fields.credentials(host).unwrap();
        assert_eq!(
            found,
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
        fields.credentials("r").unwrap(),
        Credentials::IdentityToken("hunter3".into())
    );
    assert!(!shown.contains("hunter"), "{shown}");
}
