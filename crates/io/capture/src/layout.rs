//! The memory that the kernel's programs share with this crate, as `bpf/capture.bpf.c` declares it.

use aya::Pod;

use crate::plan::{MAX_LINKS, limits};

pub(crate) const LINK_V4: u32 = 1;
pub(crate) const LINK_V6: u32 = 2;
pub(crate) const LINK_ALIVE: u32 = 4;
pub(crate) const PORT_INTERACTIVE_TCP: u32 = 1;
pub(crate) const PORT_INTERACTIVE_UDP: u32 = 2;
pub(crate) const PORT_STICKY: u32 = 4;
pub(crate) const NO_LINK: u8 = 0xff;
pub(crate) const ROUTE_SPECIFIC: u32 = 1;
pub(crate) const ROUTE_NEAR: u32 = 2;

#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) mark: u32,
    pub(crate) flags: u32,
    pub(crate) syn_ms: u32,
    pub(crate) fallback: u32,
    pub(crate) v4: [u8; 4],
    pub(crate) v6: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) to: [u8; 16],
    pub(crate) mask: [u8; 16],
    pub(crate) uid: u32,
    pub(crate) uid_mask: u32,
    pub(crate) comm: [u8; 16],
    pub(crate) comm_mask: u32,
    pub(crate) port_first: u16,
    pub(crate) port_span: u16,
    pub(crate) protocol: u8,
    pub(crate) protocol_mask: u8,
    pub(crate) action: u8,
    pub(crate) slot: u8,
    pub(crate) order: u32,
}

/// The key of what a port says.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(crate) struct PortKey {
    pub(crate) slot: u32,
    pub(crate) port: u16,
    pub(crate) unused: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) sticky_ns: u64,
    pub(crate) idle_ns: u64,
    pub(crate) epoch: u32,
    pub(crate) rule_count: u32,
    pub(crate) has_prefixes: u32,
    pub(crate) refuse: u32,
    pub(crate) open: [u32; 2],
    pub(crate) sites: [u32; 2],
    pub(crate) links: [Link; MAX_LINKS],
    pub(crate) weights: [[u16; MAX_LINKS]; 2],
    pub(crate) rules: [Rule; limits::RULES],
}

/// The key of a prefix rule, after its length.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrefixKey {
    pub(crate) slot: u32,
    pub(crate) to: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PrefixRule {
    pub(crate) order: u32,
    pub(crate) action: u8,
    pub(crate) slot: u8,
    pub(crate) unused: [u8; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Itself {
    pub(crate) cookie: u64,
    pub(crate) pid: u32,
    pub(crate) seen: u32,
}

// SAFETY: all of these are `repr(C)`, made of integers and arrays of them, without padding (a test adds up the sizes).
unsafe impl Pod for Plan {}
// SAFETY: as above.
unsafe impl Pod for PrefixKey {}
// SAFETY: as above.
unsafe impl Pod for PrefixRule {}
// SAFETY: as above.
unsafe impl Pod for Itself {}
// SAFETY: as above.
unsafe impl Pod for PortKey {}

/// An event, read field by field from the ring buffer.
pub(crate) struct RawEvent<'a>(pub(crate) &'a [u8]);

impl RawEvent<'_> {
    pub(crate) const SIZE: usize = 112;

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(at))
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(at))
    }

    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_ne_bytes(self.bytes(at))
    }

    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.bytes::<1>(at)[0]
    }

    pub(crate) fn address(&self, at: usize) -> [u8; 16] {
        self.bytes(at)
    }
}

/// An all-zero plan: no link takes anything.
pub(crate) const fn empty_plan() -> Plan {
    const NO_RULE: Rule = Rule {
        to: [0; 16],
        mask: [0; 16],
        uid: 0,
        uid_mask: 0,
        comm: [0; 16],
        comm_mask: 0,
        port_first: 0,
        port_span: 0,
        protocol: 0,
        protocol_mask: 0,
        action: 0,
        slot: 0,
        order: 0,
    };
    const NO_LINK: Link = Link { mark: 0, flags: 0, syn_ms: 0, fallback: 0xff, v4: [0; 4], v6: [0; 16] };
    Plan {
        sticky_ns: 0,
        idle_ns: 0,
        epoch: 0,
        rule_count: 0,
        has_prefixes: 0,
        refuse: 0,
        open: [0; 2],
        sites: [0; 2],
        links: [NO_LINK; MAX_LINKS],
        weights: [[0; MAX_LINKS]; 2],
        rules: [NO_RULE; limits::RULES],
    }
}

/// The size of a plan without padding: the kernel's side has the same, or the map refuses it.
const _: () = assert!(size_of::<Plan>() == 48 + MAX_LINKS * 36 + 4 * MAX_LINKS + 72 * limits::RULES);
const _: () = assert!(size_of::<Rule>() == 72 && size_of::<Link>() == 36);
const _: () = assert!(size_of::<PrefixKey>() == 20 && size_of::<PrefixRule>() == 8);
const _: () = assert!(size_of::<Itself>() == 16 && size_of::<PortKey>() == 8);
