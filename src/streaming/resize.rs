//! Terminal sizes from clients: a sequence of JSON objects `{"Width":80,"Height":24}`.

use serde::Deserialize;

use super::channel::Input;
use super::ticket::TerminalSize;

/// A size has some 30 bytes; more bytes without one are something else.
const UNPARSED_MAX: usize = 4096;

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

    /// The next size; none at the end. Cancel-safe.
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

/// The input is not a sequence of sizes.
#[derive(Debug, PartialEq, Eq)]
struct NotSizes;

/// Go accepts field names in any case.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "Width", alias = "width", default)]
    width: u16,
    #[serde(rename = "Height", alias = "height", default)]
    height: u16,
}

/// Parses sizes from pieces.
#[derive(Debug, Default)]
struct Parser {
    bytes: Vec<u8>,
    /// How many of them are parsed.
    parsed: usize,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete size. Sizes without width or height are skipped.
    fn next(&mut self) -> Result<Option<TerminalSize>, NotSizes> {
        loop {
            let rest = &self.bytes[self.parsed..];
            let mut messages = serde_json::Deserializer::from_slice(rest).into_iter::<Message>();
            let message = match messages.next() {
                Some(Ok(message)) => message,
                Some(Err(error)) if !error.is_eof() => return Err(NotSizes),
                _ if rest.len() > UNPARSED_MAX => return Err(NotSizes),
                _ => {
                    self.bytes = rest.to_vec();
                    self.parsed = 0;
                    return Ok(None);
                }
            };
            self.parsed += messages.byte_offset();
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
