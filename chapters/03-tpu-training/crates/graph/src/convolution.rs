//! Attributes of a two-dimensional convolution.

/// A two-dimensional convolution (cross-correlation: the filter is not turned
/// around), with everything StableHLO can say but feature groups.
///
/// The default is stride 1, no padding, no dilation, NHWC by HWIO to NHWC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Step between windows, height then width.
    pub strides: [usize; 2],
    /// Zeros added before and after, for height then width. Negative removes.
    pub padding: [[i64; 2]; 2],
    /// The input is spread out: `lhs_dilation - 1` zeros between neighbours.
    pub lhs_dilation: [usize; 2],
    /// The filter is spread out: `rhs_dilation - 1` zeros between neighbours.
    pub rhs_dilation: [usize; 2],
    /// What each dimension of input, filter and output means.
    pub dims: ConvDims,
}

impl Default for Convolution {
    fn default() -> Self {
        Convolution {
            strides: [1, 1],
            padding: [[0, 0], [0, 0]],
            lhs_dilation: [1, 1],
            rhs_dilation: [1, 1],
            dims: ConvDims::default(),
        }
    }
}

/// Which position each dimension has in input, filter and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvDims {
    /// Images of the input.
    pub input_batch: usize,
    /// Channels of the input.
    pub input_feature: usize,
    /// Height and width of the input.
    pub input_spatial: [usize; 2],
    /// Channels the filter reads.
    pub filter_input_feature: usize,
    /// Channels the filter makes.
    pub filter_output_feature: usize,
    /// Height and width of the filter.
    pub filter_spatial: [usize; 2],
    /// Images of the output.
    pub output_batch: usize,
    /// Channels of the output.
    pub output_feature: usize,
    /// Height and width of the output.
    pub output_spatial: [usize; 2],
}

/// NHWC input, HWIO filter, NHWC output: channels last, as XLA's backends like it.
impl Default for ConvDims {
    fn default() -> Self {
        ConvDims {
            input_batch: 0,
            input_feature: 3,
            input_spatial: [1, 2],
            filter_input_feature: 2,
            filter_output_feature: 3,
            filter_spatial: [0, 1],
            output_batch: 0,
            output_feature: 3,
            output_spatial: [1, 2],
        }
    }
}

impl ConvDims {
    /// The four dimensions of input, filter and output, with the names errors use.
    pub(crate) fn orders(&self) -> [(&'static str, [usize; 4]); 3] {
        let order = |a, b, [c, d]: [usize; 2]| [a, b, c, d];
        [
            (
                "dimensions of x",
                order(self.input_batch, self.input_feature, self.input_spatial),
            ),
            (
                "dimensions of filter",
                order(
                    self.filter_input_feature,
                    self.filter_output_feature,
                    self.filter_spatial,
                ),
            ),
            (
                "dimensions of the result",
                order(self.output_batch, self.output_feature, self.output_spatial),
            ),
        ]
    }
}
