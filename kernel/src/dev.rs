//! What only networks for development know: commands that are agreed on as transactions are, transactions that nobody signed,
//! and a clock that can be moved. Nothing of it holds unless the genesis file says `config.quorate.dev`.
//!
//! A block with commands stays a block that every tool can decode:
//!
//! * A transaction that nobody signed has a signature all the same: r is its sender's address, s is `UNSIGNED`. Elsewhere such a
//!   signature stands for some address that nobody has the key of, or for none.
//! * A command is such a transaction of type 2 from `DEV` to `DEV`: calldata of the interface below, then eight bytes of salt.
//!   It takes no gas and pays none; its nonce is that of `DEV`, so that it takes effect once.
//! * What a command says of later blocks stands in the header's extraData (`Clock`), since rules of a block follow from the
//!   header before it.
//!
//! The storage of `DEV` lists which heights were reverted: slot 0 is how many spans there are, slot i the i-th one, as
//! (height gone back to << 64 | height of the block that did it). They are disjoint and ascending.

use crate::errors::{Error, Result};
use crate::genesis::{ChainSpec, Gas, MAX_GAS_LIMIT, MIN_GAS_LIMIT};
use crate::rules::Fork;
use crate::transaction::{Envelope, MAX_BYTES, MAX_INIT_CODE, Refusal, Transaction};
use crate::types::StateRead;
use alloy_consensus::transaction::SignableTransaction;
use alloy_consensus::{Header, Transaction as _, TxEip1559, TypedTransaction};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, keccak256};
use alloy_rpc_types_eth::TransactionRequest;
use std::sync::LazyLock;

/// Whom commands are from and for.
pub const DEV: Address = address!("0000000000000000000000000000000000001001");
/// The contract that holds the validators.
const VALIDATORS: Address = address!("0000000000000000000000000000000000001000");
/// In place of s, in ASCII; low, as of every valid signature (EIP-2).
const UNSIGNED: &[u8; 32] = b"quorate dev: nobody signed this.";
const SALT_BYTES: usize = 8;
/// In one payload.
pub const MAX_COMMANDS: usize = 64;
/// Of one command, and of all that wait.
pub const MAX_MINED: u64 = 4_096;
/// Seconds; beyond it, dates no longer fit most programs.
pub const MAX_TIME: u64 = 1 << 40;
/// Wei; an ether for each gas. Far above it, what follows from it by EIP-1559 is no number of 64 bits.
pub const MAX_FEE: u64 = 1_000_000_000_000_000_000;
/// Seconds between blocks that are made at an interval.
pub const MAX_PACE: u64 = 86_400;

/// A transaction of nobody's, with whom it claims as its sender.
pub fn unsigned_sender(envelope: &Envelope) -> Option<Address> {
    let signature = envelope.signature();
    let r = signature.r().to_be_bytes::<32>();
    (signature.s() == U256::from_be_bytes(*UNSIGNED) && r[..12] == [0; 12]).then(|| Address::from_slice(&r[12..]))
}

fn unsigned(sender: Address) -> Signature {
    Signature::new(U256::from_be_slice(sender.as_slice()), U256::from_be_bytes(*UNSIGNED), false)
}

/// Of a transaction whose sender was found by the rules of a network for development.
pub fn is_command(tx: &Transaction) -> bool {
    tx.sender == DEV && unsigned_sender(&tx.envelope) == Some(DEV)
}

// ---- commands

/// What a command does. Times are seconds, money is wei.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    SetBalance {
        account: Address,
        balance: U256,
    },
    SetNonce {
        account: Address,
        nonce: u64,
    },
    SetCode {
        account: Address,
        code: Bytes,
    },
    SetStorageAt {
        account: Address,
        slot: U256,
        value: U256,
    },
    IncreaseTime {
        seconds: u64,
    },
    SetTime {
        timestamp: u64,
    },
    SetNextBlockTimestamp {
        timestamp: u64,
    },
    SetNextBlockBaseFeePerGas {
        fee: u64,
    },
    SetBlockGasLimit {
        gas_limit: u64,
    },
    Mine {
        blocks: u64,
        interval: u64,
    },
    RevertTo {
        height: u64,
    },
    DropTransaction {
        hash: B256,
    },
    /// Whether transactions wait for `Mine`, and how many seconds apart somebody asks for one; 0: nobody promises to.
    SetMining {
        waits: bool,
        pace: u64,
    },
}

/// Name and types of each command, in the order of `Command`.
const INTERFACE: [&str; 13] = [
    "setBalance(address,uint256)",
    "setNonce(address,uint64)",
    "setCode(address,bytes)",
    "setStorageAt(address,bytes32,bytes32)",
    "increaseTime(uint64)",
    "setTime(uint64)",
    "setNextBlockTimestamp(uint64)",
    "setNextBlockBaseFeePerGas(uint64)",
    "setBlockGasLimit(uint64)",
    "mine(uint64,uint64)",
    "revertTo(uint64)",
    "dropTransaction(bytes32)",
    "setMining(bool,uint64)",
];
const SET_CODE: usize = 2;
/// What a command that took no effect leaves in its receipt.
pub static REFUSED: LazyLock<B256> = LazyLock::new(|| keccak256("Refused(string)"));

static SELECTORS: LazyLock<[[u8; 4]; 13]> = LazyLock::new(|| {
    INTERFACE.map(|signature| {
        let hash = keccak256(signature);
        [hash[0], hash[1], hash[2], hash[3]]
    })
});

fn name_of(index: usize) -> &'static str {
    INTERFACE[index].split('(').next().unwrap_or_default()
}

/// The words of the arguments, and the code of `setCode`.
struct Words<'a> {
    name: &'static str,
    words: Vec<&'a [u8]>,
}

impl Words<'_> {
    fn number(&self, index: usize) -> U256 {
        U256::from_be_slice(self.words[index])
    }

    fn u64(&self, index: usize) -> std::result::Result<u64, Refusal> {
        u64::try_from(self.number(index))
            .map_err(|_| format!("{}: {}, expected less than 2^64", self.name, self.number(index)))
    }

    fn bool(&self, index: usize) -> std::result::Result<bool, Refusal> {
        match self.u64(index)? {
            value @ (0 | 1) => Ok(value == 1),
            value => Err(format!("{}: {value}, expected 0 or 1", self.name)),
        }
    }

    fn address(&self, index: usize) -> std::result::Result<Address, Refusal> {
        match self.words[index].split_at(12) {
            (zeros, address) if zeros.iter().all(|byte| *byte == 0) => Ok(Address::from_slice(address)),
            _ => Err(format!("{}: {:#x}, expected an address", self.name, self.number(index))),
        }
    }
}

impl Command {
    /// Read calldata, salt included.
    pub fn decode(data: &[u8]) -> std::result::Result<Command, Refusal> {
        let selector = data.get(..4).unwrap_or_default();
        let index = SELECTORS.iter().position(|known| known == selector);
        let index = index.ok_or_else(|| {
            format!("dev command: selector 0x{}, expected a known one", alloy_primitives::hex::encode(selector))
        })?;
        let name = name_of(index);
        let body = &data[4..data.len().saturating_sub(SALT_BYTES).max(4)];
        let count = INTERFACE[index].matches(',').count() + 1;
        let expected = format!("{name}: {} bytes, expected {count} words and {SALT_BYTES} bytes of salt", data.len());
        if data.len() < 4 + SALT_BYTES || body.len() < 32 * count || (index != SET_CODE && body.len() != 32 * count) {
            return Err(expected);
        }
        let words = Words { name, words: body.chunks_exact(32).take(count).collect() };
        Ok(match index {
            0 => Command::SetBalance { account: words.address(0)?, balance: words.number(1) },
            1 => Command::SetNonce { account: words.address(0)?, nonce: words.u64(1)? },
            SET_CODE => Command::SetCode { account: words.address(0)?, code: read_code(body).ok_or(expected)? },
            3 => Command::SetStorageAt { account: words.address(0)?, slot: words.number(1), value: words.number(2) },
            4 => Command::IncreaseTime { seconds: words.u64(0)? },
            5 => Command::SetTime { timestamp: words.u64(0)? },
            6 => Command::SetNextBlockTimestamp { timestamp: words.u64(0)? },
            7 => Command::SetNextBlockBaseFeePerGas { fee: words.u64(0)? },
            8 => Command::SetBlockGasLimit { gas_limit: words.u64(0)? },
            9 => Command::Mine { blocks: words.u64(0)?, interval: words.u64(1)? },
            10 => Command::RevertTo { height: words.u64(0)? },
            11 => Command::DropTransaction { hash: B256::from_slice(words.words[0]) },
            _ => Command::SetMining { waits: words.bool(0)?, pace: words.u64(1)? },
        })
    }

    /// What holds for a command anywhere in the chain.
    fn validate(&self, spec: &ChainSpec) -> std::result::Result<(), Refusal> {
        match self {
            Command::SetBalance { account, .. }
            | Command::SetNonce { account, .. }
            | Command::SetCode { account, .. }
            | Command::SetStorageAt { account, .. }
                if *account == DEV || *account == VALIDATORS =>
            {
                let what = if *account == DEV { "keeps the books of dev commands" } else { "says who agrees" };
                Err(format!("account {account} {what}, and changes by its own rules only"))
            }
            Command::SetNonce { nonce: u64::MAX, .. } => Err("nonce has max value".into()),
            Command::SetCode { code, .. } if code.len() > MAX_INIT_CODE => {
                Err(format!("code of {} bytes, expected at most {MAX_INIT_CODE}", code.len()))
            }
            Command::SetCode { code, .. } if revm::bytecode::Bytecode::new_raw_checked(code.clone()).is_err() => {
                Err("code begins with 0xef01 and is no delegation (EIP-7702)".into())
            }
            Command::IncreaseTime { seconds: time }
            | Command::SetTime { timestamp: time }
            | Command::SetNextBlockTimestamp { timestamp: time }
            | Command::Mine { interval: time, .. }
                if *time > MAX_TIME =>
            {
                Err(format!("time {time} s, expected at most {MAX_TIME}"))
            }
            Command::SetNextBlockBaseFeePerGas { fee } if *fee > 0 && spec.gas == Gas::Free => {
                Err(format!("base fee {fee}, expected 0 where gas is free"))
            }
            Command::SetNextBlockBaseFeePerGas { fee } if *fee > MAX_FEE => {
                Err(format!("base fee {fee}, expected at most {MAX_FEE}"))
            }
            Command::SetBlockGasLimit { gas_limit } if !(MIN_GAS_LIMIT..=MAX_GAS_LIMIT).contains(gas_limit) => {
                Err(format!("gas limit {gas_limit}, expected {MIN_GAS_LIMIT} to {MAX_GAS_LIMIT}"))
            }
            Command::Mine { blocks, .. } if !(1..=MAX_MINED).contains(blocks) => {
                Err(format!("{blocks} blocks, expected 1 to {MAX_MINED} at a time"))
            }
            Command::SetMining { pace, .. } if *pace > MAX_PACE => {
                Err(format!("a block each {pace} s, expected at most {MAX_PACE}"))
            }
            _ => Ok(()),
        }
    }

    /// Of a transaction of `DEV`. Where it is no sound command, why.
    pub fn of(spec: &ChainSpec, tx: &Transaction) -> std::result::Result<Command, Refusal> {
        let envelope = &tx.envelope;
        let Envelope::Eip1559(signed) = envelope else { return Err("dev command: expected type 2".into()) };
        let fields = signed.tx();
        let pays = fields.gas_limit > 0 || fields.max_fee_per_gas > 0 || !fields.value.is_zero();
        if fields.chain_id != spec.chain_id || fields.to != TxKind::Call(DEV) || pays || !fields.access_list.is_empty()
        {
            return Err(format!(
                "account {DEV}: sends commands to itself only, without gas, fees, value and access list"
            ));
        }
        let command = Command::decode(envelope.input())?;
        command.validate(spec)?;
        Ok(command)
    }

    /// Whether the block that holds it counts as one that somebody wanted, and time goes on.
    pub fn makes_a_block(&self) -> bool {
        matches!(self, Command::Mine { .. })
    }
}

/// The code after the two words of `setCode`, padded with zeros to a whole word.
fn read_code(body: &[u8]) -> Option<Bytes> {
    let length = usize::try_from(U256::from_be_slice(body.get(64..96)?)).ok()?;
    let rest = body.get(96..)?;
    let is_padded = rest.len() == length.checked_next_multiple_of(32)?;
    let starts = U256::from_be_slice(&body[32..64]) == U256::from(64);
    (starts && is_padded && rest[length..].iter().all(|byte| *byte == 0))
        .then(|| Bytes::copy_from_slice(&rest[..length]))
}

/// The raw transaction of a command: its name, and its arguments as big-endian numbers of at most 32 bytes, or the code.
pub fn encode_command(
    spec: &ChainSpec,
    nonce: u64,
    salt: [u8; SALT_BYTES],
    name: &str,
    arguments: &[Vec<u8>],
) -> Result<Bytes> {
    let index = (0..INTERFACE.len()).find(|index| name_of(*index) == name);
    let index = index.ok_or_else(|| Error::invalid(format!("dev command {name:?}: not known")))?;
    let mut data = SELECTORS[index].to_vec();
    for (place, argument) in arguments.iter().enumerate() {
        if index == SET_CODE && place == 1 {
            data.extend_from_slice(&U256::from(64).to_be_bytes::<32>());
            data.extend_from_slice(&U256::from(argument.len()).to_be_bytes::<32>());
            data.extend_from_slice(argument);
            data.resize(data.len() + argument.len().next_multiple_of(32) - argument.len(), 0);
        } else if argument.len() > 32 {
            return Err(Error::invalid(format!("{name}: {} bytes, expected at most 32", argument.len())));
        } else {
            data.extend_from_slice(B256::left_padding_from(argument).as_slice());
        }
    }
    data.extend_from_slice(&salt);
    Command::decode(&data).and_then(|command| command.validate(spec)).map_err(Error::rejected)?;
    let tx =
        TxEip1559 { chain_id: spec.chain_id, nonce, to: TxKind::Call(DEV), input: data.into(), ..Default::default() };
    let raw: Bytes = tx.into_signed(unsigned(DEV)).encoded_2718().into();
    if raw.len() > MAX_BYTES {
        return Err(Error::rejected(format!("oversized data: transaction size {}, limit {MAX_BYTES}", raw.len())));
    }
    Ok(raw)
}

/// The raw transaction, signed by nobody, of a request that names all fields, its sender among them.
pub fn impersonate(spec: &ChainSpec, request: &[u8]) -> Result<Bytes> {
    let request: TransactionRequest = serde_json::from_slice(request)
        .map_err(|e| Error::invalid(format!("transaction: {e}, expected hex fields of a transaction")))?;
    let sender = request.from.ok_or_else(|| Error::rejected("from not specified"))?;
    if sender == DEV {
        return Err(Error::rejected(format!("account {DEV} sends dev commands only")));
    }
    let mut request = request;
    request.chain_id = Some(spec.chain_id);
    // Without `to`, a contract is made.
    request.to = Some(request.to.unwrap_or(TxKind::Create));
    let typed = request.build_consensus_tx().map_err(|e| Error::rejected(format!("transaction: {}", e.error)))?;
    let signature = unsigned(sender);
    let envelope = match typed {
        TypedTransaction::Legacy(tx) => Envelope::from(tx.into_signed(signature)),
        TypedTransaction::Eip2930(tx) => tx.into_signed(signature).into(),
        TypedTransaction::Eip1559(tx) => tx.into_signed(signature).into(),
        TypedTransaction::Eip7702(tx) => tx.into_signed(signature).into(),
        TypedTransaction::Eip4844(_) => return Err(Error::rejected(crate::transaction::UNSUPPORTED)),
    };
    Ok(envelope.encoded_2718().into())
}

// ---- the clock

/// What a header says of the blocks after it; all zeros is told by an empty extraData.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// Seconds that timestamps of blocks are ahead of what was agreed on.
    pub offset: i64,
    /// The next block's timestamp; 0: by the clock.
    pub next_time: u64,
    /// The next block's base fee + 1; 0: by EIP-1559.
    pub next_fee: u64,
    /// Blocks that are still to be made, whether or not anything waits.
    pub left: u16,
    /// Seconds from each of them to the next; 0: by the clock.
    pub interval: u64,
    /// Whether transactions wait until blocks are asked for.
    pub waits: bool,
    /// Seconds after which somebody asks for the next one; 0: nobody promised to.
    pub pace: u64,
}

const CLOCK_MARK: u8 = 0xde;
/// As many as extraData may have.
const CLOCK_BYTES: usize = 1 + 6 + 6 + 8 + 2 + 6 + 3;
const WAITS: u64 = 1 << 23;

impl Clock {
    pub fn after(spec: &ChainSpec, header: &Header) -> Clock {
        let bytes: &[u8] = &header.extra_data;
        if !spec.dev || bytes.len() != CLOCK_BYTES || bytes[0] != CLOCK_MARK {
            return Clock::default();
        }
        let number = |from: usize, to: usize| bytes[from..to].iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let mining = number(29, 32);
        Clock {
            // Of 48 bits, the first of which is the sign.
            offset: (number(1, 7) << 16).cast_signed() >> 16,
            next_time: number(7, 13),
            next_fee: number(13, 21),
            left: number(21, 23) as u16,
            interval: number(23, 29),
            waits: mining & WAITS != 0,
            pace: mining & !WAITS,
        }
    }

    pub fn encode(&self) -> Bytes {
        if *self == Clock::default() {
            return Bytes::new();
        }
        let mining = self.pace | if self.waits { WAITS } else { 0 };
        let mut out = vec![CLOCK_MARK];
        out.extend_from_slice(&self.offset.to_be_bytes()[2..]);
        out.extend_from_slice(&self.next_time.to_be_bytes()[2..]);
        out.extend_from_slice(&self.next_fee.to_be_bytes());
        out.extend_from_slice(&self.left.to_be_bytes());
        out.extend_from_slice(&self.interval.to_be_bytes()[2..]);
        out.extend_from_slice(&mining.to_be_bytes()[5..]);
        out.into()
    }

    pub fn base_fee(&self) -> Option<u64> {
        self.next_fee.checked_sub(1)
    }

    /// Timestamp of a block that counts, agreed on at `seconds`; the clock goes on from there.
    pub fn strike(&mut self, seconds: u64, before: u64) -> u64 {
        let time = match *self {
            Clock { next_time, .. } if next_time > 0 => next_time,
            Clock { left, interval, .. } if left > 0 && interval > 0 => {
                before.saturating_add(interval).min(MAX_TIME).max(before)
            }
            Clock { offset, .. } => return self.tick(seconds.saturating_add_signed(offset).max(before)),
        };
        self.set(seconds, time);
        self.tick(time)
    }

    fn tick(&mut self, time: u64) -> u64 {
        (self.next_time, self.next_fee) = (0, 0);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.interval = 0;
        }
        time
    }

    /// Let it be `time` when `seconds` are agreed on.
    pub fn set(&mut self, seconds: u64, time: u64) {
        self.offset = (time as i64).saturating_sub(seconds as i64);
    }
}

// ---- what was reverted

/// The spans of heights that were reverted, as the storage of `DEV` lists them.
pub struct Reverted<'a> {
    state: &'a dyn StateRead,
    count: u64,
}

impl<'a> Reverted<'a> {
    pub fn read(state: &'a dyn StateRead) -> Result<Reverted<'a>> {
        let count = state.storage(&DEV, &U256::ZERO)?;
        Ok(Reverted { state, count: count.saturating_to() })
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// (height gone back to, height of the block that did it) of the span with a number, from 1 on.
    pub fn span(&self, number: u64) -> Result<(u64, u64)> {
        let packed = self.state.storage(&DEV, &U256::from(number))?;
        let limbs = packed.as_limbs();
        Ok((limbs[1], limbs[0]))
    }

    pub fn pack(back_to: u64, by: u64) -> U256 {
        U256::from_limbs([by, back_to, 0, 0])
    }

    /// Whether what the block at a height did was undone.
    pub fn holds(&self, height: u64) -> Result<bool> {
        // The first span whose end lies above the height is the only one that can hold it.
        let (mut low, mut high) = (1, self.count + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.span(middle)?.1 > height {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low <= self.count && self.span(low)?.0 < height)
    }
}

/// What `check` looks at in a transaction of a network for development; None for one of the usual kind.
pub fn judge(spec: &ChainSpec, tx: &Transaction) -> Option<std::result::Result<Command, Refusal>> {
    (spec.dev && is_command(tx)).then(|| Command::of(spec, tx))
}

/// Accounts that a revert leaves as they are, since the chain goes on: who agrees, what was reverted, and the history of
/// blocks (EIP-2935, EIP-4788), as far as the fork has it.
pub fn kept_accounts(fork: Fork) -> Vec<Address> {
    let mut kept = vec![VALIDATORS, DEV];
    if fork >= Fork::Prague {
        kept.push(alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS);
    }
    if fork >= Fork::Cancun {
        kept.push(alloy_eips::eip4788::BEACON_ROOTS_ADDRESS);
    }
    kept.sort_unstable();
    kept
}
