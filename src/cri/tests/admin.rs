use super::*;
use crate::proto::admin::{
    CheckRequest, ExportRequest, ImportRequest, IncompleteRequest, PruneRequest, PullRequest, PullsRequest,
    VerifyRequest,
};

#[tokio::test]
async fn a_pull_that_fails_says_why_as_cri_does() {
    let server = Server::start().await;
    let pull = |reference: &str| PullRequest {
        reference: reference.into(),
        credentials: None,
    };
    let events = server.admin().await.pull(pull("127.0.0.1:1/gone")).await;
    let mut events = events.unwrap().into_inner();
    let status = loop {
        match events.message().await {
            Ok(progress) => assert!(progress.is_some(), "the stream ends with a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    assert!(
        status.message().starts_with("RegistryUnavailable: "),
        "{status:?}"
    );
    refused(server.admin().await.pull(pull("")).await, "reference");
}

#[tokio::test]
async fn an_archive_that_fails_has_no_end() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let images = vec!["nope".into()];
    let mut parts = admin.export(ExportRequest { images }).await.unwrap().into_inner();
    not_found(parts.message().await);
    refused(admin.export(ExportRequest::default()).await, "images");
}

#[tokio::test]
async fn what_is_no_archive_is_refused() {
    let server = Server::start().await;
    let pieces = (0..40).map(|_| ImportRequest {
        chunk: vec![b'x'; 256 * 1024],
    });
    let answer = server
        .admin()
        .await
        .import(futures_util::stream::iter(pieces))
        .await;
    assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_empty_store_answers_everything() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let pulls = admin.pulls(PullsRequest {}).await.unwrap().into_inner();
    assert!(pulls.pulls.is_empty());
    let incomplete = admin.incomplete(IncompleteRequest {}).await.unwrap();
    assert!(incomplete.into_inner().images.is_empty());
    let pruned = admin.prune(PruneRequest { dry_run: false }).await.unwrap();
    assert!(pruned.into_inner().removed.is_empty());
    refused(admin.check(CheckRequest::default()).await, "reference");
    refused(admin.verify(VerifyRequest::default()).await, "image");
    let image = "nope".into();
    not_found(admin.verify(VerifyRequest { image, repair: true }).await);
}
