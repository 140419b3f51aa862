//! Runs that give up after a given amount of work, whatever their gas: for the thread that must not be held up.
//!
//! A gas limit would not do, since a program sees how much it has. So the gas that is used is counted beside: at every jump
//! destination, without which nothing repeats, and at every instruction that does much for its bytes of code. What one frame
//! uses counts again in the frame that called it, so that the count is never below the truth by more than one such step. Creations
//! and the precompiles whose one call may take long are not begun.

use super::Overlay;
use crate::errors::Error;
use revm::bytecode::opcode;
use revm::context::{ContextTr, JournalTr};
use revm::context_interface::context::ContextError;
use revm::handler::MainnetContext;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::{
    Instruction, InstructionContext, InstructionExecResult, InstructionResult, Interpreter, instruction_table,
};

/// More than it costs in time to look up the hash of an ancestor, which costs little gas.
const LOOK_UP_GAS: u64 = 1_000;
/// The precompiles up to this one take a time in proportion to their small price.
const LAST_QUICK_PRECOMPILE: u64 = 4;

/// What may still be used.
#[derive(Debug, Default)]
pub struct Meter {
    left: u64,
    is_exhausted: bool,
    /// Gas that was counted of each frame, by depth.
    counted: Vec<u64>,
}

impl Meter {
    pub fn start(&mut self, gas: u64) {
        self.left = gas;
        self.is_exhausted = false;
        self.counted.clear();
    }

    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Count what a frame has used by now.
    fn count(&mut self, depth: usize, used: u64) -> bool {
        if self.counted.len() <= depth {
            self.counted.resize(depth + 1, 0);
        }
        // A frame that is called again begins anew.
        let more = used.checked_sub(self.counted[depth]).unwrap_or(used);
        self.counted[depth] = used;
        self.take(more)
    }

    fn take(&mut self, gas: u64) -> bool {
        match self.left.checked_sub(gas) {
            Some(left) => self.left = left,
            None => self.is_exhausted = true,
        }
        !self.is_exhausted
    }

    /// A new frame will be one deeper.
    fn enter(&mut self, depth: usize) {
        self.counted.truncate(depth + 1);
    }
}

type Host<'a> = MainnetContext<Overlay<'a>>;
type Table<'a> = [Instruction<EthInterpreter, Host<'a>>; 256];
type At<'c, 'a> = InstructionContext<'c, Host<'a>, EthInterpreter>;

/// Let a machine's instructions use its overlay's meter.
pub fn install(table: &mut Table<'_>) {
    macro_rules! replace {
        ($with:ident: $($name:ident)*) => {
            $(table[opcode::$name as usize] = Instruction::new($with::<{ opcode::$name as usize }>);)*
        };
    }
    replace!(metered: JUMPDEST KECCAK256 SLOAD SSTORE BALANCE EXTCODESIZE EXTCODEHASH EXTCODECOPY EXP MCOPY);
    replace!(metered: CALLDATACOPY CODECOPY RETURNDATACOPY LOG0 LOG1 LOG2 LOG3 LOG4);
    replace!(looked_up: BLOCKHASH);
    replace!(calling: CALL CALLCODE DELEGATECALL STATICCALL);
    replace!(refused: CREATE CREATE2 SELFDESTRUCT);
}

fn plain<const OP: usize>(interpreter: &mut Interpreter<EthInterpreter>, host: &mut Host<'_>) -> InstructionExecResult {
    instruction_table()[OP].execute(InstructionContext { interpreter, host })
}

fn metered<const OP: usize>(context: At<'_, '_>) -> InstructionExecResult {
    let InstructionContext { interpreter, host } = context;
    plain::<OP>(interpreter, host)?;
    count(interpreter, host)
}

fn looked_up<const OP: usize>(context: At<'_, '_>) -> InstructionExecResult {
    let InstructionContext { interpreter, host } = context;
    if !host.db_mut().meter.take(LOOK_UP_GAS) {
        return give_up(host);
    }
    plain::<OP>(interpreter, host)
}

fn calling<const OP: usize>(context: At<'_, '_>) -> InstructionExecResult {
    let InstructionContext { interpreter, host } = context;
    count(interpreter, host)?;
    let to = interpreter.stack.peek(1)?;
    // Precompiles have small numbers for addresses; the upper bytes of the word are not looked at.
    let limbs = to.as_limbs();
    let is_slow = limbs[0] > LAST_QUICK_PRECOMPILE && limbs[0] <= u64::from(u16::MAX);
    if is_slow && limbs[1] == 0 && limbs[2] as u32 == 0 {
        return give_up(host);
    }
    let depth = host.journal().depth();
    host.db_mut().meter.enter(depth);
    plain::<OP>(interpreter, host)
}

fn refused<const OP: usize>(context: At<'_, '_>) -> InstructionExecResult {
    give_up(context.host)
}

fn count(interpreter: &Interpreter<EthInterpreter>, host: &mut Host<'_>) -> InstructionExecResult {
    let used = interpreter.gas.limit().saturating_sub(interpreter.gas.remaining());
    let depth = host.journal().depth();
    if host.db_mut().meter.count(depth, used) { Ok(()) } else { give_up(host) }
}

#[cold]
fn give_up(host: &mut Host<'_>) -> InstructionExecResult {
    host.db_mut().meter.is_exhausted = true;
    host.error = Err(ContextError::Db(Error::unavailable("the call takes longer, expected a short one")));
    Err(InstructionResult::FatalExternalError)
}
