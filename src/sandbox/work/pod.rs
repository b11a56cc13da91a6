//! Making a pod, in phases that each consume the one before and can unwind.
//!
//! ```text
//!  Prepared ──▶ Housed ──▶ PodMade
//!  directory,   monitor, namespaces,   address,
//!  record       shm, netns             hosts file
//!     ▲            │
//!     └── fail ◀── fail
//! ```
//!
//! The record is saved as *creating*, with the network as a debt, before anything is made: a daemon that
//! dies in between leaves nothing that the next one does not know of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pausa_monitor_protocol::PodPlan;

use super::files::{mount_shm, unmount, write_pod_files};
use super::teardown::{detach_or_warn, end_monitor};
use super::{blocking, cgroup, files};
use crate::cgroups::Cgroup;
use crate::error::{ErrorKind, chain};
use crate::monitor::{Events, MonitorError};
use crate::network::{Attachment, NetworkError, PodNetwork, PortMapping, Protocol};
use crate::proto::v1;
use crate::sandbox::error::PodError;
use crate::sandbox::link::Link;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;
use crate::telemetry::Steps;

/// oom_score_adj of what holds a pod together, as the peers give their pause process.
const MONITOR_OOM_SCORE: i32 = -998;

/// A pod that is whole.
#[derive(Debug)]
pub(in crate::sandbox) struct PodMade {
    pub(in crate::sandbox) monitor: Link,
    pub(in crate::sandbox) events: Events,
    pub(in crate::sandbox) network: Option<Attachment>,
}

/// Makes the pod of a record.
pub(in crate::sandbox) async fn make_pod(
    services: &Arc<Services>,
    record: &PodRecord,
    steps: &Steps,
) -> Result<PodMade, PodError> {
    steps.enter("record");
    let prepared = Prepared::make(services, record)?;
    steps.enter("monitor and files");
    let housed = prepared.house().await?;
    steps.enter("network");
    housed.attach().await
}

/// Whether a failure left the network attached.
pub(in crate::sandbox) fn owes_network(error: &PodError) -> bool {
    let PodError::Failed { source, .. } = error else {
        return false;
    };
    matches!(
        source.downcast_ref::<NetworkError>(),
        Some(NetworkError::NotUndone { .. })
    )
}

/// There is a directory and a record.
struct Prepared<'a> {
    services: &'a Arc<Services>,
    record: &'a PodRecord,
    dir: PathBuf,
}

/// A monitor in its cgroup, and what it tells.
struct Placed {
    monitor: Link,
    events: Events,
}

fn failed(doing: &'static str) -> impl FnOnce(MonitorError) -> PodError {
    move |error| PodError::failed(doing, error)
}

impl<'a> Prepared<'a> {
    fn make(services: &'a Arc<Services>, record: &'a PodRecord) -> Result<Self, PodError> {
        let dir = services.store.layout().pod(&record.id);
        let prepared = Self {
            services,
            record,
            dir,
        };
        match services.store.save_pod(&record.id, record) {
            Ok(()) => Ok(prepared),
            Err(error) => Err(prepared.fail(PodError::failed("save the record of the new pod", error))),
        }
    }

    /// Files, shared memory, monitor and namespaces.
    async fn house(self) -> Result<Housed<'a>, PodError> {
        let (dir, config) = (self.dir.clone(), self.record.config.clone());
        let own_ipc = self.record.namespaces().ipc() != v1::NamespaceMode::Node;
        let users = self.record.users();
        let files = blocking(move || {
            write_pod_files(&dir, &config, users)?;
            if own_ipc { mount_shm(&dir, users) } else { Ok(()) }
        });
        let (files, placed) = tokio::join!(files, self.start_monitor());
        let placed = match placed {
            Ok(placed) => placed,
            Err(error) => return Err(self.fail(error)),
        };
        let housed = Housed {
            prepared: self,
            placed,
        };
        let bound = match files {
            Ok(()) => housed.bind_netns().await,
            Err(error) => Err(error),
        };
        match bound {
            Ok(()) => Ok(housed),
            Err(error) => Err(housed.fail(error).await),
        }
    }

    async fn start_monitor(&self) -> Result<Placed, PodError> {
        let (cgroup, spawned) = tokio::join!(
            cgroup::create_for_monitor(self.services, self.record),
            Link::spawn(&self.services.monitors, self.record.id.as_str())
        );
        let (monitor, events) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                cgroup::remove_monitor(self.services, self.record).await;
                return Err(failed("start the pod's monitor")(error));
            }
        };
        let ready = match cgroup {
            Ok(cgroup) => self.set_up(&monitor, cgroup).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ready {
            end_monitor(&monitor).await;
            cgroup::remove_monitor(self.services, self.record).await;
            return Err(error);
        }
        Ok(Placed { monitor, events })
    }

    async fn set_up(&self, monitor: &Link, cgroup: Cgroup) -> Result<(), PodError> {
        let tasks = cgroup::for_monitor_to_join(&cgroup)?;
        // On cgroup v2 a move waits for the kernel's other CPUs: let the namespaces be made meanwhile.
        let (admitted, set_up) = tokio::join!(
            cgroup::admit_monitor(cgroup, monitor.pid()),
            monitor.monitor().set_up(self.plan(), &self.dir, tasks)
        );
        let set_up = set_up.map_err(failed("set up the pod's namespaces"));
        admitted.and(set_up)
    }

    fn plan(&self) -> PodPlan {
        let config = &self.record.config;
        let namespaces = self.record.namespaces();
        let host_network = self.record.host_network();
        PodPlan {
            pod: self.record.id.to_string(),
            new_network: !host_network,
            new_ipc: namespaces.ipc() != v1::NamespaceMode::Node,
            hostname: (!host_network).then(|| files::hostname(config)),
            shared_pid: namespaces.pid() == v1::NamespaceMode::Pod,
            sysctls: self.sysctls(host_network),
            oom_score_adj: MONITOR_OOM_SCORE,
            users: self.record.users(),
        }
    }

    /// The defaults that make low ports and ping work without privileges, and what was asked for over them.
    fn sysctls(&self, host_network: bool) -> Vec<(String, String)> {
        let settings = &self.services.settings;
        let mut sysctls = BTreeMap::new();
        if settings.unprivileged_ports && !host_network {
            sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        }
        if settings.unprivileged_icmp && !host_network {
            // Written inside the pod's user namespace, which knows no others.
            let last = self.record.users().map_or(i32::MAX.unsigned_abs(), |users| {
                (users.length - 1).min(i32::MAX.unsigned_abs())
            });
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
        }
        let asked = self
            .record
            .config
            .linux
            .as_ref()
            .map(|linux| linux.sysctls.clone())
            .unwrap_or_default();
        sysctls.extend(
            asked
                .into_iter()
                .map(|(name, value)| (name.replace('/', "."), value)),
        );
        sysctls.into_iter().collect()
    }

    /// Takes back the directory and what is mounted in it.
    fn fail(self, error: PodError) -> PodError {
        unmount(&self.dir.join(files::SHM));
        if let Err(undo) = self.services.store.forget_pod(&self.record.id) {
            tracing::error!(
                pod = self.record.id.short(),
                error = chain(&undo),
                "a failed pod's directory stays"
            );
        }
        error
    }
}

/// There are namespaces, held by a monitor.
struct Housed<'a> {
    prepared: Prepared<'a>,
    placed: Placed,
}

impl Housed<'_> {
    /// Makes the network namespace visible where CNI plugins and tools look for it.
    async fn bind_netns(&self) -> Result<(), PodError> {
        let Some(path) = self.prepared.record.netns.clone() else {
            return Ok(());
        };
        let pid = self.placed.monitor.pid();
        blocking(move || files::bind_netns(pid, &path)).await
    }

    /// Attaches the pod to its network and completes its hosts file.
    async fn attach(self) -> Result<PodMade, PodError> {
        let record = self.prepared.record;
        let network = match &record.netns {
            None => None,
            Some(netns) => match self.attach_to(netns).await {
                Ok(attachment) => Some(attachment),
                Err(error) => return Err(self.fail(error).await),
            },
        };
        let ips = network
            .as_ref()
            .map(|network| network.ips.clone())
            .unwrap_or_default();
        if let Err(error) = files::write_hosts(&self.prepared.dir, &record.config, &ips, record.users()) {
            detach_or_warn(self.prepared.services, record).await;
            return Err(self.fail(error).await);
        }
        let Placed { monitor, events } = self.placed;
        Ok(PodMade {
            monitor,
            events,
            network,
        })
    }

    async fn attach_to(&self, netns: &Path) -> Result<Attachment, PodError> {
        let services = self.prepared.services;
        if let Err(reason) = services
            .network
            .wait_ready(services.settings.network_patience)
            .await
        {
            let reason = std::io::Error::other(format!("{}: {}", reason.reason, reason.message));
            return Err(PodError::failed_as(
                "attach the pod to a network",
                ErrorKind::Unavailable,
                reason,
            ));
        }
        let attached = services
            .network
            .attach(&pod_network(self.prepared.record, netns))
            .await;
        attached.map_err(|error| PodError::failed("attach the pod to its network", error))
    }

    /// Takes back namespaces and monitor, then what was before.
    async fn fail(self, error: PodError) -> PodError {
        end_monitor(&self.placed.monitor).await;
        if let Some(netns) = &self.prepared.record.netns {
            files::unbind_netns(netns);
        }
        cgroup::remove_monitor(self.prepared.services, self.prepared.record).await;
        if owes_network(&error) {
            // The record stays, for the debt to be seen and paid.
            unmount(&self.prepared.dir.join(files::SHM));
            return error;
        }
        self.prepared.fail(error)
    }
}

/// The parent cgroup asked for; empty: the default.
pub(super) fn cgroup_parent(config: &v1::PodSandboxConfig) -> &str {
    config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent)
}

/// What the network room needs to know of a pod.
pub(in crate::sandbox) fn pod_network(record: &PodRecord, netns: &Path) -> PodNetwork {
    let config = &record.config;
    let name = record.name();
    PodNetwork {
        pod_id: record.id.to_string(),
        netns: netns.to_owned(),
        name: name.name,
        namespace: name.namespace,
        uid: name.uid,
        port_mappings: config.port_mappings.iter().filter_map(port_mapping).collect(),
        dns: files::dns(config),
        annotations: config.annotations.clone(),
        cgroup_parent: cgroup_parent(config).to_owned(),
    }
}

fn port_mapping(mapping: &v1::PortMapping) -> Option<PortMapping> {
    Some(PortMapping {
        protocol: match mapping.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        },
        container_port: u16::try_from(mapping.container_port).ok()?,
        host_port: u16::try_from(mapping.host_port).ok()?,
        host_ip: mapping.host_ip.parse().ok(),
    })
}
