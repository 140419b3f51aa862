//! The bytes of JSON-RPC answers: equal to those that Python would give.

use super::newest::Newest;
use super::questions::{Asked, Body, Execution, Question};
use crate::call::{self, Caller};
use crate::codec::decode_body;
use crate::errors::{Error, Result};
use crate::json::{Place, block_value, included_transaction, receipts_value, to_bytes};
use crate::types::StateRead;
use crate::view::At;
use alloy_primitives::{Bytes, U256, hex};
use serde_json::json;
use std::io::Write;

const REVERTED: i64 = 3;
const SERVER: i64 = -32_000;
const TIMED_OUT: i64 = -32_002;
const TOO_LARGE: i64 = -32_003;

/// What answers are held to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub max_response_bytes: usize,
    pub gas_cap: u64,
}

/// What one request gives: the JSON of its result, or of its error object.
pub enum Outcome {
    Result(Vec<u8>),
    Failure(Vec<u8>),
}

impl Outcome {
    fn failure(code: i64, message: &str) -> Outcome {
        Outcome::Failure(json!({"code": code, "message": message}).to_string().into_bytes())
    }

    pub fn timed_out() -> Outcome {
        Outcome::failure(TIMED_OUT, "request timed out")
    }
}

/// Answer what is read at once. None: Python's to answer.
pub fn look_up(question: &Question, newest: &Newest) -> Option<Outcome> {
    let found = match question {
        Question::Call(..) | Question::EstimateGas(..) => return None,
        Question::Transaction(_) => return read(question, newest).ok().map(Outcome::Result).filter(is_there),
        _ => read(question, newest),
    };
    conclude(found)
}

/// Answer a short call; None: it may take longer.
pub fn run_briefly(question: &Question, caller: &mut Caller<'_>, gas_cap: u64, work: u64) -> Option<Outcome> {
    let Question::Call(Execution::Plain { from, to, input }, at) = question else { return None };
    if !at.is_latest() {
        return None;
    }
    conclude(caller.call_briefly(*from, *to, input.clone(), gas_cap, work)?.map(|output| data(&output)))
}

/// Answer anything.
pub fn run(question: &Question, newest: &Newest, caller: &mut Caller<'_>, gas_cap: u64) -> Option<Outcome> {
    match question {
        Question::Call(Execution::Plain { from, to, input }, at) if at.is_latest() => {
            conclude(caller.call(*from, *to, input.clone(), gas_cap).map(|output| data(&output)))
        }
        Question::Call(execution, at) => conclude(execute(&request_of(execution), *at, newest, gas_cap, false)),
        Question::EstimateGas(request, at) => conclude(execute(request, *at, newest, gas_cap, true)),
        _ => look_up(question, newest),
    }
}

fn is_there(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Result(json) if json == b"null")
}

/// None for errors whose words are Python's.
fn conclude(found: Result<Vec<u8>>) -> Option<Outcome> {
    Some(match found {
        Ok(json) => Outcome::Result(json),
        Err(Error::Reverted { message, output }) => {
            let message = serde_json::to_string(&message).ok()?;
            let object = format!(r#"{{"code":{REVERTED},"message":{message},"data":"0x{}"}}"#, hex::encode(output));
            Outcome::Failure(object.into_bytes())
        }
        Err(Error::Coded { code, message }) => Outcome::failure(code, &message),
        Err(Error::Rejected(message) | Error::Unavailable(message)) => Outcome::failure(SERVER, &message),
        Err(Error::Invalid(_) | Error::Corrupt(_)) => return None,
    })
}

fn read(question: &Question, newest: &Newest) -> Result<Vec<u8>> {
    let spec = newest.past().spec();
    Ok(match question {
        Question::ChainId => quantity(spec.chain_id),
        Question::NetworkId => format!(r#""{}""#, spec.chain_id).into_bytes(),
        Question::Listening => b"true".to_vec(),
        Question::BlockNumber => quantity(newest.header.number),
        Question::Tip => quantity(newest.tip()?),
        Question::GasPrice => quantity(u128::from(newest.base_fee()) + newest.tip()?),
        Question::Balance(account, at) => {
            let found = newest.with_state(*at, |state| state.account(account))?;
            quantity(found.map_or(U256::ZERO, |account| account.balance))
        }
        Question::Nonce(account, at) => {
            quantity(newest.with_state(*at, |state| state.account(account))?.map_or(0, |account| account.nonce))
        }
        Question::Code(account, at) => data(&newest.with_state(*at, |state| {
            state.account(account)?.map_or(Ok(Bytes::new()), |account| state.code(&account.code_hash))
        })?),
        Question::Storage(account, slot, at) => {
            let slot = U256::from_be_bytes(slot.0);
            data(&newest.with_state(*at, |state| state.storage(account, &slot))?.to_be_bytes::<32>())
        }
        Question::Block(at) => match newest.moment()?.stored_at(*at)? {
            Some(stored) => to_bytes(&block_value(&stored, false)?)?,
            None => null(),
        },
        Question::Transaction(hash) => match newest.moment()?.stored_of(hash)? {
            Some((stored, index)) => match decode_body(&stored.body)?.get(index) {
                Some((sender, raw)) => {
                    let place = Place { header: &stored.header, block_hash: stored.hash, index };
                    to_bytes(&included_transaction(*sender, raw, place)?)?
                }
                None => null(),
            },
            None => null(),
        },
        Question::Receipt(hash) => match newest.moment()?.stored_of(hash)? {
            Some((stored, index)) => match receipts_value(spec, &stored, Some(index))?.first() {
                Some(receipt) => to_bytes(receipt)?,
                None => null(),
            },
            None => null(),
        },
        Question::Call(..) | Question::EstimateGas(..) => return Err(Error::invalid("an execution, expected a read")),
    })
}

fn request_of(execution: &Execution) -> Vec<u8> {
    match execution {
        Execution::Any(request) => request.to_vec(),
        Execution::Plain { from, to, input } => {
            json!({"from": from, "to": to, "input": input}).to_string().into_bytes()
        }
    }
}

fn execute(request: &[u8], at: At, newest: &Newest, gas_cap: u64, only_gas: bool) -> Result<Vec<u8>> {
    let moment = newest.moment()?;
    let (header, state) = (moment.required_header(at)?, moment.into_state(at)?);
    let spec = newest.past().spec();
    Ok(match only_gas {
        true => quantity(call::estimate_gas(spec, &state, &header, request, None, gas_cap)?),
        false => data(&call::call(spec, &state, &header, request, None, gas_cap)?),
    })
}

// ---- bytes

fn quantity(value: impl std::fmt::LowerHex) -> Vec<u8> {
    format!(r#""{value:#x}""#).into_bytes()
}

fn data(bytes: &[u8]) -> Vec<u8> {
    let mut json = vec![b'"'; bytes.len() * 2 + 4];
    (json[1], json[2]) = (b'0', b'x');
    let end = json.len() - 1;
    // The room is of the right size.
    let _ = hex::encode_to_slice(bytes, &mut json[3..end]);
    json
}

fn null() -> Vec<u8> {
    b"null".to_vec()
}

fn write_answer(out: &mut Vec<u8>, id: &str, outcome: &Outcome) {
    let (name, json): (&[u8], &[u8]) = match outcome {
        Outcome::Result(json) => (b",\"result\":", json),
        Outcome::Failure(json) => (b",\"error\":", json),
    };
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(json);
    out.push(b'}');
}

/// The head of an HTTP answer with so long a body.
pub fn write_head(out: &mut Vec<u8>, length: usize) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    // Writing to memory does not fail.
    let _ = write!(out, "{head}{length}\r\n\r\n");
}

/// The answer to a message, as it grows.
pub struct Growing {
    out: Vec<u8>,
    /// As if nothing had been left out.
    size: usize,
    count: usize,
}

impl Growing {
    pub fn new(is_batch: bool) -> Growing {
        Growing { out: if is_batch { vec![b'['] } else { Vec::new() }, size: 2, count: 0 }
    }

    /// How many requests are answered.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Answer the next request. Of a batch that is too long the rest of the items say so.
    pub fn add(&mut self, asked: &Asked<'_>, outcome: &Outcome, is_batch: bool, bounds: &Bounds) {
        let start = self.out.len();
        if self.count > 0 {
            self.out.push(b',');
        }
        let first = self.out.len();
        write_answer(&mut self.out, asked.id, outcome);
        self.size += self.out.len() - first + 1;
        let is_long = match outcome {
            _ if is_batch => self.size > bounds.max_response_bytes,
            Outcome::Result(json) => json.len() > bounds.max_response_bytes,
            Outcome::Failure(_) => false,
        };
        if is_long {
            self.out.truncate(start);
            if self.count > 0 {
                self.out.push(b',');
            }
            write_answer(&mut self.out, asked.id, &Outcome::failure(TOO_LARGE, "response too large"));
        }
        self.count += 1;
    }

    pub fn finish(self, is_batch: bool) -> Vec<u8> {
        let mut out = self.out;
        if is_batch {
            out.push(b']');
        }
        out
    }
}

/// Answer all of a message at once. None: Python's to answer.
pub fn answer_all(
    body: &Body<'_>,
    bounds: &Bounds,
    mut answer: impl FnMut(&Question) -> Option<Outcome>,
) -> Option<Vec<u8>> {
    let mut growing = Growing::new(body.is_batch);
    for asked in &body.items {
        growing.add(asked, &answer(&asked.question)?, body.is_batch, bounds);
    }
    Some(growing.finish(body.is_batch))
}
