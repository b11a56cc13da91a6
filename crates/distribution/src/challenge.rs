//! `WWW-Authenticate` (RFC 9110, section 11.6.1): the schemes a server offers with their parameters.
//!
//! The header is hostile input: parsing never fails and never panics, it stops at the first syntax error and keeps the challenges
//! before it; numbers and lengths are bounded.

#[cfg(test)]
mod tests;

const MAX_CHALLENGES: usize = 8;
const MAX_PARAMS: usize = 16;
const MAX_HEADER: usize = 16 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case: schemes compare without case.
    pub(crate) scheme: String,
    params: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter called `name` (lower case).
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// All challenges of one header value.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > MAX_HEADER {
        return Vec::new();
    }
    let mut rest = header;
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return found;
        }
        if let Some((value, after)) = param_value(after) {
            let Some(current) = found.last_mut() else {
                return found;
            };
            if current.params.len() == MAX_PARAMS {
                return found;
            }
            current.params.push((word.to_ascii_lowercase(), value));
            rest = after;
            continue;
        }
        if found.len() == MAX_CHALLENGES {
            return found;
        }
        found.push(Challenge {
            scheme: word.to_ascii_lowercase(),
            params: Vec::new(),
        });
        rest = skip_token68(after);
    }
}

/// The token at the beginning of `text` and what follows it.
fn token(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !is_token_byte(b)).unwrap_or(text.len());
    text.split_at(end)
}

fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// `= value` with the blanks that RFC 9110 tolerates; `None` if this is not a parameter.
fn param_value(text: &str) -> Option<(String, &str)> {
    let text = text
        .trim_start_matches([' ', '\t'])
        .strip_prefix('=')?
        .trim_start_matches([' ', '\t']);
    if let Some(quoted) = text.strip_prefix('"') {
        return unquote(quoted);
    }
    let (value, after) = token(text);
    (!value.is_empty()).then(|| (value.to_owned(), after))
}

/// A quoted-string behind its opening quote. Without a closing quote there is no value.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

/// Skips the single word after a scheme like `Negotiate dGVzdA==`.
fn skip_token68(text: &str) -> &str {
    let trimmed = text.trim_start_matches([' ', '\t']);
    let end = trimmed
        .bytes()
        .position(|b| !(b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)))
        .unwrap_or(trimmed.len());
    let (_, after) = trimmed.split_at(end);
    let after = after.trim_start_matches('=').trim_start_matches([' ', '\t']);
    if end > 0 && (after.is_empty() || after.starts_with(',')) {
        after
    } else {
        trimmed
    }
}
