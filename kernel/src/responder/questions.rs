//! Which JSON-RPC requests ask for nothing but a read, in the plain form that all clients use.
//!
//! Whatever is unusual, wrong or needs more than the store gives None: Python answers it, and words its errors. So this takes
//! less than Python does, and never anything that Python reads otherwise.

use crate::view::{At, Tag};
use alloy_primitives::{Address, B256, Bytes, hex};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Of a body; longer ones have their time to lose.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The methods that are answered here.
const METHODS: [(&str, Method); 16] = [
    ("eth_blockNumber", Method::BlockNumber),
    ("eth_call", Method::Call),
    ("eth_chainId", Method::ChainId),
    ("eth_estimateGas", Method::EstimateGas),
    ("eth_gasPrice", Method::GasPrice),
    ("eth_getBalance", Method::Balance),
    ("eth_getBlockByHash", Method::BlockByHash),
    ("eth_getBlockByNumber", Method::BlockByNumber),
    ("eth_getCode", Method::Code),
    ("eth_getStorageAt", Method::Storage),
    ("eth_getTransactionByHash", Method::Transaction),
    ("eth_getTransactionCount", Method::Nonce),
    ("eth_getTransactionReceipt", Method::Receipt),
    ("eth_maxPriorityFeePerGas", Method::Tip),
    ("net_listening", Method::Listening),
    ("net_version", Method::NetworkId),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    BlockNumber,
    Call,
    ChainId,
    EstimateGas,
    GasPrice,
    Balance,
    BlockByHash,
    BlockByNumber,
    Code,
    Storage,
    Transaction,
    Nonce,
    Receipt,
    Tip,
    Listening,
    NetworkId,
}

/// What an operator allows.
pub struct Rules {
    enabled: [bool; METHODS.len()],
    pub max_batch: usize,
    /// Whether the next block's time may be another than the latest block says.
    pub is_dev: bool,
}

impl Rules {
    pub fn new(names: &[String], max_batch: usize, is_dev: bool) -> Rules {
        let enabled = METHODS.map(|(name, _)| names.iter().any(|found| found == name));
        Rules { enabled, max_batch, is_dev }
    }

    fn method(&self, name: &str) -> Option<Method> {
        let place = METHODS.binary_search_by_key(&name, |(known, _)| known).ok()?;
        self.enabled[place].then_some(METHODS[place].1)
    }
}

/// What is asked, with its parameters.
#[derive(Debug)]
pub enum Question {
    ChainId,
    NetworkId,
    Listening,
    BlockNumber,
    GasPrice,
    Tip,
    Balance(Address, At),
    Nonce(Address, At),
    Code(Address, At),
    Storage(Address, B256, At),
    Block(At),
    Transaction(B256),
    Receipt(B256),
    Call(Execution, At),
    EstimateGas(Box<[u8]>, At),
}

impl Question {
    /// Whether it may take long.
    pub fn is_execution(&self) -> bool {
        matches!(self, Question::Call(..) | Question::EstimateGas(..))
    }

    /// Contract and method of a plain call of the newest state.
    pub fn name(&self) -> Option<(Address, [u8; 4])> {
        match self {
            Question::Call(Execution::Plain { to, input, .. }, at) if at.is_latest() => {
                Some((*to, input.first_chunk().copied().unwrap_or_default()))
            }
            _ => None,
        }
    }
}

/// What eth_call runs.
#[derive(Debug)]
pub enum Execution {
    Plain {
        from: Option<Address>,
        to: Address,
        input: Bytes,
    },
    /// The JSON of the call.
    Any(Box<[u8]>),
}

pub struct Asked<'a> {
    /// As it came.
    pub id: &'a str,
    pub question: Question,
}

pub struct Body<'a> {
    pub items: Vec<Asked<'a>>,
    pub is_batch: bool,
}

impl Body<'_> {
    pub fn executions(&self) -> usize {
        self.items.iter().filter(|item| item.question.is_execution()).count()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    jsonrpc: &'a str,
    #[serde(borrow)]
    id: &'a RawValue,
    method: &'a str,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainCall {
    #[serde(default)]
    from: Option<Address>,
    to: Address,
    #[serde(default)]
    data: Option<Bytes>,
    #[serde(default)]
    input: Option<Bytes>,
}

/// All that a message asks.
pub fn read<'a>(body: &'a [u8], rules: &Rules) -> Option<Body<'a>> {
    // Without escapes and other alphabets all parsers read a string alike, and its bytes are its value.
    if body.len() > MAX_BODY_BYTES || !body.is_ascii() || body.contains(&b'\\') {
        return None;
    }
    match body.first()? {
        b'{' => {
            let request: Request<'a> = serde_json::from_slice(body).ok()?;
            Some(Body { items: vec![read_request(&request, rules)?], is_batch: false })
        }
        b'[' => {
            let requests: Vec<Request<'a>> = serde_json::from_slice(body).ok()?;
            if requests.is_empty() || requests.len() > rules.max_batch {
                return None;
            }
            let items = requests.iter().map(|request| read_request(request, rules)).collect::<Option<_>>()?;
            Some(Body { items, is_batch: true })
        }
        _ => None,
    }
}

fn read_request<'a>(request: &Request<'a>, rules: &Rules) -> Option<Asked<'a>> {
    let method = rules.method(request.method)?;
    let id = request.id.get();
    let is_scalar = id == "null" || id.starts_with('"') || id.bytes().all(|byte| byte.is_ascii_digit());
    if request.jsonrpc != "2.0" || !is_scalar {
        return None;
    }
    let values: Vec<&RawValue> = match request.params {
        Some(params) if params.get() == "[]" => Vec::new(),
        Some(params) => serde_json::from_str(params.get()).ok()?,
        None => Vec::new(),
    };
    Some(Asked { id, question: read_question(method, &values, rules)? })
}

fn read_question(method: Method, values: &[&RawValue], rules: &Rules) -> Option<Question> {
    let state = |place: usize| -> Option<(Address, At)> {
        Some((Address::new(fixed(values.first()?)?), optional_block(values.get(place))?))
    };
    let most = match method {
        Method::ChainId
        | Method::NetworkId
        | Method::Listening
        | Method::BlockNumber
        | Method::GasPrice
        | Method::Tip => 0,
        Method::Transaction | Method::Receipt => 1,
        Method::Balance | Method::Nonce | Method::Code | Method::BlockByHash | Method::BlockByNumber => 2,
        Method::Storage | Method::Call | Method::EstimateGas => 3,
    };
    if values.len() > most {
        return None;
    }
    Some(match method {
        Method::ChainId => Question::ChainId,
        Method::NetworkId => Question::NetworkId,
        Method::Listening => Question::Listening,
        Method::BlockNumber => Question::BlockNumber,
        Method::GasPrice => Question::GasPrice,
        Method::Tip => Question::Tip,
        Method::Balance => state(1).map(|(account, at)| Question::Balance(account, at))?,
        Method::Code => state(1).map(|(account, at)| Question::Code(account, at))?,
        // What waits in the pool is counted there.
        Method::Nonce if is_pending(values.get(1)) => return None,
        Method::Nonce => state(1).map(|(account, at)| Question::Nonce(account, at))?,
        Method::Storage => {
            let (account, at) = state(2)?;
            Question::Storage(account, slot(values.get(1)?)?, at)
        }
        Method::Transaction => Question::Transaction(B256::new(fixed(values.first()?)?)),
        Method::Receipt => Question::Receipt(B256::new(fixed(values.first()?)?)),
        Method::BlockByHash if !is_true(values.get(1))? => {
            Question::Block(At::Hash(B256::new(fixed(values.first()?)?)))
        }
        Method::BlockByNumber if !is_true(values.get(1))? && !is_pending(values.first()) => {
            Question::Block(named_block(text(values.first()?)?)?)
        }
        // Whole transactions are long.
        Method::BlockByHash | Method::BlockByNumber => return None,
        Method::Call | Method::EstimateGas => read_execution(method, values, rules)?,
    })
}

fn read_execution(method: Method, values: &[&RawValue], rules: &Rules) -> Option<Question> {
    let call = values.first()?.get();
    if !call.starts_with('{') || values.get(2).is_some_and(|overrides| overrides.get() != "null") {
        return None;
    }
    let at = optional_block(values.get(1))?;
    if rules.is_dev && (method == Method::EstimateGas || is_pending(values.get(1))) {
        return None;
    }
    // Both names mean the same; whether they may differ is Python's to say.
    let is_twofold = call.contains("\"data\"") && call.contains("\"input\"");
    if is_twofold {
        return None;
    }
    if method == Method::EstimateGas {
        return Some(Question::EstimateGas(call.as_bytes().into(), at));
    }
    let execution = match serde_json::from_str::<PlainCall>(call) {
        Ok(PlainCall { from, to, data, input }) => {
            Execution::Plain { from, to, input: input.or(data).unwrap_or_default() }
        }
        Err(_) => Execution::Any(call.as_bytes().into()),
    };
    Some(Question::Call(execution, at))
}

// ---- values

/// A string's value.
fn text<'a>(value: &&'a RawValue) -> Option<&'a str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

fn digits<'a>(value: &&'a RawValue) -> Option<&'a str> {
    let text = text(value)?;
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

fn fixed<const N: usize>(value: &&RawValue) -> Option<[u8; N]> {
    let digits = digits(value)?;
    let mut bytes = [0u8; N];
    if digits.len() != 2 * N {
        return None;
    }
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

/// A storage key of up to 32 bytes.
fn slot(value: &&RawValue) -> Option<B256> {
    let digits = digits(value)?;
    if digits.is_empty() || digits.len() > 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(format!("{digits:0>64}"), &mut bytes).ok()?;
    Some(B256::new(bytes))
}

fn is_pending(value: Option<&&RawValue>) -> bool {
    value.and_then(text) == Some("pending")
}

/// A flag that may be left out.
fn is_true(value: Option<&&RawValue>) -> Option<bool> {
    match value.map(|value| value.get()) {
        None | Some("null" | "false") => Some(false),
        Some("true") => Some(true),
        Some(_) => None,
    }
}

/// A tag or a height.
fn named_block(name: &str) -> Option<At> {
    match name {
        // What waits has no state of its own.
        "latest" | "pending" | "" => Some(At::Tag(Tag::Latest)),
        "safe" => Some(At::Tag(Tag::Safe)),
        "finalized" => Some(At::Tag(Tag::Finalized)),
        "earliest" => Some(At::Height(0)),
        _ => {
            let digits = name.strip_prefix("0x")?;
            let has_zeros = digits.len() > 1 && digits.starts_with('0');
            if has_zeros || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            let height = u64::from_str_radix(digits, 16).ok()?;
            (height <= i64::MAX as u64).then_some(At::Height(height))
        }
    }
}

/// A tag, a height or a hash, or the latest block.
fn optional_block(value: Option<&&RawValue>) -> Option<At> {
    match value {
        None => Some(At::Tag(Tag::Latest)),
        Some(value) if value.get() == "null" => Some(At::Tag(Tag::Latest)),
        Some(value) if text(value)?.len() == 66 => Some(At::Hash(B256::new(fixed(value)?))),
        Some(value) => named_block(text(value)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_in_order_and_only_the_enabled_ones_are_taken() {
        assert!(METHODS.is_sorted_by_key(|(name, _)| *name));
        let rules = Rules::new(&["eth_chainId".into(), "eth_other".into()], 10, false);
        assert_eq!(rules.method("eth_chainId"), Some(Method::ChainId));
        assert_eq!(rules.method("eth_blockNumber"), None);
        assert_eq!(rules.method("eth_other"), None);
    }
}
