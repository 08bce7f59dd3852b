//! An engine that splits what does not fit: a batch without memory for it is
//! halved until it fits, and later batches are cut to that size at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::engine::{Batch, Engine, EngineError, Logits};

/// Wraps an engine for `--shrink-on-oom`.
pub struct Shrinking {
    engine: Box<dyn Engine>,
    fits: Fits,
    on_shrink: Box<dyn FnMut(usize, usize) + Send>,
}

/// The largest batch that may still fit, in images. Clones share it.
#[derive(Clone, Debug)]
pub struct Fits(Arc<AtomicUsize>);

impl Default for Fits {
    fn default() -> Self {
        Fits(Arc::new(AtomicUsize::new(usize::MAX)))
    }
}

impl Fits {
    /// The number; `usize::MAX` as long as nothing was refused.
    pub fn images(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shrinking {
    /// * `on_shrink`: told the size that did not fit, and the next to be tried
    pub fn new(
        engine: Box<dyn Engine>,
        on_shrink: impl FnMut(usize, usize) + Send + 'static,
    ) -> Self {
        Shrinking {
            engine,
            fits: Fits::default(),
            on_shrink: Box::new(on_shrink),
        }
    }

    /// Takes what another engine on the same device has found to fit, and shares it.
    pub fn sharing(mut self, fits: &Fits) -> Self {
        self.fits = fits.clone();
        self
    }

    /// What fits, to be read while the engine is at work elsewhere.
    pub fn fits(&self) -> Fits {
        self.fits.clone()
    }
}

impl Engine for Shrinking {
    // ANCHOR: shrink
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        let [images, channels, height, width] = batch.shape;
        let image = channels * height * width;
        if images == 0 || batch.pixels.len() != images * image {
            // Nothing to split; the engine says what is wrong with it.
            return self.engine.infer(batch);
        }
        let (mut values, mut classes) = (vec![], 0);
        let mut done = 0;
        while done < images {
            let size = (images - done).min(self.fits.images());
            let part = Batch {
                pixels: &batch.pixels[done * image..(done + size) * image],
                shape: [size, channels, height, width],
            };
            match self.engine.infer(part) {
                Ok(logits) => {
                    classes = logits.classes;
                    values.extend(logits.values);
                    done += size;
                }
                // One image is all there is to split.
                Err(EngineError::OutOfMemory { .. }) if size > 1 => {
                    self.fits.0.store(size / 2, Ordering::Relaxed);
                    (self.on_shrink)(size, size / 2);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Logits { values, classes })
    }
    // ANCHOR_END: shrink

    fn image_shape(&self) -> [usize; 3] {
        self.engine.image_shape()
    }
}
