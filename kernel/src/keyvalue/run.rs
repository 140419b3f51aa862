//! The execution of one block: every operation once, in order, over the state after its parent.
//!
//! The built-in operations are carried out here; a call is handed to the application's own code, which reads and changes
//! entries through the run and then answers or refuses it.

use crate::errors::Result;
use crate::keyvalue::item::{Action, Client, Condition, Identity, Item, identity_of};
use crate::keyvalue::live::LiveTrie;
use crate::keyvalue::state::{
    Answer, CONFLICT, Census, DONE, Entry, Hashed, Listing, MAX_DETAIL_BYTES, MISSING, Numbers, REFUSED, Session,
    place_of, places_of,
};
use crate::payload::Payload;
use crate::state::Root;
use crate::trie::{Layer, NodeSource};
use crate::trie_node::NodeWriter;
use alloy_primitives::map::{
    B256HashMap,
    Entry::{Occupied, Vacant},
    HashMap,
};
use alloy_primitives::{B256, Bytes};

/// Why an operation is not executed, or not even admitted.
pub const LATE: &str = "its deadline has passed";
/// How far ahead of its block's time an operation's deadline may lie.
pub const HORIZON_MS: u64 = 610_000;
/// A client that is heard again is listed anew after this long.
const RELIST_MS: u64 = 60_000;
/// A client that was listed before this long, and not since, sends nothing that could still be valid.
const LIFETIME_MS: u64 = RELIST_MS + 2 * HORIZON_MS;
/// Of the whole network.
const MAX_CLIENTS: u64 = 1 << 20;
/// Lists of expired clients that one block removes.
const MAX_EXPIRED_LISTS: usize = 4;
/// Trie nodes that are kept in memory from block to block, each about 200 bytes. More than these are forgotten, all at once.
const MAX_LIVE_NODES: usize = 1 << 20;
/// The same of clients.
const MAX_LIVE_CLIENTS: usize = 1 << 16;

/// A change that watchers are told of; `entry` None: the key was deleted.
#[derive(Debug, Clone)]
pub struct Event {
    pub key: Bytes,
    pub revision: u64,
    pub entry: Option<Entry>,
}

/// What execution makes of a block.
pub struct Outcome {
    pub root: Root,
    pub layer: Layer,
    pub revision: u64,
    pub timestamp_ms: u64,
    pub answers: Vec<(Identity, Answer)>,
    pub skipped: Vec<(Identity, &'static str)>,
    pub events: Vec<Event>,
    pub live: Live,
}

/// An entry, as it was read or changed.
#[derive(Clone, Default)]
struct Slot {
    numbers: Option<Numbers>,
    /// The leaf that it had before the block, if the way there is marked.
    leaf: Option<u32>,
    /// None where it was not read; nobody asks for what is overwritten.
    value: Option<Bytes>,
    changed: bool,
}

impl Slot {
    fn set(&mut self, entry: Option<&Entry>) -> Slot {
        let (numbers, value) = (entry.map(Entry::numbers), entry.map(|entry| entry.value.clone()));
        std::mem::replace(self, Slot { numbers, leaf: self.leaf, value, changed: true })
    }
}

struct Known {
    session: Session,
    is_new: bool,
    changed: bool,
}

/// A state that is executed over, as far as it was looked at.
#[derive(Default)]
pub struct Live {
    pub trie: LiveTrie,
    /// Clients that were heard lately.
    pub clients: HashMap<Client, Session>,
}

impl Live {
    pub fn new(root: Root) -> Live {
        Live { trie: LiveTrie::new(root), clients: HashMap::default() }
    }

    /// Whether it is too large to be kept.
    pub fn is_full(&self) -> bool {
        self.trie.count() > MAX_LIVE_NODES || self.clients.len() > MAX_LIVE_CLIENTS
    }
}

/// An operation of the block, with the place of the key that it concerns.
struct Task {
    raw: Bytes,
    item: Option<Item>,
    place: Option<B256>,
}

/// A call that is being carried out by the application's own code.
struct Call {
    identity: Identity,
    sequence: u64,
    client: Client,
    /// Entries as they were, to take its changes back.
    before: Vec<(B256, Slot)>,
    events: usize,
    revision: u64,
}

pub struct Run {
    live: Live,
    source: NodeSource,
    root: Root,
    pub height: u64,
    pub timestamp_ms: u64,
    revision: u64,
    /// Whether clients may change entries without the application's own code.
    direct: bool,
    tasks: std::vec::IntoIter<Task>,
    /// By place in the trie.
    entries: B256HashMap<Slot>,
    clients: HashMap<Client, Known>,
    census: Option<(Census, Census)>,
    call: Option<Call>,
    answers: Vec<(Identity, Answer)>,
    skipped: Vec<(Identity, &'static str)>,
    events: Vec<Event>,
}

impl Run {
    /// `revision` and `timestamp_ms` are those of the parent, whose state has `root`.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        live: Live,
        source: NodeSource,
        root: Root,
        height: u64,
        timestamp_ms: u64,
        revision: u64,
        payloads: Vec<Payload>,
        direct: bool,
    ) -> Run {
        let time = payloads.iter().map(|payload| payload.timestamp_ms).fold(timestamp_ms + 1, u64::max);
        let items: Vec<Bytes> = payloads.into_iter().flat_map(|payload| payload.transactions).collect();
        let (answers, skipped, events) = (Vec::with_capacity(items.len()), Vec::new(), Vec::with_capacity(items.len()));
        let tasks = make_tasks(items);
        let places: Vec<B256> = tasks.iter().filter_map(|task| task.place).collect();
        live.trie.warm(&places);
        Run {
            live,
            source,
            root,
            height,
            timestamp_ms: time,
            revision,
            direct,
            entries: B256HashMap::with_capacity_and_hasher(places.len(), Default::default()),
            tasks: tasks.into_iter(),
            clients: HashMap::default(),
            census: None,
            call: None,
            answers,
            skipped,
            events,
        }
    }

    /// Carry out operations up to the next call, which is returned with its client; None: there is none left.
    pub fn next_call(&mut self) -> Result<Option<(Client, Bytes)>> {
        self.refuse_call("the application did not answer")?;
        while let Some(Task { raw, item, place }) = self.tasks.next() {
            let Some(item) = item else {
                self.skipped.push((identity_of(&raw), "malformed"));
                continue;
            };
            if let Some(reason) = self.admit(&item)? {
                self.skipped.push((item.identity(), reason));
                continue;
            }
            let (client, identity) = (item.client, item.identity());
            if let Action::Call(body) = item.action {
                let (events, revision) = (self.events.len(), self.revision);
                let (before, sequence) = (Vec::new(), item.sequence);
                self.call = Some(Call { identity, sequence, client, before, events, revision });
                return Ok(Some((client, body)));
            }
            let answer = self.carry_out(item.action, place)?;
            self.conclude(client, item.sequence, identity, answer);
        }
        Ok(None)
    }

    /// Carry out everything; there is no code of an application's own.
    pub fn run_all(&mut self) -> Result<()> {
        while self.next_call()?.is_some() {
            self.refuse_call("this application takes no calls")?;
        }
        Ok(())
    }

    fn admit(&mut self, item: &Item) -> Result<Option<&'static str>> {
        if item.deadline_ms < self.timestamp_ms {
            return Ok(Some(LATE));
        }
        if item.deadline_ms > self.timestamp_ms + HORIZON_MS {
            return Ok(Some("its deadline is too far away"));
        }
        let is_unknown = !self.clients.contains_key(&item.client);
        if is_unknown {
            let (session, is_new) = match self.live.clients.remove(&item.client) {
                Some(session) => (session, false),
                None => match find(&self.source, self.root, b'c', &item.client)? {
                    Some(entry) => (Session::from_entry(&entry)?, false),
                    None => (Session::default(), true),
                },
            };
            if is_new && self.census()?.clients >= MAX_CLIENTS {
                return Ok(Some("too many clients"));
            }
            if is_new {
                self.census()?.clients += 1;
            }
            self.clients.insert(item.client, Known { session, is_new, changed: false });
        }
        let Some(known) = self.clients.get_mut(&item.client) else { return Ok(Some("too many clients")) };
        if let Some(reason) = known.session.refuse(item.sequence, item.acknowledged) {
            return Ok(Some(reason));
        }
        known.session.acknowledge(item.acknowledged);
        known.changed = true;
        Ok(None)
    }

    fn carry_out(&mut self, action: Action, place: Option<B256>) -> Result<Answer> {
        let answer = |outcome, revision| Answer { outcome, revision, detail: Bytes::new() };
        if !self.direct && !matches!(action, Action::Nothing | Action::Call(_)) {
            let detail = Bytes::from_static(b"this application takes calls alone");
            return Ok(Answer { outcome: REFUSED, revision: 0, detail });
        }
        let place = place.unwrap_or_default();
        Ok(match action {
            Action::Put { key, value } => answer(DONE, self.put_at(key, place, value)?),
            Action::Delete { key } => match self.delete_at(key, place)? {
                Some(revision) => answer(DONE, revision),
                None => answer(MISSING, 0),
            },
            Action::Compare { key, condition, value } => {
                let found = self.slot(place)?.numbers;
                let holds = match (&condition, found) {
                    (Condition::Absent, found) => found.is_none(),
                    (Condition::Revision(revision), Some(numbers)) => numbers.modified == *revision,
                    (Condition::Value(value), Some(_)) => self.value_at(place)?.as_ref() == Some(value),
                    (_, None) => false,
                };
                let revision = found.map_or(0, |numbers| numbers.modified);
                match value {
                    _ if !holds => answer(CONFLICT, revision),
                    Some(value) => answer(DONE, self.put_at(key, place, value)?),
                    None => match self.delete_at(key, place)? {
                        Some(revision) => answer(DONE, revision),
                        None => answer(MISSING, 0),
                    },
                }
            }
            Action::Nothing | Action::Call(_) => answer(DONE, self.revision),
        })
    }

    fn conclude(&mut self, client: Client, sequence: u64, identity: Identity, answer: Answer) {
        if let Some(known) = self.clients.get_mut(&client) {
            known.session.keep(sequence, answer.clone());
        }
        self.answers.push((identity, answer));
    }

    // ---- entries

    fn slot(&mut self, place: B256) -> Result<&mut Slot> {
        self.slot_for(place, false)
    }

    /// With `changes`, a leaf that is there is marked, so that nobody has to go the way again to overwrite it.
    fn slot_for(&mut self, place: B256, changes: bool) -> Result<&mut Slot> {
        match self.entries.entry(place) {
            Occupied(known) => Ok(known.into_mut()),
            Vacant(vacant) => {
                let found = self.live.trie.find(&self.source, &place)?;
                let leaf = found.filter(|_| changes).map(|(leaf, _)| leaf);
                if leaf.is_some() {
                    self.live.trie.mark_found();
                }
                let numbers = found.map(|(_, numbers)| numbers);
                Ok(vacant.insert(Slot { numbers, leaf, value: None, changed: false }))
            }
        }
    }

    /// The value of an entry, read if it was not.
    fn value_at(&mut self, place: B256) -> Result<Option<Bytes>> {
        let slot = self.slot(place)?;
        if slot.numbers.is_some() && slot.value.is_none() {
            let entry = self.source.find::<Entry>(self.root.id, &place)?;
            self.slot(place)?.value = entry.map(|entry| entry.value);
        }
        Ok(self.slot(place)?.value.clone())
    }

    pub fn read(&mut self, key: &[u8]) -> Result<Option<Bytes>> {
        self.value_at(place_of(b'k', key))
    }

    pub fn put(&mut self, key: Bytes, value: Bytes) -> Result<u64> {
        let place = place_of(b'k', &key);
        self.put_at(key, place, value)
    }

    fn put_at(&mut self, key: Bytes, place: B256, value: Bytes) -> Result<u64> {
        let revision = self.revision + 1;
        let slot = self.slot_for(place, true)?;
        let (created, version) = slot.numbers.map_or((revision, 1), |numbers| (numbers.created, numbers.version + 1));
        let entry = Entry { created, modified: revision, version, value, hashed: Hashed(None) };
        let old = slot.set(Some(&entry));
        Ok(self.note(key, place, old, Some(entry)))
    }

    /// The revision of the deletion; None: there was nothing.
    pub fn delete(&mut self, key: Bytes) -> Result<Option<u64>> {
        let place = place_of(b'k', &key);
        self.delete_at(key, place)
    }

    fn delete_at(&mut self, key: Bytes, place: B256) -> Result<Option<u64>> {
        let slot = self.slot(place)?;
        if slot.numbers.is_none() {
            return Ok(None);
        }
        let old = slot.set(None);
        Ok(Some(self.note(key, place, old, None)))
    }

    /// Count a change.
    fn note(&mut self, key: Bytes, place: B256, old: Slot, entry: Option<Entry>) -> u64 {
        self.revision += 1;
        if let Some(call) = &mut self.call {
            call.before.push((place, old));
        }
        self.events.push(Event { key, revision: self.revision, entry });
        self.revision
    }

    // ---- calls

    pub fn answer_call(&mut self, detail: Bytes) -> Result<()> {
        if detail.len() > MAX_DETAIL_BYTES {
            return self.refuse_call("the application's answer is too long");
        }
        if let Some(call) = self.call.take() {
            let answer = Answer { outcome: DONE, revision: self.revision, detail };
            self.conclude(call.client, call.sequence, call.identity, answer);
        }
        Ok(())
    }

    /// Take back what the call that is under way has changed, if one is.
    pub fn refuse_call(&mut self, reason: &str) -> Result<()> {
        let Some(call) = self.call.take() else { return Ok(()) };
        for (place, old) in call.before.into_iter().rev() {
            self.entries.insert(place, old);
        }
        self.events.truncate(call.events);
        self.revision = call.revision;
        let mut end = reason.len().min(MAX_DETAIL_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let detail = Bytes::copy_from_slice(&reason.as_bytes()[..end]);
        let answer = Answer { outcome: REFUSED, revision: self.revision, detail };
        self.conclude(call.client, call.sequence, call.identity, answer);
        Ok(())
    }

    // ---- clients that come and go

    fn census(&mut self) -> Result<&mut Census> {
        if self.census.is_none() {
            let entry = find(&self.source, self.root, b'm', b"")?;
            let found = entry.map_or_else(Census::default, |entry| Census::from_entry(&entry));
            self.census = Some((found.clone(), found));
        }
        let census = self.census.as_mut().map(|(_, now)| now);
        census.ok_or_else(|| crate::errors::Error::corrupt("the census that was just read"))
    }

    /// List who was not listed for long, and forget the clients of lists that are too old.
    fn follow_clients(&mut self, edits: &mut Vec<Edit>) -> Result<()> {
        let now = self.timestamp_ms;
        let is_due = |known: &Known| known.is_new || known.session.listed_ms + RELIST_MS < now;
        let mut fresh: Vec<Client> = self
            .clients
            .iter()
            .filter(|(_, known)| known.changed && is_due(known))
            .map(|(client, _)| *client)
            .collect();
        if fresh.is_empty() {
            // Without a census that was read nobody is new; expiry waits for the next list.
            return self.write_census(edits);
        }
        fresh.sort_unstable();
        for client in &fresh {
            if let Some(known) = self.clients.get_mut(client) {
                known.session.listed_ms = now;
            }
        }
        let (height, newest) = (self.height, self.census()?.newest);
        self.expire(edits)?;
        if self.census()?.oldest == 0 {
            self.census()?.oldest = height;
        } else if let Some(entry) = find(&self.source, self.root, b'l', &newest.to_be_bytes())? {
            let listing = Listing { next: height, ..Listing::from_entry(&entry) };
            edits.push(edit(b'l', &newest.to_be_bytes(), Some(listing.to_entry())));
        }
        self.census()?.newest = height;
        let listing = Listing { time_ms: now, next: 0, clients: fresh };
        edits.push(edit(b'l', &height.to_be_bytes(), Some(listing.to_entry())));
        self.write_census(edits)
    }

    fn expire(&mut self, edits: &mut Vec<Edit>) -> Result<()> {
        for _ in 0..MAX_EXPIRED_LISTS {
            let oldest = self.census()?.oldest;
            let name = oldest.to_be_bytes();
            let Some(entry) = (if oldest == 0 { None } else { find(&self.source, self.root, b'l', &name)? }) else {
                return Ok(());
            };
            let listing = Listing::from_entry(&entry);
            // The newest list stays, so that there is one to append to.
            if listing.time_ms + LIFETIME_MS >= self.timestamp_ms || listing.next == 0 {
                return Ok(());
            }
            for client in &listing.clients {
                if self.clients.get(client).is_some_and(|known| known.changed) {
                    continue;
                }
                let place = place_of(b'c', client);
                let Some((_, numbers)) = self.live.trie.find(&self.source, &place)? else { continue };
                if Session::listed_ms(&numbers) == listing.time_ms {
                    self.clients.remove(client);
                    self.live.clients.remove(client);
                    self.census()?.clients -= 1;
                    edits.push((place, None));
                }
            }
            edits.push(edit(b'l', &name, None));
            self.census()?.oldest = listing.next;
        }
        Ok(())
    }

    fn write_census(&mut self, edits: &mut Vec<Edit>) -> Result<()> {
        // A client that was met and whose operation was not executed is not kept.
        let unused = self.clients.values().filter(|known| known.is_new && !known.changed).count() as u64;
        if let Some((before, now)) = &mut self.census {
            now.clients -= unused;
            if before != now {
                edits.push(edit(b'm', b"", Some(now.to_entry())));
            }
        }
        Ok(())
    }

    // ---- the end

    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    pub fn finish(mut self) -> Result<Outcome> {
        self.refuse_call("the application did not answer")?;
        let mut edits: Vec<Edit> = Vec::with_capacity(self.entries.len() + self.clients.len() + 3);
        self.follow_clients(&mut edits)?;
        self.follow_sessions(&mut edits);
        for (place, Slot { numbers, leaf, value, .. }) in self.entries.drain().filter(|(_, slot)| slot.changed) {
            match (leaf, numbers.zip(value)) {
                (Some(leaf), Some((numbers, value))) => self.live.trie.overwrite(leaf, numbers, value),
                (_, entry) => edits.push((place, entry)),
            }
        }
        // Whatever is set in whatever order leads to the same nodes; where something is removed, how their records refer to
        // earlier ones depends on it.
        if edits.iter().any(|(_, entry)| entry.is_none()) {
            edits.sort_unstable_by_key(|(place, _)| *place);
        }
        let Run { mut live, source, revision, timestamp_ms, answers, skipped, events, height, .. } = self;
        for (place, entry) in edits {
            match entry {
                Some((numbers, value)) => live.trie.set(&source, &place, numbers, value)?,
                None => live.trie.remove(&source, &place)?,
            }
        }
        let mut writer = NodeWriter::new(height, 0, 1);
        let root = live.trie.write(&source, &mut writer)?;
        let layer = Layer { version: height, chunks: writer.finish() };
        Ok(Outcome { root, layer, revision, timestamp_ms, answers, skipped, events, live })
    }

    /// Keep what clients were answered.
    fn follow_sessions(&mut self, edits: &mut Vec<Edit>) {
        let places = places_of(b'c', self.clients.keys().map(Client::as_slice));
        for ((client, known), place) in self.clients.drain().zip(places) {
            if known.changed {
                let entry = known.session.to_entry();
                edits.push((place, Some((entry.numbers(), entry.value))));
            }
            // One that was met first and whose operation was not executed is not kept.
            if known.changed || !known.is_new {
                self.live.clients.insert(client, known.session);
            }
        }
    }
}

/// What becomes of the entry at a place; None: it is gone.
type Edit = (B256, Option<(Numbers, Bytes)>);

/// Parse the operations of a block; the places of their keys are hashed together.
fn make_tasks(raws: Vec<Bytes>) -> Vec<Task> {
    let mut tasks: Vec<Task> =
        raws.into_iter().map(|raw| Task { item: Item::parse(&raw).ok(), raw, place: None }).collect();
    let places = places_of(b'k', tasks.iter().filter_map(Task::key).map(Bytes::as_ref));
    let concerned = tasks.iter_mut().filter(|task| task.key().is_some());
    for (task, place) in concerned.zip(places) {
        task.place = Some(place);
    }
    tasks
}

impl Task {
    fn key(&self) -> Option<&Bytes> {
        match &self.item.as_ref()?.action {
            Action::Put { key, .. } | Action::Delete { key } | Action::Compare { key, .. } => Some(key),
            Action::Call(_) | Action::Nothing => None,
        }
    }
}

fn edit(domain: u8, name: &[u8], entry: Option<Entry>) -> Edit {
    (place_of(domain, name), entry.map(|entry| (entry.numbers(), entry.value)))
}

pub fn find(source: &NodeSource, root: Root, domain: u8, name: &[u8]) -> Result<Option<Entry>> {
    source.find::<Entry>(root.id, &place_of(domain, name))
}
