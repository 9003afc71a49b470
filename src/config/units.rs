//! Durations (`15m`) and sizes (`50GiB`) in words.

/// Milliseconds of `500ms`, `10s`, `15m`, `24h`, `30d`.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    scaled(text, &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)])
}

/// Bytes of `512`, `64KiB`, `8MiB`, `50GiB`, `2TiB` and of the decimal `KB`, `MB`, `GB`, `TB`.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    scaled(
        text,
        &[
            ("", 1),
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("KB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
        ],
    )
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_scale_and_nonsense_is_none() {
        assert_eq!(duration_ms("30d"), Some(2_592_000_000));
        assert_eq!(duration_ms("500ms"), Some(500));
        assert_eq!(duration_ms("15 m"), Some(900_000));
        assert_eq!(size_bytes("50GiB"), Some(50 << 30));
        assert_eq!(size_bytes("7"), Some(7));
        for text in ["", "d", "-1d", "1.5d", "1w", "99999999999999999999d", "99999999999999d d"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
        assert_eq!(duration_ms("10"), None, "a duration has a unit");
        assert_eq!(size_bytes("99999999999TiB"), None);
        assert_eq!(size_bytes("1gb"), None);
    }
}
