//! What is measured, and who takes part.

use serde_json::{Map, Value, json};

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

/// One contender: an engine with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contestant {
    /// Row id: "openvino", "pytorch-eager-tuned-malloc".
    pub id: String,
    /// Name for people.
    pub label: String,
    /// The engine's name in the load message.
    pub engine: &'static str,
    /// Whether it is a rung of ours, run by cpu-inference.
    pub ours: bool,
    /// Whether its process runs with [`MALLOC_TUNABLES`]; ours tunes malloc itself.
    pub tuned_malloc: bool,
    /// Whether ours is told to leave malloc as it comes.
    pub system_malloc: bool,
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

impl Workload {
    /// The measurement's name: `peers-resnet50-224-b8-f32`.
    pub fn measurement(&self) -> String {
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

    /// A heading for people.
    pub fn title(&self) -> String {
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

    /// Whether `--quick` runs it: one of large convolutions, one of small ones.
    pub fn in_quick_mode(&self) -> bool {
        matches!(
            self.measurement().as_str(),
            "peers-resnet18-224-b8-f32" | "peers-resnet18-32-b1-f32"
        )
    }

    /// Everybody who takes part, ours first.
    pub fn contestants(&self) -> Vec<Contestant> {
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
        let contestant = |engine: &'static str, label: &str, ours, tuned_malloc| Contestant {
            id: match tuned_malloc {
                true => format!("{engine}-tuned-malloc"),
                false => engine.to_owned(),
            },
            label: match tuned_malloc {
                true => format!("{label}, malloc tuned"),
                false => label.to_owned(),
            },
            engine,
            ours,
            tuned_malloc,
            system_malloc: false,
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
            all.push(Contestant {
                id: "tch-eager-system-malloc".to_owned(),
                label: "tch, eager, malloc as it comes".to_owned(),
                system_malloc: true,
                ..contestant("tch-eager", "", true, false)
            });
        }
        for (engine, label, by_malloc) in PEERS {
            all.push(contestant(engine, label, false, false));
            if by_malloc && self.image >= MALLOC_MATTERS_FROM && cfg!(target_env = "gnu") {
                all.push(contestant(engine, label, false, true));
            }
        }
        all
    }

    /// What the row of `contestant` says it ran.
    pub fn describe(&self, contestant: &Contestant) -> Map<String, Value> {
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
            (
                "tuned_malloc",
                json!(contestant.tuned_malloc || contestant.ours && !contestant.system_malloc),
            ),
        ] {
            map.insert(name.to_owned(), value);
        }
        map
    }

    /// The load message.
    pub fn load_message(&self, engine: &str, dtype: &str, weights: &str) -> Value {
        json!({"load": {
            "engine": engine, "arch": self.arch, "stem": self.stem, "image": self.image,
            "batch": self.batch, "dtype": dtype, "threads": self.threads, "weights": weights,
        }})
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
