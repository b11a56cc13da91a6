use super::*;

fn wait() -> v1::ExecSyncRequest {
    v1::ExecSyncRequest {
        container_id: "c".into(),
        cmd: vec!["wait".into()],
        timeout: 0,
    }
}

#[tokio::test]
async fn a_running_request_is_answered_before_the_end() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let exec = tokio::spawn(async move { runtime.exec_sync(wait()).await });
    door.fake.waiting.acquire().await.unwrap().forget();
    door.stop.send(()).unwrap();
    door.fake.release.add_permits(1);
    exec.await.unwrap().unwrap();
    door.serving.await.unwrap().unwrap();
    assert!(!door.socket.exists());
}

#[tokio::test]
async fn an_endless_request_does_not_keep_the_daemon() {
    let door = Door::open_with(Duration::from_millis(20)).await;
    let mut runtime = door.runtime().await;
    let exec = tokio::spawn(async move { runtime.exec_sync(wait()).await });
    door.fake.waiting.acquire().await.unwrap().forget();
    door.stop.send(()).unwrap();
    door.serving.await.unwrap().unwrap();
    exec.abort();
}

#[tokio::test]
async fn an_idle_client_does_not_keep_the_daemon() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    runtime.version(v1::VersionRequest::default()).await.unwrap();
    door.stop.send(()).unwrap();
    door.serving.await.unwrap().unwrap();
}
