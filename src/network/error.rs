//! Errors of the network.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;
use pausa_sys::AtomicFileError;

use crate::error::{ErrorKind, Kinded, chain};
use crate::tool::ToolError;

/// Why a pod cannot be attached or detached.
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
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    #[error("pod {pod}: network {network:?} failed {command}")]
    Cni {
        pod: String,
        /// The network's name, empty where it is not known.
        network: String,
        command: &'static str,
        #[source]
        source: Box<pausa_cni::Error>,
    },
    /// The plugins succeeded without giving the pod an address.
    #[error(
        "pod {pod}: network {network:?} gave eth0 no address; check the IPAM section of its configuration"
    )]
    NoAddress { pod: String, network: String },
    /// The kernel refused a change to links, addresses or routes.
    #[error("cannot {step}")]
    Link {
        step: &'static str,
        #[source]
        source: pausa_netlink::Error,
    },
    /// The range has no room for a gateway and a pod.
    #[error("pod range {subnet} is too small, use one with at least four addresses")]
    SubnetTooSmall { subnet: IpNet },
    /// A file of the network's state cannot be used.
    #[error("cannot {operation} {}", path.display())]
    State {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A firewall program could not be run, or refused our rules.
    #[error("cannot change the firewall's rules")]
    Firewall(#[from] ToolError),
    /// The kernel refused a change to our tables.
    #[error("cannot change the firewall's rules")]
    Netfilter {
        #[source]
        source: pausa_netfilter::Error,
    },
    /// Another pod has the host port.
    #[error("host port {port}/{protocol} is taken by pod {owner} ({id})")]
    PortTaken {
        port: u16,
        protocol: &'static str,
        /// Namespace and name.
        owner: String,
        id: String,
    },
    /// The pod asks for host ports and there is no firewall program.
    #[error("pod {pod} asks for host ports, but neither nft nor iptables works here: install nftables")]
    NoFirewall { pod: String },
    /// The caller was dropped, or the daemon is shutting down.
    #[error("the request for the pod's network was abandoned")]
    Abandoned,
    /// Attaching failed, and so did undoing it: the caller has to detach the pod.
    ///
    /// Both failures are in the text with their causes, and neither is the source: a chain has room for one only.
    #[error("{}; undoing it failed too: {}", chain(&**cause), chain(&**undo))]
    NotUndone { cause: Box<Self>, undo: Box<Self> },
}

impl NetworkError {
    /// A file of ours that could not be replaced.
    pub(super) fn unreplaced(error: AtomicFileError) -> Self {
        Self::State {
            operation: error.operation,
            path: error.path,
            source: error.errno.into(),
        }
    }
}

/// The kind of a failure of a plugin or a list of them.
pub(super) fn of_cni(error: &pausa_cni::Error) -> ErrorKind {
    match error.kind() {
        pausa_cni::ErrorKind::Timeout => ErrorKind::DeadlineExceeded,
        pausa_cni::ErrorKind::InvalidParameter => ErrorKind::InvalidArgument,
        pausa_cni::ErrorKind::TryAgain => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

impl Kinded for NetworkError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotReady { .. } => ErrorKind::Unavailable,
            Self::InvalidPod { .. } => ErrorKind::InvalidArgument,
            Self::PortTaken { .. } => ErrorKind::ResourceExhausted,
            Self::Cni { source, .. } => of_cni(source),
            Self::NoFirewall { .. } => ErrorKind::FailedPrecondition,
            Self::NotUndone { cause, .. } => cause.kind(),
            _ => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests;
