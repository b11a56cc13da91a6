//! `pausa port-forward`: ports of this node that lead into a pod's network, as kubectl's.
//!
//! Each connection has two streams of one session: `data`, and `error` with what went wrong in the pod. A session that ended is
//! replaced at the next connection.
//!
//! Must never: listen on other addresses than those that were asked for; by default only this node can connect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use clap_complete::ArgValueCompleter;
use futures_util::FutureExt as _;
use pausa_spdy::Session;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::objects::Objects;
use super::output::{escape, print, print_stderr};
use super::stream::{self, StreamFlags};
use crate::error::chain;
use crate::proto::v1::PortForwardRequest;

const PROTOCOL: &str = "portforward.k8s.io";

#[derive(Debug, Args)]
pub(super) struct PortForwardArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    stream: StreamFlags,
    /// Listen on this address; may be given more than once [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    bind: Vec<IpAddr>,
    /// The pod: NAMESPACE/POD, POD, or the beginning of an id.
    #[arg(add = ArgValueCompleter::new(complete::pods))]
    pod: String,
    /// Ports: `8080` for the same one on both sides, `8080:80` for port 80 of the pod, `:80` for a free port here.
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<Ports>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    /// 0 for a free one.
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| match text.parse() {
            Ok(port @ 1..) => Ok(port),
            _ => Err(format!("{text:?} is no port: 1 to 65535")),
        };
        match text.split_once(':') {
            Some(("", remote)) => Ok(Self {
                local: 0,
                remote: port(remote)?,
            }),
            Some((local, remote)) => Ok(Self {
                local: port(local)?,
                remote: port(remote)?,
            }),
            None => Ok(Self {
                local: port(text)?,
                remote: port(text)?,
            }),
        }
    }
}

pub(super) fn run(args: &PortForwardArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let pod = objects.pod(&args.pod)?;
        let forwarder = Arc::new(Forwarder {
            daemon,
            pod: pod.id.clone(),
            flags: args.stream.clone(),
            session: Mutex::default(),
        });
        // Before anything listens: a pod that cannot be forwarded to is an error now.
        forwarder.session().await?;
        let mut listeners = JoinSet::new();
        let addresses = match args.bind.as_slice() {
            [] => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
            given => given,
        };
        for ports in &args.ports {
            for address in addresses {
                let address = SocketAddr::from((*address, ports.local));
                let listener = TcpListener::bind(address).await;
                let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
                print(&format!(
                    "Forwarding from {} -> {}\n",
                    listener.local_addr()?,
                    ports.remote
                ))?;
                listeners.spawn(serve(listener, ports.remote, Arc::clone(&forwarder)));
            }
        }
        tokio::select! {
            Some(ended) = listeners.join_next() => ended?,
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
        }
    })
}

/// Takes connections until one cannot be taken.
async fn serve(listener: TcpListener, port: u16, forwarder: Arc<Forwarder>) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    for request in 0_u64.. {
        // Those that have ended.
        while connections.try_join_next().is_some() {}
        let (connection, client) = listener
            .accept()
            .await
            .context("cannot take connections: accept")?;
        let forwarder = Arc::clone(&forwarder);
        connections.spawn(async move {
            if let Err(error) = forwarder.forward(connection, port, request).await {
                let cause = chain(error.as_ref());
                print_stderr(&format!("pausa: connection of {client} to port {port}: {cause}"));
            }
        });
    }
    Ok(())
}

#[derive(Debug)]
struct Forwarder {
    daemon: Daemon,
    pod: String,
    flags: StreamFlags,
    session: Mutex<Option<Arc<Session>>>,
}

impl Forwarder {
    /// The session that there is, or a new one if it has ended.
    async fn session(&self) -> anyhow::Result<Arc<Session>> {
        let mut current = self.session.lock().await;
        if let Some(session) = current
            .as_ref()
            .filter(|session| session.closed().now_or_never().is_none())
        {
            return Ok(Arc::clone(session));
        }
        let request = PortForwardRequest {
            pod_sandbox_id: self.pod.clone(),
            port: Vec::new(),
        };
        let answer = self.daemon.runtime().port_forward(request).await;
        let url = answer
            .map_err(self.daemon.failed("PortForward"))?
            .into_inner()
            .url;
        let session = Arc::new(stream::start(&url, PROTOCOL, &self.flags).await?);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn forward(&self, mut connection: TcpStream, port: u16, request: u64) -> anyhow::Result<()> {
        connection.set_nodelay(true)?;
        let session = self.session().await?;
        let (port, request) = (port.to_string(), format!("{port}-{request}"));
        let headers = |kind: &'static str| [("streamType", kind), ("port", &*port), ("requestID", &*request)];
        let error = stream::open_to_read(&session, &headers("error")).await?;
        let (receive, send) = stream::open(&session, &headers("data")).await?.split();
        let mut data = tokio::io::join(receive, send);
        let copy = copy_bidirectional(&mut connection, &mut data);
        let told = stream::error_text(error);
        tokio::pin!(copy, told);
        // What went wrong in the pod ends the connection, however long its client would wait.
        let (copied, told) = tokio::select! {
            told = &mut told => match told {
                Ok(told) if told.is_empty() => (copy.await, told),
                Ok(told) => (Ok((0, 0)), told),
                Err(_) => (copy.await, String::new()),
            },
            copied = &mut copy => (copied, told.await.unwrap_or_default()),
        };
        anyhow::ensure!(told.is_empty(), "{}", escape(told.trim()));
        match copied {
            // Either side may cut the connection.
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_a_pair() {
        let ports = |local, remote| Ok(Ports { local, remote });
        assert_eq!("80".parse::<Ports>(), ports(80, 80));
        assert_eq!("8080:80".parse::<Ports>(), ports(8080, 80));
        assert_eq!(":80".parse::<Ports>(), ports(0, 80));
        for wrong in ["", "0", "80:", "x:80", "65536", "1:2:3", "0:80"] {
            assert!(wrong.parse::<Ports>().is_err(), "{wrong}");
        }
    }
}
