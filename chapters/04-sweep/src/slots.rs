//! How many workers there are, and with how many threads each.
//!
//! | device | slots | why |
//! | --- | --- | --- |
//! | CPU | one a core, of one thread | small trainings gain little from a second core, and nothing is idle |
//! | GPU | as many as fit into its memory | a small training leaves most of a GPU idle |
//! | TPU | one | a TPU belongs to one process |

use std::num::NonZero;

use crate::protocol::Ready;

/// What CUDA, its libraries and the compiler's autotuning take in a process on the GPU, in
/// bytes, beside the program: an allowance, not a measurement.
pub const PER_PROCESS_BYTES: u64 = 1 << 30;

/// Share of a GPU's memory that is given out.
const SHARE: f64 = 0.9;

/// Workers, and the threads of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Workers at the same time.
    pub count: usize,
    /// Threads that each worker computes with; `None`: the plugin decides.
    pub threads: Option<usize>,
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

impl Slots {
    // ANCHOR: cpu
    /// On the CPU, where the flags leave it open: the cores are shared out evenly, so that no
    /// two runs fight over one.
    pub fn on_cpu(cores: usize, count: Option<usize>, threads: Option<usize>) -> Self {
        let count = count.unwrap_or(match threads {
            Some(threads) => (cores / threads.max(1)).max(1),
            None => cores,
        });
        Slots {
            count,
            threads: Some(threads.unwrap_or((cores / count).max(1))),
        }
    }
    // ANCHOR_END: cpu

    /// On a device that one worker has opened.
    ///
    /// * `program_bytes`: of the first program, by the compiler's estimate
    pub fn on_accelerator(ready: &Ready, program_bytes: Option<u64>, count: Option<usize>) -> Self {
        let count = count.unwrap_or(
            match (ready.device.as_str(), ready.memory_bytes, program_bytes) {
                ("tpu", ..) => 1,
                (_, Some(memory), Some(program)) => fitting(memory, program),
                _ => 1,
            },
        );
        Slots {
            count,
            threads: None,
        }
    }
}

/// Programs of a size that fit into a GPU's memory at once, at least one.
fn fitting(memory: u64, program: u64) -> usize {
    let given_out = (memory as f64 * SHARE) as u64;
    let each = program.saturating_add(PER_PROCESS_BYTES);
    usize::try_from(given_out / each)
        .unwrap_or(usize::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(device: &str, memory_bytes: Option<u64>) -> Ready {
        Ready {
            device: device.into(),
            reason: String::new(),
            memory_bytes,
            versions: Default::default(),
        }
    }

    #[test]
    fn cores_are_shared_out_evenly() {
        let slots = |cores, count, threads| {
            let slots = Slots::on_cpu(cores, count, threads);
            (slots.count, slots.threads.unwrap())
        };
        assert_eq!(slots(2, None, None), (2, 1));
        assert_eq!(slots(16, Some(4), None), (4, 4));
        assert_eq!(slots(16, None, Some(2)), (8, 2));
        assert_eq!(slots(2, Some(5), None), (5, 1));
        assert_eq!(slots(2, None, Some(8)), (1, 8));
    }

    #[test]
    fn a_gpu_takes_as_many_as_fit_and_a_tpu_one() {
        let gib = 1u64 << 30;
        let count = |device: &str, memory, program, wish| {
            Slots::on_accelerator(&ready(device, memory), program, wish).count
        };
        assert_eq!(count("cuda:0", Some(20 * gib), Some(gib), None), 9);
        assert_eq!(count("cuda:0", Some(20 * gib), Some(40 * gib), None), 1);
        assert_eq!(count("cuda:0", Some(20 * gib), Some(u64::MAX), None), 1);
        assert_eq!(count("cuda:0", None, Some(gib), None), 1);
        assert_eq!(count("cuda:0", Some(20 * gib), Some(gib), Some(18)), 18);
        assert_eq!(count("tpu", Some(20 * gib), Some(gib), None), 1);
    }
}
