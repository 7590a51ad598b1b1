//! Packets across a change of keys: in order, out of order, lost, forged.

use proptest::prelude::*;

use super::*;

/// Gives both sides the keys of the next epoch; nothing has been sent with them yet.
fn exchange(client: &mut SessionKeys, server: &mut SessionKeys, now: Timestamp) {
    let request = client.start_rekey([8; 32], now);
    let response = server.handle_rekey_request(request.epoch, request.public, [9; 32], now).unwrap();
    client.handle_rekey_response(response.epoch, response.public, now).unwrap();
}

/// docs/protocol.md, KEY-3, KEY-4.
#[test]
fn keys_change_without_a_gap() {
    for cipher in CIPHERS {
        let (mut client, mut server) = pair(cipher);
        let (old_up, old_down) = (seal(&mut client, 0), seal(&mut server, 0));
        exchange(&mut client, &mut server, at(1));
        assert_eq!((client.phase(), server.phase()), (1, 0), "the client goes first");
        let new_up = seal(&mut client, 1);
        let still_old_down = seal(&mut server, 1);
        assert_eq!((new_up.phase, still_old_down.phase), (1, 0));

        assert!(open(&mut server, &new_up, at(2)).is_ok());
        assert_eq!(server.phase(), 1, "the server follows when a packet opened");
        assert!(open(&mut server, &old_up, at(2)).is_ok());
        assert_eq!(server.phase(), 1, "and does not go back");

        let new_down = seal(&mut server, 2);
        assert_eq!(new_down.phase, 1);
        assert!(open(&mut client, &new_down, at(2)).is_ok());
        assert!(open(&mut client, &still_old_down, at(2)).is_ok());
        assert!(open(&mut client, &old_down, at(2)).is_ok());
    }
}

/// docs/protocol.md, KEY-4.
#[test]
fn old_keys_die_after_their_time() {
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    server.set_old_key_life(millis(2_500));
    let late: Vec<_> = (0..3).map(|number| seal(&mut client, number)).collect();
    exchange(&mut client, &mut server, at(1));
    assert!(open(&mut server, &late[0], at(60)).is_ok(), "their time begins with the first new packet");
    let new = seal(&mut client, 3);
    open(&mut server, &new, at(60)).unwrap();
    let end = at(60) + millis(2_500);
    let deadline = server.poll_deadline().unwrap();
    assert_eq!((deadline.at, deadline.why), (end, "old keys"));
    assert!(open(&mut server, &late[1], end.saturating_sub(millis(1))).is_ok());
    assert_eq!(
        open(&mut server, &late[2], end),
        Err(OpenError::NoKey),
        "even if nobody called at the deadline"
    );
    server.handle_timeout(end);
    assert_eq!(server.poll_deadline(), None);
    assert!(server.open[0].is_none());
    assert!(open(&mut server, &seal(&mut client, 4), end).is_ok());
}

/// docs/protocol.md, KEY-4: at least 1 s, at most 10 s.
#[test]
fn the_life_of_old_keys_is_held_in_bounds() {
    for (wanted, real) in [(0, 1_000), (999, 1_000), (3_000, 3_000), (60_000, 10_000)] {
        let (mut client, mut server) = pair(Cipher::Aes256Gcm);
        server.set_old_key_life(millis(wanted));
        exchange(&mut client, &mut server, at(1));
        open(&mut server, &seal(&mut client, 0), at(2)).unwrap();
        assert_eq!(server.poll_deadline().unwrap().at, at(2) + millis(real));
    }
}

#[test]
fn a_forged_packet_of_another_phase_changes_nothing() {
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    let old = seal(&mut client, 0);
    exchange(&mut client, &mut server, at(1));
    for phase in 0..4 {
        let forged = Packet { phase, sealed: vec![7; 40], ..old.clone() };
        assert!(open(&mut server, &forged, at(2)).is_err());
        let relabelled = Packet { phase, ..old.clone() };
        assert_eq!(open(&mut server, &relabelled, at(2)).is_ok(), phase == 0);
    }
    assert_eq!(server.phase(), 0);
    assert_eq!(server.confirmed, 0);
    assert_eq!(server.poll_deadline(), None);
    assert!(open(&mut server, &old, at(100)).is_ok());
}

#[test]
fn phases_turn_round() {
    let (mut client, mut server) = pair(Cipher::ChaCha20Poly1305);
    let mut first = None;
    for epoch in 1..=9_u64 {
        let now = at(20 * epoch);
        exchange(&mut client, &mut server, now);
        let up = seal(&mut client, epoch);
        assert_eq!(u64::from(up.phase), epoch % 4);
        open(&mut server, &up, now).unwrap();
        let down = seal(&mut server, epoch);
        assert_eq!(u64::from(down.phase), epoch % 4);
        open(&mut client, &down, now).unwrap();
        let kept = first.get_or_insert_with(|| up.clone());
        if epoch == 5 {
            assert_eq!(open(&mut server, kept, now), Err(OpenError::Forged), "the same phase, other keys");
        }
    }
    assert_eq!((client.epoch(), server.epoch()), (9, 9));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    ClientSends,
    ServerSends,
    Deliver(usize),
    Lose(usize),
    Wait(u64),
    Rekey,
}

#[derive(Clone, Debug)]
enum Frame {
    Request(RekeyRequest),
    Response(RekeyResponse),
}

struct Flight {
    to: Role,
    packet: Packet,
    frame: Option<Frame>,
    sent: Timestamp,
}

/// Two ends and the packets between them. Packets are at most 900 ms on their way, old keys live 1 s.
struct World {
    client: SessionKeys,
    server: SessionKeys,
    flights: Vec<Flight>,
    response: Option<RekeyResponse>,
    number: u64,
    rekeyed: Timestamp,
    now: Timestamp,
}

impl World {
    fn new(cipher: Cipher) -> Self {
        let (mut client, mut server) = pair(cipher);
        client.set_old_key_life(millis(0));
        server.set_old_key_life(millis(0));
        let (rekeyed, now) = (at(0), at(0));
        Self { client, server, flights: Vec::new(), response: None, number: 0, rekeyed, now }
    }

    fn send(&mut self, to: Role) {
        let (keys, frame) = match to {
            Role::Server => {
                let ask = self.client.rekey_pending();
                let ephemeral = [self.client.epoch() as u8; 32];
                let frame = ask.then(|| Frame::Request(self.client.start_rekey(ephemeral, self.now)));
                (&mut self.client, frame)
            }
            Role::Client => (&mut self.server, self.response.map(Frame::Response)),
        };
        let newest_confirmed = keys.confirmed;
        assert!(keys.epoch() >= newest_confirmed, "sealed with an older key than the newest confirmed");
        let packet = seal(keys, self.number);
        self.number += 1;
        self.flights.push(Flight { to, packet, frame, sent: self.now });
    }

    fn deliver(&mut self, index: usize) {
        if self.flights.is_empty() {
            return;
        }
        let flight = self.flights.swap_remove(index % self.flights.len());
        let keys = match flight.to {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        };
        assert_eq!(open(keys, &flight.packet, self.now), Ok(b"plaintext".to_vec()), "{:?}", flight.packet);
        match flight.frame {
            Some(Frame::Request(request)) => {
                let ephemeral = [0x80 | request.epoch as u8; 32];
                match self.server.handle_rekey_request(request.epoch, request.public, ephemeral, self.now) {
                    Ok(response) => self.response = Some(response),
                    Err(error) => assert!(!error.is_fatal(), "{error}"),
                }
            }
            Some(Frame::Response(response)) => {
                self.client.handle_rekey_response(response.epoch, response.public, self.now).unwrap();
            }
            None => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::ClientSends => self.send(Role::Server),
            Step::ServerSends => self.send(Role::Client),
            Step::Deliver(index) => self.deliver(index),
            Step::Lose(index) if !self.flights.is_empty() => {
                self.flights.swap_remove(index % self.flights.len());
            }
            Step::Lose(_) => {}
            Step::Wait(by) => {
                self.now += millis(by);
                let now = self.now;
                self.flights.retain(|flight| now.since(flight.sent) <= millis(900));
                self.client.handle_timeout(now);
                self.server.handle_timeout(now);
            }
            Step::Rekey if self.now.since(self.rekeyed) >= millis(500) => {
                self.rekeyed = self.now;
                self.client.start_rekey([self.client.epoch() as u8; 32], self.now);
            }
            Step::Rekey => {}
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::ClientSends),
        4 => Just(Step::ServerSends),
        6 => any::<usize>().prop_map(Step::Deliver),
        2 => any::<usize>().prop_map(Step::Lose),
        3 => (1_u64..300).prop_map(Step::Wait),
        1 => Just(Step::Rekey),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost, late or out of order: what arrives in time opens, and in the end both sides agree.
    #[test]
    fn no_packet_is_lost_to_a_change_of_keys(steps in steps(), gcm in any::<bool>()) {
        let mut world = World::new(CIPHERS[usize::from(gcm)]);
        for step in steps {
            world.step(step);
        }
        for _ in 0..4 {
            for step in [Step::ClientSends, Step::Deliver(0), Step::ServerSends, Step::Deliver(0)] {
                world.step(step);
                while !world.flights.is_empty() {
                    world.deliver(0);
                }
            }
        }
        prop_assert!(!world.client.rekey_pending());
        prop_assert_eq!(world.client.epoch(), world.server.epoch());
        prop_assert_eq!(world.client.secret.bytes(), world.server.secret.bytes());
        prop_assert!(!world.client.worn_out() && !world.server.worn_out());
    }
}
