//! What a monitor knows. Changed only by the modules above, one event at a time.

mod plans;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use pausa_monitor_protocol::{Event, Failure, FailureKind, FromMonitor, Reply};

use crate::bootstrap::HostFds;
use crate::connections::Connection;
use crate::failure::failure;
use crate::log::Work;
use crate::pause::Pause;
use crate::poll::{Poll, Token};
use crate::spawner::Launch;
use crate::userns::UserNamespace;

pub(crate) use crate::containers::{
    Attached, Container, Exec, Input, Live, OpenStream, Output, Stage, Typed,
};
pub(crate) use plans::{Kill, Leaving, Started, Starting, Target, Way};

/// Whom to answer, later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Number of the connection.
    pub(crate) connection: u64,
    /// Id of the request.
    pub(crate) id: u64,
}

/// A pod that is set up.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Its directory.
    pub(crate) dir: OwnedFd,
    /// The directory of exit records in it.
    pub(crate) exits: OwnedFd,
    /// The listening socket.
    pub(crate) listener: OwnedFd,
    /// The pause process, where there is one and it lives.
    pub(crate) pause: Option<Pause>,
    /// Its user namespace, where it has one.
    pub(crate) users: Option<Rc<UserNamespace>>,
}

/// Whether the pod is set up.
#[derive(Debug)]
pub(crate) enum Setup {
    /// Not asked for yet.
    Open,
    /// Begun and failed: namespaces may be half made, so it cannot be tried again.
    Failed,
    /// Done.
    Done(Pod),
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Monitor<'a> {
    /// Who makes processes.
    pub(crate) launch: &'a dyn Launch,
    /// What is waited for.
    pub(crate) poll: Poll,
    /// The host's namespaces.
    pub(crate) host: HostFds,
    /// The pod.
    pub(crate) setup: Setup,
    /// Connections by number.
    pub(crate) connections: BTreeMap<u64, Connection>,
    /// Containers started and not forgotten, in the order they were started.
    pub(crate) containers: Vec<Container>,
    /// Processes that have not reached `execve` yet.
    pub(crate) starting: Vec<Starting>,
    /// Exec'd processes that run.
    pub(crate) execs: Vec<Exec>,
    /// Kills under way.
    pub(crate) kills: Vec<Kill>,
    /// The way out.
    pub(crate) leaving: Option<Leaving>,
    /// Buffers for logs.
    pub(crate) work: Work,
}

impl Monitor<'_> {
    /// The pod.
    pub(crate) fn pod(&self) -> Result<&Pod, Failure> {
        match &self.setup {
            Setup::Done(pod) => Ok(pod),
            Setup::Open => Err(failure(FailureKind::State, "the pod is not set up yet")),
            Setup::Failed => Err(failure(FailureKind::State, "the pod's setup has failed")),
        }
    }

    /// The pod's user namespace, where it has one.
    pub(crate) fn users(&self) -> Option<Rc<UserNamespace>> {
        self.pod().ok()?.users.clone()
    }

    /// A container by its id.
    pub(crate) fn container(&mut self, id: &str) -> Result<&mut Container, Failure> {
        self.containers
            .iter_mut()
            .find(|container| container.id == id)
            .ok_or_else(|| failure(FailureKind::NotFound, format!("no container {id} in this pod")))
    }

    /// Answers a request. If the asker has gone, nobody is left to care.
    pub(crate) fn answer(&mut self, to: Answer, result: Result<Reply, Failure>, fds: Vec<OwnedFd>) {
        self.post(to.connection, FromMonitor::Reply { id: to.id, result }, fds);
    }

    /// Tells everyone who has said hello.
    pub(crate) fn tell(&mut self, event: &Event) {
        // No connection has this number.
        self.tell_others(u64::MAX, event);
    }

    /// Tells everyone who has said hello but one.
    pub(crate) fn tell_others(&mut self, but: u64, event: &Event) {
        let listening: Vec<u64> = self
            .connections
            .iter()
            .filter(|(number, connection)| **number != but && connection.version.is_some())
            .map(|(number, _)| *number)
            .collect();
        for number in listening {
            self.tell_one(number, event.clone());
        }
    }

    /// Tells one.
    pub(crate) fn tell_one(&mut self, number: u64, event: Event) {
        self.post(number, FromMonitor::Event(event), Vec::new());
    }

    /// Ends a connection.
    pub(crate) fn disconnect(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            self.poll.remove(connection.fd());
        }
    }

    fn post(&mut self, number: u64, message: FromMonitor, fds: Vec<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let sent = connection.post(message, fds).and_then(|waits| match waits {
            false => Ok(()),
            true => self
                .poll
                .also_writing(connection.fd(), Token::Connection(number), true)
                .map_err(|_| crate::connections::Gone),
        });
        if sent.is_err() {
            self.disconnect(number);
        }
    }
}
