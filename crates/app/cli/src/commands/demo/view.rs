//! The live view: what is drawn, and nothing else. [`Scene`] is all that it knows.

use std::collections::VecDeque;
use std::time::Duration;

use bondwire_api::LinkStatus;
use bondwire_units::Bitrate;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Cell, Chart, Dataset, GraphType, LineGauge, Paragraph, Row, Table};

/// Samples of the history that are shown; one every [`HISTORY_STEP`].
const HISTORY: usize = 240;
/// The time between two samples of the history.
pub(super) const HISTORY_STEP: Duration = Duration::from_millis(250);
/// The links' colours, in their order.
const COLOURS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Magenta, Color::Green, Color::LightBlue, Color::LightRed];

/// Everything that one picture shows.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// The scenario's name.
    pub profile: String,
    /// The bond's mode.
    pub mode: String,
    /// Since the download began.
    pub elapsed: Duration,
    /// The links, in the scenario's order.
    pub links: Vec<LinkScene>,
    /// What is downloaded, in words.
    pub what: String,
    /// The download's rate now.
    pub rate: Bitrate,
    /// The best single link: its name and rate.
    pub best: (String, Bitrate),
    /// What just happened, or went wrong.
    pub message: String,
    history: VecDeque<f64>,
}

/// One link's row.
#[derive(Clone, Debug)]
pub(super) struct LinkScene {
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub kind: String,
    /// Its rate by the scenario, for the bar's full width; none is without limit.
    pub limit: Option<Bitrate>,
    /// Whether it is cut now, by key or script.
    pub cut: bool,
    /// What the bond measures; none before the first answer.
    pub status: Option<LinkStatus>,
}

impl Scene {
    /// A picture with no figures yet.
    pub(super) fn new(profile: &str, mode: &str, links: Vec<LinkScene>, best: (String, Bitrate)) -> Self {
        Self {
            profile: profile.to_owned(),
            mode: mode.to_owned(),
            elapsed: Duration::ZERO,
            links,
            what: "one TCP download, all links".to_owned(),
            rate: Bitrate::ZERO,
            best,
            message: String::new(),
            history: VecDeque::with_capacity(HISTORY),
        }
    }

    /// Adds the download's rate to the history, which keeps the last minute.
    pub(super) fn push_history(&mut self, rate: Bitrate) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(rate.as_mbps());
    }

    /// What all links receive, outer headers and copies included.
    fn sum(&self) -> Bitrate {
        Bitrate::from_bps(
            self.links.iter().filter_map(|link| link.status.as_ref()).map(|status| status.rx_bps).sum(),
        )
    }

    /// The rate that a full bar stands for.
    fn bar_full(&self) -> f64 {
        let limits = self.links.iter().filter_map(|link| link.limit).map(Bitrate::as_mbps);
        limits.fold(1.0, f64::max)
    }

    /// The upper end of the history's scale, a round figure above all that is shown.
    fn scale(&self) -> f64 {
        let limits: f64 = self.links.iter().filter_map(|link| link.limit).map(Bitrate::as_mbps).sum();
        let seen = self.history.iter().copied().fold(limits.max(self.best.1.as_mbps()).max(1.0), f64::max);
        let step = if seen > 50.0 { 20.0 } else { 5.0 };
        (seen / step).ceil() * step
    }
}

/// Draws a scene.
pub(super) fn draw(frame: &mut Frame<'_>, scene: &Scene) {
    let rows = u16::try_from(scene.links.len()).unwrap_or(u16::MAX).saturating_add(3);
    let areas = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(rows),
        Constraint::Min(4),
        Constraint::Length(2),
    ])
    .split(frame.area());
    draw_head(frame, areas[0], scene);
    draw_links(frame, areas[1], scene);
    draw_history(frame, areas[2], scene);
    draw_foot(frame, areas[3], scene);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, scene: &Scene) {
    let seconds = scene.elapsed.as_secs();
    let title = format!(" bondwire demo · {} · mode {} ", scene.profile, scene.mode);
    let clock = format!(" {:02}:{:02} ", seconds / 60, seconds % 60);
    let block = Block::bordered().title(title.bold()).title(Line::from(clock).right_aligned());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let (rate, best) = (scene.rate.as_mbps(), scene.best.1.as_mbps());
    let times = if best > 0.0 { format!("  {:.2} ×", rate / best) } else { String::new() };
    let download = Line::from(vec![
        Span::raw(format!("{:<28} ", scene.what)),
        Span::styled(format!("{rate:>6.1} Mbit/s"), Style::new().bold().green()),
        Span::styled(times, Style::new().bold()),
    ]);
    let single = format!("the best single link alone   {best:>6.1} Mbit/s  ({})", scene.best.0);
    frame.render_widget(Paragraph::new(vec![download, Line::from(single)]), inner);
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, scene: &Scene) {
    let sum = format!(" links · sum {:.1} Mbit/s ", scene.sum().as_mbps());
    let block = Block::bordered().title(sum);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let columns = Layout::horizontal([Constraint::Length(24), Constraint::Min(10), Constraint::Length(50)])
        .split(inner);
    let header = |cells: &[&str]| Row::new(cells.iter().map(|cell| (*cell).to_owned())).dim();
    let names = scene.links.iter().enumerate().map(|(at, link)| name_row(at, link));
    let widths = [Constraint::Length(2), Constraint::Length(9), Constraint::Length(11)];
    let second = if scene.mode == "balance" { "share" } else { "kind" };
    frame.render_widget(Table::new(names, widths).header(header(&["", "link", second])), columns[0]);
    let widths = [13, 9, 9, 15].map(Constraint::Length);
    let figures = scene.links.iter().map(figures_row);
    let titles = header(&["         rate", "      RTT", "     loss", "state"]);
    frame.render_widget(Table::new(figures, widths).header(titles), columns[2]);
    let full = scene.bar_full();
    for (at, link) in scene.links.iter().enumerate() {
        let y = inner.y.saturating_add(1).saturating_add(u16::try_from(at).unwrap_or(u16::MAX));
        let bar = Rect { y, height: 1, ..columns[1] };
        if y < inner.bottom() {
            draw_bar(frame, bar, at, link, full);
        }
    }
}

fn name_row(at: usize, link: &LinkScene) -> Row<'static> {
    let key = if at < 9 { (at + 1).to_string() } else { String::new() };
    let colour = COLOURS[at % COLOURS.len()];
    // In mode balance a link's share says more than its kind.
    let shares = link.status.as_ref().and_then(|status| Some((status.share?, status.sockets?)));
    let kind = shares.map_or_else(
        || link.kind.clone(),
        |(share, sockets)| format!("{:>3.0} % · {sockets}", share * 100.0),
    );
    let cells = [Cell::from(key.bold()), Cell::from(link.name.clone().fg(colour)), Cell::from(kind)];
    Row::new(cells)
}

fn figures_row(link: &LinkScene) -> Row<'static> {
    let Some(status) = &link.status else {
        return Row::new(["".to_owned(), String::new(), String::new(), state_of(link)]);
    };
    let rate = format!("{:>6.1} Mbit/s", Bitrate::from_bps(status.rx_bps).as_mbps());
    let rtt = status.rtt_ms.map_or_else(String::new, |rtt| format!("{rtt:>6.0} ms"));
    let loss = format!("{:>7.1} %", status.loss * 100.0);
    let state = state_of(link);
    let style = match state.as_str() {
        "active" => Style::new().green(),
        "cut" | "down" => Style::new().red(),
        _ => Style::new().yellow(),
    };
    Row::new([Cell::from(rate), Cell::from(rtt), Cell::from(loss), Cell::from(state).style(style)])
}

/// The bond's word for the link; with a note when the demo has cut it and the bond has not noticed yet.
fn state_of(link: &LinkScene) -> String {
    let state = link.status.as_ref().map_or("", |status| status.state.as_str());
    match (link.cut, state) {
        (true, "active" | "") => "cut".to_owned(),
        (true, state) => format!("cut ({state})"),
        (false, state) => state.to_owned(),
    }
}

fn draw_bar(frame: &mut Frame<'_>, area: Rect, at: usize, link: &LinkScene, full: f64) {
    let rate = link.status.as_ref().map_or(0.0, |status| Bitrate::from_bps(status.rx_bps).as_mbps());
    let bar = LineGauge::default()
        .label("")
        .filled_symbol("█")
        .unfilled_symbol("·")
        .filled_style(Style::new().fg(COLOURS[at % COLOURS.len()]))
        .unfilled_style(Style::new().dim())
        .ratio((rate / full).clamp(0.0, 1.0));
    frame.render_widget(bar, area);
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, scene: &Scene) {
    let scale = scene.scale();
    let newest = (HISTORY - 1) as f64;
    let first = newest - scene.history.len().saturating_sub(1) as f64;
    let points: Vec<(f64, f64)> =
        scene.history.iter().enumerate().map(|(at, rate)| (first + at as f64, *rate)).collect();
    let best = scene.best.1.as_mbps();
    let line = [(0.0, best), (newest, best)];
    let dataset = |data, colour| {
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
            .data(data)
    };
    let span = (HISTORY as f64 * HISTORY_STEP.as_secs_f64()).round();
    let x = Axis::default().bounds([0.0, newest]).labels([format!("-{span:.0} s"), "now".to_owned()]);
    let y = Axis::default().bounds([0.0, scale]).labels([
        "0".to_owned(),
        format!("{:.0}", scale / 2.0),
        format!("{scale:.0}"),
    ]);
    let chart = Chart::new(vec![dataset(&line, Color::DarkGray), dataset(&points, Color::Green)])
        .block(Block::bordered().title(" the download, Mbit/s · grey: the best single link "))
        .x_axis(x.style(Style::new().dim()))
        .y_axis(y.style(Style::new().dim()));
    frame.render_widget(chart, area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, scene: &Scene) {
    let last = scene.links.len().min(9);
    let keys = if last > 1 { format!(" 1-{last}") } else { " 1".to_owned() };
    let keys = Line::from(vec![
        keys.bold(),
        " cut or restore a link   ".into(),
        "m".bold(),
        " next mode   ".into(),
        "q".bold(),
        " quit".into(),
    ]);
    let message = Line::from(format!(" {}", scene.message)).yellow();
    frame.render_widget(Paragraph::new(vec![message, keys]), area);
}

#[cfg(test)]
mod tests;
