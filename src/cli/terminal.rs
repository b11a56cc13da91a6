//! The terminal of the user: raw while a remote one is shown, restored afterwards; its size; keys that mean something here.
//!
//! Invariant: a terminal that was made raw is restored when [`Raw`] is dropped.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use super::screen::Size;

/// Standard input in raw mode: every key goes to the remote terminal, which echoes.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    /// None if standard input is no terminal.
    pub(super) fn stdin() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !isatty(&stdin) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What a remote terminal is told of the size of this one (`remotecommand.TerminalSize` in JSON).
pub(super) fn size_message() -> Option<String> {
    let size = Size::of_stdout()?;
    Some(format!(
        "{{\"Width\":{},\"Height\":{}}}\n",
        size.columns, size.rows
    ))
}

/// Finds Ctrl-P Ctrl-Q, by which a user leaves a terminal that lives on, as with docker.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    /// Whether the last byte was Ctrl-P. It is held back until the next one is known.
    is_begun: bool,
}

/// What of typed bytes goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) bytes: Vec<u8>,
    /// The keys came; nothing behind them counts.
    pub(super) detached: bool,
}

impl DetachKeys {
    const FIRST: u8 = 0x10;
    const SECOND: u8 = 0x11;

    pub(super) fn typed(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len() + 1);
        for byte in typed {
            match (std::mem::take(&mut self.is_begun), *byte) {
                (true, Self::SECOND) => {
                    return Typed {
                        bytes,
                        detached: true,
                    };
                }
                (is_begun, byte) => {
                    if is_begun {
                        bytes.push(Self::FIRST);
                    }
                    match byte {
                        Self::FIRST => self.is_begun = true,
                        byte => bytes.push(byte),
                    }
                }
            }
        }
        Typed {
            bytes,
            detached: false,
        }
    }
}

#[cfg(test)]
mod tests;
