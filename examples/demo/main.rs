//! A tour of pausa, and a small CRI client to learn from. `make demo` runs it.
//!
//! A container runtime does nothing on its own: kubelet sends it one request after the other. Here this program takes the
//! place of kubelet. It imports an image, runs a pod with two containers that talk over localhost, reads their logs, executes
//! a command in one, inspects it with a debug container, reads its resource usage, and removes everything.

mod cgroup;
mod image;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;
use hyper_util::rt::TokioIo;
use pausa::proto::v1;
use pausa::proto::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// The name of the imported image.
const IMAGE: &str = "demo.invalid/busybox:latest";

/// A tour of pausa.
#[derive(Debug, Parser)]
struct Options {
    /// The daemon's socket.
    #[arg(long)]
    socket: PathBuf,
    /// The `pausa` program, for `pausa image import`.
    #[arg(long)]
    pausa: PathBuf,
    /// A static busybox, from which the image is built.
    #[arg(long)]
    busybox: PathBuf,
    /// Directory for the image archive and the logs.
    #[arg(long)]
    directory: PathBuf,
    /// The parent cgroup of the pod, which kubelet would choose.
    #[arg(long)]
    cgroup: String,
}

/// The client, and the duration of each step.
struct Tour {
    runtime: RuntimeServiceClient<Channel>,
    pod: v1::PodSandboxConfig,
    steps: Vec<(&'static str, Duration)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let mut tour = Tour {
        runtime: RuntimeServiceClient::new(connect(&options.socket)?),
        pod: pod(options),
        steps: Vec::new(),
    };
    tour.wait_for_daemon().await?;
    tour.import(options)?;
    let pod = tour.run_pod().await?;
    let shown = tour.show(&pod).await;
    // Also after a failure.
    tour.remove(&pod).await?;
    shown?;
    tour.print_steps();
    Ok(())
}

/// CRI is gRPC over a unix socket. Such a connection has no host name, but the client needs a URL.
fn connect(socket: &Path) -> anyhow::Result<Channel> {
    let socket = socket.to_owned();
    let endpoint = Endpoint::try_from("http://localhost")?;
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    })))
}

/// A pod is what its containers share: network, host name, log directory, cgroup. Its metadata is its identity: the same request
/// returns the same pod.
fn pod(options: &Options) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "demo".to_owned(),
            namespace: "default".to_owned(),
            uid: "1111-2222".to_owned(),
            attempt: 0,
        }),
        hostname: "demo".to_owned(),
        log_directory: options.directory.join("logs").display().to_string(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("{}/pod1111-2222", options.cgroup),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(own_processes()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Each container sees only its own processes; network and IPC belong to the pod.
fn own_processes() -> v1::NamespaceOption {
    v1::NamespaceOption {
        pid: v1::NamespaceMode::Container.into(),
        ..Default::default()
    }
}

/// A container that runs a shell script.
fn container(name: &str, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}.log"),
        labels: BTreeMap::from([("io.kubernetes.container.name".to_owned(), name.to_owned())]),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources {
                memory_limit_in_bytes: 64 << 20,
                cpu_period: 100_000,
                cpu_quota: 50_000,
                ..Default::default()
            }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(own_processes()),
                seccomp: Some(v1::SecurityProfile::default()),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

impl Tour {
    /// Records a step that began at `start` and ends now.
    fn took(&mut self, step: &'static str, start: Instant) {
        self.steps.push((step, start.elapsed()));
    }

    /// Version is the first request of every client.
    async fn wait_for_daemon(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            match self.runtime.version(v1::VersionRequest::default()).await {
                Ok(version) => {
                    let version = version.into_inner();
                    say(&format!(
                        "{} {} answers",
                        version.runtime_name, version.runtime_version
                    ));
                    self.took("daemon ready", start);
                    return Ok(());
                }
                Err(status) if start.elapsed() > Duration::from_secs(20) => {
                    bail!("the daemon does not answer: {}", status.message())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// kubelet would call PullImage. `pausa image import` works without a registry.
    fn import(&mut self, options: &Options) -> anyhow::Result<()> {
        let archive = options.directory.join("busybox.tar");
        image::write(&options.busybox, IMAGE, &archive)?;
        say("image built from this machine's busybox; importing it");
        let start = Instant::now();
        let done = Command::new(&options.pausa)
            .args(["image", "import"])
            .arg(&archive)
            .arg("--listen")
            .arg(format!("unix://{}", options.socket.display()))
            .output()
            .context("cannot run pausa image import")?;
        self.took("import the image", start);
        if !done.status.success() {
            bail!("{}", String::from_utf8_lossy(&done.stderr).trim_end());
        }
        print!("{}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    }

    async fn run_pod(&mut self) -> anyhow::Result<String> {
        let start = Instant::now();
        let request = v1::RunPodSandboxRequest {
            config: Some(self.pod.clone()),
            ..Default::default()
        };
        let pod = self
            .runtime
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id;
        self.took("run the pod (network, namespaces)", start);
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: pod.clone(),
            ..Default::default()
        };
        let status = self
            .runtime
            .pod_sandbox_status(request)
            .await?
            .into_inner()
            .status;
        let ip = status
            .and_then(|status| status.network)
            .map(|network| network.ip)
            .unwrap_or_default();
        say(&format!("pod {} runs at {ip}", &pod[..13]));
        Ok(pod)
    }

    /// Creates and starts a container, and waits for the first line of its log.
    async fn start(
        &mut self,
        pod: &str,
        config: v1::ContainerConfig,
        step: &'static str,
    ) -> anyhow::Result<String> {
        let start = Instant::now();
        let log = self.log(&config);
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(self.pod.clone()),
        };
        let id = self
            .runtime
            .create_container(request)
            .await?
            .into_inner()
            .container_id;
        let request = v1::StartContainerRequest {
            container_id: id.clone(),
        };
        self.runtime.start_container(request).await?;
        while std::fs::read(&log).unwrap_or_default().is_empty() {
            if start.elapsed() > Duration::from_secs(20) {
                bail!("no line in {}", log.display());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        self.took(step, start);
        Ok(id)
    }

    /// The path from the CRI requests: the pod's log directory and the container's path in it.
    fn log(&self, config: &v1::ContainerConfig) -> PathBuf {
        Path::new(&self.pod.log_directory).join(&config.log_path)
    }

    async fn show(&mut self, pod: &str) -> anyhow::Result<()> {
        let server = "echo serving; while :; do echo hello from $HOSTNAME | nc -l -p 8080; done";
        let client = "until nc 127.0.0.1 8080 < /dev/null; do usleep 10000; done 2>/dev/null; sleep 3600";
        let web = self
            .start(pod, container("web", server), "container web to its first line")
            .await?;
        self.start(
            pod,
            container("client", client),
            "container client to web's answer",
        )
        .await?;
        say("the log files: time, stream, F for a full line, content");
        for name in ["web", "client"] {
            let text = std::fs::read_to_string(self.log(&container(name, "")))?;
            text.lines().for_each(|line| println!("{name:>8}: {line}"));
        }
        self.exec(&web).await?;
        self.debug(pod, &web).await?;
        say("resource usage of container web, from its cgroup");
        let request = v1::ContainerStatusRequest {
            container_id: web,
            verbose: true,
        };
        let info = self.runtime.container_status(request).await?.into_inner().info;
        let info: serde_json::Value = serde_json::from_str(info.get("info").context("no info.info")?)?;
        cgroup::print(info["pid"].as_i64().context("no info.pid")?)
    }

    async fn exec(&mut self, container: &str) -> anyhow::Result<()> {
        say("exec in container web: ps");
        let start = Instant::now();
        let request = v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: vec!["ps".to_owned()],
            timeout: 10,
        };
        let done = self.runtime.exec_sync(request).await?.into_inner();
        self.took("exec", start);
        print!("{}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    }

    /// Does what `kubectl debug --target` does: starts a container from any image that shares the target's processes and sees
    /// its files through /proc/PID/root.
    async fn debug(&mut self, pod: &str, target: &str) -> anyhow::Result<()> {
        let script = "echo 'PID 1 here is:' $(tr '\\0' ' ' < /proc/1/cmdline); \
                      echo 'and its root has:' $(ls /proc/1/root); sleep 3600";
        let mut config = container("debug", script);
        let security = config
            .linux
            .get_or_insert_default()
            .security_context
            .get_or_insert_default();
        security.namespace_options = Some(v1::NamespaceOption {
            pid: v1::NamespaceMode::Target.into(),
            target_id: target.to_owned(),
            ..Default::default()
        });
        let log = self.log(&config);
        self.start(pod, config, "debug container with web as its target")
            .await?;
        say("a debug container with container web as its target");
        tokio::time::sleep(Duration::from_millis(100)).await;
        for line in std::fs::read_to_string(log)?.lines() {
            println!(
                "{:>8}: {}",
                "debug",
                line.splitn(4, ' ').nth(3).unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Removing a pod also removes its containers.
    async fn remove(&mut self, pod: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        let pod_sandbox_id = pod.to_owned();
        self.runtime
            .stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id })
            .await?;
        let pod_sandbox_id = pod.to_owned();
        self.runtime
            .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id })
            .await?;
        self.took("stop and remove the pod", start);
        Ok(())
    }

    fn print_steps(&self) {
        say("duration of the steps");
        for (step, took) in &self.steps {
            println!("  {step:<42} {:>8.1} ms", took.as_secs_f64() * 1000.0);
        }
    }
}

fn say(text: &str) {
    println!("\n== {text}");
}
