//! Challenges, tokens and where credentials may go.

use super::*;
use crate::test_server::descriptor;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

fn user() -> Credentials {
    Credentials::Basic {
        username: "u".into(),
        password: "s3cret".into(),
    }
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode("u:s3cret"))
}

/// A registry that wants Bearer tokens from `realm`, `token` being the good one.
async fn bearer(realm: String, token: &'static str) -> Server {
    Server::start(move |r| {
        if r.header("authorization") == Some(&format!("Bearer {token}")) {
            return Reply::ok(manifest());
        }
        let challenge =
            format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:team/app:pull\"");
        Reply::new(401, "{}").with("WWW-Authenticate", &challenge)
    })
    .await
}

#[tokio::test]
async fn basic_is_answered_once_asked_and_remembered() {
    let server = Server::start(|r| match r.header("authorization") {
        Some(given) if given == basic() => Reply::ok(manifest()),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let (client, reference) = (client(&[&server]), reference(&server));
    client.resolve(&reference, &user()).await.unwrap();
    client.resolve(&reference, &user()).await.unwrap();
    let sent: Vec<bool> = server
        .requests()
        .iter()
        .map(|r| r.header("authorization").is_some())
        .collect();
    assert_eq!(sent, [false, true, true]);
    // What one secret opened stays closed to others.
    let error = client
        .resolve(&reference, &Credentials::Anonymous)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(error.to_string().contains("no credentials were given"), "{error}");
    let wrong = Credentials::Basic {
        username: "u".into(),
        password: "another".into(),
    };
    let error = client.resolve(&reference, &wrong).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(!format!("{error} {error:?} {client:?}").contains("another"));
}

#[tokio::test]
async fn tokens_are_fetched_with_each_kind_of_credentials_and_kept() {
    let tokens = Server::start(|r| match (r.method.as_str(), r.header("authorization")) {
        ("GET", Some(given)) if given == basic() => Reply::ok(r#"{"token":"good","expires_in":300}"#),
        ("GET", None) => Reply::ok(r#"{"access_token":"good"}"#),
        ("POST", None) => Reply::ok(r#"{"access_token":"good","expires_in":300}"#),
        _ => Reply::new(401, "who?"),
    })
    .await;
    let server = bearer(format!("{}/token?x=1", tokens.url()), "good").await;
    let (client, reference) = (client(&[&server]), reference(&server));
    for credentials in [
        user(),
        Credentials::Anonymous,
        Credentials::IdentityToken("refresh".into()),
    ] {
        client.resolve(&reference, &credentials).await.unwrap();
        client.resolve(&reference, &credentials).await.unwrap();
    }
    let asked = tokens.requests();
    assert_eq!(asked.len(), 3);
    assert_eq!(
        asked[0].path,
        "/token?x=1&scope=repository%3Ateam%2Fapp%3Apull&service=reg"
    );
    assert_eq!(asked[2].method, "POST");
    assert!(
        asked[2].body.contains("grant_type=refresh_token") && asked[2].body.contains("refresh_token=refresh")
    );
    assert!(!asked[2].path.contains("refresh"));
    assert_eq!(server.requests().len(), 3 * 3);
}

#[tokio::test]
async fn a_token_that_no_longer_works_is_replaced_once() {
    // Tokens are t1, t2, …; the registry accepts the one called `good`.
    let issued = AtomicUsize::new(0);
    let tokens = Server::start(move |_| {
        let n = issued.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::ok(format!(r#"{{"token":"t{n}","expires_in":300}}"#))
    })
    .await;
    let good = Arc::new(AtomicUsize::new(1));
    let (realm, wanted) = (tokens.url(), Arc::clone(&good));
    let server = Server::start(move |r| {
        if r.header("authorization") == Some(&format!("Bearer t{}", wanted.load(Ordering::SeqCst))) {
            return Reply::ok(manifest());
        }
        Reply::new(401, "").with("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))
    })
    .await;
    let client = client(&[&server]);
    resolve(&client, &server).await.unwrap();
    good.store(2, Ordering::SeqCst); // as if the first had been revoked
    resolve(&client, &server).await.unwrap();
    assert_eq!(tokens.requests().len(), 2);
    good.store(99, Ordering::SeqCst);
    let before = server.requests().len();
    assert_eq!(
        resolve(&client, &server).await.unwrap_err().kind(),
        Kind::Unauthorized
    );
    assert_eq!(server.requests().len(), before + 2);
}

#[tokio::test]
async fn requests_at_the_same_time_share_one_token() {
    let tokens = Server::start(|r| match r.header("authorization") {
        Some(given) if given == basic() => Reply::ok(r#"{"token":"good","expires_in":300}"#),
        _ => Reply::new(403, "not you"),
    })
    .await;
    let server = bearer(tokens.url(), "good").await;
    let (client, reference) = (client(&[&server]), reference(&server));
    let user = user();
    let all = (0..8).map(|_| client.resolve(&reference, &user));
    for resolved in futures_util::future::join_all(all).await {
        resolved.unwrap();
    }
    assert_eq!(tokens.requests().len(), 1);
    // Others with other credentials get no part in it, and everybody hears of the failure.
    let all = (0..4).map(|_| client.resolve(&reference, &Credentials::Anonymous));
    for refused in futures_util::future::join_all(all).await {
        assert_eq!(refused.unwrap_err().kind(), Kind::Unauthorized);
    }
    client.resolve(&reference, &user).await.unwrap();
    assert!(
        tokens
            .requests()
            .iter()
            .filter(|r| r.header("authorization").is_some())
            .count()
            == 1
    );
}

#[tokio::test]
async fn what_the_token_server_says_is_told_without_secrets() {
    let tokens = Server::start(|_| Reply::new(403, "go away")).await;
    let server = bearer(tokens.url(), "good").await;
    let error = client(&[&server])
        .resolve(&reference(&server), &user())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    let text = format!("{error} {error:?}");
    assert!(
        text.contains(&tokens.host()) && text.contains("go away"),
        "{text}"
    );
    assert!(
        !text.contains("s3cret") && !text.contains(&STANDARD.encode("u:s3cret")),
        "{text}"
    );
    let garbage = Server::start(|_| Reply::ok("<html>")).await;
    let server = bearer(garbage.url(), "good").await;
    assert_eq!(
        resolve(&client(&[&server]), &server).await.unwrap_err().kind(),
        Kind::InvalidAnswer
    );
}

#[tokio::test]
async fn schemes_nobody_can_answer_are_named() {
    let server = Server::start(|_| Reply::new(401, "").with("WWW-Authenticate", "Negotiate, NTLM")).await;
    let error = client(&[&server])
        .resolve(&reference(&server), &user())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(error.to_string().contains("negotiate, ntlm"), "{error}");
    let silent = Server::start(|_| Reply::new(401, "")).await;
    assert_eq!(
        resolve(&client(&[&silent]), &silent).await.unwrap_err().kind(),
        Kind::Unauthorized
    );
}

#[tokio::test]
async fn a_redirect_to_another_host_carries_no_credentials() {
    let storage = Server::start(|_| Reply::ok("layer")).await;
    let location = format!("{}/bucket?signature=abc", storage.url());
    let server = Server::start(
        move |r| match (r.header("authorization"), r.path.starts_with("/again")) {
            (Some(_), true) => Reply::new(302, "").with("Location", &location),
            // On the same host they go along.
            (Some(_), false) => Reply::new(307, "").with("Location", "/again"),
            (None, _) => Reply::new(401, "").with("WWW-Authenticate", "Basic"),
        },
    )
    .await;
    let found = client(&[&server])
        .fetch_small(&reference(&server), &descriptor(b"layer"), 10, &user())
        .await;
    assert_eq!(found.unwrap(), "layer");
    assert_eq!(storage.requests().len(), 1);
    assert_eq!(storage.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_challenge_from_where_a_redirect_led_is_not_answered() {
    let storage = Server::start(|_| Reply::new(401, "").with("WWW-Authenticate", "Basic")).await;
    let location = storage.url();
    let server = Server::start(move |_| Reply::new(302, "").with("Location", &location)).await;
    let error = client(&[&server])
        .resolve(&reference(&server), &user())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert_eq!(storage.requests().len(), 1);
    assert!(error.to_string().contains(&storage.host()), "{error}");
}

#[tokio::test]
async fn redirects_that_lead_astray_are_refused() {
    for location in ["/v2/loop", "file:///etc/passwd", "http://[bad"] {
        let server = Server::start(move |_| Reply::new(302, "").with("Location", location)).await;
        let error = resolve(&client(&[&server]), &server).await.unwrap_err();
        assert!(matches!(error, Error::Redirect { .. }), "{location}: {error}");
    }
    let check = |from: &str, to: &str| {
        transport::allowed(&url::Url::parse(from).unwrap(), &url::Url::parse(to).unwrap()).is_ok()
    };
    assert!(check("https://a.example", "https://b.example"));
    assert!(check("http://a.example", "https://b.example"));
    assert!(!check("https://a.example", "http://a.example"));
    assert!(!check("https://a.example", "https://127.0.0.1:10250"));
    for here in [
        "[::1]",
        "0.0.0.0",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "localhost",
        // Where cloud providers serve the node's identity.
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00:ec2::254]",
    ] {
        assert!(!check("http://a.example", &format!("http://{here}/")), "{here}");
    }
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let server = bearer("http://127.0.0.1:1/token".to_owned(), "own-token").await;
    let token = Credentials::RegistryToken("own-token".into());
    let client = client(&[&server]);
    for requests in [2, 3] {
        client.resolve(&reference(&server), &token).await.unwrap();
        assert_eq!(server.requests().len(), requests);
    }
    let basic = Server::start(|_| Reply::new(401, "").with("WWW-Authenticate", "Basic")).await;
    let error = super::client(&[&basic])
        .resolve(&reference(&basic), &token)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(!format!("{error} {error:?}").contains("own-token"), "{error:?}");
}

#[tokio::test]
async fn endpoints_of_one_token_server_share_its_tokens() {
    let tokens = Server::start(|_| Reply::ok(r#"{"access_token":"good","expires_in":300}"#)).await;
    let (first, second) = (
        bearer(tokens.url(), "good").await,
        bearer(tokens.url(), "good").await,
    );
    let name = reference(&second);
    let client = client(&[&first]);
    client.resolve(&name, &user()).await.unwrap();
    let other = Client::with_resolver(Arc::new(crate::test_server::Fixed(vec![second.url()])), config());
    other.resolve(&name, &user()).await.unwrap();
    assert_eq!(tokens.requests().len(), 2);
    // The same client with other credentials gets its own.
    client.resolve(&name, &Credentials::Anonymous).await.unwrap();
    client.resolve(&name, &user()).await.unwrap();
    assert_eq!(tokens.requests().len(), 3);
}

#[tokio::test]
async fn what_a_server_repeats_of_a_secret_is_not_told() {
    let server = Server::start(|r| match r.header("authorization") {
        Some(sent) => Reply::new(403, format!("you sent {sent} and s3cret")),
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic"),
    })
    .await;
    let error = client(&[&server])
        .resolve(&reference(&server), &user())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("you sent Basic …"), "{text}");
    assert!(
        !text.contains("s3cret") && !text.contains(&STANDARD.encode("u:s3cret")),
        "{text}"
    );
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used_and_gets_its_password() {
    let proxy = Server::start(|_| Reply::ok(manifest())).await;
    let address = proxy.url().replace("http://", "http://u:w@");
    let variables = move |name: &str| (name == "HTTP_PROXY").then(|| address.clone());
    let config = ClientConfig {
        proxies: crate::proxy::Proxies::from_lookup(variables),
        ..config()
    };
    let fixed = crate::test_server::Fixed(vec!["http://registry.test".to_owned()]);
    let client = Client::with_resolver(Arc::new(fixed), config);
    let name: Reference = "registry.test/a:1".parse().unwrap();
    client.resolve(&name, &Credentials::Anonymous).await.unwrap();
    let request = &proxy.requests()[0];
    assert_eq!(request.path, "http://registry.test/v2/a/manifests/1");
    assert_eq!(
        request.header("proxy-authorization"),
        Some(format!("Basic {}", STANDARD.encode("u:w")).as_str())
    );
}
