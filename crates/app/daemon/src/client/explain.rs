//! Why there is no connection, in words that lead somewhere.

use bondwire_api::Fault;
use bondwire_wire::RejectReason;

/// The server has refused this client for good.
pub(crate) fn refused(reason: RejectReason, text: &str) -> Fault {
    let anew = "ask for a new invite (`bondwire server invite NAME` on the server), then `bondwire join --force INVITE`";
    let (why, what_to_do) = match reason {
        RejectReason::UnknownKey => (
            "the server does not know this client: it was removed there, or the server was set up anew",
            anew,
        ),
        RejectReason::Revoked => ("this client's access was revoked on the server", anew),
        RejectReason::InviteUsed => {
            ("its invite was used by another machine already, and an invite works for one client only", anew)
        }
        RejectReason::InviteExpired => ("its invite has expired before it was used", anew),
        RejectReason::WrongSecret => (
            "the secret of its invite is not the one that the server has: the invite was made anew since",
            anew,
        ),
        RejectReason::NoCommonCipher => (
            "the server accepts none of the ciphers that this version offers",
            "update bondwire on both sides to the same version",
        ),
        RejectReason::ServerFull => (
            "the server has as many sessions as it allows",
            "raise `max_sessions` in the server's server.toml, or try again later",
        ),
        RejectReason::Stale => (
            "the server has seen a later handshake of this client: its clock went backwards, or its key is in use twice",
            "set the clock, and see that no other machine uses a copy of this client's files; then try again",
        ),
        RejectReason::Other(_) => {
            ("the server gave a reason that this version does not know", "update bondwire on this machine")
        }
    };
    let why =
        if text.is_empty() { why.to_owned() } else { format!("{why}\nthe server says: {}", plain(text)) };
    Fault::failed("the server refuses this client", why, what_to_do)
}

/// Another machine has taken this client's session.
pub(crate) fn replaced() -> Fault {
    Fault::failed(
        "another machine has taken over this client's connection",
        "it uses the same key: two machines have a copy of the same client's files, or bondwire runs twice",
        "give each machine an invite of its own: `bondwire server invite NAME` on the server, `bondwire join --force INVITE` on the machine",
    )
}

/// One link's part in an attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    /// Its name.
    pub(crate) link: String,
    /// Handshakes sent over it.
    pub(crate) sent: u32,
    /// The server answered over it.
    pub(crate) answered: bool,
    /// Why it cannot be used, if so.
    pub(crate) obstacle: Option<String>,
}

/// Nobody has answered: what was tried, and what to look at.
pub(crate) fn no_answer(server: &[String], tried: &[Tried], versions: Option<&[u8]>, seconds: u64) -> Fault {
    let mut why: Vec<String> = tried.iter().map(describe).collect();
    if why.is_empty() {
        why.push("no link can be used".to_owned());
    }
    if let Some(versions) = versions {
        let list: Vec<String> = versions.iter().map(ToString::to_string).collect();
        why.push(format!(
            "somebody answered that the server speaks version {} of the protocol, and this is version 1",
            list.join(", ")
        ));
    }
    let answered = tried.iter().any(|tried| tried.answered);
    let remedy = match (versions, answered) {
        (Some(_), _) => "update bondwire on the older side",
        (None, true) => {
            "the server can be reached: it may be full, or one of the two clocks may be wrong; its log says why it refuses"
        }
        (None, false) => {
            "see that the server runs (`bondwire status` there), that its firewall and router let that UDP port in,\n\
             and that this machine's links work; a server that was set up anew has another key, and stays silent to old invites"
        }
    };
    Fault::unreachable(
        format!("no connection to the server ({}) for {seconds} s", server.join(", ")),
        why.join("\n"),
        remedy,
    )
}

fn describe(tried: &Tried) -> String {
    let link = &tried.link;
    match (&tried.obstacle, tried.answered, tried.sent) {
        (Some(obstacle), ..) => obstacle.clone(),
        (None, true, sent) => format!("link `{link}`: tried {sent} times, answered"),
        (None, false, 0) => format!("link `{link}`: not tried (no server address that it can reach)"),
        (None, false, sent) => format!("link `{link}`: tried {sent} times, no answer"),
    }
}

/// Text from the other side, without what could confuse a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use bondwire_api::FaultKind;

    use super::*;

    #[test]
    fn each_refusal_says_what_to_do() {
        for (reason, words) in [
            (RejectReason::UnknownKey, "does not know"),
            (RejectReason::Revoked, "revoked"),
            (RejectReason::InviteUsed, "another machine"),
            (RejectReason::InviteExpired, "expired"),
            (RejectReason::WrongSecret, "secret"),
            (RejectReason::NoCommonCipher, "cipher"),
            (RejectReason::ServerFull, "sessions"),
            (RejectReason::Stale, "clock"),
            (RejectReason::Other(99), "reason"),
        ] {
            let fault = refused(reason, "sorry\x1b[2J");
            assert_eq!(fault.kind, FaultKind::Failed);
            assert!(fault.why.contains(words) && fault.why.ends_with("the server says: sorry[2J"), "{fault}");
            assert!(!fault.what_to_do.is_empty());
        }
        assert!(replaced().why.contains("same key"));
    }

    #[test]
    fn silence_names_the_links() {
        let tried = |link: &str, sent, answered| Tried { link: link.into(), sent, answered, obstacle: None };
        let links = [
            tried("wan0", 7, false),
            tried("wan1", 0, false),
            Tried { obstacle: Some("link `wan2` has no address".into()), ..tried("wan2", 0, false) },
        ];
        let fault = no_answer(&["192.0.2.1:4433".into()], &links, None, 15);
        assert_eq!(fault.kind, FaultKind::Unreachable);
        assert_eq!(fault.what, "no connection to the server (192.0.2.1:4433) for 15 s");
        assert_eq!(
            fault.why,
            "link `wan0`: tried 7 times, no answer\nlink `wan1`: not tried (no server address that it can reach)\nlink `wan2` has no address"
        );
        assert!(fault.what_to_do.contains("firewall"));
        let fault = no_answer(&[], &[tried("wan0", 7, true)], Some(&[2]), 15);
        assert!(fault.why.contains("version 2") && fault.what_to_do.contains("update"), "{fault}");
    }
}
