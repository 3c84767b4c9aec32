//! Moments and durations, as clients write them and as they are shown.
//!
//! A timestamp is an opaque number. Only who writes a date, or asks for one, makes the server count it in
//! the unit that the database was configured with.

use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use kvtimedb_engine::Timestamp;

/// The unit in which dates are counted, from 1970 on: `--ts-unit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TsUnit {
    /// Microseconds
    #[default]
    Us,
    /// Milliseconds
    Ms,
    /// Seconds
    S,
    /// Nanoseconds
    Ns,
}

/// The units by their names in parameters.
pub(crate) const UNITS: [(&str, TsUnit); 4] =
    [("s", TsUnit::S), ("ms", TsUnit::Ms), ("us", TsUnit::Us), ("ns", TsUnit::Ns)];

/// How timestamps are shown: `ts_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TsFormat {
    /// A number.
    #[default]
    Int,
    /// A string of digits, for those whose numbers end at 2^53.
    Str,
    /// RFC 3339 in UTC; a number where the calendar has no such date.
    Iso,
}

const NANOS_PER_SECOND: i128 = 1_000_000_000;

impl TsUnit {
    /// How many nanoseconds it has.
    pub(crate) const fn nanos(self) -> i128 {
        match self {
            TsUnit::Ns => 1,
            TsUnit::Us => 1_000,
            TsUnit::Ms => 1_000_000,
            TsUnit::S => NANOS_PER_SECOND,
        }
    }

    /// How many of it a duration has.
    pub(crate) fn count(self, duration: Duration) -> u64 {
        let count = duration.as_nanos() / self.nanos().unsigned_abs();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// The current moment.
    #[expect(clippy::disallowed_methods, reason = "who says `now` means what the calendar says")]
    pub(crate) fn now(self) -> Timestamp {
        let now = SystemTime::now();
        let nanos = match now.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        saturated(nanos.div_euclid(self.nanos()))
    }

    /// Reads `AT`: an integer, a date of RFC 3339, `now`, a time before it such as `-1h`, or `latest`.
    pub(crate) fn parse_at(self, text: &str) -> Result<Timestamp, String> {
        match text {
            "latest" => return Ok(Timestamp::MAX),
            "now" => return Ok(self.now()),
            _ => {}
        }
        if let Ok(ts) = text.parse() {
            return Ok(ts);
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{text} is not an integer of 64 bits"));
        }
        if let Some(before) = text.strip_prefix('-')
            && let Ok(duration) = self.parse_duration(before)
        {
            return Ok(saturated(i128::from(self.now()) - i128::from(duration)));
        }
        self.parse_date(text)
    }

    /// Reads a date of RFC 3339.
    pub(crate) fn parse_date(self, text: &str) -> Result<Timestamp, String> {
        // The plus of an offset comes as a blank where a query was not encoded.
        let with_plus = text.len().checked_sub(6).filter(|at| text.as_bytes()[*at] == b' ');
        let with_plus = with_plus.map(|at| format!("{}+{}", &text[..at], &text[at + 1..]));
        let text = with_plus.as_deref().unwrap_or(text);
        let date: jiff::Timestamp = text.parse().map_err(|_| {
            format!(
                "{text:?} is none of: an integer of 64 bits, a date of RFC 3339 with its offset such as \
                 2024-01-31T10:00:00Z, now, latest, or a time before now such as -1h"
            )
        })?;
        let nanos = date.as_nanosecond();
        if nanos % self.nanos() != 0 {
            return Err(format!("{text} is finer than the database's unit, {self}"));
        }
        Timestamp::try_from(nanos / self.nanos())
            .map_err(|_| format!("{text} is beyond what 64 bits can count in {self}"))
    }

    /// Reads a duration, `250ms`, `10s`, `5m`, `1h` or `7d`, or a number of units.
    pub(crate) fn parse_duration(self, text: &str) -> Result<u64, String> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, suffix) = text.split_at(digits_end);
        let wrong = || {
            format!(
                "{text:?} is not a duration such as 250ms, 10s, 5m, 1h or 7d, nor a number of {self}"
            )
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let nanos = match suffix {
            "" => return Ok(number),
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => NANOS_PER_SECOND,
            "m" => 60 * NANOS_PER_SECOND,
            "h" => 3_600 * NANOS_PER_SECOND,
            "d" => 86_400 * NANOS_PER_SECOND,
            _ => return Err(wrong()),
        };
        let nanos = i128::from(number) * nanos;
        if nanos % self.nanos() != 0 {
            return Err(format!("{text} is finer than the database's unit, {self}"));
        }
        u64::try_from(nanos / self.nanos()).map_err(|_| format!("{text} is too long"))
    }

    /// Appends a timestamp as JSON.
    pub(crate) fn write(self, out: &mut Vec<u8>, ts: Timestamp, format: TsFormat) {
        // To memory it can't fail.
        let _ = match format {
            TsFormat::Int => write!(out, "{ts}"),
            TsFormat::Str => write!(out, "\"{ts}\""),
            TsFormat::Iso => match self.date(ts) {
                Some(date) => write!(out, "\"{date}\""),
                None => write!(out, "{ts}"),
            },
        };
    }

    fn date(self, ts: Timestamp) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_nanosecond(i128::from(ts) * self.nanos()).ok()
    }
}

impl fmt::Display for TsUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TsUnit::Us => "us",
            TsUnit::Ms => "ms",
            TsUnit::S => "s",
            TsUnit::Ns => "ns",
        })
    }
}

fn saturated(ts: i128) -> Timestamp {
    ts.clamp(i128::from(Timestamp::MIN), i128::from(Timestamp::MAX)) as Timestamp
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: Timestamp = 1_706_695_200;

    #[test]
    fn dates_are_counted_in_the_databases_unit() {
        for (unit, scale) in [
            (TsUnit::S, 1),
            (TsUnit::Ms, 1_000),
            (TsUnit::Us, 1_000_000),
            (TsUnit::Ns, 1_000_000_000),
        ] {
            for text in [
                "2024-01-31T10:00:00Z",
                "2024-01-31t10:00:00.000000000z",
                "2024-01-31T12:30:00+02:30",
                "2024-01-31T12:30:00 02:30",
                "2024-01-31T08:00:00-02:00",
            ] {
                assert_eq!(unit.parse_at(text), Ok(DATE * scale), "{text} in {unit}");
            }
            let mut shown = Vec::new();
            unit.write(&mut shown, DATE * scale, TsFormat::Iso);
            assert_eq!(shown, b"\"2024-01-31T10:00:00Z\"");
            assert_eq!(unit.parse_at("1969-12-31T23:59:59Z"), Ok(-scale));
        }
        let fine = "2024-01-31T10:00:00.25Z";
        assert_eq!(TsUnit::Ms.parse_at(fine), Ok(DATE * 1_000 + 250));
        assert!(TsUnit::S.parse_at(fine).unwrap_err().contains("finer than"));
        assert!(TsUnit::Ns.parse_at("2500-01-01T00:00:00Z").unwrap_err().contains("beyond"));
    }

    #[test]
    fn moments_are_also_integers_and_words() {
        let unit = TsUnit::Us;
        for (text, ts) in [
            ("latest", Timestamp::MAX),
            ("0", 0),
            ("-100", -100),
            ("9223372036854775807", Timestamp::MAX),
            ("-9223372036854775808", Timestamp::MIN),
        ] {
            assert_eq!(unit.parse_at(text), Ok(ts), "{text}");
        }
        let (now, earlier) = (unit.parse_at("now").unwrap(), unit.parse_at("-1h").unwrap());
        assert!((0..60_000_000).contains(&(earlier + 3_600_000_000 - now)), "{now} {earlier}");
        assert_eq!(unit.parse_at("-18446744073709551615us"), Ok(Timestamp::MIN));
        for text in [
            "",
            " ",
            "soon",
            "1.5",
            "1e3",
            "-",
            "+",
            "--1h",
            "-1w",
            "1h",
            "NOW",
            "9223372036854775808",
            "2024-01-31",
            "2024-01-31T10:00:00",
            "2024-02-30T10:00:00Z",
            "é+02:00",
            "€ 02:00",
        ] {
            assert!(unit.parse_at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_or_the_databases() {
        for (text, us) in [
            ("0", 0),
            ("17", 17),
            ("3us", 3),
            ("250ms", 250_000),
            ("10s", 10_000_000),
            ("5m", 300_000_000),
            ("1h", 3_600_000_000),
            ("7d", 604_800_000_000),
        ] {
            assert_eq!(TsUnit::Us.parse_duration(text), Ok(us), "{text}");
        }
        for text in [
            "",
            "-1",
            "s",
            "1 s",
            "1.5s",
            "1S",
            "1w",
            "1ns",
            "18446744073709551616",
            "999999999999999d",
        ] {
            assert!(TsUnit::Us.parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(TsUnit::S.parse_duration("2000ms"), Ok(2));
    }

    #[test]
    fn what_the_calendar_does_not_have_is_a_number() {
        for (unit, ts, expected) in [
            (TsUnit::S, Timestamp::MAX, "9223372036854775807"),
            (TsUnit::Us, Timestamp::MIN, "-9223372036854775808"),
            (TsUnit::Ns, Timestamp::MAX, "\"2262-04-11T23:47:16.854775807Z\""),
        ] {
            let mut shown = Vec::new();
            unit.write(&mut shown, ts, TsFormat::Iso);
            assert_eq!(String::from_utf8(shown).unwrap(), expected);
        }
    }
}
