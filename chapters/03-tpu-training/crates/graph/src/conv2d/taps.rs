//! What each tap of a filter sees of an image.

use super::Conv2d;
use crate::{DType, Graph, GraphError, Value};

/// Sizes of a convolution of NHWC images.
pub(super) struct Geometry {
    pub batch: usize,
    pub channels_in: usize,
    pub channels_out: usize,
    pub dtype: DType,
    /// Height, then width.
    pub axes: [Axis; 2],
}

/// One spatial dimension of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    /// Its position in NHWC.
    pub dim: usize,
    pub input: usize,
    pub output: usize,
    pub window: usize,
    stride: usize,
    padding: [i64; 2],
}

/// What one tap sees along one dimension: input `input + i * stride` is seen by
/// output `output + i`, for `i` in `0..count`.
#[derive(Clone, Copy)]
pub(super) struct Span {
    axis: Axis,
    input: usize,
    output: usize,
    count: usize,
}

/// A tap that sees something: its spans along one or both dimensions.
pub(super) struct Tap {
    /// Position of the tap in its filter, row by row.
    pub index: usize,
    spans: Vec<Span>,
}

impl Geometry {
    /// Of a convolution that has been checked.
    pub fn of(g: &Graph, x: Value, filter: Value, attributes: &Conv2d) -> Geometry {
        let (x, filter) = (g.type_of(x), g.type_of(filter));
        let axes = [0, 1].map(|i| {
            let (input, window) = (x.dims[i + 1], filter.dims[i]);
            let (stride, padding) = (attributes.strides[i], attributes.padding[i]);
            Axis {
                dim: i + 1,
                input,
                output: crate::build::windows(input, window, stride, padding).unwrap_or(0),
                window,
                stride,
                padding,
            }
        });
        Geometry {
            batch: x.dims[0],
            channels_in: filter.dims[2],
            channels_out: filter.dims[3],
            dtype: x.dtype,
            axes,
        }
    }

    /// All taps along `axes` that see something, row by row.
    pub fn taps(&self, axes: &[Axis]) -> Vec<Tap> {
        let mut taps = vec![Tap {
            index: 0,
            spans: vec![],
        }];
        for axis in axes {
            let spans: Vec<(usize, Span)> = (0..axis.window)
                .filter_map(|offset| Some((offset, axis.span(offset)?)))
                .collect();
            taps = taps
                .iter()
                .flat_map(|tap| {
                    spans.iter().map(|&(offset, span)| Tap {
                        index: tap.index * axis.window + offset,
                        spans: [&tap.spans[..], &[span]].concat(),
                    })
                })
                .collect();
        }
        taps
    }

    /// Number of taps of the filter.
    pub fn tap_count(&self) -> usize {
        self.axes[0].window * self.axes[1].window
    }

    /// Shape of the input.
    pub fn input_dims(&self) -> [usize; 4] {
        let [height, width] = self.axes;
        [self.batch, height.input, width.input, self.channels_in]
    }

    /// Shape of the output.
    pub fn output_dims(&self) -> [usize; 4] {
        let [height, width] = self.axes;
        [self.batch, height.output, width.output, self.channels_out]
    }

    /// Shape of the filter.
    pub fn filter_dims(&self) -> [usize; 4] {
        let [height, width] = self.axes;
        [
            height.window,
            width.window,
            self.channels_in,
            self.channels_out,
        ]
    }

    /// The convolution of the padded image, which needs no padding.
    pub fn without_padding(&self) -> Geometry {
        let axes = self.axes.map(|axis| Axis {
            input: (axis.input as i64 + axis.padding[0] + axis.padding[1]) as usize,
            padding: [0, 0],
            ..axis
        });
        Geometry { axes, ..*self }
    }

    /// The padded image, and its convolution.
    pub fn padded(&self, g: &mut Graph, x: Value) -> Result<(Value, Geometry), GraphError> {
        let [[top, bottom], [left, right]] = self.axes.map(|axis| axis.padding);
        let x = g.pad(x, 0.0, &[0, top, left, 0], &[0, bottom, right, 0], &[0; 4])?;
        Ok((x, self.without_padding()))
    }

    /// The image without its padding.
    pub fn cropped(&self, g: &mut Graph, x: Value) -> Result<Value, GraphError> {
        let [[top, bottom], [left, right]] = self.axes.map(|axis| axis.padding);
        g.pad(
            x,
            0.0,
            &[0, -top, -left, 0],
            &[0, -bottom, -right, 0],
            &[0; 4],
        )
    }
}

impl Axis {
    /// Offset of the tap through which output `output` sees input `input`.
    pub fn tap_between(self, input: usize, output: usize) -> Option<usize> {
        let window_start = (output * self.stride) as i64 - self.padding[0];
        let offset = usize::try_from(input as i64 - window_start).ok()?;
        (offset < self.window).then_some(offset)
    }

    /// What the tap at `offset` sees. `None`: nothing but padding.
    fn span(self, offset: usize) -> Option<Span> {
        // Output o sees input o * stride + shift.
        let stride = self.stride as i64;
        let shift = offset as i64 - self.padding[0];
        let last_input = self.input as i64 - 1 - shift;
        if last_input < 0 {
            return None;
        }
        let first = if shift < 0 {
            (-shift + stride - 1) / stride
        } else {
            0
        };
        let last = (last_input / stride).min(self.output as i64 - 1);
        if first > last {
            return None;
        }
        Some(Span {
            axis: self,
            input: (first * stride + shift) as usize,
            output: first as usize,
            count: (last - first + 1) as usize,
        })
    }
}

impl Tap {
    /// The elements of an input that this tap sees.
    pub fn seen(&self, g: &mut Graph, x: Value) -> Result<Value, GraphError> {
        self.slice(g, x, |span| (span.input, span.axis.stride))
    }

    /// The elements of an output that see something through this tap.
    pub fn seeing(&self, g: &mut Graph, y: Value) -> Result<Value, GraphError> {
        self.slice(g, y, |span| (span.output, 1))
    }

    /// Elements at the places of the outputs that see something, among zeros.
    pub fn at_outputs(&self, g: &mut Graph, x: Value) -> Result<Value, GraphError> {
        self.pad(g, x, |span| (span.output, 1, span.axis.output))
    }

    /// Elements at the places of the inputs that are seen, among zeros.
    pub fn at_inputs(&self, g: &mut Graph, y: Value) -> Result<Value, GraphError> {
        self.pad(g, y, |span| (span.input, span.axis.stride, span.axis.input))
    }

    /// `S_t`: an input as this tap shows it to the outputs.
    pub fn to_outputs(&self, g: &mut Graph, x: Value) -> Result<Value, GraphError> {
        let seen = self.seen(g, x)?;
        self.at_outputs(g, seen)
    }

    /// `S_t^T`: an output moved back to the inputs it saw.
    pub fn to_inputs(&self, g: &mut Graph, y: Value) -> Result<Value, GraphError> {
        let seeing = self.seeing(g, y)?;
        self.at_inputs(g, seeing)
    }

    fn slice(
        &self,
        g: &mut Graph,
        x: Value,
        place: impl Fn(&Span) -> (usize, usize),
    ) -> Result<Value, GraphError> {
        let mut limit = g.dims(x).to_vec();
        let mut start = vec![0; limit.len()];
        let mut stride = vec![1; limit.len()];
        for span in &self.spans {
            let dim = span.axis.dim;
            (start[dim], stride[dim]) = place(span);
            limit[dim] = start[dim] + (span.count - 1) * stride[dim] + 1;
        }
        g.slice(x, &start, &limit, &stride)
    }

    fn pad(
        &self,
        g: &mut Graph,
        x: Value,
        place: impl Fn(&Span) -> (usize, usize, usize),
    ) -> Result<Value, GraphError> {
        let rank = g.dims(x).len();
        let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
        let mut interior = vec![0; rank];
        for span in &self.spans {
            let dim = span.axis.dim;
            let (first, stride, size) = place(span);
            let end = first + (span.count - 1) * stride + 1;
            low[dim] = first as i64;
            high[dim] = (size - end) as i64;
            interior[dim] = stride - 1;
        }
        g.pad(x, 0.0, &low, &high, &interior)
    }
}
