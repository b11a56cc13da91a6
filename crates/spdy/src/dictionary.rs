//! The text both ends of SPDY/3 know before the first header (draft 3, section 2.6.10.1).
//!
//! It is a list of words, each behind its length in four bytes, and a tail without lengths. Its Adler-32 is the
//! dictionary id in the first bytes of every header stream.

const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized\
    403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
    text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The dictionary, put together when the program is compiled.
pub(crate) static DICTIONARY: [u8; 1423] = build();

/// Its Adler-32.
pub(crate) const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

const fn build() -> [u8; 1423] {
    let mut all = [0; 1423];
    let mut at = 0;
    let mut word = 0;
    while word < WORDS.len() {
        // No word is longer than 255 bytes: the three upper bytes are zero already.
        all[at + 3] = WORDS[word].len().to_le_bytes()[0];
        at = append(&mut all, at + 4, WORDS[word].as_bytes());
        word += 1;
    }
    at = append(&mut all, at, TAIL.as_bytes());
    assert!(at == all.len());
    all
}

const fn append(all: &mut [u8; 1423], at: usize, text: &[u8]) -> usize {
    let mut i = 0;
    while i < text.len() {
        all[at + i] = text[i];
        i += 1;
    }
    at + text.len()
}
