//! Whom names are asked of, brought to those who ask: the proxy and the forwarder by the links' routes, the kernel's program by what it redirects.

use bondwire_netctl::Link;
use bondwire_units::LinkId;

use super::super::proxied::route_of;
use super::Life;

impl Life {
    /// Looks whether the system's resolvers are others.
    pub(super) fn look_at_resolvers(&mut self) {
        let used = || self.watcher.links().filter(|link| self.choice.uses(link));
        if self.resolvers.look(used()) {
            tracing::debug!("names are asked of {:?}", self.resolvers.anywhere());
            self.tell_resolvers();
        }
    }

    /// Tells all who ask.
    pub(super) fn tell_resolvers(&mut self) {
        self.desk.set_unbound(self.resolvers.anywhere());
        for link in self.used.values() {
            self.tell_desk(link);
        }
        let known = self.resolvers.known();
        if let Some(captured) = &mut self.captured
            && let Err(error) = captured.set_resolvers(&known)
        {
            tracing::warn!("questions to resolvers are not all redirected: {error}");
        }
    }

    /// How the proxy ties sockets to a link. What was kept for it is thrown away if that changed, as it may be another network now.
    pub(super) fn tell_desk(&self, link: &Link) {
        let used = self.watcher.links().filter(|link| self.choice.uses(link));
        let resolvers = self.resolvers.of_link(link, used, &self.routes);
        let id = LinkId(link.index);
        if self.desk.set_route(id, Some(route_of(link, resolvers))) {
            self.names.route_changed(id);
            if let Some(proxied) = &self.proxied {
                proxied.handle().route_changed(id);
            }
        }
    }
}
