//! Operations that wait for a block, in the order of their arrival.
//!
//! What a block that is not final holds stays here, unseen, until the block is final: if it is abandoned instead, the
//! operation waits again.

use crate::errors::Result;
use crate::keyvalue::item::{Head, Identity, identity_of};
use crate::payload::encode_body;
use alloy_primitives::Bytes;
use alloy_primitives::map::Entry::{Occupied, Vacant};
use alloy_primitives::map::{HashMap, HashSet};
use std::collections::VecDeque;

/// Gaps that the order of arrival may have beside what waits.
const MAX_GAPS: usize = 1 << 10;

struct Waiting {
    identity: Identity,
    deadline_ms: u64,
    raw: Bytes,
}

pub struct Pool {
    max_items: usize,
    max_bytes: usize,
    /// Numbers in the order of arrival.
    places: HashMap<Identity, u64>,
    /// From number `first` on; None where nothing waits any more.
    waiting: VecDeque<Option<Waiting>>,
    first: u64,
    bytes: usize,
    /// What blocks above the last final one hold, as readers see them.
    shown: HashSet<Identity>,
}

impl Pool {
    pub fn new(max_items: usize, max_bytes: usize) -> Pool {
        let (places, waiting, shown) = Default::default();
        Pool { max_items, max_bytes, places, waiting, first: 0, bytes: 0, shown }
    }

    /// One with the same bounds and nothing in it.
    pub fn emptied(&self) -> Pool {
        Pool::new(self.max_items, self.max_bytes)
    }

    /// Admit items; `refuse` asks the state why an operation would not be executed.
    pub fn add(
        &mut self,
        raws: Vec<Bytes>,
        refuse: &mut dyn FnMut(&Head) -> Result<Option<&'static str>>,
    ) -> Result<Vec<(Identity, Option<String>)>> {
        let mut results = Vec::with_capacity(raws.len());
        for raw in raws {
            let head = match Head::parse(&raw) {
                Ok(head) => head,
                Err(error) => {
                    results.push((identity_of(&raw), Some(error.to_string())));
                    continue;
                }
            };
            let identity = identity_of(&raw);
            let refusal = match refuse(&head)? {
                Some(reason) => Some(reason.to_owned()),
                None => self.admit(identity, head.deadline_ms, raw),
            };
            results.push((identity, refusal));
        }
        Ok(results)
    }

    fn admit(&mut self, identity: Identity, deadline_ms: u64, raw: Bytes) -> Option<String> {
        let is_full = self.places.len() >= self.max_items || self.bytes + raw.len() > self.max_bytes;
        match self.places.entry(identity) {
            Occupied(_) => return Some("already known".to_owned()),
            Vacant(_) if is_full => return Some("txpool is full".to_owned()),
            Vacant(vacant) => vacant.insert(self.first + self.waiting.len() as u64),
        };
        self.bytes += raw.len();
        self.waiting.push_back(Some(Waiting { identity, deadline_ms, raw }));
        None
    }

    fn at(&mut self, place: u64) -> Option<&mut Option<Waiting>> {
        self.waiting.get_mut((place - self.first) as usize)
    }

    /// Leave out gaps: those at the front, and all of them where there are many.
    fn close_gaps(&mut self) {
        while matches!(self.waiting.front(), Some(None)) {
            self.waiting.pop_front();
            self.first += 1;
        }
        if self.waiting.len() > 2 * self.places.len() + MAX_GAPS {
            self.waiting.retain(Option::is_some);
            for (place, waiting) in self.waiting.iter().flatten().enumerate() {
                self.places.insert(waiting.identity, self.first + place as u64);
            }
        }
    }

    pub fn remove<'a>(&mut self, identities: impl Iterator<Item = &'a Identity>) {
        for identity in identities {
            if let Some(place) = self.places.remove(identity)
                && let Some(gone) = self.at(place).and_then(Option::take)
            {
                self.bytes -= gone.raw.len();
            }
            if !self.shown.is_empty() {
                self.shown.remove(identity);
            }
        }
        self.close_gaps();
    }

    /// Follow what readers see; what waits again.
    pub fn settle(&mut self, shown: HashSet<Identity>) -> Vec<Identity> {
        let before = std::mem::replace(&mut self.shown, shown);
        let mut returned: Vec<(u64, Identity)> = before
            .into_iter()
            .filter(|identity| !self.shown.contains(identity))
            .filter_map(|identity| self.places.get(&identity).map(|place| (*place, identity)))
            .collect();
        returned.sort_unstable();
        returned.into_iter().map(|(_, identity)| identity).collect()
    }

    fn unseen(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().flatten().filter(|waiting| !self.shown.contains(&waiting.identity))
    }

    pub fn is_ready(&self) -> bool {
        self.unseen().next().is_some()
    }

    /// How many wait, and their bytes.
    pub fn counts(&self) -> (usize, usize) {
        let shown = self.shown.iter().filter(|identity| self.places.contains_key(*identity)).count();
        (self.places.len() - shown, self.bytes)
    }

    pub fn list(&self, limit: usize) -> Vec<Bytes> {
        self.unseen().take(limit).map(|waiting| waiting.raw.clone()).collect()
    }

    /// Drop what is too late for any block from this time on.
    pub fn forget_late(&mut self, now_ms: u64) {
        let waiting = self.waiting.iter().flatten();
        let late: Vec<Identity> =
            waiting.filter(|waiting| waiting.deadline_ms < now_ms).map(|waiting| waiting.identity).collect();
        self.remove(late.iter());
    }

    /// The body of a payload whose parent holds `included`; what is too late for any block is dropped.
    pub fn take(&mut self, included: &HashSet<Identity>, max_bytes: usize, now_ms: u64) -> Vec<u8> {
        self.forget_late(now_ms);
        let mut taken: Vec<&[u8]> = Vec::new();
        let mut left = max_bytes.saturating_sub(9);
        for waiting in self.waiting.iter().flatten().filter(|waiting| !included.contains(&waiting.identity)) {
            let size = waiting.raw.len() + 5;
            if size > left {
                break;
            }
            left -= size;
            taken.push(&waiting.raw);
        }
        encode_body(taken.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(number: u64) -> Bytes {
        let mut raw = vec![5; 17];
        raw.extend_from_slice(&number.to_be_bytes());
        raw.extend_from_slice(&[0; 8]);
        raw.extend_from_slice(&(1000 + number % 7).to_be_bytes());
        raw.into()
    }

    fn add(pool: &mut Pool, numbers: impl Iterator<Item = u64>) -> Vec<Option<String>> {
        let results = pool.add(numbers.map(operation).collect(), &mut |_| Ok(None)).unwrap();
        results.into_iter().map(|(_, reason)| reason).collect()
    }

    fn remove(pool: &mut Pool, numbers: impl Iterator<Item = u64>) {
        let gone: Vec<Identity> = numbers.map(|number| identity_of(&operation(number))).collect();
        pool.remove(gone.iter());
    }

    fn body(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
        let raws: Vec<Bytes> = numbers.map(operation).collect();
        encode_body(raws.iter().map(|raw| &raw[..]))
    }

    #[test]
    fn the_order_of_arrival_stays_whatever_goes_and_takes_no_room() {
        let mut pool = Pool::new(5000, 1 << 20);
        let nothing = HashSet::default();
        assert!(add(&mut pool, 1..=20).iter().all(Option::is_none));
        remove(&mut pool, [3, 1, 20, 99].into_iter());
        let left = || (2..20).filter(|number| *number != 3);
        assert_eq!(pool.take(&nothing, 1 << 20, 0), body(left()));
        assert_eq!(pool.counts(), (17, 17 * 41));
        assert_eq!(add(&mut pool, [2, 1].into_iter()), [Some("already known".to_owned()), None]);
        // The first stays while thousands come and go behind it.
        for round in 1..=40u64 {
            let numbers = || 100 * round..100 * round + 100;
            assert!(add(&mut pool, numbers()).iter().all(Option::is_none));
            remove(&mut pool, numbers());
        }
        assert!(pool.waiting.len() <= 2 * 18 + MAX_GAPS + 100);
        assert_eq!(pool.take(&nothing, 1 << 20, 0), body(left().chain([1])));
        remove(&mut pool, left());
        assert_eq!(pool.take(&nothing, 1 << 20, 0), body([1].into_iter()));
        remove(&mut pool, [1].into_iter());
        assert_eq!((pool.waiting.len(), pool.counts(), pool.is_ready()), (0, (0, 0), false));
    }

    #[test]
    fn what_is_too_late_or_does_not_fit_is_not_taken() {
        let mut pool = Pool::new(3, 1 << 20);
        assert_eq!(add(&mut pool, 7..=10)[3].as_deref(), Some("txpool is full"));
        // Deadlines of 1000, 1001 and 1002.
        let two = pool.take(&HashSet::default(), 2 * 46 + 9, 1001);
        assert_eq!(two, body(8..=9));
        assert_eq!(pool.counts().0, 2);
        pool.forget_late(1001);
        assert_eq!(pool.counts().0, 2);
        let included = HashSet::from_iter([identity_of(&operation(8))]);
        assert_eq!(pool.take(&included, 1 << 20, 0), body(9..=9));
        pool.forget_late(1002);
        assert_eq!(pool.list(9), [operation(9)]);
        let malformed = pool.add(vec![Bytes::from_static(&[1; 40])], &mut |_| Ok(None)).unwrap();
        assert_eq!(malformed[0].0, [1; 24]);
        assert!(malformed[0].1.as_ref().is_some_and(|reason| reason.contains("40 bytes")));
    }
}
