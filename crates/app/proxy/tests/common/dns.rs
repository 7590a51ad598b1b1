//! A resolver that answers as it is told.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub(crate) struct Resolver {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Resolver {
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A resolver that sends back whatever this makes of a query.
pub(crate) fn resolver(make: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Resolver {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            for answer in make(&buffer[..length]) {
                let _ = socket.send_to(&answer, peer);
            }
        }
    });
    Resolver { address, asked }
}

/// A resolver that has one address for every name.
pub(crate) fn knows(ip: IpAddr) -> Resolver {
    resolver(move |query| vec![answer(query, &[ip], 300)])
}

/// A resolver that never answers.
pub(crate) fn deaf() -> Resolver {
    resolver(|_| Vec::new())
}

pub(crate) fn question_end(query: &[u8]) -> usize {
    let mut at = 12;
    while query[at] != 0 {
        at += usize::from(query[at]) + 1;
    }
    at + 5
}

/// An answer with those of the addresses that are of the type asked for.
pub(crate) fn answer(query: &[u8], addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
    let end = question_end(query);
    let kind = u16::from_be_bytes([query[end - 4], query[end - 3]]);
    let fitting: Vec<&IpAddr> =
        addresses.iter().filter(|ip| kind == if ip.is_ipv4() { 1 } else { 28 }).collect();
    let mut message = query[..end].to_vec();
    message[2] = 0x81;
    message[3] = 0x80;
    message[6..12].fill(0);
    message[7] = u8::try_from(fitting.len()).unwrap();
    for ip in fitting {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        let octets = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        message.extend([0, u8::try_from(octets.len()).unwrap()]);
        message.extend(octets);
    }
    message
}

/// A query as a client sends it.
pub(crate) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}
