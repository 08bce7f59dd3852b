//! Published facts about processors and accelerators: `shared/hardware.toml`.
//!
//! A roofline needs a device's peak and its bandwidth, a bill needs its price. They
//! are data with a source and a date, and a figure that cannot be right is refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// The text of `shared/hardware.toml`, as it was when the program was built.
pub const TEXT: &str = include_str!("../hardware.toml");

/// All devices of a file, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Hardware {
    /// In the order of the file.
    pub devices: Vec<DeviceFacts>,
    /// Machines that one can rent, in the order of the file.
    pub machines: Vec<MachineFacts>,
}

/// What is published about one device.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFacts {
    /// The name that the device reports, where it reports one.
    pub name: String,
    /// Other names of the same device.
    #[serde(default)]
    pub also: Vec<String>,
    /// What it is.
    pub kind: Kind,
    /// Size of its own memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Peak bandwidth of its memory, in bytes per second.
    pub memory_bytes_per_second: f64,
    /// Peak of the whole device in operations per second, for dense matrices; a
    /// fused multiply-add counts as two.
    #[serde(default)]
    pub operations_per_second: BTreeMap<Dtype, f64>,
    /// Peak of one core in operations per clock cycle.
    #[serde(default)]
    pub operations_per_cycle_per_core: BTreeMap<Dtype, f64>,
    /// What it costs.
    pub price: Option<Price>,
    /// What others measured on it.
    #[serde(default)]
    pub throughput: Vec<Throughput>,
    /// Where the figures are from: an https address.
    pub source: String,
    /// When the source was read: `2026-11-21`.
    pub date: String,
    /// What was derived and how, and other sources.
    pub note: Option<String>,
}

/// A machine without an accelerator that can be rented by the hour.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineFacts {
    /// The seller's name of it.
    pub name: String,
    /// Other names of the same machine.
    #[serde(default)]
    pub also: Vec<String>,
    /// Virtual processors, as the seller counts them: mostly two for one core.
    pub vcpus: u32,
    /// Size of its memory, in bytes.
    pub memory_bytes: u64,
    /// What it costs.
    pub price: Price,
    /// What it is, and what it is not.
    pub note: Option<String>,
}

/// How fast a device did some work, by somebody else's measurement.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throughput {
    /// Name of the work, by which others ask for it: "resnet50".
    pub workload: String,
    /// The work in words, with the engine and the rules of the measurement.
    pub what: String,
    /// Type of the products, whose peak is the limit.
    pub dtype: Dtype,
    /// Operations that one image takes, a multiply-add counted as two.
    pub operations_per_image: f64,
    /// Images a second on one device.
    pub images_per_second: f64,
    /// Where the figure is from: an https address.
    pub source: String,
    /// When the source was read: `2026-11-21`.
    pub date: String,
}

/// Kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A processor.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// A tensor processing unit.
    Tpu,
}

/// Element types that peaks are given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 single precision, without tensor cores.
    F32,
    /// NVIDIA's TensorFloat-32: f32 in memory, 10 bits of mantissa in the product.
    Tf32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit integers.
    Int8,
}

/// A price, which ages faster than the other facts and so has its own source.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// US dollars for one hour of one device, on demand.
    pub usd_per_hour: f64,
    /// Where the price is from: an https address.
    pub source: String,
    /// When it was read: `2026-11-21`.
    pub date: String,
    /// What it includes and what it does not.
    pub note: Option<String>,
}

/// What is wrong with a file of hardware facts.
#[derive(Debug, thiserror::Error)]
pub enum HardwareError {
    /// Not TOML, or TOML of another shape.
    #[error("hardware.toml has another shape: {0}")]
    Toml(#[from] toml::de::Error),
    /// Figures that cannot be right, or come without a source. Lists all of them.
    #[error("hardware.toml: {}", problems.join("; "))]
    Implausible {
        /// One line a problem: device, field, expected and got.
        problems: Vec<String>,
    },
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl Hardware {
    /// The facts that the project ships.
    ///
    /// # Errors
    /// Those of [`Hardware::parse`]; a test makes sure that there are none.
    pub fn shipped() -> Result<Self, HardwareError> {
        Self::parse(TEXT)
    }

    /// Parses and checks the text of a `hardware.toml`.
    ///
    /// # Errors
    /// [`HardwareError::Toml`] for another shape, [`HardwareError::Implausible`] for
    /// a bandwidth outside 1 GB/s to 20 TB/s, a peak that is not positive and finite
    /// or is over 100 PFLOP/s, a 16-bit or TF32 peak under the f32 one, a memory
    /// outside 1 GB to 10 TB, a price outside a tenth of a cent to 1000 dollars an hour,
    /// a throughput that is over the peak of its type, a missing source or date, and a
    /// name used twice.
    pub fn parse(text: &str) -> Result<Self, HardwareError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            device: Vec<DeviceFacts>,
            #[serde(default)]
            machine: Vec<MachineFacts>,
        }

        let File {
            device: devices,
            machine: machines,
        } = toml::from_str(text)?;
        let mut problems = Vec::new();
        for device in &devices {
            device.check(&mut problems);
        }
        for machine in &machines {
            machine.check(&mut problems);
        }
        let mut names = std::collections::HashSet::new();
        let all = (devices.iter().flat_map(DeviceFacts::names))
            .chain(machines.iter().flat_map(MachineFacts::names));
        for name in all {
            if !names.insert(name.to_lowercase()) {
                problems.push(format!("{name}: a name that two devices have"));
            }
        }
        match problems.is_empty() {
            true => Ok(Self { devices, machines }),
            false => Err(HardwareError::Implausible { problems }),
        }
    }

    /// The device with this name, in any case: what `nvidia-smi` or PJRT report.
    pub fn find(&self, name: &str) -> Option<&DeviceFacts> {
        self.devices
            .iter()
            .find(|device| device.names().any(|known| known.eq_ignore_ascii_case(name)))
    }

    /// The machine with this name, in any case.
    pub fn machine(&self, name: &str) -> Option<&MachineFacts> {
        (self.machines.iter())
            .find(|machine| (machine.names()).any(|known| known.eq_ignore_ascii_case(name)))
    }

    /// What the device or the machine with this name costs, if anybody says so.
    pub fn price(&self, name: &str) -> Option<&Price> {
        match self.find(name) {
            Some(device) => device.price.as_ref(),
            None => self.machine(name).map(|machine| &machine.price),
        }
    }

    /// The names that [`Hardware::find`] and [`Hardware::machine`] know, one each.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        (self.devices.iter().map(|device| device.name.as_str()))
            .chain(self.machines.iter().map(|machine| machine.name.as_str()))
    }
}

/// Complains unless a figure's source is an https address and its date a date.
fn check_source(field: &str, source: &str, date: &str, complain: &mut impl FnMut(String)) {
    let prefix = match field {
        "" => String::new(),
        field => format!("{field}."),
    };
    if (source.strip_prefix("https://")).is_none_or(str::is_empty) {
        complain(format!(
            "{prefix}source: expected an https:// address, got {source:?}"
        ));
    }
    if date.len() != 10 || date.parse::<jiff::civil::Date>().is_err() {
        complain(format!(
            "{prefix}date: expected a date such as 2026-11-21, got {date:?}"
        ));
    }
}

impl Price {
    fn check(&self, complain: &mut impl FnMut(String)) {
        if !(0.001..=1000.0).contains(&self.usd_per_hour) {
            complain(format!(
                "price.usd_per_hour: expected 0.001 to 1000, got {:?}",
                self.usd_per_hour
            ));
        }
        check_source("price", &self.source, &self.date, complain);
    }
}

impl Throughput {
    /// * `peak`: what the device does at most with this type, in operations per second
    fn check(&self, peak: Option<f64>, complain: &mut impl FnMut(String)) {
        let field = format!("throughput {:?}", self.workload);
        if self.workload.trim().is_empty() || self.what.trim().is_empty() {
            complain(format!("{field}: expected a workload and what it is"));
        }
        // From an image of 8 by 8 pixels in a small network to the largest that anybody trains.
        if !(1e5..=1e13).contains(&self.operations_per_image) {
            complain(format!(
                "{field}: operations_per_image: expected 1e5 to 1e13, got {:?}",
                self.operations_per_image
            ));
        }
        let rate = self.images_per_second * self.operations_per_image;
        match peak {
            None => complain(format!(
                "{field}: the device has no peak for {} that it could be checked against",
                self.dtype
            )),
            Some(peak) if rate.is_finite() && rate > 0.0 && rate <= peak => {}
            Some(peak) => complain(format!(
                "{field}: images_per_second: expected more than 0 and at most {:.0} (the {} peak \
                 over operations_per_image), got {:?}",
                peak / self.operations_per_image,
                self.dtype,
                self.images_per_second
            )),
        }
        check_source(&field, &self.source, &self.date, complain);
    }
}

impl MachineFacts {
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name)
            .chain(&self.also)
            .map(String::as_str)
    }

    fn check(&self, problems: &mut Vec<String>) {
        let name = &self.name;
        let mut complain = |text: String| problems.push(format!("{name}: {text}"));
        if self.names().any(|name| name.trim().is_empty()) {
            complain(format!("name: expected some text, got {name:?}"));
        }
        if !(1..=1024).contains(&self.vcpus) {
            complain(format!("vcpus: expected 1 to 1024, got {}", self.vcpus));
        }
        if !(500_000_000..=10_000_000_000_000).contains(&self.memory_bytes) {
            complain(format!(
                "memory_bytes: expected 5e8 to 10e12, got {}",
                self.memory_bytes
            ));
        }
        self.price.check(&mut complain);
    }
}

impl DeviceFacts {
    /// The arithmetic intensity at which the roofline bends, in operations per byte:
    /// below it the memory is the limit. `None` without a peak for this type.
    ///
    /// Source: Williams, Waterman and Patterson, Roofline (CACM 52(4), 2009).
    pub fn ridge_point(&self, dtype: Dtype) -> Option<f64> {
        let peak = self.operations_per_second.get(&dtype)?;
        Some(peak / self.memory_bytes_per_second)
    }

    /// What somebody measured of a workload on it.
    pub fn throughput(&self, workload: &str) -> Option<&Throughput> {
        self.throughput.iter().find(|one| one.workload == workload)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name)
            .chain(&self.also)
            .map(String::as_str)
    }

    fn check(&self, problems: &mut Vec<String>) {
        let mut expect = |holds: bool, field: &str, expected: &str, got: &dyn fmt::Debug| {
            if !holds {
                let name = &self.name;
                problems.push(format!("{name}: {field}: expected {expected}, got {got:?}"));
            }
        };
        expect(
            self.names().all(|name| !name.trim().is_empty()),
            "name",
            "some text",
            &self.name,
        );
        let bandwidth = self.memory_bytes_per_second;
        expect(
            (1e9..=20e12).contains(&bandwidth),
            "memory_bytes_per_second",
            "1e9 to 20e12",
            &bandwidth,
        );
        if let Some(bytes) = self.memory_bytes {
            expect(
                (1_000_000_000..=10_000_000_000_000).contains(&bytes),
                "memory_bytes",
                "1e9 to 10e12",
                &bytes,
            );
        }
        expect(
            !(self.operations_per_second.is_empty()
                && self.operations_per_cycle_per_core.is_empty()),
            "operations_per_second",
            "a peak for one type at least",
            &self.operations_per_second,
        );
        for (field, peaks, most) in [
            ("operations_per_second", &self.operations_per_second, 1e17),
            (
                "operations_per_cycle_per_core",
                &self.operations_per_cycle_per_core,
                1e5,
            ),
        ] {
            for (dtype, peak) in peaks {
                expect(
                    peak.is_finite() && *peak > 0.0 && *peak <= most,
                    &format!("{field}.{dtype}"),
                    &format!("more than 0 and at most {most:e}"),
                    peak,
                );
                // Fewer bits are never slower where the hardware has them at all.
                if let Some(f32_peak) = peaks.get(&Dtype::F32) {
                    expect(
                        peak >= f32_peak,
                        &format!("{field}.{dtype}"),
                        "at least the f32 peak",
                        peak,
                    );
                }
            }
        }
        let name = &self.name;
        let mut complain = |text: String| problems.push(format!("{name}: {text}"));
        check_source("", &self.source, &self.date, &mut complain);
        if let Some(price) = &self.price {
            price.check(&mut complain);
        }
        for one in &self.throughput {
            let peak = self.operations_per_second.get(&one.dtype).copied();
            one.check(peak, &mut complain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[device]]
        name = "X"
        also = ["Y"]
        kind = "gpu"
        memory_bytes = 16_000_000_000
        memory_bytes_per_second = 1e12
        operations_per_second = { f32 = 1e13, bf16 = 1e14 }
        price = { usd_per_hour = 0.35, source = "https://example.org/p", date = "2026-01-02" }
        source = "https://example.org"
        date = "2026-01-01"
        [[device.throughput]]
        workload = "resnet50"
        what = "ResNet-50"
        dtype = "bf16"
        operations_per_image = 8.2e9
        images_per_second = 6000.0
        source = "https://example.org/t"
        date = "2026-01-03"
        [[machine]]
        name = "M"
        vcpus = 2
        memory_bytes = 8_589_934_592
        price = { usd_per_hour = 0.1, source = "https://example.org/m", date = "2026-01-04" }
    "#;

    #[test]
    fn what_we_ship_is_plausible() {
        let hardware = Hardware::shipped().unwrap();
        for name in [
            "Tesla T4",
            "nvidia l4",
            "NVIDIA H200",
            "TPU v5 lite",
            "TPU v6e",
        ] {
            assert!(hardware.find(name).is_some(), "{name}");
        }
        let v5e = hardware.find("TPU v5e").unwrap();
        // The scaling book's "about 240".
        assert!((v5e.ridge_point(Dtype::Bf16).unwrap() - 240.5).abs() < 1.0);
        assert_eq!(v5e.ridge_point(Dtype::F32), None);
        assert_eq!(hardware.find("Voodoo2"), None);
        for priced in [
            "GCP n2-standard-2",
            "T4",
            "L4",
            "H100",
            "H200",
            "TPU v5e",
            "TPU v6e",
        ] {
            assert!(hardware.price(priced).is_some(), "{priced}");
        }
        for measured in ["T4", "L4", "H100", "H200"] {
            let device = hardware.find(measured).unwrap();
            assert!(device.throughput("resnet50").is_some(), "{measured}");
        }
    }

    #[test]
    fn the_good_example_is_good() {
        Hardware::parse(GOOD).unwrap();
    }

    #[test]
    fn the_implausible_is_refused() {
        for (from, to, complaint) in [
            (
                "= 1e12",
                "= 1e8",
                "memory_bytes_per_second: expected 1e9 to 20e12",
            ),
            ("= 1e12", "= 21e12", "memory_bytes_per_second"),
            ("= 1e12", "= nan", "memory_bytes_per_second"),
            ("= 1e12", "= inf", "memory_bytes_per_second"),
            ("= 1e12", "= -1e12", "memory_bytes_per_second"),
            (
                "bf16 = 1e14",
                "bf16 = 1e12",
                "bf16: expected at least the f32 peak",
            ),
            ("bf16 = 1e14", "bf16 = nan", "bf16: expected more than 0"),
            ("bf16 = 1e14", "bf16 = inf", "bf16"),
            ("bf16 = 1e14", "bf16 = 1e20", "bf16"),
            ("f32 = 1e13", "f32 = 0.0", "f32"),
            ("{ f32 = 1e13, bf16 = 1e14 }", "{}", "a peak for one type"),
            ("16_000_000_000", "16", "memory_bytes"),
            (
                "\"https://example.org\"",
                "\"\"",
                "source: expected an https",
            ),
            ("\"https://example.org\"", "\"a datasheet\"", "source"),
            ("\"2026-01-01\"", "\"\"", "date: expected a date"),
            ("\"2026-01-01\"", "\"2026-02-30\"", "date"),
            ("\"2026-01-02\"", "\"soon\"", "price.date"),
            ("0.35", "-1.0", "price.usd_per_hour"),
            ("0.35", "nan", "price.usd_per_hour"),
            ("0.35", "5000.0", "price.usd_per_hour"),
            (
                "= 6000.0",
                "= 13000.0",
                "images_per_second: expected more than 0 and at most 12195",
            ),
            ("= 6000.0", "= 0.0", "images_per_second"),
            ("= 6000.0", "= nan", "images_per_second"),
            ("8.2e9", "8.2", "operations_per_image"),
            ("dtype = \"bf16\"", "dtype = \"int8\"", "no peak for int8"),
            ("\"https://example.org/t\"", "\"a talk\"", "throughput"),
            ("\"2026-01-03\"", "\"2026\"", "throughput"),
            ("vcpus = 2", "vcpus = 0", "vcpus"),
            ("8_589_934_592", "8", "M: memory_bytes"),
            ("usd_per_hour = 0.1,", "usd_per_hour = 0.0,", "M: price"),
            (
                "name = \"M\"",
                "name = \"y\"",
                "a name that two devices have",
            ),
            ("[\"Y\"]", "[\"x\"]", "a name that two devices have"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = Hardware::parse(&text).unwrap_err();
            assert!(
                matches!(error, HardwareError::Implausible { .. }),
                "{to}: {error}"
            );
            assert!(error.to_string().contains(complaint), "{to}: {error}");
        }
    }

    #[test]
    fn another_shape_is_refused() {
        for (from, to) in [
            ("source = \"https://example.org\"\n", ""),
            ("date = \"2026-01-01\"", "colour = 1\ndate = \"2026-01-01\""),
            ("date = \"2026-01-01\"", ""),
            ("\"gpu\"", "\"abacus\""),
            ("bf16", "bf17"),
            ("16_000_000_000", "-1"),
            ("= 1e12", "= \"fast\""),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            assert!(
                matches!(Hardware::parse(&text), Err(HardwareError::Toml(_))),
                "{from} -> {to}"
            );
        }
        for text in ["", "device = 1", "[[", "\0"] {
            assert!(Hardware::parse(text).is_err());
        }
    }
}
