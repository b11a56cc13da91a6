//! A pod with one container on each runtime, and the runtime's processes that stream for it.

use pausa::proto::v1;

use crate::harness::stream::{Remote, Transport, Want};
use crate::harness::{Node, ok, strings};
use crate::{memory, process};

/// The port of the listener in the pod.
pub(crate) const PORT: u16 = 7007;

/// One runtime's pod.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) name: &'a str,
    node: &'a Node,
    pod: String,
    container: String,
    /// Processes of the runtime that live as long as the pod.
    processes: Vec<i32>,
}

impl<'a> Target<'a> {
    /// Runs a pod whose container sends `mebibytes` of zeros to each client.
    pub(crate) async fn start(name: &'a str, node: &'a Node, mebibytes: u32) -> Self {
        let script = format!(
            "nc -ll -p {PORT} -e dd if=/dev/zero bs=1M count={mebibytes} 2>/dev/null & \
             while ! netstat -tln | grep -q ':{PORT} '; do sleep 0.02; done; echo listening; wait"
        );
        let pod = node.pod().await;
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", &script]))
            .await;
        container.says("listening").await;
        // If the runtime has a shim or monitor, it is the parent of the container's first process.
        let helper = parent(container.pid().await);
        let daemon = memory::daemon(node.socket()).expect("somebody listens on the socket");
        let id = container.id.clone();
        Self {
            name,
            node,
            container: id,
            pod: pod.id,
            processes: match helper {
                Some(helper) if helper > 1 && helper != daemon => vec![daemon, helper],
                _ => vec![daemon],
            },
        }
    }

    /// CPU time of the runtime's processes so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        memory::cpu_seconds(self.processes.iter().copied())
    }

    /// The same including children that have ended: the command, and the programs that start it.
    pub(crate) fn cpu_with_children(&self) -> f64 {
        self.processes.iter().copied().map(process::cpu_seconds).sum()
    }

    /// Calls CRI's Exec, and connects to the URL in its answer.
    pub(crate) async fn exec(&self, transport: Transport, cmd: &[&str], want: Want) -> Remote {
        let request = v1::ExecRequest {
            container_id: self.container.clone(),
            cmd: strings(cmd),
            tty: want.tty,
            stdin: want.stdin,
            stdout: want.stdout,
            stderr: want.stderr,
        };
        let url = ok("Exec", self.node.runtime().exec(request).await).url;
        Remote::start(&url, transport, want).await
    }

    /// The URL from CRI's PortForward.
    pub(crate) async fn forward_url(&self) -> String {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: self.pod.clone(),
            port: vec![i32::from(PORT)],
        };
        ok("PortForward", self.node.runtime().port_forward(request).await).url
    }
}

/// The parent of a process (proc_pid_stat(5)).
fn parent(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields after the name, which may contain any character.
    let rest = text.rsplit_once(')')?.1;
    rest.split_whitespace().nth(1)?.parse().ok()
}
