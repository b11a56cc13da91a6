//! Metrics of pods and containers under the names that cAdvisor gave them, for kubelet's `/metrics/cadvisor`.
//!
//! [`table`] is the one list of all metrics: descriptors, values and documentation come from it. An entry takes its number
//! from a [`Source`](source::Source); what that lacks has no row. So a container has no traffic, a pod no open files, and
//! nothing is zero because the kernel does not tell it.
//!
//! Who a row is about is said by five labels that come first in every descriptor: `id`, `image`, `namespace`, `pod`,
//! `container`. kubelet adds none. What a pod's cgroup has used has the empty `container` and `image` of cAdvisor's rows for
//! pods, so that sums over containers leave it out; its traffic has the `container` "POD", which dashboards ask for.
//!
//! CRI has whole numbers only, and kubelet shows them as they are: metrics in seconds are whole seconds, rounded down.
//!
//! Must never: give two rows the same name and labels, for which kubelet's page would be an error; fail a list because of
//! one container; let a container make a row, or reading it, take long.
//!
//! Sources: CRI v1 `ListMetricDescriptors`, `ListPodSandboxMetrics`; KEP-2371.

mod encode;
mod source;
mod table;

use bytes::Bytes;

use super::Pods;
use super::sampler::{List, Purpose};
use crate::blocking::blocking;
use crate::proto::v1;

use source::FileSystem;

impl Pods {
    /// Names, meanings and labels of all metrics.
    pub fn metric_descriptors() -> Vec<v1::MetricDescriptor> {
        encode::descriptors()
    }

    /// The metrics of the ready pods and of their running containers, as encoded items of ListPodSandboxMetrics.
    pub async fn list_pod_sandbox_metrics(&self) -> Vec<Bytes> {
        let views = self.ready_pods();
        let samples = self.samples(&views, Purpose::List(List::Metrics)).await;
        let layers = self.services.store.layout().persistent_pods().to_path_buf();
        let filesystem = blocking(move || FileSystem::of(&layers)).await.ok();
        let pods = views.iter().zip(&samples);
        pods.map(|(view, sample)| encode::pod(view, sample, filesystem.as_ref()).into())
            .collect()
    }
}
