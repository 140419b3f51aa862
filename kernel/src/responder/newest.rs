//! The newest block with its state, and a machine over it, kept from one question to the next.

use crate::call::Caller;
use crate::errors::Result;
use crate::state::StateAt;
use crate::view::{At, Moment, Past};
use alloy_consensus::Header;
use std::sync::{Arc, OnceLock};

/// What a store held after one write. It keeps a snapshot open: let go of it when nobody asks.
pub struct Newest {
    past: Arc<Past>,
    version: Option<usize>,
    pub header: Header,
    pub state: StateAt,
    tip: OnceLock<u128>,
}

impl Newest {
    pub fn open(past: &Arc<Past>) -> Result<Newest> {
        let moment = past.now()?;
        let (version, latest) = (moment.version(), At::Height(moment.head()?));
        let header = moment.required_header(latest)?;
        let state = moment.into_state(latest)?;
        Ok(Newest { past: past.clone(), version, header, state, tip: OnceLock::new() })
    }

    /// Whether nothing was written since. A write that only looks like one costs opening it again.
    pub fn is_current(&self) -> bool {
        self.version.is_some() && self.version == self.past.store().version()
    }

    pub fn past(&self) -> &Past {
        &self.past
    }

    /// All blocks, at the newest moment.
    pub fn moment(&self) -> Result<Moment<'_>> {
        self.past.now()
    }

    /// The state at a block: its own, or one that is opened.
    pub fn with_state<T>(&self, at: At, read: impl FnOnce(&StateAt) -> Result<T>) -> Result<T> {
        match at {
            _ if at.is_latest() => read(&self.state),
            _ => read(&self.moment()?.into_state(at)?),
        }
    }

    /// What transactions offered lately on top of the base fee; it is the same until the next block.
    pub fn tip(&self) -> Result<u128> {
        if let Some(tip) = self.tip.get() {
            return Ok(*tip);
        }
        let moment = self.moment()?;
        if moment.version() != self.version {
            return moment.suggest_tip();
        }
        let tip = moment.suggest_tip()?;
        Ok(*self.tip.get_or_init(|| tip))
    }

    pub fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }
}

/// The newest block with a machine for short calls.
pub struct Desk {
    /// Borrows from `newest`. Declared before it, so that it goes first.
    caller: Caller<'static>,
    newest: Arc<Newest>,
}

// SAFETY: a machine shares its memory between its frames by `Rc` and points into code that it holds itself. All of them are
// inside the machine, which moves as a whole, and no call leaves one outside.
unsafe impl Send for Desk {}

impl Desk {
    pub fn new(newest: Arc<Newest>) -> Result<Desk> {
        // SAFETY: what is behind an `Arc` stays where it is as long as there is one, which `newest` is; the caller ends before it,
        // and `caller` gives it out for no longer than the desk is borrowed.
        let held: &'static Newest = unsafe { &*Arc::as_ptr(&newest) };
        let caller = Caller::new(held.past().spec(), &held.state, &held.header)?.with_meter();
        Ok(Desk { caller, newest })
    }

    pub fn newest(&self) -> &Arc<Newest> {
        &self.newest
    }

    pub fn with_caller<T>(&mut self, ask: impl FnOnce(&mut Caller<'_>) -> T) -> T {
        // A machine that is invariant in what it borrows cannot be given out under a shorter name; the closure takes any.
        ask(&mut self.caller)
    }
}
