//! A bottleneck that several links have in common: two SIMs in one cell, two modems on one mast.
//!
//! What the client sends passes its own link first, then the shared stretch; what comes to it passes the shared stretch
//! first. Neighbours of the links are in it too.

use bondwire_netem::{Pipe, PipeConfig};
use bondwire_units::Timestamp;

use crate::access::Carried;

/// The stretch, in both directions; each packet with the position of its link.
#[derive(Debug)]
pub(crate) struct Shared {
    links: Vec<usize>,
    pub(crate) up: Pipe<(usize, Carried)>,
    pub(crate) down: Pipe<(usize, Carried)>,
}

impl Shared {
    pub(crate) fn new(links: &[usize], up: PipeConfig, down: PipeConfig, seed: u64) -> Self {
        Self { links: links.to_vec(), up: Pipe::new(up, seed), down: Pipe::new(down, seed ^ 0x5555) }
    }

    pub(crate) fn has(&self, link: usize) -> bool {
        self.links.contains(&link)
    }

    pub(crate) fn poll_deadline(&self) -> Option<Timestamp> {
        self.up.poll_deadline().into_iter().chain(self.down.poll_deadline()).min()
    }
}
