//! A proxy whose links are source addresses, taken by turns: for measuring, without a policy.
//!
//! `cargo run -p bondwire-proxy --example serve -- 127.0.0.1:1080 [WORKERS [SOURCE ...]]`

use std::env;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bondwire_proxy::{
    Config, Director, Failure, Links, Placement, Proxy, Refusal, Request, Route, SocketId, Traffic,
};
use bondwire_units::LinkId;

struct Turns {
    routes: Vec<Arc<Route>>,
    next: AtomicU64,
}

impl Director for Turns {
    fn open(&self, _: &Request<'_>) -> Result<Placement, Refusal> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let link = u32::try_from(number % self.routes.len() as u64).map_err(|_| Refusal::NoLink)?;
        Ok(Placement {
            socket: SocketId(number),
            link: Some(LinkId(link)),
            patience: Duration::from_millis(500),
        })
    }
    fn next_link(&self, _: SocketId) -> Option<Placement> {
        None
    }
    fn connected(&self, _: SocketId, _: LinkId, _: Duration) {}
    fn failed(&self, _: SocketId, _: LinkId, _: Failure) {}
    fn traffic(&self, _: &[Traffic]) {}
    fn closed(&self, _: SocketId) {}
}

impl Links for Turns {
    fn route(&self, link: LinkId) -> Option<Arc<Route>> {
        self.routes.get(usize::try_from(link.0).ok()?).cloned()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let mut config = Config::new(arguments.next().ok_or("where to listen?")?.parse()?);
    if let Some(workers) = arguments.next() {
        config.workers = workers.parse()?;
    }
    let mut sources = arguments.map(|text| text.parse()).collect::<Result<Vec<Ipv4Addr>, _>>()?;
    if sources.is_empty() {
        sources.push(Ipv4Addr::LOCALHOST);
    }
    let route = |source: &Ipv4Addr| Arc::new(Route { source_v4: Some(*source), ..Route::default() });
    let turns = Arc::new(Turns { routes: sources.iter().map(route).collect(), next: AtomicU64::new(0) });
    Proxy::bind(config, turns.clone(), turns)?.run()?;
    Ok(())
}
