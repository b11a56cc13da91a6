//! A client of exec, attach and port-forward for both transports, as kubectl and crictl are.

mod http;
mod ports;
mod remote;
mod spdy;
mod websocket;

pub(crate) use http::{answer_to, connect};
pub(crate) use ports::{Forwarder, Ports};
pub(crate) use remote::{Event, Remote};

/// How a client is connected, with the subprotocol it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Spdy(&'static str),
    WebSocket(&'static str),
}

impl Transport {
    pub(crate) const SPDY: Self = Self::Spdy("v4.channel.k8s.io");
    pub(crate) const WEBSOCKET: Self = Self::WebSocket("v5.channel.k8s.io");
    /// What kubectl and crictl use today.
    pub(crate) const BOTH: [Self; 2] = [Self::SPDY, Self::WEBSOCKET];

    /// Whether what came of a command is told as JSON.
    pub(crate) fn tells_json(self) -> bool {
        let (Self::Spdy(name) | Self::WebSocket(name)) = self;
        name.starts_with("v4.") || name.starts_with("v5.")
    }
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Want {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

impl Want {
    pub(crate) const OUTPUT: Self = Self {
        stdin: false,
        stdout: true,
        stderr: true,
        tty: false,
    };
    pub(crate) const ALL: Self = Self {
        stdin: true,
        ..Self::OUTPUT
    };
    pub(crate) const TERMINAL: Self = Self {
        stderr: false,
        tty: true,
        ..Self::ALL
    };
}
