//! The device's peaks, measured: operations by a matrix product, bytes by a copy.

use std::time::Duration;

use accel::timing::{self, Plan, Samples};
use cpu_inference::{
    engine::EngineError,
    tch_engine::{Dtype, refused, wait_for},
};
use tch::{Device, Kind, Tensor};

/// A peak with the samples behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Peak {
    /// Operations, or bytes, a second, in the fastest sample: a peak is what the device
    /// can do, not what it does on average.
    pub per_second: f64,
    /// Height and width of the matrices, or numbers in the tensor.
    pub size: usize,
    /// All samples.
    pub samples: Samples,
}

/// How long, and how large.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Height and width of the matrices.
    pub side: usize,
    /// Numbers in the tensor that is copied, of four bytes.
    pub numbers: usize,
    /// Shortest time to sample for, in seconds.
    pub seconds: f64,
}

impl Effort {
    /// Large enough that starting a kernel does not count, and that no cache holds it.
    pub fn for_device(device: Device, quick: bool) -> Self {
        match (device, quick) {
            (Device::Cuda(_), _) => Effort {
                side: 8192,
                numbers: 1 << 28,
                seconds: if quick { 0.2 } else { 1.0 },
            },
            (_, false) => Effort {
                side: 2048,
                numbers: 1 << 26,
                seconds: 2.0,
            },
            (_, true) => Effort {
                side: 1024,
                numbers: 1 << 24,
                seconds: 0.2,
            },
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            warmup: 3,
            min_samples: 5,
            max_samples: 1000,
            min_time: Duration::from_secs_f64(self.seconds),
        }
    }
}

/// Floating-point operations a second of a product of two square matrices.
///
/// # Errors
/// The engine's, such as no memory.
pub fn matmul(device: Device, dtype: Dtype, effort: &Effort) -> Result<Peak, EngineError> {
    let n = effort.side as i64;
    let failed = |error| refused(error, 0);
    // The CPU has no generator for 16-bit numbers in every build.
    let matrix = || -> Result<Tensor, tch::TchError> {
        Tensor::f_randn([n, n], (Kind::Float, device))?.f_to_kind(dtype.kind())
    };
    let (a, b) = (matrix().map_err(failed)?, matrix().map_err(failed)?);
    let run = || {
        let product = a.f_matmul(&b).and_then(|c| wait_for(&c));
        product.map_err(failed)
    };
    let samples = timing::measure(&effort.plan(), 1, run, || Ok(()))?;
    Ok(peak(
        samples,
        effort.side,
        2.0 * (effort.side as f64).powi(3),
    ))
}

/// Bytes a second that a copy from memory to memory reads and writes.
///
/// # Errors
/// The engine's, such as no memory.
pub fn copy(device: Device, effort: &Effort) -> Result<Peak, EngineError> {
    let failed = |error| refused(error, 0);
    let numbers = effort.numbers as i64;
    let tensor = || Tensor::f_ones([numbers], (Kind::Float, device)).map_err(failed);
    let (source, mut target) = (tensor()?, tensor()?);
    let run = || {
        let copied = target.f_copy_(&source).and_then(|()| wait_for(&target));
        copied.map_err(failed)
    };
    let samples = timing::measure(&effort.plan(), 1, run, || Ok(()))?;
    Ok(peak(
        samples,
        effort.numbers,
        2.0 * 4.0 * effort.numbers as f64,
    ))
}

fn peak(samples: Samples, size: usize, work: f64) -> Peak {
    let fastest = samples.summary().map_or(f64::NAN, |summary| summary.min);
    Peak {
        per_second: work / fastest,
        size,
        samples,
    }
}
