//! `pausa debug`: a container with tools beside one that has none, or a copy of one that crashes, without kubelet's help.
//!
//! The design is in `docs/design/0024-operators-commands.md`. In short: the container is in the target's pod and has kubelet's labels for it,
//! so that kubelet takes it for one of the pod and leaves it alone. Its first process sleeps, the command is an exec. A copy runs the
//! command as its first process.
//!
//! Must never: leave a container behind that the user did not ask to keep, unless this program is killed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use rustix::termios::isatty;

use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::exec::{attach_to, exec_in};
use super::failure::CommandError;
use super::image::{Auth, fetch, find};
use super::objects::{
    Object, Objects, container_details, container_name, info, is_running, pod_details, pod_name,
};
use super::output::print_stderr;
use super::root::Root;
use super::stop::{remove_container, stop_container};
use super::stream::StreamFlags;
use crate::error::chain;
use crate::oci::{MASKED, READONLY};
use crate::proto::v1::{self, security_profile::ProfileType};

/// Where `--mount` shows the target's files.
const TARGET: &str = "target";
/// On a debug container: the id of the container or pod that it is for.
const LABEL: &str = "io.pausa.debug-target";
/// What kubelet knows its pods and containers by (`pkg/kubelet/types/labels.go`).
const POD_LABELS: [&str; 3] = [
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.uid",
];
const NAME_LABEL: &str = "io.kubernetes.container.name";
/// kubelet's annotations of a container; it complains of one without them (`pkg/kubelet/kuberuntime/labels.go`).
const ANNOTATIONS: [(&str, &str); 5] = [
    ("io.kubernetes.container.hash", "0"),
    ("io.kubernetes.container.restartCount", "0"),
    (
        "io.kubernetes.container.terminationMessagePath",
        "/dev/termination-log",
    ),
    ("io.kubernetes.container.terminationMessagePolicy", "File"),
    ("io.kubernetes.pod.terminationGracePeriod", "0"),
];
/// A day: what a container gets whose user's program was killed.
const LIFETIME: &str = "86400";
/// sleep(1) of busybox has no "infinity": the longest that fits into 32 bits, 68 years.
const FOR_EVER: &str = "2147483647";

#[derive(Debug, Args)]
pub(super) struct DebugArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    stream: StreamFlags,
    /// Image with the tools, pulled if it is not there. It needs a program `sleep`.
    #[arg(
        long,
        env = "PAUSA_DEBUG_IMAGE",
        value_name = "IMAGE",
        default_value = "docker.io/library/busybox:latest",
        add = ArgValueCompleter::new(complete::images)
    )]
    image: String,
    /// Start a copy of the container instead, with its own image, mounts, environment and user, and run the command in it. For a
    /// container that crashes: it need not run.
    #[arg(long, conflicts_with_all = ["image", "profile", "mount"])]
    clone: bool,
    /// What the debug container may do; as kubectl's.
    #[arg(long, value_enum, default_value_t, value_name = "PROFILE")]
    profile: Profile,
    /// Show the target's files as /target, with its programs last in PATH. Needs the profile general or sysadmin, or the target's
    /// own user.
    #[arg(long)]
    mount: bool,
    /// User of the debug container [default: the image's].
    #[arg(long, short, value_name = "UID[:GID]", value_parser = user)]
    user: Option<User>,
    /// Keep the container: run commands in it with `pausa exec`, remove it with `pausa rm --force`.
    #[arg(long)]
    keep: bool,
    /// A container (NAMESPACE/POD/CONTAINER or the end of it) or a pod (NAMESPACE/POD, POD), by name or the beginning of an id.
    #[arg(add = ArgValueCompleter::new(complete::objects))]
    target: String,
    /// The command with its arguments [default: sh].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What a debug container may do, as kubectl defines it (KEP-1441).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Profile {
    /// The runtime's defaults and tracing of processes.
    #[default]
    General,
    /// The runtime's defaults.
    Baseline,
    /// No capability, not root, no new privileges.
    Restricted,
    /// The runtime's defaults, and the network can be changed.
    Netadmin,
    /// Everything that the pod may have.
    Sysadmin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: Option<u32>,
}

fn user(text: &str) -> Result<User, String> {
    let id = |text: &str| {
        let id: Result<u32, _> = text.parse();
        id.map_err(|_| format!("{text:?} is no id: names of users are known only in the image"))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok(User {
            uid: id(uid)?,
            gid: Some(id(gid)?),
        }),
        None => Ok(User {
            uid: id(text)?,
            gid: None,
        }),
    }
}

pub(super) fn run(args: &DebugArgs) -> anyhow::Result<ExitCode> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let target = Target::find(&daemon, &objects, &args.target).await?;
        let tty = isatty(io::stdin()) && isatty(io::stdout());
        let config = match args.clone {
            true => target.copy(args, tty)?,
            false => target.debug(args, &image_environment(&daemon, &args.image).await?)?,
        };
        let name = format!(
            "{}/{}",
            pod_name(target.pod),
            config.metadata.clone().unwrap_or_default().name
        );
        let id = create(&daemon, &target, config).await?;
        let ended = debug(&daemon, &target, &id, args, tty).await;
        if args.keep {
            print_stderr(&format!(
                "pausa: kept {name}; `pausa rm --force {name}` removes it"
            ));
        } else if let Err(error) = remove(&daemon, &id).await {
            print_stderr(&format!(
                "pausa: cannot remove {name}, which goes on for a day: {}",
                chain(&error)
            ));
        }
        ended
    })
}

/// What is to be debugged.
#[derive(Debug)]
struct Target<'a> {
    pod: &'a v1::PodSandbox,
    /// With its configuration and its process; none for a pod as a whole.
    container: Option<TargetContainer<'a>>,
    pod_config: v1::PodSandboxConfig,
    namespaces: v1::NamespaceOption,
}

#[derive(Debug)]
struct TargetContainer<'a> {
    listed: &'a v1::Container,
    config: Option<v1::ContainerConfig>,
    user: Option<User>,
    /// On the node; none if it does not run.
    pid: Option<i32>,
}

impl<'a> Target<'a> {
    async fn find(daemon: &Daemon, objects: &'a Objects, given: &str) -> anyhow::Result<Self> {
        let object = objects.either(given)?;
        let pod = match object {
            Object::Pod(pod) => pod,
            Object::Container(container) => objects
                .pod_with(container)
                .context("its pod has just been removed")?,
        };
        let (status, mut info) = pod_details(daemon, &pod.id).await?;
        let config = info["config"].take();
        let pod_config =
            serde_json::from_value(config).context("the runtime does not say how the pod is configured")?;
        let linux = status.linux;
        let namespaces = linux
            .and_then(|linux| linux.namespaces?.options)
            .unwrap_or_default();
        let container = match object {
            Object::Pod(_) => None,
            Object::Container(container) => Some(TargetContainer::find(daemon, container).await?),
        };
        Ok(Self {
            pod,
            container,
            pod_config,
            namespaces,
        })
    }

    /// The configuration of a debug container beside it. `environment` is the image's.
    fn debug(&self, args: &DebugArgs, environment: &[String]) -> anyhow::Result<v1::ContainerConfig> {
        let mut namespaces = self.namespaces.clone();
        if let Some(container) = &self.container {
            anyhow::ensure!(
                is_running(container.listed),
                "the container does not run, so that there is nothing to look into: --clone starts a copy of it"
            );
            namespaces.pid = v1::NamespaceMode::Target.into();
            namespaces.target_id = container.listed.id.clone();
        }
        anyhow::ensure!(
            !args.mount || self.container.is_some(),
            "--mount shows the files of a container, and {:?} is a pod: name one of its containers",
            args.target
        );
        let theirs = self.container.as_ref().and_then(|container| container.user);
        let of_pod = self
            .pod_config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref());
        let is_pod_privileged = of_pod.is_some_and(|security| security.privileged);
        let security = security(args.profile, args.user, theirs, is_pod_privileged, namespaces)?;
        let lifetime = if args.keep { FOR_EVER } else { LIFETIME };
        let path = args.mount.then(|| v1::KeyValue {
            key: "PATH".to_owned(),
            value: path_with_target(environment).into(),
        });
        Ok(v1::ContainerConfig {
            image: Some(v1::ImageSpec {
                image: args.image.clone(),
                ..Default::default()
            }),
            command: vec!["sleep".to_owned(), lifetime.to_owned()],
            envs: path.into_iter().collect(),
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(v1::LinuxContainerResources::default()),
                security_context: Some(security),
            }),
            ..self.named("debug")
        })
    }

    /// The configuration of a copy that runs another command.
    fn copy(&self, args: &DebugArgs, tty: bool) -> anyhow::Result<v1::ContainerConfig> {
        let container = self.container.as_ref();
        let container = container.context("--clone copies a container: name one of the pod's")?;
        let config = container.config.clone();
        let config = config.context("the runtime does not say how the container is configured")?;
        let mut linux = config.linux.unwrap_or_default();
        if let (Some(user), Some(security)) = (args.user, &mut linux.security_context) {
            security.run_as_username.clear();
            security.run_as_user = Some(v1::Int64Value {
                value: user.uid.into(),
            });
            security.run_as_group = user.gid.map(|gid| v1::Int64Value { value: gid.into() });
        }
        Ok(v1::ContainerConfig {
            image: config.image,
            command: command(args),
            working_dir: config.working_dir,
            envs: config.envs,
            mounts: config.mounts,
            devices: config.devices,
            cdi_devices: config.cdi_devices,
            stdin: true,
            tty,
            linux: Some(linux),
            ..self.named("clone")
        })
    }

    /// Name, labels and annotations of a container in this pod that kubelet leaves alone.
    fn named(&self, kind: &str) -> v1::ContainerConfig {
        let of = self
            .container
            .as_ref()
            .map_or(kind, |container| container_name(container.listed));
        // Of the same name there may be several: the time makes the difference.
        let name = format!("{of}-{kind}-{:x}", crate::state::now() / 1_000_000 % 0x1000_0000);
        let target = self
            .container
            .as_ref()
            .map_or(&self.pod.id, |container| &container.listed.id);
        let pod = POD_LABELS
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), self.pod.labels.get(*key)?.clone())));
        let mut labels: BTreeMap<String, String> = pod.collect();
        labels.insert(NAME_LABEL.to_owned(), name.clone());
        labels.insert(LABEL.to_owned(), target.clone());
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name, attempt: 0 }),
            labels,
            annotations: ANNOTATIONS
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Default::default()
        }
    }
}

impl<'a> TargetContainer<'a> {
    async fn find(daemon: &Daemon, listed: &'a v1::Container) -> anyhow::Result<Self> {
        let (status, mut info) = container_details(daemon, &listed.id).await?;
        let user = status.user.and_then(|user| user.linux);
        Ok(Self {
            listed,
            config: serde_json::from_value(info["config"].take()).ok(),
            user: user.and_then(|user| {
                Some(User {
                    uid: user.uid.try_into().ok()?,
                    gid: user.gid.try_into().ok(),
                })
            }),
            pid: info["pid"]
                .as_i64()
                .and_then(|pid| i32::try_from(pid).ok())
                .filter(|pid| *pid > 0),
        })
    }
}

/// What a debug container may do. `theirs` is the target's user. Only a privileged pod can have a privileged container: in another
/// one, `sysadmin` has all capabilities and no profiles, but not the node's devices.
fn security(
    profile: Profile,
    given: Option<User>,
    theirs: Option<User>,
    is_pod_privileged: bool,
    namespaces: v1::NamespaceOption,
) -> anyhow::Result<v1::LinuxContainerSecurityContext> {
    let user = match profile {
        Profile::Restricted => Some(given.or(theirs).filter(|user| user.uid != 0).context(
            "the profile restricted does not allow root, which the target runs as: give another one with --user",
        )?),
        _ => given,
    };
    let add: &[&str] = match profile {
        Profile::General => &["SYS_PTRACE"],
        Profile::Netadmin => &["NET_ADMIN", "NET_RAW"],
        Profile::Sysadmin => &["ALL"],
        Profile::Baseline | Profile::Restricted => &[],
    };
    let drop: &[&str] = if profile == Profile::Restricted {
        &["ALL"]
    } else {
        &[]
    };
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let is_unconfined = profile == Profile::Sysadmin;
    let kind = if is_unconfined {
        ProfileType::Unconfined
    } else {
        ProfileType::RuntimeDefault
    };
    let security_profile = v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: String::new(),
    };
    let hidden = |paths: &[&str]| if is_unconfined { Vec::new() } else { owned(paths) };
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: owned(add),
            drop_capabilities: owned(drop),
            ..Default::default()
        }),
        privileged: is_unconfined && is_pod_privileged,
        namespace_options: Some(namespaces),
        run_as_user: user.map(|user| v1::Int64Value {
            value: user.uid.into(),
        }),
        run_as_group: user
            .and_then(|user| user.gid)
            .map(|gid| v1::Int64Value { value: gid.into() }),
        no_new_privs: profile == Profile::Restricted,
        masked_paths: hidden(&MASKED),
        readonly_paths: hidden(&READONLY),
        seccomp: Some(security_profile.clone()),
        // Without a word the default where there is AppArmor; containerd refuses to be asked for it elsewhere.
        apparmor: is_unconfined.then_some(security_profile),
        ..Default::default()
    })
}

/// The image's PATH, then the same directories of the target.
fn path_with_target(environment: &[String]) -> String {
    const DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let set = environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="));
    let own = set.unwrap_or(DEFAULT);
    let theirs: Vec<String> = DEFAULT.split(':').map(|dir| format!("/{TARGET}{dir}")).collect();
    format!("{own}:{}", theirs.join(":"))
}

/// `KEY=VALUE` of the configuration of an image, which is pulled with progress if it is not there.
async fn image_environment(daemon: &Daemon, image: &str) -> anyhow::Result<Vec<String>> {
    let mut found = find(daemon, image, true).await?;
    if found.is_none() {
        fetch(daemon, image, &Auth::Login, true).await?;
        found = find(daemon, image, true).await?;
    }
    let info = found.map(|(_, status)| info(&status.info)).unwrap_or_default();
    let variables = info["imageSpec"]["config"]["Env"].as_array().cloned();
    let variables = variables.unwrap_or_default().into_iter();
    Ok(variables
        .filter_map(|variable| Some(variable.as_str()?.to_owned()))
        .collect())
}

fn command(args: &DebugArgs) -> Vec<String> {
    match args.command.as_slice() {
        [] => vec!["sh".to_owned()],
        given => given.to_vec(),
    }
}

/// Creates and starts a container; the id. One that does not start is removed.
async fn create(daemon: &Daemon, target: &Target<'_>, config: v1::ContainerConfig) -> anyhow::Result<String> {
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: target.pod.id.clone(),
        config: Some(config),
        sandbox_config: Some(target.pod_config.clone()),
    };
    let answer = daemon.runtime().create_container(request).await;
    let id = answer
        .map_err(daemon.failed("CreateContainer"))?
        .into_inner()
        .container_id;
    let request = v1::StartContainerRequest {
        container_id: id.clone(),
    };
    match daemon.runtime().start_container(request).await {
        Ok(_) => Ok(id),
        Err(status) => {
            // The reason that it did not start is what counts.
            drop(remove(daemon, &id).await);
            Err(daemon.failed("StartContainer")(status).into())
        }
    }
}

/// What the user came for; ends when the command does.
async fn debug(
    daemon: &Daemon,
    target: &Target<'_>,
    id: &str,
    args: &DebugArgs,
    tty: bool,
) -> anyhow::Result<ExitCode> {
    if args.clone {
        return attach_to(daemon, id, (true, tty), &args.stream).await;
    }
    if args.mount {
        link_target(daemon, target, id)
            .await
            .context("cannot show the target's files as /target")?;
    }
    exec_in(daemon, id.to_owned(), &command(args), (true, tty), &args.stream).await
}

/// Makes the link in the debug container's root, beneath which nothing leads out of it.
async fn link_target(daemon: &Daemon, target: &Target<'_>, id: &str) -> anyhow::Result<()> {
    let pid = target.container.as_ref().and_then(|container| container.pid);
    let inside = pid_inside(pid.context("the runtime does not say which process the target is")?)?;
    let root = Root::of_container(daemon, id).await?;
    root.symlink(&format!("/proc/{inside}/root"), OsStr::new(TARGET))?;
    Ok(())
}

/// The number of a process in the innermost namespace that it is in (proc_pid_status(5), `NSpid`).
fn pid_inside(pid: i32) -> anyhow::Result<i32> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path}: has the target ended?"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inside = line.and_then(|numbers| numbers.split_ascii_whitespace().next_back()?.parse().ok());
    inside.with_context(|| format!("{path} has no NSpid"))
}

async fn remove(daemon: &Daemon, id: &str) -> Result<(), CommandError> {
    stop_container(daemon, id, 0).await?;
    remove_container(daemon, id).await
}

#[cfg(test)]
mod tests;
