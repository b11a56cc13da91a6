//! Text from servers and users made fit for log lines and error messages.

#[cfg(test)]
mod tests;

/// At most 200 characters of `bytes`, on one line and without control characters.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let head = bytes.get(..1024).unwrap_or(bytes);
    let text = String::from_utf8_lossy(head);
    // Control characters could forge log lines or drive a terminal.
    let mut words = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
    {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    words.chars().take(200).collect()
}
