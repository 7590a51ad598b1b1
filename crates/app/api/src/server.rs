//! The daemon's end of the control socket.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use tokio::sync::oneshot;

use crate::listener::{BoundSocket, OwnerListener, bind_socket};
use crate::{
    Clients, Fault, FaultKind, Info, LinkAnswer, LinkChange, LinkRequest, Links, Mode, ModeAnswer,
    ModeChange, Sockets, Status, Streams,
};

/// The greatest body of a request, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// What a daemon can be asked and told. The calls come from the control thread and must not block for long:
/// they read a snapshot, or leave a command behind.
pub trait Control: Send + Sync + 'static {
    /// Who this is.
    fn info(&self) -> Info;
    /// How it stands.
    fn status(&self) -> Status;
    /// The clients of a server.
    ///
    /// # Errors
    /// On a client, which has none.
    fn clients(&self) -> Result<Clients, Fault>;
    /// The real-time flows.
    fn streams(&self) -> Streams;
    /// The sockets that leave the machine over a link.
    ///
    /// # Errors
    /// On a server, which has none of its own; if the kernel does not list them.
    fn sockets(&self) -> Result<Sockets, Fault>;
    /// Changes the mode of the session.
    ///
    /// # Errors
    /// On a server and in mode `balance`, which have none to change.
    fn set_mode(&self, mode: Mode) -> Result<ModeAnswer, Fault>;
    /// The links of a client, with what is wanted of them.
    ///
    /// # Errors
    /// On a server, which has none of its own.
    fn links(&self) -> Result<Links, Fault>;
    /// Changes what is wanted of a link.
    ///
    /// # Errors
    /// On a server; if there is no such link in the bond; if the change could not be written.
    fn set_link(&self, link: &str, set: LinkChange) -> Result<LinkAnswer, Fault>;
    /// Asks the daemon to end; it undoes all that it did.
    fn down(&self);
}

/// A control socket that is being served. Dropping it removes the socket.
#[derive(Debug)]
pub struct ControlServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _socket: BoundSocket,
}

impl ControlServer {
    /// Binds `path` and answers on it from a thread of its own.
    ///
    /// # Errors
    /// Another daemon holds the socket (the message names its pid), or the system refuses.
    pub fn start(path: &Path, control: Arc<dyn Control>) -> Result<Self, Fault> {
        let (socket, listener) = bind_socket(path)?;
        let what = "cannot serve the control socket";
        let advice = "this is a shortage of the system: look at its memory and process limits";
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::from_io(what, &error, advice))?;
        let listener = {
            let _inside = runtime.enter();
            OwnerListener::new(listener).map_err(|error| Fault::from_io(what, &error, advice))?
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router(control);
        let thread = std::thread::Builder::new()
            .name("bw-control".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = axum::serve(listener, router) => {}
                        _ = stopped => {}
                    }
                });
                runtime.shutdown_background();
            })
            .map_err(|error| Fault::from_io(what, &error, advice))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), _socket: socket })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Shared = Arc<dyn Control>;

fn router(control: Shared) -> Router {
    Router::new()
        .route("/v1/info", get(|State(control): State<Shared>| async move { Json(control.info()) }))
        .route("/v1/status", get(|State(control): State<Shared>| async move { Json(control.status()) }))
        .route("/v1/clients", get(|State(control): State<Shared>| async move { answer(control.clients()) }))
        .route(
            "/v1/links",
            get(|State(control): State<Shared>| async move { answer(control.links()) }).patch(set_link),
        )
        .route("/v1/streams", get(|State(control): State<Shared>| async move { Json(control.streams()) }))
        .route("/v1/sockets", get(|State(control): State<Shared>| async move { answer(control.sockets()) }))
        .route("/v1/mode", put(set_mode))
        .route("/v1/down", post(down))
        .fallback(|| async {
            refuse(StatusCode::NOT_FOUND, "there is no such route", "the routes are below /v1")
        })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "this route has another method", "see the list of routes")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(control)
}

async fn set_mode(State(control): State<Shared>, body: Result<Json<ModeChange>, JsonRejection>) -> Response {
    match body {
        Ok(Json(change)) => answer(control.set_mode(change.mode)),
        Err(rejection) => refuse(rejection.status(), &rejection.body_text(), "send {\"mode\": \"speed\"}"),
    }
}

async fn set_link(State(control): State<Shared>, body: Result<Json<LinkRequest>, JsonRejection>) -> Response {
    match body {
        Ok(Json(request)) => answer(control.set_link(&request.link, request.set)),
        Err(rejection) => refuse(
            rejection.status(),
            &rejection.body_text(),
            "send {\"link\": \"wan0\", \"set\": {\"priority\": \"secondary\"}}; `limit_up` and `limit_down` are numbers in bit/s or null, `default` names one of the three",
        ),
    }
}

async fn down(State(control): State<Shared>) -> Response {
    control.down();
    (StatusCode::ACCEPTED, Json(serde_json::json!({}))).into_response()
}

fn answer<T: serde::Serialize>(result: Result<T, Fault>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(fault) => {
            let status = match fault.kind {
                FaultKind::Usage => StatusCode::CONFLICT,
                FaultKind::Permission => StatusCode::FORBIDDEN,
                FaultKind::Failed | FaultKind::Unreachable => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, Json(fault)).into_response()
        }
    }
}

fn refuse(status: StatusCode, why: &str, what_to_do: &str) -> Response {
    (status, Json(Fault::usage("the control API refused the request", why, what_to_do))).into_response()
}
