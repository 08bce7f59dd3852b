//! Interleaved measurement of one workload: everybody is loaded, then measured in turn.

use std::time::Duration;

use accel::{
    progress::Progress,
    results::{ResultFile, Status},
    timing::{Samples, Summary},
};
use serde_json::{Map, Value, json};

use super::{
    comparison,
    entrant::{Entrant, Setup, enter, prepare, reference},
    work::{Contestant, Work},
};

/// Pause between two contenders. An engine's threads spin for a few milliseconds
/// after its last parallel region (libgomp: 300,000 iterations unless OMP_WAIT_POLICY
/// says otherwise) and would take the cores from the next one.
/// Source: <https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html>
pub const PAUSE: Duration = Duration::from_millis(50);

/// How often and how long.
#[derive(Clone, Debug)]
pub struct Pace {
    rounds: usize,
    /// Time that the median contender's samples of one round should take, in seconds.
    turn_seconds: f64,
    /// Fewest and most samples a round.
    samples: (usize, usize),
    /// Runs before the samples of each round: the others have emptied the caches.
    warmup: usize,
}

impl Pace {
    /// For publishing.
    pub fn full() -> Self {
        Self {
            rounds: 12,
            turn_seconds: 1.0,
            samples: (2, 40),
            warmup: 2,
        }
    }

    /// For publishing trainings, whose samples are of several steps.
    pub fn training() -> Self {
        Self {
            samples: (1, 40),
            warmup: 1,
            ..Self::full()
        }
    }

    /// For a look.
    pub fn quick() -> Self {
        Self {
            rounds: 3,
            turn_seconds: 0.2,
            samples: (1, 10),
            warmup: 1,
        }
    }

    /// With the number of rounds that the user chose, if any.
    pub fn with_rounds(mut self, rounds: Option<u32>) -> Self {
        self.rounds = rounds.map_or(self.rounds, |rounds| rounds as usize);
        self
    }
}

/// Measures one workload and adds its rows and notes to `file`.
///
/// Nothing that happens to a contender is an error here: it becomes a row.
pub fn measure(
    setup: &Setup,
    pace: &Pace,
    work: &dyn Work,
    contestants: &[Contestant],
    file: &mut ResultFile,
    progress: &Progress,
) {
    let load_before = comparison::load_average();
    let mut entrants: Vec<_> = contestants
        .iter()
        .map(|contestant| Entrant::new(contestant, work))
        .collect();
    setup.forget_compiled();
    match prepare(setup, work) {
        Ok(shared) => {
            let reference = reference(setup, work, &shared);
            if let Err(error) = &reference {
                progress.warn(&format!("agreement is not checked: {error}"));
                file.notes
                    .push(format!("agreement was not checked: {error}"));
            }
            for entrant in &mut entrants {
                progress.println(&format!("  loading {}", entrant.contestant.id));
                let reference = reference.as_deref().ok();
                if let Err(error) = enter(setup, work, &shared, entrant, file, reference) {
                    entrant.leave(&error);
                }
            }
            run_rounds(setup, pace, work, &mut entrants, file, progress);
        }
        Err(error) => {
            for entrant in &mut entrants {
                entrant.fail(format!("the shared files could not be made: {error}"));
            }
        }
    }
    // Every process of this workload ends before the next one loads.
    for entrant in entrants {
        let mut row = entrant.row;
        drop(entrant.contender);
        if row.status == Status::Ok {
            row = row.with_samples(Samples {
                items_per_sample: work.items_per_sample(),
                warmup_seconds: Vec::new(),
                seconds: entrant.seconds,
            });
        }
        file.rows.push(row);
    }
    note_loads(file, load_before, work.threads());
}

/// Notes how busy the machine was before and after.
///
/// * `threads`: of each contender
pub fn note_loads(file: &mut ResultFile, before: Option<[f64; 3]>, threads: usize) {
    let text = |load: Option<[f64; 3]>| {
        load.map_or("unknown".to_owned(), |load| format!("{:.2}", load[0]))
    };
    file.notes.push(format!(
        "load average over 1 minute: {} before, {} after (contenders use {threads} of {} cores)",
        text(before),
        text(comparison::load_average()),
        file.environment.cores,
    ));
}

/// Measures those who are still in, in turn.
fn run_rounds(
    setup: &Setup,
    pace: &Pace,
    work: &dyn Work,
    entrants: &mut [Entrant<'_>],
    file: &mut ResultFile,
    progress: &Progress,
) {
    // The same number of samples for all, so that sample i of one row and of another
    // are of the same round; the median contender decides how many.
    let mut firsts = Vec::new();
    for entrant in entrants.iter_mut() {
        if let Some(seconds) = turn(setup, entrant, 1, 1) {
            firsts.extend(seconds);
        }
    }
    let Some(median) = Summary::of(&firsts).map(|summary| summary.median) else {
        return;
    };
    // A positive time: checked in `turn`. The cast saturates.
    let samples = ((pace.turn_seconds / median) as usize).clamp(pace.samples.0, pace.samples.1);
    let count = entrants.len();
    for round in 0..pace.rounds {
        progress.println(&format!(
            "  round {} of {}, {samples} samples each",
            round + 1,
            pace.rounds
        ));
        for position in 0..count {
            let entrant = &mut entrants[place_in_round(round, position, count)];
            if let Some(seconds) = turn(setup, entrant, pace.warmup, samples) {
                entrant.seconds.extend(seconds);
            }
        }
    }
    for entrant in entrants
        .iter_mut()
        .filter(|entrant| entrant.contender.is_some())
    {
        for (name, value) in [("rounds", pace.rounds), ("samples_per_round", samples)] {
            entrant.row.workload.insert(name.to_owned(), value.into());
        }
    }
    file.notes.push(format!(
        "contenders measured in turn: {} rounds of {samples} samples after {} warm-up runs each; \
         samples i*{samples} to (i+1)*{samples}-1 of every row are of round i; order rotated and \
         reversed from round to round; {} ms of pause before each turn; one sample is {}",
        pace.rounds,
        pace.warmup,
        PAUSE.as_millis(),
        work.sample_in_words(),
    ));
}

/// Who comes at `position` in `round`: every second round runs backwards, and each
/// pair of rounds begins one further, so that nobody always follows the same one.
pub fn place_in_round(round: usize, position: usize, count: usize) -> usize {
    let position = if round % 2 == 1 {
        count - 1 - position
    } else {
        position
    };
    (position + round / 2) % count
}

/// One turn of one entrant; `None` if it is out, or goes out now.
fn turn(
    setup: &Setup,
    entrant: &mut Entrant<'_>,
    warmup: usize,
    samples: usize,
) -> Option<Vec<f64>> {
    const EXPECTED: &str = "{\"seconds\": [...]}, a positive number a sample";
    let contender = entrant.contender.as_mut()?;
    std::thread::sleep(PAUSE);
    let message = json!({"run": {"warmup": warmup, "samples": samples}});
    let seconds = contender
        .ask("run", &message, setup.time_limit)
        .and_then(|answer| {
            let seconds = answer.get("seconds").and_then(Value::as_array);
            let seconds: Option<Vec<f64>> =
                seconds.and_then(|values| values.iter().map(Value::as_f64).collect());
            match seconds {
                Some(seconds)
                    if seconds.len() == samples
                        && seconds.iter().all(|s| s.is_finite() && *s > 0.0) =>
                {
                    Ok(seconds)
                }
                _ => Err(contender.garbage("run", EXPECTED, &answer.to_string())),
            }
        });
    match seconds {
        Ok(seconds) => Some(seconds),
        Err(error) => {
            entrant.leave(&error);
            None
        }
    }
}

/// The number of rounds that a row's workload tells.
pub fn rounds_of(workload: &Map<String, Value>) -> Option<usize> {
    let rounds = workload.get("rounds")?.as_u64()?;
    usize::try_from(rounds).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{
        inference::{self, Workload},
        line_up::Suite,
        training::{self, Training},
    };
    use super::*;
    use accel::environment::Environment;

    /// A contender in the shell: loads, has logits [[1, 2]] and takes `seconds`.
    fn good(seconds: &str) -> String {
        format!(
            r#"echo '{{"loaded": {{"versions": {{"toy": "1"}}, "settings": {{"mode": "fast"}}}}}}'
            while read line; do case "$line" in
                *'"logits"'*) echo '{{"logits": [[1, 2]]}}';;
                *'"samples":1'*) echo '{{"seconds": [{seconds}]}}';;
                *) echo '{{"seconds": [{seconds}, {seconds}]}}';;
            esac; done"#
        )
    }

    /// A contender in the shell that trains: notes each load in `$0.loads`.
    fn trains(losses: &str, seconds: &str) -> String {
        format!(
            r#"loaded() {{ echo x >> "$0.loads"; echo '{{"loaded": {{"compile_seconds": 7.5}}}}'; }}
            loaded
            while read line; do case "$line" in
                *'"load"'*'"learning_rate":0.05'*) loaded;;
                *'"losses":{{"steps":2}}'*)
                    echo '{{"losses": {losses}, "norms": {{"learned": 60, "running": 40}}}}';;
                *'"samples":1'*) echo '{{"seconds": [{seconds}], "loss": 1}}';;
                *) echo '{{"seconds": [{seconds}, {seconds}], "loss": 1}}';;
            esac; done"#
        )
    }

    /// Runs the measurement of a small inference with shell scripts in place of engines.
    fn race(scripts: &[(&str, String)]) -> ResultFile {
        let workload = Workload {
            suite: Suite::Cpu,
            arch: "resnet18",
            stem: "imagenet",
            image: 32,
            batch: 1,
            dtype: "f32",
            threads: 1,
            threads_in_name: false,
        };
        race_of(&workload, &good("0.5"), scripts).0
    }

    /// Runs the measurement of `work`; the files of its folder are gone after the second value.
    fn race_of(
        work: &dyn Work,
        reference: &str,
        scripts: &[(&str, String)],
    ) -> (ResultFile, tempfile::TempDir) {
        race_with_export(work, reference, scripts, false)
    }

    /// As [`race_of`], with a program of ours that may refuse to write the model file.
    fn race_with_export(
        work: &dyn Work,
        reference: &str,
        scripts: &[(&str, String)],
        refuses_export: bool,
    ) -> (ResultFile, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        // Stands in for Python and for cpu-inference: `prepare` writes nothing,
        // and `worker` reads the load message and becomes the script that it names.
        // `export` writes a model, or refuses where the folder says so.
        let mut body = String::from(
            r#"#!/bin/sh
            case "$1$2" in *prepare*) exit 0;; export*)
                for last; do :; done
                test -e refuse && { echo 'error: nothing to calibrate with' >&2; exit 1; }
                echo "$@" > "$last"; exit 0;;
            esac
            "#,
        );
        body.push_str("read first\nexport first\ncase \"$first\" in\n");
        let all = scripts
            .iter()
            .map(|(engine, script)| (*engine, script.clone()));
        for (engine, script) in all.chain([("pytorch-eager", reference.to_owned())]) {
            let path = folder.path().join(format!("{engine}.sh"));
            std::fs::write(&path, script).unwrap();
            let path = path.display();
            body.push_str(&format!(
                "*'\"engine\":\"{engine}\"'*) exec /bin/sh '{path}';;\n"
            ));
        }
        body.push_str("esac\n");
        let engine = folder.path().join("engine.sh");
        std::fs::write(&engine, body).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&engine, executable).unwrap();
        std::fs::create_dir(folder.path().join("workload")).unwrap();
        if refuses_export {
            std::fs::write(folder.path().join("refuse"), "").unwrap();
        }

        let setup = Setup {
            python: "/bin/sh".into(),
            script: engine.clone(),
            worker: Some(engine),
            root: folder.path().to_path_buf(),
            weights: None,
            cache: folder.path().to_path_buf(),
            times_compilers: false,
            time_limit: Duration::from_secs(2),
        };
        let pace = Pace {
            rounds: 4,
            turn_seconds: 1.0,
            samples: (2, 2),
            warmup: 0,
        };
        let contestants: Vec<_> = scripts
            .iter()
            .map(|(engine, _)| {
                // The engine's name lives as long as a row's: leaked in a test.
                let engine: &'static str = Box::leak((*engine).to_owned().into_boxed_str());
                Contestant::new(engine, engine, false)
            })
            .collect();
        let mut file = ResultFile::new("01-cpu", "peers-test", Environment::collect());
        let progress = Progress::new(None, "workloads", true);
        measure(&setup, &pace, work, &contestants, &mut file, &progress);
        file.validate().unwrap();
        (file, folder)
    }

    #[test]
    fn trainings_are_checked_with_one_load_and_timed_with_another() {
        let training = Training {
            steps: 2,
            ..training::all(training::Device::Cpu, 1)[0].clone()
        };
        let (file, folder) = race_of(
            &training,
            &trains("[2.5, 2.25]", "0.5"),
            &[
                ("a", trains("[2.50001, 2.25]", "0.25")),
                ("diverges", trains("[2.5, 2.26]", "0.125")),
                ("short", trains("[2.5]", "0.125")),
            ],
        );
        let row = file.row("a").unwrap();
        assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
        let samples = row.samples.as_ref().unwrap();
        assert_eq!(samples.seconds, vec![0.25; 8]);
        assert_eq!(samples.items_per_sample, 128);
        assert_eq!(row.metrics["compile_seconds"], 7.5);
        let difference = row.metrics["loss_max_relative_difference"];
        assert!((difference - 4e-6).abs() < 1e-9, "{difference}");
        assert_eq!(row.metrics["weight_norm_relative_difference"], 0.0);
        assert_eq!(row.workload["optimizer"], "sgd");
        let loads = |name: &str| {
            let path = folder.path().join(format!("{name}.sh.loads"));
            std::fs::read_to_string(path).unwrap().lines().count()
        };
        assert_eq!(loads("a"), 2);
        for (id, reason) in [
            ("diverges", "loss max relative difference after 2 steps"),
            ("short", "expected {\"losses\": [a number a step]"),
        ] {
            let row = file.row(id).unwrap();
            assert_eq!(row.status, Status::Failed, "{id}");
            let got = row.reason.as_deref().unwrap();
            assert!(got.contains(reason), "{id}: {got}");
            assert_eq!(loads(id), 1);
        }
    }

    #[test]
    fn int8_begins_with_the_model_file_that_ours_writes() {
        let workload = inference::all(Suite::Engines, 1)
            .into_iter()
            .find(|workload| workload.dtype == "int8" && workload.batch == 1)
            .unwrap();
        // Runs only with the path of a file that is there.
        let opens = format!(
            r#"model=${{first#*'"onnx":"'}}; model=${{model%%'"'*}}
            grep -q -e --int8 "$model" || {{ echo '{{"error": "no model"}}'; exit 1; }}
            {}"#,
            good("0.5")
        );
        let race = |refuses| {
            let scripts = [("a", opens.clone())];
            race_with_export(&workload, &good("0.5"), &scripts, refuses).0
        };
        let row = race(false).rows.remove(0);
        assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
        assert_eq!(row.workload["dtype"], "int8");
        let row = race(true).rows.remove(0);
        assert_eq!(row.status, Status::Failed);
        let reason = row.reason.unwrap();
        assert!(reason.contains("nothing to calibrate with"), "{reason}");
    }

    #[test]
    fn the_others_go_on_when_one_dies_hangs_or_babbles() {
        let loaded = r#"echo '{"loaded": {}}'; read l; echo '{"logits": [[1, 2]]}';"#;
        let file = race(&[
            ("a", good("0.5")),
            (
                "dies",
                format!("{loaded} read l; echo out of memory >&2; exit 9"),
            ),
            ("hangs", format!("{loaded} exec sleep 30")),
            (
                "babbles",
                format!("{loaded} read l; echo 'Segmentation fault'; read l"),
            ),
            (
                "wrong",
                "echo '{\"loaded\": {}}'; read l; echo '{\"logits\": [[1, 3]]}'; read l".to_owned(),
            ),
            (
                "unable",
                "echo '{\"error\": \"no bf16\", \"unsupported\": true}'; read l".to_owned(),
            ),
            ("b", good("0.25")),
        ]);
        let row = |id: &str| file.row(id).unwrap();
        for (id, seconds) in [("a", 0.5), ("b", 0.25)] {
            assert_eq!(row(id).status, Status::Ok, "{:?}", row(id).reason);
            assert_eq!(row(id).samples.as_ref().unwrap().seconds, vec![seconds; 8]);
            assert_eq!(row(id).metrics["logit_max_relative_difference"], 0.0);
            assert_eq!(row(id).workload["mode"], "fast");
            assert_eq!(rounds_of(&row(id).workload), Some(4));
        }
        for (id, status, reason) in [
            ("dies", Status::Failed, "out of memory"),
            ("hangs", Status::Failed, "no answer to run within 2.0 s"),
            ("babbles", Status::Failed, "Segmentation fault"),
            (
                "wrong",
                Status::Failed,
                "differ from PyTorch eager in f32 by 5.0e-1",
            ),
            ("unable", Status::Skipped, "no bf16"),
        ] {
            assert_eq!(row(id).status, status, "{id}");
            let got = row(id).reason.as_deref().unwrap();
            assert!(got.contains(reason), "{id}: {got}");
            assert!(row(id).samples.is_none());
        }
        assert_eq!(file.environment.libraries["toy"], "1");
        assert!(
            file.notes
                .iter()
                .any(|note| note.contains("4 rounds of 2 samples"))
        );
        let table = comparison::table(&file, "images");
        assert!(table.contains("no bf16"), "{table}");
    }

    #[test]
    fn a_workload_of_failures_is_still_a_result_file() {
        let file = race(&[("dies", "exit 1".to_owned())]);
        assert_eq!(file.rows.len(), 1);
        assert_eq!(file.rows[0].status, Status::Failed);
    }

    #[test]
    fn everybody_runs_once_a_round_and_nobody_always_after_the_same() {
        for count in 1..6 {
            for round in 0..8 {
                let mut order: Vec<_> = (0..count)
                    .map(|p| place_in_round(round, p, count))
                    .collect();
                order.sort_unstable();
                assert_eq!(order, (0..count).collect::<Vec<_>>());
            }
        }
        let order = |round| {
            (0..4)
                .map(|p| place_in_round(round, p, 4))
                .collect::<Vec<_>>()
        };
        assert_eq!(order(0), [0, 1, 2, 3]);
        assert_eq!(order(1), [3, 2, 1, 0]);
        assert_eq!(order(2), [1, 2, 3, 0]);
    }
}
