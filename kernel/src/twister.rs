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
    fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let keys = [low, high];
        // Python leaves out the words above the highest that is not zero.
        let length = if high == 0 { 1 } else { 2 };
        let mut state = START;
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
        Twister { state, index: 0 }
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

/// A stream of choices, which takes its seed from its name at the first of them: many make none.
#[pyclass(module = "quorate._kernel")]
pub struct Draws {
    name: String,
    twister: Option<Box<Twister>>,
}

impl Draws {
    fn random(&mut self) -> f64 {
        self.twister.get_or_insert_with(|| Box::new(Twister::new(compute_seed(&self.name)))).random()
    }

    pub fn choose_below(&mut self, n: u64) -> u64 {
        (self.random() * n as f64) as u64
    }

    pub fn happens(&mut self, permille: u32) -> bool {
        self.random() * 1000.0 < f64::from(permille)
    }
}

fn compute_seed(name: &str) -> u64 {
    let hash = Params::new().hash_length(8).hash(name.as_bytes());
    u64::from_be_bytes(hash.as_bytes().try_into().expect("eight bytes"))
}

#[pymethods]
impl Draws {
    #[new]
    fn new(name: String) -> Self {
        Draws { name, twister: None }
    }

    #[staticmethod]
    fn seeded(seed: u64) -> Self {
        Draws { name: String::new(), twister: Some(Box::new(Twister::new(seed))) }
    }

    fn reseed(&mut self, name: String) {
        *self = Draws::new(name);
    }

    #[pyo3(name = "random")]
    fn draw(&mut self) -> f64 {
        self.random()
    }

    fn choose(&mut self, n: u64) -> u64 {
        self.choose_below(n)
    }

    fn chance(&mut self, permille: u32) -> bool {
        self.happens(permille)
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Draws>()
}
