//! Transitions, one by one.

use super::*;

const IDLE: Activity =
    Activity { busy: false, idle_interval: Duration::from_millis(1500), introducing: false };

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn state(change: Option<Change>) -> Option<LinkState> {
    change.map(|change| change.to)
}

/// Three silent probes at `ms`.
fn kill(health: &mut Health, ms: u64) {
    assert_eq!(health.on_silence(at(ms), at(ms)), None);
    assert_eq!(state(health.on_silence(at(ms), at(ms))), Some(LinkState::Failing));
    assert_eq!(state(health.on_silence(at(ms), at(ms))), Some(LinkState::Failed));
}

#[test]
fn a_false_alarm_goes_unseen_and_is_not_repeated_at_once() {
    let mut health = Health::new(at(0));
    health.on_probe_sent(at(0));
    assert_eq!(health.on_suspicion(Evidence::ConnectUnanswered, true, at(100)), None);
    assert_eq!(health.probe_at(IDLE), at(100), "asked at once");
    health.on_probe_sent(at(100));
    assert_eq!(health.probe_at(IDLE), at(140));
    assert_eq!(health.on_answer(Evidence::ProbeAnswered, at(100), at(120)), None);
    assert_eq!(health.on_suspicion(Evidence::ConnectUnanswered, true, at(200)), None);
    assert!(health.probe_at(IDLE) > at(1_000), "muted");
}

#[test]
fn three_silent_probes_condemn_and_one_answer_saves() {
    let mut health = Health::new(at(0));
    health.on_suspicion(Evidence::SendsOnly, true, at(100));
    assert_eq!(health.on_silence(at(100), at(300)), None);
    assert_eq!(state(health.on_silence(at(140), at(340))), Some(LinkState::Failing));
    assert_eq!(state(health.on_answer(Evidence::ProbeAnswered, at(180), at(350))), Some(LinkState::Stable));
    assert_eq!(health.on_silence(at(190), at(400)), None, "heard since");
    kill(&mut health, 2_000);
    assert_eq!(health.failures(), 1);
}

#[test]
fn returns_after_its_hold_down_which_grows_with_falls() {
    let mut health = Health::new(at(0));
    let (mut now, mut holds) = (0, Vec::new());
    for _ in 0..12 {
        now += 1_000;
        kill(&mut health, now);
        let back = now;
        assert_eq!(
            state(health.on_answer(Evidence::ProbeAnswered, at(now), at(now))),
            Some(LinkState::Returning)
        );
        while health.state() != LinkState::Stable {
            now += 100;
            health.on_answer(Evidence::ProbeAnswered, at(now), at(now));
        }
        holds.push((now - back) / 1_000);
    }
    assert_eq!(holds[..6], [1, 1, 2, 4, 8, 16]);
    assert!(holds[11] == 60, "{holds:?}");
    now += 200_000;
    kill(&mut health, now);
    assert_eq!(health.hold(), HOLD, "forgiven");
}

#[test]
fn what_nothing_can_probe_is_judged_by_sockets_and_tried_again() {
    let mut health = Health::new(at(0));
    let mut changes = Vec::new();
    for ms in (1_000..=1_900).step_by(100) {
        changes.extend(state(health.on_suspicion(Evidence::ConnectUnanswered, false, at(ms))));
        changes.extend(state(health.on_timeout(false, at(ms))));
    }
    assert_eq!(changes, [LinkState::Failing, LinkState::Failed]);
    let retry = health.timeout(false).unwrap();
    assert_eq!(state(health.on_timeout(false, retry)), Some(LinkState::Stable));
}

#[test]
fn a_busy_link_is_asked_often_a_quiet_one_in_time() {
    let mut health = Health::new(at(0));
    assert_eq!(health.probe_at(IDLE), Timestamp::ZERO);
    health.on_probe_sent(at(0));
    assert_eq!(health.probe_at(IDLE), at(1_500));
    health.on_traffic(at(1_000));
    assert_eq!(health.probe_at(IDLE), at(2_500));
    health.on_traffic(at(4_000));
    assert_eq!(health.probe_at(IDLE), at(5_000));
    assert_eq!(health.probe_at(Activity { busy: true, ..IDLE }), at(500));
}
