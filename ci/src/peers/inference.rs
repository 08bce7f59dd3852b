//! Inference: what is measured on the CPU and on a GPU, and what has to agree.

use serde_json::{Map, Value, json};

use super::{
    line_up::{self, Suite},
    work::{Agreement, Contestant, Shared, Work, relative_difference},
};

/// One configuration that all contenders run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Which chapter's question is asked.
    pub suite: Suite,
    /// "resnet18", "resnet34" or "resnet50".
    pub arch: &'static str,
    /// "imagenet" or "small".
    pub stem: &'static str,
    /// Side of the square input in pixels.
    pub image: usize,
    /// Images a batch.
    pub batch: usize,
    /// "f32", "bf16", "f16" or "int8".
    pub dtype: &'static str,
    /// Threads of the engine; on a GPU, of its host.
    pub threads: usize,
    /// Whether `threads` is fewer than the machine has, and belongs into the name.
    pub threads_in_name: bool,
}

/// All workloads of a suite for a machine with this many cores.
pub fn all(suite: Suite, cores: usize) -> Vec<Workload> {
    let workload = |arch, image, batch, dtype, threads| Workload {
        suite,
        arch,
        stem: "imagenet",
        image,
        batch,
        dtype,
        threads,
        threads_in_name: threads != cores,
    };
    let mut all = Vec::new();
    match suite {
        Suite::Cpu => {
            for dtype in ["f32", "bf16"] {
                for batch in [1, 8, 32] {
                    all.push(workload("resnet50", 224, batch, dtype, cores));
                }
                all.push(workload("resnet18", 224, 8, dtype, cores));
                for batch in [1, 32] {
                    all.push(workload("resnet18", 32, batch, dtype, cores));
                }
            }
            // On one core these are the same as above.
            if cores > 1 {
                all.push(workload("resnet50", 224, 8, "f32", 1));
                all.push(workload("resnet18", 32, 1, "f32", 1));
            }
        }
        Suite::Engines => {
            for dtype in ["f32", "bf16", "int8"] {
                for batch in [1, 8] {
                    all.push(workload("resnet50", 224, batch, dtype, cores));
                }
                all.push(workload("resnet18", 32, 1, dtype, cores));
            }
        }
        // The one that the chapter's claim is about comes first.
        Suite::Gpu => {
            for (batch, dtype) in [(256, "bf16"), (32, "bf16"), (256, "f16"), (256, "f32")] {
                all.push(workload("resnet50", 224, batch, dtype, cores));
            }
            all.push(workload("resnet18", 32, 1, "bf16", cores));
        }
    }
    all
}

/// Largest difference of a logit from PyTorch eager in f32 on the CPU, relative to the
/// largest |logit|.
///
/// Another order of summation makes 1e-6; Winograd convolution 1e-5. bf16 has 8 bits of
/// mantissa: a rounding is 4e-3, and those of 50 layers add up to 1e-2 (measured with
/// seeded weights). A GPU's f32 convolutions run in TF32 as PyTorch comes, with 11 bits
/// as f16: a rounding is 5e-4. INT8 has 256 steps for each tensor's range: the roundings of
/// ResNet-18's layers add up to 2e-2 (measured likewise), and a ResNet-50 has three times as
/// many. A wrong stride, stem or fold makes 1e-1 and more, and in INT8 it shows already in f32.
fn tolerance(dtype: &str, suite: Suite) -> f64 {
    match (dtype, suite) {
        ("f32", Suite::Cpu | Suite::Engines) => 1e-4,
        ("f32" | "f16", _) => 1e-2,
        ("int8", _) => 2e-1,
        _ => 5e-2,
    }
}

impl Workload {
    fn device(&self) -> &'static str {
        match self.suite {
            Suite::Cpu | Suite::Engines => "cpu",
            Suite::Gpu => "cuda",
        }
    }

    fn message(&self, engine: &str, dtype: &str, device: &str, shared: &Shared) -> Value {
        let mut load = json!({
            "engine": engine, "arch": self.arch, "stem": self.stem, "image": self.image,
            "batch": self.batch, "dtype": dtype, "threads": self.threads,
            "weights": shared.weights,
        });
        // Chapter 1's program knows no devices.
        if self.suite != Suite::Cpu {
            load["device"] = json!(device);
        }
        if dtype == "int8" {
            load["onnx"] = json!(shared.model);
        }
        load
    }
}

impl Work for Workload {
    fn measurement(&self) -> String {
        let stem = match self.stem {
            "imagenet" => String::new(),
            stem => format!("-{stem}"),
        };
        let threads = match self.threads_in_name {
            true => format!("-t{}", self.threads),
            false => String::new(),
        };
        let device = match self.device() {
            "cpu" => String::new(),
            device => format!("-{device}"),
        };
        format!(
            "peers-{}{stem}-{}-b{}-{}{device}{threads}",
            self.arch, self.image, self.batch, self.dtype
        )
    }

    fn title(&self) -> String {
        let name = self.arch.replacen("resnet", "ResNet-", 1);
        let stem = match self.stem {
            "imagenet" => "",
            _ => ", small stem",
        };
        let (place, what) = match (self.suite, self.threads) {
            (Suite::Gpu, _) => ("one GPU".to_owned(), "inference on a GPU"),
            (_, 1) => ("1 thread".to_owned(), "inference engines on the CPU"),
            (_, n) => (format!("{n} threads"), "inference engines on the CPU"),
        };
        format!(
            "{name}{stem}, {0}x{0}, batch {1}, {2}, {place}: {what}",
            self.image, self.batch, self.dtype
        )
    }

    /// One of large convolutions and one of small ones; of the engines, both ways to get a
    /// network into them.
    fn in_quick_mode(&self) -> bool {
        let name = self.measurement();
        match self.suite {
            Suite::Cpu => matches!(
                name.as_str(),
                "peers-resnet18-224-b8-f32" | "peers-resnet18-32-b1-f32"
            ),
            Suite::Engines => matches!(
                name.as_str(),
                "peers-resnet18-32-b1-f32" | "peers-resnet18-32-b1-int8"
            ),
            Suite::Gpu => name == "peers-resnet50-224-b32-bf16-cuda",
        }
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn contestants(&self) -> Vec<Contestant> {
        line_up::contestants(self)
    }

    fn describe(&self, contestant: &Contestant) -> Map<String, Value> {
        let mut map = Map::new();
        for (name, value) in [
            ("engine", json!(contestant.engine)),
            ("arch", json!(self.arch)),
            ("stem", json!(self.stem)),
            ("image", json!(self.image)),
            ("batch", json!(self.batch)),
            ("dtype", json!(self.dtype)),
            ("threads", json!(self.threads)),
            ("ours", json!(contestant.ours)),
        ] {
            map.insert(name.to_owned(), value);
        }
        if self.suite != Suite::Cpu {
            map.insert("device".to_owned(), json!(self.device()));
        }
        map.extend(contestant.options.clone());
        map
    }

    fn items_per_sample(&self) -> usize {
        self.batch
    }

    fn sample_in_words(&self) -> String {
        format!("one batch of {}", self.batch)
    }

    fn preparation(&self) -> Vec<String> {
        let (image, batch) = (self.image.to_string(), self.batch.to_string());
        [
            "--arch", self.arch, "--stem", self.stem, "--image", &image, "--batch", &batch,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn input_file(&self) -> &'static str {
        "input.safetensors"
    }

    /// INT8 needs ranges of activations, which the weights do not tell: our program
    /// measures them and writes the file that all engines open.
    fn export(&self, weights: &str) -> Option<Vec<String>> {
        let image = self.image.to_string();
        let words = [
            "export",
            "--arch",
            self.arch,
            "--stem",
            self.stem,
            "--image",
            &image,
            "--weights",
            weights,
            "--int8",
            "--quiet",
        ];
        (self.dtype == "int8").then(|| words.map(str::to_owned).to_vec())
    }

    fn load_message(&self, contestant: &Contestant, shared: &Shared) -> Value {
        let mut load = self.message(contestant.engine, self.dtype, self.device(), shared);
        if let Some(autotune) = contestant.options.get("autotune") {
            load["autotune"] = autotune.clone();
        }
        json!({ "load": load })
    }

    fn reference_message(&self, shared: &Shared) -> Value {
        json!({ "load": self.message("pytorch-eager", "f32", "cpu", shared) })
    }

    fn check_request(&self, shared: &Shared) -> (&'static str, Value) {
        ("logits", json!({"logits": {"input": shared.input}}))
    }

    /// The contender's logits of the shared input, row by row.
    fn check_answer(&self, answer: &Value) -> Result<Vec<f64>, &'static str> {
        let rows = answer.get("logits").and_then(Value::as_array);
        let values: Option<Vec<Vec<f64>>> = rows.and_then(|rows| {
            rows.iter()
                .map(|row| row.as_array()?.iter().map(Value::as_f64).collect())
                .collect()
        });
        match values {
            Some(values)
                if values.len() == self.batch
                    && values
                        .iter()
                        .all(|row| row.len() == values[0].len() && !row.is_empty()) =>
            {
                Ok(values.concat())
            }
            _ => Err("{\"logits\": [[numbers]]}, a row an image"),
        }
    }

    fn compare(&self, got: &[f64], reference: &[f64]) -> Agreement {
        let difference = relative_difference(got, reference);
        let tolerance = tolerance(self.dtype, self.suite);
        Agreement {
            metrics: vec![("logit_max_relative_difference", difference)],
            fault: (difference > tolerance).then(|| {
                format!(
                    "its logits differ from PyTorch eager in f32 by {difference:.1e} of the \
                     largest |logit|; {tolerance:.0e} is allowed in {}",
                    self.dtype
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SUITES: [Suite; 3] = [Suite::Cpu, Suite::Engines, Suite::Gpu];

    #[test]
    fn names_are_unique() {
        for (suite, cores) in SUITES.into_iter().flat_map(|s| [(s, 1), (s, 2), (s, 64)]) {
            let all = all(suite, cores);
            let names: HashSet<_> = all.iter().map(Workload::measurement).collect();
            assert_eq!(names.len(), all.len());
            for workload in &all {
                let contestants = workload.contestants();
                let ids: HashSet<_> = contestants.iter().map(|c| &c.id).collect();
                assert_eq!(ids.len(), contestants.len());
                assert!(contestants[0].ours && !contestants[contestants.len() - 1].ours);
            }
        }
        let named = |suite, name: &str| all(suite, 2).iter().any(|w| w.measurement() == name);
        assert!(named(Suite::Cpu, "peers-resnet50-224-b8-f32"));
        assert!(named(Suite::Engines, "peers-resnet50-224-b8-int8"));
        assert!(named(Suite::Gpu, "peers-resnet50-224-b256-bf16-cuda"));
    }

    #[test]
    fn one_core_has_no_second_run_on_one_thread() {
        let cpu = |cores| all(Suite::Cpu, cores);
        assert!(cpu(1).iter().all(|w| !w.threads_in_name && w.threads == 1));
        assert_eq!(cpu(2).len(), cpu(1).len() + 2);
    }

    #[test]
    fn titles_are_for_people() {
        assert_eq!(
            all(Suite::Cpu, 2)[1].title(),
            "ResNet-50, 224x224, batch 8, f32, 2 threads: inference engines on the CPU"
        );
        assert_eq!(
            all(Suite::Gpu, 2)[0].title(),
            "ResNet-50, 224x224, batch 256, bf16, one GPU: inference on a GPU"
        );
    }

    fn shared(model: Option<&str>) -> Shared {
        Shared {
            weights: "/w".to_owned(),
            input: "/i".to_owned(),
            model: model.map(str::to_owned),
        }
    }

    #[test]
    fn int8_engines_open_the_file_that_ours_wrote() {
        for workload in all(Suite::Engines, 2) {
            let int8 = workload.dtype == "int8";
            let export = workload.export("/w");
            assert_eq!(export.is_some(), int8);
            let message = workload.load_message(
                &workload.contestants()[1],
                &shared(int8.then_some("/model.onnx")),
            );
            let expected = if int8 {
                json!("/model.onnx")
            } else {
                Value::Null
            };
            assert_eq!(message["load"]["onnx"], expected);
            assert_eq!(message["load"]["device"], "cpu");
            // What they must agree with is not quantised.
            let reference = workload.reference_message(&shared(None));
            assert_eq!(reference["load"]["dtype"], "f32");
            assert_eq!(reference["load"]["onnx"], Value::Null);
        }
    }

    #[test]
    fn a_gpu_is_asked_for_by_name_and_compared_with_the_cpu() {
        let workload = &all(Suite::Gpu, 2)[0];
        let contestants = workload.contestants();
        let ours = contestants.iter().rfind(|c| c.ours).unwrap();
        let message = workload.load_message(ours, &shared(None));
        assert_eq!(message["load"]["device"], "cuda");
        assert_eq!(message["load"]["autotune"], true);
        assert_eq!(workload.describe(ours)["device"], "cuda");
        assert_eq!(
            workload.reference_message(&shared(None))["load"]["device"],
            "cpu"
        );
        // Chapter 1's program would refuse what it does not know.
        let cpu = &all(Suite::Cpu, 2)[0];
        let message = cpu.load_message(&cpu.contestants()[0], &shared(None));
        assert_eq!(message["load"]["device"], Value::Null);
        assert!(!cpu.describe(&cpu.contestants()[0]).contains_key("device"));
    }

    #[test]
    fn each_format_has_its_tolerance() {
        let far = |suite, dtype: &'static str, difference: f64| {
            let mut workload = all(suite, 2).remove(0);
            workload.dtype = dtype;
            workload
                .compare(&[1.0, 1.0 + difference], &[1.0, 1.0])
                .fault
                .is_some()
        };
        assert!(far(Suite::Engines, "f32", 1e-3));
        assert!(!far(Suite::Gpu, "f32", 1e-3));
        assert!(far(Suite::Gpu, "f32", 2e-2));
        assert!(!far(Suite::Gpu, "bf16", 2e-2));
        assert!(far(Suite::Engines, "bf16", 1e-1));
        assert!(!far(Suite::Engines, "int8", 1e-1));
        assert!(far(Suite::Engines, "int8", 5e-1));
    }
}
