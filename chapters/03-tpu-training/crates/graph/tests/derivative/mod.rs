//! Derivatives by definition: nudge an input, look at the output.
//!
//! The graph's gradients are compared with central differences
//! `(f(x + h) - f(x - h)) / 2h`, both evaluated by the interpreter in f64.

// Each test program is a crate of its own and uses what it needs of this.
#![allow(dead_code)]

use training_graph::{DType, Graph, Program, TensorType, Value};

/// The nudge. The formula is off by `h^2 f''' / 6`, about 1e-11 where the
/// derivatives are about 1, and by the rounding of `f`, 1e-16 times `f` over
/// `h`: 1e-10 for a sum of ten terms.
const H: f64 = 1e-5;

/// Largest difference allowed, for derivatives about 1. A hundred to a thousand
/// times what the formula is off by, for functions bent more than most; a wrong
/// rule is off by more than 1e-3. Constants of the graph are f32, but the same
/// in both.
const TOLERANCE: f64 = 1e-7;

/// A function under construction, with the numbers to differentiate it at.
pub struct Function {
    pub graph: Graph,
    pub random: Random,
    /// Whether the function may have a kink where it is differentiated. Then any
    /// slope between those on both sides is right.
    pub kinks: bool,
    arguments: Vec<Vec<f64>>,
    differentiated: Vec<Value>,
}

impl Function {
    pub fn new(seed: u64) -> Self {
        Function {
            graph: Graph::new(),
            random: Random(seed),
            kinks: false,
            arguments: vec![],
            differentiated: vec![],
        }
    }

    /// An f32 input, to differentiate by, between -2 and 2.
    pub fn input(&mut self, dims: &[usize]) -> Value {
        self.input_between(dims, -2.0, 2.0)
    }

    pub fn input_between(&mut self, dims: &[usize], low: f64, high: f64) -> Value {
        let count = dims.iter().product();
        let numbers = (0..count).map(|_| self.random.between(low, high)).collect();
        self.input_of(dims, numbers)
    }

    /// An input whose elements are at least 0.1 from each other and from 0, so
    /// that no nudge changes which of two is larger.
    pub fn input_apart(&mut self, dims: &[usize]) -> Value {
        let count: usize = dims.iter().product();
        let mut numbers: Vec<f64> = (0..count)
            .map(|i| 0.1 * (i as f64 - count as f64 / 2.0) + 0.05)
            .collect();
        self.random.shuffle(&mut numbers);
        self.input_of(dims, numbers)
    }

    pub fn input_of(&mut self, dims: &[usize], numbers: Vec<f64>) -> Value {
        let value = self.undifferentiated(TensorType::new(DType::F32, dims), numbers);
        self.differentiated.push(value);
        value
    }

    /// An input of any type that is left as it is.
    pub fn undifferentiated(&mut self, ty: TensorType, numbers: Vec<f64>) -> Value {
        assert_eq!(numbers.len(), ty.element_count());
        let name = format!("input {}", self.arguments.len());
        self.arguments.push(numbers);
        self.graph.parameter(&name, ty).unwrap()
    }

    /// i32 numbers, such as indices.
    pub fn whole(&mut self, dims: &[usize], numbers: &[i32]) -> Value {
        let numbers = numbers.iter().map(|n| f64::from(*n)).collect();
        self.undifferentiated(TensorType::new(DType::I32, dims), numbers)
    }

    /// Fails if a gradient of `output` is not what central differences give.
    ///
    /// Every element of the output counts, each by another factor: a rule that
    /// mixes elements up, or is right in the sum only, is found out.
    ///
    /// Returns how many derivatives were compared.
    pub fn check(mut self, what: &str, output: Value) -> usize {
        let ty = self.graph.type_of(output).clone();
        let output = self.graph.convert(output, DType::F32).unwrap();
        let weights = (0..ty.element_count())
            .map(|_| self.random.between(0.5, 1.5) * if self.random.coin() { 1.0 } else { -1.0 })
            .collect();
        let weights = self.undifferentiated(ty.with_dtype(DType::F32), weights);
        let weighted = self.graph.mul(output, weights).unwrap();
        let dims: Vec<usize> = (0..ty.rank()).collect();
        let loss = self.graph.reduce_sum(weighted, &dims).unwrap();
        self.check_loss(what, loss)
    }

    /// As [`Function::check`], of an f32 scalar.
    pub fn check_loss(mut self, what: &str, loss: Value) -> usize {
        let function = Program {
            name: what.to_owned(),
            graph: self.graph.clone(),
            outputs: vec![loss],
            donated: vec![],
        };
        let gradients = self
            .graph
            .gradients(loss, &self.differentiated)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        for (input, gradient) in self.differentiated.iter().zip(&gradients) {
            let (input, gradient) = (self.graph.type_of(*input), self.graph.type_of(*gradient));
            assert_eq!(input, gradient, "{what}: a gradient has its input's type");
        }
        let derived = Program {
            outputs: gradients,
            graph: self.graph.clone(),
            ..function.clone()
        };
        let derived = derived.interpret_f64(&self.arguments).unwrap();

        let mut compared = 0;
        for (input, derived) in self.differentiated.iter().zip(&derived) {
            let parameters = self.graph.parameters().iter();
            let position = parameters.into_iter().position(|p| p == input).unwrap();
            for (element, derived) in derived.iter().enumerate() {
                // ANCHOR: difference
                let at = |nudge: f64| {
                    let mut nudged = self.arguments.clone();
                    nudged[position][element] += nudge;
                    function.interpret_f64(&nudged).unwrap()[0][0]
                };
                let [above, below] = [at(H), at(-H)];
                let difference = (above - below) / (2.0 * H);
                // ANCHOR_END: difference
                let mut tolerance = TOLERANCE * difference.abs().max(1.0);
                if self.kinks {
                    // The slopes on both sides; where there is no kink they
                    // differ by `h f''`, which is small.
                    let middle = at(0.0);
                    tolerance += (above - 2.0 * middle + below).abs() / H;
                }
                // Written so that a NaN fails.
                assert!(
                    (derived - difference).abs() <= tolerance,
                    "{what}: d / d input {position}[{element}] is {derived} by the graph, \
                     {difference} by central differences"
                );
                compared += 1;
            }
        }
        compared
    }
}

/// A random sequence, the same for the same seed.
///
/// Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", 2014.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
        z ^ (z >> 31)
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number from `low` to `high`, both included.
    pub fn whole(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    pub fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.whole(0, of.len() - 1)]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.whole(0, i));
        }
    }
}
