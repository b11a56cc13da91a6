//! gRPC over a unix socket has no host: clients put all kinds of things into `:authority` (RFC 9113 8.3.1).

use pausa::proto::v1;
use prost::Message as _;

use crate::harness::{h2, on_pausa};

/// Older kubelets and other languages' clients send the socket's path, plain or escaped, or nothing.
#[test]
#[ignore = "needs root"]
fn any_authority_is_served() {
    on_pausa(async |node| {
        let path = node.socket().display().to_string();
        let escaped = path.replace('/', "%2F");
        for authority in [
            Some("localhost"),
            Some(path.as_str()),
            Some(escaped.as_str()),
            Some(""),
            Some("unix:///x"),
            None,
        ] {
            let socket = node.socket().to_owned();
            let sent = authority.map(str::to_owned);
            let call = move || h2::call(&socket, "/runtime.v1.RuntimeService/Version", sent.as_deref());
            let answer = tokio::task::spawn_blocking(call).await.expect("a task");
            let bytes = answer.unwrap_or_else(|e| panic!("authority {authority:?}: {e}"));
            let version = v1::VersionResponse::decode(bytes.as_slice()).expect("a VersionResponse");
            assert_eq!(version.runtime_api_version, "v1", "authority {authority:?}");
        }
    });
}
