//! A connection to systemd over the system bus, or without one over systemd's private socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::message::{self, Answer, Body, Call, Malformed, START};

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
const SYSTEMD: &str = "/run/systemd/private";

/// How long one answer may take; systemd does not answer while it reloads.
const PATIENCE: Duration = Duration::from_secs(30);

/// Errors of the bus for a service that is not running.
const GONE: [&str; 5] = [
    "Disconnected",
    "NameHasNoOwner",
    "NoReply",
    "ServiceUnknown",
    "TimedOut",
];

/// The longest line of the authentication.
const LONGEST_LINE: usize = 512;

/// Why a call to systemd failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// A system call on the connection failed.
    #[error("{call} failed")]
    Io {
        /// The system call and the socket.
        call: String,
        #[source]
        source: io::Error,
    },
    /// The answer is not valid D-Bus.
    #[error("{from} sent a message that is not valid D-Bus")]
    Malformed { from: &'static str },
    /// systemd or the bus answered with an error.
    #[error("{text} ({name})")]
    Refused { name: String, text: String },
    /// A job takes too long.
    #[error("its job is not done after {} s: see `systemctl list-jobs`", .0.as_secs())]
    Slow(Duration),
}

impl BusError {
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name == wanted)
    }

    /// Whether systemd or the bus is restarting: `systemctl daemon-reexec`, an upgrade of either. The call may have been
    /// carried out.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Refused { name, .. } => {
                let bus = name.strip_prefix("org.freedesktop.DBus.Error.");
                bus.is_some_and(|error| GONE.contains(&error) || error.starts_with("Spawn."))
            }
            Self::Malformed { .. } | Self::Slow(_) => false,
        }
    }
}

/// A connection with one call at a time.
#[derive(Debug)]
pub(super) struct Bus {
    socket: UnixStream,
    name: &'static str,
    serial: u32,
}

impl Bus {
    /// Connects as root.
    pub(super) fn open() -> Result<Self, BusError> {
        let hello = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
        };
        let over_bus = Self::connect(SYSTEM_BUS).and_then(|mut bus| {
            bus.call(&hello, &Body::default())?;
            Ok(bus)
        });
        // The private socket has no Hello.
        over_bus.or_else(|_| Self::connect(SYSTEMD))
    }

    fn connect(path: &'static str) -> Result<Self, BusError> {
        let failed = |source| BusError::Io {
            call: format!("connect({path})"),
            source,
        };
        let socket = UnixStream::connect(path).map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut bus = Self {
            socket,
            name: path,
            serial: 0,
        };
        bus.authenticate()?;
        Ok(bus)
    }

    /// "EXTERNAL": the socket has our credentials; the user id is sent as decimal digits in hexadecimal.
    fn authenticate(&mut self) -> Result<(), BusError> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let digits: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {digits}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.extend(byte);
            if line.len() > LONGEST_LINE {
                return Err(self.malformed());
            }
        }
        if !line.starts_with(b"OK") {
            return Err(BusError::Refused {
                name: "AUTH EXTERNAL".to_owned(),
                text: String::from_utf8_lossy(&line).trim_end().to_owned(),
            });
        }
        self.send(b"BEGIN\r\n")
    }

    /// Calls a method and waits for the answer; other messages are skipped.
    pub(super) fn call(&mut self, call: &Call<'_>, body: &Body) -> Result<Vec<u8>, BusError> {
        self.serial += 1;
        self.send(&message::encode(self.serial, call, body))?;
        loop {
            let mut message = vec![0; START];
            let mut start = [0; START];
            self.receive(&mut start)?;
            message.copy_from_slice(&start);
            let rest = message::rest(start).map_err(|Malformed| self.malformed())?;
            message.resize(START + rest, 0);
            self.receive(&mut message[START..])?;
            match message::decode(&message).map_err(|Malformed| self.malformed())? {
                Answer::Return(to, body) if to == self.serial => return Ok(body),
                Answer::Error(to, name, text) if to == self.serial => {
                    return Err(BusError::Refused { name, text });
                }
                _ => {}
            }
        }
    }

    pub(super) fn malformed(&self) -> BusError {
        BusError::Malformed { from: self.name }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        let sent = self.socket.write_all(bytes);
        sent.map_err(|source| self.failed("write", source))
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<(), BusError> {
        let received = self.socket.read_exact(bytes);
        received.map_err(|source| self.failed("read", source))
    }

    fn failed(&self, call: &str, source: io::Error) -> BusError {
        BusError::Io {
            call: format!("{call}({})", self.name),
            source,
        }
    }
}
