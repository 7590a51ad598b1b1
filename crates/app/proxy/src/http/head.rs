//! Heads of HTTP messages: read, judged, and written anew for the other side (RFC 9110, RFC 9112).
//!
//! Hop-by-hop fields stop here (RFC 9110, 7.6.1): `Connection`, everything that it names, and those that older clients send without
//! naming them. `Transfer-Encoding` is one of them, but the body passes as it came, so it is written again. A message that could be
//! framed in two ways is refused (RFC 9112, 6.3).

use crate::connect::{Host, Target};

/// Header fields of one message.
const MOST_FIELDS: usize = 128;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(u64),
    Chunked,
    /// With the connection. Responses only.
    UntilClose,
}

/// What a client asks of the proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A tunnel.
    Connect(Target),
    /// One request to be passed on.
    Forward(Forward),
}

/// A request to be passed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) target: Target,
    /// The head for the server.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
    /// The client speaks HTTP/1.0, and gets answers in it.
    pub(crate) is_old: bool,
    /// The client wants to send another request afterwards.
    pub(crate) keep_alive: bool,
    /// The response has no body, whatever its fields say.
    pub(crate) is_head: bool,
    /// It may be sent again on a new connection if a reused one turns out closed (RFC 9110, 9.2.2).
    pub(crate) is_idempotent: bool,
}

/// A request as the proxy reads it.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) asked: Asked,
    /// `Proxy-Authorization`, if there is one.
    pub(crate) login: Option<Vec<u8>>,
    pub(crate) length: usize,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("the message is no valid HTTP/1.1")]
    Malformed,
    #[error("a proxy needs the whole address (http://host/path), and got only a path")]
    NoHost,
    #[error("only http:// is passed on; for anything else the client has to ask for a tunnel (CONNECT)")]
    Scheme,
    #[error("the body's length is stated in contradictory ways")]
    Framing,
}

/// Reads a request's head; `None` when it is not yet complete.
///
/// # Errors
/// When it never will be a valid one.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<RequestHead>, BadHead> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(bytes).map_err(|_| BadHead::Malformed)? else {
        return Ok(None);
    };
    let method = request.method.ok_or(BadHead::Malformed)?;
    let path = request.path.ok_or(BadHead::Malformed)?;
    let minor = request.version.ok_or(BadHead::Malformed)?;
    let login = field(request.headers, "proxy-authorization").map(<[u8]>::to_vec);
    if method.eq_ignore_ascii_case("connect") {
        let target = authority(path, None).ok_or(BadHead::Malformed)?;
        return Ok(Some(RequestHead { asked: Asked::Connect(target), login, length }));
    }
    if path.starts_with('/') || path == "*" {
        return Err(BadHead::NoHost);
    }
    let rest = path.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http://"));
    let rest = rest.ok_or(BadHead::Scheme)?.1;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (named, rest) = rest.split_at(end);
    // A user's name in an address is for nobody to send on (RFC 9110, 4.2.4).
    let named = named.rsplit('@').next().unwrap_or(named);
    let target = authority(named, Some(80)).ok_or(BadHead::Malformed)?;
    let body = match framing(request.headers)? {
        Body::UntilClose => Body::None,
        body => body,
    };
    let hop = Hop::new(request.headers);
    let keep_alive = hop.keeps_alive(minor);
    let rest = rest.split('#').next().unwrap_or(rest);
    let slash = if rest.starts_with('/') { "" } else { "/" };
    let mut head = Vec::with_capacity(length + 32);
    put(
        &mut head,
        &[method.as_bytes(), b" ", slash.as_bytes(), rest.as_bytes(), b" HTTP/1.", &[b'0' + minor]],
    );
    put(&mut head, &[b"\r\nHost: ", named.as_bytes(), b"\r\n"]);
    hop.pass(request.headers, &["host"], &mut head);
    if minor == 0 {
        put(&mut head, &[b"Connection: close\r\n"]);
    }
    put(&mut head, &[b"\r\n"]);
    let is_idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method);
    let forward = Forward {
        target,
        head,
        body,
        is_old: minor == 0,
        keep_alive,
        is_head: method == "HEAD",
        is_idempotent,
    };
    Ok(Some(RequestHead { asked: Asked::Forward(forward), login, length }))
}

/// A response as the proxy passes it on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// The head for the client, without its last empty line, so that a `Connection` may be added.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
    /// The server takes another request on this connection.
    pub(crate) keep_alive: bool,
    pub(crate) length: usize,
}

/// Reads a response's head, for a client that speaks HTTP/1.0 (`to_old`) or HTTP/1.1; `None` when it is not yet complete. The
/// version is the proxy's own word (RFC 9110, 6.2), so an old server does not cost a new client its connection.
///
/// # Errors
/// When it never will be a valid one.
pub(crate) fn response(bytes: &[u8], to_head: bool, to_old: bool) -> Result<Option<ResponseHead>, BadHead> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(|_| BadHead::Malformed)? else {
        return Ok(None);
    };
    let status = response.code.ok_or(BadHead::Malformed)?;
    let minor = response.version.ok_or(BadHead::Malformed)?;
    let body = match status {
        100..=199 | 204 | 304 => Body::None,
        _ if to_head => Body::None,
        _ => framing(response.headers)?,
    };
    let hop = Hop::new(response.headers);
    let mut head = Vec::with_capacity(length + 32);
    let reason = response.reason.unwrap_or("");
    put(
        &mut head,
        &[
            b"HTTP/1.",
            if to_old { b"0" } else { b"1" },
            format!(" {status:03} ").as_bytes(),
            reason.as_bytes(),
            b"\r\n",
        ],
    );
    hop.pass(response.headers, &[], &mut head);
    let keep_alive = hop.keeps_alive(minor) && body != Body::UntilClose;
    Ok(Some(ResponseHead { status, head, body, keep_alive, length }))
}

fn put(to: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        to.extend_from_slice(part);
    }
}

fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

fn values<'a>(fields: &'a [httparse::Header<'_>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let same = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    same.flat_map(|field| field.value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Host and port of `host:port`, `[address]:port` or, where there is a usual port, without one.
fn authority(text: &str, usual: Option<u16>) -> Option<Target> {
    let colon = text.rfind(':').filter(|colon| !text[*colon..].contains(']'));
    let (host, port) = match colon {
        Some(colon) if text[colon + 1..].is_empty() => (&text[..colon], usual?),
        Some(colon) => (&text[..colon], number(&text.as_bytes()[colon + 1..])?.try_into().ok()?),
        None => (text, usual?),
    };
    let bracketed = host.starts_with('[');
    let host = Host::parse(host.as_bytes())?;
    // An address with colons needs brackets, or its last group could be the port.
    let is_v6 = matches!(&host, Host::Ip(ip) if ip.is_ipv6());
    (bracketed == is_v6 && port != 0).then_some(Target { host, port })
}

fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// How the body of a message with these fields ends (RFC 9112, 6.3).
fn framing(fields: &[httparse::Header<'_>]) -> Result<Body, BadHead> {
    let mut codings = values(fields, "transfer-encoding").filter(|coding| !coding.is_empty());
    let coding = codings.next();
    let mut lengths = values(fields, "content-length");
    let length = lengths.next();
    match (coding, length) {
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
            Ok(Body::Chunked)
        }
        (None, Some(length)) => {
            let number = number(length).filter(|number| *number < u64::MAX).ok_or(BadHead::Framing)?;
            if lengths.any(|other| other != length) {
                return Err(BadHead::Framing);
            }
            Ok(Body::Length(number))
        }
        (None, None) => Ok(Body::UntilClose),
        _ => Err(BadHead::Framing),
    }
}

/// What the `Connection` fields of a message say.
struct Hop {
    named: Vec<Vec<u8>>,
}

/// Fields that end here even if `Connection` does not name them.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
];

impl Hop {
    fn new(fields: &[httparse::Header<'_>]) -> Self {
        let named = values(fields, "connection").chain(values(fields, "proxy-connection"));
        Self { named: named.map(<[u8]>::to_ascii_lowercase).collect() }
    }

    fn names(&self, name: &str) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(name.as_bytes()))
    }

    fn keeps_alive(&self, minor: u8) -> bool {
        !self.names("close") && (minor > 0 || self.names("keep-alive"))
    }

    /// Writes the fields that go on. The framing's own cannot be named away: the body goes on too.
    fn pass(&self, fields: &[httparse::Header<'_>], but: &[&str], to: &mut Vec<u8>) {
        for field in fields {
            let is = |name: &&str| field.name.eq_ignore_ascii_case(name);
            let frames = ["content-length", "transfer-encoding"].iter().any(is);
            if !frames && (HOP_BY_HOP.iter().any(is) || self.names(field.name)) || but.iter().any(is) {
                continue;
            }
            put(to, &[field.name.as_bytes(), b": ", field.value, b"\r\n"]);
        }
    }
}
