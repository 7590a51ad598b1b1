//! The web host as these tests need it: it answers `GET /bytes/N` with N bytes, or the part of them that was asked for, `GET /page/N` with a
//! page of N pictures, and remembers from which address each request came.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bondwire_netns::Node;

/// One request that was heard.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// From where.
    pub(crate) from: IpAddr,
}

/// A web server on some ports of a machine. Its threads end with the test's process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Web {
    visits: Arc<Mutex<Vec<Visit>>>,
}

impl Web {
    /// Listens on these ports of every address.
    pub(crate) fn start(node: &Node, ports: &[u16]) -> Self {
        let web = Self::default();
        for port in ports.iter().copied() {
            let listener =
                node.run(move || TcpListener::bind((IpAddr::from([0; 16]), port))).expect("a socket");
            let web = web.clone();
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let web = web.clone();
                    // A client that goes away in between is its own affair.
                    thread::spawn(move || drop(web.serve(stream)));
                }
            });
        }
        web
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let from = stream.peer_addr()?.ip().to_canonical();
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut range = None;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? <= 2 {
                    break;
                }
                let lower = line.to_ascii_lowercase();
                if let Some((from, to)) =
                    lower.strip_prefix("range: bytes=").and_then(|text| text.split_once('-'))
                {
                    let from = from.trim().parse().unwrap_or(0);
                    range = Some((from, to.trim().parse().unwrap_or(u64::MAX)));
                }
            }
            let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
            self.visits().push(Visit { from });
            answer(&mut writer, &path, range)?;
        }
    }

    /// All that was heard so far.
    pub(crate) fn visits(&self) -> MutexGuard<'_, Vec<Visit>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests came from an address.
    pub(crate) fn count(&self, from: impl Into<IpAddr>) -> usize {
        let from = from.into();
        self.visits().iter().filter(|visit| visit.from == from).count()
    }

    /// Forgets what was heard.
    pub(crate) fn forget(&self) {
        self.visits().clear();
    }
}

/// The byte that stands at this place of every object: no two parts of one look alike by chance.
pub(crate) fn byte_at(place: u64) -> u8 {
    (place % PERIOD) as u8
}

const PERIOD: u64 = 251;

/// Answers with a page, or with an object's bytes, or those between the two ends of `range`, both included.
fn answer(writer: &mut TcpStream, path: &str, range: Option<(u64, u64)>) -> std::io::Result<()> {
    let mut parts = path.trim_start_matches('/').split('/');
    let kind = parts.next().unwrap_or_default();
    let size: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    if kind == "page" {
        let pictures: String = (0..size).map(|at| format!("<img src=\"/bytes/2000/{at}\">")).collect();
        let body = format!("<html><body>{pictures}<p>the end</p></body></html>");
        return write!(
            writer,
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let (from, end) = range.map_or((0, size), |(from, to)| (from.min(size), to.saturating_add(1).min(size)));
    let mut left = end.saturating_sub(from);
    if range.is_some() {
        write!(
            writer,
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{size}\r\ncontent-length: {left}\r\n\r\n",
            end.saturating_sub(1)
        )?;
    } else {
        write!(writer, "HTTP/1.1 200 OK\r\naccept-ranges: bytes\r\ncontent-length: {left}\r\n\r\n")?;
    }
    // A whole number of periods, so that each block begins as the first one does.
    let block: Vec<u8> = (0..PERIOD * 256).map(|at| byte_at(from + at)).collect();
    while left > 0 {
        let part = left.min(block.len() as u64);
        writer.write_all(&block[..part as usize])?;
        left -= part;
    }
    Ok(())
}

/// A UDP service that tells each client where its datagrams come from.
pub(crate) fn echo_addresses(node: &Node, port: u16) {
    let socket =
        node.run(move || std::net::UdpSocket::bind((IpAddr::from([0; 16]), port))).expect("a socket");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let shown = SocketAddr::new(client.ip().to_canonical(), client.port()).to_string();
            // A client that is gone needs no answer.
            let _ = socket.send_to(shown.as_bytes(), client);
        }
    });
}

/// Asks such a service where a machine's datagrams come from.
pub(crate) fn ask_address(node: &Node, service: SocketAddr, connected: bool) -> Option<SocketAddr> {
    let answer = exchange(node, service, b"where".to_vec(), connected)?;
    String::from_utf8(answer).ok()?.parse().ok()
}

/// One datagram there, and one back.
fn exchange(node: &Node, to: SocketAddr, message: Vec<u8>, connected: bool) -> Option<Vec<u8>> {
    let ask = move || -> std::io::Result<Vec<u8>> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut buffer = [0; 2048];
        let length = if connected {
            socket.connect(to)?;
            socket.send(&message)?;
            socket.recv(&mut buffer)?
        } else {
            socket.send_to(&message, to)?;
            socket.recv_from(&mut buffer)?.0
        };
        Ok(buffer[..length].to_vec())
    };
    // A thread of its own: a node runs one job at a time.
    node.thread("client", ask).expect("a thread").join().expect("it ends").ok()
}

/// The names that a resolver was asked for, in the order of the questions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    /// How many questions were for this name.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.lock().iter().filter(|asked| *asked == name).count()
    }

    /// How many were for a name that ends like this.
    pub(crate) fn below(&self, domain: &str) -> usize {
        self.lock().iter().filter(|asked| asked.ends_with(domain)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resolver that answers every question for an address with `answer`. Its thread ends with the test's process.
pub(crate) fn resolver(node: &Node, answer: Ipv4Addr) -> Asked {
    let socket = node.run(|| std::net::UdpSocket::bind((IpAddr::from([0; 16]), 53))).expect("a socket");
    let asked = Asked::default();
    let heard = asked.clone();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            if let Some(reply) = reply_to(&buffer[..length], answer) {
                heard.lock().extend(name_of(&buffer[..length]));
                // A client that is gone needs no answer.
                let _ = socket.send_to(&reply, client);
            }
        }
    });
    asked
}

/// The name that a question is for (RFC 1035, section 4.1.2), with dots.
fn name_of(query: &[u8]) -> Option<String> {
    let (mut rest, mut labels) = (query.get(12..)?, Vec::new());
    while let Some((length, more)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, after) = more.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        rest = after;
    }
    Some(labels.join("."))
}

/// An answer to a question for an IPv4 address (RFC 1035, section 4.1), and an empty one to any other.
fn reply_to(query: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    let name_end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let kind = query.get(name_end..name_end + 2)?;
    let has_answer = kind == [0, 1];
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
    reply.extend(query.get(12..name_end + 4)?);
    if has_answer {
        // A pointer to the name, A, IN, a minute.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(answer.octets());
    }
    Some(reply)
}

/// What a resolver says about a name's IPv4 address.
pub(crate) fn ask_name(node: &Node, resolver: &str, name: &str) -> Option<Ipv4Addr> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let answer = exchange(node, resolver.parse().expect("an address"), query, true)?;
    let address: [u8; 4] = *answer.last_chunk()?;
    (answer.get(7) == Some(&1)).then_some(address.into())
}
