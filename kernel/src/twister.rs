//! The Mersenne Twister as Python's `random.Random(seed).random()` runs it, for the choices of simulated worlds.
//!
//! Source: Matsumoto, Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number
//! generator", ACM TOMACS 8, 1998; seeding by an array as in their `mt19937ar.c`.
//!
//! A stream makes few choices as a rule, so a word of the state is renewed when it is read, not all of them at once:
//! that gives the same numbers.

use blake2b_simd::Params;
use pyo3::prelude::*;

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// The state that `mt19937ar.c` gives to the seed 19650218, from which seeding by an array begins.
const START: [u32; WORDS] = {
    let mut state = [19_650_218u32; WORDS];
    let mut i = 1;
    while i < WORDS {
        let last = state[i - 1];
        state[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        i += 1;
    }
    state
};

struct Twister {
    state: [u32; WORDS],
    index: usize,
}

impl Twister {
    fn new(seed: u64) -> Box<Self> {
        let mut twister = Box::new(Twister { state: START, index: 0 });
        twister.seed(seed);
        twister
    }

    /// Begin anew where the state lies already.
    fn seed(&mut self, seed: u64) {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let keys = [low, high];
        // Python leaves out the words above the highest that is not zero.
        let length = if high == 0 { 1 } else { 2 };
        self.index = 0;
        self.state = START;
        let state = &mut self.state;
        // Two walks through all words but the first, which takes part as the one before the second: word 1 is reached
        // once more at the end of each.
        let mut last = state[0];
        let mut j = 0;
        let mut mix = |word: &mut u32, last: u32| {
            let mixed = (*word ^ (last ^ (last >> 30)).wrapping_mul(1_664_525)).wrapping_add(keys[j]);
            *word = mixed.wrapping_add(j as u32);
            j = (j + 1) & (length - 1);
            *word
        };
        for word in &mut state[1..] {
            last = mix(word, last);
        }
        last = mix(&mut state[1], last);
        let mix = |word: &mut u32, last: u32, i: u32| {
            *word = (*word ^ (last ^ (last >> 30)).wrapping_mul(1_566_083_941)).wrapping_sub(i);
            *word
        };
        for (i, word) in (2..).zip(&mut state[2..]) {
            last = mix(word, last, i);
        }
        mix(&mut state[1], last, 1);
        state[0] = 0x8000_0000;
    }

    fn next(&mut self) -> u32 {
        let (state, i) = (&mut self.state, self.index);
        let after = if i + 1 == WORDS { 0 } else { i + 1 };
        let far = if i + SHIFT < WORDS { i + SHIFT } else { i + SHIFT - WORDS };
        let mixed = (state[i] & 0x8000_0000) | (state[after] & 0x7fff_ffff);
        let mut y = state[far] ^ (mixed >> 1) ^ if mixed & 1 == 0 { 0 } else { 0x9908_b0df };
        state[i] = y;
        self.index = after;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number in [0, 1) of 53 bits.
    fn random(&mut self) -> f64 {
        let (high, low) = (self.next() >> 5, self.next() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }
}

/// The seed of all streams of a tape, which they look at when they choose: another one costs nothing until then, which
/// matters to a process that shares its memory with others until it writes.
#[pyclass(module = "quorate._kernel")]
pub struct TapeSeed {
    text: String,
    /// How often the seed was changed.
    turn: u64,
}

#[pymethods]
impl TapeSeed {
    #[new]
    fn new(text: String) -> Self {
        TapeSeed { text, turn: 0 }
    }

    fn change(&mut self, text: String) {
        self.text = text;
        self.turn += 1;
    }
}

/// A stream of choices, which takes its seed at the first of them: many make none.
#[pyclass(module = "quorate._kernel")]
pub struct Draws {
    name: String,
    /// None: the name is all.
    tape: Option<Py<TapeSeed>>,
    /// That of the seed which the numbers come from.
    turn: u64,
    twister: Option<Box<Twister>>,
}

impl Draws {
    fn random(&mut self, py: Python<'_>) -> f64 {
        let turn = self.tape.as_ref().map_or(self.turn, |tape| tape.borrow(py).turn);
        match &mut self.twister {
            Some(twister) if turn == self.turn => twister.random(),
            _ => self.begin(py, turn),
        }
    }

    /// Take the first number of the seed that holds now.
    #[cold]
    fn begin(&mut self, py: Python<'_>, turn: u64) -> f64 {
        self.turn = turn;
        let seed = match &self.tape {
            Some(tape) => compute_seed(&format!("{}/{}", tape.borrow(py).text, self.name)),
            None => compute_seed(&self.name),
        };
        match &mut self.twister {
            Some(twister) => twister.seed(seed),
            None => self.twister = Some(Twister::new(seed)),
        }
        self.twister.as_mut().expect("it has a seed").random()
    }

    pub fn choose_below(&mut self, py: Python<'_>, n: u64) -> u64 {
        (self.random(py) * n as f64) as u64
    }

    pub fn happens(&mut self, py: Python<'_>, permille: u32) -> bool {
        self.random(py) * 1000.0 < f64::from(permille)
    }
}

fn compute_seed(name: &str) -> u64 {
    let hash = Params::new().hash_length(8).hash(name.as_bytes());
    u64::from_be_bytes(hash.as_bytes().try_into().expect("eight bytes"))
}

#[pymethods]
impl Draws {
    #[new]
    #[pyo3(signature = (name, tape=None))]
    fn new(name: String, tape: Option<Py<TapeSeed>>) -> Self {
        Draws { name, tape, turn: 0, twister: None }
    }

    #[staticmethod]
    fn seeded(seed: u64) -> Self {
        Draws { name: String::new(), tape: None, turn: 0, twister: Some(Twister::new(seed)) }
    }

    #[pyo3(name = "random")]
    fn draw(&mut self, py: Python<'_>) -> f64 {
        self.random(py)
    }

    fn choose(&mut self, py: Python<'_>, n: u64) -> u64 {
        self.choose_below(py, n)
    }

    fn chance(&mut self, py: Python<'_>, permille: u32) -> bool {
        self.happens(py, permille)
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TapeSeed>()?;
    m.add_class::<Draws>()
}
