use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::proto::admin::ImportRequest;

/// A request under way: an import whose archive has not come yet.
async fn import(server: &Server) -> (mpsc::Sender<ImportRequest>, JoinHandle<Result<(), tonic::Status>>) {
    let (archive, pieces) = mpsc::channel(1);
    let mut admin = server.admin().await;
    let importing = tokio::spawn(async move { admin.import(ReceiverStream::new(pieces)).await.map(drop) });
    let chunk = vec![b'x'; 1024];
    for _ in 0..2 {
        // The second piece has room once the first was taken: the request has arrived.
        archive
            .send(ImportRequest { chunk: chunk.clone() })
            .await
            .unwrap();
    }
    (archive, importing)
}

#[tokio::test]
async fn a_running_request_is_answered_before_the_end() {
    let server = Server::start().await;
    let (archive, importing) = import(&server).await;
    server.stop.send(()).unwrap();
    drop(archive);
    let status = importing.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    server.serving.await.unwrap().unwrap();
    assert!(!server.socket.exists());
}

#[tokio::test]
async fn an_endless_request_does_not_keep_the_daemon() {
    let server = Server::start_with(Duration::from_millis(20)).await;
    let (_archive, importing) = import(&server).await;
    server.stop.send(()).unwrap();
    server.serving.await.unwrap().unwrap();
    importing.abort();
}

#[tokio::test]
async fn an_idle_client_does_not_keep_the_daemon() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    runtime.version(v1::VersionRequest::default()).await.unwrap();
    server.stop.send(()).unwrap();
    server.serving.await.unwrap().unwrap();
}
