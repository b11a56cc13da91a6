//! Terminal sizes, as clients send them: JSON objects `{"Width":80,"Height":24}` one after the other.

use serde::Deserialize;

use super::channel::Input;
use super::ticket::TerminalSize;

/// A size takes 30 bytes; who sends this much without one sends something else.
const UNPARSED_MAX: usize = 4096;

/// The sizes a client sends.
#[derive(Debug)]
pub(super) struct Sizes {
    input: Input,
    parser: Parser,
}

impl Sizes {
    pub(super) fn new(input: Input) -> Self {
        Self {
            input,
            parser: Parser::default(),
        }
    }

    /// The next one; none once no more can come. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            match self.parser.next() {
                Ok(Some(size)) => return Some(size),
                Ok(None) => {}
                Err(NotSizes) => return None,
            }
            let chunk = self.input.chunk().await.ok().flatten()?;
            self.parser.feed(&chunk);
        }
    }
}

/// What was sent is not a series of sizes.
#[derive(Debug, PartialEq, Eq)]
struct NotSizes;

/// Field names as Go reads them: in any case.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "Width", alias = "width", default)]
    width: u16,
    #[serde(rename = "Height", alias = "height", default)]
    height: u16,
}

/// Puts sizes together from pieces.
#[derive(Debug, Default)]
struct Parser(Vec<u8>);

impl Parser {
    fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole size. One without width or height says nothing and is passed over.
    fn next(&mut self) -> Result<Option<TerminalSize>, NotSizes> {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.0).into_iter::<Message>();
            let message = match messages.next() {
                Some(Ok(message)) => message,
                Some(Err(error)) if !error.is_eof() => return Err(NotSizes),
                _ if self.0.len() > UNPARSED_MAX => return Err(NotSizes),
                _ => return Ok(None),
            };
            let end = messages.byte_offset();
            self.0.drain(..end);
            if message.width > 0 && message.height > 0 {
                return Ok(Some(TerminalSize {
                    width: message.width,
                    height: message.height,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
