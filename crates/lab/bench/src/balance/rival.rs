use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Instant;

use super::ground::{Ground, source};
use super::load::{SHORT, Target};
use crate::BenchError;
use crate::fixture::{Process, ms, seconds};
use crate::peers::needs;

/// Another SOCKS5 proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// microsocks: a thread for each client, one link.
    Microsocks,
    /// go-dispatch-proxy: Go, takes the links by turns.
    GoDispatchProxy,
}

/// One that runs. It ends with its drop.
pub(super) struct Running {
    pub(super) rival: Rival,
    pub(super) proxy: SocketAddr,
    process: Process,
}

impl Running {
    /// The number of its process.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Rival {
    /// All names that may be asked for.
    pub const NAMES: [&str; 2] = ["microsocks", "go-dispatch-proxy"];

    /// The rival of this name, if it is here.
    ///
    /// # Errors
    /// A line that says why it is left out.
    pub fn find(name: &str) -> Result<Self, String> {
        let rival = match name {
            "microsocks" => Self::Microsocks,
            "go-dispatch-proxy" => Self::GoDispatchProxy,
            _ => return Err(format!("there is no peer `{name}`; choose among {}", Self::NAMES.join(", "))),
        };
        needs(name, &[name]).map(|()| rival)
    }

    /// What it is called.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Microsocks => Self::NAMES[0],
            Self::GoDispatchProxy => Self::NAMES[1],
        }
    }

    /// How many times its bytes per processor second bondwire's have to be.
    pub(super) fn bytes_target(self) -> f64 {
        match self {
            Self::Microsocks => 1.5,
            Self::GoDispatchProxy => 1.0,
        }
    }

    /// Starts it on the client's machine, and waits until it lets connections through.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn start(self, ground: &Ground) -> Result<Running, BenchError> {
        let port = match self {
            Self::Microsocks => 1081_u16,
            Self::GoDispatchProxy => 1082,
        };
        let port_text = port.to_string();
        let sources = [source(0), source(1)].map(|address| address.to_string());
        let mut command = Command::new(self.label());
        match self {
            Self::Microsocks => command.args(["-i", "127.0.0.1", "-p", &port_text, "-b", &sources[0]]),
            Self::GoDispatchProxy => {
                command.args(["-quiet", "-lhost", "127.0.0.1", "-lport", &port_text]).args(&sources)
            }
        };
        let mut process = Process::start(&ground.client, command);
        let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let target = ground.target(SHORT).through(proxy);
        let start = Instant::now();
        while !answers(ground, &target) {
            if start.elapsed() > seconds(5) || !process.is_running() {
                return Err(BenchError::Tool { command: self.label().to_owned(), why: process.log() });
            }
            std::thread::sleep(ms(20));
        }
        Ok(Running { rival: self, proxy, process })
    }
}

fn answers(ground: &Ground, target: &Target) -> bool {
    let target = target.clone();
    ground.client.run(move || target.open().is_ok())
}
