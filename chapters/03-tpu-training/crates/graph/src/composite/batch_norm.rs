//! Batch normalisation over the last dimension, with a backward pass of its own.

use crate::{DType, GradientRule, Graph, GraphError, Value};

/// What normalising a batch gives.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BatchNorm {
    /// The normalised batch, in the type of the input.
    pub y: Value,
    /// Mean of each channel, f32 `[channels]`.
    pub mean: Value,
    /// Variance of each channel, divided by the count (biased), f32 `[channels]`.
    pub variance: Value,
}

impl Graph {
    /// Batch normalisation with the statistics of this batch, for training.
    ///
    /// * `x`: bf16 or f32 `[.., channels]`, channels last
    /// * `scale`, `offset`: f32 `[channels]`
    /// * `epsilon`: added to the variance before the root
    ///
    /// `y = (x - mean) / sqrt(variance + epsilon) * scale + offset`, computed in
    /// f32. The gradient of `y` flows to `x`, `scale` and `offset`; it counts
    /// that the statistics depend on `x`. `mean` and `variance` are there for
    /// running statistics.
    ///
    /// # Errors
    /// [`GraphError`] if a type is not as above, or `x` is empty.
    ///
    /// Source: Ioffe and Szegedy, "Batch normalization" (2015), section 3.
    pub fn batch_norm(
        &mut self,
        x: Value,
        scale: Value,
        offset: Value,
        epsilon: f32,
    ) -> Result<BatchNorm, GraphError> {
        self.check_batch_norm("batch_norm", x, &[("scale", scale), ("offset", offset)])?;
        let wide = self.convert(x, DType::F32)?;
        let dims = self.dims(x).to_vec();
        let others: Vec<usize> = (0..dims.len() - 1).collect();

        let mean = self.mean(wide, &others)?;
        let centred = self.sub_channels(wide, mean)?;
        let square = self.mul(centred, centred)?;
        let variance = self.mean(square, &others)?;
        let shifted = self.add_scalar(variance, epsilon)?;
        let inverse = self.rsqrt(shifted)?;

        let y = self.normalised(x, scale, offset, mean, inverse)?;
        let y = self.with_gradient(
            GradientRule::BatchNorm,
            y,
            &[x, scale, offset, mean, inverse],
        )?;
        Ok(BatchNorm { y, mean, variance })
    }

    /// Batch normalisation with given statistics, for inference.
    ///
    /// * `x`: bf16 or f32 `[.., channels]`, channels last
    /// * `scale`, `offset`, `mean`, `variance`: f32 `[channels]`
    /// * `epsilon`: added to the variance before the root
    ///
    /// Returns the type of `x`.
    ///
    /// # Errors
    /// [`GraphError`] if a type is not as above, or `x` is empty.
    pub fn batch_norm_inference(
        &mut self,
        x: Value,
        scale: Value,
        offset: Value,
        mean: Value,
        variance: Value,
        epsilon: f32,
    ) -> Result<Value, GraphError> {
        let vectors = [
            ("scale", scale),
            ("offset", offset),
            ("mean", mean),
            ("variance", variance),
        ];
        self.check_batch_norm("batch_norm_inference", x, &vectors)?;
        let shifted = self.add_scalar(variance, epsilon)?;
        let inverse = self.rsqrt(shifted)?;
        self.normalised(x, scale, offset, mean, inverse)
    }

    /// `x * factor + rest`, with one factor and one rest a channel: two
    /// operations on the large tensor instead of four.
    fn normalised(
        &mut self,
        x: Value,
        scale: Value,
        offset: Value,
        mean: Value,
        inverse: Value,
    ) -> Result<Value, GraphError> {
        let dtype = self.type_of(x).dtype;
        let wide = self.convert(x, DType::F32)?;
        let factor = self.mul(scale, inverse)?;
        let centre = self.mul(mean, factor)?;
        let rest = self.sub(offset, centre)?;
        let y = self.scaled_and_shifted(wide, factor, rest)?;
        self.convert(y, dtype)
    }

    fn scaled_and_shifted(
        &mut self,
        x: Value,
        factor: Value,
        rest: Value,
    ) -> Result<Value, GraphError> {
        let factor = self.channels_like(factor, x)?;
        let rest = self.channels_like(rest, x)?;
        let scaled = self.mul(x, factor)?;
        self.add(scaled, rest)
    }

    fn sub_channels(&mut self, x: Value, vector: Value) -> Result<Value, GraphError> {
        let vector = self.channels_like(vector, x)?;
        self.sub(x, vector)
    }

    /// A number for each channel, at every place of `x`.
    fn channels_like(&mut self, vector: Value, x: Value) -> Result<Value, GraphError> {
        let dims = self.dims(x).to_vec();
        self.broadcast(vector, &dims, &[dims.len() - 1])
    }

    fn check_batch_norm(
        &self,
        op: &'static str,
        x: Value,
        vectors: &[(&'static str, Value)],
    ) -> Result<(), GraphError> {
        let args = self.operands(op, &[&[("x", x)], vectors].concat())?;
        if !args.ty(0).dtype.is_float() {
            return Err(args.dtype("x must be bf16 or f32"));
        }
        if args.ty(0).rank() < 2 || args.ty(0).element_count() == 0 {
            return Err(
                args.shape("x must have elements, and channels as the last of its dimensions")
            );
        }
        let channels = &args.dims(0)[args.ty(0).rank() - 1..];
        for index in 1..=vectors.len() {
            if args.ty(index).dtype != DType::F32 {
                return Err(args.dtype(format!("{} must be f32", vectors[index - 1].0)));
            }
            if args.dims(index) != channels {
                return Err(args.shape(format!(
                    "{} must have one element a channel",
                    vectors[index - 1].0
                )));
            }
        }
        Ok(())
    }
}

/// Cotangents of `x`, `scale` and `offset` from that of `y`.
///
/// With `n` elements a channel and `h = (x - mean) * inverse`:
/// `offset' = sum(y')`, `scale' = sum(y' h)`,
/// `x' = scale * inverse * (y' - offset'/n - h scale'/n)`, which is again one
/// factor for `y'`, one for `x`, and one rest a channel. So the backward pass
/// reads the large tensors twice: for the two sums, and for `x'`.
///
/// Source: Ioffe and Szegedy (2015), section 3, simplified.
pub(crate) fn cotangents(
    g: &mut Graph,
    ct: Value,
    [x, scale, mean, inverse]: [Value; 4],
) -> Result<[Value; 3], GraphError> {
    let dtype = g.type_of(x).dtype;
    let x = g.convert(x, DType::F32)?;
    let ct = g.convert(ct, DType::F32)?;
    let ty = g.type_of(x).clone();
    let others: Vec<usize> = (0..ty.rank() - 1).collect();
    let count = others.iter().map(|&dim| ty.dims[dim]).product::<usize>() as f32;

    let by_offset = g.reduce_sum(ct, &others)?;
    let centred = g.sub_channels(x, mean)?;
    let weighted = g.mul(ct, centred)?;
    let weighted = g.reduce_sum(weighted, &others)?;
    let by_scale = g.mul(weighted, inverse)?;

    let of_ct = g.mul(scale, inverse)?;
    let mean_scale = g.mul_scalar(by_scale, -1.0 / count)?;
    let of_x = g.mul(of_ct, inverse)?;
    let of_x = g.mul(of_x, mean_scale)?;
    let mean_offset = g.mul_scalar(by_offset, -1.0 / count)?;
    let rest = g.mul(of_ct, mean_offset)?;
    let centre = g.mul(of_x, mean)?;
    let rest = g.sub(rest, centre)?;

    let from_x = g.scaled_and_shifted(x, of_x, rest)?;
    let of_ct = g.channels_like(of_ct, ct)?;
    let from_ct = g.mul(ct, of_ct)?;
    let by_x = g.add(from_ct, from_x)?;
    Ok([g.convert(by_x, dtype)?, by_scale, by_offset])
}
