//! Errors of the layers below, in the form that people meet.

use bondwire_api::Fault;
use bondwire_engine::EngineError;
use bondwire_netctl::NetError;
use bondwire_sockets::DiagError;

/// An error of the network layer, on the way to `what`.
pub(crate) fn net(what: impl Into<String>, error: &NetError) -> Fault {
    let (why, what_to_do) = halves(&error.to_string());
    match error {
        NetError::NoPermission { .. } => Fault::permission(what, why, what_to_do),
        _ => Fault::failed(what, why, what_to_do),
    }
}

/// An error of the socket diagnostics, on the way to `what`.
pub(crate) fn diag(what: impl Into<String>, error: &DiagError) -> Fault {
    let (why, what_to_do) = halves(&error.to_string());
    match error {
        DiagError::NoPermission { .. } => Fault::permission(what, why, what_to_do),
        _ => Fault::failed(what, why, what_to_do),
    }
}

/// The data plane has ended with an error.
pub(crate) fn engine(error: &EngineError) -> Fault {
    let (why, what_to_do) = halves(&error.to_string());
    Fault::failed("the data plane has stopped", why, what_to_do)
}

/// The data plane has ended, and nobody has asked for it.
pub(crate) fn engine_ended() -> Fault {
    Fault::failed(
        "the data plane has stopped",
        "it ended by itself",
        "start bondwire again, and report it as a fault",
    )
}

/// The lower crates write what happened on the first line, and what to do on the next ones.
pub(crate) fn halves(text: &str) -> (String, String) {
    match text.split_once('\n') {
        Some((why, rest)) => {
            (why.trim().to_owned(), rest.lines().map(str::trim).collect::<Vec<_>>().join("\n"))
        }
        None => (text.to_owned(), "look at the log above for what led to it; `-v` shows more".to_owned()),
    }
}
