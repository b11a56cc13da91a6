//! A connection to a port of a pod, as its own processes see it.
//!
//! A socket belongs to the network namespace in which it was made, for good: so only making it takes a thread
//! inside the pod's, for a moment; connecting does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::TcpSocket;

use crate::error::{ErrorKind, Failure, chain};

/// Where a port is looked for, in this order.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// How long one address may take. Loopback answers at once, unless a firewall in the pod drops what comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to a port inside this network namespace; none: the node's.
///
/// # Errors
/// Nobody listens, with what each address said.
pub(super) async fn connect(netns: Option<&Path>, port: u16) -> Result<OwnedFd, Failure> {
    let mut reasons = Vec::new();
    for address in LOOPBACK {
        match attempt(netns, SocketAddr::new(address, port)).await {
            Ok(connected) => return Ok(connected),
            Err(reason) => reasons.push(format!("{address}: {reason}")),
        }
    }
    let reasons = reasons.join("; ");
    Err(Failure::new(
        ErrorKind::Unavailable,
        format!("cannot connect to port {port} in the pod ({reasons}): does anything in it listen there?"),
    ))
}

async fn attempt(netns: Option<&Path>, address: SocketAddr) -> Result<OwnedFd, String> {
    let netns = netns.map(Path::to_owned);
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = tokio::task::spawn_blocking(move || make_socket(netns.as_deref(), family))
        .await
        .map_err(|error| chain(&error))??;
    let socket = TcpSocket::from_std_stream(TcpStream::from(socket));
    let connected = match tokio::time::timeout(PATIENCE, socket.connect(address)).await {
        Ok(connected) => connected.map_err(|error| chain(&error))?,
        Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    connected
        .into_std()
        .map(OwnedFd::from)
        .map_err(|error| chain(&error))
}

/// A TCP socket of this network namespace.
fn make_socket(netns: Option<&Path>, family: AddressFamily) -> Result<OwnedFd, String> {
    let make = move || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(family, SocketType::STREAM, flags, None)
            .map_err(|errno| format!("socket({family:?}, SOCK_STREAM) failed: {errno}"))
    };
    let Some(path) = netns else { return make() };
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| format!("open({}) failed: {errno}", path.display()))?;
    pausa_netlink::in_netns(file.as_fd(), make).map_err(|error| chain(&error))?
}

#[cfg(test)]
mod tests;
