//! Training: what is measured, who takes part, and what has to agree.

use serde_json::{Map, Value, json};

use super::work::{Agreement, Contestant, Shared, Work, relative_difference};

/// Where the contenders train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The machine's own cores.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// One training that all contenders do: ResNet-18 with the small stem by SGD with momentum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Training {
    /// "digits" or "random": the training rows of the digits, or seeded noise.
    pub data: &'static str,
    /// Side of the square images in pixels.
    pub image: usize,
    /// Their channels.
    pub channels: usize,
    /// Channels of the network's first stage.
    pub width: usize,
    /// Images a step.
    pub batch: usize,
    /// "f32" or "bf16" (with weights in f32).
    pub precision: &'static str,
    /// Steps of a sample, and of one call where an engine is given several at once.
    pub steps: usize,
    /// Threads of the engine; on a GPU, of its host.
    pub threads: usize,
    /// Where.
    pub device: Device,
}

/// The optimiser's constants while it is timed: those with which the digits are learned.
const TIMED: [f64; 3] = [0.05, 0.9, 5e-4];

/// The constants while agreement is checked: rate, momentum, weight decay.
///
/// At the rate of [`TIMED`] two trainings that are both right part within a few steps: one
/// activation that is 1e-7 from the kink of a ReLU falls to the other side, the loss of step 2
/// differs by 5e-4 and that of step 5 by 1e-1. At this rate what f32 rounds away does not
/// grow; the decay is large so that rate times decay shows in the weights.
const CHECKED: [f64; 3] = [2e-5, 0.9, 0.5];

/// Steps that an unrolled program of ours runs at a time.
const UNROLLED: usize = 4;

/// The largest differences from PyTorch eager in f32 that are allowed, each relative.
///
/// Measured over 16 steps of the digits at width 16, f32 against f64 and against f32 with
/// channels last: losses 1e-5, norm of the weights 1e-9, norm of the running statistics 5e-7.
/// What shows clearly: batch norm without decay (losses 3e-4, weights 3e-4, statistics 6e-4),
/// momentum 0.8 (5e-3, 3e-4, 3e-4), a rate 1% off (2e-4, 9e-6, 1e-5), a decay 10% off
/// (6e-5, 9e-5, 1e-4), a biased variance (statistics 4e-3).
struct Tolerances {
    losses: f64,
    learned: f64,
    running: f64,
}

fn tolerances(precision: &str) -> Tolerances {
    match precision {
        "f32" => Tolerances {
            losses: 1e-4,
            learned: 3e-6,
            running: 3e-5,
        },
        // A rounding to bf16 is 4e-3; the weights and their update stay in f32.
        _ => Tolerances {
            losses: 5e-2,
            learned: 1e-3,
            running: 5e-2,
        },
    }
}

/// All trainings for a machine with this many cores.
pub fn all(device: Device, cores: usize) -> Vec<Training> {
    let digits = |width, steps| Training {
        data: "digits",
        image: 8,
        channels: 1,
        width,
        batch: 64,
        precision: "f32",
        steps,
        threads: cores,
        device,
    };
    let small = |width, batch, precision, steps| Training {
        data: "random",
        image: 32,
        channels: 3,
        batch,
        precision,
        ..digits(width, steps)
    };
    match device {
        // Steps that take the slowest contender some ten seconds.
        Device::Cpu => vec![digits(16, 16), digits(64, 4), small(16, 64, "f32", 4)],
        Device::Cuda => vec![
            digits(16, 64),
            small(64, 64, "bf16", 32),
            small(64, 256, "bf16", 32),
        ],
    }
}

impl Training {
    /// All of a load message but the engine and its own settings.
    fn message(&self, [learning_rate, momentum, weight_decay]: [f64; 3], shared: &Shared) -> Value {
        json!({
            "arch": "resnet18", "stem": "small", "width": self.width, "image": self.image,
            "channels": self.channels, "classes": 10, "batch": self.batch,
            "weights": shared.weights, "data": shared.input, "precision": self.precision,
            "optimizer": {"kind": "sgd", "learning_rate": learning_rate, "momentum": momentum,
                          "weight_decay": weight_decay},
            "steps_per_sample": self.steps, "threads": self.threads,
            "device": self.device.name(),
        })
    }

    fn load(&self, contestant: &Contestant, constants: [f64; 3], shared: &Shared) -> Value {
        let mut message = self.message(constants, shared);
        message["engine"] = json!(contestant.engine);
        for (name, value) in &contestant.options {
            message[name] = value.clone();
        }
        json!({ "load": message })
    }
}

impl Work for Training {
    fn measurement(&self) -> String {
        let data = match self.data {
            "digits" => "digits".to_owned(),
            _ => self.image.to_string(),
        };
        let mut name = format!("train-{data}-w{}", self.width);
        // What most of them have is not named.
        if self.batch != 64 {
            name.push_str(&format!("-b{}", self.batch));
        }
        if self.precision != "f32" {
            name.push_str(&format!("-{}", self.precision));
        }
        if self.device != Device::Cpu {
            name.push_str(&format!("-{}", self.device.name()));
        }
        name
    }

    fn title(&self) -> String {
        let place = match (self.device, self.threads) {
            (Device::Cuda, _) => "one GPU".to_owned(),
            (Device::Cpu, 1) => "1 thread".to_owned(),
            (Device::Cpu, n) => format!("{n} threads"),
        };
        format!(
            "Training ResNet-18, width {}, {side}x{side}x{}, batch {}, {}, {place}",
            self.width,
            self.channels,
            self.batch,
            self.precision,
            side = self.image,
        )
    }

    /// The smallest.
    fn in_quick_mode(&self) -> bool {
        self.data == "digits" && self.width == 16
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn contestants(&self) -> Vec<Contestant> {
        let ours = |id: String, label: String, steps_per_call: usize, loop_: &str, conv: &str| {
            let options = [
                ("steps_per_call", json!(steps_per_call)),
                ("loop", json!(loop_)),
                ("conv", json!(conv)),
            ];
            Contestant {
                id,
                label,
                options: (options.into_iter())
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                ..Contestant::new("pjrt", "", true)
            }
        };
        let steps = self.steps;
        let mut all = vec![
            ours(
                "pjrt-step".to_owned(),
                "ours, one step a call".to_owned(),
                1,
                "while",
                "auto",
            ),
            ours(
                format!("pjrt-while-{steps}"),
                format!("ours, a loop of {steps} steps a call"),
                steps,
                "while",
                "auto",
            ),
            ours(
                format!("pjrt-unroll-{UNROLLED}"),
                format!("ours, {UNROLLED} steps a call, unrolled"),
                UNROLLED,
                "unroll",
                "auto",
            ),
            ours(
                "pjrt-step-convolution".to_owned(),
                "ours, one step a call, every convolution as one".to_owned(),
                1,
                "while",
                "convolution",
            ),
        ];
        let scan = format!("JAX, lax.scan over {steps} steps");
        for (engine, label, steps_per_call) in [
            ("jax-step", "JAX, jitted step", 1),
            ("jax-scan", scan.as_str(), steps),
            ("pytorch-eager", "PyTorch, eager", 1),
            ("pytorch-channels-last", "PyTorch, channels-last", 1),
            ("pytorch-compile", "PyTorch, torch.compile", 1),
        ] {
            let mut peer = Contestant::new(engine, label, false);
            let steps_per_call = json!(steps_per_call);
            peer.options
                .insert("steps_per_call".to_owned(), steps_per_call);
            all.push(peer);
        }
        all
    }

    fn describe(&self, contestant: &Contestant) -> Map<String, Value> {
        let [learning_rate, momentum, weight_decay] = TIMED;
        let mut map = Map::new();
        for (name, value) in [
            ("engine", json!(contestant.engine)),
            ("arch", json!("resnet18")),
            ("stem", json!("small")),
            ("data", json!(self.data)),
            ("image", json!(self.image)),
            ("channels", json!(self.channels)),
            ("width", json!(self.width)),
            ("batch", json!(self.batch)),
            ("precision", json!(self.precision)),
            ("optimizer", json!("sgd")),
            ("learning_rate", json!(learning_rate)),
            ("momentum", json!(momentum)),
            ("weight_decay", json!(weight_decay)),
            ("steps_per_sample", json!(self.steps)),
            ("threads", json!(self.threads)),
            ("device", json!(self.device.name())),
            ("ours", json!(contestant.ours)),
        ] {
            map.insert(name.to_owned(), value);
        }
        map.extend(contestant.options.clone());
        map
    }

    fn items_per_sample(&self) -> usize {
        self.steps * self.batch
    }

    fn sample_in_words(&self) -> String {
        format!("{} steps of {} images", self.steps, self.batch)
    }

    fn preparation(&self) -> Vec<String> {
        [
            ("--width", self.width),
            ("--image", self.image),
            ("--channels", self.channels),
            ("--batch", self.batch),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value.to_string()])
        .chain(["--data".to_owned(), self.data.to_owned()])
        .collect()
    }

    fn input_file(&self) -> &'static str {
        "data.safetensors"
    }

    fn load_message(&self, contestant: &Contestant, shared: &Shared) -> Value {
        self.load(contestant, TIMED, shared)
    }

    fn reference_message(&self, shared: &Shared) -> Value {
        let mut message = self.message(CHECKED, shared);
        message["engine"] = json!("pytorch-eager");
        message["precision"] = json!("f32");
        json!({ "load": message })
    }

    fn check_message(&self, contestant: &Contestant, shared: &Shared) -> Option<Value> {
        Some(self.load(contestant, CHECKED, shared))
    }

    fn check_request(&self, _shared: &Shared) -> (&'static str, Value) {
        ("losses", json!({"losses": {"steps": self.steps}}))
    }

    /// The losses of the first steps, then the two norms.
    fn check_answer(&self, answer: &Value) -> Result<Vec<f64>, &'static str> {
        let numbers = || -> Option<Vec<f64>> {
            let losses = answer.get("losses")?.as_array()?;
            let norms = answer.get("norms")?;
            let values = (losses.iter())
                .map(Value::as_f64)
                .chain(["learned", "running"].map(|name| norms.get(name)?.as_f64()));
            values.collect()
        };
        match numbers() {
            Some(values) if values.len() == self.steps + 2 => Ok(values),
            _ => {
                Err("{\"losses\": [a number a step], \"norms\": {\"learned\": x, \"running\": y}}")
            }
        }
    }

    fn compare(&self, got: &[f64], reference: &[f64]) -> Agreement {
        let allowed = tolerances(self.precision);
        let parts = [
            (
                "loss_max_relative_difference",
                0..self.steps,
                allowed.losses,
            ),
            (
                "weight_norm_relative_difference",
                self.steps..self.steps + 1,
                allowed.learned,
            ),
            (
                "running_norm_relative_difference",
                self.steps + 1..self.steps + 2,
                allowed.running,
            ),
        ];
        let mut agreement = Agreement {
            metrics: Vec::new(),
            fault: None,
        };
        for (name, range, allowed) in parts {
            let part = |values: &'_ [f64]| values.get(range.clone()).unwrap_or(&[]).to_vec();
            let difference = match (part(got), part(reference)) {
                (got, reference) if !reference.is_empty() => relative_difference(&got, &reference),
                _ => f64::INFINITY,
            };
            agreement.metrics.push((name, difference));
            if difference > allowed && agreement.fault.is_none() {
                agreement.fault = Some(format!(
                    "{} after {} steps differs from PyTorch eager in f32: {difference:.1e}; \
                     {allowed:.0e} is allowed in {}",
                    name.replace('_', " "),
                    self.steps,
                    self.precision
                ));
            }
        }
        agreement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_as_the_book_has_them() {
        let names = |device| -> Vec<_> {
            let all = all(device, 2);
            all.iter().map(Training::measurement).collect()
        };
        let cpu = names(Device::Cpu);
        assert_eq!(
            cpu,
            ["train-digits-w16", "train-digits-w64", "train-32-w16"]
        );
        let cuda = names(Device::Cuda);
        assert_eq!(
            cuda,
            [
                "train-digits-w16-cuda",
                "train-32-w64-bf16-cuda",
                "train-32-w64-b256-bf16-cuda"
            ]
        );
        for training in all(Device::Cpu, 2).iter().chain(&all(Device::Cuda, 2)) {
            let contestants = training.contestants();
            let ids: HashSet<_> = contestants.iter().map(|c| &c.id).collect();
            assert_eq!(ids.len(), contestants.len());
            for contestant in &contestants {
                let steps = contestant.options["steps_per_call"].as_u64().unwrap();
                assert_eq!(training.steps as u64 % steps, 0, "{}", contestant.id);
            }
        }
    }

    #[test]
    fn titles_are_for_people() {
        assert_eq!(
            all(Device::Cpu, 2)[2].title(),
            "Training ResNet-18, width 16, 32x32x3, batch 64, f32, 2 threads"
        );
    }

    #[test]
    fn the_check_has_other_constants_and_the_same_program() {
        let training = &all(Device::Cpu, 2)[0];
        let shared = Shared {
            weights: "/w".to_owned(),
            input: "/d".to_owned(),
            model: None,
        };
        let ours = &training.contestants()[1];
        let mut timed = training.load_message(ours, &shared);
        let mut check = training.check_message(ours, &shared).unwrap();
        assert_eq!(timed["load"]["engine"], "pjrt");
        assert_eq!(timed["load"]["steps_per_call"], 16);
        assert_eq!(timed["load"]["loop"], "while");
        assert_eq!(timed["load"]["data"], "/d");
        assert_eq!(timed["load"]["optimizer"]["learning_rate"], 0.05);
        assert_eq!(check["load"]["optimizer"]["learning_rate"], 2e-5);
        for message in [&mut timed, &mut check] {
            message["load"]["optimizer"].take();
        }
        assert_eq!(timed, check);
        let reference = training.reference_message(&shared);
        assert_eq!(reference["load"]["optimizer"]["weight_decay"], 0.5);
    }

    fn two_steps(precision: &'static str) -> Training {
        Training {
            steps: 2,
            precision,
            ..all(Device::Cpu, 2)[0].clone()
        }
    }

    #[test]
    fn each_part_has_its_own_tolerance() {
        let reference = [2.0, 3.0, 60.0, 40.0];
        let training = two_steps("f32");
        let fault = |got: &[f64]| training.compare(got, &reference).fault;
        assert_eq!(fault(&reference), None);
        assert_eq!(fault(&[2.0001, 3.0, 60.0001, 40.001]), None);
        assert!(
            fault(&[2.0, 3.001, 60.0, 40.0])
                .unwrap()
                .starts_with("loss max")
        );
        assert!(
            fault(&[2.0, 3.0, 60.001, 40.0])
                .unwrap()
                .starts_with("weight norm")
        );
        assert!(
            fault(&[2.0, 3.0, 60.0, 40.01])
                .unwrap()
                .starts_with("running norm")
        );
        assert!(fault(&[2.0, f64::NAN, 60.0, 40.0]).is_some());
        assert!(fault(&[2.0, 3.0, 60.0]).is_some());
        assert!(fault(&[]).is_some());
        let loose = two_steps("bf16").compare(&[2.0, 3.001, 60.0, 40.0], &reference);
        assert_eq!(loose.fault, None);
        assert_eq!(loose.metrics.len(), 3);
    }

    #[test]
    fn an_answer_of_another_shape_is_told_what_was_expected() {
        let training = two_steps("f32");
        let good = json!({"losses": [2.0, 3], "norms": {"learned": 60.0, "running": 40.0}});
        assert_eq!(training.check_answer(&good), Ok(vec![2.0, 3.0, 60.0, 40.0]));
        for bad in [
            json!({"losses": [2.0], "norms": {"learned": 60.0, "running": 40.0}}),
            json!({"losses": [2.0, "3"], "norms": {"learned": 60.0, "running": 40.0}}),
            json!({"losses": [2.0, 3.0], "norms": {"learned": 60.0}}),
            json!({"losses": [2.0, 3.0]}),
            json!({}),
        ] {
            assert!(training.check_answer(&bad).is_err(), "{bad}");
        }
    }
}
