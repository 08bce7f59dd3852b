//! What a grid file says: which values every setting takes, and so which runs there are.
//!
//! ```toml
//! data = "digits"                         # a scalar holds for all runs
//! epochs = 20
//! arch = ["resnet18", "resnet34"]         # a list: every value with every other
//! batch = [16, 32, 64]
//! learning_rate = { from = 0.001, to = 0.1, count = 3, scale = "log" }
//!
//! [random]                                # in place of every combination: so many draws
//! runs = 18
//! seed = 0
//! ```
//!
//! JSON of the same shape will do. A range that is drawn from needs no `count`.

use std::{collections::BTreeSet, path::Path};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use toml::{Table, Value};
use tpu_training::{
    cli::{Data, OptimizerName, TrainArgs},
    commands::train,
    config::TrainConfig,
    data_set::DataSet,
};

use crate::run::Run;

/// The settings that a grid may name.
pub const SETTINGS: [&str; 16] = [
    "data",
    "arch",
    "width",
    "batch",
    "precision",
    "conv",
    "compile",
    "epochs",
    "optimizer",
    "learning_rate",
    "momentum",
    "weight_decay",
    "schedule",
    "warmup_steps",
    "seed",
    "augment",
];

/// Why a grid makes no sweep.
#[derive(Debug, thiserror::Error)]
pub enum GridError {
    /// The file cannot be read.
    #[error("cannot read the grid {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is neither TOML nor JSON.
    #[error("{path} is no {format}: {problem}")]
    Syntax {
        /// The file.
        path: String,
        /// "TOML" or "JSON", by the file's name.
        format: &'static str,
        /// The parser's words.
        problem: String,
    },
    /// A setting that is none.
    #[error("{name}: no such setting; expected one of {}, or [random]", SETTINGS.join(", "))]
    Unknown {
        /// The key.
        name: String,
    },
    /// A setting's value.
    #[error("{name} = {got}: expected {expected}")]
    Value {
        /// The setting.
        name: String,
        /// Its value.
        got: String,
        /// What would do.
        expected: String,
    },
    /// A run that cannot be trained.
    #[error("{id}: {problem}")]
    Run {
        /// The run's name.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing to do.
    #[error("{what}: there is no run in this grid; expected at least one value of each setting")]
    Empty {
        /// The setting without values, or `random.runs`.
        what: String,
    },
    /// The same run twice.
    #[error(
        "{id} is in the grid twice; expected different runs: remove the double value, or give \
         the runs different seeds"
    )]
    Duplicate {
        /// The run.
        id: String,
    },
    /// More than was allowed.
    #[error(
        "{runs} runs; expected at most {most}: make the grid smaller, or give --max-runs {runs}"
    )]
    TooMany {
        /// How many there would be.
        runs: String,
        /// `--max-runs`.
        most: usize,
    },
    /// A run's data set.
    #[error(transparent)]
    Data(#[from] tpu_training::data_set::DataError),
}

/// A grid: the values of each setting that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    axes: Vec<(String, Axis)>,
    random: Option<Random>,
}

/// The values of one setting.
#[derive(Clone, Debug, PartialEq)]
enum Axis {
    Values(Vec<Value>),
    Range(Range),
}

/// `{ from, to, count, scale }`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: f64,
    to: f64,
    count: Option<usize>,
    #[serde(default)]
    scale: Scale,
}

/// How the values of a range are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scale {
    #[default]
    Linear,
    Log,
}

/// `[random]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Random {
    runs: usize,
    #[serde(default)]
    seed: u64,
}

// ANCHOR: eighteen
/// The chapter's grid: two networks, three batch sizes, three learning rates.
///
/// Trainings this short are over soon: so the compiler is told to be fast, too.
///
/// The learning rates are a decade apart, as SGD with momentum wants them: 0.1 is usual for
/// ResNets, and what is a hundred times smaller shows what a wrong guess costs.
pub const EIGHTEEN: &str = r#"
data = "digits"
width = 8
epochs = 20
compile = "fast"
arch = ["resnet18", "resnet34"]
batch = [16, 32, 64]
learning_rate = [0.1, 0.01, 0.001]
"#;
// ANCHOR_END: eighteen

impl Grid {
    /// The chapter's own 18 runs.
    ///
    /// # Panics
    /// Never: its text is tested.
    pub fn eighteen() -> Self {
        let table = EIGHTEEN.parse().expect("the chapter's grid is TOML");
        Self::of(table).expect("the chapter's grid is one")
    }

    /// Reads a file: JSON if its name ends so, else TOML.
    ///
    /// # Errors
    /// [`GridError`].
    pub fn read(path: &Path) -> Result<Self, GridError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| GridError::Read {
            path: shown.clone(),
            source,
        })?;
        let json = path.extension().is_some_and(|ending| ending == "json");
        let parsed = match json {
            true => serde_json::from_str(&text).map_err(|error| error.to_string()),
            false => text.parse::<Table>().map_err(|error| error.to_string()),
        };
        Self::of(parsed.map_err(|problem| GridError::Syntax {
            path: shown,
            format: if json { "JSON" } else { "TOML" },
            problem,
        })?)
    }

    /// A grid of its table.
    ///
    /// # Errors
    /// A setting that is none, or a value that is none.
    pub fn of(mut table: Table) -> Result<Self, GridError> {
        let random = match table.remove("random") {
            None => None,
            Some(value) => Some(value.clone().try_into().map_err(|_| {
                wrong(
                    "random",
                    &value,
                    "a table with runs, and seed if it matters",
                )
            })?),
        };
        let mut axes = vec![];
        // In this order, whatever the file's: it is the order of the runs.
        for name in SETTINGS {
            if let Some(value) = table.remove(name) {
                axes.push((name.to_owned(), axis(name, value, random.is_some())?));
            }
        }
        match table.into_iter().next() {
            Some((name, _)) => Err(GridError::Unknown { name }),
            None => Ok(Self { axes, random }),
        }
    }

    /// A setting's value for all runs, in place of what the grid says.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.axes.retain(|(other, _)| other != name);
        let axis = Axis::Values(vec![value.into()]);
        self.axes.push((name.to_owned(), axis));
        let place = |name: &str| SETTINGS.iter().position(|other| *other == name);
        self.axes.sort_by_key(|(name, _)| place(name));
    }

    /// All runs, in the grid's order.
    ///
    /// * `most`: how many are allowed
    /// * `load`: the data set of a name
    ///
    /// # Errors
    /// [`GridError`]: no run, the same run twice, too many, or one that cannot be trained.
    pub fn runs(
        &self,
        most: usize,
        mut load: impl FnMut(Data) -> Result<DataSet, tpu_training::data_set::DataError>,
    ) -> Result<Vec<Run>, GridError> {
        let choices = match self.random {
            Some(random) => self.draws(random, most)?,
            None => self.combinations(most)?,
        };
        let mut loaded: Vec<(Data, DataSet)> = vec![];
        let mut ids = BTreeSet::new();
        let mut runs = vec![];
        for choice in choices {
            let args = arguments(&choice)?;
            let data = args.model.data;
            if !loaded.iter().any(|(known, _)| *known == data) {
                loaded.push((data, load(data)?));
            }
            let (_, set) = loaded
                .iter()
                .find(|(known, _)| *known == data)
                .expect("loaded above");
            let run = configuration(&args, set).map(|config| Run::new(data, config));
            let run = run.map_err(|problem| GridError::Run {
                id: words(&choice),
                problem,
            })?;
            if !ids.insert(run.id.clone()) {
                return Err(GridError::Duplicate { id: run.id });
            }
            runs.push(run);
        }
        Ok(runs)
    }

    /// Every value with every other; the last setting changes fastest.
    fn combinations(&self, most: usize) -> Result<Vec<Choice>, GridError> {
        let mut axes = vec![];
        for (name, axis) in &self.axes {
            axes.push((name.as_str(), axis.values(name)?));
        }
        let count = axes
            .iter()
            .try_fold(1usize, |count, (_, values)| count.checked_mul(values.len()));
        check_count(count, most)?;
        let mut choices: Vec<Choice> = vec![vec![]];
        for (name, values) in axes {
            let longer = choices.iter().flat_map(|choice| {
                values.iter().map(move |value| {
                    let mut choice = choice.clone();
                    choice.push((name.to_owned(), value.clone()));
                    choice
                })
            });
            choices = longer.collect();
        }
        Ok(choices)
    }

    /// So many draws, each setting on its own.
    fn draws(&self, random: Random, most: usize) -> Result<Vec<Choice>, GridError> {
        if random.runs == 0 {
            let what = "random.runs = 0".to_owned();
            return Err(GridError::Empty { what });
        }
        check_count(Some(random.runs), most)?;
        let mut generator = ChaCha8Rng::seed_from_u64(random.seed);
        let draw = |_| {
            let axes = self.axes.iter();
            let drawn =
                axes.map(|(name, axis)| Ok((name.clone(), axis.draw(name, &mut generator)?)));
            drawn.collect()
        };
        (0..random.runs).map(draw).collect()
    }
}

/// A value for each setting of the grid.
type Choice = Vec<(String, Value)>;

fn check_count(runs: Option<usize>, most: usize) -> Result<(), GridError> {
    match runs {
        Some(runs) if runs <= most => Ok(()),
        _ => Err(GridError::TooMany {
            runs: runs.map_or_else(
                || "more than can be counted".to_owned(),
                |runs| runs.to_string(),
            ),
            most,
        }),
    }
}

fn wrong(name: &str, got: &Value, expected: &str) -> GridError {
    GridError::Value {
        name: name.to_owned(),
        got: got.to_string(),
        expected: expected.to_owned(),
    }
}

fn axis(name: &str, value: Value, random: bool) -> Result<Axis, GridError> {
    match value {
        Value::Array(values) => match values.is_empty() {
            true => Err(GridError::Empty {
                what: format!("{name} = []"),
            }),
            false => Ok(Axis::Values(values)),
        },
        Value::Table(_) => {
            let expected = "{ from, to, count, scale = \"linear\" or \"log\" }";
            let range: Range = value
                .clone()
                .try_into()
                .map_err(|_| wrong(name, &value, expected))?;
            range.check(name, random)?;
            Ok(Axis::Range(range))
        }
        scalar => Ok(Axis::Values(vec![scalar])),
    }
}

impl Axis {
    fn values(&self, name: &str) -> Result<Vec<Value>, GridError> {
        match self {
            Axis::Values(values) => Ok(values.clone()),
            Axis::Range(range) => {
                let count = range.count.unwrap_or(1);
                let share = |index| match count {
                    1 => 0.0,
                    _ => index as f64 / (count - 1) as f64,
                };
                (0..count)
                    .map(|index| range.value(name, share(index)))
                    .collect()
            }
        }
    }

    fn draw(&self, name: &str, generator: &mut ChaCha8Rng) -> Result<Value, GridError> {
        match self {
            Axis::Values(values) => Ok(values[generator.random_range(0..values.len())].clone()),
            Axis::Range(range) => range.value(name, generator.random()),
        }
    }
}

impl Range {
    fn check(&self, name: &str, random: bool) -> Result<(), GridError> {
        let refuse = |got: String, expected: &str| {
            Err(GridError::Value {
                name: name.to_owned(),
                got,
                expected: expected.to_owned(),
            })
        };
        if !is_number(name) {
            return refuse("a range".to_owned(), "a word or a list of words");
        }
        if !(self.from.is_finite() && self.to.is_finite() && self.from < self.to) {
            let got = format!("{} to {}", self.from, self.to);
            return refuse(got, "two numbers, the smaller one first");
        }
        if self.scale == Scale::Log && self.from <= 0.0 {
            return refuse(
                format!("from {}", self.from),
                "a number over 0 for scale = \"log\"",
            );
        }
        match (self.count, random) {
            (None, true) => Ok(()),
            (Some(count), false) if (2..=1_000_000).contains(&count) => Ok(()),
            (Some(_), true) => refuse(
                "a count".to_owned(),
                "none: [random] says how many runs there are",
            ),
            (_, false) => refuse("this range".to_owned(), "a count from 2 to 1000000"),
        }
    }

    /// The value at a share of the way, rounded where the setting is a whole number.
    fn value(&self, name: &str, share: f64) -> Result<Value, GridError> {
        let value = match self.scale {
            // Its ends are what was written, to the last bit.
            _ if share == 0.0 => self.from,
            _ if share == 1.0 => self.to,
            Scale::Linear => self.from + share * (self.to - self.from),
            Scale::Log => (self.from.ln() + share * (self.to / self.from).ln()).exp(),
        };
        if !is_whole(name) {
            return Ok(Value::Float(round(value)));
        }
        match (0.0..9e15).contains(&value) {
            true => Ok(Value::Integer(value.round() as i64)),
            false => Err(wrong(name, &Value::Float(value), "a whole number from 0")),
        }
    }
}

/// Six significant digits: what a file can hold and a person can read.
fn round(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

fn is_whole(name: &str) -> bool {
    matches!(name, "width" | "batch" | "epochs" | "warmup_steps" | "seed")
}

fn is_number(name: &str) -> bool {
    is_whole(name) || matches!(name, "learning_rate" | "momentum" | "weight_decay")
}

/// A choice as flags of chapter 3's program would say it.
fn arguments(choice: &[(String, Value)]) -> Result<TrainArgs, GridError> {
    let mut args = TrainArgs::plain();
    for (name, value) in choice {
        let (model, learning) = (&mut args.model, &mut args.learning);
        match name.as_str() {
            "data" => {
                model.data = match value.as_str() {
                    Some("digits") => Data::Digits,
                    Some("cifar10") => Data::Cifar10,
                    _ => return Err(wrong(name, value, "\"digits\" or \"cifar10\"")),
                }
            }
            "arch" => model.arch = word(name, value)?,
            "width" => model.width = whole(name, value, 1, 1024)?,
            "batch" => model.batch = whole(name, value, 2, 65_536)?,
            "precision" => model.precision = word(name, value)?,
            "conv" => model.conv = word(name, value)?,
            "compile" => args.driving.compile = word(name, value)?,
            "epochs" => learning.epochs = Some(whole(name, value, 1, 1_000_000)?),
            "optimizer" => {
                learning.optimizer = match value.as_str() {
                    Some("sgd") => OptimizerName::Sgd,
                    Some("adamw") => OptimizerName::Adamw,
                    _ => return Err(wrong(name, value, "\"sgd\" or \"adamw\"")),
                }
            }
            "learning_rate" => learning.learning_rate = Some(number(name, value)?),
            "momentum" => learning.momentum = Some(number(name, value)?),
            "weight_decay" => learning.weight_decay = Some(number(name, value)?),
            "schedule" => learning.schedule = word(name, value)?,
            "warmup_steps" => learning.warmup_steps = Some(whole(name, value, 0, 1_000_000)?),
            "seed" => learning.seed = whole(name, value, 0, usize::MAX >> 1)? as u64,
            "augment" => {
                let augment = value
                    .as_bool()
                    .ok_or_else(|| wrong(name, value, "true or false"))?;
                learning.no_augment = !augment;
            }
            _ => unreachable!("Grid::of lets known settings in"),
        }
    }
    Ok(args)
}

/// The run that chapter 3's program would train, checked as it would check it.
fn configuration(args: &TrainArgs, data: &DataSet) -> Result<TrainConfig, String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let mut config =
        train::config(&args.model, &args.learning, data).map_err(|error| say(&error))?;
    config.compile = args.driving.compile;
    config
        .check(data.train.len())
        .map_err(|error| say(&error))?;
    tpu_training::network::check(&config.network).map_err(|error| say(&error))?;
    Ok(config)
}

fn words(choice: &[(String, Value)]) -> String {
    let words = choice
        .iter()
        .map(|(name, value)| format!("{name} = {value}"));
    words.collect::<Vec<_>>().join(", ")
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &str,
    value: &Value,
) -> Result<T, GridError> {
    let Some(text) = value.as_str() else {
        return Err(wrong(name, value, "a word in quotes"));
    };
    text.parse().map_err(|error: T::Err| GridError::Value {
        name: name.to_owned(),
        got: value.to_string(),
        expected: error.to_string(),
    })
}

fn whole(name: &str, value: &Value, least: usize, most: usize) -> Result<usize, GridError> {
    let number = value
        .as_integer()
        .and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            wrong(
                name,
                value,
                &format!("a whole number from {least} to {most}"),
            )
        })
}

fn number(name: &str, value: &Value) -> Result<f64, GridError> {
    let number = match value {
        Value::Float(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    };
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| wrong(name, value, "a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str) -> Result<Vec<Run>, GridError> {
        Grid::of(text.parse().unwrap())?.runs(1000, |_| Ok(DataSet::made_up(256, 8, 1, 10)))
    }

    fn message(text: &str) -> String {
        runs(text).unwrap_err().to_string()
    }

    #[test]
    fn the_chapters_grid_has_eighteen_runs() {
        let all = Grid::eighteen().runs(18, |_| DataSet::digits()).unwrap();
        assert_eq!(all.len(), 18);
        let rates: Vec<_> = all
            .iter()
            .take(4)
            .map(|run| run.config.learning_rate)
            .collect();
        assert_eq!(rates, [0.1, 0.01, 0.001, 0.1]);
        let programs: BTreeSet<_> = all.iter().map(Run::program).collect();
        assert_eq!(programs.len(), 6, "learning rates share their programs");
    }

    #[test]
    fn ids_are_those_of_the_configuration() {
        let one = runs("batch = 16\nlearning_rate = [0.1, 0.01]").unwrap();
        let other = runs("learning_rate = [0.01]\nbatch = 16").unwrap();
        assert_eq!(one[1], other[0]);
        assert!(
            one[0].id.starts_with("resnet18-b16-lr0.1-"),
            "{}",
            one[0].id
        );
        let seeds = runs("seed = [0, 1]").unwrap();
        assert_ne!(seeds[0].id, seeds[1].id);
    }

    #[test]
    fn ranges_are_spread_as_they_say() {
        let log =
            runs("learning_rate = { from = 0.001, to = 0.1, count = 3, scale = 'log' }").unwrap();
        let rates: Vec<_> = log.iter().map(|run| run.config.learning_rate).collect();
        assert_eq!(rates, [0.001, 0.01, 0.1]);
        let linear = runs("batch = { from = 16, to = 64, count = 4 }").unwrap();
        let sizes: Vec<_> = linear.iter().map(|run| run.config.batch).collect();
        assert_eq!(sizes, [16, 32, 48, 64]);
    }

    #[test]
    fn draws_are_those_of_the_seed_and_within_the_range() {
        let text = |seed: u64| {
            format!(
                "batch = [16, 32]\nlearning_rate = {{ from = 0.001, to = 0.1, scale = 'log' }}\n\
                 [random]\nruns = 20\nseed = {seed}"
            )
        };
        let drawn = runs(&text(1)).unwrap();
        assert_eq!(drawn.len(), 20);
        assert_eq!(drawn, runs(&text(1)).unwrap());
        assert_ne!(drawn, runs(&text(2)).unwrap());
        let inside = |run: &Run| (0.001..=0.1).contains(&run.config.learning_rate);
        assert!(drawn.iter().all(inside));
        assert!(drawn.iter().any(|run| run.config.batch == 16));
        assert!(drawn.iter().any(|run| run.config.batch == 32));
    }

    #[test]
    fn what_makes_no_sweep_is_refused_with_what_would() {
        for (text, part) in [
            ("batch = []", "batch = []: there is no run in this grid"),
            ("[random]\nruns = 0", "random.runs = 0: there is no run"),
            (
                "lr = 0.1",
                "lr: no such setting; expected one of data, arch",
            ),
            ("batch = [16, 16]", "is in the grid twice"),
            (
                "batch = 'x'",
                "batch = \"x\": expected a whole number from 2 to 65536",
            ),
            ("batch = 0", "batch = 0: expected a whole number"),
            ("batch = 512", "there are 128 training rows"),
            (
                "learning_rate = nan",
                "learning_rate = nan: expected a number",
            ),
            (
                "learning_rate = [0.1, inf]",
                "learning_rate = inf: expected a number",
            ),
            ("learning_rate = -1.0", "expected a number over 0"),
            ("arch = 'vgg'", "arch = \"vgg\""),
            ("arch = 'resnet50'", "resnet50"),
            ("arch = 7", "expected a word in quotes"),
            ("augment = 1", "expected true or false"),
            ("data = 'mnist'", "\"digits\" or \"cifar10\""),
            ("batch = { from = 16 }", "expected { from, to, count"),
            ("batch = { from = 16, to = 32 }", "expected a count from 2"),
            (
                "batch = { from = 32, to = 16, count = 2 }",
                "the smaller one first",
            ),
            (
                "arch = { from = 1, to = 2, count = 2 }",
                "a word or a list of words",
            ),
            (
                "learning_rate = { from = 0, to = 1, count = 2, scale = 'log' }",
                "a number over 0",
            ),
            (
                "batch = { from = 2, to = 9, count = 3 }\n[random]\nruns = 2",
                "expected none",
            ),
            ("random = 18", "a table with runs"),
            ("optimizer = 'adamw'\nmomentum = 0.9", "belongs to SGD"),
            (
                "seed = { from = 0, to = 5000, count = 5001 }",
                "5001 runs; expected at most 1000",
            ),
        ] {
            let got = message(text);
            assert!(got.contains(part), "{text}: {got}");
        }
    }

    #[test]
    fn a_grid_that_cannot_be_counted_is_refused() {
        let range = |name: &str| format!("{name} = {{ from = 1, to = 9, count = 1000000 }}\n");
        let names = [
            "width",
            "batch",
            "epochs",
            "warmup_steps",
            "seed",
            "learning_rate",
        ];
        let text: String = names.map(range).concat();
        assert!(
            message(&text).starts_with("more than can be counted"),
            "{}",
            message(&text)
        );
    }

    #[test]
    fn a_flag_takes_the_place_of_an_axis() {
        let mut grid = Grid::eighteen();
        grid.set("epochs", 3);
        grid.set("arch", "resnet18");
        let runs = grid.runs(18, |_| DataSet::digits()).unwrap();
        assert_eq!(runs.len(), 9);
        assert!(runs.iter().all(|run| run.config.epochs == 3));
    }
}
