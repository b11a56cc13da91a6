//! Messages of D-Bus, as far as systemd is asked. Bytes only, no I/O.
//!
//! Reference: D-Bus specification, "Message Protocol". Numbers are in the machine's byte order, which the first byte
//! of a message names.

/// The byte that names this machine's order.
const ORDER: u8 = if cfg!(target_endian = "little") {
    b'l'
} else {
    b'B'
};

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// What every message begins with: order, type, flags, version, and three numbers.
pub(super) const START: usize = 16;

/// No answer that is asked for here is even a hundredth of it.
const LARGEST: usize = 1 << 20;

/// A value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Numbers(Vec<u32>),
    Bytes(Vec<u8>),
}

/// A property of a unit.
pub(super) type Property = (&'static str, Value);

/// Whom to ask for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// Arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Body {
    signature: String,
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To the call with this number.
    Return(u32, Vec<u8>),
    /// As above, with the error's name and text.
    Error(u32, String, String),
    /// A signal, or a call of ours by others.
    Other,
}

/// The message is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Body {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.signature.push('s');
        put_text(&mut self.bytes, text);
        self
    }

    pub(super) fn flag(mut self, flag: bool) -> Self {
        self.signature.push('b');
        put(&mut self.bytes, u32::from(flag));
        self
    }

    pub(super) fn properties(mut self, properties: &[Property]) -> Self {
        self.signature.push_str("a(sv)");
        array(&mut self.bytes, 8, |bytes| {
            for (name, value) in properties {
                align(bytes, 8);
                put_text(bytes, name);
                put_variant(bytes, value);
            }
        });
        self
    }

    /// No auxiliary units of StartTransientUnit.
    pub(super) fn no_units(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        array(&mut self.bytes, 8, |_| {});
        self
    }
}

/// A method call as bytes.
pub(super) fn encode(serial: u32, call: &Call<'_>, body: &Body) -> Vec<u8> {
    let mut bytes = vec![ORDER, METHOD_CALL, 0, 1];
    put(&mut bytes, u32::try_from(body.bytes.len()).unwrap_or(u32::MAX));
    put(&mut bytes, serial);
    array(&mut bytes, 8, |bytes| {
        let fields = [
            (1, 'o', call.path),
            (2, 's', call.interface),
            (3, 's', call.member),
            (6, 's', call.destination),
        ];
        for (code, kind, text) in fields {
            align(bytes, 8);
            bytes.extend([code, 1, u8::try_from(kind).unwrap_or(b's'), 0]);
            put_text(bytes, text);
        }
        if !body.signature.is_empty() {
            align(bytes, 8);
            bytes.extend([8, 1, b'g', 0]);
            put_signature(bytes, &body.signature);
        }
    });
    align(&mut bytes, 8);
    bytes.extend(&body.bytes);
    bytes
}

/// How much follows these first bytes of a message.
pub(super) fn rest(start: [u8; START]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(&start);
    let order = reader.bytes(4)?[0];
    let (body, _, fields) = (reader.size()?, reader.number()?, reader.size()?);
    let rest = fields.next_multiple_of(8) + body;
    if order == ORDER && rest <= LARGEST {
        Ok(rest)
    } else {
        Err(Malformed)
    }
}

/// A whole message.
pub(super) fn decode(message: &[u8]) -> Result<Answer, Malformed> {
    let mut reader = Reader::new(message);
    let kind = reader.bytes(4)?[1];
    let (_, _, fields) = (reader.number()?, reader.number()?, reader.size()?);
    let end = START + fields;
    let (mut answered, mut name) = (0, String::new());
    while reader.at < end {
        reader.align(8);
        let code = reader.bytes(1)?[0];
        match (code, reader.signature()?) {
            (5, "u") => answered = reader.number()?,
            (4, "s") => reader.text()?.clone_into(&mut name),
            (_, "u") => drop(reader.number()?),
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            _ => return Err(Malformed),
        }
    }
    let body = message.get(end.next_multiple_of(8)..).ok_or(Malformed)?;
    Ok(match kind {
        METHOD_RETURN => Answer::Return(answered, body.to_vec()),
        // The text of an error is optional and comes first.
        ERROR => Answer::Error(answered, name, Reader::new(body).text().unwrap_or("").to_owned()),
        _ => Answer::Other,
    })
}

/// The job id of a `Job` property, a variant of id and path; 0 means no job.
pub(super) fn job(body: &[u8]) -> Result<u32, Malformed> {
    let mut reader = Reader::new(body);
    if reader.signature()? != "(uo)" {
        return Err(Malformed);
    }
    reader.align(8);
    reader.number()
}

/// The object that is a unit: letters and digits as they are, but no digit first; all else in hexadecimal.
pub(super) fn unit_path(unit: &str) -> String {
    let escaped = unit.bytes().enumerate().map(|(at, byte)| {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            char::from(byte).to_string()
        } else {
            format!("_{byte:02x}")
        }
    });
    format!("/org/freedesktop/systemd1/unit/{}", escaped.collect::<String>())
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put(bytes: &mut Vec<u8>, number: u32) {
    align(bytes, 4);
    bytes.extend(number.to_ne_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put(bytes, u32::try_from(text.len()).unwrap_or(u32::MAX));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn put_signature(bytes: &mut Vec<u8>, signature: &str) {
    bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
    bytes.extend(signature.as_bytes());
    bytes.push(0);
}

fn put_variant(bytes: &mut Vec<u8>, value: &Value) {
    let signature = match value {
        Value::Text(_) => "s",
        Value::Flag(_) => "b",
        Value::Number(_) => "t",
        Value::Numbers(_) => "au",
        Value::Bytes(_) => "ay",
    };
    put_signature(bytes, signature);
    match value {
        Value::Text(text) => put_text(bytes, text),
        Value::Flag(flag) => put(bytes, u32::from(*flag)),
        Value::Number(number) => {
            align(bytes, 8);
            bytes.extend(number.to_ne_bytes());
        }
        Value::Numbers(numbers) => array(bytes, 4, |bytes| {
            numbers.iter().for_each(|number| put(bytes, *number));
        }),
        Value::Bytes(some) => array(bytes, 1, |bytes| bytes.extend(some)),
    }
}

/// An array's length counts neither itself nor the padding before its first element.
fn array(bytes: &mut Vec<u8>, alignment: usize, elements: impl FnOnce(&mut Vec<u8>)) {
    put(bytes, 0);
    let place = bytes.len() - 4;
    align(bytes, alignment);
    let first = bytes.len();
    elements(bytes);
    let length = u32::try_from(bytes.len() - first).unwrap_or(u32::MAX);
    bytes[place..place + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Reads on from where it is; positions count from the beginning of what it was given.
struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let bytes = self.all.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4);
        let bytes = self.bytes(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn size(&mut self) -> Result<usize, Malformed> {
        let size = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        if size <= LARGEST { Ok(size) } else { Err(Malformed) }
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let size = self.size()?;
        self.characters(size)
    }

    fn signature(&mut self) -> Result<&'a str, Malformed> {
        let size = self.bytes(1)?[0].into();
        self.characters(size)
    }

    /// With the zero byte after them.
    fn characters(&mut self, size: usize) -> Result<&'a str, Malformed> {
        let text = self.bytes(size + 1)?;
        std::str::from_utf8(&text[..size]).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests;
