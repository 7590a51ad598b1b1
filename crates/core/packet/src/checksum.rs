//! The internet checksum (RFC 1071), whole and by difference (RFC 1624).
//!
//! A sum is kept as a number of 32 bits that has not been folded yet; folding and inverting it makes the checksum.

use core::net::IpAddr;

/// The checksum of `bytes`, as it goes into a header whose own checksum field is zero. Zero if computed over bytes that
/// contain a right checksum.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    finish(sum(bytes, 0))
}

/// `start` plus the words of `bytes`, folded to at most 17 bits. An odd last byte counts as if a zero followed it; only the
/// last part of a sum may be odd.
pub fn sum(bytes: &[u8], start: u32) -> u32 {
    let mut chunks = bytes.chunks_exact(4);
    let mut total = u64::from(start);
    for chunk in &mut chunks {
        total += u64::from(u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    }
    let mut last = [0; 4];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(last));
    // 2^32 and 2^16 are both one in this arithmetic.
    let folded = (total >> 32) + (total & 0xffff_ffff);
    let folded = (folded >> 32) + (folded & 0xffff_ffff);
    ((folded >> 16) + (folded & 0xffff)) as u32
}

/// The checksum of a sum.
pub fn finish(sum: u32) -> u16 {
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    !(folded as u16)
}

/// A checksum after a word that it covers went from `old` to `new` (RFC 1624, equation 3).
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    finish(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

/// The sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293, section 3.1; RFC 8200, section 8.1), for `len` bytes from
/// the transport header on. Addresses of different versions give a sum of no meaning.
pub fn pseudo_header_sum(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u32 {
    // A transport segment is shorter than 2^16 bytes.
    let start = u32::from(protocol) + len as u32;
    [src, dst].into_iter().fold(start, |total, address| match address {
        IpAddr::V4(address) => sum(&address.octets(), total),
        IpAddr::V6(address) => sum(&address.octets(), total),
    })
}

/// Fills in a checksum that was left to us ([`crate::Checksum::Partial`]): the field at `start + offset` holds the sum of the
/// pseudo-header, and gets the checksum of everything from `start` on.
///
/// False, and nothing changed, if the field lies outside of `packet`.
pub fn complete(packet: &mut [u8], start: u16, offset: u16) -> bool {
    let (start, offset) = (usize::from(start), usize::from(offset));
    let Some(segment) = packet.get_mut(start..) else { return false };
    if offset + 2 > segment.len() {
        return false;
    }
    let checksum = internet_checksum(segment);
    // A UDP checksum of zero would mean "none" (RFC 768); for the others the two zeros are the same.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    segment[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}
