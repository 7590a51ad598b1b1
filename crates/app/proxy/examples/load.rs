//! Measures any SOCKS5 proxy: bytes per second of its processor time, connects per second, connect times, memory per socket.
//!
//! `cargo run -p bondwire-proxy --example load -- PROXY PID WHAT [SECONDS [PARALLEL]]` where WHAT is
//! `down`, `up` (bulk transfers), `connects` (short exchanges of 1 KiB), `hold` (idle connections, PARALLEL of them).
//! PROXY `direct` (and any PID) is the same without a proxy. The servers run inside. Figures mean something only beside those of another proxy in the same minute.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, proxy, pid, what, rest @ ..] = &arguments[..] else {
        return Err("usage: load PROXY PID down|up|connects|hold [SECONDS [PARALLEL]]".into());
    };
    let proxy: Option<SocketAddr> = if proxy == "direct" { None } else { Some(proxy.parse()?) };
    let seconds: u64 = rest.first().map_or(Ok(3), |text| text.parse())?;
    let parallel: usize = rest.get(1).map_or(Ok(4), |text| text.parse())?;
    let target = serve(what)?;
    if what == "hold" {
        return hold(proxy, pid, target, parallel);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (bytes, connects) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let spent = processor_time(pid)?;
    let threads: Vec<_> = (0..parallel)
        .map(|_| {
            let (stop, bytes, connects) = (stop.clone(), bytes.clone(), connects.clone());
            let what = what.clone();
            thread::spawn(move || client(&what, proxy, target, &stop, &bytes, &connects))
        })
        .collect();
    thread::sleep(Duration::from_secs(seconds));
    stop.store(true, Ordering::Relaxed);
    let (wall, spent) = (started.elapsed().as_secs_f64(), processor_time(pid)? - spent);
    let bytes = bytes.load(Ordering::Relaxed) as f64;
    let connects = connects.load(Ordering::Relaxed) as f64;
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| "a client panicked")??);
    }
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "{what}: {:.2} Gbit/s, {:.2} GB per processor second, {:.0} connects/s, {:.0} connects per processor second, connect p50 {:?} p99 {:?}, processor {:.2} s",
        bytes * 8e-9 / wall,
        bytes * 1e-9 / spent,
        connects / wall,
        connects / spent,
        at(0.5),
        at(0.99),
        spent,
    );
    Ok(())
}

/// One client until it is told to stop; how long each connect through the proxy took.
fn client(
    what: &str,
    proxy: Option<SocketAddr>,
    target: SocketAddr,
    stop: &AtomicBool,
    bytes: &AtomicU64,
    connects: &AtomicU64,
) -> Outcome<Vec<Duration>> {
    let mut buffer = vec![0; 256 * 1024];
    let mut times = Vec::new();
    if what == "connects" {
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let mut stream = open(proxy, target)?;
            times.push(started.elapsed());
            stream.write_all(&buffer[..128])?;
            stream.read_exact(&mut buffer[..1024])?;
            connects.fetch_add(1, Ordering::Relaxed);
        }
        return Ok(times);
    }
    let mut stream = open(proxy, target)?;
    while !stop.load(Ordering::Relaxed) {
        let moved = if what == "down" { stream.read(&mut buffer)? } else { stream.write(&buffer)? };
        bytes.fetch_add(moved as u64, Ordering::Relaxed);
    }
    Ok(times)
}

/// Idle connections through the proxy, and what they cost it.
fn hold(proxy: Option<SocketAddr>, pid: &str, target: SocketAddr, count: usize) -> Outcome<()> {
    let before = resident(pid)?;
    let streams = (0..count).map(|_| open(proxy, target)).collect::<Outcome<Vec<_>>>()?;
    let after = resident(pid)?;
    println!(
        "hold: {} connections, resident {before} KiB before, {after} KiB with them, {:.2} KiB each",
        streams.len(),
        (after as f64 - before as f64) / count as f64
    );
    Ok(())
}

/// A connection through the proxy (RFC 1928).
fn open(proxy: Option<SocketAddr>, target: SocketAddr) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(proxy.unwrap_or(target))?;
    stream.set_nodelay(true)?;
    if proxy.is_none() {
        return Ok(stream);
    }
    stream.write_all(&[5, 1, 0])?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply[..2])?;
    let SocketAddr::V4(target) = target else { return Err("IPv4 only".into()) };
    let mut request = vec![5, 1, 0, 1];
    request.extend(target.ip().octets());
    request.extend(target.port().to_be_bytes());
    stream.write_all(&request)?;
    stream.read_exact(&mut reply)?;
    if reply[1] != 0 { Err(format!("refused: {}", reply[1]).into()) } else { Ok(stream) }
}

/// The other end: sends, swallows, answers, or stays silent.
fn serve(what: &str) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let what = what.to_owned();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            if what == "hold" {
                held.push(stream);
                continue;
            }
            // Short exchanges one after the other: a thread for each would be most of what is measured.
            if what == "connects" {
                let _ = serve_one(&what, stream);
                continue;
            }
            let what = what.clone();
            thread::spawn(move || serve_one(&what, stream));
        }
    });
    Ok(address)
}

fn serve_one(what: &str, mut stream: TcpStream) -> Option<()> {
    let mut buffer = vec![0; 256 * 1024];
    match what {
        "down" => while stream.write_all(&buffer).is_ok() {},
        "up" => while stream.read(&mut buffer).ok()? > 0 {},
        _ => {
            stream.read_exact(&mut buffer[..128]).ok()?;
            stream.write_all(&buffer[..1024]).ok()?;
        }
    }
    Some(())
}

/// User and system time of a process in seconds, threads that have ended included.
fn processor_time(pid: &str) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

/// Resident memory of a process in KiB.
fn resident(pid: &str) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no memory")?;
    Ok(line.split_whitespace().nth(1).ok_or("no memory")?.parse()?)
}
