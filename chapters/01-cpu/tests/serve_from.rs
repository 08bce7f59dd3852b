//! `--serve-from`: a run that takes up the models that are published while it runs.

mod program;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command as Process, Stdio},
};

use datasets::{
    checkpoint::{self, Checkpoint, Description, Dtype},
    serving::{MODEL, ServingFolder},
};
use program::{Finished, finish, predictions, process, program, root, summary, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A serving folder with the digits model as `v1`, and a folder for results.
struct Place {
    dir: TempDir,
    folder: ServingFolder,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = ServingFolder::new(dir.path().join("serving"));
        fs::create_dir(folder.path()).unwrap();
        Place { dir, folder }
    }

    fn with_v1() -> Self {
        let place = Place::new();
        place.publish("v1", &digits());
        place
    }

    fn publish(&self, version: &str, model: &Path) {
        let card = json!({"name": version});
        self.folder.publish(version, model, &card).unwrap();
    }

    /// The digits model with its last layer scaled: the same classes, other probabilities.
    fn scaled(&self, scale: f32, change: impl FnOnce(&mut Description)) -> PathBuf {
        let digits = Checkpoint::open(&digits()).unwrap();
        let tensors: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = digits
            .tensors()
            .map(|tensor| {
                let mut bytes = tensor.bytes.to_vec();
                if tensor.name.starts_with("fc.") {
                    for value in bytes.chunks_exact_mut(4) {
                        let number = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
                        value.copy_from_slice(&(number * scale).to_le_bytes());
                    }
                }
                (tensor.name.into(), tensor.shape.into(), tensor.dtype, bytes)
            })
            .collect();
        let mut description = digits.description.clone();
        change(&mut description);
        let path = self.dir.path().join("scaled.safetensors");
        checkpoint::write(&path, &tensors, &description, &BTreeMap::new()).unwrap();
        path
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    /// Starts a run of so many digits in small batches.
    fn start(&self, count: usize) -> Child {
        let stderr = File::create(self.dir.path().join("stderr")).unwrap();
        let _ = fs::remove_dir_all(self.out());
        let child = process()
            .args(["run", "--quick", "--data", "digits", "--batch", "8"])
            // A batch leaves when it is full, also where the machine is held up.
            .args(["--max-wait-ms", "100000"])
            .args(["--refresh-ms", "20", "--json"])
            .args(["--count", &count.to_string()])
            .arg("--serve-from")
            .arg(self.folder.path())
            .arg("--out")
            .arg(self.out())
            .stderr(Stdio::from(stderr))
            .spawn()
            .unwrap();
        wait_until("predictions", || {
            fs::read_to_string(self.out().join("predictions.jsonl"))
                .is_ok_and(|text| text.lines().count() > 20)
        });
        child
    }

    fn wait_for(&self, said: &str) {
        wait_until(said, || self.stderr().contains(said));
    }

    fn end(&self, child: Child) -> Finished {
        let output = child.wait_with_output().unwrap();
        Finished::new(output.status, &output.stdout, self.stderr().as_bytes())
    }

    /// A run that is refused before work begins.
    #[track_caller]
    fn refused(&self, said: &[&str]) {
        let run = finish(
            program()
                .args(["run", "--quick", "--serve-from"])
                .arg(self.folder.path())
                .arg("--out")
                .arg(self.out()),
        );
        run.refused(said);
        let left = fs::read_to_string(self.out().join("predictions.jsonl"));
        assert_eq!(left.unwrap_or_default(), "", "work began");
    }

    /// Every image in its order, none missing, each by one version; how many by each, in
    /// the order of first use, as the summary has it.
    #[track_caller]
    fn served(&self) -> Vec<(String, usize)> {
        let mut served: Vec<(String, usize)> = vec![];
        for (index, line) in predictions(&self.out()).iter().enumerate() {
            assert_eq!(line["index"], index, "out of order");
            assert!(line["top"].is_array(), "{line}");
            let version = line["model"].as_str().expect("a version");
            match served.iter_mut().find(|(v, _)| v == version) {
                Some((_, images)) => *images += 1,
                None => served.push((version.to_owned(), 1)),
            }
        }
        let expected: Value = served
            .iter()
            .map(|(version, images)| json!({"version": version, "images": images}))
            .collect();
        let summary = summary(&self.out());
        assert_eq!(summary["versions"], expected);
        assert_eq!(summary["model"], "version v1");
        let result = fs::read_to_string(self.out().join("result.json")).unwrap();
        let result: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(result["rows"][0]["workload"]["model_version"], "v1");
        served
    }
}

fn digits() -> PathBuf {
    root().join("weights/digits.safetensors")
}

#[test]
fn a_model_that_is_published_during_the_run_serves_the_rest_of_it() {
    // As long as it needs to be on this machine for the second model to come in time.
    for count in [20_000, 200_000, 2_000_000] {
        let place = Place::with_v1();
        let second = place.scaled(0.5, |_| {});
        let child = place.start(count);
        place.publish("v2", &second);
        place.end(child).expect(0, &["model: version v1"]);
        let served = place.served();
        assert_eq!(served.iter().map(|(_, n)| n).sum::<usize>(), count);
        let [(first, _), (second, _)] = served.as_slice() else {
            assert_eq!(served.len(), 1);
            continue;
        };
        assert_eq!((first.as_str(), second.as_str()), ("v1", "v2"));
        assert!(place.stderr().contains("version v2 from here on"));

        let lines = predictions(&place.out());
        let change = lines.iter().position(|line| line["model"] == "v2").unwrap();
        assert_eq!(change % 8, 0, "in the middle of a batch");
        assert!(lines[change..].iter().all(|line| line["model"] == "v2"));
        // The same picture by either model: the second one is less sure.
        let after = lines[change..]
            .iter()
            .find(|line| line["input"] == lines[0]["input"]);
        let Some(after) = after else { return };
        let sure = |line: &Value| line["top"][0]["probability"].as_f64().unwrap();
        assert!(sure(after) < sure(&lines[0]), "{after} {}", lines[0]);
        return;
    }
    panic!("2,000,000 images are done before a model is published");
}

#[cfg(unix)]
#[test]
fn a_newer_model_that_is_of_no_use_is_told_once_and_the_old_one_stays() {
    let place = Place::with_v1();
    let child = place.start(100_000_000);
    let damaged = place.dir.path().join("damaged");
    let bytes = fs::read(digits()).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    place.publish("damaged", &damaged);
    place.wait_for("warning: version damaged is not taken up");

    let other = place.scaled(1.0, |about| about.mean = Some(vec![0.25]));
    place.publish("other-mean", &other);
    place.wait_for("warning: version other-mean is not taken up: expected images of");
    let other = place.scaled(1.0, |about| {
        about.labels = Some("abcdefghij".chars().map(String::from).collect());
    });
    place.publish("letters", &other);
    place.wait_for("warning: version letters is not taken up: expected names of classes");
    place.publish("no-numbers", &place.scaled(f32::NAN, |_| {}));
    place.wait_for("warning: version no-numbers is not taken up: expected finite scores");

    let pointer = place.folder.path().join("current");
    fs::write(&pointer, "../x\n").unwrap();
    place.wait_for("got \"../x\\n\"");
    place.publish("v2", &place.scaled(0.5, |_| {}));
    place.wait_for("model: version v2 from here on");
    let before = predictions_so_far(&place);
    wait_until("a batch of the new model", || {
        predictions_so_far(&place) > before + 100
    });
    interrupt(&child);
    let run = place.end(child);
    run.expect(130, &["truncated"]);
    for version in ["damaged", "other-mean", "letters", "no-numbers"] {
        let said = format!("warning: version {version} ");
        assert_eq!(run.stderr.matches(&said).count(), 1, "{}", run.stderr);
    }
    let versions: Vec<String> = place.served().into_iter().map(|(v, _)| v).collect();
    assert_eq!(versions, ["v1", "v2"]);
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let status = Process::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(status.expect("kill").success());
}

fn predictions_so_far(place: &Place) -> usize {
    let text = fs::read_to_string(place.out().join("predictions.jsonl"));
    text.unwrap_or_default().lines().count()
}

#[test]
fn without_it_no_line_names_a_model() {
    let place = Place::new();
    finish(
        program()
            .args(program::DIGITS)
            .arg("--out")
            .arg(place.out()),
    )
    .expect(0, &[]);
    let lines = predictions(&place.out());
    assert!(lines.iter().all(|line| line.get("model").is_none()));
    assert!(summary(&place.out()).get("versions").is_none());
}

#[test]
fn with_shrinking_and_for_people() {
    let place = Place::with_v1();
    let run = finish(
        program()
            .args(["run", "--quick", "--shrink-on-oom", "--serve-from"])
            .arg(place.folder.path())
            .arg("--out")
            .arg(place.out()),
    );
    run.expect(0, &["model: version v1 (resnet18)"]);
    assert!(
        run.stdout.contains("model v1: 269 images"),
        "{}",
        run.stdout
    );
    assert_eq!(place.served(), [("v1".to_owned(), 269)]);
}

#[test]
fn a_folder_that_serves_nothing_is_refused_with_what_to_do() {
    let place = Place::new();
    place.refused(&["expected a file \"current\"", "publish a model there first"]);

    let point = |text: &[u8]| fs::write(place.folder.path().join("current"), text).unwrap();
    point(b"v9\n");
    place.refused(&["version \"v9\"", "no such file", "point to a version"]);
    point(b"../x\n");
    place.refused(&["got \"../x\\n\"", "publish a model"]);
    point(b"");
    place.refused(&["got an empty file"]);
    point(&[0xff; 4]);
    place.refused(&["not UTF-8"]);

    let bytes = fs::read(digits()).unwrap();
    let half = place.dir.path().join("half");
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    place.publish("half", &half);
    place.refused(&["half", MODEL, "truncated"]);

    fs::remove_dir_all(place.folder.path()).unwrap();
    place.refused(&["no such folder"]);
    fs::write(place.folder.path(), "").unwrap();
    place.refused(&["expected a folder of published models, got a file"]);
}

#[test]
fn flags_that_make_no_sense_with_it_are_refused() {
    let cases: [(&[&str], &str); 5] = [
        (
            &["--serve-from", "x", "--weights", "digits"],
            "cannot be used with",
        ),
        (&["--serve-from", "x", "--dry-run"], "cannot be used with"),
        (&["--refresh-ms", "20"], "--serve-from <DIR>"),
        (
            &["--serve-from", "x", "--refresh-ms", "0"],
            "0 is not in 1..=3600000",
        ),
        (&["--serve-from"], "a value is required"),
    ];
    for (args, said) in cases {
        finish(program().arg("run").args(args)).expect(2, &[said]);
    }
}
