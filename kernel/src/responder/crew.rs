//! Threads that run what may take long, so that the thread that reads sockets never waits for the EVM.
//!
//! Messages take turns: whoever has worked for a slice on a long batch goes on behind the others. Nothing here touches Python;
//! that something is finished is told by a byte on a socket.

use super::answers::{Bounds, Growing, Outcome, answer_all, run};
use super::newest::Newest;
use super::questions::{self, Body, Rules};
use crate::call::Caller;
use crate::errors::{Error, Result};
use crate::view::Past;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Of work on one message, before others get their turn.
const SLICE: Duration = Duration::from_millis(10);
/// A thread without work lets go of its snapshot after so long.
const IDLE: Duration = Duration::from_millis(500);
/// What a thread that is to end may still take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Accounts and slots that a thread remembers of one block.
pub const MAX_KEPT: usize = 50_000;

/// A message under way.
struct Job {
    token: u64,
    body: Vec<u8>,
    executions: usize,
    deadline: Instant,
    /// None: not begun.
    progress: Mutex<Option<Growing>>,
    /// Answered, timed out, or nobody waits for it any more.
    is_over: AtomicBool,
}

/// What became of a message: its answer, or None with the message, which is Python's to answer.
pub struct Finished {
    pub token: u64,
    pub answer: Option<Vec<u8>>,
    pub body: Vec<u8>,
}

struct Shared {
    rules: Arc<Rules>,
    bounds: Bounds,
    queue: Mutex<Queue>,
    ready: Condvar,
    /// A thread has ended.
    left: Condvar,
    finished: Mutex<Vec<Finished>>,
    bell: UnixStream,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<Job>>,
    is_closed: bool,
    /// Threads that have not ended.
    threads: usize,
}

pub struct Crew {
    shared: Arc<Shared>,
    past: Arc<Past>,
    size: usize,
    max_waiting: usize,
    patience: Duration,
    ear: UnixStream,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    jobs: HashMap<u64, Arc<Job>>,
    last: u64,
    has_threads: bool,
}

impl Crew {
    pub fn new(
        past: Arc<Past>,
        rules: Arc<Rules>,
        bounds: Bounds,
        size: usize,
        max_waiting: usize,
        patience: Duration,
    ) -> Result<Crew> {
        let failed = |e: std::io::Error| Error::unavailable(format!("responder: {e}"));
        let (ear, bell) = UnixStream::pair().map_err(failed)?;
        for end in [&ear, &bell] {
            end.set_nonblocking(true).map_err(failed)?;
        }
        let shared = Arc::new(Shared {
            rules,
            bounds,
            queue: Mutex::default(),
            ready: Condvar::new(),
            left: Condvar::new(),
            finished: Mutex::default(),
            bell,
            waiting: AtomicUsize::new(0),
        });
        Ok(Crew { shared, past, size, max_waiting, patience, ear, under_way: Mutex::default() })
    }

    /// Readable while something is finished.
    pub fn descriptor(&self) -> RawFd {
        self.ear.as_raw_fd()
    }

    /// Executions that are not finished.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Begin to answer a message; the name of its answer. None where too many wait.
    pub fn put(&self, body: &[u8], executions: usize) -> Option<u64> {
        let mut under_way = self.under_way.lock();
        if self.waiting() + executions > self.max_waiting {
            return None;
        }
        if !under_way.has_threads {
            under_way.has_threads = true;
            self.start();
        }
        under_way.last += 1;
        let token = under_way.last;
        self.shared.waiting.fetch_add(executions, Ordering::Relaxed);
        let job = Arc::new(Job {
            token,
            body: body.to_vec(),
            executions,
            deadline: Instant::now() + self.patience,
            progress: Mutex::new(None),
            is_over: AtomicBool::new(false),
        });
        under_way.jobs.insert(token, job.clone());
        self.shared.queue.lock().jobs.push_back(job);
        self.shared.ready.notify_one();
        Some(token)
    }

    /// Nobody waits for this answer any more.
    pub fn cancel(&self, token: u64) {
        if let Some(job) = self.under_way.lock().jobs.remove(&token) {
            job.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// What was finished since.
    pub fn collect(&self) -> Vec<Finished> {
        let mut bytes = [0u8; 64];
        while matches!((&self.ear).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        let finished = std::mem::take(&mut *self.shared.finished.lock());
        let mut under_way = self.under_way.lock();
        // What was given up is nobody's.
        finished.into_iter().filter(|one| under_way.jobs.remove(&one.token).is_some()).collect()
    }

    /// Give up what is over its time, also while a thread is at it; the next `collect` has the answers.
    pub fn expire(&self) {
        let now = Instant::now();
        for job in self.under_way.lock().jobs.values() {
            if job.deadline <= now && !job.is_over.swap(true, Ordering::Relaxed) {
                let answer = questions::read(&job.body, &self.shared.rules)
                    .and_then(|body| answer_all(&body, &self.shared.bounds, |_| Some(Outcome::timed_out())));
                self.shared.tell(Finished { token: job.token, answer, body: job.body.clone() });
            }
        }
    }

    /// End the threads, and give them a moment for what they are at: until then they hold the store.
    pub fn close(&self) {
        self.shared.close();
        let mut queue = self.shared.queue.lock();
        while queue.threads > 0 && !self.shared.left.wait_for(&mut queue, FAREWELL).timed_out() {}
    }

    fn start(&self) {
        for index in 0..self.size {
            let (shared, past) = (self.shared.clone(), self.past.clone());
            let thread = std::thread::Builder::new().name(format!("reads-{index}"));
            let life = move || {
                work(&shared, &past);
                drop(past);
                shared.queue.lock().threads -= 1;
                shared.left.notify_all();
            };
            self.shared.queue.lock().threads += 1;
            if thread.spawn(life).is_err() {
                self.shared.queue.lock().threads -= 1;
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        queue.jobs.clear();
        self.ready.notify_all();
    }

    /// The next job; None after `patience`, or at the end.
    fn take(&self, patience: Option<Duration>) -> Option<Arc<Job>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            match patience {
                None => self.ready.wait(&mut queue),
                Some(patience) => {
                    if self.ready.wait_for(&mut queue, patience).timed_out() {
                        return None;
                    }
                }
            }
        }
    }

    fn tell(&self, finished: Finished) {
        let mut all = self.finished.lock();
        all.push(finished);
        if all.len() == 1 {
            // A full socket rings already.
            let _ = (&self.bell).write(&[0]);
        }
    }

    fn finish(&self, job: &Job, answer: Option<Vec<u8>>) {
        self.waiting.fetch_sub(job.executions, Ordering::Relaxed);
        if !job.is_over.swap(true, Ordering::Relaxed) {
            let body = if answer.is_none() { job.body.clone() } else { Vec::new() };
            self.tell(Finished { token: job.token, answer, body });
        }
    }

    /// Work on a job for a slice, and put it back if it is not done.
    fn advance(&self, job: Arc<Job>, newest: &Newest, caller: &mut Caller<'_>) {
        if job.is_over.load(Ordering::Relaxed) {
            return self.finish(&job, None);
        }
        let Some(body) = questions::read(&job.body, &self.rules) else { return self.finish(&job, None) };
        let begun = job.progress.lock().take();
        let mut growing = begun.unwrap_or_else(|| Growing::new(body.is_batch));
        let until = Instant::now() + SLICE;
        match self.go_on(&job, &body, &mut growing, newest, caller, until) {
            None => self.finish(&job, None),
            Some(true) => self.finish(&job, Some(growing.finish(body.is_batch))),
            Some(false) => {
                *job.progress.lock() = Some(growing);
                self.queue.lock().jobs.push_back(job);
            }
        }
    }

    /// Whether all is answered; None: Python's to answer.
    fn go_on(
        &self,
        job: &Job,
        body: &Body<'_>,
        growing: &mut Growing,
        newest: &Newest,
        caller: &mut Caller<'_>,
        until: Instant,
    ) -> Option<bool> {
        let mut now = Instant::now();
        for asked in &body.items[growing.count()..] {
            if now > until {
                return Some(false);
            }
            let outcome = match asked.question.is_execution() && now > job.deadline {
                true => Outcome::timed_out(),
                false => run(&asked.question, newest, caller, self.bounds.gas_cap)?,
            };
            growing.add(asked, &outcome, body.is_batch, &self.bounds);
            now = Instant::now();
        }
        Some(true)
    }
}

/// The life of a thread.
fn work(shared: &Shared, past: &Arc<Past>) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| shared.take(None)) {
        next = match Newest::open(past) {
            Ok(newest) => serve_block(shared, &newest, job),
            Err(_) => {
                shared.finish(&job, None);
                None
            }
        };
    }
}

/// Do jobs while the block is the newest; the first job of another one.
fn serve_block(shared: &Shared, newest: &Newest, first: Arc<Job>) -> Option<Arc<Job>> {
    let Ok(mut caller) = Caller::new(newest.past().spec(), &newest.state, &newest.header) else {
        shared.finish(&first, None);
        return None;
    };
    let mut job = first;
    loop {
        let present = job.clone();
        if catch_unwind(AssertUnwindSafe(|| shared.advance(job, newest, &mut caller))).is_err() {
            // Whatever went wrong, Python meets it too, and says so.
            shared.finish(&present, None);
            return None;
        }
        job = shared.take(Some(IDLE))?;
        if !newest.is_current() || caller.kept() > MAX_KEPT {
            return Some(job);
        }
    }
}
