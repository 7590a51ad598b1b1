//! A set of ports of both transports, asked in one step.

use crate::config::Ports;
use crate::request::Transport;

const WORDS: usize = 1024;

/// One bit for each port: 16 KiB in all.
#[derive(Clone)]
pub(crate) struct PortSet {
    bits: Box<[[u64; WORDS]; 2]>,
}

impl PortSet {
    pub(crate) fn new(ports: &[Ports]) -> Self {
        let mut bits = Box::new([[0; WORDS]; 2]);
        for Ports { transport, ports } in ports {
            for port in ports.clone() {
                bits[row(*transport)][usize::from(port) / 64] |= 1 << (port % 64);
            }
        }
        Self { bits }
    }

    pub(crate) fn contains(&self, transport: Transport, port: u16) -> bool {
        self.bits[row(transport)][usize::from(port) / 64] >> (port % 64) & 1 == 1
    }
}

impl core::fmt::Debug for PortSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PortSet")
    }
}

fn row(transport: Transport) -> usize {
    match transport {
        Transport::Tcp => 0,
        Transport::Udp => 1,
    }
}
