//! What can go wrong between a pod and its network.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;

use ipnet::Ipv4Net;
use pausa_sys::AtomicFileError;

use crate::error::{ErrorKind, Kinded};

/// An error of the network room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is no valid CNI configuration.
    #[error("network is not ready: {message}")]
    NotReady {
        /// Why, with the files that were skipped.
        message: String,
    },
    /// Something about the pod cannot be used.
    #[error("pod network: {field} is {value:?}, must be {expected}")]
    InvalidPod {
        /// The field or annotation.
        field: String,
        /// What was given.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A CNI call failed.
    #[error("pod {pod}: network {network:?} failed {command}")]
    Cni {
        /// The pod's id.
        pod: String,
        /// The network's name, empty where it is not known.
        network: String,
        /// ADD or DEL.
        command: &'static str,
        /// What the plugin said.
        #[source]
        source: Box<pausa_cni::Error>,
    },
    /// The plugins succeeded without giving the pod an address.
    #[error(
        "pod {pod}: network {network:?} gave eth0 no address; check the IPAM section of its configuration"
    )]
    NoAddress {
        /// The pod's id.
        pod: String,
        /// The network's name.
        network: String,
    },
    /// The network namespace cannot be opened.
    #[error("cannot open the network namespace {}", path.display())]
    Netns {
        /// Its path.
        path: PathBuf,
        /// errno
        #[source]
        source: io::Error,
    },
    /// The kernel refused a change to links, addresses or routes.
    #[error("cannot {step}")]
    Link {
        /// What was being done.
        step: &'static str,
        /// What was refused.
        #[source]
        source: pausa_netlink::Error,
    },
    /// The name of our bridge belongs to something else.
    #[error("interface {name} is of kind {kind:?}, not a bridge; remove it or set another bridge name")]
    NotABridge {
        /// The name.
        name: String,
        /// What it is.
        kind: String,
    },
    /// Somebody deleted a link right after we made it.
    #[error("interface {name} vanished while it was being set up")]
    LinkVanished {
        /// Its name.
        name: String,
    },
    /// No address is free.
    #[error("no free address in {subnet}; give the bridge a larger subnet or remove pods")]
    PoolExhausted {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// The subnet has no room for a gateway and a pod.
    #[error("bridge subnet {subnet} is too small, use /30 or larger")]
    SubnetTooSmall {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// Our own files cannot be used.
    #[error("cannot {operation} {}", path.display())]
    State {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// errno
        #[source]
        source: io::Error,
    },
    /// A firewall program could not be run.
    #[error("cannot run {}", tool.display())]
    FirewallRun {
        /// The program.
        tool: PathBuf,
        /// errno
        #[source]
        source: io::Error,
    },
    /// A firewall program refused our rules.
    #[error("{} refused our rules ({status}): {stderr}", tool.display())]
    FirewallRefused {
        /// The program.
        tool: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// Another pod has the host port.
    #[error("host port {port}/{protocol} for {address} is taken by another pod")]
    PortTaken {
        /// The port.
        port: u16,
        /// Transport.
        protocol: &'static str,
        /// The pod's address.
        address: Ipv4Addr,
    },
    /// The pod asks for host ports and there is nothing to make them with.
    #[error("pod {pod} asks for host ports, but neither nft nor iptables works here: install nftables")]
    NoFirewall {
        /// The pod's id.
        pod: String,
    },
    /// The caller went away, or the daemon ends.
    #[error("nobody waits for the network of this pod any more")]
    Abandoned,
    /// A blocking task did not come to its end.
    #[error("network work was interrupted")]
    Interrupted {
        /// How.
        #[source]
        source: tokio::task::JoinError,
    },
    /// Attaching failed, and so did undoing it.
    #[error("{cause}; undoing it failed too")]
    NotUndone {
        /// Why attaching failed.
        cause: Box<Self>,
        /// Why undoing failed.
        #[source]
        undo: Box<Self>,
    },
}

impl NetworkError {
    /// A file of the bridge's that could not be replaced.
    pub(super) fn unreplaced(error: AtomicFileError) -> Self {
        Self::State {
            operation: error.operation,
            path: error.path,
            source: error.errno.into(),
        }
    }
}

impl Kinded for NetworkError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotReady { .. } => ErrorKind::Unavailable,
            Self::InvalidPod { .. } => ErrorKind::InvalidArgument,
            Self::PoolExhausted { .. } | Self::PortTaken { .. } => ErrorKind::ResourceExhausted,
            Self::Cni { source, .. } => match source.kind() {
                pausa_cni::ErrorKind::Timeout => ErrorKind::DeadlineExceeded,
                pausa_cni::ErrorKind::InvalidParameter => ErrorKind::InvalidArgument,
                pausa_cni::ErrorKind::TryAgain => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
            Self::NoFirewall { .. } => ErrorKind::FailedPrecondition,
            Self::NotUndone { cause, .. } => cause.kind(),
            _ => ErrorKind::Internal,
        }
    }
}
