//! What happens next in a simulated world: calls, by time and then by number.

use crate::digest::Digest;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

struct Event {
    at: i64,
    number: u64,
    call: Py<PyAny>,
    arguments: Py<PyTuple>,
}

impl Ord for Event {
    /// Reversed, since the heap of the standard library gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

type Entry = (i64, u64, Py<PyAny>, Py<PyTuple>);

#[pyclass(module = "quorate._kernel")]
struct EventQueue {
    heap: BinaryHeap<Event>,
    digest: Py<Digest>,
    /// Events of the digest after which nothing happens any more.
    most: u64,
}

#[pymethods]
impl EventQueue {
    #[new]
    fn new(digest: Py<Digest>, most: u64) -> Self {
        Self { heap: BinaryHeap::new(), digest, most }
    }

    fn push(&mut self, at: i64, number: u64, call: Py<PyAny>, arguments: Py<PyTuple>) {
        self.heap.push(Event { at, number, call, arguments });
    }

    fn pop(&mut self, py: Python<'_>, until: i64) -> Option<Entry> {
        if self.heap.peek()?.at > until || self.digest.borrow(py).events >= self.most {
            return None;
        }
        self.heap.pop().map(|event| (event.at, event.number, event.call, event.arguments))
    }

    fn next_at(&self) -> Option<i64> {
        self.heap.peek().map(|event| event.at)
    }

    fn entries(&self, py: Python<'_>) -> Vec<Entry> {
        let mut events: Vec<&Event> = self.heap.iter().collect();
        events.sort_by(|one, other| other.cmp(one));
        events.iter().map(|e| (e.at, e.number, e.call.clone_ref(py), e.arguments.clone_ref(py))).collect()
    }

    fn __len__(&self) -> usize {
        self.heap.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for event in &self.heap {
            visit.call(&event.call)?;
            visit.call(&event.arguments)?;
        }
        Ok(())
    }

    fn __clear__(&mut self) {
        // What is dropped may call back, so the queue is empty by then.
        drop(std::mem::take(&mut self.heap));
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<EventQueue>()
}
