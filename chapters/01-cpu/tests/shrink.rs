//! `--shrink-on-oom`: a batch that does not fit is split, and nothing of it is lost.

use std::sync::{Arc, Mutex};

use cpu_inference::{
    engine::{Batch, Engine, EngineError, Logits},
    shrink::Shrinking,
};

/// Has memory for `room` images of two pixels, and answers with their pixels.
struct Small {
    room: usize,
    seen: Arc<Mutex<Vec<usize>>>,
}

impl Engine for Small {
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        let [images, channels, height, width] = batch.shape;
        let got = [channels, height, width];
        if got != self.image_shape() || batch.pixels.len() != images * 2 {
            return Err(EngineError::Shape {
                expected: self.image_shape(),
                got,
            });
        }
        self.seen.lock().unwrap().push(images);
        if images > self.room {
            return Err(EngineError::OutOfMemory {
                engine: "small",
                images,
                message: "full".into(),
            });
        }
        Ok(Logits {
            values: batch.pixels.to_vec(),
            classes: 2,
        })
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 1, 2]
    }
}

/// The engine, the sizes that it sees, and the shrinkings that are told.
type Parts = (
    Shrinking,
    Arc<Mutex<Vec<usize>>>,
    Arc<Mutex<Vec<(usize, usize)>>>,
);

fn shrinking(room: usize) -> Parts {
    let (seen, told) = (Arc::default(), Arc::<Mutex<Vec<_>>>::default());
    let small = Small {
        room,
        seen: Arc::clone(&seen),
    };
    let engine = Shrinking::new(Box::new(small), {
        let told = Arc::clone(&told);
        move |refused, next| told.lock().unwrap().push((refused, next))
    });
    (engine, seen, told)
}

fn infer(engine: &mut dyn Engine, images: usize) -> Result<Logits, EngineError> {
    let pixels: Vec<f32> = (0..images * 2).map(|n| n as f32).collect();
    engine.infer(Batch {
        pixels: &pixels,
        shape: [images, 1, 1, 2],
    })
}

#[test]
fn every_image_of_a_split_batch_keeps_its_place() {
    for (room, images) in [(3, 11), (1, 4), (7, 8), (5, 5), (2, 1)] {
        let (mut engine, ..) = shrinking(room);
        let logits = infer(&mut engine, images).unwrap();
        let expected: Vec<f32> = (0..images * 2).map(|n| n as f32).collect();
        assert_eq!(
            (logits.values, logits.classes),
            (expected, 2),
            "{room} of {images}"
        );
    }
}

#[test]
fn a_size_that_was_refused_is_not_tried_again() {
    let (mut engine, seen, told) = shrinking(3);
    let fits = engine.fits();
    assert_eq!(fits.images(), usize::MAX);
    infer(&mut engine, 11).unwrap();
    assert_eq!(*seen.lock().unwrap(), [11, 5, 2, 2, 2, 2, 2, 1]);
    assert_eq!(*told.lock().unwrap(), [(11, 5), (5, 2)]);
    assert_eq!(fits.images(), 2);
    seen.lock().unwrap().clear();
    infer(&mut engine, 4).unwrap();
    assert_eq!(*seen.lock().unwrap(), [2, 2]);
}

#[test]
fn one_image_that_does_not_fit_is_an_error() {
    let (mut engine, ..) = shrinking(0);
    let error = infer(&mut engine, 4).unwrap_err();
    assert!(
        matches!(error, EngineError::OutOfMemory { images: 1, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("--shrink-on-oom"));
}

#[test]
fn other_errors_pass_as_they_are() {
    let (mut engine, seen, told) = shrinking(1);
    for (pixels, shape) in [(vec![0.0; 4], [2, 1, 1, 3]), (vec![0.0; 3], [2, 1, 1, 2])] {
        let error = engine.infer(Batch {
            pixels: &pixels,
            shape,
        });
        assert!(matches!(error, Err(EngineError::Shape { .. })), "{error:?}");
    }
    let empty = infer(&mut engine, 0).unwrap();
    assert!(empty.values.is_empty());
    assert_eq!(*seen.lock().unwrap(), [0]);
    assert!(told.lock().unwrap().is_empty());
}
