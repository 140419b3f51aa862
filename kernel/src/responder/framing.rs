//! Where a plain HTTP/1.1 request ends, and its body.
//!
//! Plain is a POST of JSON with a length and nothing that asks for more than an answer: no other encoding, no offer of
//! another protocol, no origin, no wish to be closed. Everything else, also what is no HTTP, is left to the complete parser,
//! which decides; so this must never take what that one reads otherwise. Source: RFC 9112.

use httparse::{EMPTY_HEADER, Request, Status};
use std::ops::Range;

const MAX_HEADERS: usize = 32;
/// Digits of a length.
const MAX_LENGTH_DIGITS: usize = 9;
const JSON: &[u8] = b"application/json";
/// Headers that ask for more than an answer.
const SPECIAL: [&str; 7] =
    ["origin", "expect", "upgrade", "transfer-encoding", "trailer", "proxy-connection", "content-encoding"];

/// A plain request within the bytes that were received.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    pub host: &'a [u8],
    pub body: Range<usize>,
}

/// The first request of `data`; None where it is not plain, or not all there.
pub fn read(data: &[u8]) -> Option<Framed<'_>> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut headers);
    let Ok(Status::Complete(start)) = request.parse(data) else { return None };
    let path = request.path?.as_bytes();
    let is_plain_path = path.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(byte));
    if request.method != Some("POST") || request.version != Some(1) || !is_plain_path || !is_strict(&data[..start]) {
        return None;
    }
    let (mut host, mut length, mut has_type) = (None, None, false);
    for header in request.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("host") {
            is_first(host.replace(header.value))?;
        } else if name.eq_ignore_ascii_case("content-length") {
            is_first(length.replace(decimal(header.value)?))?;
        } else if name.eq_ignore_ascii_case("content-type") {
            if has_type || !is_json(header.value) {
                return None;
            }
            has_type = true;
        } else if name.eq_ignore_ascii_case("connection") {
            if !header.value.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
        } else if SPECIAL.iter().any(|special| name.eq_ignore_ascii_case(special)) {
            return None;
        }
    }
    let end = start.checked_add(length?)?;
    (has_type && end <= data.len()).then_some(Framed { host: host?, body: start..end })
}

/// Whether a head has nothing that one parser takes and another refuses: bytes beyond ASCII, control characters, line ends
/// other than CRLF.
fn is_strict(head: &[u8]) -> bool {
    let mut last = 0u8;
    for &byte in head {
        let fits = match byte {
            b'\n' => last == b'\r',
            _ if last == b'\r' => false,
            b'\r' => true,
            _ => (b' '..0x7f).contains(&byte),
        };
        if !fits {
            return false;
        }
        last = byte;
    }
    !head.starts_with(b"\r")
}

fn is_first<T>(before: Option<T>) -> Option<()> {
    before.is_none().then_some(())
}

fn decimal(value: &[u8]) -> Option<usize> {
    if value.is_empty() || value.len() > MAX_LENGTH_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn is_json(value: &[u8]) -> bool {
    match value.split_at_checked(JSON.len()) {
        Some((kind, rest)) => kind == JSON && (rest.is_empty() || rest[0] == b';'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str =
        "POST / HTTP/1.1\r\nHost: a:1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}rest";

    #[test]
    fn a_plain_request_is_found_with_its_end() {
        let framed = read(PLAIN.as_bytes()).unwrap();
        assert_eq!((framed.host, &PLAIN[framed.body.clone()]), (&b"a:1"[..], "{}"));
        assert_eq!(&PLAIN[framed.body.end..], "rest");
        for (old, new) in [
            ("Host: a:1", "connection: Keep-Alive\r\nhost: a:1"),
            ("application/json", "application/json; charset=utf-8"),
            ("POST /", "POST /v1/key_1.x-y"),
            ("Host: a:1", "Host: a:1\r\nUser-Agent: x/1 (y)\r\nAccept: */*"),
        ] {
            assert!(read(PLAIN.replace(old, new).as_bytes()).is_some(), "{new}");
        }
    }

    #[test]
    fn what_is_cut_off_is_left() {
        let whole = PLAIN.len() - "rest".len();
        for length in 0..whole {
            assert_eq!(read(&PLAIN.as_bytes()[..length]), None, "{length}");
        }
    }

    #[test]
    fn what_asks_for_more_is_left() {
        for (old, new) in [
            ("POST", "GET"),
            ("POST", "post"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("POST / ", "POST  / "),
            ("POST /", "POST /?a=b"),
            ("POST /", "POST http://a/"),
            ("POST /", "\r\nPOST /"),
            ("\r\nHost", "\nHost"),
            ("Host: a:1\r\n", ""),
            ("Host: a:1", "Host: a:1\r\nHost: a:1"),
            ("Host: a:1", "Host : a:1"),
            ("Host: a:1", "Host: a\t:1"),
            ("Host: a:1", "Host: a:1\r\n folded"),
            ("Host: a:1", "Host: a:1\r\nX: \u{e9}"),
            ("Host: a:1", "Host: a:1\r\nOrigin: http://x"),
            ("Host: a:1", "Host: a:1\r\nExpect: 100-continue"),
            ("Host: a:1", "Host: a:1\r\nTransfer-Encoding: chunked"),
            ("Host: a:1", "Host: a:1\r\nUpgrade: h2c"),
            ("Host: a:1", "Host: a:1\r\nConnection: close"),
            ("Host: a:1", "Host: a:1\r\nConnection: keep-alive, upgrade"),
            ("Host: a:1", "Host: a:1\r\nProxy-Connection: close"),
            ("Content-Length: 2", "Content-Length: 2\r\nContent-Length: 2"),
            ("Content-Length: 2", "Content-Length: +2"),
            ("Content-Length: 2", "Content-Length: 2, 2"),
            ("Content-Length: 2", "Content-Length: 0x2"),
            ("Content-Length: 2", "Content-Length: 7"),
            ("Content-Length: 2", "Content-Length: 99999999999999999999"),
            ("Content-Length: 2", "Content-Length:"),
            ("Content-Length: 2\r\n", ""),
            ("Content-Type: application/json\r\n", ""),
            ("application/json", "application/jsonp"),
            ("application/json", "text/plain"),
            ("application/json", "application/json\r\nContent-Type: application/json"),
        ] {
            assert_eq!(read(PLAIN.replacen(old, new, 1).as_bytes()), None, "{new}");
        }
    }

    #[test]
    fn many_headers_are_left() {
        let more = |count: usize| "X: y\r\n".repeat(count) + "Host";
        assert!(read(PLAIN.replace("Host", &more(MAX_HEADERS - 3)).as_bytes()).is_some());
        assert_eq!(read(PLAIN.replace("Host", &more(MAX_HEADERS - 2)).as_bytes()), None);
    }
}
