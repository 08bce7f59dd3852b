//! The tables: what is allowed where. A new crate or a new exception is a line here.

/// Which of the project's crates each crate may depend on.
pub const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("accel", &[]),
    ("datasets", &["accel"]),
    ("cpu-inference", &["accel", "datasets"]),
    ("inference-engines", &["accel", "datasets", "cpu-inference"]),
    (
        "gpu-inference",
        &["accel", "datasets", "cpu-inference", "inference-engines"],
    ),
    ("book-builder", &["accel"]),
    ("browser-check", &["accel"]),
    ("pjrt-runtime", &[]),
    ("training-graph", &[]),
    (
        "tpu-training",
        &["accel", "datasets", "pjrt-runtime", "training-graph"],
    ),
    (
        "parallel-training",
        &["accel", "datasets", "pjrt-runtime", "tpu-training"],
    ),
    ("x", &["accel"]),
];

/// Files or folders (with a trailing `/`) that may hold `unsafe`, each with the reason.
pub const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    (
        "chapters/01-cpu/src/allocator.rs",
        "calls mallopt of the C library",
    ),
    (
        "chapters/02-gpu/src/libtorch_cuda.rs",
        "loads libtorch_cuda; nothing of it is called by address",
    ),
    (
        "chapters/03-tpu-training/crates/pjrt/src/ffi.rs",
        "declares the PJRT C API's function types",
    ),
    (
        "chapters/03-tpu-training/crates/pjrt/src/sys/",
        "loads plugins and calls the PJRT C API; what is outside is safe",
    ),
];

/// Files or folders (with a trailing `/`) that may name a user's folder, each with the reason.
pub const USER_FOLDERS_ALLOWED: &[(&str, &str)] = &[
    (
        "docker/",
        "a container image's own root is the same everywhere",
    ),
    (
        "shared/src/privacy.rs",
        "keeps such paths out of result files",
    ),
    (
        "shared/tests/",
        "result files with such paths must be refused",
    ),
];

/// Whether a table of files and folders (with a trailing `/`) has `file`.
pub fn lists(table: &[(&str, &str)], file: &str) -> bool {
    (table.iter())
        .any(|(place, _)| file == *place || (place.ends_with('/') && file.starts_with(place)))
}

/// The largest file that is committed, in bytes.
pub const LARGEST_FILE_BYTES: u64 = 4_000_000;
