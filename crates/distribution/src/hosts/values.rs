//! Values of a `hosts.toml` that have a grammar of their own.

use std::time::Duration;

use url::Url;

#[cfg(test)]
mod tests;

/// Schemes a proxy may have.
const PROXY_SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// The address of a proxy, with containerd's checks: an absolute URL without path, query and fragment. The reasons quote
/// nothing, because the URL may hold a password.
pub(super) fn proxy(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not an absolute URL")?;
    if !PROXY_SCHEMES.contains(&url.scheme()) {
        return Err("has a scheme other than http, https, socks5, socks5h");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a path, query or fragment");
    }
    Ok(url)
}

/// Go's durations without nanoseconds and signs: a sequence of numbers with `us`, `ms`, `s`, `m` or `h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = after
            .chars()
            .take_while(|c| c.is_alphabetic())
            .map(char::len_utf8)
            .sum();
        let (unit, after) = after.split_at_checked(unit)?;
        let micros = micros(
            number,
            match unit {
                "us" | "\u{b5}s" | "\u{3bc}s" => 1,
                "ms" => 1_000,
                "s" => 1_000_000,
                "m" => 60_000_000,
                "h" => 3_600_000_000,
                _ => return None,
            },
        )?;
        total = total.checked_add(Duration::from_micros(micros))?;
        rest = after;
    }
    Some(total)
}

/// `1.25` of a unit of `unit` microseconds.
fn micros(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u64>().ok()
        }
    };
    // More digits than microseconds can show are cut.
    let part = part.get(..part.len().min(9))?;
    let scale = 10u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let fraction = digits(part)?.checked_mul(unit)? / scale;
    digits(whole)?.checked_mul(unit)?.checked_add(fraction)
}
