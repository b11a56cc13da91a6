//! Signals: names in images and requests, the kernel's numbers, CRI's enumeration.

use crate::proto::v1;

/// The signals below the real-time ones, by their usual names. `CLD`, `IOT` and `POLL` are older names.
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// SIGRTMIN of C libraries, which reserve 32 and 33.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A signal that can be sent: 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    pub const TERM: Self = Self(15);

    pub fn number(self) -> i32 {
        self.0
    }

    /// Reads `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`, `RTMAX-1`; case does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<i32>() {
            return (1..=RTMAX).contains(&number).then_some(Self(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(Self(*number));
        }
        let number = if let Some(offset) = name.strip_prefix("RTMIN") {
            RTMIN + distance(offset, '+')?
        } else {
            RTMAX - distance(name.strip_prefix("RTMAX")?, '-')?
        };
        (RTMIN..=RTMAX).contains(&number).then_some(Self(number))
    }

    /// From CRI's enumeration; none for its default and for unknown values.
    pub fn from_cri(value: i32) -> Option<Self> {
        let known = v1::Signal::try_from(value).ok()?;
        let name = known.as_str_name().strip_prefix("SIGNAL_")?;
        // RTMINPLUS1 is SIGRTMIN+1.
        Self::parse(&name.replace("PLUS", "+").replace("MINUS", "-"))
    }

    /// Its value in CRI's enumeration; none for the two that C libraries reserve.
    pub fn to_cri(self) -> Option<v1::Signal> {
        (1..=65)
            .filter_map(|value| v1::Signal::try_from(value).ok())
            .find(|known| Self::from_cri(*known as i32) == Some(self))
    }
}

fn distance(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    let plain = digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// The signal that asks a container to stop: CRI's, else the image's, else SIGTERM.
///
/// An image may have any text there. Text that is not a signal is ignored: refusing to stop would be worse.
pub fn stop_signal(cri: i32, image: Option<&str>) -> Signal {
    Signal::from_cri(cri)
        .or_else(|| image.and_then(Signal::parse))
        .unwrap_or(Signal::TERM)
}

#[cfg(test)]
mod tests;
