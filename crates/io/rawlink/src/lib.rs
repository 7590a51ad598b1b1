//! The few system calls of the lab's link emulator that no safe wrapper offers.
//!
//! [`PacketSocket`] reads and writes whole Ethernet frames on one interface (AF_PACKET). It reads through a ring
//! shared with the kernel (TPACKET_V2): the kernel writes each frame and its arrival time into the ring as the frame
//! passes, so nothing is lost or late-stamped while the reader is off the CPU, and the ring's size does not depend on
//! `net.core.rmem_max`, which an ordinary user cannot raise. [`disable_offloads`] makes an interface emit frames as
//! they would be on a wire: MTU-sized, with finished checksums. [`set_realtime`] asks for SCHED_FIFO.
//!
//! Bounds: a ring holds [`RingConfig::frames`] frames, everything beyond is dropped by the kernel and counted
//! ([`PacketSocket::take_drops`]).

mod device;
mod packet;
mod ring;
mod sched;

pub use device::disable_offloads;
pub use packet::PacketSocket;
pub use ring::RingConfig;
pub use sched::set_realtime;
