//! The names of ImageNet's classes, in the order of the logits of torchvision's models.
//!
//! Source: torchvision 0.29.2, `torchvision/models/_meta.py`, BSD 3-Clause (notice in
//! `imagenet/README.md` beside the list).

/// How many classes ImageNet-1k (ILSVRC 2012) has.
pub const CLASSES: usize = 1000;

/// The class names, one a line; line `i` (from 0) names logit `i`.
const NAMES: &str = include_str!("../imagenet/classes.txt");

/// The 1,000 class names; `classes()[i]` names logit `i`.
pub fn classes() -> Vec<&'static str> {
    NAMES.lines().collect()
}
