//! The lines of a simulated network: what becomes of a frame, and when it arrives.

use crate::event_queue::{Event, EventQueue, Seat};
use crate::twister::Draws;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const NS_PER_MS: i64 = 1_000_000;

/// What happens on all lines: how often, in permille, and how late frames are.
#[pyclass(module = "quorate._kernel", get_all, set_all, skip_from_py_object)]
#[derive(Clone, Copy)]
pub struct LinkRates {
    loss: u32,
    corrupt: u32,
    duplicate: u32,
    jitter_ns: u64,
    tail: u32,
    tail_factor: i64,
    /// Whether frames overtake each other.
    reorder: bool,
    /// Bytes in a millisecond; 0: any number.
    bandwidth: i64,
    /// Whether somebody looks at frames one by one.
    picky: bool,
}

#[pymethods]
impl LinkRates {
    #[new]
    fn new() -> Self {
        let (loss, corrupt, duplicate, jitter_ns, tail, tail_factor) = (0, 0, 0, 1, 0, 1);
        let (reorder, bandwidth, picky) = (true, 0, false);
        Self { loss, corrupt, duplicate, jitter_ns, tail, tail_factor, reorder, bandwidth, picky }
    }
}

/// The streams of one link.
struct Streams {
    lost: Py<Draws>,
    corrupted: Py<Draws>,
    doubled: Py<Draws>,
    delayed: Py<Draws>,
    tailed: Py<Draws>,
}

/// One direction of a connection.
#[pyclass(module = "quorate._kernel")]
pub struct Line {
    queue: Py<EventQueue>,
    rates: Py<LinkRates>,
    /// None where choices are replayed or kept, or where a timing model has a say.
    streams: Option<Streams>,
    /// Takes the link, the generation, the frame and the number of what arrives, where that is not left to the queue.
    pub arrive: Py<PyAny>,
    pub link: Py<PyAny>,
    pub source: Py<PyAny>,
    pub source_index: i64,
    pub target: Py<Seat>,
    /// Whether the queue gives frames to their target itself.
    pub direct: bool,
    up: bool,
    /// How often the connection was made or broken.
    pub generation: u64,
    #[pyo3(get, set)]
    blocked: u32,
    #[pyo3(get, set)]
    base_ns: i64,
    #[pyo3(get, set)]
    penalty_ns: i64,
    #[pyo3(get, set)]
    factor: i64,
    /// When everything that was sent is on its way.
    free_at: i64,
    /// When the last frame arrives.
    last_at: i64,
}

const DONE: i64 = 0;
const DOUBLED: i64 = 1;
const CARE: i64 = 2;
const LOST: i64 = -1;
const CORRUPTED: i64 = -2;

fn happens(py: Python<'_>, stream: &Py<Draws>, permille: u32) -> bool {
    permille > 0 && stream.borrow_mut(py).happens(py, permille)
}

impl Streams {
    fn draw_delay(&self, py: Python<'_>, rates: &LinkRates, base_ns: i64) -> i64 {
        let delay = base_ns + self.delayed.borrow_mut(py).choose_below(py, rates.jitter_ns) as i64;
        if happens(py, &self.tailed, rates.tail) { delay * rates.tail_factor } else { delay }
    }
}

impl Line {
    fn compute_time(&mut self, now: i64, rates: &LinkRates, size: usize, delay: i64) -> i64 {
        let delay = delay * self.factor + self.penalty_ns;
        let mut at = now + delay;
        if rates.bandwidth != 0 {
            self.free_at = self.free_at.max(now) + size as i64 * NS_PER_MS / rates.bandwidth;
            at = self.free_at + delay;
        }
        if !rates.reorder {
            at = at.max(self.last_at);
            self.last_at = at;
        }
        at
    }
}

#[pymethods]
impl Line {
    #[new]
    #[pyo3(signature = (queue, rates, streams, arrive, link, source, source_index, target, direct, base_ns))]
    #[allow(clippy::too_many_arguments, reason = "what a line is made of")]
    fn new(
        queue: Py<EventQueue>,
        rates: Py<LinkRates>,
        streams: Option<(Py<Draws>, Py<Draws>, Py<Draws>, Py<Draws>, Py<Draws>)>,
        arrive: Py<PyAny>,
        link: Py<PyAny>,
        source: Py<PyAny>,
        source_index: i64,
        target: Py<Seat>,
        direct: bool,
        base_ns: i64,
    ) -> Self {
        let streams = streams.map(|(lost, corrupted, doubled, delayed, tailed)| Streams {
            lost,
            corrupted,
            doubled,
            delayed,
            tailed,
        });
        let (up, generation, blocked, penalty_ns, factor, free_at, last_at) = (false, 0, 0, 0, 1, 0, 0);
        Self {
            queue,
            rates,
            streams,
            arrive,
            link,
            source,
            source_index,
            target,
            direct,
            up,
            generation,
            blocked,
            base_ns,
            penalty_ns,
            factor,
            free_at,
            last_at,
        }
    }

    /// The connection was made, or broke.
    fn turn(&mut self, up: bool, generation: u64) {
        (self.up, self.generation) = (up, generation);
    }

    /// Take a frame: 0 it is done with, or nobody is connected; 1 it comes twice; -1 it is lost; -2 it comes changed;
    /// 2 more than rates decides. What never happens takes no number.
    fn carry(slf: &Bound<'_, Self>, frame: &Bound<'_, PyBytes>) -> i64 {
        let py = slf.py();
        let mut line = slf.borrow_mut();
        if !line.up {
            return DONE;
        }
        let rates = *line.rates.bind(py).borrow();
        let streams = match &line.streams {
            Some(streams) if line.blocked == 0 && !rates.picky => streams,
            _ => return CARE,
        };
        if happens(py, &streams.lost, rates.loss) {
            return LOST;
        }
        if happens(py, &streams.corrupted, rates.corrupt) {
            return CORRUPTED;
        }
        let delay = streams.draw_delay(py, &rates, line.base_ns);
        let twice = happens(py, &streams.doubled, rates.duplicate);
        let again = if twice { Some(streams.draw_delay(py, &rates, line.base_ns)) } else { None };
        let size = frame.as_bytes().len();
        let queue = line.queue.clone_ref(py);
        let mut queue = queue.bind(py).borrow_mut();
        for delay in [Some(delay), again].into_iter().flatten() {
            let at = line.compute_time(queue.now, &rates, size, delay);
            let frame = frame.clone().unbind();
            queue.push(at, Event::Frame { line: slf.clone().unbind(), generation: line.generation, frame });
        }
        if twice { DOUBLED } else { DONE }
    }

    /// Say when a frame of so many bytes arrives that is so late at the usual speed.
    fn arrival(&mut self, py: Python<'_>, size: usize, delay: i64) -> i64 {
        let rates = *self.rates.bind(py).borrow();
        let now = self.queue.bind(py).borrow().now;
        self.compute_time(now, &rates, size, delay)
    }

    /// Let a frame arrive at a time; return the number of the event.
    fn push(slf: &Bound<'_, Self>, frame: Py<PyBytes>, at: i64) -> u64 {
        let line = slf.borrow();
        let event = Event::Frame { line: slf.clone().unbind(), generation: line.generation, frame };
        line.queue.bind(slf.py()).borrow_mut().push(at, event)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        visit.call(&self.arrive)?;
        visit.call(&self.link)?;
        visit.call(&self.target)
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<LinkRates>()?;
    m.add_class::<Line>()
}
