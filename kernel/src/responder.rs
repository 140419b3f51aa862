//! Answers plain requests for reads between socket and store, without Python: HTTP framing, JSON-RPC, the read, the answer.
//!
//! What is answered here, and within which bounds, is told by Python; whatever is not plain (`framing.rs`, `questions.rs`) is
//! left to it, byte for byte. Reads of the newest state are answered at once, what runs the EVM by threads (`crew.rs`).

mod answers;
mod crew;
mod framing;
mod newest;
mod questions;

use crate::view::{Past, View};
use alloy_primitives::Address;
use answers::{Bounds, answer_all, look_up, run_briefly, write_head};
use crew::{Crew, Finished, MAX_KEPT};
use newest::{Desk, Newest};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList};
use questions::{Body, Rules};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Values of the Host header that are remembered.
const MAX_HOSTS: usize = 64;
/// Of answers that one call makes at once; the caller looks whether the client reads before it asks for more.
const MAX_OUT_BYTES: usize = 4 << 20;
/// What a call may take on the thread that asks: some hundred microseconds.
const SHORT_GAS: u64 = 150_000;
/// Contracts and methods that are remembered as long.
const MAX_LONG: usize = 4_096;

/// What a message gives at once.
enum Begun {
    Answer(Vec<u8>),
    UnderWay(u64),
}

/// Answers plain requests for reads.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct Responder {
    past: Arc<Past>,
    rules: Arc<Rules>,
    bounds: Bounds,
    max_body_bytes: usize,
    hosts: Mutex<HashSet<Vec<u8>>>,
    desk: Mutex<Option<Desk>>,
    /// What was found to take longer, by contract and method.
    long: Mutex<HashSet<(Address, [u8; 4])>>,
    crew: Crew,
}

impl Responder {
    fn begin(&self, body: &[u8]) -> Option<Begun> {
        let asked = questions::read(body, &self.rules)?;
        let executions = asked.executions();
        if executions == 0 {
            return self.answer_at_once(&asked).map(Begun::Answer);
        }
        if !asked.is_batch
            && let Some(answer) = self.call_briefly(&asked)
        {
            return Some(Begun::Answer(answer));
        }
        self.crew.put(body, executions).map(Begun::UnderWay)
    }

    fn answer_at_once(&self, asked: &Body<'_>) -> Option<Vec<u8>> {
        let newest = self.with_desk(|desk| desk.newest().clone())?;
        answer_all(asked, &self.bounds, |question| look_up(question, &newest))
    }

    /// Answer a call here if it is short: to wake a thread and to be woken by it costs more than most calls.
    fn call_briefly(&self, asked: &Body<'_>) -> Option<Vec<u8>> {
        let question = &asked.items.first()?.question;
        let name = question.name().filter(|name| !self.long.lock().contains(name))?;
        let outcome = self.with_desk(|desk| {
            desk.with_caller(|caller| run_briefly(question, caller, self.bounds.gas_cap, SHORT_GAS))
        })?;
        if outcome.is_none() {
            let mut long = self.long.lock();
            if long.len() >= MAX_LONG {
                long.clear();
            }
            long.insert(name);
        }
        let mut outcome = outcome;
        answer_all(asked, &self.bounds, |_| outcome.take())
    }

    /// Use the newest block. None where there is none; Python says why.
    fn with_desk<T>(&self, read: impl FnOnce(&mut Desk) -> T) -> Option<T> {
        let mut desk = self.desk.lock();
        let is_usable = desk
            .as_mut()
            .is_some_and(|desk| desk.newest().is_current() && desk.with_caller(|caller| caller.kept()) <= MAX_KEPT);
        if !is_usable {
            *desk = Newest::open(&self.past).and_then(|newest| Desk::new(Arc::new(newest))).ok();
        }
        desk.as_mut().map(read)
    }
}

#[pymethods]
impl Responder {
    #[new]
    #[pyo3(signature = (
        view, *, methods, max_body_bytes, max_batch, max_response_bytes, gas_cap, threads, max_waiting, seconds
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        view: &View,
        methods: Vec<String>,
        max_body_bytes: usize,
        max_batch: usize,
        max_response_bytes: usize,
        gas_cap: u64,
        threads: usize,
        max_waiting: usize,
        seconds: f64,
    ) -> PyResult<Responder> {
        let past = view.past()?;
        let rules = Arc::new(Rules::new(&methods, max_batch, past.spec().dev));
        let bounds = Bounds { max_response_bytes, gas_cap };
        let patience = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4);
        let crew = Crew::new(past.clone(), rules.clone(), bounds, threads, max_waiting, patience)?;
        let (hosts, desk, long) = (Mutex::default(), Mutex::new(None), Mutex::default());
        Ok(Responder { past, rules, bounds, max_body_bytes, hosts, desk, long, crew })
    }

    /// Take requests with this Host header from now on.
    fn allow_host(&self, host: &[u8]) {
        let mut hosts = self.hosts.lock();
        if hosts.len() < MAX_HOSTS {
            hosts.insert(host.to_vec());
        }
    }

    /// Answer the plain requests that `data` begins with: how much of it they were, and what to do in their order, write
    /// bytes or wait for an answer, given as (token, size of the body).
    fn respond<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
        room: usize,
    ) -> PyResult<(usize, Bound<'py, PyList>)> {
        let (data, answers) = (data.as_bytes(), PyList::empty(py));
        let (mut used, mut under_way, mut out, mut made) = (0, 0, Vec::new(), 0);
        while made < MAX_OUT_BYTES
            && let Some(framed) = framing::read(&data[used..])
        {
            let body = &data[used..][framed.body.clone()];
            let is_taken = body.len() <= self.max_body_bytes && self.hosts.lock().contains(framed.host);
            if !is_taken || under_way >= room {
                break;
            }
            match self.begin(body) {
                None => break,
                Some(Begun::Answer(answer)) => {
                    made += answer.len();
                    write_head(&mut out, answer.len());
                    out.extend_from_slice(&answer);
                }
                Some(Begun::UnderWay(token)) => {
                    if !out.is_empty() {
                        answers.append(PyBytes::new(py, &out))?;
                        out.clear();
                    }
                    answers.append((token, body.len()))?;
                    under_way += 1;
                }
            }
            used += framed.body.end;
        }
        if !out.is_empty() {
            answers.append(PyBytes::new(py, &out))?;
        }
        Ok((used, answers))
    }

    /// The answer to a JSON-RPC message, the token of one that is under way, or None.
    fn answer<'py>(&self, py: Python<'py>, body: &[u8]) -> Option<Bound<'py, PyAny>> {
        Some(match self.begin(body)? {
            Begun::Answer(answer) => PyBytes::new(py, &answer).into_any(),
            Begun::UnderWay(token) => PyInt::new(py, token).into_any(),
        })
    }

    /// Readable while `collect` has something.
    fn fileno(&self) -> i32 {
        self.crew.descriptor()
    }

    /// (token, whether it is answered, the answer or else the message, which is not answered here) of what was under way.
    fn collect<'py>(&self, py: Python<'py>) -> Vec<(u64, bool, Bound<'py, PyBytes>)> {
        let bytes = |Finished { token, answer, body }| match answer {
            Some(answer) => (token, true, PyBytes::new(py, &answer)),
            None => (token, false, PyBytes::new(py, &body)),
        };
        self.crew.collect().into_iter().map(bytes).collect()
    }

    fn cancel(&self, token: u64) {
        self.crew.cancel(token);
    }

    /// Executions that are not finished.
    #[getter]
    fn waiting(&self) -> usize {
        self.crew.waiting()
    }

    /// Give up what is over its time, and the snapshot that is held. To be called every second or so.
    fn sweep(&self) {
        self.crew.expire();
        *self.desk.lock() = None;
    }

    /// End the threads.
    fn close(&self, py: Python<'_>) {
        *self.desk.lock() = None;
        py.detach(|| self.crew.close());
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Responder>()
}
