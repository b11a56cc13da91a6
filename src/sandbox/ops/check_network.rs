//! Admin CheckNetwork: what is wrong with the networks of pods.
//!
//! The actor is not involved: nothing is changed. CNI allows only one operation at a time for a pod: the check ends, and with it
//! the plugin that it runs, as soon as the pod is being stopped.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};

use super::files::RESOLV_CONF;
use super::run_pod::pod_network;
use crate::error::{ErrorKind, Failure};
use crate::id::LookupError;
use crate::network::check::{Finding, Subject, Surroundings};
use crate::require;
use crate::sandbox::Pods;
use crate::sandbox::handle::PodHandle;
use crate::sandbox::record::{PodRecord, PodState};
use crate::sandbox::services::Services;

/// Pods that are checked at the same time.
const AT_ONCE: usize = 4;
/// How often a check looks whether its pod is being stopped.
const POLL: Duration = Duration::from_millis(50);

/// What was found out about the network of a pod.
#[derive(Debug)]
pub struct NetworkCheck {
    pub pod_id: String,
    pub namespace: String,
    pub pod: String,
    pub outcome: NetworkOutcome,
}

/// Whether there was something to check.
#[derive(Debug)]
pub enum NetworkOutcome {
    Checked(Vec<Finding>),
    /// The pod has no network of its own.
    Exempt(&'static str),
    /// The pod is not in a state for it.
    Skipped(&'static str),
}

impl Pods {
    /// Checks the network of a pod (its id, a unique prefix of it, its name, or namespace/name), or of all pods that are ready
    /// or are becoming so.
    ///
    /// # Errors
    /// There is no such pod, or there is more than one.
    pub async fn check_network(
        &self,
        given: &str,
    ) -> Result<impl Stream<Item = NetworkCheck> + Send + use<>, Failure> {
        let handles = match given {
            "" => {
                let mut all = self.registry.pods();
                all.retain(|handle| {
                    handle
                        .view()
                        .is_none_or(|view| view.pod.state != PodState::NotReady)
                });
                all
            }
            given => vec![self.named(given)?],
        };
        let surroundings = self.services.network.surroundings().await;
        let services = Arc::clone(&self.services);
        let checks = stream::iter(handles).map(move |handle| {
            let (services, surroundings) = (Arc::clone(&services), Arc::clone(&surroundings));
            async move {
                NetworkCheck {
                    pod_id: handle.id.to_string(),
                    namespace: handle.name.namespace.clone(),
                    pod: handle.name.name.clone(),
                    outcome: check(&services, &handle, surroundings).await,
                }
            }
        });
        Ok(checks.buffered(AT_ONCE))
    }

    /// The pod with this name, or namespace and name, or else with this id or prefix. Of several attempts it is the ready one.
    fn named(&self, given: &str) -> Result<Arc<PodHandle>, Failure> {
        let mut found = self.registry.pods();
        found.retain(|handle| match given.split_once('/') {
            Some((namespace, name)) => handle.name.namespace == namespace && handle.name.name == name,
            None => handle.name.name == given,
        });
        let ready: Vec<_> = found
            .iter()
            .filter(|handle| subject(handle).is_ok())
            .cloned()
            .collect();
        let choice = if ready.is_empty() { found } else { ready };
        match choice.as_slice() {
            [] => match self.registry.pod(given) {
                Err(LookupError::NotFound { .. }) => Err(Failure::new(
                    ErrorKind::NotFound,
                    format!("no pod has the id or the name {given:?}"),
                )),
                outcome => Ok(outcome?),
            },
            [only] => Ok(Arc::clone(only)),
            several => {
                let ids: Vec<_> = several
                    .iter()
                    .map(|handle| {
                        format!(
                            "{}/{} {}",
                            handle.name.namespace,
                            handle.name.name,
                            handle.id.short()
                        )
                    })
                    .collect();
                Err(require::invalid(format!(
                    "{given:?} is the name of more than one pod ({}); give the namespace, too, or an id",
                    ids.join(", ")
                )))
            }
        }
    }
}

/// The record of a pod that can be checked.
fn subject(handle: &PodHandle) -> Result<Arc<PodRecord>, NetworkOutcome> {
    let Some(view) = handle.view() else {
        return Err(NetworkOutcome::Skipped("the pod is being created"));
    };
    let operations = handle.operations();
    let is_stopping = operations
        .iter()
        .any(|(container, doing)| container.is_none() && doing.operation == "StopPodSandbox");
    match view.pod.state {
        PodState::Creating => Err(NetworkOutcome::Skipped("the pod is being created")),
        PodState::Ready if is_stopping => Err(NetworkOutcome::Skipped("the pod is being stopped")),
        PodState::NotReady => Err(NetworkOutcome::Skipped(
            "the pod is stopped, so it has no network",
        )),
        PodState::Ready if view.pod.host_network() => {
            Err(NetworkOutcome::Exempt("the pod is in the network of the node"))
        }
        PodState::Ready => Ok(Arc::clone(&view.pod)),
    }
}

async fn check(services: &Services, handle: &PodHandle, surroundings: Arc<Surroundings>) -> NetworkOutcome {
    let record = match subject(handle) {
        Ok(record) => record,
        Err(outcome) => return outcome,
    };
    let Some(netns) = record.netns.as_deref() else {
        return NetworkOutcome::Skipped("the pod has no network namespace");
    };
    let checked = services.network.check(
        Subject {
            pod: pod_network(&record, netns),
            monitor_pid: record.monitor_pid,
            resolv_conf: services.store.layout().pod(&record.id).join(RESOLV_CONF),
        },
        surroundings,
    );
    let ended = async {
        loop {
            tokio::time::sleep(POLL).await;
            if let Err(outcome) = subject(handle) {
                return outcome;
            }
        }
    };
    tokio::select! {
        findings = checked => match subject(handle) {
            Ok(_) => NetworkOutcome::Checked(findings),
            // What was found may be the work of the stop.
            Err(outcome) => outcome,
        },
        outcome = ended => outcome,
    }
}
