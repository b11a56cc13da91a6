//! `pausa exec` and `pausa attach`: a command in a container, and the container's own.
//!
//! Everything that is typed goes into the stream `stdin`, and so on; on a terminal a stream `resize` follows its size.
//!
//! Must never: leave the user's terminal in raw mode.

use std::io::{self, Read as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;
use pausa_spdy::{RecvHalf, SendHalf, Session};
use rustix::termios::isatty;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::failure::CommandError;
use super::objects::{Objects, container_details, container_status};
use super::output::{print_stderr, write_to};
use super::stream::{self, StreamFlags};
use super::terminal::{DetachKeys, Raw, Typed, size_message};
use crate::proto::v1::{AttachRequest, ContainerState, ExecRequest};

/// What came of a command is told as JSON since this version.
const PROTOCOL: &str = "v4.channel.k8s.io";

/// How often and how soon a container is looked at again whose output has ended: two seconds in all.
const EXIT_LOOKS: u32 = 40;
const EXIT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    stream: StreamFlags,
    /// Pass on standard input.
    #[arg(long, short = 'i', visible_alias = "interactive")]
    stdin: bool,
    /// Give the command a terminal.
    #[arg(long, short)]
    tty: bool,
    /// The container: NAMESPACE/POD/CONTAINER or the end of it, or the beginning of an id; a pod with one container.
    #[arg(add = ArgValueCompleter::new(complete::containers))]
    container: String,
    /// The command with its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    stream: StreamFlags,
    /// Pass on nothing of standard input, even if the container reads it.
    #[arg(long)]
    no_stdin: bool,
    /// The container: NAMESPACE/POD/CONTAINER or the end of it, or the beginning of an id; a pod with one container.
    #[arg(add = ArgValueCompleter::new(complete::containers))]
    container: String,
}

pub(super) fn exec(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let socket = args.client.socket()?;
    if args.tty && !isatty(io::stdin()) {
        let text =
            "--tty needs a terminal as standard input; without --tty the command gets pipes".to_owned();
        return Err(CommandError::Usage(text).into());
    }
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let id = objects.container(&args.container)?.id.clone();
        exec_in(&daemon, id, &args.command, (args.stdin, args.tty), &args.stream).await
    })
}

/// Runs a command in a container, with standard input and a terminal if they are wanted.
pub(super) async fn exec_in(
    daemon: &Daemon,
    container_id: String,
    command: &[String],
    (stdin, tty): (bool, bool),
    flags: &StreamFlags,
) -> anyhow::Result<ExitCode> {
    let request = ExecRequest {
        container_id,
        cmd: command.to_vec(),
        tty,
        stdin,
        stdout: true,
        stderr: !tty,
    };
    let answer = daemon.runtime().exec(request).await;
    let url = answer.map_err(daemon.failed("Exec"))?.into_inner().url;
    let session = stream::start(&url, PROTOCOL, flags).await?;
    let streams = Streams::open(&session, stdin, tty).await?;
    match streams.run(None).await? {
        End::Status(status) => stream::exit_code(&status),
        End::Detached => Ok(ExitCode::SUCCESS),
        End::Signal(signal) => Ok(ExitCode::from(128 + signal)),
    }
}

pub(super) fn attach(args: &AttachArgs) -> anyhow::Result<ExitCode> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let container = objects.container(&args.container)?;
        let (reads, tty) = stdin_and_tty(&daemon, &container.id).await?;
        let stdin = reads && !args.no_stdin;
        if stdin && isatty(io::stdin()) {
            let name = objects.shown(container.into());
            print_stderr(&format!("Attached to {name}; Ctrl-P Ctrl-Q leaves it running."));
        }
        attach_to(&daemon, &container.id, (stdin, tty), &args.stream).await
    })
}

/// Shows a container's output, and types into it if it reads. Ends with the container, and then with its exit code, or when the
/// user leaves it.
pub(super) async fn attach_to(
    daemon: &Daemon,
    id: &str,
    (stdin, tty): (bool, bool),
    flags: &StreamFlags,
) -> anyhow::Result<ExitCode> {
    let request = AttachRequest {
        container_id: id.to_owned(),
        stdin,
        tty,
        stdout: true,
        stderr: !tty,
    };
    let answer = daemon.runtime().attach(request).await;
    let url = answer.map_err(daemon.failed("Attach"))?.into_inner().url;
    let session = stream::start(&url, PROTOCOL, flags).await?;
    let streams = Streams::open(&session, stdin, tty).await?;
    match streams.run(Some(DetachKeys::default())).await? {
        End::Status(_) => container_exit(daemon, id).await,
        End::Detached => Ok(ExitCode::SUCCESS),
        End::Signal(signal) => Ok(ExitCode::from(128 + signal)),
    }
}

/// The exit code of a container whose output has ended; success if it goes on without one. containerd closes the output before it says
/// that the container has exited.
async fn container_exit(daemon: &Daemon, id: &str) -> anyhow::Result<ExitCode> {
    let mut status = container_status(daemon, id).await?;
    for _ in 0..EXIT_LOOKS {
        if status.state() != ContainerState::ContainerRunning {
            break;
        }
        tokio::time::sleep(EXIT_PAUSE).await;
        status = container_status(daemon, id).await?;
    }
    Ok(ExitCode::from(u8::try_from(status.exit_code).unwrap_or(u8::MAX)))
}

/// Whether a container reads standard input and has a terminal: the verbose status of containerd, CRI-O and pausa has its
/// configuration.
async fn stdin_and_tty(daemon: &Daemon, id: &str) -> Result<(bool, bool), CommandError> {
    let (_, info) = container_details(daemon, id).await?;
    let config = &info["config"];
    let is = |key: &str| config[key].as_bool().unwrap_or(false);
    Ok((is("stdin"), is("tty")))
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// What came of it, as the runtime says.
    Status(String),
    /// By the keys for it.
    Detached,
    /// By a signal to this process.
    Signal(u8),
}

/// The streams of one session.
#[derive(Debug)]
struct Streams {
    error: RecvHalf,
    /// The other half of stdin is kept: its end would mean that nobody reads the output.
    stdin: Option<(SendHalf, RecvHalf)>,
    stdout: RecvHalf,
    stderr: Option<RecvHalf>,
    resize: Option<SendHalf>,
}

impl Streams {
    async fn open(session: &Session, stdin: bool, tty: bool) -> anyhow::Result<Self> {
        let kind = |kind: &'static str| [("streamType", kind)];
        // In kubectl's order.
        let error = stream::open_to_read(session, &kind("error")).await?;
        let stdin = match stdin {
            true => {
                let (receive, send) = stream::open(session, &kind("stdin")).await?.split();
                Some((send, receive))
            }
            false => None,
        };
        let stdout = stream::open(session, &kind("stdout")).await?.split().0;
        let (stderr, resize) = match tty {
            true => (
                None,
                Some(stream::open(session, &kind("resize")).await?.split().1),
            ),
            false => (
                Some(stream::open(session, &kind("stderr")).await?.split().0),
                None,
            ),
        };
        Ok(Self {
            error,
            stdin,
            stdout,
            stderr,
            resize,
        })
    }

    /// Until the other side ends it; with `keys`, until they are typed.
    async fn run(self, keys: Option<DetachKeys>) -> anyhow::Result<End> {
        let has_terminal = self.resize.is_some();
        // Restored when this function returns, whatever the reason.
        let _raw = match has_terminal && self.stdin.is_some() {
            true => Raw::stdin()?,
            false => None,
        };
        let mut terminated = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let output = async {
            let stdout = copy(self.stdout, io::stdout());
            let stderr = async {
                match self.stderr {
                    Some(stderr) => copy(stderr, io::stderr()).await,
                    None => Ok(()),
                }
            };
            let status = stream::error_text(self.error);
            let ((), (), status) = tokio::try_join!(stdout, stderr, status)?;
            anyhow::Ok(End::Status(status))
        };
        let typed = async {
            match self.stdin {
                Some((to, _kept)) => type_into(to, keys).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = output => end,
            () = typed => Ok(End::Detached),
            // Never ends by itself.
            end = follow_size(self.resize) => end,
            _ = terminated.recv() => Ok(End::Signal(15)),
            _ = hung_up.recv() => Ok(End::Signal(1)),
        }
    }
}

async fn copy(mut from: RecvHalf, mut to: impl io::Write) -> anyhow::Result<()> {
    // A reset is the end, too: whether the command has ended well is told in the stream of errors.
    while let Ok(Some(bytes)) = from.chunk().await {
        write_to(&mut to, &bytes)?;
    }
    Ok(())
}

/// Passes on standard input. Returns when the user has typed the keys to leave.
async fn type_into(mut to: SendHalf, mut keys: Option<DetachKeys>) {
    let (sender, mut typed) = mpsc::channel::<Vec<u8>>(1);
    // A read of a terminal cannot be cancelled: this thread ends with the process.
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    while let Some(bytes) = typed.recv().await {
        let Typed { bytes, detached } = match &mut keys {
            Some(keys) => keys.typed(&bytes),
            None => Typed {
                bytes,
                detached: false,
            },
        };
        // If nobody reads any more, the rest of the input is for nobody; what came of the command is told elsewhere.
        let sent = to.write_all(&bytes).await;
        if detached {
            return;
        }
        if sent.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
    // With the stream, which would be reset if it were dropped.
    std::future::pending::<()>().await;
    drop(to);
}

/// Tells the remote terminal how large this one is, now and whenever that changes.
async fn follow_size(to: Option<SendHalf>) -> anyhow::Result<End> {
    let Some(mut to) = to else {
        return std::future::pending().await;
    };
    let mut changes = signal(SignalKind::window_change())?;
    loop {
        if let Some(size) = size_message() {
            // A runtime that takes no more sizes has ended the command.
            drop(to.write_all(size.as_bytes()).await);
        }
        changes.recv().await;
    }
}
