//! Ends all pods and removes what this daemon has made on the node: what `pausa reset` does in place of a daemon.
//!
//! Pods end as RemovePodSandbox ends them. What then still has a directory of ours belongs to a pod whose record nobody can
//! read; its record is given up, and reconciliation ends it.
//!
//! Must never: run beside requests. Whoever calls this holds the socket and does not serve it.

use std::sync::Arc;

use futures_util::StreamExt as _;

use super::error::PodError;
use super::reconcile::{self, directories};
use super::{Pods, gone_is_done};
use crate::blocking::blocking;
use crate::error::chain;

/// How many pods end at the same time.
const PARALLEL: usize = 16;

/// What was removed and what was not.
#[derive(Debug, Default)]
pub(crate) struct Reset {
    /// Pods that are gone.
    pub(crate) removed: usize,
    /// One sentence for each thing that stays.
    pub(crate) failed: Vec<String>,
}

impl Pods {
    /// Removes all pods, then what belongs to none, then what they shared: slice, rules and bridge. A failure stops nothing.
    pub(crate) async fn reset(&self) -> Reset {
        let mut done = Reset::default();
        let pods = self.registry.pods();
        let removals = futures_util::stream::iter(pods).map(async |pod| {
            let remove =
                async || gone_is_done(pod.ask(|pod, answer| pod.lifecycle.want_removed(answer)).await);
            // The first failure of a network's detach is reported, and does not keep the pod from being removed.
            let removed = match remove().await {
                Err(_) => remove().await,
                done => done,
            };
            (pod.name.clone(), removed)
        });
        let removals: Vec<(_, Result<(), PodError>)> = removals.buffer_unordered(PARALLEL).collect().await;
        for (name, removed) in removals {
            match removed {
                Ok(()) => done.removed += 1,
                Err(error) => done
                    .failed
                    .push(format!("cannot remove pod {name}: {}", error.text())),
            }
        }
        for (path, error) in directories::forget_unread(self) {
            done.failed
                .push(format!("cannot remove {}: {error}", path.display()));
        }
        reconcile::reconcile(self).await;
        let left = directories::left(self);
        done.failed.extend(
            left.iter()
                .map(|path| format!("cannot remove {}", path.display())),
        );
        let cgroups = Arc::clone(&self.services.cgroups);
        if let Err(error) = blocking(move || cgroups.remove_default_slice()).await {
            done.failed.push(chain(&error));
        }
        if let Err(error) = self.services.network.remove().await {
            done.failed.push(chain(&error));
        }
        done
    }
}
