//! Takes secrets out of what goes into a support bundle.
//!
//! A value goes if its key says that it is a secret, or if it looks like one: URLs with a user, bearer tokens, private keys,
//! long runs of random characters. Texts lose the part that looks like a secret, and keep the rest. What is left out is
//! replaced with a word, so that it can be seen that something was there.
//!
//! Must never: let a value through because its form is unknown. Environments of containers and contents of volumes are never
//! given to it; they stay out of bundles altogether.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

pub(super) const REMOVED: &str = "[redacted]";

/// Parts of keys whose values are secrets.
const KEYS: [&str; 16] = [
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "credential",
    "apikey",
    "api-key",
    "api_key",
    "privatekey",
    "private-key",
    "private_key",
    "auth",
    "cookie",
    "bearer",
    "passphrase",
];
/// Keys that sound like it and are none.
const HARMLESS: [&str; 4] = ["auth_file", "authorization-mode", "authentication", "author"];
/// Keys of environments and command lines, whatever is in them, in small letters and without separators.
const ENVIRONMENTS: [&str; 8] = [
    "env",
    "envs",
    "defaultenv",
    "environment",
    "args",
    "command",
    "cmd",
    "entrypoint",
];
/// Keys with labels or annotations: of those the values are judged more strictly.
const NOTES: [&str; 2] = ["annotations", "labels"];
/// Random characters from so many on are a secret. Ids and digests are hexadecimal, and are none.
const RANDOM: usize = 20;

static PATTERNS: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
    let pattern = |text| Regex::new(text).expect("a regular expression that a test compiles");
    [
        (
            pattern(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)"),
            REMOVED,
        ),
        // The user's part of a URL.
        (
            pattern(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'\x22]+@"),
            "${1}[redacted]@",
        ),
        // JSON web tokens.
        (pattern(r"\beyJ[A-Za-z0-9_-]{5,}(\.[A-Za-z0-9_-]*){1,2}"), REMOVED),
        // What follows the name of a scheme of HTTP authentication.
        (
            pattern(r"(?i)\b(bearer|basic)(\s+|:\s*)[A-Za-z0-9+/_.~=-]{6,}"),
            "${1} [redacted]",
        ),
        // `password=…`, `"token": "…"`, `--creds USER:PASSWORD`, in one line.
        (
            pattern(
                r#"(?i)([a-z0-9_.-]*(?:password|passwd|secret|token|apikey|api[_-]key|credential|passphrase|authorization|cookie)s?[a-z0-9_-]*["']?\s*[=:]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,;}]+)"#,
            ),
            "${1}[redacted]",
        ),
        (
            pattern(r"(?i)(--?(?:creds|auth|password|token)[= ])\S+"),
            "${1}[redacted]",
        ),
    ]
});

static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[A-Za-z0-9+/_=-]{20,}").expect("a regular expression that a test compiles")
});

/// A text of any form without what looks like a secret.
pub(super) fn text(given: &str) -> String {
    let mut clean = given.to_owned();
    for (pattern, instead) in PATTERNS.iter() {
        clean = pattern.replace_all(&clean, *instead).into_owned();
    }
    let random = |found: &Captures<'_>| match is_random(&found[0]) {
        true => REMOVED.to_owned(),
        false => found[0].to_owned(),
    };
    WORDS.replace_all(&clean, random).into_owned()
}

/// Digits, small and capital letters all mixed, as no name is: neither hexadecimal digits, words in camel case nor paths.
fn is_random(word: &str) -> bool {
    if word.len() < RANDOM || word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return false;
    }
    // Parts of paths are words of their own.
    word.split('/').any(|part| {
        let count = |is: fn(&u8) -> bool| part.bytes().filter(is).count();
        let digits = count(u8::is_ascii_digit);
        let (small, capital) = (count(u8::is_ascii_lowercase), count(u8::is_ascii_uppercase));
        part.len() >= RANDOM && digits >= 2 && small >= 2 && capital >= 2
    })
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    !HARMLESS.contains(&key.as_str()) && KEYS.iter().any(|part| key.contains(part))
}

fn is_environment(key: &str) -> bool {
    let mut key = key.to_ascii_lowercase();
    key.retain(|c| !matches!(c, '_' | '-'));
    ENVIRONMENTS.contains(&key.as_str())
}

/// A document without secrets, in place.
pub(super) fn json(document: &mut Value) {
    walk(document, false);
}

fn walk(value: &mut Value, strict: bool) {
    match value {
        Value::Object(object) => {
            for (key, mut value) in std::mem::take(object) {
                if (is_secret(&key) || is_environment(&key)) && !is_empty(&value) {
                    value = Value::from(REMOVED);
                } else {
                    walk(&mut value, strict || NOTES.contains(&key.as_str()));
                }
                // A key may be a URL with a user.
                object.insert(text(&key), value);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| walk(value, strict)),
        Value::String(given) => *given = string(given, strict),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Nothing to hide, and `null` and `false` are facts.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Number(_) => false,
    }
}

fn string(given: &str, strict: bool) -> String {
    // A document in a text, as `kubectl apply` leaves one in an annotation.
    if given.trim_start().starts_with(['{', '['])
        && let Ok(mut inner) = serde_json::from_str::<Value>(given)
    {
        walk(&mut inner, strict);
        return inner.to_string();
    }
    let clean = text(given);
    // In an annotation one word without blanks that is longer than a name, and neither an id, a path nor a time.
    let looks = |word: &str| {
        let word = word.trim_end_matches('=');
        let has = |is: fn(&u8) -> bool| word.bytes().any(|byte| is(&byte));
        word.len() >= 16
            && !word.contains(['/', '.', ':', ' '])
            && !word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_alphabetic)
    };
    match strict && looks(&clean) {
        true => REMOVED.to_owned(),
        false => clean,
    }
}

/// A file in TOML, as JSON without secrets; none if it is no TOML, because then nobody knows what is in it.
pub(super) fn toml(given: &str) -> Option<Value> {
    let table = toml::from_str::<toml::Table>(given).ok()?;
    let mut value = serde_json::to_value(table).ok()?;
    headers(&mut value);
    json(&mut value);
    Some(value)
}

/// All values of `header` tables go: which of them are secrets only the registry knows.
fn headers(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match key.as_str() {
                    "header" | "headers" => blank(value),
                    _ => headers(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(headers),
        _ => {}
    }
}

fn blank(value: &mut Value) {
    match value {
        Value::Object(object) => object.iter_mut().for_each(|(_, value)| blank(value)),
        value => *value = Value::from(REMOVED),
    }
}

#[cfg(test)]
mod tests;
