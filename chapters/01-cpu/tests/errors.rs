//! What libtorch says when memory or a device fails, and the exit code that comes of it.

use accel::exit;
use anyhow::Context;
use cpu_inference::{
    engine::EngineError,
    failure,
    tch_engine::{LoadError, refused},
};
use tch::TchError;

/// libtorch 2.11's words, by where they come from.
const OUT_OF_MEMORY: [&str; 5] = [
    // c10/cuda/CUDACachingAllocator.cpp
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.72 GiB",
    // c10/core/impl/alloc_cpu.cpp
    "[enforce fail at alloc_cpu.cpp:126] err == 0. DefaultCPUAllocator: can't allocate memory: \
     you tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "std::bad_alloc",
];

fn said(message: &str) -> EngineError {
    refused(
        TchError::Torch(format!("{message}\nException raised from x")),
        64,
    )
}

fn code(error: impl std::error::Error + Send + Sync + 'static) -> u8 {
    let error = anyhow::Result::<()>::Err(error.into()).context("the run ended early");
    failure::code(&error.unwrap_err())
}

#[test]
fn no_memory_is_told_with_the_batch_and_what_to_do() {
    for message in OUT_OF_MEMORY {
        let error = said(message);
        assert!(
            matches!(error, EngineError::OutOfMemory { images: 64, .. }),
            "{message}: {error:?}"
        );
        let text = error.to_string();
        for part in ["a batch of 64", "--batch", "--shrink-on-oom"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(!text.contains("Exception raised"), "{text}");
        assert_eq!(code(error), exit::FAILED, "{message}");
    }
}

#[test]
fn a_gpu_that_vanishes_is_a_device_that_is_not_available() {
    for message in [
        "CUDA error: unspecified launch failure",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: an illegal memory access was encountered",
    ] {
        let error = said(message);
        assert!(matches!(error, EngineError::DeviceLost { .. }), "{error:?}");
        assert!(error.to_string().contains("nvidia-smi"), "{error}");
        assert_eq!(code(LoadError::Device(said(message))), exit::DEVICE);
        assert_eq!(code(error), exit::DEVICE);
    }
}

#[test]
fn everything_else_is_a_failure_in_the_librarys_words() {
    let error = said("The size of tensor a (3) must match the size of tensor b (4)");
    assert!(matches!(error, EngineError::Library { .. }), "{error:?}");
    assert_eq!(code(error), exit::FAILED);
}

#[test]
fn no_memory_for_the_model_is_told_apart_from_none_for_a_batch() {
    let error = LoadError::OutOfMemory {
        message: "CUDA out of memory".into(),
    };
    assert!(error.to_string().starts_with("no memory for the model: "));
    assert_eq!(code(error), exit::FAILED);
}
