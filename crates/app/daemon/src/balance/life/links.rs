//! Links that come, change and go.

use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use bondwire_api::Fault;
use bondwire_capture::SharedChanges;
use bondwire_netctl::{Changes, Link, LinkEvent};
use bondwire_units::LinkId;

use super::super::links::{config_of, lost_addresses};
use super::{Life, SETTLED};
use crate::faults;

impl Life {
    pub(super) fn look_at_links(&mut self) -> Result<(), Fault> {
        let events = self.watcher.poll().map_err(|error| faults::net("cannot watch the links", &error))?;
        for event in events {
            match event {
                LinkEvent::Added(link) => self.on_link(&link)?,
                LinkEvent::Changed { before, now } => {
                    self.on_addresses_lost(&before, &now);
                    self.on_link(&now)?;
                }
                LinkEvent::Removed(link) => self.on_link_gone(&link),
            }
        }
        if self.watcher.take_noticed() {
            // A link that is not used, or a route that belongs to none, may lead elsewhere what was a link's.
            self.tidy.hasten(SETTLED);
            self.due.change();
        }
        if self.unrouted && self.retry.is_due(Instant::now()) {
            self.unrouted = false;
            let links: Vec<Link> = self.used.values().cloned().collect();
            links.iter().try_for_each(|link| self.on_link(link))?;
        }
        Ok(())
    }

    /// A link is there, or is different from before.
    pub(super) fn on_link(&mut self, link: &Link) -> Result<(), Fault> {
        if !self.choice.uses(link) {
            self.on_link_gone(link);
            return Ok(());
        }
        self.route(link)?;
        if self.used.insert(link.index, link.clone()).is_none() {
            tracing::info!("link `{}` ({}) is used", link.name, link.kind);
        }
        self.tell_desk(link);
        if let Some(captured) = &mut self.captured
            && let Err(error) = captured.set_link(link)
        {
            tracing::debug!("link `{}` cannot be led to yet: {error}", link.name);
            self.unrouted = true;
        }
        self.due.change();
        let config = config_of(link, &self.choice.wanted(link));
        if !self.policy.with(|balancer, now| balancer.set_link(config, now)) {
            tracing::warn!("link `{}` is one too many: at most {}", link.name, bondwire_balance::MAX_LINKS);
        }
        Ok(())
    }

    /// Reads the routes anew.
    pub(super) fn look_at_routes(&mut self) {
        match self.watcher.routes() {
            Ok(routes) => self.routes = routes,
            Err(error) => tracing::debug!("the routes were not read: {error}"),
        }
    }

    /// Gives a link a routing table, so that sockets bound to it leave over it whatever the main table says.
    fn route(&mut self, link: &Link) -> Result<(), Fault> {
        let Some(changes) = &mut self.changes else { return Ok(()) };
        let routed = lock(changes).route_link(&link.name);
        let Err(error) = routed else { return Ok(()) };
        let fault = faults::net(format!("cannot use link `{}`", link.name), &error);
        if fault.kind != bondwire_api::FaultKind::Permission {
            // Addresses and routes come one by one, and links may vanish again: it is tried again soon.
            tracing::debug!("{fault}");
            self.unrouted = true;
        } else if self.options.needs_network() {
            return Err(fault);
        }
        Ok(())
    }

    /// A link is gone, or cannot be used any more.
    fn on_link_gone(&mut self, link: &Link) {
        let Some(used) = self.used.remove(&link.index) else { return };
        let why = self.choice.obstacle(link).unwrap_or_else(|| format!("link `{}` is gone", used.name));
        tracing::warn!("{why}");
        let id = LinkId(link.index);
        self.desk.set_route(id, None);
        self.policy.with(|balancer, now| balancer.remove_link(id, now));
        self.due.change();
        if let Some(captured) = &mut self.captured {
            // Its table stays, for its mark is led to another's while it is gone.
            if let Err(error) = captured.leave_link(id) {
                tracing::debug!("link `{}` is not left yet: {error}", used.name);
            }
            return;
        }
        if let Some(changes) = &mut self.changes
            && let Err(error) = lock(changes).unroute_link(&used.name)
        {
            tracing::debug!("the routes of link `{}` were not all removed: {error}", used.name);
        }
    }

    /// A link has other addresses: sockets that use the old ones hang until they time out, so they are closed. The proxy closes its own, and
    /// other programs' are touched only where they are led.
    fn on_addresses_lost(&mut self, before: &Link, now: &Link) {
        let lost = lost_addresses(before, now);
        if lost.is_empty() || !self.used.contains_key(&now.index) || self.options.keep_sockets {
            return;
        }
        tracing::info!("link `{}` has lost an address; its sockets are closed", now.name);
        if let Some(proxied) = &self.proxied {
            proxied.handle().evict_addresses(LinkId(now.index), &lost);
        }
        if !self.options.transparent {
            return;
        }
        match self.traffic.watch().close(|socket| lost.contains(&socket.local.ip())) {
            Ok(count) => tracing::debug!("{count} sockets were closed"),
            Err(error) => tracing::debug!("sockets were not closed: {error}"),
        }
    }

    /// What is wanted of the links has changed.
    pub(super) fn apply_settings(&mut self) -> Result<(), Fault> {
        let links: Vec<Link> =
            self.watcher.links().filter(|link| self.choice.includes(link)).cloned().collect();
        links.iter().try_for_each(|link| self.on_link(link))
    }
}

/// A panic while it was held leaves the changes whole: each is noted before it is made.
fn lock(changes: &SharedChanges) -> MutexGuard<'_, Changes> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}
