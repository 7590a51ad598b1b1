//! The proxy's own words in HTTP: refusals, each with a reason in plain text.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::head::BadHead;
use crate::error::ConnectError;

/// A status line and the reason that stands in the body.
pub(crate) struct Refused {
    status: &'static str,
    reason: String,
    more: &'static str,
}

impl Refused {
    /// No room for another client.
    pub(crate) fn no_room(limit: usize) -> Self {
        let reason = format!("bondwire: {limit} clients are connected, which is the limit. Try again later");
        Self { status: "503 Service Unavailable", reason, more: "Retry-After: 5\r\n" }
    }

    /// A wrong name or password, or none.
    pub(crate) fn login() -> Self {
        Self {
            status: "407 Proxy Authentication Required",
            reason: "bondwire: this proxy asks for a user name and a password. Set them in the client".into(),
            more: "Proxy-Authenticate: Basic realm=\"bondwire\", charset=\"UTF-8\"\r\n",
        }
    }

    /// A head longer than is read.
    pub(crate) fn long_head(limit: usize) -> Self {
        let reason = format!("bondwire: the request's head is longer than {limit} bytes");
        Self { status: "431 Request Header Fields Too Large", reason, more: "" }
    }

    /// A server's answer that cannot be passed on.
    pub(crate) fn server(what: &str) -> Self {
        Self { status: "502 Bad Gateway", reason: format!("bondwire: {what}"), more: "" }
    }
}

impl From<BadHead> for Refused {
    fn from(error: BadHead) -> Self {
        Self { status: "400 Bad Request", reason: format!("bondwire: {error}"), more: "" }
    }
}

impl From<ConnectError> for Refused {
    fn from(error: ConnectError) -> Self {
        let (status, hint) = match error {
            ConnectError::Refused(_) => ("503 Service Unavailable", "See bondwire links"),
            ConnectError::NoAnswer => ("504 Gateway Timeout", "Try again, or see bondwire status"),
            ConnectError::NoSuchName => ("502 Bad Gateway", "Check its spelling"),
            _ => ("502 Bad Gateway", "See bondwire status"),
        };
        Self { status, reason: format!("bondwire: {error}. {hint}"), more: "" }
    }
}

/// Sends a refusal; the connection ends after it.
pub(crate) async fn refuse(stream: &mut TcpStream, refused: Refused) -> io::Result<()> {
    let Refused { status, reason, more } = refused;
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{more}\
         Connection: close\r\n\r\n{reason}\n",
        reason.len() + 1
    );
    stream.write_all(text.as_bytes()).await
}
