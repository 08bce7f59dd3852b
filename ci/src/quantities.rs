//! Sizes and times in words, for messages.

use std::time::Duration;

/// Bytes in decimal units, three figures: `148 kB`, `544 MB`, `2.51 GB`.
pub fn size(bytes: u64) -> String {
    let (value, unit) = match bytes {
        0..1_000 => return format!("{bytes} bytes"),
        1_000..1_000_000 => (bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e9, "GB"),
    };
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A time as `0.2 s`, `59.9 s` or `3 min 20 s`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_figures() {
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(148_047), "148 kB");
        assert_eq!(size(2_243_632), "2.24 MB");
        assert_eq!(size(10_715_597), "10.7 MB");
        assert_eq!(size(543_671_508), "544 MB");
        assert_eq!(size(2_512_328_376), "2.51 GB");
    }

    #[test]
    fn times_change_to_minutes() {
        assert_eq!(time(Duration::from_millis(240)), "0.2 s");
        assert_eq!(time(Duration::from_secs(200)), "3 min 20 s");
    }
}
