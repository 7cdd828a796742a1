//! `spec.schedule` of a CronJob: when it is time. Five fields as in crontab(5), or a word like `@hourly`.

use crate::record::stamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// Beyond this many years no schedule that ever matches waits: 29 February comes within eight.
const YEARS: i64 = 9;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Sets of numbers, a bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both are restricted: then a day that is in either will do.
    either_day: bool,
    zone: TimeZone,
}

impl Schedule {
    /// RFC 3339, as clocks show it in the schedule's zone.
    pub(crate) fn told(&self, time: Timestamp) -> String {
        let there = self.zone.to_offset(time);
        match there.is_zero() {
            true => stamp(time),
            false => time.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        }
    }

    /// `zone` is a name of the IANA database; without one it is UTC.
    pub(crate) fn parse(text: &str, zone: Option<&str>) -> Option<Self> {
        let zone = match zone {
            None | Some("UTC" | "Etc/UTC") => TimeZone::UTC,
            Some(name) => TimeZone::get(name).ok()?,
        };
        let spelled = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            fields => fields,
        };
        let fields: Vec<_> = spelled.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else { return None };
        let free = |field: &str| field.starts_with('*') || field.starts_with('?');
        let sundays = field(weekdays, 0, 7, &DAYS)?;
        Some(Schedule {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            // 7 is Sunday, too.
            weekdays: (sundays | (sundays >> 7)) & 0x7f,
            either_day: !free(days) && !free(weekdays),
            zone,
        })
    }

    /// The first time after `after`; `None`: never.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let local = self.zone.to_datetime(after).checked_add(1.minute()).ok()?;
        let mut at = local.with().second(0).subsec_nanosecond(0).build().ok()?;
        let last = at.checked_add(Span::new().try_years(YEARS).ok()?).ok()?;
        while at < last {
            at = if !self.has_day(at.date()) {
                at.date().tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight())
            } else if !has(self.hours, at.hour()) {
                next_hour(at)?
            } else if !has(self.minutes, at.minute()) {
                at.checked_add(1.minute()).ok()?
            } else {
                // A time that a change of clocks leaves out counts as the next one that there is.
                let found = self.zone.to_timestamp(at).ok()?;
                if found > after {
                    return Some(found);
                }
                at.checked_add(1.minute()).ok()?
            };
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let right = if self.either_day { day || weekday } else { day && weekday };
        right && has(self.months, date.month())
    }
}

fn next_hour(at: DateTime) -> Option<DateTime> {
    at.with().minute(0).build().ok()?.checked_add(1.hour()).ok()
}

fn has(set: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| set & (1 << number) != 0)
}

/// A comma-separated list of numbers, ranges and steps as the set of its numbers.
fn field(text: &str, first: u32, last: u32, names: &[&str]) -> Option<u64> {
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (first, last),
            Some((from, to)) => (number(from, first, names)?, number(to, first, names)?),
            None => {
                let from = number(range, first, names)?;
                (from, if step.is_some() { last } else { from })
            }
        };
        if from < first || to > last || from > to {
            return None;
        }
        let step: usize = step.unwrap_or(1);
        (from..=to).step_by(step).for_each(|number| set |= 1 << number);
    }
    Some(set)
}

fn number(text: &str, first: u32, names: &[&str]) -> Option<u32> {
    let name = names.iter().position(|name| text.eq_ignore_ascii_case(name));
    let named = name.and_then(|position| u32::try_from(position).ok()).map(|it| it + first);
    named.or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times() {
        let rows = [
            ("* * * * *", "2026-01-01T00:00:30Z", Some("2026-01-01T00:01:00Z")),
            ("*/15 * * * *", "2026-01-01T00:46:00Z", Some("2026-01-01T01:00:00Z")),
            ("0 0 * * *", "2026-01-01T00:00:00Z", Some("2026-01-02T00:00:00Z")),
            ("30 8 * * mon-fri", "2026-01-02T09:00:00Z", Some("2026-01-05T08:30:00Z")),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", Some("2028-02-29T00:00:00Z")),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", Some("2026-01-02T00:00:00Z")),
            ("0 0 * * 7", "2026-01-01T00:00:00Z", Some("2026-01-04T00:00:00Z")),
            ("5/20 1,3 * JAN *", "2026-01-01T01:45:00Z", Some("2026-01-01T03:05:00Z")),
            ("@monthly", "2026-01-15T00:00:00Z", Some("2026-02-01T00:00:00Z")),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", None),
        ];
        for (text, after, expected) in rows {
            let schedule = Schedule::parse(text, None).unwrap();
            assert_eq!(schedule.next(at(after)), expected.map(at), "{text} after {after}");
        }
    }

    #[test]
    fn nonsense() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@sometimes",
            "* * * * * *",
            "1- * * * *",
        ] {
            assert_eq!(Schedule::parse(text, None), None, "{text}");
        }
        assert_eq!(Schedule::parse("* * * * *", Some("No/Where")), None);
    }

    proptest! {
        /// The next time is the first minute that the fields name, found by looking at each.
        #[test]
        fn no_time_is_missed(minute in 0u8..60, step in 1u8..30, hour in 0u8..24, day in 0u8..7, start in 0i64..1_000_000) {
            let schedule = Schedule::parse(&format!("{minute},*/{step} {hour} * * {day}"), None).unwrap();
            let after = Timestamp::from_second(1_767_225_600 + start * 7).unwrap();
            let found = schedule.next(after).unwrap();
            let mut candidate = after.as_second() / 60 * 60 + 60;
            loop {
                let time = TimeZone::UTC.to_datetime(Timestamp::from_second(candidate).unwrap());
                let minute_of = u8::try_from(time.minute()).unwrap();
                if (minute_of == minute || minute_of.is_multiple_of(step))
                    && u8::try_from(time.hour()).unwrap() == hour
                    && u8::try_from(time.date().weekday().to_sunday_zero_offset()).unwrap() == day
                {
                    break;
                }
                candidate += 60;
            }
            prop_assert_eq!(found.as_second(), candidate);
        }

        #[test]
        fn any_text_is_a_schedule_or_none(text in "[0-9*/,a-z -]{0,20}|\\PC{0,30}", second in any::<i32>()) {
            if let Some(schedule) = Schedule::parse(&text, None) {
                let after = Timestamp::from_second(second.into()).unwrap();
                prop_assert!(schedule.next(after).is_none_or(|next| next > after));
            }
        }
    }
}
