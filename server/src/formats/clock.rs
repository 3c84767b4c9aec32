//! Timestamps of a file, and those of the database.

use kvtimedb_engine::Timestamp;

use crate::api::moment::TsUnit;

/// Turns the timestamps of a file into those of the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The unit of the file's whole numbers.
    pub(crate) file: TsUnit,
    /// The unit of the database.
    pub(crate) database: TsUnit,
    /// Whether `now` and `latest` are moments. In a file that may be imported again they are none.
    pub(crate) knows_words: bool,
}

impl Clock {
    /// A whole number of the file.
    pub(super) fn number(self, number: i64) -> Result<Timestamp, String> {
        self.number_of(number, self.file)
    }

    /// A whole number of a column that says its unit.
    #[inline]
    pub(super) fn number_of(self, number: i64, unit: TsUnit) -> Result<Timestamp, String> {
        if unit == self.database {
            return Ok(number);
        }
        let (nanos, to) = (i128::from(number) * unit.nanos(), self.database.nanos());
        let database = self.database;
        if nanos % to != 0 {
            return Err(format!(
                "the timestamp {number} {unit} is finer than the database's unit, {database}: round it"
            ));
        }
        Timestamp::try_from(nanos / to).map_err(|_| {
            format!("the timestamp {number} {unit} is beyond what 64 bits can count in {database}")
        })
    }

    /// A timestamp that is written as text: a whole number, or a date of RFC 3339.
    pub(super) fn text(self, text: &str) -> Result<Timestamp, String> {
        if let Ok(number) = text.parse() {
            return self.number(number);
        }
        if self.knows_words {
            return self.database.parse_at(text);
        }
        // Whatever else can be said of a moment is none of a file's.
        if !text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            let shown = super::fields::shown(text.as_bytes());
            return Err(format!(
                "the timestamp {shown} is neither an integer of 64 bits nor a date of RFC 3339"
            ));
        }
        self.database.parse_date(text)
    }
}
