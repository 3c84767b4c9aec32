//! The parameters of a query.
//!
//! A name that an endpoint doesn't know, or that comes twice, is refused: what is misspelt would be
//! ignored, and the answer would be to another question.

use std::borrow::Cow;
use std::ops::Bound;

use kvtimedb_engine::{KeyRange, Mode, Timestamp};

use crate::api::moment::{TsFormat, TsUnit};
use crate::error::{Error, Flaw, Result};
use crate::query;

/// How many items a page holds if nothing is said, and at most.
pub(crate) const LIMIT_DEFAULT: usize = 100;
pub(crate) const LIMIT_MAX: usize = 10_000;

/// How a lookup may be meant.
pub(crate) const MODES: &[(&str, Mode)] = &[
    ("floor", Mode::Floor),
    ("ceiling", Mode::Ceiling),
    ("exact", Mode::Exact),
    ("before", Mode::Before),
    ("after", Mode::After),
    ("nearest", Mode::Nearest),
];

/// What one of these words means.
pub(crate) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{text:?} is none of {}", words.join(", "))
    })
}

/// The parameters of a query, percent-decoded.
#[derive(Debug)]
pub(crate) struct Params<'q> {
    pairs: Vec<(Cow<'q, str>, Cow<'q, str>)>,
}

impl<'q> Params<'q> {
    /// Reads a query, whose names have to be among the `known` ones.
    pub(crate) fn parse(query: &'q str, known: &[&str]) -> Result<Params<'q>> {
        let mut params = Params { pairs: Vec::new() };
        let mut flaws = Vec::new();
        for pair in query::pairs(query).filter(|_| !query.is_empty()) {
            let (name, value) = pair?;
            let flaw = if !known.contains(&&*name) {
                Some(format!(
                    "there is no such parameter: this endpoint knows {}",
                    known.join(", ")
                ))
            } else if params.text(&name).is_some() {
                Some("it is there more than once".to_owned())
            } else {
                None
            };
            match flaw {
                Some(detail) => flaws.push(Flaw { pointer: pointer(&name), detail }),
                None => params.pairs.push((name, value)),
            }
        }
        if flaws.is_empty() { Ok(params) } else { Err(Error::Invalid(flaws)) }
    }

    /// A parameter's text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// The text of a parameter that has to be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| Error::parameter(name, "it is required, and is not there"))
    }

    /// `1` or `true`, `0` or `false`; false if it isn't there.
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        let values = [("1", true), ("true", true), ("0", false), ("false", false)];
        Ok(self.one_of(name, &values)?.unwrap_or(false))
    }

    /// One of these words.
    pub(crate) fn one_of<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let value = self.text(name).map(|text| word(text, words)).transpose();
        value.map_err(|detail| Error::parameter(name, detail))
    }

    /// A moment.
    pub(crate) fn at(&self, name: &str, unit: TsUnit) -> Result<Option<Timestamp>> {
        let at = self.text(name).map(|text| unit.parse_at(text)).transpose();
        at.map_err(|detail| Error::parameter(name, detail))
    }

    /// A moment that is written to.
    pub(crate) fn written_ts(&self, name: &str, unit: TsUnit) -> Result<Option<Timestamp>> {
        if self.text(name) == Some("latest") {
            return Err(Error::parameter(
                name,
                "latest is no moment to write at: say when, or now",
            ));
        }
        self.at(name, unit)
    }

    /// A duration, in units of the database.
    pub(crate) fn duration(&self, name: &str, unit: TsUnit) -> Result<Option<u64>> {
        let duration = self.text(name).map(|text| unit.parse_duration(text)).transpose();
        duration.map_err(|detail| Error::parameter(name, detail))
    }

    /// `prefix`, or `start` and `end`, both inclusive: a range of keys; all if none is there.
    pub(crate) fn key_range(&self) -> Result<KeyRange> {
        let (prefix, start, end) = (self.text("prefix"), self.text("start"), self.text("end"));
        match (prefix, start, end) {
            (Some(prefix), None, None) => Ok(KeyRange::prefix(prefix.as_bytes())),
            (Some(_), ..) => {
                Err(Error::parameter("prefix", "it goes with neither start nor end: leave one out"))
            }
            (None, start, end) => Ok(KeyRange::between::<&str>((
                start.map_or(Bound::Unbounded, Bound::Included),
                end.map_or(Bound::Unbounded, Bound::Included),
            ))),
        }
    }

    /// `limit`: how many items a page may hold.
    pub(crate) fn limit(&self) -> Result<usize> {
        let Some(text) = self.text("limit") else { return Ok(LIMIT_DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.ok_or_else(|| {
            Error::parameter("limit", format!("{text:?} is not an integer from 1 to {LIMIT_MAX}"))
        })
    }

    /// `ts_format`: how timestamps are shown.
    pub(crate) fn ts_format(&self) -> Result<TsFormat> {
        let formats = [("int", TsFormat::Int), ("str", TsFormat::Str), ("iso", TsFormat::Iso)];
        Ok(self.one_of("ts_format", &formats)?.unwrap_or_default())
    }
}

/// Where in a request a parameter is, as a JSON pointer.
fn pointer(name: &str) -> String {
    format!("/query/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(error: Error) -> Vec<(String, String)> {
        let Error::Invalid(flaws) = error else { panic!("{error}") };
        flaws.into_iter().map(|flaw| (flaw.pointer, flaw.detail)).collect()
    }

    #[test]
    fn what_is_unknown_or_repeated_is_named() {
        let params = Params::parse("at=1&key=a%2Fb+c&raw", &["at", "key", "raw"]).unwrap();
        assert_eq!((params.text("key"), params.text("raw")), (Some("a/b c"), Some("")));
        assert_eq!(params.text("mode"), None);
        assert!(Params::parse("", &["at"]).unwrap().pairs.is_empty());
        let error = Params::parse("at=1&a~/b=2&at=1&=", &["at"]).unwrap_err();
        let pointers: Vec<_> = flaws(error).into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(pointers, ["/query/a~0~1b", "/query/at", "/query/"]);
        assert!(Params::parse("at=%ff", &["at"]).is_err());
    }

    #[test]
    fn values_are_checked_and_the_parameter_is_named() {
        let known = &["at", "max_age", "limit", "raw", "ts_format"];
        let params = Params::parse("at=-5&max_age=1s&limit=7&raw=1&ts_format=str", known).unwrap();
        let unit = TsUnit::Ms;
        assert_eq!(params.at("at", unit).unwrap(), Some(-5));
        assert_eq!(params.duration("max_age", unit).unwrap(), Some(1_000));
        assert_eq!(params.limit().unwrap(), 7);
        assert!(params.flag("raw").unwrap());
        assert_eq!(params.ts_format().unwrap(), TsFormat::Str);

        let params = Params::parse("", known).unwrap();
        assert_eq!(params.at("at", unit).unwrap(), None);
        assert_eq!(params.limit().unwrap(), LIMIT_DEFAULT);
        assert!(!params.flag("raw").unwrap());

        for limit in ["0", "10001", "-1", "", "1.0", "99999999999999999999"] {
            let query = format!("at=soon&max_age=1w&limit={limit}&raw=yes&ts_format=hex");
            let params = Params::parse(&query, known).unwrap();
            for (outcome, name) in [
                (params.at("at", unit).map(drop), "at"),
                (params.duration("max_age", unit).map(drop), "max_age"),
                (params.limit().map(drop), "limit"),
                (params.flag("raw").map(drop), "raw"),
                (params.ts_format().map(drop), "ts_format"),
                (params.required("key").map(drop), "key"),
            ] {
                assert_eq!(flaws(outcome.unwrap_err())[0].0, format!("/query/{name}"));
            }
        }
    }
}
