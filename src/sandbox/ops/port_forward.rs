//! PortForward: connections to ports of a pod, as its own processes see them.
//!
//! A socket belongs to the network namespace in which it was made, for good: so only making it takes a thread inside the
//! pod's, for a moment; connecting does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::TcpSocket;

use crate::blocking::blocking;
use crate::error::{ErrorKind, Failure, chain};
use crate::proto::v1;
use crate::require;
use crate::sandbox::Pods;
use crate::sandbox::error::PodError;
use crate::sandbox::record::{PodState, PodView};
use crate::sandbox::registry::POD;
use crate::streaming::ticket::Ticket;

/// Where a port is looked for, in this order.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// How long one address may take. Loopback answers at once, unless a firewall in the pod drops what comes.
const PATIENCE: Duration = Duration::from_secs(10);

impl Pods {
    /// A URL at which one client can connect to ports of a ready pod. SPDY clients say the ports later; those in the
    /// request are for WebSockets.
    ///
    /// # Errors
    /// The pod is not ready, or too many URLs are unused.
    pub async fn port_forward(
        &self,
        request: &v1::PortForwardRequest,
    ) -> Result<v1::PortForwardResponse, Failure> {
        require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
        let ports = request.port.iter().map(|port| {
            let valid = u16::try_from(*port).ok().filter(|port| *port > 0);
            valid.ok_or_else(|| require::invalid(format!("the port {port} is not one: ports are 1 to 65535")))
        });
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        let pod = self.ready(&request.pod_sandbox_id).await?.pod.id.clone();
        let (pods, id) = (self.clone(), pod.clone());
        let ticket = Ticket::PortForward {
            pod,
            ports,
            connect: Arc::new(move |port| {
                let (pods, id) = (pods.clone(), id.clone());
                Box::pin(async move {
                    let view = pods.ready(id.as_str()).await?;
                    connect(view.pod.netns.as_deref(), port).await
                })
            }),
        };
        let url = self.services.streaming.url(ticket)?;
        Ok(v1::PortForwardResponse { url })
    }

    /// What is known of a pod that is ready.
    async fn ready(&self, id: &str) -> Result<Arc<PodView>, PodError> {
        self.registry.pod(id)?.greeted().await?;
        let view = self.view(id)?;
        if view.pod.state == PodState::Ready {
            return Ok(view);
        }
        Err(PodError::State {
            what: POD,
            id: view.pod.id.to_string(),
            state: "not ready",
            hint: "only a ready pod has ports",
        })
    }
}

/// Connects to a port inside this network namespace; none: the node's.
///
/// # Errors
/// Nothing listens; the message has the error of each address.
async fn connect(netns: Option<&Path>, port: u16) -> Result<OwnedFd, Failure> {
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
    let socket = blocking(move || make_socket(netns.as_deref(), family)).await?;
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
