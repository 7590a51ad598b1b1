use super::super::{SessionSetup, lane::Challenge};
use super::*;
use crate::types::Route;
use bondwire_crypto::{
    Cipher, ClientHandshake, Psk, Role as KeyRole, SecretKey, ServerHandshake, SessionKeys,
};
use bondwire_path::PathState;
use bondwire_units::{PathId, SessionId};
use bondwire_wire::Mode;

const NOW: Timestamp = Timestamp::from_millis(1);

/// One end of a session, with a path of each of these priorities, all alive.
fn session(role: Role, priorities: &[LinkPriority]) -> Session {
    let (server, psk, ours) = (SecretKey::from_bytes([1; 32]), Psk::from_bytes([5; 32]), SessionId(7));
    let client = SecretKey::from_bytes([2; 32]);
    let start = ClientHandshake::start(&client, server.public(), &psk, ours, b"", [3; 32]).expect("keys");
    let initiation = ServerHandshake::new(server, [4; 32], NOW).open(start.datagram()).expect("opens");
    let (_, secret) = initiation.accept(&psk, SessionId(8), b"", [6; 32]).expect("accepted");
    let key_role = if role == Role::Client { KeyRole::Client } else { KeyRole::Server };
    let setup = SessionSetup {
        role,
        ours,
        theirs: SessionId(8),
        keys: SessionKeys::new(key_role, secret, Cipher::Aes256Gcm, NOW),
        mode: Mode::Speed,
        max_redundant: 5,
        memory: ByteCount::new(1 << 20),
        rules: crate::realtime::Rules::default(),
        seed: [9; 32],
    };
    let mut session = Session::new(setup, NOW);
    for (number, priority) in priorities.iter().enumerate() {
        let remote = "192.0.2.1:443".parse().expect("an address");
        let route = Route { link: LinkId(number as u32), local: None, remote };
        let challenge = Challenge::new([0; 8], NOW);
        let mut lane = Lane::new(PathId(number as u8), route, 1_500, challenge, role == Role::Server, NOW);
        lane.on_validated(NOW);
        lane.state = PathState::Active;
        lane.rules.priority = *priority;
        session.lanes.push(lane);
    }
    session.assign_tiers(NOW);
    session
}

fn tiers(session: &Session) -> Vec<Tier> {
    session.lanes.iter().map(|lane| lane.tier).collect()
}

fn wanted(session: &Session) -> Vec<u8> {
    session.lanes.iter().filter(|lane| lane.is_wanted()).map(|lane| lane.id.0).collect()
}

fn policy(path: u8, sequence: u64, priority: LinkPriority) -> LinkPolicy {
    LinkPolicy { path: PathId(path), sequence, priority, ceiling: None }
}

#[test]
fn the_best_that_is_alive_comes_first() {
    use LinkPriority::{Always, Backup, Secondary};
    use Tier::{First, Standby};
    let mut session = session(Role::Client, &[Always, Secondary, Backup, Always]);
    assert_eq!(tiers(&session), [First, Standby, Standby, First]);
    session.lanes[0].state = PathState::Suspect;
    session.assign_tiers(NOW);
    assert_eq!(tiers(&session), [First, Standby, Standby, First], "one is enough");
    session.lanes[3].demotion.active = true;
    session.assign_tiers(NOW);
    assert_eq!(tiers(&session)[1..3], [First, Standby], "a secondary is better than a path that poisons");
    session.lanes[1].state = PathState::Down;
    session.assign_tiers(NOW);
    assert_eq!(tiers(&session)[2..], [Standby, First], "a backup is not, while anything else lives");
    session.lanes[3].state = PathState::Suspect;
    session.assign_tiers(NOW);
    assert_eq!(tiers(&session)[2], First);
    assert!(wanted(&session) == [2]);
    assert!(!session.lanes[2].takes_copies() && session.lanes[0].takes_copies());
    session.lanes[1].state = PathState::Active;
    session.assign_tiers(NOW);
    assert_eq!(tiers(&session)[1..3], [First, Standby]);
    assert!(wanted(&session) == [1]);
}

#[test]
fn without_better_ones_all_are_first() {
    for priority in LinkPriority::ALL {
        assert_eq!(tiers(&session(Role::Server, &[priority; 3])), [Tier::First; 3]);
    }
}

/// docs/protocol.md, PATH-8.
#[test]
fn a_stale_policy_or_one_from_a_server_is_ignored() {
    use LinkPriority::{Always, Backup, Secondary};
    let mut server = session(Role::Server, &[Always, Always]);
    server.handle_link_policy(policy(1, 5, Backup), NOW);
    assert_eq!(tiers(&server), [Tier::First, Tier::Standby]);
    for stale in [0, 4, 5] {
        server.handle_link_policy(policy(1, stale, Secondary), NOW);
        assert_eq!(server.lanes[1].rules.priority, Backup, "{stale}");
    }
    server.handle_link_policy(policy(9, 6, Secondary), NOW);
    assert_eq!(server.lanes.len(), 2, "a path that does not exist");
    server.handle_link_policy(policy(1, 7, Always), NOW);
    assert_eq!(tiers(&server), [Tier::First; 2]);
    assert!(server.control.is_empty(), "a server answers nothing");

    let mut client = session(Role::Client, &[Always, Always]);
    client.handle_link_policy(policy(1, 5, Backup), NOW);
    assert_eq!(tiers(&client), [Tier::First; 2]);
}

#[test]
fn a_ceiling_from_the_client_bounds_the_server_however_small() {
    let mut server = session(Role::Server, &[LinkPriority::Always]);
    for bps in [1, 1_000, 5_000_000, u64::MAX] {
        let ceiling = Some(Bitrate::from_bps(bps));
        let sequence = server.lanes[0].policy_sequence + 1;
        server.handle_link_policy(LinkPolicy { ceiling, ..policy(0, sequence, LinkPriority::Always) }, NOW);
        let pace = server.lanes[0].path.pacing_rate();
        assert!(pace > Bitrate::ZERO && pace <= Bitrate::from_bps(bps.max(50_000)), "{bps}: {pace}");
    }
}

#[test]
fn what_the_user_wants_is_told_once_and_a_newer_wish_replaces_it() {
    let mut client = session(Role::Client, &[LinkPriority::Always; 2]);
    let rules = |priority| LinkRules { priority, ..LinkRules::default() };
    client.set_link_rules(LinkId(1), rules(LinkPriority::Always), NOW);
    assert!(client.control.is_empty(), "nothing new");
    client.set_link_rules(LinkId(1), rules(LinkPriority::Backup), NOW);
    client.set_link_rules(LinkId(1), rules(LinkPriority::Secondary), NOW);
    let told: Vec<_> = client.control.drain(..).collect();
    let [Control::Policy(first), Control::Policy(second)] = told[..] else { panic!("{told:?}") };
    assert!(first.sequence < second.sequence && second.priority == LinkPriority::Secondary);
    client.control_again(Control::Policy(first));
    assert!(client.control.is_empty(), "overtaken");
    client.control_again(Control::Policy(second));
    assert_eq!(client.control.len(), 1);
}
