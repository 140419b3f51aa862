//! Operations that wait for a block, in the order of their arrival.
//!
//! What a block that is not final holds stays here, unseen, until the block is final: if it is abandoned instead, the
//! operation waits again.

use crate::errors::Result;
use crate::keyvalue::item::{Identity, Item, identity_of};
use crate::keyvalue::state::Session;
use crate::payload::encode_body;
use alloy_primitives::Bytes;
use alloy_primitives::map::{HashMap, HashSet};
use std::collections::BTreeMap;

struct Waiting {
    identity: Identity,
    deadline_ms: u64,
    raw: Bytes,
}

pub struct Pool {
    max_items: usize,
    max_bytes: usize,
    places: HashMap<Identity, u64>,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    bytes: usize,
    /// What blocks above the last final one hold, as readers see them.
    shown: HashSet<Identity>,
}

impl Pool {
    pub fn new(max_items: usize, max_bytes: usize) -> Pool {
        let (places, waiting, shown) = Default::default();
        Pool { max_items, max_bytes, places, waiting, next: 0, bytes: 0, shown }
    }

    /// One with the same bounds and nothing in it.
    pub fn emptied(&self) -> Pool {
        Pool::new(self.max_items, self.max_bytes)
    }

    /// Admit items; `session` reads what the state remembers of a client.
    pub fn add(
        &mut self,
        raws: Vec<Bytes>,
        session: &dyn Fn(&[u8; 16]) -> Result<Option<Session>>,
    ) -> Result<Vec<(Identity, Option<String>)>> {
        let mut sessions: HashMap<[u8; 16], Option<Session>> = HashMap::default();
        let mut results = Vec::with_capacity(raws.len());
        for raw in raws {
            let item = match Item::parse(&raw) {
                Ok(item) => item,
                Err(error) => {
                    results.push((identity_of(&raw), Some(error.to_string())));
                    continue;
                }
            };
            let identity = item.identity();
            let known = match sessions.get(&item.client) {
                Some(known) => known,
                None => {
                    let found = session(&item.client)?;
                    sessions.entry(item.client).or_insert(found)
                }
            };
            let refusal = known.as_ref().and_then(|known| known.refuse(item.sequence, item.acknowledged));
            let refusal = match refusal {
                Some(reason) => Some(reason.to_owned()),
                None => self.admit(identity, item.deadline_ms, raw),
            };
            results.push((identity, refusal));
        }
        Ok(results)
    }

    fn admit(&mut self, identity: Identity, deadline_ms: u64, raw: Bytes) -> Option<String> {
        if self.places.contains_key(&identity) {
            return Some("already known".to_owned());
        }
        if self.waiting.len() >= self.max_items || self.bytes + raw.len() > self.max_bytes {
            return Some("txpool is full".to_owned());
        }
        self.places.insert(identity, self.next);
        self.bytes += raw.len();
        self.waiting.insert(self.next, Waiting { identity, deadline_ms, raw });
        self.next += 1;
        None
    }

    pub fn remove<'a>(&mut self, identities: impl Iterator<Item = &'a Identity>) {
        for identity in identities {
            if let Some(place) = self.places.remove(identity)
                && let Some(gone) = self.waiting.remove(&place)
            {
                self.bytes -= gone.raw.len();
            }
            self.shown.remove(identity);
        }
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
        self.waiting.values().filter(|waiting| !self.shown.contains(&waiting.identity))
    }

    pub fn is_ready(&self) -> bool {
        self.unseen().next().is_some()
    }

    /// How many wait, and their bytes.
    pub fn counts(&self) -> (usize, usize) {
        let shown = self.shown.iter().filter(|identity| self.places.contains_key(*identity)).count();
        (self.waiting.len() - shown, self.bytes)
    }

    pub fn list(&self, limit: usize) -> Vec<Bytes> {
        self.unseen().take(limit).map(|waiting| waiting.raw.clone()).collect()
    }

    /// The body of a payload whose parent holds `included`; what is too late for any block is dropped.
    pub fn take(&mut self, included: &HashSet<Identity>, max_bytes: usize, now_ms: u64) -> Vec<u8> {
        let late: Vec<Identity> = self
            .waiting
            .values()
            .filter(|waiting| waiting.deadline_ms < now_ms)
            .map(|waiting| waiting.identity)
            .collect();
        self.remove(late.iter());
        let mut taken: Vec<&[u8]> = Vec::new();
        let mut left = max_bytes.saturating_sub(9);
        for waiting in self.waiting.values().filter(|waiting| !included.contains(&waiting.identity)) {
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
