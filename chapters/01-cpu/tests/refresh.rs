//! An engine that takes up a newer model: between two batches, and only a good one.

use std::{
    fs, io,
    sync::{
        Arc, Mutex,
        atomic::AtomicBool,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use cpu_inference::{
    engine::{Batch, Engine, EngineError, Logits},
    model::{Model, Source, Wishes},
    pipeline::{self, Input, Item, Settings},
    preprocess::{Picture, Transform},
    refresh::{News, RefreshError, Refreshing, Served, Signature, Watcher, try_one},
};
use datasets::serving::{MODEL, Published, ServingFolder};
use serde_json::json;
use tempfile::TempDir;

/// Longer than any step of these tests on a busy machine; a hang ends here.
const LIMIT: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(1);

/// What a fake engine does before it answers, told the number of the batch.
type Before = Box<dyn FnMut(usize) + Send>;

/// Answers with one score: that of its version.
struct Fake {
    score: f32,
    batches: usize,
    before: Before,
}

impl Fake {
    fn of(score: f32) -> Box<dyn Engine> {
        Fake::with(score, |_| {})
    }

    fn with(score: f32, before: impl FnMut(usize) + Send + 'static) -> Box<dyn Engine> {
        Box::new(Fake {
            score,
            batches: 0,
            before: Box::new(before),
        })
    }
}

impl Engine for Fake {
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        (self.before)(self.batches);
        self.batches += 1;
        Ok(Logits {
            values: vec![self.score; batch.shape[0]],
            classes: 1,
        })
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 1, 1]
    }
}

/// A serving folder, and what is told of it.
struct Place {
    dir: TempDir,
    folder: ServingFolder,
    tell: Sender<News>,
    news: Receiver<News>,
    /// The versions that were loaded, in their order.
    loaded: Arc<Mutex<Vec<String>>>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = ServingFolder::new(dir.path().join("serving"));
        let (tell, news) = mpsc::channel();
        let place = Place {
            dir,
            folder,
            tell,
            news,
            loaded: Arc::default(),
        };
        place.publish("1");
        place
    }

    /// Publishes a version whose name is its score; "bad" versions cannot be loaded.
    fn publish(&self, version: &str) {
        let model = self.dir.path().join("model");
        fs::write(&model, version).unwrap();
        self.folder.publish(version, &model, &json!({})).unwrap();
    }

    fn watch(&self, engine: &Refreshing) -> Watcher {
        let loaded = Arc::clone(&self.loaded);
        let load = move |published: &Published| {
            loaded.lock().unwrap().push(published.version.clone());
            let text = fs::read_to_string(&published.model).unwrap();
            match text.parse() {
                Ok(score) => Ok(Fake::of(score)),
                Err(_) => Err(RefreshError::Scores {
                    classes: 1,
                    got: vec![],
                }),
            }
        };
        let tell = self.tell.clone();
        engine
            .watch(self.folder.clone(), EVERY, load, move |news| {
                // The test is over, and nobody listens any more.
                let _ = tell.send(news);
            })
            .unwrap()
    }

    fn next(&self) -> News {
        self.news.recv_timeout(LIMIT).expect("news")
    }

    #[track_caller]
    fn expect_taken_up(&self, expected: &str) {
        match self.next() {
            News::TakenUp { version } => assert_eq!(&*version, expected),
            other => panic!("{other:?} in place of {expected}"),
        }
    }

    #[track_caller]
    fn expect_refused(&self, expected: &str) {
        match self.next() {
            News::Refused { version, .. } => assert_eq!(&*version, expected),
            other => panic!("{other:?} in place of {expected}"),
        }
    }

    #[track_caller]
    fn expect_unclear(&self, said: &str) {
        match self.next() {
            News::Unclear { reason } => assert!(reason.contains(said), "{reason}"),
            other => panic!("{other:?} in place of {said}"),
        }
    }
}

fn infer(engine: &mut dyn Engine, images: usize) -> Vec<f32> {
    let batch = Batch {
        pixels: &vec![0.0; images],
        shape: [images, 1, 1, 1],
    };
    engine.infer(batch).unwrap().values
}

fn counted(served: &Served, images: usize) -> Vec<String> {
    (0..images)
        .map(|_| served.count().expect("a version").to_string())
        .collect()
}

fn totals(served: &Served) -> Vec<(String, usize)> {
    let images = served.images().into_iter();
    images.map(|(v, n)| (v.to_string(), n)).collect()
}

#[test]
fn a_newer_model_serves_from_the_next_batch_on() {
    let place = Place::new();
    let mut engine = Refreshing::new(Fake::of(1.0), "1");
    let served = engine.served();
    let _watcher = place.watch(&engine);
    assert_eq!(infer(&mut engine, 3), [1.0; 3]);
    place.publish("2");
    place.expect_taken_up("2");
    assert_eq!(infer(&mut engine, 2), [2.0; 2]);
    // Back to the older one, as to a newer one.
    place.folder.point_to("1").unwrap();
    place.expect_taken_up("1");
    assert_eq!(infer(&mut engine, 1), [1.0]);

    assert_eq!(counted(&served, 6), ["1", "1", "1", "2", "2", "1"]);
    assert_eq!(served.count(), None, "an image that no batch had");
    let expected = [("1".to_owned(), 4), ("2".to_owned(), 2)];
    assert_eq!(totals(&served), expected);
    assert_eq!(*place.loaded.lock().unwrap(), ["2", "1"]);
}

#[test]
fn of_two_that_wait_the_newest_serves() {
    let place = Place::new();
    let mut engine = Refreshing::new(Fake::of(1.0), "1");
    let _watcher = place.watch(&engine);
    for version in ["2", "3"] {
        place.publish(version);
        place.expect_taken_up(version);
    }
    assert_eq!(infer(&mut engine, 1), [3.0]);
}

#[test]
fn what_cannot_be_loaded_is_told_once_and_the_old_one_stays() {
    let place = Place::new();
    let mut engine = Refreshing::new(Fake::of(1.0), "1");
    let _watcher = place.watch(&engine);
    place.publish("bad");
    place.expect_refused("bad");
    assert_eq!(infer(&mut engine, 1), [1.0]);
    // Looked at again and again in the meantime, and read once.
    std::thread::sleep(20 * EVERY);
    place.publish("2");
    place.expect_taken_up("2");
    place.folder.point_to("bad").unwrap();
    std::thread::sleep(20 * EVERY);
    place.publish("3");
    place.expect_taken_up("3");
    assert_eq!(infer(&mut engine, 1), [3.0]);
    assert_eq!(*place.loaded.lock().unwrap(), ["bad", "2", "3"]);

    // Copied by other means, and whole only now.
    place.folder.point_to("bad").unwrap();
    fs::write(place.folder.path().join("bad").join(MODEL), "4.5").unwrap();
    place.expect_taken_up("bad");
    assert_eq!(infer(&mut engine, 1), [4.5]);
}

#[test]
fn a_pointer_that_leads_nowhere_is_told_once_and_the_old_one_stays() {
    let place = Place::new();
    let mut engine = Refreshing::new(Fake::of(1.0), "1");
    let _watcher = place.watch(&engine);
    let pointer = place.folder.path().join("current");
    let replace = |text: &str| {
        let new = place.dir.path().join("pointer");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &pointer).unwrap();
    };
    replace("../x\n");
    place.expect_unclear("got \"../x\\n\"");
    replace("9\n");
    place.expect_unclear("no such file");
    fs::remove_file(&pointer).unwrap();
    place.expect_unclear("no version is pointed to any more");
    assert_eq!(infer(&mut engine, 1), [1.0]);
    std::thread::sleep(20 * EVERY);
    place.publish("2");
    place.expect_taken_up("2");
    assert_eq!(infer(&mut engine, 1), [2.0]);
}

#[test]
fn nothing_is_taken_up_after_the_watch() {
    let place = Place::new();
    let mut engine = Refreshing::new(Fake::of(1.0), "1");
    drop(place.watch(&engine));
    place.publish("2");
    std::thread::sleep(20 * EVERY);
    assert_eq!(infer(&mut engine, 1), [1.0]);
    assert!(place.loaded.lock().unwrap().is_empty());
}

#[test]
fn a_batch_that_fails_is_not_counted() {
    struct Failing;
    impl Engine for Failing {
        fn infer(&mut self, _: Batch) -> Result<Logits, EngineError> {
            Err(EngineError::Library {
                engine: "failing",
                message: "no".into(),
            })
        }
        fn image_shape(&self) -> [usize; 3] {
            [1, 1, 1]
        }
    }
    let mut engine = Refreshing::new(Box::new(Failing), "1");
    let batch = Batch {
        pixels: &[0.0],
        shape: [1, 1, 1, 1],
    };
    engine.infer(batch).unwrap_err();
    assert_eq!(engine.served().count(), None);
}

/// The newer model is published, and is there to be taken up, while a batch is
/// under way: that batch is still the old one's.
#[test]
fn in_the_pipeline_no_image_is_lost_and_no_batch_is_mixed() {
    const COUNT: usize = 1000;
    const BATCH: usize = 8;
    let place = Place::new();
    let (publish, published) = mpsc::channel();
    let (taken_up, go_on) = mpsc::channel();
    let first = Fake::with(1.0, move |batch| {
        if batch == 5 {
            publish.send(()).unwrap();
            go_on.recv_timeout(LIMIT).expect("a newer model");
        }
    });
    let engine = Refreshing::new(first, "1");
    let served = engine.served();
    let watcher = place.watch(&engine);
    let items = (0..COUNT).map(|index| Item {
        index,
        name: index.to_string(),
        label: None,
        // Every seventh picture is bad, and no batch has it.
        input: match index % 7 {
            6 => Input::File("no/such/picture.png".into()),
            _ => Input::Picture(Picture {
                width: 1,
                height: 1,
                channels: 1,
                pixels: vec![0],
            }),
        },
    });
    let transform = Transform {
        resize: None,
        crop: 1,
        mean: vec![0.0],
        std: vec![1.0],
    };
    let settings = Settings {
        batch: BATCH,
        max_pixels: None,
        max_wait: LIMIT,
        decoders: 2,
        top_k: 1,
    };
    let lines = Arc::new(Mutex::new(Vec::<(usize, Option<String>)>::new()));
    let sink = {
        let (lines, served) = (Arc::clone(&lines), served.clone());
        move |prediction: &pipeline::Prediction| -> io::Result<()> {
            let version = match prediction.outcome {
                Ok(_) => served.count().map(|version| version.to_string()),
                Err(_) => None,
            };
            lines.lock().unwrap().push((prediction.index, version));
            Ok(())
        }
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = runtime.spawn(pipeline::run(
        items,
        transform,
        Box::new(engine),
        settings,
        Arc::new(AtomicBool::new(false)),
        sink,
    ));
    published.recv_timeout(LIMIT).expect("the sixth batch");
    place.publish("2");
    place.expect_taken_up("2");
    taken_up.send(()).unwrap();
    let (report, _) = runtime.block_on(run).unwrap().unwrap();
    drop(watcher);

    let lines = lines.lock().unwrap();
    let bad = (0..COUNT).filter(|index| index % 7 == 6).count();
    assert_eq!((report.predicted, report.failed), (COUNT - bad, bad));
    for (position, (index, version)) in lines.iter().enumerate() {
        assert_eq!(*index, position);
        let expected = match index {
            index if index % 7 == 6 => None,
            index if *index < 6 * BATCH => Some("1"),
            _ => Some("2"),
        };
        assert_eq!(version.as_deref(), expected, "image {index}");
    }
    assert_eq!(lines.len(), COUNT);
    let total: usize = totals(&served).iter().map(|(_, images)| images).sum();
    assert_eq!(total, COUNT - bad);
}

fn digits() -> Model {
    Model::open(&Source::Digits, Wishes::default(), true).unwrap()
}

#[test]
fn a_model_for_other_pictures_or_classes_is_refused() {
    let served = Signature::of(&digits());
    served.check(&digits()).unwrap();
    type Change = fn(&mut Model);
    let changes: [(Change, &str); 7] = [
        (|model| model.config.channels = 3, "channels: 1, as"),
        (|model| model.transform.crop = 16, "8 x 8 pixels"),
        (|model| model.transform.mean[0] += 0.1, "mean"),
        (|model| model.transform.std[0] += 0.1, "std"),
        (|model| model.config.classes = 9, "classes: 10, as"),
        (
            |model| model.labels[3] = "drei".into(),
            "got \"drei\" for class 3",
        ),
        (|model| model.labels.clear(), "got no names"),
    ];
    for (change, said) in changes {
        let mut newer = digits();
        change(&mut newer);
        let error = served.check(&newer).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn a_model_whose_scores_are_no_numbers_is_refused() {
    try_one(&mut *Fake::of(1.0), 1).unwrap();
    for (score, classes) in [(f32::NAN, 1), (f32::INFINITY, 1), (1.0, 2)] {
        let error = try_one(&mut *Fake::of(score), classes).unwrap_err();
        assert!(matches!(error, RefreshError::Scores { .. }), "{error}");
    }
}
