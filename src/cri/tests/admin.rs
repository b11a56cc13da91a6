use super::*;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::export_response::Part;
use crate::proto::admin::pull_response::Event;
use crate::proto::admin::{
    CheckRequest, Credentials, ExportRequest, PruneRequest, PullRequest, PullsRequest, VerifyRequest,
};

impl Door {
    async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel().await)
    }
}

fn pull(reference: &str) -> PullRequest {
    PullRequest {
        reference: reference.into(),
        credentials: Some(Credentials {
            username: "me".into(),
            password: "hunter2".into(),
            ..Default::default()
        }),
    }
}

#[tokio::test]
async fn a_pull_tells_how_far_it_is_and_then_its_end() {
    let door = Door::open().await;
    let mut events = door.admin().await.pull(pull("slow")).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap().event;
    let Some(Event::Progress(progress)) = first else {
        panic!("{first:?}");
    };
    assert_eq!(progress.reference, "docker.io/library/slow:latest");
    // What has not changed is not told again: the next message is the end.
    door.fake.release.add_permits(1);
    let last = events.message().await.unwrap().unwrap().event;
    assert!(
        matches!(&last, Some(Event::Done(image)) if image.id == "sha256:1"),
        "{last:?}"
    );
    assert_eq!(events.message().await.unwrap(), None);
    assert!(door.fake.last_call().starts_with("pull slow"));
    assert!(!door.fake.last_call().contains("hunter2"));
}

#[tokio::test]
async fn a_pull_that_fails_says_why_as_cri_does() {
    let door = Door::open().await;
    let mut events = door.admin().await.pull(pull("gone")).await.unwrap().into_inner();
    let status = events.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert!(
        status.message().starts_with("RegistryUnavailable: "),
        "{status:?}"
    );
    refused(door.admin().await.pull(pull("")).await, "reference");
}

#[tokio::test]
async fn an_archive_comes_whole_with_its_end() {
    let door = Door::open().await;
    let request = ExportRequest {
        images: vec!["abcd".into(), "e".into()],
    };
    let mut parts = door.admin().await.export(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    let done = loop {
        match parts.message().await.unwrap().unwrap().part.unwrap() {
            Part::Chunk(chunk) => bytes.extend(chunk),
            Part::Done(done) => break done,
        }
    };
    assert_eq!(
        bytes,
        ["abcd".repeat(100_000), "e".repeat(100_000)].concat().as_bytes()
    );
    assert_eq!(done.images.len(), 2);
    assert_eq!(parts.message().await.unwrap(), None);
    refused(
        door.admin().await.export(ExportRequest::default()).await,
        "images",
    );
}

#[tokio::test]
async fn an_archive_that_fails_has_no_end() {
    let door = Door::open().await;
    let request = ExportRequest {
        images: vec!["bad".into()],
    };
    let mut parts = door.admin().await.export(request).await.unwrap().into_inner();
    let status = loop {
        match parts.message().await {
            Ok(Some(response)) => assert!(matches!(response.part, Some(Part::Chunk(_)))),
            Ok(None) => panic!("no status"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn the_other_calls_reach_the_room() {
    let door = Door::open().await;
    let mut admin = door.admin().await;
    let listed = admin.pulls(PullsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.pulls[0].waiting, 1);
    assert_eq!(listed.kept[0].diff_id, "sha256:kept");
    let request = CheckRequest {
        reference: "x".into(),
    };
    let told = admin.check(request).await.unwrap().into_inner().explanation;
    assert_eq!(told, "{\"given\":\"x\"}");
    refused(admin.check(CheckRequest::default()).await, "reference");
    let request = VerifyRequest {
        image: "x".into(),
        repair: true,
    };
    let status = admin.verify(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(door.fake.last_call(), "verify x true");
    refused(admin.verify(VerifyRequest::default()).await, "image");
    admin.prune(PruneRequest { dry_run: true }).await.unwrap();
    assert_eq!(door.fake.last_call(), "prune true");
}
