//! What must hold whatever the links do: runs one scenario with mixed traffic over a whole bond, and judges it.
//!
//! - Nothing is delivered that was not sent, changed, or twice, and streams keep their order ([`ledger`](crate::ledger)).
//! - Both ends stay within the memory they were given.
//! - While a link lives, nothing stalls for longer than [`Bounds::stall`]; after all have died and returned, all goes on
//!   within [`Bounds::recovery`].
//! - When the traffic ends, the queues drain, and the books balance: sent = delivered + counted as dropped + given up.

use core::time::Duration;

use bondwire_bond::{Counters, DropReason};
use bondwire_scenario::Scenario;
use bondwire_units::{ByteCount, Timestamp};
use bondwire_wire::Mode;

use crate::bonded::Bonded;
use crate::packet::TCP;
use crate::random;
use crate::report;
use crate::traffic::{CLIENT, Direction, FlowConfig};
use crate::world::{FlowId, World};

/// How patient the judge is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest silence of a paced flow while at least one link lives.
    pub stall: Duration,
    /// The longest time from the first link's return to the first packet after all were dead.
    pub recovery: Duration,
    /// How long the queues may take to drain.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            stall: Duration::from_millis(3_000),
            recovery: Duration::from_millis(5_000),
            drain: Duration::from_secs(8),
        }
    }
}

/// How a run went that broke no promise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The longest silence of a paced flow, those in which all links were dead left out.
    pub longest_stall: Duration,
    /// The time that it took to go on after all links had died, if they had.
    pub recovery: Option<Duration>,
    /// TCP payload delivered.
    pub bytes: u64,
    /// Sessions that were established.
    pub sessions: u32,
}

/// Memory for the queues of each end: little, so that its bounds are met.
const MEMORY: ByteCount = ByteCount::new(8 << 20);

/// Runs a scenario for `span` after the bond is connected, in this mode, and judges it.
///
/// # Errors
/// The first promise that was broken, in words.
pub fn run(scenario: &Scenario, mode: Mode, span: Duration, bounds: Bounds) -> Result<Outcome, String> {
    let mut world = report::connected(scenario, mode, MEMORY, scenario.seed)?;
    let mtu = world.network.mtu(world.now()).unwrap_or(1280);
    let paced = Direction::BOTH.map(|direction| world.add_flow(FlowConfig::udp(direction, 200, 50)));
    let streams = Direction::BOTH.map(|direction| world.add_flow(FlowConfig::tcp(direction, mtu)));
    let start = world.now();
    let end = start.max(Timestamp::ZERO + span);
    let dead =
        random::all_die(scenario).map(|(from, until)| (Timestamp::ZERO + from, Timestamp::ZERO + until));
    let mut silence = [Silence::new(start), Silence::new(start)];
    let mut outcome = Outcome::default();
    while world.now() < end {
        world.run_for(Duration::from_millis(20));
        check_memory(&mut world)?;
        for (flow, silence) in paced.iter().zip(&mut silence) {
            let judged = silence.check(&world, *flow, dead, bounds, &mut outcome);
            judged.map_err(|why| format!("{why}\n{}", describe(&mut world)))?;
        }
    }
    if let Some(violation) = world.violations().first() {
        return Err(violation.to_string());
    }
    outcome.bytes = streams.iter().map(|flow| world.flow(*flow).progress.bytes).sum();
    outcome.sessions = world.network.sessions();
    check_end(&mut world, bounds.drain)?;
    Ok(outcome)
}

/// Follows one paced flow.
struct Silence {
    bytes: u64,
    since: Timestamp,
}

impl Silence {
    fn new(now: Timestamp) -> Self {
        Self { bytes: 0, since: now }
    }

    fn check(
        &mut self,
        world: &World<Bonded>,
        flow: FlowId,
        dead: Option<(Timestamp, Timestamp)>,
        bounds: Bounds,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let (now, bytes) = (world.now(), world.flow(flow).progress.bytes);
        let lasted = now.since(self.since);
        // A silence that overlaps the time when all were dead ends when it must: some time after the first return.
        match dead.filter(|(from, until)| self.since < *until && now > *from) {
            Some((_, until)) if now > until => {
                let recovery = now.since(until);
                if bytes > self.bytes {
                    outcome.recovery = outcome.recovery.max(Some(recovery));
                }
                if recovery > bounds.recovery {
                    return Err(format!("{now}: silent for {recovery:?} after the links' return"));
                }
            }
            Some(_) => {}
            None => {
                outcome.longest_stall = outcome.longest_stall.max(lasted);
                if lasted > bounds.stall {
                    return Err(format!("{now}: a link lives, but {flow:?} has been silent for {lasted:?}"));
                }
            }
        }
        if bytes > self.bytes {
            (self.bytes, self.since) = (bytes, now);
        }
        Ok(())
    }
}

/// How both ends stand, for the person who looks into a failure.
fn describe(world: &mut World<Bonded>) -> String {
    let now = world.now();
    let client = world.network.client_status(now);
    let server = world.network.server_status(now);
    let mut text = format!("client: {:?} {:?}\n", client.state, client.counters);
    client.paths.iter().for_each(|path| text += &format!("  {path:?}\n"));
    if let Some(server) = server {
        text += &format!("server: {:?}\n", server.counters);
        server.paths.iter().for_each(|path| text += &format!("  {path:?}\n"));
    }
    text
}

fn check_memory(world: &mut World<Bonded>) -> Result<(), String> {
    let now = world.now();
    let client = world.network.client_status(now).counters;
    let server = world.network.server_status(now).map(|status| status.counters).unwrap_or_default();
    for (end, counters) in [("client", client), ("server", server)] {
        let held = counters.kept_bytes + counters.held_bytes + counters.queued_bytes + counters.parity_bytes;
        if held > MEMORY.get() {
            return Err(format!("{now}: the {end} holds {held} bytes, more than it was given"));
        }
    }
    Ok(())
}

/// Stops the traffic, lets the queues drain, and balances the books.
fn check_end(world: &mut World<Bonded>, drain: Duration) -> Result<(), String> {
    world.stop_flows();
    let end = world.now() + drain;
    let mut left = Vec::new();
    while world.now() < end {
        world.run_for(Duration::from_millis(100));
        left = left_over(world);
        if left.is_empty() {
            break;
        }
    }
    if let Some(what) = left.first() {
        return Err(format!("{}: {what} {drain:?} after the last packet", world.now()));
    }
    if let Some(violation) = world.violations().first() {
        return Err(format!("while draining: {violation}"));
    }
    // A new session begins with new counters: its books do not tell of what the old one lost.
    if world.network.sessions() == 1 { check_books(world) } else { Ok(()) }
}

fn left_over(world: &mut World<Bonded>) -> Vec<String> {
    let now = world.now();
    let client = world.network.client_status(now).counters;
    let server = world.network.server_status(now).map(|status| status.counters).unwrap_or_default();
    let mut left = Vec::new();
    for (end, counters) in [("client", client), ("server", server)] {
        let places = [
            ("queues", counters.queued_bytes),
            ("keeps", counters.kept_bytes),
            ("holds", counters.held_bytes),
        ];
        for (verb, bytes) in places.into_iter().filter(|(_, bytes)| *bytes > 0) {
            left.push(format!("the {end} still {verb} {bytes} bytes"));
        }
    }
    left
}

fn check_books(world: &mut World<Bonded>) -> Result<(), String> {
    let now = world.now();
    let client = world.network.client_status(now).counters;
    let server = world.network.server_status(now).map(|status| status.counters).unwrap_or_default();
    for (end, counters, peer) in [("client", client, server), ("server", server, client)] {
        let mut sent = 0;
        let (mut delivered, mut streams_lost) = (0, 0);
        for (addresses, totals) in world.ledger().iter() {
            if (*addresses.source.ip() == CLIENT) == (end == "client") {
                sent += totals.sent;
                delivered += totals.delivered;
                if addresses.protocol == TCP {
                    streams_lost += totals.sent - totals.delivered;
                }
            }
        }
        let refused = refused(&counters);
        let ingress = counters.ingress;
        let dropped = ingress.dropped_delay + ingress.dropped_full;
        let books = format!("{end}: {sent} sent, {delivered} delivered; {counters:?}; peer {peer:?}");
        if sent != ingress.queued + ingress.repeated + refused {
            return Err(format!("packets vanish before the queue: {books}"));
        }
        if ingress.queued != counters.sent + dropped {
            return Err(format!("packets vanish in the queue: {books}"));
        }
        if delivered != peer.order.delivered {
            return Err(format!("what was delivered is not what came out: {books}"));
        }
        if streams_lost > refused + ingress.repeated + dropped + counters.given_up + peer.order.overtaken {
            return Err(format!("{streams_lost} packets of streams vanish: {books}"));
        }
    }
    Ok(())
}

/// Inner packets that an end did not even queue.
fn refused(counters: &Counters) -> u64 {
    let reasons = [DropReason::NoSession, DropReason::BadInnerPacket];
    reasons.into_iter().map(|reason| counters.drops.get(reason)).sum()
}
