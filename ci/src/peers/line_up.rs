//! Who takes part in an inference workload, by the chapter that asks.

use serde_json::json;

use super::{inference::Workload, work::Contestant};

/// glibc gives buffers above its mmap threshold back to the kernel on every free and
/// faults them in again on the next allocation. Thresholds beyond any activation of
/// ours keep them: 1 GiB for mmap, 4 GiB for trimming. Counted on ResNet-18 at batch
/// 16: from 37,602 page faults a batch to 0.
/// Source: <https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html>
const MALLOC_TUNABLES: &str =
    "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296";

/// Side from which activations pass glibc's largest dynamic mmap threshold, 32 MiB;
/// below it a tuned malloc changes nothing.
const MALLOC_MATTERS_FROM: usize = 224;

/// Which chapter's question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Chapter 1: how far libtorch from Rust comes on the CPU.
    Cpu,
    /// Chapter 2: other engines behind the same trait, on the CPU.
    Engines,
    /// Chapter 2: libtorch from Rust on a GPU.
    Gpu,
}

/// Everybody who takes part, ours first.
pub fn contestants(workload: &Workload) -> Vec<Contestant> {
    match workload.suite {
        Suite::Cpu => rungs(workload),
        Suite::Engines => engines(workload),
        Suite::Gpu => gpu(),
    }
}

fn rungs(workload: &Workload) -> Vec<Contestant> {
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
    let mut all = Vec::new();
    for (engine, label) in OURS {
        // One image cannot be shared out, and large images use every tap.
        let same_as_another = match engine {
            "tch-streams" => workload.batch < workload.threads || workload.threads == 1,
            "tch-trimmed" => workload.image >= MALLOC_MATTERS_FROM,
            _ => false,
        };
        if !same_as_another {
            all.push(with_malloc(engine, label, true, false));
        }
    }
    if malloc_matters(workload) {
        let mut plain = with_malloc("tch-eager", "tch, eager, malloc as it comes", true, false);
        plain.id = "tch-eager-system-malloc".to_owned();
        plain.arguments = vec!["--system-malloc"];
        plain
            .options
            .insert("tuned_malloc".to_owned(), json!(false));
        all.push(plain);
    }
    for (engine, label, by_malloc) in PEERS {
        all.push(with_malloc(engine, label, false, false));
        if by_malloc && malloc_matters(workload) {
            all.push(with_malloc(engine, label, false, true));
        }
    }
    all
}

fn engines(workload: &Workload) -> Vec<Contestant> {
    const OURS: [(&str, &str); 4] = [
        ("tch-prepacked", "tch, folded, prepacked for oneDNN"),
        ("onnxruntime", "ONNX Runtime, from Rust"),
        ("openvino", "OpenVINO, from Rust"),
        ("openvino-streams", "OpenVINO, from Rust, one stream a core"),
    ];
    const PEERS: [(&str, &str); 4] = [
        ("pytorch-channels-last", "PyTorch, channels-last"),
        ("torch-compile", "PyTorch, torch.compile with freezing"),
        ("onnxruntime", "ONNX Runtime, from Python"),
        ("openvino", "OpenVINO, from Python"),
    ];
    // tch has no quantised convolution, and one image cannot be shared out.
    let takes_part = |engine: &str| match engine {
        "tch-prepacked" => workload.dtype != "int8",
        "openvino-streams" => workload.batch >= workload.threads && workload.threads > 1,
        _ => true,
    };
    let ours = OURS.into_iter().filter(|(engine, _)| takes_part(engine));
    let ours = ours.map(|(engine, label)| {
        let mut ours = with_malloc(engine, label, true, false);
        ours.id = format!("ours-{engine}");
        ours
    });
    let peers = PEERS.map(|(engine, label)| {
        // The faster of the two ways to run PyTorch: a tuned malloc costs nothing.
        let tuned = !matches!(engine, "onnxruntime" | "openvino") && malloc_matters(workload);
        let mut peer = with_malloc(engine, label, false, tuned);
        peer.id = engine.to_owned();
        peer
    });
    ours.chain(peers).collect()
}

fn gpu() -> Vec<Contestant> {
    // The last: whether cuDNN tries its algorithms out, as PyTorch's contenders let it.
    const OURS: [(&str, &str, bool); 3] = [
        ("tch-eager", "tch, eager", false),
        ("tch-channels-last", "tch, folded, channels-last", true),
        ("tch-fused", "tch, convolution, bias and ReLU in one", true),
    ];
    const PEERS: [(&str, &str); 3] = [
        ("pytorch-eager", "PyTorch, eager"),
        ("pytorch-channels-last", "PyTorch, channels-last"),
        ("torch-compile", "PyTorch, torch.compile max-autotune"),
    ];
    let ours = OURS.map(|(engine, label, autotune)| {
        let mut ours = Contestant::new(engine, label, true);
        ours.options.insert("autotune".to_owned(), json!(autotune));
        ours
    });
    let peers = PEERS.map(|(engine, label)| Contestant::new(engine, label, false));
    ours.into_iter().chain(peers).collect()
}

/// Whether glibc's malloc gives this workload's activations back to the kernel.
fn malloc_matters(workload: &Workload) -> bool {
    workload.image >= MALLOC_MATTERS_FROM && cfg!(target_env = "gnu")
}

fn with_malloc(engine: &'static str, label: &str, ours: bool, tuned_malloc: bool) -> Contestant {
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
}
