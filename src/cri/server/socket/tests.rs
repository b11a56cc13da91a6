use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn the_socket_has_its_mode_and_its_directory_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/p.sock");
    let listening = bind(&path).await.unwrap();
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(&dir.path().join("run")), 0o755);
    assert!(!beside(&path, ".new").exists());
    UnixStream::connect(&path).await.unwrap();
    let (listener, held) = listening.into_parts();
    drop((listener, held));
    assert!(!path.exists());
}

#[tokio::test]
async fn two_daemons_do_not_share_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.sock");
    let _first = bind(&path).await.unwrap();
    let second = bind(&path).await;
    assert!(matches!(second, Err(SocketError::Busy { .. })), "{second:?}");
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn somebody_elses_live_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.sock");
    let _other = UnixListener::bind(&path).unwrap();
    let ours = bind(&path).await;
    assert!(matches!(ours, Err(SocketError::Busy { .. })), "{ours:?}");
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _listening = bind(&path).await.unwrap();
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_file_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.sock");
    fs::write(&path, "precious").unwrap();
    let ours = bind(&path).await;
    assert!(matches!(ours, Err(SocketError::NotASocket { .. })), "{ours:?}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_handed_over_descriptor_is_adopted_if_it_listens() {
    use std::os::fd::AsRawFd;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.sock");
    let theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let ours = adopt(theirs.as_raw_fd()).unwrap();
    drop(theirs);
    let (client, server) = tokio::join!(UnixStream::connect(&path), ours.accept());
    client.unwrap();
    server.unwrap();

    let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let refused = adopt(pair.as_raw_fd());
    assert!(
        matches!(refused, Err(SocketError::Inherited { .. })),
        "{refused:?}"
    );
}
