use bondwire_api::LinkStatus;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn status(state: &str, mbps: f64) -> LinkStatus {
    LinkStatus {
        name: "wan".into(),
        kind: "ethernet".into(),
        priority: "always".into(),
        state: state.into(),
        rtt_ms: Some(31.4),
        jitter_ms: None,
        loss: 0.003,
        spurious: 0.0,
        tx_bps: 0,
        rx_bps: Bitrate::from_mbps(mbps).as_bps(),
        capacity_up_bps: 0,
        capacity_down_bps: 0,
        bytes_tx: 0,
        bytes_rx: 0,
        in_flight_bytes: 0,
        mtu: 1500,
        remote: None,
        share: None,
        sockets: None,
    }
}

fn link(name: &str, cut: bool, status: Option<LinkStatus>) -> LinkScene {
    LinkScene {
        name: name.into(),
        kind: "ethernet".into(),
        limit: Some(Bitrate::from_mbps(40.0)),
        cut,
        status,
    }
}

fn scene() -> Scene {
    let links = vec![
        link("line", false, Some(status("active", 36.0))),
        link("cell", true, Some(status("suspect", 0.0))),
        link("sat", false, None),
    ];
    let mut scene = Scene::new("demo", "speed", links, ("line".into(), Bitrate::from_mbps(38.0)));
    scene.elapsed = Duration::from_secs(75);
    scene.rate = Bitrate::from_mbps(76.0);
    scene.message = "link cell cut".into();
    scene
}

fn picture(scene: &Scene, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
    terminal.draw(|frame| draw(frame, scene)).expect("drawn");
    terminal.backend().to_string()
}

#[test]
fn shows_each_link_the_sum_and_the_gain() {
    let mut scene = scene();
    for step in 0..300 {
        scene.push_history(Bitrate::from_mbps(f64::from(step % 80)));
    }
    let picture = picture(&scene, 100, 24);
    for words in [
        "76.0 Mbit/s",
        "2.00 ×",
        "38.0 Mbit/s  (line)",
        "sum 36.0 Mbit/s",
        "31 ms",
        "0.3 %",
        "cut (suspect)",
        "01:15",
    ] {
        assert!(picture.contains(words), "no {words:?} in\n{picture}");
    }
    assert!(picture.contains("1-3 cut or restore") && picture.contains("link cell cut"), "{picture}");
}

#[test]
fn the_bar_is_as_long_as_the_rate() {
    let picture = picture(&scene(), 120, 24);
    let row = |name: &str| picture.lines().find(|line| line.contains(&format!(" {name} "))).expect("a row");
    let filled = row("line").matches('█').count();
    let empty = row("line").matches('·').count();
    assert!(filled > 7 * empty, "{filled} filled, {empty} empty");
    assert_eq!(row("sat").matches('█').count(), 0);
}

#[test]
fn the_smallest_terminals_are_no_reason_to_panic() {
    for (width, height) in [(1, 1), (10, 3), (20, 5), (60, 9), (300, 100)] {
        picture(&scene(), width, height);
    }
    picture(&Scene::new("x", "speed", Vec::new(), (String::new(), Bitrate::ZERO)), 80, 24);
}

#[test]
fn the_history_is_bounded() {
    let mut scene = scene();
    (0..2_000).for_each(|_| scene.push_history(Bitrate::ZERO));
    assert_eq!(scene.history.len(), HISTORY);
}
