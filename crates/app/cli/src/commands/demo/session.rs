//! One run of the demo: a lab, a bond or a balancer in it, what is downloaded through it, and what is done to the links meanwhile.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bondwire_api::{Fault, LinkStatus, Mode, Status};
use bondwire_netns::traffic::{Bulk, BulkOptions, BulkServer};
use bondwire_netns::{Lab, LabError, LabOptions, Player, TrafficError, now};
use bondwire_scenario::{Action, Scenario};
use bondwire_units::{Bitrate, ByteCount, Timestamp};

use super::bond::Bond;
use super::downloads::Downloads;
use super::figures::{Outages, bonded_rate, longest_gap};
use super::report::{Cut, LinkFigures, Report, milliseconds, share};
use super::stop::Stop;
use super::watch::Watch;

/// Where the web host listens.
const PORT: u16 = 8080;
/// How long each link is measured alone, and how much of the beginning does not count.
const SINGLE: Duration = Duration::from_secs(6);
const SINGLE_START_UP: Duration = Duration::from_millis(3_000);
/// How long after a cut a gap is taken for its consequence.
const AFTER_CUT: Duration = Duration::from_secs(2);
/// What the rate of this moment is the mean of.
const MOMENT: Duration = Duration::from_secs(1);
/// Downloads side by side in mode `balance`: one socket never exceeds one link.
const SOCKETS: usize = 8;

/// A running demo.
#[derive(Debug)]
pub(super) struct Session {
    // In the order in which they have to end: the bond's processes before the lab that they run in.
    download: Option<Downloads>,
    watch: Watch,
    events: Option<Player>,
    bond: Bond,
    web: BulkServer,
    lab: Lab,
    scenario: Scenario,
    mode: Mode,
    singles: Vec<Bitrate>,
    outages: Outages,
    start: Timestamp,
    /// What had arrived when, over the last [`MOMENT`].
    moment: VecDeque<(Timestamp, u64)>,
    /// What the links had carried when the download began.
    before: Status,
}

impl Session {
    /// Builds the lab, measures each link alone, starts the bond, and the download through it. Tells on stderr what it does.
    /// None when it was told to stop meanwhile.
    ///
    /// # Errors
    /// The lab cannot be built, or bondwire does not start in it.
    pub(super) fn start(scenario: Scenario, mode: Mode, stop: &Stop) -> Result<Option<Self>, Fault> {
        let lab = Lab::build(&scenario, LabOptions::default()).map_err(lab_fault)?;
        let address = SocketAddr::from((lab.web_addr_v4(), PORT));
        let web = BulkServer::start(lab.web(), address).map_err(traffic_fault)?;
        let Some(singles) = measure_singles(&lab, &web, &scenario, stop)? else { return Ok(None) };
        let balance = mode == Mode::Balance;
        eprintln!("starting {} …", if balance { "the balancer" } else { "the bond" });
        let links: Vec<String> = scenario.links.iter().map(|link| link.name.clone()).collect();
        let bond = Bond::start(&lab, &links, mode)?;
        let watch = Watch::start(bond.control()).map_err(|error| {
            Fault::from_io("cannot watch the bond", &error, "end other programs and try again")
        })?;
        let before = bond.control().status()?;
        lab.emulator().reset_lateness().map_err(lab_fault)?;
        let start = now();
        let download = match balance {
            true => Downloads::several(&lab, &web, SOCKETS, start)?,
            false => Downloads::one(&lab, &web, start)?,
        };
        let mut session = Self {
            download: Some(download),
            watch,
            events: None,
            bond,
            web,
            lab,
            scenario,
            mode,
            singles,
            outages: Outages::default(),
            start,
            moment: VecDeque::new(),
            before,
        };
        session.play()?;
        Ok(Some(session))
    }

    /// Starts the scenario's own events, if it has any.
    fn play(&mut self) -> Result<(), Fault> {
        if self.scenario.events.is_empty() {
            return Ok(());
        }
        for event in &self.scenario.events {
            let at = self.start + event.at;
            match event.action {
                Action::Silence | Action::CarrierLoss => self.outages.on_cut(event.link, at),
                Action::Return => self.outages.on_restored(event.link, at),
                Action::AddressChange | Action::NatRebind | Action::Change(_) => {}
            }
        }
        self.events = Some(self.lab.play(&self.scenario, self.start).map_err(lab_fault)?);
        Ok(())
    }

    /// Since the download began.
    pub(super) fn elapsed(&self) -> Duration {
        now().since(self.start)
    }

    /// The mode at present.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// What the demo runs on.
    pub(super) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The link that a script cuts: the fastest, if it is not the only one and the scenario has no events of its own.
    pub(super) fn victim(&self) -> Option<usize> {
        let alone = self.scenario.links.len() < 2 || self.events.is_some();
        let fastest = (0..self.singles.len()).max_by_key(|link| self.singles[*link]);
        fastest.filter(|_| !alone)
    }

    /// The best single link: its name and its rate.
    pub(super) fn best(&self) -> (String, Bitrate) {
        let best = self.scenario.links.iter().zip(&self.singles).max_by_key(|(_, rate)| **rate);
        best.map_or_else(|| (String::new(), Bitrate::ZERO), |(link, rate)| (link.name.clone(), *rate))
    }

    /// The download's rate over the last second.
    pub(super) fn sample_rate(&mut self) -> Bitrate {
        let (now, received) = (now(), self.download.as_ref().map_or(0, Downloads::received));
        self.moment.push_back((now, received));
        while self.moment.len() > 2 && self.moment.get(1).is_some_and(|(at, _)| now.since(*at) >= MOMENT) {
            self.moment.pop_front();
        }
        let (then, before) = self.moment.front().copied().unwrap_or((now, received));
        Bitrate::from_bytes_over(ByteCount::new(received - before), now.since(then))
    }

    /// What the bond says about a link, by the newest answer.
    pub(super) fn link_status(&self, link: usize) -> Option<LinkStatus> {
        let name = &self.scenario.links.get(link)?.name;
        self.watch.newest()?.links.into_iter().find(|status| status.name == *name)
    }

    /// Whether a link is cut, by key, script or scenario.
    pub(super) fn is_cut(&self, link: usize) -> bool {
        self.outages.is_cut(link, now())
    }

    /// A link dies in silence: nobody is told.
    ///
    /// # Errors
    /// The emulator is gone.
    pub(super) fn cut(&mut self, link: usize) -> Result<(), Fault> {
        self.outages.on_cut(link, now());
        self.lab.silence(&self.scenario.links[link].name).map_err(lab_fault)
    }

    /// It comes back.
    ///
    /// # Errors
    /// As [`Session::cut`].
    pub(super) fn restore(&mut self, link: usize) -> Result<(), Fault> {
        self.lab.restore(&self.scenario.links[link].name).map_err(lab_fault)?;
        self.outages.on_restored(link, now());
        Ok(())
    }

    /// Changes the mode; what there is to say about the new one.
    ///
    /// # Errors
    /// The client does not answer.
    pub(super) fn set_mode(&mut self, mode: Mode) -> Result<Option<String>, Fault> {
        let answer = self.bond.control().set_mode(mode)?;
        self.mode = answer.mode;
        Ok(answer.remark)
    }

    /// Whether all still runs.
    ///
    /// # Errors
    /// The download broke, or a side of the bond ended.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        self.bond.check()?;
        self.download.as_mut().map_or(Ok(()), |download| download.check(&self.lab, &self.web))
    }

    /// What is downloaded, in words.
    pub(super) fn what(&self) -> String {
        match self.download.as_ref().map_or(0, Downloads::count) {
            0 | 1 => "one TCP download, all links".to_owned(),
            count => format!("{count} TCP downloads, all links"),
        }
    }

    /// Ends the download, and gives the figures.
    ///
    /// # Errors
    /// The download broke, the emulator is gone, or the client does not answer.
    pub(super) fn finish(mut self) -> Result<Report, Fault> {
        let after = self.bond.control().status()?;
        let emulator = self.lab.emulator().report().map_err(lab_fault)?;
        let end = now();
        let download = self.download.take().ok_or_else(|| broken_fault("it had ended before"))?;
        let reconnects = (self.mode == Mode::Balance).then(|| download.reconnects());
        let download = download.finish()?;
        let length = end.since(download.start());
        let (best_single_link, best) = self.best();
        let cut = self.outages.first().map(|(link, at)| {
            let at = at.since(download.start());
            let gap = download.longest_gap(at, length.min(at + AFTER_CUT));
            let link = self.scenario.links[link].name.clone();
            Cut { link, at_ms: milliseconds(at), gap_ms: milliseconds(gap) }
        });
        let mut report = Report {
            profile: self.scenario.name.clone(),
            mode: self.mode.to_string(),
            seconds: milliseconds(length) / 1_000.0,
            best_single_bps: best.as_bps(),
            best_single_link,
            bonded_bps: None,
            ratio: None,
            longest_gap_ms: milliseconds(longest_gap(&download, length)),
            cut,
            reconnects,
            links: self.figures(&after),
            emulator_late_us_p99: emulator.lateness_us.p99,
            emulator_dropped: emulator.overload_drops(),
        };
        report.set_bonded(bonded_rate(&download, &self.outages, length));
        Ok(report)
    }

    fn figures(&self, after: &Status) -> Vec<LinkFigures> {
        let carried = |status: &Status, name: &str| {
            let link = status.links.iter().find(|link| link.name == name);
            link.map_or((0, 0), |link| (link.bytes_rx, link.bytes_tx))
        };
        let figures = |(link, single): (&bondwire_scenario::Link, &Bitrate)| {
            let (before, after) = (carried(&self.before, &link.name), carried(after, &link.name));
            LinkFigures {
                name: link.name.clone(),
                single_bps: single.as_bps(),
                bytes_rx: after.0.saturating_sub(before.0),
                bytes_tx: after.1.saturating_sub(before.1),
                share: None,
            }
        };
        let mut figures: Vec<LinkFigures> =
            self.scenario.links.iter().zip(&self.singles).map(figures).collect();
        if self.mode == Mode::Balance {
            let sum: u64 = figures.iter().map(|link| link.bytes_rx).sum();
            figures.iter_mut().for_each(|link| link.share = Some(share(link.bytes_rx, sum)));
        }
        figures
    }
}

/// A plain TCP download over each link in turn; none when it was told to stop meanwhile.
fn measure_singles(
    lab: &Lab,
    web: &BulkServer,
    scenario: &Scenario,
    stop: &Stop,
) -> Result<Option<Vec<Bitrate>>, Fault> {
    let mut singles = Vec::new();
    for link in &scenario.links {
        eprint!("measuring {} alone … ", link.name);
        let download = start_download(lab, web, Some(&link.name), SINGLE)?;
        if stop.wait(SINGLE) {
            return Ok(None);
        }
        let timeline = download.finish().map_err(traffic_fault)?.timeline;
        let rate = timeline.goodput(SINGLE_START_UP, SINGLE);
        eprintln!("{:.1} Mbit/s", rate.as_mbps());
        singles.push(rate);
    }
    Ok(Some(singles))
}

pub(super) fn start_download(
    lab: &Lab,
    web: &BulkServer,
    link: Option<&str>,
    limit: Duration,
) -> Result<Bulk, Fault> {
    let interface = link.map(str::to_owned);
    let options = BulkOptions { interface, limit, verify: false, ..BulkOptions::default() };
    Bulk::start(lab.client(), web, options).map_err(traffic_fault)
}

fn lab_fault(error: LabError) -> Fault {
    let remedy = "end programs that load this machine and try again, or run it as root, who may do more";
    Fault::failed("the demo's private network failed", error.to_string(), remedy)
}

pub(super) fn traffic_fault(error: TrafficError) -> Fault {
    broken_fault(&error.to_string())
}

pub(super) fn broken_fault(why: &str) -> Fault {
    Fault::failed(
        "the demo's download failed",
        why,
        "run it again; if it happens twice, report it with the output of `bondwire demo` and of `uname -a`",
    )
}
