//! The tables: what is allowed where. A new crate or a new exception is a line here.

/// Which of the project's crates each crate may depend on.
pub const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("accel", &[]),
    ("datasets", &["accel"]),
    ("cpu-inference", &["accel", "datasets"]),
    ("book-builder", &["accel"]),
    ("x", &["accel"]),
];

/// Files that may hold `unsafe`, each with the reason.
pub const UNSAFE_ALLOWED: &[(&str, &str)] = &[(
    "chapters/01-cpu/src/allocator.rs",
    "calls mallopt of the C library",
)];

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

/// The largest file that is committed, in bytes.
pub const LARGEST_FILE_BYTES: u64 = 4_000_000;
