//! How much a trace may keep. Gas alone would allow a thousand times the memory of a machine.

use crate::errors::{Error, Result};
use alloy_primitives::map::{AddressMap, HashSet};
use alloy_primitives::{Address, Log, U256};
use alloy_rpc_types_trace::geth::{
    GethDebugBuiltInTracerType as BuiltIn, GethDebugTracerType as Tracer, GethDebugTracingOptions as GethOptions,
};
use alloy_rpc_types_trace::parity::TraceType;
use revm::Inspector;
use revm::bytecode::opcode;
use revm::context::{ContextTr, Database};
use revm::handler::FrameResult;
use revm::inspector::JournalExt;
use revm::interpreter::interpreter_types::{InputsTr, Jumps, LegacyBytecode, LoopControl, MemoryTr, ReturnData};
use revm::interpreter::{
    CallInputs, CallOutcome, CreateInputs, CreateOutcome, FrameInput, InstructionResult, Interpreter, InterpreterAction,
};
use revm::state::EvmState;

/// What the tracers of one answer may keep. Answers longer than this would be refused by JSON-RPC anyway.
pub const MAX_KEPT_BYTES: u64 = 32 << 20;
/// What a step takes beside its stack and the like.
const STEP_BYTES: usize = 128;
/// What a call takes beside its input and output, and a log beside its data.
const CALL_BYTES: usize = 512;
/// A slot of storage with its value.
const SLOT_BYTES: usize = 64;
const ACCOUNT_BYTES: usize = 128;
/// Gas for a word that is copied; together with what is left of it a bound of what can be copied.
const COPY_GAS: u64 = 3;

/// Which parts of each step a tracer keeps.
#[derive(Debug, Clone, Copy, Default)]
struct Steps {
    /// How many steps; the tracer does not see later ones.
    limit: u64,
    stack: bool,
    /// The whole memory.
    memory: bool,
    /// What the last call returned.
    returned: bool,
    /// All slots of the contract that were touched so far.
    storage: bool,
    /// What the step wrote, and the code of each call.
    writes: bool,
}

/// What a tracer shows of accounts that are touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accounts {
    Nothing,
    /// Code where it is new or goes.
    Changes,
    /// All code.
    Whole,
}

/// What a tracer keeps of an execution, and how much of it is left to keep. Cuts an execution off that keeps too much.
#[derive(Debug)]
pub struct Budget {
    steps: Steps,
    /// The input and output of each call.
    calls: bool,
    accounts: Accounts,
    /// Slots that were touched, in this transaction.
    slots: AddressMap<HashSet<U256>>,
    /// None once it was too much.
    left: Option<u64>,
}

impl Budget {
    fn new(steps: Steps, calls: bool, accounts: Accounts) -> Budget {
        Budget { steps, calls, accounts, slots: AddressMap::default(), left: Some(MAX_KEPT_BYTES) }
    }

    /// Of a tracer that keeps only what gas bounds well, such as an access list.
    pub fn nothing() -> Budget {
        Budget::new(Steps::default(), false, Accounts::Nothing)
    }

    pub fn of_calls() -> Budget {
        Budget::new(Steps::default(), true, Accounts::Nothing)
    }

    pub fn of_geth(options: &GethOptions) -> Budget {
        let config = &options.config;
        let all = Steps { limit: u64::MAX, stack: true, memory: true, ..Steps::default() };
        // A tracer without a name is none.
        match options.tracer.as_ref().filter(|tracer| !tracer.as_str().is_empty()) {
            None => {
                let limit = config.limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX);
                let stack = !config.disable_stack.unwrap_or_default();
                let storage = !config.disable_storage.unwrap_or_default();
                let (memory, returned) = (config.is_memory_enabled(), config.is_return_data_enabled());
                Budget::new(Steps { limit, stack, memory, returned, storage, writes: false }, true, Accounts::Nothing)
            }
            Some(Tracer::BuiltInTracer(BuiltIn::FourByteTracer | BuiltIn::CallTracer | BuiltIn::FlatCallTracer)) => {
                Budget::of_calls()
            }
            Some(Tracer::BuiltInTracer(BuiltIn::NoopTracer | BuiltIn::StateGasTracer)) => Budget::nothing(),
            Some(Tracer::BuiltInTracer(BuiltIn::PreStateTracer)) => {
                let config = options.tracer_config.clone().into_pre_state_config().unwrap_or_default();
                let is_part = config.is_diff_mode() || !config.code_enabled();
                Budget::new(Steps::default(), true, if is_part { Accounts::Changes } else { Accounts::Whole })
            }
            Some(Tracer::BuiltInTracer(BuiltIn::MuxTracer)) => Budget::new(Steps::default(), true, Accounts::Whole),
            Some(_) => Budget::new(all, true, Accounts::Whole),
        }
    }

    pub fn of_parity(types: &HashSet<TraceType>) -> Budget {
        let mut budget = Budget::of_calls();
        budget.turn_to(types);
        budget
    }

    /// Use what is left for a trace of these types.
    pub fn turn_to(&mut self, types: &HashSet<TraceType>) {
        let limit = if types.contains(&TraceType::VmTrace) { u64::MAX } else { 0 };
        self.steps = Steps { limit, writes: true, ..Steps::default() };
        self.accounts = match types.contains(&TraceType::StateDiff) {
            true => Accounts::Changes,
            false => Accounts::Nothing,
        };
    }

    fn keep(&mut self, bytes: usize) {
        self.left = self.left.and_then(|left| left.checked_sub(bytes as u64));
    }

    /// Count what a transaction left, and raise Rejected if that and all before was too much.
    pub fn settle(&mut self, state: &EvmState) -> Result<()> {
        self.slots.clear();
        if self.accounts != Accounts::Nothing {
            for account in state.values() {
                let is_shown = self.accounts == Accounts::Whole || account.is_created() || account.is_selfdestructed();
                let code = account.info.code.as_ref().filter(|_| is_shown).map_or(0, |code| code.len());
                self.keep(ACCOUNT_BYTES + code + SLOT_BYTES * account.storage.len());
            }
        }
        match self.left {
            Some(_) => Ok(()),
            None => Err(Error::rejected(format!("trace: more than {MAX_KEPT_BYTES} bytes of steps and calls"))),
        }
    }

    fn keep_step(&mut self, interpreter: &Interpreter) {
        let steps = self.steps;
        let mut bytes = STEP_BYTES;
        if steps.stack {
            bytes += 32 * interpreter.stack.len();
        }
        if steps.memory {
            bytes += interpreter.memory.size();
        }
        if steps.returned {
            bytes += interpreter.return_data.buffer().len();
        }
        if steps.writes {
            bytes += count_written(interpreter);
        }
        if steps.storage
            && matches!(interpreter.bytecode.opcode(), opcode::SLOAD | opcode::SSTORE)
            && let Ok(slot) = interpreter.stack.peek(0)
        {
            let slots = self.slots.entry(interpreter.input.target_address()).or_default();
            slots.insert(slot);
            bytes += SLOT_BYTES * slots.len();
        }
        self.keep(bytes);
    }
}

/// How much of memory the next step writes; more than it has gas for it cannot.
fn count_written(interpreter: &Interpreter) -> usize {
    let length = match interpreter.bytecode.opcode() {
        opcode::MSTORE => return 32,
        opcode::MSTORE8 => return 1,
        opcode::MCOPY | opcode::CALLDATACOPY | opcode::CODECOPY | opcode::RETURNDATACOPY => 2,
        opcode::EXTCODECOPY => 3,
        opcode::DELEGATECALL | opcode::STATICCALL => 5,
        opcode::CALL | opcode::CALLCODE => 6,
        _ => return 0,
    };
    let length = interpreter.stack.peek(length).unwrap_or_default();
    let most = interpreter.gas.remaining() / COPY_GAS * 32 + 32;
    length.min(U256::from(most)).to()
}

/// A tracer that sees an execution as long as there is something left of its budget.
pub struct Bounded<'b, I> {
    pub budget: &'b mut Budget,
    pub tracer: I,
    /// Steps that the tracer keeps of this transaction.
    left: u64,
    /// Whether the tracer saw the step that ends next.
    is_seen: bool,
}

impl<'b, I> Bounded<'b, I> {
    pub fn new(budget: &'b mut Budget, tracer: I) -> Bounded<'b, I> {
        let left = budget.steps.limit;
        Bounded { budget, tracer, left, is_seen: true }
    }
}

impl<CTX: ContextTr<Journal: JournalExt, Db: Database>, I: Inspector<CTX>> Inspector<CTX> for Bounded<'_, I> {
    fn initialize_interp(&mut self, interpreter: &mut Interpreter, context: &mut CTX) {
        if self.budget.steps.writes && self.left > 0 {
            self.budget.keep(interpreter.bytecode.bytecode_len());
        }
        self.tracer.initialize_interp(interpreter, context);
    }

    fn step(&mut self, interpreter: &mut Interpreter, context: &mut CTX) {
        if self.left > 0 {
            self.left -= 1;
            self.budget.keep_step(interpreter);
        } else {
            self.is_seen = self.budget.steps.limit == 0;
        }
        if self.budget.left.is_none() {
            self.is_seen = false;
            let gas = interpreter.gas;
            interpreter.bytecode.set_action(InterpreterAction::new_halt(InstructionResult::OutOfGas, gas));
        } else if self.is_seen {
            self.tracer.step(interpreter, context);
        }
    }

    fn step_end(&mut self, interpreter: &mut Interpreter, context: &mut CTX) {
        if self.is_seen {
            self.tracer.step_end(interpreter, context);
        }
    }

    fn log(&mut self, context: &mut CTX, log: Log) {
        if self.budget.calls {
            self.budget.keep(CALL_BYTES + log.data.data.len());
        }
        self.tracer.log(context, log);
    }

    fn log_full(&mut self, interpreter: &mut Interpreter, context: &mut CTX, log: Log) {
        if self.budget.calls {
            self.budget.keep(CALL_BYTES + log.data.data.len());
        }
        self.tracer.log_full(interpreter, context, log);
    }

    fn call(&mut self, context: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        if self.budget.calls {
            self.budget.keep(CALL_BYTES + inputs.input.len());
        }
        self.tracer.call(context, inputs)
    }

    fn call_end(&mut self, context: &mut CTX, inputs: &CallInputs, outcome: &mut CallOutcome) {
        if self.budget.calls {
            self.budget.keep(outcome.result.output.len());
        }
        self.tracer.call_end(context, inputs, outcome);
    }

    fn create(&mut self, context: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        if self.budget.calls {
            self.budget.keep(CALL_BYTES + inputs.init_code().len());
        }
        self.tracer.create(context, inputs)
    }

    fn create_end(&mut self, context: &mut CTX, inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        if self.budget.calls {
            self.budget.keep(outcome.result.output.len());
        }
        self.tracer.create_end(context, inputs, outcome);
    }

    fn frame_start(&mut self, context: &mut CTX, input: &mut FrameInput) -> Option<FrameResult> {
        self.tracer.frame_start(context, input)
    }

    fn frame_end(&mut self, context: &mut CTX, input: &FrameInput, result: &mut FrameResult) {
        self.tracer.frame_end(context, input, result);
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.tracer.selfdestruct(contract, target, value);
    }
}
