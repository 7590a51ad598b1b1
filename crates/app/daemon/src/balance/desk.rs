//! Where the proxy's threads ask the policy, and learn how sockets are tied to links.
//!
//! The proxy has types of its own, so that it can be used with any policy; this is the translation. What the policy wants in other terms
//! is kept here for each open socket: its sums of bytes, and the link to which a UDP flow was moved until the proxy asks for it.
//!
//! Bound: one entry for each socket that the proxy has open.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bondwire_balance::ConnectFailure;
use bondwire_proxy::{
    Director, Failure, Links, Placement, Refusal, Request, Route, SocketId, Traffic, Transport,
};
use bondwire_units::LinkId;

use super::policy::Policy;

/// A datagram has no connect that could be raced, but a DNS query has.
const PATIENCE: Duration = Duration::from_secs(1);

/// An open socket of the proxy's.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: bondwire_balance::SocketId,
    up: u64,
    down: u64,
    /// Where the policy has moved it, and the proxy does not know yet.
    moved: Option<LinkId>,
}

/// The policy as the proxy sees it.
#[derive(Debug)]
pub(super) struct Desk {
    policy: Policy,
    open: Mutex<HashMap<u64, Open>>,
    routes: RwLock<BTreeMap<LinkId, Arc<Route>>>,
}

impl Desk {
    /// Nothing is open, and there are no links.
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, open: Mutex::default(), routes: RwLock::default() }
    }

    /// How sockets are tied to a link from now on; none: not at all. Whether that is different from before.
    pub(super) fn set_route(&self, link: LinkId, route: Option<Route>) -> bool {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let before = match route.clone() {
            Some(route) => routes.insert(link, Arc::new(route)),
            None => routes.remove(&link),
        };
        before.as_deref() != route.as_ref()
    }

    /// A UDP flow goes on over another link. Whether it is one of the proxy's.
    pub(super) fn on_moved(&self, socket: bondwire_balance::SocketId, to: LinkId) -> bool {
        self.open().get_mut(&socket.get()).map(|open| open.moved = Some(to)).is_some()
    }

    /// Whether a socket of the policy's is one of the proxy's.
    pub(super) fn has(&self, socket: bondwire_balance::SocketId) -> bool {
        self.open().contains_key(&socket.get())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        // Entries are whole at all times.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, socket: SocketId) -> Option<bondwire_balance::SocketId> {
        self.open().get(&socket.0).map(|open| open.id)
    }
}

impl Director for Desk {
    fn open(&self, request: &Request<'_>) -> Result<Placement, Refusal> {
        let request = bondwire_balance::Request {
            transport: match request.transport {
                Transport::Tcp => bondwire_balance::Transport::Tcp,
                Transport::Udp => bondwire_balance::Transport::Udp,
            },
            remote: request.remote,
            name: request.name,
            process: None,
            uid: None,
            interactive: request.interactive,
        };
        let placement =
            self.policy.with(|balancer, now| balancer.open(&request, now)).map_err(|refusal| {
                tracing::debug!("{refusal}");
                Refusal::NoLink
            })?;
        let open = Open { id: placement.socket, up: 0, down: 0, moved: None };
        self.open().insert(placement.socket.get(), open);
        Ok(placement_of(&placement))
    }

    fn next_link(&self, socket: SocketId) -> Option<Placement> {
        let (id, moved) = {
            let mut all = self.open();
            let open = all.get_mut(&socket.0)?;
            (open.id, open.moved.take())
        };
        if let Some(link) = moved {
            return Some(Placement { socket, link: Some(link), patience: PATIENCE });
        }
        self.policy.with(|balancer, now| balancer.next_link(id, now)).as_ref().map(placement_of)
    }

    fn connecting(&self, socket: SocketId, link: LinkId) {
        if let Some(id) = self.id(socket) {
            self.policy.with(|balancer, now| balancer.handle_connecting(id, link, now));
        }
    }

    fn connected(&self, socket: SocketId, link: LinkId, rtt: Duration) {
        if let Some(id) = self.id(socket) {
            self.policy.with(|balancer, now| balancer.handle_connected(id, link, rtt, now));
        }
    }

    fn failed(&self, socket: SocketId, link: LinkId, why: Failure) {
        let Some(id) = self.id(socket) else { return };
        let why = match why {
            Failure::Refused => ConnectFailure::Refused,
            Failure::Unreachable => ConnectFailure::Unreachable,
            Failure::NoAnswer | Failure::NoResolver => ConnectFailure::NoAnswer,
            Failure::Local => ConnectFailure::Local,
            Failure::Overtaken => ConnectFailure::LostRace,
        };
        self.policy.with_news(|balancer, now| balancer.handle_connect_failed(id, link, why, now));
    }

    fn traffic(&self, moved: &[Traffic]) {
        let mut sums = Vec::with_capacity(moved.len());
        {
            let mut all = self.open();
            for traffic in moved {
                let Some(open) = all.get_mut(&traffic.socket.0) else { continue };
                open.up += traffic.up;
                open.down += traffic.down;
                sums.push((open.id, open.up, open.down));
            }
        }
        self.policy.with(|balancer, now| {
            for (id, up, down) in sums {
                balancer.handle_bytes(id, up, down, now);
            }
        });
    }

    fn reset(&self, socket: SocketId) {
        if let Some(id) = self.id(socket) {
            self.policy.with(|balancer, now| balancer.handle_reset(id, now));
        }
    }

    fn closed(&self, socket: SocketId) {
        let open = self.open().remove(&socket.0);
        if let Some(open) = open {
            self.policy.with(|balancer, now| balancer.handle_closed(open.id, now));
        }
    }
}

impl Links for Desk {
    fn route(&self, link: LinkId) -> Option<Arc<Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&link).cloned()
    }
}

fn placement_of(placement: &bondwire_balance::Placement) -> Placement {
    Placement { socket: SocketId(placement.socket.get()), link: placement.link, patience: placement.patience }
}

#[cfg(test)]
mod tests {
    use bondwire_balance::{Config, LinkConfig};

    use super::*;
    use crate::wake::Waker;

    fn desk() -> Desk {
        let policy = Policy::new(Config::default(), 1, Waker::new().expect("made"));
        policy.with(|balancer, now| {
            for id in [1, 2] {
                assert!(balancer.set_link(LinkConfig::new(LinkId(id), &format!("wan{id}")), now));
            }
        });
        Desk::new(policy)
    }

    fn request(transport: Transport) -> Request<'static> {
        Request { transport, remote: "192.0.2.1:80".parse().expect("good"), name: None, interactive: false }
    }

    #[test]
    fn a_socket_is_known_from_its_opening_to_its_end() {
        let desk = desk();
        let placement = Director::open(&desk, &request(Transport::Tcp)).expect("a link");
        let link = placement.link.expect("a link");
        desk.connecting(placement.socket, link);
        desk.connected(placement.socket, link, Duration::from_millis(20));
        desk.traffic(&[Traffic { socket: placement.socket, up: 10, down: 100 }]);
        desk.traffic(&[Traffic { socket: placement.socket, up: 1, down: 50 }]);
        let sums = desk.open()[&placement.socket.0];
        assert_eq!((sums.up, sums.down), (11, 150));
        assert!(desk.has(sums.id));
        desk.closed(placement.socket);
        desk.closed(placement.socket);
        assert!(!desk.has(sums.id) && desk.open().is_empty());
        desk.traffic(&[Traffic { socket: placement.socket, up: 1, down: 1 }]);
        assert!(desk.next_link(placement.socket).is_none());
    }

    #[test]
    fn a_flow_that_was_moved_learns_its_link_when_it_asks() {
        let desk = desk();
        let placement = Director::open(&desk, &request(Transport::Udp)).expect("a link");
        let id = desk.open()[&placement.socket.0].id;
        assert!(desk.on_moved(id, LinkId(2)));
        assert_eq!(desk.next_link(placement.socket).expect("a link").link, Some(LinkId(2)));
        desk.closed(placement.socket);
        assert!(!desk.on_moved(id, LinkId(1)), "it is gone");
    }

    #[test]
    fn a_link_that_is_gone_has_no_route() {
        let desk = desk();
        assert!(desk.route(LinkId(1)).is_none());
        desk.set_route(LinkId(1), Some(Route { interface: Some("wan1".into()), ..Route::default() }));
        assert_eq!(desk.route(LinkId(1)).expect("a route").interface.as_deref(), Some("wan1"));
        desk.set_route(LinkId(1), None);
        assert!(desk.route(LinkId(1)).is_none());
    }
}
