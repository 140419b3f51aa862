//! Who waits for the answer to which operation, at the port of one node; and the frames that carry both, many at a time.
//!
//! The layout of frames is that of `rpc/keyvalue_framed.py`, which takes any request that is not a plain operation.

use crate::errors::{Error, Result};
use crate::keyvalue::face::KeyValueBlock;
use crate::keyvalue::item::{HEAD_BYTES, Identity, identity_of};
use crate::keyvalue::state::Answer;
use alloy_primitives::map::{Entry, HashMap};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::VecDeque;

const MAX_FRAME_BYTES: usize = 1 << 18;
/// Numbers of requests are below this.
const MAX_NUMBER: u64 = 1 << 53;
/// The connection of those who are told one by one.
const NO_CONNECTION: u64 = 0;
/// Entries of the order of arrival that may be there beside those that wait.
const MAX_GONE: usize = 1 << 12;

/// A connection and the number of a request there.
type Asker = (u64, u64);

struct Waiter {
    due_ms: u64,
    first: Asker,
    /// Who sent the same operation while it waited.
    more: Vec<Asker>,
}

struct Waiting {
    most: usize,
    by_identity: HashMap<Identity, Waiter>,
    /// In the order in which they are due, which is that of their arrival; some are answered already.
    order: VecDeque<(u64, Identity)>,
}

impl Waiting {
    fn is_full(&self) -> bool {
        self.by_identity.len() >= self.most
    }

    /// Whether the operation is new.
    fn put(&mut self, identity: Identity, asker: Asker, due_ms: u64) -> bool {
        match self.by_identity.entry(identity) {
            Entry::Occupied(mut known) => {
                known.get_mut().more.push(asker);
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Waiter { due_ms, first: asker, more: Vec::new() });
                self.order.push_back((due_ms, identity));
                if self.order.len() > 2 * self.by_identity.len() + MAX_GONE {
                    let waits = |(due, identity): &(u64, Identity)| {
                        self.by_identity.get(identity).is_some_and(|waiter| waiter.due_ms == *due)
                    };
                    self.order.retain(waits);
                }
                true
            }
        }
    }

    fn remove(&mut self, identity: &Identity) -> Vec<Asker> {
        self.by_identity.remove(identity).map_or_else(Vec::new, |waiter| {
            let mut askers = waiter.more;
            askers.insert(0, waiter.first);
            askers
        })
    }

    fn late(&mut self, now_ms: u64) -> Vec<Asker> {
        let mut askers = Vec::new();
        while let Some((due, identity)) = self.order.front().copied().filter(|(due, _)| *due <= now_ms) {
            self.order.pop_front();
            if self.by_identity.get(&identity).is_some_and(|waiter| waiter.due_ms == due) {
                askers.append(&mut self.remove(&identity));
            }
        }
        askers
    }
}

/// What came out of received bytes.
#[derive(Default)]
struct Taken<'a> {
    /// How many bytes were whole frames.
    bytes: usize,
    frames: usize,
    /// Operations that are new.
    operations: Vec<&'a [u8]>,
    /// The bodies of other requests.
    others: Vec<&'a [u8]>,
    /// The announced size of a frame that is too long; nothing behind it was looked at.
    too_long: usize,
}

fn take<'a>(waiting: &mut Waiting, connection: u64, data: &'a [u8], room: usize, due_ms: u64) -> Taken<'a> {
    let mut taken = Taken::default();
    while taken.frames < room {
        let Some((length, rest)) = data[taken.bytes..].split_first_chunk::<4>() else { break };
        let size = u32::from_be_bytes(*length) as usize;
        if size > MAX_FRAME_BYTES {
            taken.too_long = size;
            break;
        }
        let Some(body) = rest.get(..size) else { break };
        taken.bytes += 4 + size;
        taken.frames += 1;
        match read_operation(body) {
            Some((number, operation)) if !waiting.is_full() => {
                if waiting.put(identity_of(operation), (connection, number), due_ms) {
                    taken.operations.push(operation);
                }
            }
            _ => taken.others.push(body),
        }
    }
    taken
}

/// Number and operation of a plain request: an array of three, a number, 1, and at least the head of an operation.
fn read_operation(body: &[u8]) -> Option<(u64, &[u8])> {
    let rest = body.strip_prefix(&[0x93])?;
    let (kind, rest) = rest.split_first()?;
    let (number, rest) = match kind {
        0..=0x7f => (u64::from(*kind), rest),
        0xcc..=0xcf => big_endian(rest, 1 << (kind - 0xcc))?,
        _ => return None,
    };
    let (kind, rest) = rest.strip_prefix(&[1])?.split_first()?;
    let (length, operation) = match kind {
        0xc4..=0xc6 => big_endian(rest, 1 << (kind - 0xc4))?,
        _ => return None,
    };
    let sound = number < MAX_NUMBER && operation.len() as u64 == length && operation.len() >= HEAD_BYTES;
    sound.then_some((number, operation))
}

fn big_endian(bytes: &[u8], size: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(size)?;
    Some((number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest))
}

/// The frame that answers an operation.
fn write_answer(out: &mut Vec<u8>, number: u64, answer: &Answer) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(0x93);
    write_number(out, number);
    out.extend_from_slice(&[0, 0x93, answer.outcome]);
    write_number(out, answer.revision);
    let length = answer.detail.len();
    match length {
        0..=0xff => out.extend_from_slice(&[0xc4, length as u8]),
        0x100..=0xffff => {
            out.push(0xc5);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0xc6);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(&answer.detail);
    let size = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// msgpack's shortest form.
fn write_number(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Frames for one connection.
struct Outgoing {
    connection: u64,
    frames: Vec<u8>,
    count: usize,
}

type Single<'a> = (u64, &'a Answer);

fn answer<'a>(waiting: &mut Waiting, answers: &'a [(Identity, Answer)]) -> (Vec<Outgoing>, Vec<Single<'a>>) {
    let mut outgoing: Vec<Outgoing> = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::default();
    let mut singles = Vec::new();
    if waiting.by_identity.is_empty() {
        return (outgoing, singles);
    }
    for (identity, answer) in answers {
        let Some(waiter) = waiting.by_identity.remove(identity) else { continue };
        for (connection, number) in std::iter::once(waiter.first).chain(waiter.more) {
            if connection == NO_CONNECTION {
                singles.push((number, answer));
                continue;
            }
            let place = *places.entry(connection).or_insert_with(|| {
                outgoing.push(Outgoing { connection, frames: Vec::new(), count: 0 });
                outgoing.len() - 1
            });
            let out = &mut outgoing[place];
            write_answer(&mut out.frames, number, answer);
            out.count += 1;
        }
    }
    (outgoing, singles)
}

/// Operations under way at the port of one node, by who asked for them. Connection 0 stands for all who are told one by one.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct KeyValuePort {
    waiting: Mutex<Waiting>,
}

fn list<'py>(py: Python<'py>, parts: &[&[u8]]) -> Vec<Bound<'py, PyBytes>> {
    parts.iter().map(|part| PyBytes::new(py, part)).collect()
}

#[pymethods]
impl KeyValuePort {
    #[new]
    fn new(max_waiting: usize) -> KeyValuePort {
        let (by_identity, order) = Default::default();
        KeyValuePort { waiting: Mutex::new(Waiting { most: max_waiting, by_identity, order }) }
    }

    fn __len__(&self) -> usize {
        self.waiting.lock().by_identity.len()
    }

    /// Read at most `room` whole frames: (their bytes, how many, operations that are new, bodies of other requests, the size of
    /// a frame that is too long or 0).
    #[allow(clippy::type_complexity)]
    fn take<'py>(
        &self,
        py: Python<'py>,
        connection: u64,
        data: &[u8],
        room: usize,
        due_ms: u64,
    ) -> (usize, usize, Vec<Bound<'py, PyBytes>>, Vec<Bound<'py, PyBytes>>, usize) {
        let taken = take(&mut self.waiting.lock(), connection, data, room, due_ms);
        (taken.bytes, taken.frames, list(py, &taken.operations), list(py, &taken.others), taken.too_long)
    }

    /// Whether the operation is new, or waits already. Raises Unavailable where too many wait.
    fn put(&self, operation: &[u8], connection: u64, number: u64, due_ms: u64) -> PyResult<bool> {
        Ok(self.put_one(operation, (connection, number), due_ms)?)
    }

    /// Who asked for an operation, which waits no longer: (connection, number) of each.
    fn remove(&self, identity: &[u8]) -> PyResult<Vec<Asker>> {
        let identity = crate::errors::fixed("identity", identity)?;
        Ok(self.waiting.lock().remove(&identity))
    }

    /// The answers of a block: (connection, frames, how many) for each connection, and (number, outcome, revision, detail) for
    /// those who are told one by one.
    #[allow(clippy::type_complexity)]
    fn answer<'py>(
        &self,
        py: Python<'py>,
        block: &KeyValueBlock,
    ) -> (Vec<(u64, Bound<'py, PyBytes>, usize)>, Vec<(u64, u8, u64, Bound<'py, PyBytes>)>) {
        let (outgoing, singles) = answer(&mut self.waiting.lock(), &block.branch.answers);
        let frames = |out: &Outgoing| (out.connection, PyBytes::new(py, &out.frames), out.count);
        let single = |(number, answer): &Single<'_>| {
            (*number, answer.outcome, answer.revision, PyBytes::new(py, &answer.detail))
        };
        (outgoing.iter().map(frames).collect(), singles.iter().map(single).collect())
    }

    /// Who has waited too long: (connection, number) of each.
    fn late(&self, now_ms: u64) -> Vec<Asker> {
        self.waiting.lock().late(now_ms)
    }
}

impl KeyValuePort {
    fn put_one(&self, operation: &[u8], asker: Asker, due_ms: u64) -> Result<bool> {
        let mut waiting = self.waiting.lock();
        if waiting.is_full() {
            let found = waiting.by_identity.len();
            return Err(Error::unavailable(format!("{found} operations wait already; try again later")));
        }
        Ok(waiting.put(identity_of(operation), asker, due_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(most: usize) -> Waiting {
        let (by_identity, order) = Default::default();
        Waiting { most, by_identity, order }
    }

    fn operation(sequence: u64) -> Vec<u8> {
        let mut raw = vec![1; 17];
        raw.extend_from_slice(&sequence.to_be_bytes());
        raw.extend_from_slice(&[0; 24]);
        raw
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    fn request(number: u64, operation: &[u8]) -> Vec<u8> {
        let mut body = vec![0x93];
        write_number(&mut body, number);
        body.extend_from_slice(&[1, 0xc4, operation.len() as u8]);
        body.extend_from_slice(operation);
        frame(&body)
    }

    fn reply(sequence: u64, revision: u64) -> (Identity, Answer) {
        (identity_of(&operation(sequence)), Answer { outcome: 0, revision, detail: Default::default() })
    }

    #[test]
    fn numbers_of_every_size_are_read_as_they_are_written() {
        let mut waiting = waiting(100);
        for (place, number) in
            [0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), MAX_NUMBER - 1].iter().enumerate()
        {
            let raw = operation(place as u64 + 1);
            let data = request(*number, &raw);
            let taken = take(&mut waiting, 7, &data, 9, 5);
            assert_eq!((taken.bytes, taken.frames), (data.len(), 1));
            assert_eq!(taken.operations, [&raw[..]]);
            assert_eq!(waiting.remove(&identity_of(&raw)), [(7, *number)]);
        }
        assert_eq!(take(&mut waiting, 7, &request(MAX_NUMBER, &operation(1)), 9, 5).others.len(), 1);
    }

    #[test]
    fn only_whole_frames_are_taken_and_no_more_than_there_is_room_for() {
        let data = [request(1, &operation(1)), request(2, &operation(2)), request(3, &operation(3))].concat();
        let size = data.len() / 3;
        for end in 0..data.len() {
            let mut waiting = waiting(100);
            let taken = take(&mut waiting, 1, &data[..end], 9, 5);
            assert_eq!((taken.frames, taken.bytes), (end / size, end / size * size));
        }
        let mut waiting = waiting(100);
        assert_eq!(take(&mut waiting, 1, &data, 2, 5).frames, 2);
        assert_eq!(take(&mut waiting, 1, &data, 0, 5).frames, 0);
    }

    #[test]
    fn what_is_no_plain_operation_is_left_to_others() {
        let whole = request(1, &operation(1));
        let body = &whole[4..];
        let mut waiting = waiting(100);
        for cut in 0..body.len() {
            let data = frame(&body[..cut]);
            let taken = take(&mut waiting, 1, &data, 9, 5);
            assert_eq!((taken.operations.len(), taken.others.len()), (0, 1));
        }
        let longer = frame(&[body, &[0]].concat());
        assert_eq!(take(&mut waiting, 1, &longer, 9, 5).others.len(), 1);
        assert!(waiting.by_identity.is_empty());
    }

    #[test]
    fn a_frame_that_is_too_long_ends_it() {
        let first = request(1, &operation(1));
        let data = [&first[..], &(MAX_FRAME_BYTES as u32 + 1).to_be_bytes()].concat();
        let mut waiting = waiting(100);
        let taken = take(&mut waiting, 1, &data, 9, 5);
        assert_eq!((taken.frames, taken.bytes, taken.too_long), (1, first.len(), MAX_FRAME_BYTES + 1));
    }

    #[test]
    fn beyond_the_bound_operations_are_left_to_be_refused() {
        let data = [request(1, &operation(1)), request(2, &operation(2))].concat();
        let mut waiting = waiting(1);
        let taken = take(&mut waiting, 1, &data, 9, 5);
        assert_eq!((taken.operations.len(), taken.others.len()), (1, 1));
    }

    #[test]
    fn all_who_asked_for_an_operation_are_told_and_it_is_carried_out_once() {
        let mut waiting = waiting(100);
        let twice = [request(1, &operation(1)), request(2, &operation(1)), request(3, &operation(2))].concat();
        assert_eq!(take(&mut waiting, 5, &twice, 9, 5).operations.len(), 2);
        assert!(!waiting.put(identity_of(&operation(1)), (NO_CONNECTION, 44), 6));
        assert!(take(&mut waiting, 6, &request(9, &operation(1)), 9, 7).operations.is_empty());
        let answers = [reply(1, 300), reply(8, 301), reply(2, 302)];
        let (outgoing, singles) = answer(&mut waiting, &answers);
        let found: Vec<(u64, usize)> = outgoing.iter().map(|out| (out.connection, out.count)).collect();
        assert_eq!(found, [(5, 3), (6, 1)]);
        assert_eq!(outgoing[1].frames, frame(&[0x93, 9, 0, 0x93, 0, 0xcd, 1, 44, 0xc4, 0]));
        assert_eq!(singles, [(44, &answers[0].1)]);
        assert!(waiting.by_identity.is_empty());
    }

    #[test]
    fn who_waits_too_long_is_told_once_and_the_order_stays_small() {
        let mut waiting = waiting(100);
        for sequence in 1..=3 {
            waiting.put(identity_of(&operation(sequence)), (1, sequence), 10 * sequence);
        }
        waiting.remove(&identity_of(&operation(1)));
        waiting.put(identity_of(&operation(1)), (1, 4), 35);
        assert_eq!(waiting.late(9), []);
        assert_eq!(waiting.late(20), [(1, 2)]);
        assert_eq!(waiting.late(40), [(1, 3), (1, 4)]);
        assert!(waiting.order.is_empty());
        for sequence in 0..20_000 {
            waiting.put(identity_of(&operation(sequence)), (1, sequence), sequence);
            waiting.remove(&identity_of(&operation(sequence)));
        }
        assert!(waiting.order.len() <= MAX_GONE + 2);
    }

    #[test]
    fn long_details_are_announced_by_their_length() {
        for length in [0usize, 255, 256, 1024] {
            let mut out = Vec::new();
            write_answer(&mut out, 1, &Answer { outcome: 3, revision: 7, detail: vec![9; length].into() });
            assert_eq!(u32::from_be_bytes([out[0], out[1], out[2], out[3]]) as usize, out.len() - 4);
            let head: &[u8] = if length < 256 { &[0xc4, length as u8] } else { &[0xc5, (length >> 8) as u8, 0] };
            assert_eq!(out[10..10 + head.len()], *head);
        }
    }
}
