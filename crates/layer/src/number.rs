//! Numbers as tar headers write them: octal text, or big-endian two's complement ("base-256", GNU tar's extension),
//! and decimal text with a fraction as pax records write times. Pure functions; anything odd is `None`.

/// A numeric header field. Blank fields count as zero: several writers leave unused ones empty.
pub(crate) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

/// A numeric header field that cannot be negative.
pub(crate) fn unsigned(bytes: &[u8]) -> Option<u64> {
    u64::try_from(field(bytes)?).ok()
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let text = bytes.trim_ascii_start();
    let end = text
        .iter()
        .position(|byte| matches!(byte, 0 | b' '))
        .unwrap_or(text.len());
    text[..end].iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

fn base256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    // The marker bit is not part of the number: replace it by a copy of the sign.
    let first = if negative { bytes[0] } else { bytes[0] & 0x7f };
    let start = if negative { -1i128 } else { 0 };
    let mut value = (start << 8) | i128::from(first);
    for byte in &bytes[1..] {
        value = (value << 8) | i128::from(*byte);
    }
    i64::try_from(value).ok()
}

/// Decimal digits only.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Seconds since the epoch with an optional fraction, as whole seconds and nanoseconds within 0..1e9.
/// Digits beyond nanoseconds are cut off.
pub(crate) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0u32;
    for place in 0..9 {
        nanoseconds = nanoseconds * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((
            seconds.checked_neg()?.checked_sub(1)?,
            1_000_000_000 - nanoseconds,
        )),
    }
}

#[cfg(test)]
mod tests;
