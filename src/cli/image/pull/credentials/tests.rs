use super::*;

fn read(creds: Option<&str>, auth: Option<&str>) -> anyhow::Result<Option<v1::AuthConfig>> {
    let args = CredentialArgs {
        creds: creds.map(str::to_owned),
        auth: auth.map(str::to_owned),
        anonymous: false,
    };
    args.given()
}

#[test]
fn user_and_password_are_told_apart_at_the_first_colon() {
    let auth = read(Some("me:pass:word"), None).unwrap().unwrap();
    assert_eq!(
        (auth.username.as_str(), auth.password.as_str()),
        ("me", "pass:word")
    );
    assert_eq!(read(None, None).unwrap(), None);
}

#[test]
fn base64_is_what_docker_writes() {
    let auth = read(None, Some("bWU6c2VjcmV0")).unwrap().unwrap();
    assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "secret"));
}

#[test]
fn wrong_ones_are_wrong_usage_and_are_not_repeated() {
    for (creds, auth) in [
        (Some("hunter2"), None),
        (Some(":hunter2"), None),
        (None, Some("hunter2!")),
        (None, Some("aHVudGVyMg==")),
    ] {
        let error = read(creds, auth).unwrap_err();
        assert!(crate::cli::failure::exit_code(&error).is_some());
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn standard_input_may_end_in_a_newline() {
    let text = given(Some("-"), || Ok("me:secret\r\n".to_owned())).unwrap();
    assert_eq!(text.as_deref(), Some("me:secret"));
    let flag = given(Some("x"), || panic!("not to be read")).unwrap();
    assert_eq!(flag.as_deref(), Some("x"));
}

#[tokio::test]
async fn what_is_given_goes_before_any_login() {
    let args = |creds: Option<&str>, anonymous| CredentialArgs {
        creds: creds.map(str::to_owned),
        auth: None,
        anonymous,
    };
    let given = args(Some("me:secret"), false).read().unwrap();
    let auth = given.of("registry.test/x").await.unwrap().unwrap();
    assert_eq!(auth.username, "me");
    let none = args(None, true).read().unwrap();
    assert_eq!(none.of("registry.test/x").await.unwrap(), None);
    let login = args(None, false).read().unwrap();
    // Nobody logs in to what is no registry.
    assert_eq!(login.of("NO/reference").await.unwrap(), None);
}

#[test]
fn debug_shows_no_secret() {
    let args = CredentialArgs {
        creds: Some("me:hunter2".to_owned()),
        auth: None,
        anonymous: false,
    };
    assert!(!format!("{args:?}").contains("hunter2"));
}
