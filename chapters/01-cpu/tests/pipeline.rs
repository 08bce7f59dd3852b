//! The stream with engines that are slow, that fail, or that look at what they
//! get: order, counts, batches, back-pressure, and every way to end early.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use cpu_inference::{
    engine::{Batch, Engine, EngineError, Logits},
    pipeline::{self, Input, Item, PipelineError, Prediction, Report, Settings},
    preprocess::{Picture, Transform},
};

/// Classes of the fake engines: one for each 8-bit grey value.
const CLASSES: usize = 256;
/// Height and width of the images that the fake engines take, in pixels.
const SIDE: usize = 8;
/// No test of this file may take longer: a stream that hangs fails it.
const LIMIT: Duration = Duration::from_secs(60);

/// What a fake engine does before it answers.
type Before = Box<dyn FnMut(usize, &Batch) -> Result<(), EngineError> + Send>;

/// Reads each image's grey value back from its pixels: the class that it
/// predicts tells which picture it was.
struct Reader {
    before: Before,
    calls: usize,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl Engine for Reader {
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        let call = self.calls;
        self.calls += 1;
        (self.before)(call, &batch)?;
        let [images, channels, height, width] = batch.shape;
        assert_eq!([channels, height, width], self.image_shape());
        assert_eq!(batch.pixels.len(), images * channels * height * width);
        self.sizes.lock().unwrap().push(images);
        let mut values = vec![0.0; images * CLASSES];
        for (image, pixels) in batch.pixels.chunks_exact(SIDE * SIDE).enumerate() {
            let grey = (pixels[0] * 255.0).round();
            for pixel in pixels {
                assert_eq!((pixel * 255.0).round(), grey, "two pictures in one image");
            }
            values[image * CLASSES + grey as usize] = 20.0;
        }
        Ok(Logits {
            values,
            classes: CLASSES,
        })
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, SIDE, SIDE]
    }
}

/// Everything that one stream left behind.
struct Ended {
    result: Result<Report, PipelineError>,
    written: Vec<Prediction>,
    sizes: Vec<usize>,
    seconds: f64,
}

impl Ended {
    #[track_caller]
    fn report(&self) -> &Report {
        self.result.as_ref().expect("the stream ran to its end")
    }

    /// Every item once, in order, with the class of its own grey value.
    #[track_caller]
    fn check_order(&self, count: usize) {
        let indices: Vec<usize> = self.written.iter().map(|p| p.index).collect();
        assert_eq!(indices, (0..count).collect::<Vec<_>>());
        for prediction in &self.written {
            assert_eq!(prediction.name, format!("picture-{}", prediction.index));
            if let Ok(scores) = &prediction.outcome {
                assert_eq!(scores[0].class, prediction.index % CLASSES);
            }
        }
    }
}

fn settings(batch: usize) -> Settings {
    Settings {
        batch,
        max_pixels: None,
        max_wait: Duration::from_secs(30),
        decoders: 4,
        top_k: 2,
    }
}

fn transform() -> Transform {
    Transform {
        resize: Some(SIDE as u32),
        crop: SIDE as u32,
        mean: vec![0.0],
        std: vec![1.0],
    }
}

/// A grey picture whose value is its index.
fn picture(index: usize, side: usize) -> Item {
    Item {
        index,
        name: format!("picture-{index}"),
        label: Some(index % CLASSES),
        input: Input::Picture(Picture {
            width: side as u32,
            height: side as u32,
            channels: 1,
            pixels: vec![(index % CLASSES) as u8; side * side],
        }),
    }
}

/// A picture that cannot be read.
fn missing(index: usize) -> Item {
    Item {
        input: Input::File("no/such/folder/picture.png".into()),
        ..picture(index, SIDE)
    }
}

fn stream(
    source: impl Iterator<Item = Item> + Send + 'static,
    settings: Settings,
    stop: &Arc<AtomicBool>,
    before: impl FnMut(usize, &Batch) -> Result<(), EngineError> + Send + 'static,
    mut refuse: impl FnMut(&Prediction) -> io::Result<()> + Send + 'static,
) -> Ended {
    let sizes = Arc::<Mutex<Vec<usize>>>::default();
    let written = Arc::<Mutex<Vec<Prediction>>>::default();
    let engine = Box::new(Reader {
        before: Box::new(before),
        calls: 0,
        sizes: Arc::clone(&sizes),
    });
    let sink = {
        let written = Arc::clone(&written);
        move |prediction: &Prediction| {
            refuse(prediction)?;
            written.lock().unwrap().push(prediction.clone());
            Ok(())
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let start = Instant::now();
    let run = pipeline::run(
        source,
        transform(),
        engine,
        settings,
        Arc::clone(stop),
        sink,
    );
    let result = runtime
        .block_on(async { tokio::time::timeout(LIMIT, run).await })
        .expect("the stream hangs")
        .map(|(report, _)| report);
    let seconds = start.elapsed().as_secs_f64();
    Ended {
        result,
        written: std::mem::take(&mut written.lock().unwrap()),
        sizes: sizes.lock().unwrap().clone(),
        seconds,
    }
}

fn run(source: impl Iterator<Item = Item> + Send + 'static, settings: Settings) -> Ended {
    stream(source, settings, &never(), |_, _| Ok(()), |_| Ok(()))
}

fn never() -> Arc<AtomicBool> {
    Arc::default()
}

#[test]
fn order_is_kept_when_decoding_takes_a_random_time() {
    // Sides from 1 to 700 pixels: the work varies half a million times.
    let source = (0..600).map(|index| picture(index, 1 + index * 7919 % 700));
    let ended = run(
        source,
        Settings {
            decoders: 8,
            ..settings(7)
        },
    );
    ended.check_order(600);
    let report = ended.report();
    assert_eq!(
        (report.read, report.predicted, report.failed),
        (600, 600, 0)
    );
    assert_eq!((report.labelled, report.correct), (600, 600));
    assert_eq!(report.latencies.len(), 600);
    assert!(!report.interrupted);
}

#[test]
fn bad_pictures_are_counted_and_do_not_shift_the_others() {
    let source = (0..100).map(|index| match index % 3 {
        1 => missing(index),
        _ => picture(index, SIDE),
    });
    let ended = run(source, settings(8));
    ended.check_order(100);
    let report = ended.report();
    assert_eq!(
        (report.read, report.predicted, report.failed),
        (100, 67, 33)
    );
    assert_eq!((report.labelled, report.correct), (67, 67));
    for prediction in &ended.written {
        assert_eq!(prediction.outcome.is_err(), prediction.index % 3 == 1);
    }
    // The model sees the good ones only.
    assert_eq!(ended.sizes.iter().sum::<usize>(), 67);
}

#[test]
fn a_stream_of_bad_pictures_never_wakes_the_model() {
    let ended = run((0..50).map(missing), settings(8));
    let report = ended.report();
    assert_eq!((report.read, report.predicted, report.failed), (50, 0, 50));
    assert_eq!(report.batches, 0);
    assert!(ended.sizes.is_empty());
}

#[test]
fn an_empty_source_ends_at_once() {
    let ended = run(std::iter::empty(), settings(8));
    let report = ended.report();
    assert_eq!((report.read, report.predicted, report.batches), (0, 0, 0));
    assert!(ended.seconds < 5.0);
}

#[test]
fn batches_form_by_size() {
    let ended = run((0..23).map(|index| picture(index, SIDE)), settings(5));
    assert_eq!(ended.sizes, [5, 5, 5, 5, 3]);
    assert_eq!(ended.report().batches, 5);
}

#[test]
fn batches_form_by_pixels() {
    let cost = SIDE * SIDE;
    for (max_pixels, expected) in [
        (3 * cost, vec![3, 3, 3, 1]),
        (4 * cost - 1, vec![3, 3, 3, 1]),
        (100 * cost, vec![8, 2]),
        // Less than one image: one at a time, for it must run somehow.
        (1, vec![1; 10]),
        (0, vec![1; 10]),
    ] {
        let ended = run(
            (0..10).map(|index| picture(index, SIDE)),
            Settings {
                max_pixels: Some(max_pixels),
                ..settings(8)
            },
        );
        assert_eq!(ended.sizes, expected, "at most {max_pixels} pixels");
    }
}

#[test]
fn batches_form_by_waiting_time() {
    // Three pictures, a pause longer than the longest wait, three more.
    let source = (0..6).map(|index| {
        if index == 3 {
            std::thread::sleep(Duration::from_millis(1500));
        }
        picture(index, SIDE)
    });
    let ended = run(
        source,
        Settings {
            max_wait: Duration::from_millis(300),
            ..settings(100)
        },
    );
    assert_eq!(ended.sizes, [3, 3]);
    // The first three did not wait for the others.
    let latencies = &ended.report().latencies;
    assert!(
        latencies[..3].iter().all(|&seconds| seconds < 1.4),
        "{latencies:?}"
    );
}

#[test]
fn the_longest_wait_of_all_is_no_panic() {
    let ended = run(
        (0..3).map(|index| picture(index, SIDE)),
        Settings {
            max_wait: Duration::MAX,
            ..settings(100)
        },
    );
    assert_eq!(ended.sizes, [3]);
}

#[test]
fn a_stalled_engine_holds_back_the_source() {
    let taken = Arc::<AtomicUsize>::default();
    let source = (0..10_000).map({
        let taken = Arc::clone(&taken);
        move |index| {
            taken.fetch_add(1, Ordering::SeqCst);
            picture(index, SIDE)
        }
    });
    let settings = settings(8);
    // In the model, ready for it, waiting to be the next, in the queue before,
    // and being decoded; one in the source's queue, and one in its hand.
    let most = 4 * settings.batch + settings.decoders + 2;
    let (seen_tx, seen_rx) = mpsc::channel();
    let stop = never();
    let ended = stream(
        source,
        settings,
        &stop.clone(),
        move |call, _| {
            if call < 3 {
                // Long enough for the stages before to run full.
                std::thread::sleep(Duration::from_millis(400));
                seen_tx.send((call, taken.load(Ordering::SeqCst))).unwrap();
            } else {
                stop.store(true, Ordering::SeqCst);
            }
            Ok(())
        },
        |_| Ok(()),
    );
    assert!(ended.report().interrupted);
    let seen: Vec<(usize, usize)> = seen_rx.iter().collect();
    assert_eq!(seen.len(), 3);
    for (call, taken) in seen {
        let ahead = taken - call * 8;
        assert!(
            ahead <= most,
            "call {call}: {ahead} pictures ahead of {most}"
        );
        assert!(ahead > 8, "call {call}: nothing was prepared meanwhile");
    }
}

#[test]
fn a_stalled_sink_holds_back_the_source() {
    let taken = Arc::<AtomicUsize>::default();
    let source = (0..10_000).map({
        let taken = Arc::clone(&taken);
        move |index| {
            taken.fetch_add(1, Ordering::SeqCst);
            picture(index, SIDE)
        }
    });
    let settings = settings(8);
    // As with a stalled engine, and three batches more: one in the sink, two in
    // the queue before it.
    let most = 7 * settings.batch + settings.decoders + 2;
    let stop = never();
    let seen = Arc::<AtomicUsize>::default();
    let ended = stream(source, settings, &stop.clone(), |_, _| Ok(()), {
        let seen = Arc::clone(&seen);
        move |prediction| {
            if prediction.index == 0 {
                std::thread::sleep(Duration::from_millis(500));
                seen.store(taken.load(Ordering::SeqCst), Ordering::SeqCst);
                stop.store(true, Ordering::SeqCst);
            }
            Ok(())
        }
    });
    let seen = seen.load(Ordering::SeqCst);
    assert!((8..=most).contains(&seen), "{seen} taken, at most {most}");
    assert_eq!(ended.written.len(), ended.report().read);
}

#[test]
fn an_engine_that_fails_ends_the_stream_and_keeps_what_was_written() {
    let ended = stream(
        (0..10_000).map(|index| picture(index, SIDE)),
        settings(4),
        &never(),
        |call, _| match call {
            3 => Err(EngineError::Library {
                engine: "fake",
                message: "out of memory".into(),
            }),
            _ => Ok(()),
        },
        |_| Ok(()),
    );
    let error = ended.result.as_ref().expect_err("the engine failed");
    let PipelineError::Engine(EngineError::Library { engine, message }) = error else {
        panic!("another error: {error:?}");
    };
    assert_eq!((*engine, message.as_str()), ("fake", "out of memory"));
    ended.check_order(12);
}

#[test]
fn an_engine_that_panics_is_an_error_and_no_hang() {
    let ended = stream(
        (0..10_000).map(|index| picture(index, SIDE)),
        settings(4),
        &never(),
        |call, _| {
            assert!(call < 2, "a fault in the engine, made by this test");
            Ok(())
        },
        |_| Ok(()),
    );
    let error = ended.result.as_ref().expect_err("the engine died");
    assert!(matches!(error, PipelineError::Stage(_)), "{error:?}");
    ended.check_order(8);
}

#[test]
fn a_source_that_panics_is_an_error_and_no_hang() {
    let ended = run(
        (0..100).map(|index| {
            assert!(index < 20, "a fault in the source, made by this test");
            picture(index, SIDE)
        }),
        settings(4),
    );
    let error = ended.result.as_ref().expect_err("the source died");
    assert!(matches!(error, PipelineError::Stage(_)), "{error:?}");
    ended.check_order(ended.written.len());
}

#[test]
fn a_sink_that_fails_ends_the_stream() {
    let ended = stream(
        (0..10_000).map(|index| picture(index, SIDE)),
        settings(4),
        &never(),
        |_, _| Ok(()),
        |prediction| match prediction.index {
            10 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        },
    );
    let error = ended.result.as_ref().expect_err("the sink failed");
    let PipelineError::Write(source) = error else {
        panic!("another error: {error:?}");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    ended.check_order(10);
    // A few batches were under way; not the whole source.
    assert!(ended.sizes.len() < 20, "{} batches", ended.sizes.len());
}

#[test]
fn the_stop_flag_drains_the_stream() {
    let stop = never();
    let taken = Arc::<AtomicUsize>::default();
    let ended = stream(
        (0..1_000_000).map({
            let taken = Arc::clone(&taken);
            move |index| {
                taken.fetch_add(1, Ordering::SeqCst);
                picture(index, SIDE)
            }
        }),
        settings(8),
        &stop.clone(),
        move |call, _| {
            stop.fetch_or(call == 5, Ordering::SeqCst);
            Ok(())
        },
        |_| Ok(()),
    );
    let report = ended.report();
    assert!(report.interrupted);
    assert!(report.read >= 6 * 8, "{} read", report.read);
    assert!(
        report.read < 6 * 8 + 200,
        "{} read after the stop",
        report.read
    );
    // One more is asked for, and left because of the flag.
    let taken = taken.load(Ordering::SeqCst);
    assert!(
        taken <= report.read + 1,
        "{taken} taken, {} read",
        report.read
    );
    // What went in came out.
    assert_eq!(report.predicted + report.failed, report.read);
    ended.check_order(report.read);
}

#[test]
fn a_stream_that_is_stopped_before_it_begins_reads_nothing() {
    let stop = Arc::new(AtomicBool::new(true));
    let ended = stream(
        (0..100).map(|index| picture(index, SIDE)),
        settings(8),
        &stop,
        |_, _| Ok(()),
        |_| Ok(()),
    );
    assert_eq!(ended.report().read, 0);
    assert!(ended.report().interrupted);
}

#[test]
fn stages_add_up_and_a_slow_model_shows_in_its_stage() {
    let ended = stream(
        (0..32).map(|index| picture(index, SIDE)),
        settings(8),
        &never(),
        |_, _| {
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        },
        |_| Ok(()),
    );
    let report = ended.report();
    assert!(report.stages.infer >= 4.0 * 0.05, "{:?}", report.stages);
    assert!(report.seconds >= report.stages.infer, "{report:?}");
    let slowest = report
        .stages
        .stages()
        .into_iter()
        .max_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(slowest.map(|(name, _)| name), Some("infer"));
    // A picture waits at least for its own batch.
    assert!(report.latencies.iter().all(|&seconds| seconds >= 0.05));
}

#[test]
fn probabilities_are_a_softmax_in_descending_order() {
    let scores = pipeline::top(&[1.0, 3.0, 2.0, 3.0], 3);
    let classes: Vec<usize> = scores.iter().map(|s| s.class).collect();
    assert_eq!(classes, [1, 3, 2], "ties go to the lower class");
    // e^1, e^2 and twice e^3 over their sum.
    assert!(
        (scores[0].probability - 0.399_486).abs() < 1e-5,
        "{scores:?}"
    );
    // Large logits do not overflow.
    let scores = pipeline::top(&[1e30, -1e30], 5);
    assert_eq!(scores.len(), 2);
    assert_eq!(scores[0].probability, 1.0);
}
