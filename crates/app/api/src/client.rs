//! The caller's end of the control socket: one blocking request at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::listener::{SocketLock, lock_path};
use crate::{
    Clients, Fault, Info, LinkAnswer, LinkChange, LinkRequest, Links, Mode, ModeAnswer, ModeChange, Sockets,
    Status, Streams,
};

/// How long a daemon may take to answer one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// The greatest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Speaks to the daemon that listens on one socket. Holds no connection between calls.
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
}

impl ControlClient {
    /// A client of the daemon at `path`; nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process that holds the socket now; none if no daemon runs. Needs no right to speak to it.
    pub fn daemon(&self) -> Option<u32> {
        SocketLock::holder(&lock_path(&self.path)).ok().flatten()
    }

    /// Who listens.
    ///
    /// # Errors
    /// No daemon listens, this user may not speak to it, or it does not answer; so for all calls.
    pub fn info(&self) -> Result<Info, Fault> {
        self.request(Method::GET, "/v1/info", None::<&()>)
    }

    /// How it stands.
    ///
    /// # Errors
    /// As [`ControlClient::info`].
    pub fn status(&self) -> Result<Status, Fault> {
        self.request(Method::GET, "/v1/status", None::<&()>)
    }

    /// The clients of a server.
    ///
    /// # Errors
    /// As [`ControlClient::info`], and if the daemon is not a server.
    pub fn clients(&self) -> Result<Clients, Fault> {
        self.request(Method::GET, "/v1/clients", None::<&()>)
    }

    /// The real-time flows.
    ///
    /// # Errors
    /// As [`ControlClient::info`].
    pub fn streams(&self) -> Result<Streams, Fault> {
        self.request(Method::GET, "/v1/streams", None::<&()>)
    }

    /// The sockets that leave the machine over a link.
    ///
    /// # Errors
    /// As [`ControlClient::info`], and if the daemon is a server.
    pub fn sockets(&self) -> Result<Sockets, Fault> {
        self.request(Method::GET, "/v1/sockets", None::<&()>)
    }

    /// Changes the mode of the session.
    ///
    /// # Errors
    /// As [`ControlClient::info`], and if the daemon is a server.
    pub fn set_mode(&self, mode: Mode) -> Result<ModeAnswer, Fault> {
        self.request(Method::PUT, "/v1/mode", Some(&ModeChange { mode }))
    }

    /// The links of a client, with what is wanted of them.
    ///
    /// # Errors
    /// As [`ControlClient::info`], and if the daemon is a server.
    pub fn links(&self) -> Result<Links, Fault> {
        self.request(Method::GET, "/v1/links", None::<&()>)
    }

    /// Changes what is wanted of a link.
    ///
    /// # Errors
    /// As [`ControlClient::info`]; if the daemon is a server; if there is no such link in the bond; if the change could not be written.
    pub fn set_link(&self, link: &str, set: LinkChange) -> Result<LinkAnswer, Fault> {
        let request = LinkRequest { link: link.to_owned(), set };
        self.request(Method::PATCH, "/v1/links", Some(&request))
    }

    /// Asks the daemon to end. Returns as soon as it has accepted; [`ControlClient::daemon`] tells when it has gone.
    ///
    /// # Errors
    /// As [`ControlClient::info`].
    pub fn down(&self) -> Result<(), Fault> {
        self.request::<serde_json::Value>(Method::POST, "/v1/down", None::<&()>).map(drop)
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Fault> {
        let mut request = Request::builder().method(method).uri(route).header("host", "bondwire");
        let bytes = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Bytes::from(serde_json::to_vec(body).map_err(|error| self.garbled(&error.to_string()))?)
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes)).map_err(|error| self.garbled(&error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.not_reached(&error))?;
        let (ok, bytes) = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.exchange(request))
                .await
                .unwrap_or_else(|_| Err(self.not_reached(&io::Error::from(io::ErrorKind::TimedOut))))
        })?;
        if ok {
            return serde_json::from_slice(&bytes).map_err(|error| self.garbled(&error.to_string()));
        }
        Err(serde_json::from_slice(&bytes).unwrap_or_else(|error| self.garbled(&error.to_string())))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(bool, Bytes), Fault> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.not_reached(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.dropped(&error))?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.dropped(&error))?;
        let ok = response.status().is_success();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| self.garbled(&error.to_string()))?;
        driver.abort();
        Ok((ok, body.to_bytes()))
    }

    fn not_reached(&self, error: &io::Error) -> Fault {
        let path = self.path.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Fault::unreachable(
                "bondwire is not running",
                format!("no daemon listens on {path}"),
                "start it with `bondwire up` (or `bondwire balance`, `bondwire server run`); if it runs with another socket, name it with --socket",
            ),
            io::ErrorKind::PermissionDenied => Fault::permission(
                "cannot speak to the running bondwire",
                format!("{path} belongs to another user"),
                "run this command as root (sudo), or as the user who runs bondwire",
            ),
            _ => Fault::unreachable(
                "cannot speak to the running bondwire",
                format!("{path}: {error}"),
                "if it hangs, end it with `kill`, then undo what it left with `bondwire down`",
            ),
        }
    }

    fn dropped(&self, error: &hyper::Error) -> Fault {
        Fault::unreachable(
            "the running bondwire hung up",
            format!("{}: {error}", self.path.display()),
            "it serves only its own user and root: run this command as one of them; or it is just ending",
        )
    }

    fn garbled(&self, detail: &str) -> Fault {
        Fault::failed(
            "the running bondwire gave an answer that this command does not understand",
            format!("{}: {detail}", self.path.display()),
            "use the same version of bondwire for both: restart the running one",
        )
    }
}
