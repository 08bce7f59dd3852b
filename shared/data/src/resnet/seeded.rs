//! Weights and inputs from an integer hash: the same bits in Rust and in the
//! peers' Python (`ci/peers/seeded_weights.py` has the same recipe).
//!
//! The bound `sqrt(6 / fan_in)` is Kaiming's uniform one (He et al. 2015,
//! "Delving Deep into Rectifiers", section 2.2): activations keep their size
//! from layer to layer, so an error anywhere shows in the logits, and none
//! overflows in bf16. Statistics are far from 0 and 1, so a wrong batch-norm
//! fold shows as well. The hash is FNV-1a over the name, then MurmurHash3's
//! finaliser over the index; both are in the public domain.

/// Element `index` of the stream of `name`: in `[-1, 1)`, exact in f32.
fn unit(name_hash: u32, index: u32) -> f32 {
    let mut z = name_hash.wrapping_add(index.wrapping_mul(0x9E37_79B9));
    z = (z ^ (z >> 16)).wrapping_mul(0x85EB_CA6B);
    z = (z ^ (z >> 13)).wrapping_mul(0xC2B2_AE35);
    z ^= z >> 16;
    (z >> 8) as f32 * (-23f32).exp2() - 1.0
}

/// FNV-1a over `"<seed>:<name>"`.
fn name_hash(seed: u32, name: &str) -> u32 {
    format!("{seed}:{name}")
        .bytes()
        .fold(0x811C_9DC5, |h, byte| {
            (h ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
}

/// The values of one tensor, row-major f32.
///
/// * `name`: a torchvision parameter or buffer name, or `input`
/// * `shape`: its dimensions
pub fn tensor(seed: u32, name: &str, shape: &[usize]) -> Vec<f32> {
    // The root is taken in f64 and rounded once, as NumPy does.
    let root = |x: f64| x.sqrt() as f32;
    let (offset, scale) = match shape {
        _ if name == "input" => (0.0, 2.0),
        _ if name.ends_with(".running_mean") => (0.0, 0.25),
        _ if name.ends_with(".running_var") => (1.0, 0.5),
        [_, fan @ .., _] if shape.len() == 4 => {
            let fan_in = fan.iter().product::<usize>() * shape[3];
            (0.0, root(6.0 / fan_in as f64))
        }
        [_, features] => (0.0, root(3.0 / *features as f64)),
        _ if name.ends_with(".weight") => (1.0, 0.25),
        _ => (0.0, 0.125),
    };
    let hash = name_hash(seed, name);
    let count = shape.iter().product::<usize>() as u32;
    (0..count).map(|i| offset + scale * unit(hash, i)).collect()
}
