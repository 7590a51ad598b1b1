//! Where the proxy's threads ask the policy, and learn how sockets are tied to links.
//!
//! The proxy has types of its own, so that it can be used with any policy; this is the translation.
//!
//! Bound: one entry for each socket that the proxy has open.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bondwire_balance::ConnectFailure;
use bondwire_proxy::{
    Director, Failure, Links, Placement, Refusal, Request, Route, SocketId, Traffic, Transport,
};
use bondwire_units::LinkId;

use super::policy::Policy;

/// An open socket.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: bondwire_balance::SocketId,
    /// Its client's end of the connection to the proxy.
    client: Option<SocketAddr>,
}

/// The policy as the proxy sees it.
#[derive(Debug)]
pub(super) struct Desk {
    policy: Policy,
    open: Mutex<HashMap<u64, Open>>,
    routes: RwLock<BTreeMap<LinkId, Arc<Route>>>,
    unbound: RwLock<Arc<Route>>,
}

impl Desk {
    /// Nothing is open, and there are no links.
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, open: Mutex::default(), routes: RwLock::default(), unbound: RwLock::default() }
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

    /// Whom to ask for the names of sockets that no link carries.
    pub(super) fn set_unbound(&self, resolvers: Vec<SocketAddr>) {
        let route = Arc::new(Route { resolvers, ..Route::default() });
        *self.unbound.write().unwrap_or_else(PoisonError::into_inner) = route;
    }

    /// Whether a socket of the policy's is one of the proxy's.
    pub(super) fn has(&self, socket: bondwire_balance::SocketId) -> bool {
        self.open().contains_key(&socket.get())
    }

    /// The client of a socket: its end of the connection to the proxy.
    pub(super) fn client_of(&self, socket: bondwire_balance::SocketId) -> Option<SocketAddr> {
        self.open().get(&socket.get())?.client
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
        let client = request.client;
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
        let placement = self.policy.with(|balancer, now| balancer.open(&request, now));
        let placement = placement.map_err(|refusal| match refusal {
            bondwire_balance::Refusal::NoLink => Refusal::NoLink,
            bondwire_balance::Refusal::RuleLinkDown => Refusal::RuleLinkDown,
        })?;
        self.open().insert(placement.socket.get(), Open { id: placement.socket, client });
        Ok(placement_of(&placement))
    }

    fn next_link(&self, socket: SocketId) -> Option<Placement> {
        let id = self.id(socket)?;
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
            Failure::NoAnswer => ConnectFailure::NoAnswer,
            Failure::Local => ConnectFailure::Local,
            // They speak of the resolvers and of the race, and not of the link.
            Failure::NoResolver | Failure::Overtaken => ConnectFailure::LostRace,
        };
        self.policy.with_news(|balancer, now| balancer.handle_connect_failed(id, link, why, now));
    }

    fn traffic(&self, moved: &[Traffic]) {
        let moved: Vec<_> = {
            let open = self.open();
            moved.iter().filter_map(|traffic| Some((open.get(&traffic.socket.0)?.id, traffic))).collect()
        };
        self.policy.with(|balancer, now| {
            for (id, traffic) in moved {
                balancer.handle_bytes(id, traffic.up, traffic.down, now);
            }
        });
    }

    fn reset(&self, socket: SocketId) {
        if let Some(id) = self.id(socket) {
            self.policy.with(|balancer, now| balancer.handle_reset(id, now));
        }
    }

    fn closing(&self, socket: SocketId) {
        if let Some(id) = self.id(socket) {
            self.policy.with(|balancer, now| balancer.handle_closing(id, now));
        }
    }

    fn resolved(&self, name: &str, addresses: &[IpAddr]) {
        self.policy.with(|balancer, now| {
            for address in addresses {
                balancer.handle_name(name, *address, now);
            }
        });
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

    fn unbound(&self) -> Arc<Route> {
        Arc::clone(&self.unbound.read().unwrap_or_else(PoisonError::into_inner))
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
        Request {
            transport,
            remote: "192.0.2.1:80".parse().expect("good"),
            name: None,
            interactive: false,
            client: None,
        }
    }

    #[test]
    fn a_socket_is_known_from_its_opening_to_its_end() {
        let desk = desk();
        let placement = Director::open(&desk, &request(Transport::Tcp)).expect("a link");
        let link = placement.link.expect("a link");
        desk.connecting(placement.socket, link);
        desk.connected(placement.socket, link, Duration::from_millis(20));
        desk.traffic(&[Traffic { socket: placement.socket, up: 11, down: 150 }]);
        let id = desk.id(placement.socket).expect("it is open");
        assert!(desk.has(id));
        desk.policy.with(|balancer, now| {
            let status = balancer.socket(id, now).expect("it is open");
            assert_eq!((status.up.get(), status.down.get(), status.link), (11, 150, Some(link)));
        });
        desk.closed(placement.socket);
        desk.closed(placement.socket);
        assert!(!desk.has(id) && desk.open().is_empty());
        desk.traffic(&[Traffic { socket: placement.socket, up: 1, down: 1 }]);
        assert!(desk.next_link(placement.socket).is_none());
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
