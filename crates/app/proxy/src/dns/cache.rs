//! Answers, kept as long as they say.
//!
//! Per link, because each link's resolver may answer differently: a content network sends each provider's users to its
//! nearest host. The key is the whole query but for its id, so flags and EDNS options keep their meaning. Bounds: a number of
//! answers (the oldest gives way), 4 KiB each, [`LONGEST`] each however long the answer says.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bondwire_units::LinkId;
use tokio::time::Instant;

use crate::dns::message;

/// An answer is not kept longer than this: links change networks.
const LONGEST: Duration = Duration::from_secs(300);
/// Longer answers are not kept.
const MOST_BYTES: usize = 4096;

type Key = (Option<LinkId>, Vec<u8>);

struct Kept {
    answer: Rc<[u8]>,
    ttls: Vec<usize>,
    since: Instant,
    until: Instant,
}

/// The answers of one thread.
pub(crate) struct Cache {
    answers: HashMap<Key, Kept>,
    order: VecDeque<Key>,
    most: usize,
}

impl Cache {
    pub(crate) fn new(most: usize) -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), most }
    }

    /// The answer to this query over this link, with the query's id and with TTLs as old as they are.
    pub(crate) fn get(&self, link: Option<LinkId>, query: &[u8], now: Instant) -> Option<Vec<u8>> {
        let kept = self.answers.get(&(link, query.get(2..)?.to_vec())).filter(|kept| kept.until > now)?;
        let mut answer = kept.answer.to_vec();
        answer[..2].copy_from_slice(&query[..2]);
        let age = u32::try_from((now - kept.since).as_secs()).unwrap_or(u32::MAX);
        for &at in &kept.ttls {
            let field: &mut [u8; 4] = (&mut answer[at..at + 4]).try_into().ok()?;
            *field = u32::from_be_bytes(*field).saturating_sub(age).to_be_bytes();
        }
        Some(answer)
    }

    /// Keeps a good answer, if it allows that.
    pub(crate) fn put(
        &mut self,
        link: Option<LinkId>,
        query: &[u8],
        end: usize,
        answer: &[u8],
        now: Instant,
    ) {
        let Some(walked) = message::walk(answer, end) else { return };
        let cut = message::judge(query, end, answer) != message::Verdict::Good;
        if walked.ttl == 0 || cut || answer.len() > MOST_BYTES || self.most == 0 {
            return;
        }
        let time = Duration::from_secs(u64::from(walked.ttl)).min(LONGEST);
        let key = (link, query[2..].to_vec());
        let kept = Kept { answer: answer.into(), ttls: walked.ttls, since: now, until: now + time };
        if self.answers.insert(key.clone(), kept).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.answers.remove(&oldest);
            }
        }
    }

    /// Forgets what came over this link.
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.order.retain(|key| key.0 != Some(link));
        self.answers.retain(|key, _| key.0 != Some(link));
    }
}
