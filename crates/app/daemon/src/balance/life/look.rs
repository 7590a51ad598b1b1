//! What is seen of links, sockets and probes, on the way to the policy.

use std::collections::BTreeMap;
use std::time::Instant;

use bondwire_engine::Clock;
use bondwire_units::LinkId;

use super::super::captured::Captured;
use super::super::counters;
use super::super::proxied::Proxied;
use super::super::shown::Sources;
use super::super::traffic::{Placed, Signs};
use super::Life;

impl Life {
    /// Takes what links, sockets and probes say.
    pub(super) fn look_around(&mut self) {
        let now = Instant::now();
        if let Some(captured) = &mut self.captured {
            captured.listen(&self.policy);
        }
        if self.counters.is_due(now) {
            self.count();
        }
        if self.sockets.is_due(now) || self.meeting.sockets_wanted() {
            self.look_at_sockets();
        }
        if self.resolvers_due.is_due(now) {
            self.look_at_resolvers();
        }
        if self.tidy.is_due(now) {
            self.tidy_up();
        }
        for outcome in self.prober.poll(Clock.now()) {
            self.on_outcome(outcome);
        }
    }

    /// Looks at all that follows from routes.
    fn tidy_up(&mut self) {
        self.look_at_routes();
        self.tell_resolvers();
        if let Some(captured) = &mut self.captured
            && let Err(error) = captured.refresh()
        {
            tracing::debug!("links and routes were not looked at: {error}");
        }
    }

    fn count(&mut self) {
        let counters = counters::read();
        for link in self.used.values() {
            let Some(carried) = counters.get(&link.name) else { continue };
            self.view.note(&link.name, *carried);
            let (id, carried) = (LinkId(link.index), *carried);
            self.policy.with(|balancer, now| balancer.handle_link_counters(id, carried.rx, carried.tx, now));
        }
    }

    fn look_at_sockets(&mut self) {
        let signs = self.signs();
        let look = match self.traffic.look(&signs) {
            Ok(look) => look,
            Err(error) => {
                tracing::debug!("sockets cannot be listed: {error}");
                return;
            }
        };
        self.policy.with(|balancer, now| {
            for (link, sample) in &look.samples {
                balancer.handle_tcp_sample(*link, *sample, now);
            }
        });
        if self.tracked_is_wanted() {
            self.look_at_flows();
        }
        if let Some(captured) = &mut self.captured {
            captured.note(&look.sockets, &self.tracked, &self.policy);
        }
        if self.meeting.sockets_wanted() {
            self.show_sockets(&look.sockets, look.left_out);
        }
    }

    /// Connection tracking is asked what a person wants to see, and every few seconds which UDP flows still send.
    fn tracked_is_wanted(&mut self) -> bool {
        let Some(captured) = &self.captured else { return false };
        let shown = self.meeting.sockets_wanted() && (!self.options.lan.is_empty() || captured.translates());
        self.flows.is_due(Instant::now()) || shown
    }

    fn look_at_flows(&mut self) {
        if let Err(error) = self.tracked.look() {
            tracing::debug!("connection tracking does not tell its flows: {error}");
        }
    }

    /// How sockets are told to be a link's.
    fn signs(&self) -> Signs {
        let translated = self.options.transparent && self.captured.as_ref().is_some_and(Captured::translates);
        let mut signs = Signs::new(!translated);
        self.used.values().for_each(|link| signs.add(link));
        signs.marks.extend(self.captured.iter().flat_map(Captured::marks));
        signs
    }

    fn show_sockets(&mut self, placed: &[Placed], left_out: usize) {
        let proxy = self.proxied.as_ref().map(Proxied::address);
        let watch = self.traffic.watch();
        let clients = proxy.map(|proxy| watch.clients_of(proxy)).transpose().unwrap_or_else(|error| {
            tracing::debug!("the proxy's clients cannot be listed: {error}");
            None
        });
        let clients = clients.unwrap_or_default();
        watch.find_owners(placed.iter().map(|placed| &placed.seen), clients.values().copied());
        let names = self.used.values().map(|link| (link.index, link.name.clone())).collect();
        let addresses = self.watcher.links().flat_map(|link| &link.addresses);
        let own = addresses.map(|address| address.prefix.address).collect();
        let none = BTreeMap::new();
        let sources = Sources {
            placed,
            left_out,
            watch: self.traffic.watch(),
            policy: &self.policy,
            desk: &self.desk,
            captured: self.captured.as_ref(),
            led: self.captured.as_ref().map_or(&none, Captured::led),
            tracked: &self.tracked,
            own: &own,
            lan: !self.options.lan.is_empty(),
            names: &names,
            clients: &clients,
        };
        self.meeting.publish_sockets(sources.sockets());
    }
}
