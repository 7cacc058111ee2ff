//! The times of events, as numbers.

/// RFC 3339 in UTC, as events have it, in nanoseconds since 1970.
#[must_use]
pub fn unix_ns(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let fraction = text.get(20..)?.trim_end_matches('Z');
    let ns = format!("{fraction:0<9}").get(..9)?.parse::<u64>().ok()?;
    // Days since the epoch of the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some((days * 86_400 + seconds) * 1_000_000_000 + ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(unix_ns("1970-01-01T00:00:00.000000000Z"), Some(0));
        assert_eq!(unix_ns("2024-02-29T12:00:01.5Z"), Some(1_709_208_001_500_000_000));
        assert_eq!(unix_ns("nonsense"), None);
    }
}
