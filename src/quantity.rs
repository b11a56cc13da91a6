//! Resource quantities in Kubernetes' form: `10M`, `1.5Gi`, `2e6`.
//!
//! See <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// Parses a resource quantity (`10M`, `1.5Gi`, `2e6`), rounded up to a whole number.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || whole.len() + fraction.len() > 18 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (times, divided) = scale(suffix)?;
    let decimals = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = digits
        .checked_mul(times)?
        .div_ceil(divided.checked_mul(decimals)?);
    u64::try_from(value).ok()
}

fn scale(suffix: &str) -> Option<(u128, u128)> {
    let power = |base: u128, exponent: u32| base.checked_pow(exponent).map(|times| (times, 1));
    match suffix {
        "m" => Some((1, 1000)),
        "" => Some((1, 1)),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => power(
            10,
            suffix
                .strip_prefix(['e', 'E'])?
                .parse::<u32>()
                .ok()
                .filter(|exponent| *exponent <= 18)?,
        ),
    }
}

#[cfg(test)]
mod tests;
