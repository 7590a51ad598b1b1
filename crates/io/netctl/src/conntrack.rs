//! Making connection tracking forget flows, over ctnetlink.

use std::io;

use netlink_sys::{Socket, SocketAddr};

use crate::error::NetError;

/// `NETLINK_NETFILTER`.
pub(crate) const PROTOCOL: isize = 12;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const FLAGS: u16 = 1 | 4;
/// Attributes of a connection (`CTA_MARK`, `CTA_MARK_MASK`), in network order.
pub(crate) const MARK: u16 = 8;
pub(crate) const MARK_MASK: u16 = 21;
/// The error message of netlink.
const NLMSG_ERROR: u16 = 2;

/// Deletes the entries of all flows whose connection mark is `mark`, of both families, in this network namespace: their next packets are looked at
/// anew, by NAT too. Entries are gone when it returns. Where connection tracking was never used there is nothing to forget.
///
/// # Errors
/// No permission, or the kernel has no ctnetlink.
pub fn forget_marked(mark: u32) -> Result<(), NetError> {
    let what = || format!("forget the flows with mark {mark:#x}");
    delete(mark).map_err(|source| NetError::kernel(what(), source))
}

fn delete(mark: u32) -> io::Result<()> {
    let mut socket = Socket::new(PROTOCOL)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // A flush with a filter: without a tuple the kernel deletes all entries that fit.
    socket.send(&message(DELETE, FLAGS, &[(MARK, mark), (MARK_MASK, u32::MAX)]), 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
        if let (Some(NLMSG_ERROR), Some(code)) = (kind, code) {
            return match code.abs() {
                0 | libc::ENOENT => Ok(()),
                code => Err(io::Error::from_raw_os_error(code)),
            };
        }
    }
}

/// A request about connections of any family, with attributes that are numbers.
pub(crate) fn message(kind: u16, flags: u16, attributes: &[(u16, u32)]) -> Vec<u8> {
    let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    for (kind, value) in attributes {
        body.extend(8_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value.to_be_bytes());
    }
    let length = 16 + body.len() as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}
