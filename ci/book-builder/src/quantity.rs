//! How a number of a result file is printed: its unit comes from its field's
//! name, and nothing prints more digits than a benchmark can carry.

/// What a field's name says about its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quantity {
    /// Things per second; the thing is named (`images`).
    Rate(String),
    /// A time; the unit is printed as it is in the name (`ms`, `µs`, `s`).
    Time(&'static str),
    /// Bytes, printed in KiB, MiB or GiB.
    Bytes,
    /// Operations, or operations or bytes per second, printed as vendors do (`406 GFLOP/s`).
    Decimal(&'static str),
    /// A fraction of one, printed in per cent.
    Share,
    /// A ratio of two like things, printed with `×`.
    Ratio,
    /// A count or a number without a unit.
    Plain,
}

impl Quantity {
    /// Reads the quantity off a field's name, by its suffix.
    pub fn of(field: &str) -> Self {
        for (suffix, unit) in DECIMAL {
            let before = field.strip_suffix(suffix);
            if before.is_some_and(|before| before.is_empty() || before.ends_with('_')) {
                return Self::Decimal(unit);
            }
        }
        if let Some(thing) = field.strip_suffix("_per_second") {
            return Self::Rate(thing.replace('_', " "));
        }
        let has = |unit: &str| {
            field == unit
                || field.ends_with(&format!("_{unit}"))
                || field.starts_with(&format!("{unit}_"))
        };
        if has("ms") {
            Self::Time("ms")
        } else if has("us") {
            Self::Time("µs")
        } else if has("seconds") {
            Self::Time("s")
        } else if has("bytes") {
            Self::Bytes
        } else if has("accuracy") || has("fraction") || has("spread") || names_a_share(field) {
            Self::Share
        } else if has("ratio") || field == "relative" {
            Self::Ratio
        } else {
            Self::Plain
        }
    }

    /// The number with its unit, as it stands in prose: `25.6 images/s`.
    pub fn print(&self, value: f64) -> String {
        match self {
            Self::Rate(thing) => format!("{} {thing}/s", significant(value)),
            Self::Time(unit) => format!("{} {unit}", significant(value)),
            Self::Bytes => bytes(value),
            Self::Decimal(unit) => {
                let (divisor, prefix) = decimal_prefix(value);
                format!("{} {prefix}{unit}", significant(value / divisor))
            }
            Self::Share => format!("{}%", percent(value)),
            Self::Ratio => format!("{}×", ratio(value)),
            Self::Plain => plain(value),
        }
    }

    /// The number as it stands in a table, where the heading has the unit.
    pub fn print_bare(&self, value: f64) -> String {
        match self {
            Self::Rate(_) | Self::Time(_) => significant(value),
            Self::Bytes | Self::Decimal(_) | Self::Share | Self::Ratio | Self::Plain => {
                self.print(value)
            }
        }
    }

    /// The unit of an axis that reaches `top`: what its numbers are divided by, and its
    /// heading. An axis in bytes counts in KiB, MiB or GiB, so that its steps are round; one in
    /// FLOP/s in GFLOP/s or what fits.
    pub fn axis(&self, field: &str, top: f64) -> (f64, String) {
        let heading = self.heading(field);
        match self {
            Self::Rate(_) | Self::Time(_) | Self::Plain => (1.0, heading),
            Self::Ratio => (1.0, format!("{heading} (×)")),
            Self::Share => (0.01, format!("{heading} (%)")),
            Self::Bytes => {
                let (divisor, unit) = binary_unit(top);
                (divisor, format!("{heading} ({unit})"))
            }
            Self::Decimal(unit) => {
                let (divisor, prefix) = decimal_prefix(top);
                (divisor, format!("{heading} ({prefix}{unit})"))
            }
        }
    }

    /// The heading of a table's column for this field: `images/s`, `p50 (ms)`.
    pub fn heading(&self, field: &str) -> String {
        let words = |text: &str| text.trim_matches('_').replace('_', " ");
        match self {
            Self::Rate(thing) => format!("{thing}/s"),
            Self::Time(unit) => {
                let name = match *unit {
                    "ms" => "ms",
                    "µs" => "us",
                    _ => "seconds",
                };
                let rest = if let Some(rest) = field.strip_suffix(name) {
                    rest
                } else {
                    field.strip_prefix(name).unwrap_or(field)
                };
                let rest = words(rest);
                if rest.is_empty() {
                    (*unit).to_owned()
                } else {
                    format!("{rest} ({unit})")
                }
            }
            Self::Bytes => {
                let rest = words(field.strip_suffix("bytes").unwrap_or(field));
                if rest.is_empty() {
                    "size".to_owned()
                } else {
                    rest
                }
            }
            Self::Decimal(_) => words(field.strip_suffix("_per_second").unwrap_or(field)),
            Self::Share | Self::Ratio | Self::Plain => words(field),
        }
    }
}

/// Ends of names of large counts, each with its unit.
const DECIMAL: [(&str, &str); 3] = [
    ("flops_per_second", "FLOP/s"),
    ("bytes_per_second", "B/s"),
    ("flops", "FLOP"),
];

/// Whether it is a share of something, also one `share_until` an event.
fn names_a_share(field: &str) -> bool {
    field.split('_').any(|word| word == "share")
}

/// A whole number as it is, since it is a count or a size; another one with three
/// significant digits.
pub fn plain(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        grouped(&format!("{value:.0}"))
    } else {
        significant(value)
    }
}

/// A number that somebody chose, as it was written: 0.001, and not 0.00100. Where that is
/// longer than a person would write, as [`plain`] has it.
pub fn setting(value: f64) -> String {
    let written = value.to_string();
    let digits = written.chars().filter(char::is_ascii_digit).count();
    match value.fract() != 0.0 && digits <= 7 {
        true => written,
        false => plain(value),
    }
}

/// Three significant digits, thousands grouped: 0.0123, 1.23, 12.3, 123, 1,230.
///
/// From a thousand up all digits before the point stay.
pub fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    let decimals = if size >= 99.95 {
        0
    } else if size >= 9.995 {
        1
    } else if size >= 0.9995 {
        2
    } else {
        // 0.0123 has its first digit at 10^-2: two more after it. Capped, since
        // nothing in the book is that small.
        let first = (-size.log10().floor()).clamp(1.0, 9.0);
        // In 1..=11, so the cast is exact.
        first as usize + 2
    };
    grouped(&format!("{value:.decimals$}"))
}

/// A round number as an axis shows it: no more decimals than it needs.
pub fn tick(value: f64) -> String {
    let digits = format!("{value:.6}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    grouped(digits)
}

/// A ratio with two decimals below ten and one from ten up.
pub fn ratio(value: f64) -> String {
    if value.abs() < 9.995 {
        format!("{value:.2}")
    } else {
        significant(value)
    }
}

/// A number in decimal units, as vendors give them: `320 GB/s`, `8.1 TFLOP/s`, `16 GB`.
pub fn si(value: f64, unit: &str) -> String {
    let (divisor, prefix) = decimal_prefix(value);
    // As many digits as vendors give, and no zeros behind them.
    let digits = format!("{:.3}", value / divisor);
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits} {prefix}{unit}")
}

/// The largest decimal prefix of which there is at least one, and what it stands for.
fn decimal_prefix(value: f64) -> (f64, &'static str) {
    const PREFIXES: [(f64, &str); 5] =
        [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    PREFIXES
        .into_iter()
        .find(|(size, _)| value.abs() >= *size)
        .unwrap_or((1.0, ""))
}

/// US dollars: whole cents at least, three significant digits below a dollar.
pub fn dollars(value: f64) -> String {
    if value.abs() >= 0.995 {
        return format!("${}", grouped(&format!("{value:.2}")));
    }
    let digits = significant(value);
    // Cents have two places: $0.35 and not $0.350, but $0.0971.
    let short = digits.trim_end_matches('0');
    let places = short.split_once('.').map_or(0, |(_, places)| places.len());
    match places {
        0 | 1 => format!("${value:.2}"),
        _ => format!("${short}"),
    }
}

/// A fraction of one in per cent with one decimal, or more where that would be nothing, without
/// the sign.
fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let mut decimals = 1;
    // What is smaller than a millionth may as well be nothing.
    while percent.abs() >= 1e-4 && percent.abs() < 0.5 * 10_f64.powi(-decimals) {
        decimals += 1;
    }
    format!("{percent:.*}", decimals.unsigned_abs() as usize)
}

fn bytes(value: f64) -> String {
    let (divisor, unit) = binary_unit(value);
    format!("{} {unit}", plain(value / divisor))
}

/// The largest binary unit of which there is at least one, and its bytes.
fn binary_unit(value: f64) -> (f64, &'static str) {
    let mut divisor = 1.0;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < divisor * 1024.0 {
            return (divisor, unit);
        }
        divisor *= 1024.0;
    }
    (divisor, "TiB")
}

fn grouped(digits: &str) -> String {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (sign, whole) = match whole.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", whole),
    };
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Quantity, setting, significant, tick};

    #[test]
    fn a_setting_is_as_it_was_written() {
        for (value, text) in [
            (0.1, "0.1"),
            (0.001, "0.001"),
            (64.0, "64"),
            (1024.0, "1,024"),
            (0.316_228, "0.316228"),
            (1.0 / 3.0, "0.333"),
            (1e-9, "0.00000000100"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(setting(value), text);
        }
    }

    #[test]
    fn ticks_have_the_decimals_they_need() {
        for (value, text) in [
            (0.0, "0"),
            (0.1 * 3.0, "0.3"),
            (1.5, "1.5"),
            (2000.0, "2,000"),
        ] {
            assert_eq!(tick(value), text);
        }
    }

    #[test]
    fn three_digits_and_no_more() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (0.9999, "1.00"),
            (1.234_5, "1.23"),
            (9.996, "10.0"),
            (25.649, "25.6"),
            (99.96, "100"),
            (245.7, "246"),
            (2436.2, "2,436"),
            (1_234_567.0, "1,234,567"),
            (8.0, "8.00"),
            (-3.456, "-3.46"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
    }

    #[test]
    fn the_name_says_the_unit() {
        let print = |field: &str, value| Quantity::of(field).print(value);
        assert_eq!(print("images_per_second", 25.649), "25.6 images/s");
        assert_eq!(print("p50_ms", 312.4), "312 ms");
        assert_eq!(print("ms_per_image", 39.06), "39.1 ms");
        assert_eq!(print("decode_seconds", 1.5), "1.50 s");
        assert_eq!(print("resident_memory_bytes", 1_610_612_736.0), "1.50 GiB");
        assert_eq!(print("peak_flops_per_second", 405.85e9), "406 GFLOP/s");
        assert_eq!(print("peak_bytes_per_second", 32.9e9), "32.9 GB/s");
        assert_eq!(print("counted_flops", 514.0e9), "514 GFLOP");
        assert_eq!(print("flops_per_byte", 12.25), "12.2");
        assert_eq!(print("top1_accuracy", 0.9741), "97.4%");
        assert_eq!(print("busy_share_until_tail", 0.9991), "99.9%");
        assert_eq!(print("scheduling_share", 0.000_11), "0.01%");
        assert_eq!(print("scheduling_share", 0.004), "0.4%");
        assert_eq!(print("scheduling_share", 0.0), "0.0%");
        assert_eq!(print("relative", 1.5432), "1.54×");
        assert_eq!(print("batch", 32.0), "32");
    }

    #[test]
    fn vendors_units_and_dollars() {
        use super::{dollars, si};
        assert_eq!(si(320e9, "B/s"), "320 GB/s");
        assert_eq!(si(8.1e12, "FLOP/s"), "8.1 TFLOP/s");
        assert_eq!(si(989.4e12, "FLOP/s"), "989.4 TFLOP/s");
        assert_eq!(si(1978.9e12, "OP/s"), "1.979 POP/s");
        assert_eq!(si(3.35e12, "B/s"), "3.35 TB/s");
        assert_eq!(dollars(0.35), "$0.35");
        assert_eq!(dollars(0.1), "$0.10");
        assert_eq!(dollars(0.09712), "$0.0971");
        assert_eq!(dollars(0.00123), "$0.00123");
        assert_eq!(dollars(1.2), "$1.20");
        assert_eq!(dollars(9.79655), "$9.80");
        assert_eq!(dollars(1234.5), "$1,234.50");
    }

    #[test]
    fn headings_carry_the_unit() {
        let heading = |field: &str| Quantity::of(field).heading(field);
        assert_eq!(heading("images_per_second"), "images/s");
        assert_eq!(heading("p50_ms"), "p50 (ms)");
        assert_eq!(heading("ms_per_image"), "per image (ms)");
        assert_eq!(heading("resident_memory_bytes"), "resident memory");
        assert_eq!(heading("peak_flops_per_second"), "peak flops");
        assert_eq!(heading("counted_flops"), "counted flops");
        assert_eq!(heading("top1_accuracy"), "top1 accuracy");
        assert_eq!(heading("batch"), "batch");
    }

    #[test]
    fn an_axis_has_round_steps_in_its_unit() {
        let axis = |field: &str, top| Quantity::of(field).axis(field, top);
        let gib = f64::from(1 << 30);
        assert_eq!(axis("rss_bytes", 1.2e9), (gib, "rss (GiB)".to_owned()));
        assert_eq!(axis("accuracy", 0.97), (0.01, "accuracy (%)".to_owned()));
        assert_eq!(
            axis("images_per_second", 27.0),
            (1.0, "images/s".to_owned())
        );
        assert_eq!(
            axis("reached_flops_per_second", 2.1e11),
            (1e9, "reached flops (GFLOP/s)".to_owned())
        );
    }
}
