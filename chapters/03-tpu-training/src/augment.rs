//! Images moved (and, in colour, mirrored) at random, on the device.
//!
//! Each image of a batch has its own draw. The random bits are a function of
//! seed, epoch and step alone (Threefry), so that a resumed run draws what the
//! uninterrupted one drew, and every device draws the same.

use training_graph::{Comparison, DType, Graph, GraphError, Value};

/// What may happen to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augmentation {
    /// Moved by up to this many pixels, up or down and left or right. What comes
    /// in at the edge is the mean pixel.
    pub shift: usize,
    /// Mirrored left to right, every second time.
    pub mirror: bool,
}

impl Augmentation {
    /// One pixel for digits, which mean something else in a mirror; four pixels and
    /// a mirror for 32x32 colour images, as ResNets are trained on CIFAR-10 (He et al.
    /// 2015, "Deep Residual Learning for Image Recognition", section 4.2).
    pub fn for_images(side: usize, channels: usize) -> Self {
        Augmentation {
            shift: (side / 8).max(1),
            mirror: channels > 1,
        }
    }
}

// ANCHOR: augment
/// The batch with each image moved and mirrored by its own draw.
///
/// * `images`: `[batch, side, side, channels]`, normalised: the mean pixel is 0
/// * `key`: u32 `[2]`, of seed and epoch
/// * `step`: i32 `[]`, within the epoch
///
/// # Errors
/// If shapes do not fit.
pub fn augment(
    graph: &mut Graph,
    augmentation: Augmentation,
    images: Value,
    key: Value,
    step: Value,
) -> Result<Value, GraphError> {
    let batch = graph.dims(images)[0];
    let step = graph.convert(step, DType::U32)?;
    let key = graph.random_fold_in(key, step)?;
    let bits = graph.random_bits(key, &[3 * batch])?;
    let draw = |graph: &mut Graph, number: usize, below: usize| {
        let bits = graph.slice(bits, &[number * batch], &[(number + 1) * batch], &[1])?;
        let below = graph.full(below as f32, &[batch], DType::U32)?;
        graph.remainder(bits, below)
    };
    let offsets = 2 * augmentation.shift + 1;
    let mut x = images;
    for axis in [1, 2] {
        let offset = draw(graph, axis - 1, offsets)?;
        x = shift(graph, x, axis, augmentation.shift, offset)?;
    }
    if augmentation.mirror {
        let side = draw(graph, 2, 2)?;
        let mirrored = graph.reverse(x, &[2])?;
        x = select_images(graph, side, 1, mirrored, x)?;
    }
    Ok(x)
}

/// Moves each image along one axis: by `offset - reach` pixels.
///
/// A gather of single pixels would do it at once and be slow everywhere; choosing
/// between the few shifted copies is element-wise work that XLA fuses.
fn shift(
    graph: &mut Graph,
    x: Value,
    axis: usize,
    reach: usize,
    offset: Value,
) -> Result<Value, GraphError> {
    let mut moved = x;
    for place in 0..=2 * reach {
        let by = place as i64 - reach as i64;
        if by == 0 {
            continue;
        }
        let (mut low, mut high) = (vec![0; 4], vec![0; 4]);
        low[axis] = by;
        high[axis] = -by;
        let copy = graph.pad(x, 0.0, &low, &high, &[0; 4])?;
        moved = select_images(graph, offset, place, copy, moved)?;
    }
    Ok(moved)
}
// ANCHOR_END: augment

/// `chosen` for the images whose draw is `value`, `other` for the rest.
fn select_images(
    graph: &mut Graph,
    draw: Value,
    value: usize,
    chosen: Value,
    other: Value,
) -> Result<Value, GraphError> {
    let batch = graph.dims(draw)[0];
    let value = graph.full(value as f32, &[batch], DType::U32)?;
    let hit = graph.compare(Comparison::Eq, draw, value)?;
    let dims = graph.dims(chosen).to_vec();
    let hit = graph.broadcast(hit, &dims, &[0])?;
    graph.select(hit, chosen, other)
}

/// The key of an epoch's draws, from the seed: u32 `[2]`.
pub fn key(seed: u64, epoch: usize) -> [u32; 2] {
    // The seed's two halves, the epoch mixed into one by an odd factor: distinct
    // epochs of one seed have distinct keys.
    let epoch = (epoch as u32).wrapping_mul(0x9E37_79B9);
    [seed as u32, (seed >> 32) as u32 ^ epoch]
}
