//! What happens next in a simulated world: calls, by time and then by number, and the loop that makes them.
//!
//! Most events are one of three kinds that the queue tells apart itself, so that what is no longer to happen, since a
//! machine crashed or a connection broke in between, costs no call: a call of a machine, its timer, a frame on a line.

use crate::digest::{Digest, FRAME};
use crate::lines::Line;
use pyo3::exceptions::PyOverflowError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events between two looks at the signals that came.
const LOOK: u64 = 1024;

pub enum Event {
    Call { call: Py<PyAny>, arguments: Py<PyTuple> },
    Later { seat: Py<Seat>, life: u64, call: Py<PyAny>, arguments: Py<PyTuple> },
    Timer { seat: Py<Seat>, life: u64, timer: Py<PyAny> },
    Frame { line: Py<Line>, generation: u64, frame: Py<PyBytes> },
}

/// When, which number, and where among the events it lies.
type Entry = Reverse<(i64, u64, u32)>;

#[pyclass(module = "quorate._kernel")]
pub struct EventQueue {
    heap: BinaryHeap<Entry>,
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    pub digest: Py<Digest>,
    /// Events of the digest after which nothing happens any more.
    most: u64,
    pub now: i64,
    /// The number that was given last.
    number: u64,
}

impl EventQueue {
    pub fn push(&mut self, at: i64, event: Event) -> u64 {
        self.number += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place as usize] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() as u32 - 1
            }
        };
        self.heap.push(Reverse((at, self.number, place)));
        self.number
    }

    /// The time after a delay.
    pub fn compute_time(&self, delay: i64) -> PyResult<i64> {
        let at = self.now.checked_add(delay);
        at.ok_or_else(|| PyOverflowError::new_err("a time beyond 64 bits"))
    }

    fn take(&mut self, py: Python<'_>, until: i64) -> Option<(i64, u64, Event)> {
        if self.heap.peek()?.0.0 > until || self.digest.borrow(py).events >= self.most {
            return None;
        }
        let Reverse((at, number, place)) = self.heap.pop()?;
        let event = self.events[place as usize].take()?;
        self.free.push(place);
        Some((at, number, event))
    }
}

#[pymethods]
impl EventQueue {
    #[new]
    fn new(digest: Py<Digest>, most: u64) -> Self {
        let (heap, events, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self { heap, events, free, digest, most, now: 0, number: 0 }
    }

    fn after(&mut self, delay: i64, call: Py<PyAny>, arguments: Py<PyTuple>) -> PyResult<u64> {
        let at = self.compute_time(delay)?;
        Ok(self.push(at, Event::Call { call, arguments }))
    }

    fn note(&self, kind: i64, machine: i64, other: i64, contents: &Bound<'_, PyBytes>) {
        self.digest.borrow_mut(contents.py()).note(self.now, kind, machine, other, contents);
    }

    #[pyo3(signature = (world, until, findings, on_next=None, done=None))]
    fn run(
        slf: &Bound<'_, Self>,
        world: &Bound<'_, PyAny>,
        until: i64,
        findings: &Bound<'_, PyList>,
        on_next: Option<&Bound<'_, PyAny>>,
        done: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let py = slf.py();
        let mut looked = 0;
        while findings.is_empty() {
            let mut queue = slf.borrow_mut();
            let Some((at, number, event)) = queue.take(py, until) else { break };
            let moves = queue.now != at;
            queue.now = at;
            drop(queue);
            if moves {
                world.setattr(intern!(py, "now"), at)?;
            }
            looked += 1;
            if looked == LOOK {
                looked = 0;
                py.check_signals()?;
            }
            if let Some(on_next) = on_next {
                on_next.call1((number,))?;
            }
            carry_out(slf, number, event)?;
            if let Some(done) = done
                && done.call0()?.is_truthy()?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[getter]
    fn get_now(&self) -> i64 {
        self.now
    }

    #[setter]
    fn set_now(&mut self, now: i64) {
        self.now = now;
    }

    #[getter]
    fn get_number(&self) -> u64 {
        self.number
    }

    fn next_at(&self) -> Option<i64> {
        self.heap.peek().map(|entry| entry.0.0)
    }

    fn frames(&self, py: Python<'_>) -> Vec<Py<PyBytes>> {
        let mut entries: Vec<_> = self.heap.iter().map(|entry| entry.0).collect();
        entries.sort_unstable();
        let events = entries.iter().filter_map(|&(_, _, place)| self.events[place as usize].as_ref());
        let frame = |event: &Event| match event {
            Event::Frame { frame, .. } => Some(frame.clone_ref(py)),
            _ => None,
        };
        events.filter_map(frame).collect()
    }

    fn __len__(&self) -> usize {
        self.heap.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for event in self.events.iter().flatten() {
            match event {
                Event::Call { call, arguments } => {
                    visit.call(call)?;
                    visit.call(arguments)?;
                }
                Event::Later { seat, call, arguments, .. } => {
                    visit.call(seat)?;
                    visit.call(call)?;
                    visit.call(arguments)?;
                }
                Event::Timer { seat, timer, .. } => {
                    visit.call(seat)?;
                    visit.call(timer)?;
                }
                Event::Frame { line, .. } => visit.call(line)?,
            }
        }
        Ok(())
    }

    fn __clear__(&mut self) {
        // What is dropped may call back, so the queue is empty by then.
        self.heap.clear();
        self.free.clear();
        drop(std::mem::take(&mut self.events));
    }
}

/// Let an event happen, unless it is too late for it.
fn carry_out(queue: &Bound<'_, EventQueue>, number: u64, event: Event) -> PyResult<()> {
    let py = queue.py();
    match event {
        Event::Call { call, arguments } => {
            call.bind(py).call1(arguments.bind(py))?;
        }
        Event::Later { seat, life, call, arguments } => {
            let seat = seat.bind(py).borrow();
            if seat.life == life {
                if seat.paused {
                    let hold = seat.hold.clone_ref(py);
                    drop(seat);
                    call_two(hold.bind(py), call.bind(py), arguments.bind(py))?;
                } else {
                    drop(seat);
                    call.bind(py).call1(arguments.bind(py))?;
                }
            }
        }
        Event::Timer { seat, life, timer } => {
            let seat = seat.bind(py).borrow();
            if seat.life == life {
                let fall = seat.fall.clone_ref(py);
                drop(seat);
                call_two(fall.bind(py), timer.bind(py), number.into_pyobject(py)?.as_any())?;
            }
        }
        Event::Frame { line, generation, frame } => {
            let line = line.bind(py).borrow();
            if !line.direct {
                let (arrive, link) = (line.arrive.clone_ref(py), line.link.clone_ref(py));
                drop(line);
                arrive.call1(py, (link, generation, frame, number))?;
                return Ok(());
            }
            if line.generation != generation {
                return Ok(());
            }
            let target = line.target.bind(py).borrow();
            let Some(receive) = &target.receive else { return Ok(()) };
            if target.paused {
                let (arrive, link) = (line.arrive.clone_ref(py), line.link.clone_ref(py));
                drop((line, target));
                arrive.call1(py, (link, generation, frame, number))?;
                return Ok(());
            }
            let (receive, frame) = (receive.clone_ref(py), frame.bind(py));
            let (source, from, to) = (line.source.clone_ref(py), line.source_index, target.index);
            drop((line, target));
            let queue = queue.borrow();
            queue.digest.borrow_mut(py).note(queue.now, FRAME, from, to, frame);
            drop(queue);
            call_two(receive.bind(py), source.bind(py), frame.as_any())?;
        }
    }
    Ok(())
}

/// Call with two arguments, for which no tuple has to be made.
fn call_two(call: &Bound<'_, PyAny>, one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> PyResult<()> {
    let end = std::ptr::null_mut::<ffi::PyObject>();
    // Safety: all are objects that live as long as the call, and a null ends them; the result is ours or null with an
    // error set.
    unsafe {
        let result = ffi::PyObject_CallFunctionObjArgs(call.as_ptr(), one.as_ptr(), other.as_ptr(), end);
        Bound::from_owned_ptr_or_err(call.py(), result).map(drop)
    }
}

/// What the queue has to know of a machine.
#[pyclass(module = "quorate._kernel")]
pub struct Seat {
    queue: Py<EventQueue>,
    pub index: i64,
    /// Grows with every start and crash; what belongs to an older life never happens.
    #[pyo3(get, set)]
    life: u64,
    #[pyo3(get, set)]
    paused: bool,
    /// Takes a peer's address and a frame; none while nobody is there.
    #[pyo3(get, set)]
    receive: Option<Py<PyAny>>,
    /// Takes a timer that falls and its number.
    fall: Py<PyAny>,
    /// Takes a call and its arguments that came while the machine is paused.
    hold: Py<PyAny>,
}

#[pymethods]
impl Seat {
    #[new]
    fn new(queue: Py<EventQueue>, index: i64, fall: Py<PyAny>, hold: Py<PyAny>) -> Self {
        Self { queue, index, life: 0, paused: false, receive: None, fall, hold }
    }

    fn later(slf: &Bound<'_, Self>, delay: i64, call: Py<PyAny>, arguments: Py<PyTuple>) -> PyResult<u64> {
        let seat = slf.borrow();
        let mut queue = seat.queue.bind(slf.py()).borrow_mut();
        let at = queue.compute_time(delay)?;
        Ok(queue.push(at, Event::Later { seat: slf.clone().unbind(), life: seat.life, call, arguments }))
    }

    fn set_timer(slf: &Bound<'_, Self>, delay: i64, timer: Py<PyAny>) -> PyResult<u64> {
        let seat = slf.borrow();
        let mut queue = seat.queue.bind(slf.py()).borrow_mut();
        // Whoever sets a timer has done so before it falls.
        let at = queue.compute_time(delay.max(1))?;
        Ok(queue.push(at, Event::Timer { seat: slf.clone().unbind(), life: seat.life, timer }))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        visit.call(&self.receive)?;
        visit.call(&self.fall)?;
        visit.call(&self.hold)
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<EventQueue>()?;
    m.add_class::<Seat>()
}
