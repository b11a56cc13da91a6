//! `pausa logs`: what a container has written.
//!
//! The log is the file that CRI's ContainerStatus names, in the format of CRI: `TIME STREAM TAG TEXT`, where the tag `P` says that the
//! line goes on. It is read from disk as crictl does, so that it is there without a daemon's help for it. A file that kubelet rotates
//! is followed into its successor.
//!
//! Must never: let the text of a container control a terminal; colours are the exception.

mod line;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::OFlags;

use self::line::{Entry, Stream};
use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::failure::CommandError;
use super::objects::{Object, Objects, container_name, container_status, unless_removed};
use super::output::{closed, write_to};
use crate::proto::v1::{Container, ContainerState};

/// Between two looks at a log that is followed.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest line that is shown in one piece. The runtime splits lines far below this.
const MAX_LINE: u64 = 4 << 20;
/// Read at once when the last lines are looked for from the end.
const BLOCK: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    client: ClientFlags,
    /// Go on with what is written from now on, until the container ends.
    #[arg(long, short)]
    follow: bool,
    /// Only this many lines of the end.
    #[arg(long, short = 'n', visible_alias = "lines", value_name = "LINES")]
    tail: Option<u64>,
    /// Only what is younger: a time (2026-11-30T12:00:00Z) or a duration before now (90s, 15m, 2h).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what is older, in the same forms.
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// Print the time of each line.
    #[arg(long, short)]
    timestamps: bool,
    /// Of the container that ran before with the same name, which has ended.
    #[arg(long, short, conflicts_with = "follow")]
    previous: bool,
    /// Only one of the two.
    #[arg(long, value_enum, value_name = "STREAM")]
    stream: Option<Stream>,
    /// Pass on control characters to a terminal as they are.
    #[arg(long)]
    raw: bool,
    /// The container: NAMESPACE/POD/CONTAINER or the end of it, or the beginning of an id; a pod with one container.
    #[arg(add = ArgValueCompleter::new(complete::containers))]
    container: String,
}

/// A time, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago: SignedDuration = text.parse().map_err(|error| {
        format!("it is neither a time such as 2026-11-30T12:00:00Z nor a duration such as 15m: {error}")
    })?;
    Timestamp::now()
        .checked_sub(ago)
        .map_err(|error| error.to_string())
}

pub(super) fn run(args: &LogsArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let container = objects.container(&args.container)?;
        let container = match args.previous {
            false => container,
            true => {
                let same = |one: &&Container| {
                    one.pod_sandbox_id == container.pod_sandbox_id
                        && container_name(one) == container_name(container)
                        && one.created_at < container.created_at
                };
                let before = objects.containers.iter().find(same);
                before.with_context(|| {
                    let name = objects.shown(Object::Container(container));
                    format!("there is no container that ran before {name}; it may have been removed")
                })?
            }
        };
        let status = container_status(&daemon, &container.id).await?;
        if status.log_path.is_empty() {
            let name = objects.shown(Object::Container(container));
            let text = format!("{name} has no log: the client that created it named no file for it");
            return Err(anyhow::Error::msg(text));
        }
        let mut printer = Printer::new(args);
        let mut log = Log::open(PathBuf::from(status.log_path))?;
        if let Some(lines) = args.tail {
            log.seek_to_last(lines)?;
        }
        loop {
            // Before the log is read: what a container wrote before it ended is there then.
            let is_over = !args.follow || has_ended(&daemon, &container.id).await?;
            log.read(&mut printer)?;
            if is_over {
                return printer.finish();
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                closed = closed() => return Err(closed.into()),
            }
        }
    })
}

/// Whether a container writes no more. A removed one does not.
async fn has_ended(daemon: &Daemon, id: &str) -> Result<bool, CommandError> {
    let status = unless_removed(container_status(daemon, id).await)?;
    Ok(status.is_none_or(|status| status.state() == ContainerState::ContainerExited))
}

/// A log file, and its successors.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: BufReader<File>,
    inode: u64,
    /// The line that has no end yet.
    line: Vec<u8>,
}

impl Log {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let file = open(&path)?;
        let inode = file.metadata()?.ino();
        Ok(Self {
            path,
            file: BufReader::new(file),
            inode,
            line: Vec::new(),
        })
    }

    /// Goes to the beginning of the last lines.
    fn seek_to_last(&mut self, lines: u64) -> anyhow::Result<()> {
        let end = self.file.seek(SeekFrom::End(0))?;
        let mut left = lines;
        let mut block = Vec::new();
        let mut at = end;
        while at > 0 && left > 0 {
            let from = at.saturating_sub(BLOCK);
            block.clear();
            self.file.seek(SeekFrom::Start(from))?;
            self.file.by_ref().take(at - from).read_to_end(&mut block)?;
            for newline in memchr::memrchr_iter(b'\n', &block) {
                let next = from + u64::try_from(newline)? + 1;
                // The newline at the very end closes the last line, all others are before one of those that are wanted.
                left -= u64::from(next < end);
                if left == 0 {
                    self.file.seek(SeekFrom::Start(next))?;
                    return Ok(());
                }
            }
            at = from;
        }
        let to = if lines == 0 { end } else { 0 };
        self.file.seek(SeekFrom::Start(to))?;
        Ok(())
    }

    /// Prints what is there, also of a file that has taken this one's place.
    fn read(&mut self, printer: &mut Printer<'_>) -> anyhow::Result<()> {
        loop {
            self.read_file(printer)?;
            // kubelet renames the file and asks for a new one of the same name.
            let now = std::fs::metadata(&self.path).map(|now| now.ino());
            match now {
                Ok(inode) if inode != self.inode => {
                    // What was written to the old one until it was replaced.
                    self.read_file(printer)?;
                    *self = Self::open(std::mem::take(&mut self.path))?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn read_file(&mut self, printer: &mut Printer<'_>) -> anyhow::Result<()> {
        loop {
            let room = MAX_LINE.saturating_sub(self.line.len() as u64);
            let count = self.file.by_ref().take(room).read_until(b'\n', &mut self.line);
            let count = count.with_context(|| format!("cannot read {}", self.path.display()))?;
            if self.line.ends_with(b"\n") || room == 0 {
                printer.line(&self.line)?;
                self.line.clear();
            } else if count == 0 {
                return Ok(());
            }
        }
    }
}

/// Opens a log. A pod that has the directory of logs as a volume can put something else in its place.
fn open(path: &Path) -> anyhow::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits())?;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let file = opened.with_context(|| {
        let path = path.display();
        format!("cannot open the log {path}: is this the runtime's node, and are you root?")
    })?;
    anyhow::ensure!(
        file.metadata()?.is_file(),
        "the log {} is not a regular file",
        path.display()
    );
    Ok(file)
}

/// Prints those lines of a log that are wanted.
#[derive(Debug)]
struct Printer<'a> {
    args: &'a LogsArgs,
    /// Whether control characters are shown instead of obeyed, on stdout and on stderr.
    escaped: [bool; 2],
    /// Whether the next piece begins a line, of stdout and of stderr.
    at_start: [bool; 2],
    /// Lines that are none, which are left out.
    odd: u64,
}

impl<'a> Printer<'a> {
    fn new(args: &'a LogsArgs) -> Self {
        let escaped = [io::stdout().is_terminal(), io::stderr().is_terminal()];
        Self {
            args,
            escaped: escaped.map(|is_terminal| is_terminal && !args.raw),
            at_start: [true; 2],
            odd: 0,
        }
    }

    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let Some(entry) = Entry::parse(line) else {
            self.odd += 1;
            return Ok(());
        };
        let args = self.args;
        let is_wanted = args.since.is_none_or(|since| entry.time >= since)
            && args.until.is_none_or(|until| entry.time < until)
            && args.stream.is_none_or(|stream| entry.stream == stream);
        if !is_wanted {
            return Ok(());
        }
        let at = entry.stream as usize;
        let is_start = std::mem::replace(&mut self.at_start[at], entry.is_whole);
        let mut bytes = Vec::new();
        if args.timestamps && is_start {
            bytes.extend_from_slice(entry.time_text);
            bytes.push(b' ');
        }
        match self.escaped[at] {
            true => line::push_visible(entry.text, &mut bytes),
            false => bytes.extend_from_slice(entry.text),
        }
        if entry.is_whole {
            bytes.push(b'\n');
        }
        match entry.stream {
            Stream::Stdout => write_to(&mut io::stdout().lock(), &bytes),
            Stream::Stderr => write_to(&mut io::stderr().lock(), &bytes),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.odd == 0,
            "{} lines were left out: they are not in CRI's format, TIME STREAM TAG TEXT",
            self.odd
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests;
