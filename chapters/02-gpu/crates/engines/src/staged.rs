//! An engine whose input is laid ready before the clock starts, so that the clock sees the model
//! and not the copy of its input.

use cpu_inference::{
    engine::{Batch, Engine, EngineError, Logits},
    tch_engine::{Prepared, TchEngine, refused},
};
use tch::TchError;

/// Lays a batch ready, then runs it as often as wanted.
pub trait Staged: Engine {
    /// Copies a batch to the device, in the layout and dtype of the engine.
    ///
    /// # Errors
    /// [`EngineError`] if the shape does not fit or the library refuses.
    fn stage(&mut self, batch: Batch) -> Result<(), EngineError>;

    /// Runs the batch that was laid ready last, and waits for its logits: f32, on the host.
    ///
    /// # Errors
    /// [`EngineError`] if no batch is ready or the library refuses.
    fn run(&mut self) -> Result<Logits, EngineError>;
}

/// Refuses a batch of another image size, or with too few or too many pixels.
///
/// * `expected`: `[channels, height, width]`
///
/// # Errors
/// [`EngineError::Shape`].
pub fn check(batch: &Batch, expected: [usize; 3]) -> Result<(), EngineError> {
    let [images, channels, height, width] = batch.shape;
    let got = [channels, height, width];
    let pixels = batch.shape.iter().product::<usize>();
    if got != expected || images == 0 || batch.pixels.len() != pixels {
        return Err(EngineError::Shape { expected, got });
    }
    Ok(())
}

/// What an engine says that was asked to run before a batch was laid ready.
pub fn nothing_staged(engine: &'static str) -> EngineError {
    EngineError::Library {
        engine,
        message: "no batch was laid ready".into(),
    }
}

/// Chapter 1's engine, staged.
#[derive(Debug)]
pub struct StagedTch {
    engine: TchEngine,
    ready: Option<(Prepared, usize)>,
}

impl StagedTch {
    /// Takes an engine as it was loaded.
    pub fn new(engine: TchEngine) -> Self {
        StagedTch {
            engine,
            ready: None,
        }
    }
}

impl Engine for StagedTch {
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        self.engine.infer(batch)
    }

    fn image_shape(&self) -> [usize; 3] {
        self.engine.image_shape()
    }
}

impl Staged for StagedTch {
    fn stage(&mut self, batch: Batch) -> Result<(), EngineError> {
        check(&batch, self.image_shape())?;
        let images = batch.shape[0];
        let prepared = self.engine.prepare(batch);
        let prepared = prepared.map_err(|error| refused(error, images))?;
        self.ready = Some((prepared, images));
        Ok(())
    }

    fn run(&mut self) -> Result<Logits, EngineError> {
        let (input, images) = self
            .ready
            .as_ref()
            .ok_or_else(|| nothing_staged("libtorch"))?;
        let logits = |engine: &TchEngine| -> Result<Vec<f32>, TchError> {
            // The copy to the host waits for the device.
            Vec::<f32>::try_from(engine.forward(input)?.f_reshape([-1])?)
        };
        let values = logits(&self.engine).map_err(|error| refused(error, *images))?;
        Ok(Logits {
            classes: values.len() / images,
            values,
        })
    }
}
