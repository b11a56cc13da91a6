//! Traces, as a collector of OpenTelemetry gets them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use pausa::proto::v1;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, async_trait};

use crate::harness::cni::use_plugin;
use crate::harness::node::{reference, spec};
use crate::harness::{Node, eventually, ok, on_own_node, refused};

/// The trace and the span of a client, as in W3C's Trace Context.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector: what was sent to it.
#[derive(Debug, Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let sent = request.into_inner().resource_spans.into_iter();
        let sent = sent
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans);
        self.spans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(sent);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// The spans of a trace by their ids, once one of this name has come.
    async fn trace(&self, trace: &str, last: &str) -> BTreeMap<String, Span> {
        eventually("the trace is complete", async || {
            let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
            let ours = spans.iter().filter(|span| hex(&span.trace_id) == trace);
            let ours: BTreeMap<_, _> = ours.map(|span| (hex(&span.span_id), span.clone())).collect();
            ours.values().any(|span| span.name == last).then_some(ours)
        })
        .await
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names from a span up to the client.
fn path(spans: &BTreeMap<String, Span>, span: &Span) -> Vec<String> {
    let mut names = vec![span.name.clone()];
    let mut parent = hex(&span.parent_span_id);
    while let Some(span) = spans.get(&parent) {
        names.push(span.name.clone());
        parent = hex(&span.parent_span_id);
    }
    names.push(parent);
    names
}

/// Runs a test with a collector and a daemon that sends traces to it.
fn with_collector(settings: &str, test: impl AsyncFnOnce(&Node, &Collector)) {
    on_own_node(async |node| {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let (collector, stop) = (Collector::default(), CancellationToken::new());
        let serving = tokio::spawn(
            Server::builder()
                .add_service(TraceServiceServer::new(collector.clone()))
                .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned()),
        );
        let text = format!("[tracing]\nendpoint = \"http://{address}\"\n{settings}");
        node.restart_with(Some(&text)).await;
        test(node, &collector).await;
        stop.cancel();
        drop(serving.await);
    });
}

/// A request that says that its client records a trace.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("00-{TRACE}-{CALLER}-01").parse().expect("a header");
    request.metadata_mut().insert("traceparent", header);
    request
}

/// docs/operations.md, "Traces"; KEP-2831. What a pod's start waited for is in the trace of the client, plugins and the monitor
/// included.
#[test]
#[ignore = "needs root"]
fn a_request_is_in_the_trace_of_its_client() {
    with_collector("sampling_ratio = 0.0\n", async |node, collector| {
        let script = "case $CNI_COMMAND in ADD)\n\
                      echo '{\"cniVersion\": \"1.0.0\", \"ips\": [{\"address\": \"10.9.8.7/24\"}]}' ;; esac\n";
        use_plugin(node, script).await;
        let request = v1::RunPodSandboxRequest {
            config: Some(node.pod_config()),
            runtime_handler: String::new(),
        };
        let answer = node.runtime().run_pod_sandbox(traced(request)).await;
        let id = ok("RunPodSandbox", answer).pod_sandbox_id;
        node.remember(&id);
        let spans = collector.trace(TRACE, "RunPodSandbox").await;
        let paths: Vec<_> = spans.values().map(|span| path(&spans, span)).collect();
        let operation = ["RunPodSandbox", "RunPodSandbox", CALLER];
        for below in ["network", "scripted", "Setup"] {
            let path = [&[below], operation.as_slice()].concat();
            assert!(paths.iter().any(|other| *other == path), "{path:?} in {paths:#?}");
        }
        // A stop begins in a turn of the pod's, not in the request.
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        ok(
            "StopPodSandbox",
            node.runtime().stop_pod_sandbox(traced(request)).await,
        );
        let spans = collector.trace(TRACE, "StopPodSandbox").await;
        let stop = spans
            .values()
            .find(|span| span.name == "scripted" && path(&spans, span)[1] == "StopPodSandbox");
        assert!(stop.is_some(), "{spans:#?}");

        let gone = traced(v1::ContainerStatusRequest {
            container_id: "0".repeat(64),
            verbose: false,
        });
        refused(Code::NotFound, node.runtime().container_status(gone).await);
        let spans = collector.trace(TRACE, "ContainerStatus").await;
        let failed = spans
            .values()
            .find(|span| span.name == "ContainerStatus")
            .expect("a span");
        let status = failed.status.as_ref().expect("a status");
        assert!(status.message.contains("container"), "{status:?}");

        let request = v1::PullImageRequest {
            image: Some(spec(&reference("base"))),
            ..Default::default()
        };
        ok("PullImage", node.images().pull_image(traced(request)).await);
        let spans = collector.trace(TRACE, "PullImage").await;
        let paths: Vec<_> = spans.values().map(|span| path(&spans, span)).collect();
        let pull = ["layer", "Pull", "PullImage", CALLER];
        assert!(paths.iter().any(|other| *other == pull), "{paths:#?}");

        // Nobody else wanted to be traced.
        ok(
            "Version",
            node.runtime().version(v1::VersionRequest::default()).await,
        );
        let all = collector.spans.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(all.iter().all(|span| hex(&span.trace_id) == TRACE), "{all:#?}");
    });
}

/// A collector that does not answer costs nothing but its spans, and the end of the daemon does not wait for it long.
#[test]
#[ignore = "needs root"]
fn without_its_collector_the_daemon_works() {
    on_own_node(async |node| {
        // Nobody accepts.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        node.restart_with(Some(&format!("[tracing]\nendpoint = \"http://{address}\"\n")))
            .await;
        let pod = node.pod().await;
        pod.start(|_| {}).await.sh("true").await;
        pod.remove().await;
        node.daemon(crate::harness::daemon::Daemon::terminate);
        node.daemon(crate::harness::daemon::Daemon::restart);
        node.until_it_answers().await;
    });
}
