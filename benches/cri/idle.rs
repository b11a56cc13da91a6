//! Pods that idle: how fast they start, which processes serve them, how fast they are removed.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::StreamExt as _;

use crate::harness::{Node, Pod, leaks};
use crate::{latency, memory};

/// Idle pods of one runtime.
pub(crate) struct Idle<'a> {
    node: &'a Node,
    pods: Vec<Pod<'a>>,
    /// The first process of each container, which has no others.
    containers: BTreeSet<i32>,
}

impl<'a> Idle<'a> {
    pub(crate) fn on(node: &'a Node) -> Self {
        Self {
            node,
            pods: Vec::new(),
            containers: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }

    /// Starts more pods with `containers` each, `at_once` at a time. Returns how many started per second.
    pub(crate) async fn start(&mut self, pods: usize, containers: usize, at_once: usize) -> f64 {
        let (node, start) = (self.node, Instant::now());
        let started: Vec<_> = futures_util::stream::iter(0..pods)
            .map(|_| async move {
                let pod = node.run_pod(node.pod_config()).await;
                let mut pids = Vec::new();
                for number in 0..containers {
                    let container = pod.start(|config| {
                        config.metadata.get_or_insert_default().name = format!("speaker-{number}");
                        latency::speak(config);
                    });
                    pids.push(container.await.pid().await);
                }
                (pod, pids)
            })
            .buffer_unordered(at_once)
            .collect()
            .await;
        let rate = per_second(pods, start);
        for (pod, pids) in started {
            self.pods.push(pod);
            self.containers.extend(pids);
        }
        rate
    }

    /// The processes that serve these pods, without the daemon: those that name a pod in their command line, such as shims
    /// and monitors, and those in the pods' cgroups, such as pause.
    pub(crate) fn helpers(&self) -> Vec<i32> {
        let ids: BTreeSet<&str> = self.pods.iter().map(|pod| pod.id.as_str()).collect();
        let names_a_pod = |pid: &i32| leaks::command(*pid).split(' ').any(|word| ids.contains(word));
        let mut helpers: BTreeSet<i32> = memory::processes().into_iter().filter(names_a_pod).collect();
        helpers.extend(leaks::processes(self.node.slot()));
        helpers.difference(&self.containers).copied().collect()
    }

    /// Stops and removes them, `at_once` at a time. Returns how many per second.
    pub(crate) async fn remove(self, at_once: usize) -> f64 {
        let start = Instant::now();
        futures_util::stream::iter(&self.pods)
            .for_each_concurrent(at_once, |pod| async move {
                latency::end(pod).await;
            })
            .await;
        per_second(self.pods.len(), start)
    }
}

fn per_second(pods: usize, since: Instant) -> f64 {
    count(pods) / since.elapsed().as_secs_f64()
}

/// A number of pods or processes, to divide by.
pub(crate) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("not that many pods or processes"))
}
