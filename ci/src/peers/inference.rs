//! Inference on the CPU: what is measured, who takes part, and what has to agree.

use serde_json::{Map, Value, json};

use super::work::{Agreement, Contestant, Shared, Work, relative_difference};

/// glibc gives buffers above its mmap threshold back to the kernel on every free and
/// faults them in again on the next allocation. Thresholds beyond any activation of
/// ours keep them: 1 GiB for mmap, 4 GiB for trimming. Counted on ResNet-18 at batch
/// 16: from 37,602 page faults a batch to 0.
/// Source: <https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html>
pub const MALLOC_TUNABLES: &str =
    "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296";

/// Side from which activations pass glibc's largest dynamic mmap threshold, 32 MiB;
/// below it a tuned malloc changes nothing.
const MALLOC_MATTERS_FROM: usize = 224;

/// One configuration that all contenders run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// "resnet18", "resnet34" or "resnet50".
    pub arch: &'static str,
    /// "imagenet" or "small".
    pub stem: &'static str,
    /// Side of the square input in pixels.
    pub image: usize,
    /// Images a batch.
    pub batch: usize,
    /// "f32" or "bf16".
    pub dtype: &'static str,
    /// Threads of the engine.
    pub threads: usize,
    /// Whether `threads` is fewer than the machine has, and belongs into the name.
    pub threads_in_name: bool,
}

/// All workloads for a machine with this many cores.
pub fn all(cores: usize) -> Vec<Workload> {
    let workload = |arch, image, batch, dtype, threads| Workload {
        arch,
        stem: "imagenet",
        image,
        batch,
        dtype,
        threads,
        threads_in_name: threads != cores,
    };
    let mut all = Vec::new();
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
    all
}

/// Largest difference of a logit from PyTorch eager in f32, relative to the largest
/// |logit|. Another order of summation makes 1e-6; Winograd convolution 1e-5. bf16
/// has 8 bits of mantissa: a rounding is 4e-3, and those of 50 layers add up to 1e-2
/// (measured with seeded weights). A wrong stride, stem or fold makes 1e-1 and more.
fn tolerance(dtype: &str) -> f64 {
    match dtype {
        "f32" => 1e-4,
        _ => 5e-2,
    }
}

impl Workload {
    fn message(&self, engine: &str, dtype: &str, weights: &str) -> Value {
        json!({"load": {
            "engine": engine, "arch": self.arch, "stem": self.stem, "image": self.image,
            "batch": self.batch, "dtype": dtype, "threads": self.threads, "weights": weights,
        }})
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
        format!(
            "peers-{}{stem}-{}-b{}-{}{threads}",
            self.arch, self.image, self.batch, self.dtype
        )
    }

    fn title(&self) -> String {
        let name = self.arch.replacen("resnet", "ResNet-", 1);
        let stem = match self.stem {
            "imagenet" => "",
            _ => ", small stem",
        };
        let threads = match self.threads {
            1 => "1 thread".to_owned(),
            n => format!("{n} threads"),
        };
        format!(
            "{name}{stem}, {0}x{0}, batch {1}, {2}, {threads}: inference engines on the CPU",
            self.image, self.batch, self.dtype
        )
    }

    /// One of large convolutions, one of small ones.
    fn in_quick_mode(&self) -> bool {
        matches!(
            self.measurement().as_str(),
            "peers-resnet18-224-b8-f32" | "peers-resnet18-32-b1-f32"
        )
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn contestants(&self) -> Vec<Contestant> {
        const OURS: [(&str, &str); 6] = [
            ("tch-eager", "tch, eager"),
            ("tch-folded", "tch, batch norm folded"),
            ("tch-channels-last", "tch, folded, channels-last"),
            ("tch-prepacked", "tch, folded, prepacked for oneDNN"),
            ("tch-streams", "tch, prepacked, one stream a core"),
            ("tch-trimmed", "tch, channels-last, kernels trimmed"),
        ];
        // (engine, label, whether libtorch allocates its activations by malloc);
        // ONNX Runtime and OpenVINO keep theirs in arenas of their own.
        const PEERS: [(&str, &str, bool); 5] = [
            ("pytorch-eager", "PyTorch, eager", true),
            ("pytorch-channels-last", "PyTorch, channels-last", true),
            (
                "torch-compile",
                "PyTorch, torch.compile with freezing",
                true,
            ),
            ("onnxruntime", "ONNX Runtime", false),
            ("openvino", "OpenVINO", false),
        ];
        let contestant = |engine: &'static str, label: &str, ours, tuned_malloc| {
            let mut contestant = Contestant::new(engine, label, ours);
            if tuned_malloc {
                contestant.id.push_str("-tuned-malloc");
                contestant.label.push_str(", malloc tuned");
                contestant.variables = vec![("GLIBC_TUNABLES", MALLOC_TUNABLES)];
            }
            // Ours tunes malloc itself.
            let tuned = json!(tuned_malloc || ours);
            contestant.options.insert("tuned_malloc".to_owned(), tuned);
            contestant
        };
        let mut all = Vec::new();
        for (engine, label) in OURS {
            // One image cannot be shared out, and large images use every tap.
            let same_as_another = match engine {
                "tch-streams" => self.batch < self.threads || self.threads == 1,
                "tch-trimmed" => self.image >= MALLOC_MATTERS_FROM,
                _ => false,
            };
            if !same_as_another {
                all.push(contestant(engine, label, true, false));
            }
        }
        if self.image >= MALLOC_MATTERS_FROM && cfg!(target_env = "gnu") {
            let mut plain = contestant("tch-eager", "tch, eager, malloc as it comes", true, false);
            plain.id = "tch-eager-system-malloc".to_owned();
            plain.arguments = vec!["--system-malloc"];
            plain
                .options
                .insert("tuned_malloc".to_owned(), json!(false));
            all.push(plain);
        }
        for (engine, label, by_malloc) in PEERS {
            all.push(contestant(engine, label, false, false));
            if by_malloc && self.image >= MALLOC_MATTERS_FROM && cfg!(target_env = "gnu") {
                all.push(contestant(engine, label, false, true));
            }
        }
        all
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

    fn load_message(&self, contestant: &Contestant, shared: &Shared) -> Value {
        self.message(contestant.engine, self.dtype, &shared.weights)
    }

    fn reference_message(&self, shared: &Shared) -> Value {
        self.message("pytorch-eager", "f32", &shared.weights)
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
        let tolerance = tolerance(self.dtype);
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

    #[test]
    fn names_are_unique() {
        for cores in [1, 2, 64] {
            let all = all(cores);
            let names: HashSet<_> = all.iter().map(Workload::measurement).collect();
            assert_eq!(names.len(), all.len());
            assert!(names.contains("peers-resnet50-224-b8-f32"));
            for workload in &all {
                let contestants = workload.contestants();
                let ids: HashSet<_> = contestants.iter().map(|c| &c.id).collect();
                assert_eq!(ids.len(), contestants.len());
            }
        }
    }

    #[test]
    fn one_core_has_no_second_run_on_one_thread() {
        assert!(all(1).iter().all(|w| !w.threads_in_name && w.threads == 1));
        assert_eq!(all(2).len(), all(1).len() + 2);
    }

    #[test]
    fn titles_are_for_people() {
        let title = all(2)[1].title();
        assert_eq!(
            title,
            "ResNet-50, 224x224, batch 8, f32, 2 threads: inference engines on the CPU"
        );
    }
}
