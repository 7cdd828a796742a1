//! Seconds since 1970 and their text form (RFC 3339, UTC), as object metadata has it.

use std::ops::RangeInclusive;

const DAY: i64 = 86_400;

/// `2026-01-31T12:00:00Z`.
#[must_use]
pub(crate) fn rfc3339(seconds: i64) -> String {
    let (day, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, date) = civil(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The reverse of [`rfc3339`]; fractions of a second are dropped.
#[must_use]
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let field = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let day = days(field(0..4)?, field(5..7)?, field(8..10)?);
    let moment = day * DAY + field(11..13)? * 3600 + field(14..16)? * 60 + field(17..19)?;
    Some(moment - offset(text.get(19..)?)?)
}

/// How many seconds a zone is ahead of UTC: `Z`, or `+01:00`, after a fraction or not.
fn offset(text: &str) -> Option<i64> {
    if text.ends_with('Z') {
        return Some(0);
    }
    let zone = text.get(text.len().checked_sub(6)?..)?;
    let field = |range: std::ops::Range<usize>| zone.get(range)?.parse::<i64>().ok();
    let ahead = field(1..3)? * 3600 + field(4..6)? * 60;
    match zone.as_bytes() {
        [b'+', .., b':', _, _] => Some(ahead),
        [b'-', .., b':', _, _] => Some(-ahead),
        _ => None,
    }
}

/// The nanoseconds of an RFC 3339 moment.
#[must_use]
pub(crate) fn nanos(text: &str) -> u32 {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits =
        fraction.chars().map_while(|letter| letter.to_digit(10)).chain(std::iter::repeat(0));
    digits.take(9).fold(0, |nanos, digit| nanos * 10 + digit)
}

/// Why text is no moment, in the words of Go's package `time`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTime {
    #[error("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")]
    Form { text: String, layout: &'static str, rest: String, part: &'static str },
    #[error("parsing time {text:?}: {part} out of range")]
    Range { text: String, part: &'static str },
    #[error("parsing time {text:?}: extra text: {rest:?}")]
    Extra { text: String, rest: String },
}

/// Reads RFC 3339, with a fraction of at least six digits where `micro`; whether it is that is all there is to know.
pub(crate) fn parse(text: &str, micro: bool) -> Result<(), NoTime> {
    const PARTS: [(&str, &str, RangeInclusive<u32>); 6] = [
        ("2006", "year", 0..=9999),
        ("-01", "month", 1..=12),
        ("-02", "day", 1..=31),
        ("T15", "hour", 0..=23),
        (":04", "minute", 0..=59),
        (":05", "second", 0..=59),
    ];
    let layout =
        if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let form = |rest: &str, part: &'static str| {
        let (text, rest) = (text.to_owned(), rest.to_owned());
        Err(NoTime::Form { text, layout, rest, part })
    };
    let mut rest = text;
    for (part, name, range) in PARTS {
        let digits = part.trim_start_matches(['-', 'T', ':']);
        let sign = &part[..part.len() - digits.len()];
        let Some(after) = rest.strip_prefix(sign) else { return form(rest, sign) };
        let number = after.get(..digits.len()).filter(|it| it.bytes().all(|b| b.is_ascii_digit()));
        let Some(number) = number else { return form(after, digits) };
        if !number.parse().is_ok_and(|number| range.contains(&number)) {
            return Err(NoTime::Range { text: text.to_owned(), part: name });
        }
        rest = &after[digits.len()..];
    }
    let fraction = rest.strip_prefix('.').map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        rest.split_at(end)
    });
    match fraction {
        Some((digits, _)) if micro && digits.len() < 6 => return form(rest, ".000000"),
        Some((_, after)) => rest = after,
        None if micro => return form(rest, ".000000"),
        None => {}
    }
    match zone(rest) {
        Some("") => Ok(()),
        Some(extra) => Err(NoTime::Extra { text: text.to_owned(), rest: extra.to_owned() }),
        None => form(rest, "Z07:00"),
    }
}

/// What stands behind `Z` or `+01:00`.
fn zone(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Some(rest);
    }
    let (offset, rest) = text.split_at_checked(6)?;
    let digit = |at: usize| offset.as_bytes()[at].is_ascii_digit();
    let good = offset.starts_with(['+', '-']) && offset.as_bytes()[3] == b':';
    (good && [1, 2, 4, 5].into_iter().all(digit)).then_some(rest)
}

/// Year, month and date of a day counted from 1970-01-01 in the proleptic Gregorian calendar: eras of 400 years
/// that begin on the first of March, so that the leap day is the last of its year.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let date = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, date)
}

fn days(year: i64, month: i64, date: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day = (153 * shifted + 2) / 5 + date - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day - 719_468
}

/// An age as `kubectl get` shows it: two digits' worth, `5s`, `3m20s`, `5h`, `12d`.
#[must_use]
pub(crate) fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / DAY);
    let pair = |a: i64, unit: &str, b: i64, small: &str| match b {
        0 => format!("{a}{unit}"),
        b => format!("{a}{unit}{b}{small}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => pair(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 8 * 365 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        for (moment, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(moment), text);
            assert_eq!(seconds(text), Some(moment));
        }
        assert_eq!(seconds("1970-01-01T01:30:00.5+01:30"), Some(0));
        assert_eq!(seconds("1969-12-31T23:00:00-01:00"), Some(0));
        assert_eq!(seconds("1970-01-01T00:00:00"), None);
        assert_eq!(nanos("1970-01-01T00:00:00.0000051Z"), 5_100);
    }

    #[test]
    fn what_is_a_moment() {
        for (text, micro, fault) in [
            ("2026-01-02T03:04:05Z", false, None),
            ("2026-01-02T03:04:05.123456789+01:00", false, None),
            ("2026-01-02T03:04:05.123456Z", true, None),
            ("2026-01-02T03:04:05.12Z", true, Some(r#"cannot parse ".12Z" as ".000000""#)),
            ("2026-13-02T03:04:05Z", false, Some("month out of range")),
            ("2026-01-02 03:04:05Z", false, Some(r#"cannot parse " 03:04:05Z" as "T""#)),
            ("2026-01-02T03:04:05", false, Some(r#"cannot parse "" as "Z07:00""#)),
            ("2026-01-02T03:04:05Zoo", false, Some(r#"extra text: "oo""#)),
        ] {
            let found = parse(text, micro).err().map(|fault| fault.to_string());
            let same = match (&found, fault) {
                (Some(found), Some(fault)) => found.ends_with(fault),
                (found, fault) => found.is_none() == fault.is_none(),
            };
            assert!(same, "{text}: {found:?}");
        }
    }

    #[test]
    fn ages() {
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (180, "3m"),
            (3600, "60m"),
            (86_400, "24h"),
            (-3, "0s"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    proptest! {
        #[test]
        fn text_and_back(moment in 0_i64..200_000_000_000) {
            prop_assert_eq!(seconds(&rfc3339(moment)), Some(moment));
        }

        #[test]
        fn any_text_is_safe(text in "\\PC*") {
            let _seen = (seconds(&text), parse(&text, true), parse(&text, false));
        }
    }
}
