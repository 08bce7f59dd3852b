//! Numbers for people: rates, durations and sizes with three significant digits.
//!
//! Result files hold plain SI units; these are for stderr and for tables.

/// A duration in seconds as `812 ns`, `1.23 ms`, `45.6 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return format!("{seconds} s");
    }
    if seconds >= 99.95 {
        // Past a week of minutes nobody reads seconds; the cast saturates.
        let whole = seconds.round() as u64;
        return match (whole / 3600, whole % 3600 / 60, whole % 60) {
            (0, minutes, rest) => format!("{minutes} min {rest} s"),
            (hours, minutes, _) => format!("{hours} h {minutes} min"),
        };
    }
    for (factor, unit) in [(1.0, "s"), (1e3, "ms"), (1e6, "µs")] {
        if seconds * factor >= 0.9995 {
            return format!("{} {unit}", three_digits(seconds * factor));
        }
    }
    format!("{} ns", three_digits(seconds * 1e9))
}

/// A rate as `1,234 images/s`, `25.6 images/s`, `0.0123 images/s`.
///
/// * `per_second`: how many a second
/// * `unit`: what is counted, in the plural
pub fn rate(per_second: f64, unit: &str) -> String {
    format!("{} {unit}/s", three_digits(per_second))
}

/// A size in decimal units, as download pages and datasheets write it: `46.8 MB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        value /= 1000.0;
        if value < 999.5 {
            return format!("{} {unit}", three_digits(value));
        }
    }
    format!("{} EB", three_digits(value / 1000.0))
}

/// Three significant digits, and all digits of the whole part, in groups of three.
pub fn three_digits(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs();
    if magnitude >= 99.95 {
        return grouped(value);
    }
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    if magnitude < 1e-4 {
        return format!("{value:.2e}");
    }
    // Decimals that leave three digits; decided after rounding, so that 9.999 is
    // "10.0" and not "10.00".
    let mut decimals = (2 - magnitude.log10().floor() as i32).max(0) as usize;
    let rounded: f64 = format!("{magnitude:.decimals$}")
        .parse()
        .unwrap_or(magnitude);
    if rounded.log10().floor() > magnitude.log10().floor() {
        decimals = decimals.saturating_sub(1);
    }
    format!("{value:.decimals$}")
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value < 0.0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0.0, "0 ns"),
            (812e-9, "812 ns"),
            (1.234e-3, "1.23 ms"),
            (45.6e-6, "45.6 µs"),
            (0.9999e-3, "1.00 ms"),
            (0.25, "250 ms"),
            (1.0, "1.00 s"),
            (45.64, "45.6 s"),
            (99.99, "1 min 40 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
            (f64::NAN, "NaN s"),
            (-1.0, "-1 s"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        duration(f64::MAX);
    }

    #[test]
    fn rates() {
        for (per_second, text) in [
            (1234.4, "1,234 images/s"),
            (25.57, "25.6 images/s"),
            (9.999, "10.0 images/s"),
            (0.99999, "1.00 images/s"),
            (99.96, "100 images/s"),
            (0.01234, "0.0123 images/s"),
            (0.0, "0 images/s"),
            (1_234_567.0, "1,234,567 images/s"),
        ] {
            assert_eq!(rate(per_second, "images"), text, "{per_second}");
        }
    }

    #[test]
    fn sizes() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (46_800_000, "46.8 MB"),
            (999_999_999, "1.00 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(size), text, "{size}");
        }
    }
}
