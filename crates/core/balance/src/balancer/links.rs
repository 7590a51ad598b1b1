//! Links come, go, and are measured.

use bondwire_units::{LinkId, Timestamp};

use super::Balancer;
use crate::config::{LinkConfig, MAX_LINKS};
use crate::event::Event;
use crate::link::Link;
use crate::request::TcpSample;
use crate::shares::set_capacities;

impl Balancer {
    /// A link appeared, is there again, or its settings changed. What was learnt under its name is known again. A
    /// link that appears is used and probed at once; one that was gone is used after its hold-down. Beyond
    /// [`MAX_LINKS`] links it is not taken, and false comes back.
    pub fn set_link(&mut self, config: LinkConfig, now: Timestamp) -> bool {
        let (id, name) = (config.id, &config.name);
        if let Some(other) = self.slot(id).filter(|&slot| self.links[slot].config.name != *name) {
            self.remove_link(id, now);
            self.clear(other);
            self.unname(other);
        }
        match self.links.iter().position(|link| link.config.name == *name) {
            Some(slot) => {
                self.unname(slot);
                let was_used = self.links[slot].may_be_used();
                self.links[slot].configure(config);
                if was_used && !self.links[slot].may_be_used() {
                    self.on_lost(slot);
                }
                if !self.links[slot].is_present {
                    self.moving &= !(1 << slot);
                    self.links[slot].on_presence(true, now);
                }
                self.by_id.insert(id, slot);
            }
            None => {
                let Some(slot) = self.free_slot() else { return false };
                let link = Link::new(config, now);
                if slot == self.links.len() {
                    self.links.push(link)
                } else {
                    self.replace(slot, link)
                }
                self.by_id.insert(id, slot);
            }
        }
        set_capacities(&mut self.links, now);
        self.make_plan(now);
        true
    }

    /// A slot that no link uses, or that of the link that has been gone longest.
    fn free_slot(&self) -> Option<usize> {
        if self.links.len() < MAX_LINKS {
            return Some(self.links.len());
        }
        let gone = self.links.iter().enumerate().filter(|(_, link)| !link.is_present);
        gone.min_by_key(|(_, link)| link.absent_since).map(|(slot, _)| slot)
    }

    /// Another link takes the slot. Rare: more than [`MAX_LINKS`] names have to be seen.
    fn replace(&mut self, slot: usize, link: Link) {
        self.unname(slot);
        self.clear(slot);
        self.links[slot] = link;
    }

    /// Forgets the sockets of a slot whose link cannot be spoken of any more, since another one took its slot or
    /// its number. O(sockets).
    fn clear(&mut self, slot: usize) {
        let on_it = |(id, flow): (_, &crate::flows::Flow)| (flow.link == Some(slot as u8)).then_some(id);
        let stale: Vec<_> = self.flows.iter().filter_map(on_it).collect();
        for socket in stale {
            self.handle_closed(socket, self.now);
        }
        self.moving &= !(1 << slot);
        self.evicting &= !(1 << slot);
    }

    /// A link lost its carrier, its address, or itself. Its UDP flows move ([`Event::SocketMoved`]), its TCP
    /// sockets are to be closed ([`Event::Evict`]). What was learnt stays, for its return.
    pub fn remove_link(&mut self, link: LinkId, now: Timestamp) {
        let Some(slot) = self.slot(link).filter(|&slot| self.links[slot].is_present) else { return };
        let from = self.links[slot].health.state();
        self.links[slot].on_presence(false, now);
        self.probes.forget_link(slot);
        let (to, why) = (self.links[slot].health.state(), self.links[slot].health.why());
        if from != to {
            self.push(Event::LinkState { link, from, to, why });
            self.on_lost(slot);
        }
        set_capacities(&mut self.links, now);
        self.make_plan(now);
    }

    /// The interface's counters of all bytes since it came up. Call every 100 to 250 ms: silence is found by them.
    pub fn handle_link_counters(&mut self, link: LinkId, received: u64, sent: u64, now: Timestamp) {
        let Some(slot) = self.slot(link).filter(|&slot| self.links[slot].may_be_used()) else { return };
        self.now = self.now.max(now);
        let testable = self.probes.can_test(&self.links[slot], now);
        let most = |each: fn(&Link, Timestamp) -> f64| {
            self.links.iter().map(|link| each(link, now)).fold(0.0, f64::max)
        };
        let best = (most(|link, now| link.up.each(now)), most(|link, now| link.down.each(now)));
        let (sent, received, change) = self.links[slot].on_counters(received, sent, best, testable, now);
        if sent + received > 0 {
            self.mix.update(sent, received, now);
            self.on_load(now);
        }
        set_capacities(&mut self.links, now);
        self.on_change(slot, change, now);
    }

    /// What the kernel knows of this link's TCP sockets, taken together; once a second is enough, four times
    /// finds a silent link sooner.
    pub fn handle_tcp_sample(&mut self, link: LinkId, sample: TcpSample, now: Timestamp) {
        let Some(slot) = self.slot(link) else { return };
        let testable = self.probes.can_test(&self.links[slot], now);
        let change = self.links[slot].on_tcp_sample(sample, testable, now);
        self.on_change(slot, change, now);
    }
}
