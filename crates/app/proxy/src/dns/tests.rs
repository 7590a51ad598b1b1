//! DNS messages and the answers that are kept.

use std::net::IpAddr;
use std::time::Duration;

use bondwire_units::LinkId;
use proptest::prelude::*;
use tokio::time::Instant;

use super::cache::Cache;
use super::message::{self, A, AAAA, Verdict, ask, judge, walk};

const LINK: Option<LinkId> = Some(LinkId(1));

/// An answer to a query made by `ask`: records as `(type, ttl, data)`, the first `answers` of them answers, the others authority.
fn answer(query: &[u8], answers: usize, records: &[(u16, u32, &[u8])]) -> Vec<u8> {
    let end = query.len() - 11;
    let mut message = query[..end].to_vec();
    message[2] = 0x81;
    message[3] = 0x80;
    message[6..12].copy_from_slice(&[0, answers as u8, 0, (records.len() - answers) as u8, 0, 0]);
    for (kind, ttl, data) in records {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(*data);
    }
    message
}

fn end(query: &[u8]) -> usize {
    query.len() - 11
}

#[test]
fn a_query_is_read_as_it_was_made() {
    let made = ask(7, "Www.Example.com.", AAAA).unwrap();
    let read = message::query(&made).unwrap();
    assert_eq!((read.id, read.name.as_str(), read.question_end), (7, "www.example.com", end(&made)));
    assert_eq!(read.udp_limit, 1232);
    for bad in ["", ".", "a..b", &"a".repeat(64), &"a.".repeat(130)] {
        assert_eq!(ask(0, bad, A), None, "{bad}");
    }
}

#[test]
fn addresses_are_found_behind_aliases() {
    let query = ask(1, "a.b", A).unwrap();
    let made = answer(&query, 2, &[(5, 60, &[0xc0, 12]), (A, 30, &[192, 0, 2, 1])]);
    let walked = walk(&made, end(&query)).unwrap();
    assert_eq!((walked.addresses, walked.ttl), (vec![IpAddr::from([192, 0, 2, 1])], 30));
}

#[test]
fn what_was_not_asked_is_not_answered() {
    let query = ask(1, "a.b", A).unwrap();
    let good = answer(&query, 1, &[(A, 30, &[192, 0, 2, 1])]);
    assert_eq!(judge(&query, end(&query), &good), Verdict::Good);
    let mut cut = good.clone();
    cut[2] |= 2;
    assert_eq!(judge(&query, end(&query), &cut), Verdict::Truncated);
    let mut failed = good.clone();
    failed[3] |= 2;
    assert_eq!(judge(&query, end(&query), &failed), Verdict::Failed);
    let mut missing = good.clone();
    missing[3] |= 3;
    assert_eq!(judge(&query, end(&query), &missing), Verdict::Good);
    assert_eq!(judge(&query, end(&query), &good[..good.len() - 1]), Verdict::Failed);
    for byte in [0, 1, 2, 13] {
        let mut forged = good.clone();
        forged[byte] ^= 0x81;
        assert_eq!(judge(&query, end(&query), &forged), Verdict::Foreign, "{byte}");
    }
}

#[test]
fn answers_age() {
    let mut cache = Cache::new(4);
    let query = ask(0, "a.b", A).unwrap();
    let made = answer(&query, 1, &[(A, 30, &[192, 0, 2, 1])]);
    let then = Instant::now();
    cache.put(LINK, &query, end(&query), &made, then);
    let later = ask(9, "a.b", A).unwrap();
    let got = cache.get(LINK, &later, then + Duration::from_secs(12)).unwrap();
    assert_eq!(got[..2], [0, 9]);
    assert_eq!(walk(&got, end(&query)).unwrap().ttl, 18);
    assert_eq!(cache.get(LINK, &later, then + Duration::from_secs(30)), None);
    assert_eq!(cache.get(Some(LinkId(2)), &later, then), None, "each link has its own answers");
    cache.forget(LinkId(1));
    assert_eq!(cache.get(LINK, &later, then), None);
}

#[test]
fn a_missing_name_is_kept_as_long_as_its_zone_says() {
    let query = ask(0, "a.b", A).unwrap();
    let mut soa = vec![0, 0];
    soa.extend([0; 16]);
    soa.extend(20_u32.to_be_bytes());
    assert_eq!(walk(&answer(&query, 0, &[(6, 900, &soa)]), end(&query)).unwrap().ttl, 20);
    assert_eq!(walk(&answer(&query, 0, &[]), end(&query)).unwrap().ttl, 0);
}

#[test]
fn the_cache_is_bounded() {
    let mut cache = Cache::new(4);
    let now = Instant::now();
    for number in 0..100 {
        let query = ask(0, &format!("n{number}.b"), A).unwrap();
        cache.put(LINK, &query, end(&query), &answer(&query, 1, &[(A, 30, &[192, 0, 2, 1])]), now);
    }
    let kept = (0..100).filter(|number| {
        let query = ask(0, &format!("n{number}.b"), A).unwrap();
        cache.get(LINK, &query, now).is_some()
    });
    assert_eq!(kept.count(), 4);
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_not(bytes in any::<Vec<u8>>(), at in 12_usize..64) {
        let _ = message::query(&bytes);
        let _ = walk(&bytes, at);
    }

    #[test]
    fn a_damaged_answer_does_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
    ) {
        let query = ask(0x0102, "host.example", AAAA).unwrap();
        let mut made = answer(&query, 2, &[(AAAA, 60, &[1; 16]), (5, 60, &[0xc0, 12]), (6, 5, &[0; 24])]);
        for (place, byte) in damage {
            let place = place.index(made.len());
            made[place] = byte;
        }
        made.truncate(length.index(made.len()) + 1);
        let verdict = judge(&query, end(&query), &made);
        let mut cache = Cache::new(1);
        let now = Instant::now();
        if verdict == Verdict::Good {
            cache.put(LINK, &query, end(&query), &made, now);
        }
        if let Some(kept) = cache.get(LINK, &query, now + Duration::from_secs(1)) {
            prop_assert_eq!(kept.len(), made.len());
            prop_assert!(walk(&kept, end(&query)).is_some());
        }
        if let Some(read) = message::query(&made) {
            prop_assert!(message::query(&message::failure(&made, read.question_end)).is_none());
        }
    }
}
