//! What the GPU says of itself while it works, by NVML: utilisation, memory, power,
//! energy. NVML comes with the driver and is loaded while the program runs; without
//! it, the figures are left out and the reason is told once.

use accel::{progress::Progress, results::Row};
use nvml_wrapper::{Nvml, error::NvmlError};

/// One reading; what a GPU does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Energy since the driver was loaded, in joules; Volta and later.
    pub joules: Option<f64>,
    /// Power of the board now, in watts.
    pub watts: Option<f64>,
    /// Share of the last moments in which a kernel ran, `0..=1`.
    pub busy_share: Option<f64>,
    /// Memory in use by all programs, in bytes.
    pub memory_bytes: Option<f64>,
}

/// Something that can be read: a GPU, or a test's stand-in.
pub trait Gauge {
    /// Reads it now.
    fn read(&self) -> Reading;
}

/// What was read before and after some work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Consumption {
    /// Joules spent meanwhile.
    pub joules: Option<f64>,
    /// The reading at the end, while the figures still speak of the work.
    pub end: Reading,
}

/// Reads before and after `work`.
pub fn during<T>(gauge: Option<&dyn Gauge>, work: impl FnOnce() -> T) -> (T, Consumption) {
    let Some(gauge) = gauge else {
        return (work(), Consumption::default());
    };
    let before = gauge.read().joules;
    let result = work();
    let end = gauge.read();
    let joules = before
        .zip(end.joules)
        .map(|(before, after)| after - before)
        .filter(|joules| *joules > 0.0);
    (result, Consumption { joules, end })
}

impl Consumption {
    /// The figures as metrics of a row.
    ///
    /// * `images`: how many were worked through meanwhile
    pub fn tell(&self, mut row: Row, images: usize) -> Row {
        for (name, value) in [
            ("images_per_joule", self.joules.map(|j| images as f64 / j)),
            ("power_watts", self.end.watts),
            ("device_busy_share", self.end.busy_share),
            ("device_memory_bytes", self.end.memory_bytes),
        ] {
            if let Some(value) = value {
                row = row.with_metric(name, value);
            }
        }
        row
    }
}

/// A GPU by NVML.
#[derive(Debug)]
pub struct NvidiaGpu {
    nvml: Nvml,
    which: Which,
}

/// How NVML finds the GPU that CUDA numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// Its number on the bus.
    Index(u32),
    /// Its name.
    Uuid(String),
}

impl Which {
    /// CUDA counts what `CUDA_VISIBLE_DEVICES` leaves, NVML counts all.
    ///
    /// * `index`: CUDA's
    /// * `visible`: the variable's value, where it is set
    fn new(index: usize, visible: Option<&str>) -> Option<Self> {
        let Some(visible) = visible else {
            return u32::try_from(index).ok().map(Which::Index);
        };
        let name = visible.split(',').nth(index)?.trim();
        match name.parse() {
            Ok(number) => Some(Which::Index(number)),
            Err(_) if name.is_empty() => None,
            Err(_) => Some(Which::Uuid(name.to_owned())),
        }
    }
}

/// The gauge of a device: none for the CPU, and none, with a line on stderr, where NVML
/// does not answer.
pub fn open(device: tch::Device, quiet: bool) -> Option<NvidiaGpu> {
    let tch::Device::Cuda(index) = device else {
        return None;
    };
    match NvidiaGpu::open(index) {
        Ok(gpu) => Some(gpu),
        Err(why) => {
            Progress::new(None, "readings", quiet)
                .println(&format!("power and energy are not measured: NVML: {why}"));
            None
        }
    }
}

impl NvidiaGpu {
    /// * `index`: CUDA's number of the device
    fn open(index: usize) -> Result<Self, NvmlError> {
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let which = Which::new(index, visible.as_deref()).ok_or(NvmlError::NotFound)?;
        let gpu = NvidiaGpu {
            nvml: Nvml::init()?,
            which,
        };
        gpu.device().map(drop)?;
        Ok(gpu)
    }

    fn device(&self) -> Result<nvml_wrapper::Device<'_>, NvmlError> {
        match &self.which {
            Which::Index(index) => self.nvml.device_by_index(*index),
            Which::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
        }
    }
}

impl Gauge for NvidiaGpu {
    fn read(&self) -> Reading {
        let Ok(device) = self.device() else {
            return Reading::default();
        };
        Reading {
            // Millijoules and milliwatts.
            joules: device
                .total_energy_consumption()
                .ok()
                .map(|n| n as f64 / 1e3),
            watts: device.power_usage().ok().map(|n| f64::from(n) / 1e3),
            busy_share: device
                .utilization_rates()
                .ok()
                .map(|rates| f64::from(rates.gpu) / 100.0),
            memory_bytes: device.memory_info().ok().map(|memory| memory.used as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Spends 5 joules between two readings.
    struct Fake(Cell<f64>);

    impl Gauge for Fake {
        fn read(&self) -> Reading {
            let joules = self.0.get();
            self.0.set(joules + 5.0);
            Reading {
                joules: Some(joules),
                watts: Some(300.0),
                busy_share: Some(0.75),
                memory_bytes: None,
            }
        }
    }

    #[test]
    fn joules_are_those_between_the_readings() {
        let fake = Fake(Cell::new(100.0));
        let (answer, spent) = during(Some(&fake), || 42);
        assert_eq!(answer, 42);
        assert_eq!(spent.joules, Some(5.0));
        let row = spent.tell(Row::ok("b8", "8"), 20);
        assert_eq!(row.metrics["images_per_joule"], 4.0);
        assert_eq!(row.metrics["power_watts"], 300.0);
        assert_eq!(row.metrics["device_busy_share"], 0.75);
        assert!(!row.metrics.contains_key("device_memory_bytes"));
    }

    #[test]
    fn without_a_gauge_there_are_no_figures() {
        let (answer, spent) = during(None, || 42);
        assert_eq!((answer, spent), (42, Consumption::default()));
        assert!(spent.tell(Row::ok("b8", "8"), 20).metrics.is_empty());
        assert!(open(tch::Device::Cpu, true).is_none());
    }

    #[test]
    fn a_counter_that_stands_still_is_no_measurement() {
        struct Still;
        impl Gauge for Still {
            fn read(&self) -> Reading {
                Reading {
                    joules: Some(7.0),
                    ..Reading::default()
                }
            }
        }
        assert_eq!(during(Some(&Still), || ()).1.joules, None);
    }

    #[test]
    fn cudas_number_becomes_nvmls() {
        for (index, visible, which) in [
            (0, None, Some(Which::Index(0))),
            (2, None, Some(Which::Index(2))),
            (0, Some("3,1"), Some(Which::Index(3))),
            (1, Some("3, 1"), Some(Which::Index(1))),
            (2, Some("3,1"), None),
            (0, Some(""), None),
            (
                1,
                Some("0,GPU-8932f937"),
                Some(Which::Uuid("GPU-8932f937".to_owned())),
            ),
        ] {
            assert_eq!(Which::new(index, visible), which, "{index} of {visible:?}");
        }
    }
}
