//! Durations, sizes and counts as people write them, each within what makes sense.

use std::time::Duration;

/// Accepts `10s`, `1h 30m`, `250ms` within these limits.
pub(crate) fn duration(
    least: Duration,
    most: Duration,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let allowed = || format!("{} to {} (units: ms, s, m, h, d)", exact(least), exact(most));
        let span = humantime::parse_duration(text)
            .map_err(|_| format!("is not a duration with its unit; allowed: {}", allowed()))?;
        within(span, least, most).map_err(|()| format!("out of range; allowed: {}", allowed()))
    }
}

/// Accepts `1048576`, `512KiB`, `256MiB`, `2GB` within these limits, in bytes.
pub(crate) fn size(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let allowed = || format!("{} to {} (units: B, KiB, MiB, GiB, TiB)", bytes(least), bytes(most));
        let size = parse_size(text).ok_or_else(|| format!("is not a size; allowed: {}", allowed()))?;
        within(size, least, most).map_err(|()| format!("out of range; allowed: {}", allowed()))
    }
}

/// Accepts a whole number within these limits.
pub(crate) fn count(
    least: usize,
    most: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().map_err(|_| format!("is not a number; allowed: {least} to {most}"))?;
        within(number, least, most).map_err(|()| format!("out of range; allowed: {least} to {most}"))
    }
}

/// Accepts a part of a whole: a number from 0 to 1.
pub(crate) fn part(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "is not a part of a whole; allowed: 0 to 1 (such as 0.05)".to_owned())
}

fn within<T: PartialOrd>(value: T, least: T, most: T) -> Result<T, ()> {
    if value < least || value > most { Err(()) } else { Ok(value) }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// With every digit, down to the millisecond: `1h 30m`, `35d`, `250ms`.
pub(crate) fn exact(span: Duration) -> String {
    let mut millis = span.as_millis();
    let mut parts = Vec::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= size {
            parts.push(format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// An age or what is left of a span: to a tenth of a second, from ten seconds on to the nearest second.
pub(crate) fn rough(span: Duration) -> String {
    let mut millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis >= 10_000 {
        // A minute that has just begun is a minute.
        millis = millis.saturating_add(500) / 1_000 * 1_000;
    }
    let step = match millis {
        0..1_000 => 1,
        1_000..10_000 if millis % 1_000 >= 100 => {
            return format!("{}.{}s", millis / 1_000, millis % 1_000 / 100);
        }
        1_000..3_600_000 => 1_000,
        3_600_000..86_400_000 => 60_000,
        _ => 3_600_000,
    };
    exact(Duration::from_millis(millis - millis % step))
}

/// A size in the largest unit that it reaches, to a tenth.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let reached = UNITS.iter().zip(1u32..).take_while(|(_, power)| size >= 1 << (10 * power)).last();
    let Some((unit, power)) = reached else { return format!("{size} B") };
    let (whole, rest) = (size >> (10 * power), size & ((1 << (10 * power)) - 1));
    match (rest * 10) >> (10 * power) {
        0 => format!("{whole} {unit}"),
        tenths => format!("{whole}.{tenths} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let table = [
            ("1048576", Some(1 << 20)),
            ("512KiB", Some(512 << 10)),
            ("256 MiB", Some(256 << 20)),
            ("2gb", Some(2_000_000_000)),
            ("7 B", Some(7)),
            ("MiB", None),
            ("1.5MiB", None),
            ("-1", None),
            ("1 apple", None),
            ("99999999999TiB", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn spans_are_shown_as_precisely_as_anyone_cares() {
        let table = [
            (7, "7ms"),
            (1_234, "1.2s"),
            (4_050, "4s"),
            (12_345, "12s"),
            (12_500, "13s"),
            (59_998, "1m"),
            (61_000, "1m 1s"),
            (7_199_998, "2h"),
            (7_261_000, "2h 1m"),
            (90_100_000, "1d 1h"),
        ];
        for (millis, expected) in table {
            assert_eq!(rough(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        let table =
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (16 << 20, "16 MiB"), (1 << 40, "1 TiB")];
        for (size, expected) in table {
            assert_eq!(bytes(size), expected);
        }
    }

    #[test]
    fn what_is_refused_says_what_is_allowed() {
        let limits = duration(Duration::from_millis(100), Duration::from_secs(300));
        for text in ["0s", "6m", "10", "soon", "-1s"] {
            let refused = limits(text).unwrap_err();
            assert!(refused.contains("100ms to 5m"), "{text}: {refused}");
        }
        assert_eq!(limits("1m 30s"), Ok(Duration::from_secs(90)));
    }
}
