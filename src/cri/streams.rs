//! The streaming room, as the door asks it.

use super::backend::StreamService;
use crate::error::Failure;
use crate::streaming::Streaming;
use crate::streaming::target::{Streams, Target};

impl<T: Target> StreamService for Streaming<T> {
    fn exec(&self, id: &str, command: Vec<String>, streams: Streams, tty: bool) -> Result<String, Failure> {
        Self::exec(self, id, command, streams, tty)
    }

    fn attach(&self, id: &str, streams: Streams, tty: bool) -> Result<String, Failure> {
        Self::attach(self, id, streams, tty)
    }

    fn port_forward(&self, id: &str, ports: Vec<u16>) -> Result<String, Failure> {
        Self::port_forward(self, id, ports)
    }
}
