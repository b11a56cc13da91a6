use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use super::connect;

/// Somebody who says hello at a free port, once.
fn greeter(address: SocketAddr) -> Option<u16> {
    let listener = TcpListener::bind(address).ok()?;
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
    Some(port)
}

async fn greeting(netns: Option<&Path>, port: u16) -> String {
    let connected = TcpStream::from(connect(netns, port).await.unwrap());
    connected.set_nonblocking(false).unwrap();
    let mut text = String::new();
    (&connected).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn both_loopback_addresses_are_tried() {
    let port = greeter((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    assert_eq!(greeting(None, port).await, "hello");
    match greeter((Ipv6Addr::LOCALHOST, 0).into()) {
        Some(port) => assert_eq!(greeting(None, port).await, "hello"),
        None => eprintln!("skipped: no IPv6 here"),
    }
}

#[tokio::test]
async fn nobody_there_is_said_for_both() {
    // Nobody else can listen at a port that is taken.
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let failure = connect(None, port).await.unwrap_err();
    assert!(
        failure.message.contains("127.0.0.1: ") && failure.message.contains("::1: "),
        "{failure}"
    );
}

#[tokio::test]
#[ignore = "needs root"]
async fn the_port_is_that_of_the_namespace() {
    // Its loopback is down, so nothing can be reached in it, while the node has a listener there.
    let netns = std::thread::spawn(|| {
        pausa_sys::unshare_pod(true, false, false).unwrap();
        std::fs::File::open("/proc/thread-self/ns/net").unwrap()
    });
    let netns = netns.join().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&netns));
    let port = greeter((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let failure = connect(Some(Path::new(&path)), port).await.unwrap_err();
    assert!(failure.message.contains("unreachable"), "{failure}");
    assert_eq!(greeting(None, port).await, "hello");
}
