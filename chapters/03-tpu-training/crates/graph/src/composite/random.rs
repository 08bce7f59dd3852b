//! Random numbers computed by the program: a function of a key and a counter,
//! with no state. The same key gives the same numbers on every device.
//!
//! Source: Salmon and others, "Parallel random numbers: as easy as 1, 2, 3"
//! (SC 2011), Threefry-2x32 with 20 rounds; keys and counters as JAX lays them
//! out, so equal keys give JAX's numbers.

use crate::{DType, Graph, GraphError, Literal, TensorType, Value};

/// Bits by which words are rotated, in turn.
const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
/// Mixed into the third word of the key, so that no key is all zeros.
const PARITY: u32 = 0x1BD1_1BDA;
const KEY: &str = "key must be u32[2]";

impl Graph {
    /// Encrypts pairs of words: the core of all random numbers here.
    ///
    /// * `key`: u32 `[2]`
    /// * `counter`: two of u32, of one shape
    ///
    /// Returns two of u32, of that shape.
    ///
    /// # Errors
    /// [`GraphError`] if a type is not as above.
    pub fn threefry2x32(
        &mut self,
        key: Value,
        counter: [Value; 2],
    ) -> Result<[Value; 2], GraphError> {
        let args = self.operands(
            "threefry2x32",
            &[("counter", counter[0]), ("counter", counter[1])],
        )?;
        args.equal_shapes()?;
        if args.ty(0).dtype != DType::U32 || args.ty(1).dtype != DType::U32 {
            return Err(args.dtype("counters must be u32"));
        }
        let dims = args.dims(0).to_vec();
        let [first, second] = self.key_words("threefry2x32", key)?;
        let parity = self.scalar_u32(PARITY)?;
        let third = self.xor(first, second)?;
        let third = self.xor(third, parity)?;
        let mut schedule = [first, second, third];
        for word in &mut schedule {
            *word = self.broadcast(*word, &dims, &[])?;
        }

        let mut a = self.add(counter[0], schedule[0])?;
        let mut b = self.add(counter[1], schedule[1])?;
        for group in 0..5 {
            for bits in ROTATIONS[group % 2] {
                a = self.add(a, b)?;
                b = self.rotate_left(b, bits)?;
                b = self.xor(b, a)?;
            }
            a = self.add(a, schedule[(group + 1) % 3])?;
            b = self.add(b, schedule[(group + 2) % 3])?;
            b = self.add_scalar(b, (group + 1) as f32)?;
        }
        Ok([a, b])
    }

    /// Random u32 of shape `dims`, all values equally likely.
    ///
    /// * `key`: u32 `[2]`
    ///
    /// Equal to `jax.random.bits` with `jax_threefry_partitionable`.
    ///
    /// # Errors
    /// [`GraphError`] if `key` is not such, or there are 2^32 elements or more.
    pub fn random_bits(&mut self, key: Value, dims: &[usize]) -> Result<Value, GraphError> {
        let ty = TensorType::new(DType::U32, dims);
        if !ty.is_addressable() || u32::try_from(ty.element_count()).is_err() {
            return Err(GraphError::TooLarge {
                op: "random_bits",
                dtype: ty.dtype,
                dims: ty.dims,
            });
        }
        // The counter of an element is its position, a 64-bit number in two words.
        let low = self.iota(&[ty.element_count()], 0, DType::U32)?;
        let low = self.reshape(low, dims)?;
        let high = self.full(0.0, dims, DType::U32)?;
        let [a, b] = self.threefry2x32(key, [high, low])?;
        self.xor(a, b)
    }

    /// Random f32 of shape `dims`, uniform in `[0, 1)`, in steps of 2^-23.
    ///
    /// * `key`: u32 `[2]`
    ///
    /// Equal to `jax.random.uniform`.
    ///
    /// # Errors
    /// As [`Graph::random_bits`].
    pub fn random_uniform(&mut self, key: Value, dims: &[usize]) -> Result<Value, GraphError> {
        let bits = self.random_bits(key, dims)?;
        let nine = self.full_like(9.0, bits)?;
        let upper = self.shift_right_logical(bits, nine)?;
        // 23 bits: f32 represents them exactly.
        let number = self.convert(upper, DType::F32)?;
        self.mul_scalar(number, 1.0 / (1 << 23) as f32)
    }

    /// A new key from a key and a number: one for each step, or each use.
    ///
    /// * `key`: u32 `[2]`
    /// * `number`: u32 `[]`
    ///
    /// Returns u32 `[2]`. Equal to `jax.random.fold_in`.
    ///
    /// # Errors
    /// [`GraphError`] if a type is not as above.
    pub fn random_fold_in(&mut self, key: Value, number: Value) -> Result<Value, GraphError> {
        let args = self.operands("random_fold_in", &[("key", key), ("number", number)])?;
        if *args.ty(1) != TensorType::scalar(DType::U32) {
            return Err(args.dtype("number must be u32[]"));
        }
        let zero = self.scalar(0.0, DType::U32)?;
        let words = self.threefry2x32(key, [zero, number])?;
        let first = self.reshape(words[0], &[1])?;
        let second = self.reshape(words[1], &[1])?;
        self.concatenate(&[first, second], 0)
    }

    fn key_words(&mut self, op: &'static str, key: Value) -> Result<[Value; 2], GraphError> {
        let args = self.operands(op, &[("key", key)])?;
        if *args.ty(0) != TensorType::new(DType::U32, [2]) {
            return Err(args.dtype(KEY));
        }
        let first = self.slice(key, &[0], &[1], &[1])?;
        let second = self.slice(key, &[1], &[2], &[1])?;
        Ok([self.reshape(first, &[])?, self.reshape(second, &[])?])
    }

    fn rotate_left(&mut self, x: Value, bits: u32) -> Result<Value, GraphError> {
        let left = self.full_like(bits as f32, x)?;
        let right = self.full_like((32 - bits) as f32, x)?;
        let high = self.shift_left(x, left)?;
        let low = self.shift_right_logical(x, right)?;
        self.or(high, low)
    }

    fn scalar_u32(&mut self, value: u32) -> Result<Value, GraphError> {
        let literal = Literal::from_u32(&[value], []).expect("one element fills a scalar");
        self.constant(literal)
    }
}
