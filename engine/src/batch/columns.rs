//! Columnar input: many puts whose keys, timestamps and values each lie in one piece of memory.

use super::{BATCH_BYTES_MAX, BATCH_OPS_MAX, WriteBatch};
use crate::coding::varint_bytes;
use crate::error::{Error, Result};
use crate::key::{KEY_BYTES_MAX, Tag, Timestamp, VALUE_BYTES_MAX, ValueType};

/// Byte strings, one behind the other, as in an Arrow binary array: that of row `i` is
/// `bytes[offsets[i]..offsets[i + 1]]`, so there is one offset more than there are rows.
#[derive(Clone, Copy, Debug)]
pub struct BytesColumn<'a> {
    /// Where each row begins, and where the last one ends.
    pub offsets: &'a [u32],
    /// The bytes of all rows.
    pub bytes: &'a [u8],
}

/// How values are to be read: all of them in one way, or each in its own.
#[derive(Clone, Copy, Debug)]
pub enum ValueTypes<'a> {
    /// All values are of this type.
    All(ValueType),
    /// One type a row.
    Each(&'a [ValueType]),
}

/// Rows of `(key, timestamp, value)` to be put, by columns. There are as many rows as timestamps.
///
/// ```
/// use kvtimedb_engine::{BytesColumn, Columns, ValueType, ValueTypes, WriteBatch};
///
/// let mut batch = WriteBatch::new();
/// batch.put_columns(&Columns {
///     keys: BytesColumn { offsets: &[0, 2, 4], bytes: b"s1s2" },
///     timestamps: &[100, 101],
///     values: BytesColumn { offsets: &[0, 4, 6], bytes: b"21.519" },
///     value_types: ValueTypes::All(ValueType::Json),
/// })?;
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), kvtimedb_engine::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// The keys.
    pub keys: BytesColumn<'a>,
    /// The timestamps.
    pub timestamps: &'a [Timestamp],
    /// The values.
    pub values: BytesColumn<'a>,
    /// How the values are to be read.
    pub value_types: ValueTypes<'a>,
}

impl<'a> BytesColumn<'a> {
    /// The strings, row by row. The offsets were checked.
    fn rows(self) -> impl Iterator<Item = &'a [u8]> {
        self.offsets.windows(2).map(move |ends| &self.bytes[ends[0] as usize..ends[1] as usize])
    }

    /// Checks that it has `rows` strings of up to `len_max` bytes, and returns how many bytes they
    /// take in a batch. `name` is what errors call it.
    fn check(self, name: &str, rows: usize, len_max: usize) -> Result<usize> {
        if self.offsets.len() != rows + 1 {
            let found = self.offsets.len();
            return invalid(format!("{name}: {found} offsets for {rows} rows, not {}", rows + 1));
        }
        let mut encoded_bytes = 0;
        for (row, ends) in self.offsets.windows(2).enumerate() {
            let (from, to) = (ends[0] as usize, ends[1] as usize);
            if from > to {
                return invalid(format!(
                    "{name}: row {row} begins at byte {from} and ends at {to}"
                ));
            }
            if to - from > len_max {
                let len = to - from;
                return invalid(format!(
                    "{name}: row {row} has {len} bytes: the limit is {len_max}"
                ));
            }
            encoded_bytes += varint_bytes((to - from) as u64) + (to - from);
        }
        // The offsets rise, so that the last one is the greatest.
        let (end, len) = (self.offsets[rows] as usize, self.bytes.len());
        if end > len {
            return invalid(format!("{name}: the rows end at byte {end} of {len}"));
        }
        Ok(encoded_bytes)
    }
}

impl WriteBatch {
    /// Puts every row, in order, as [`put`](WriteBatch::put) would. After an error, which names the
    /// column and the row, the batch is as it was.
    pub fn put_columns(&mut self, columns: &Columns<'_>) -> Result<()> {
        let Columns { keys, timestamps, values, value_types } = *columns;
        let rows = timestamps.len();
        let key_bytes = keys.check("keys", rows, KEY_BYTES_MAX)?;
        let value_bytes = values.check("values", rows, VALUE_BYTES_MAX)?;
        if let ValueTypes::Each(types) = value_types
            && types.len() != rows
        {
            return invalid(format!("value types: {} for {rows} rows", types.len()));
        }
        if self.ops + rows > BATCH_OPS_MAX {
            return invalid(format!("a batch of more than {BATCH_OPS_MAX} operations: split it"));
        }
        let encoded_bytes = key_bytes + value_bytes + rows * (1 + size_of::<Timestamp>());
        let batch_bytes = self.encoded.len() + encoded_bytes;
        if batch_bytes > BATCH_BYTES_MAX {
            return invalid(format!(
                "a batch of {batch_bytes} bytes: the limit is {BATCH_BYTES_MAX}"
            ));
        }
        self.encoded.reserve(encoded_bytes);
        let value_type = |row: usize| match value_types {
            ValueTypes::All(value_type) => value_type,
            ValueTypes::Each(types) => types[row],
        };
        let rows = keys.rows().zip(timestamps).zip(values.rows());
        for (row, ((key, &ts), value)) in rows.enumerate() {
            self.encode(Tag::put(value_type(row)), key, ts, value);
        }
        let ts_min = timestamps.iter().copied().min();
        self.written_ts_min = self.written_ts_min.min(ts_min.unwrap_or(Timestamp::MAX));
        debug_assert_eq!(self.encoded.len(), batch_bytes);
        Ok(())
    }
}

fn invalid<T>(what: String) -> Result<T> {
    Err(Error::InvalidArgument(what))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::key::ValueRef;

    const TYPES: [ValueType; 2] = [ValueType::Octets, ValueType::Json];

    /// Columns that own what they hold, beginning at some byte.
    #[derive(Default)]
    struct Owned {
        offsets: Vec<u32>,
        bytes: Vec<u8>,
    }

    impl Owned {
        fn of(begin: usize, rows: &[Vec<u8>]) -> Owned {
            let mut column = Owned { offsets: vec![begin as u32], bytes: vec![0xee; begin] };
            for row in rows {
                column.bytes.extend_from_slice(row);
                column.offsets.push(column.bytes.len() as u32);
            }
            column
        }

        fn column(&self) -> BytesColumn<'_> {
            BytesColumn { offsets: &self.offsets, bytes: &self.bytes }
        }
    }

    proptest! {
        #[test]
        fn columns_are_encoded_as_puts_are(
            rows in vec((vec(any::<u8>(), 0..200), any::<i64>(), vec(any::<u8>(), 0..200), 0..2_usize), 0..20),
            begin in 0_usize..9,
            each: bool,
        ) {
            let mut expected = WriteBatch::new();
            expected.end(b"before", 0).unwrap();
            let mut batch = expected.clone();
            for (key, ts, bytes, value_type) in &rows {
                let value_type = TYPES[if each { *value_type } else { 1 }];
                expected.put(key, *ts, ValueRef { value_type, bytes }).unwrap();
            }
            let keys: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
            let values: Vec<_> = rows.iter().map(|row| row.2.clone()).collect();
            let (keys, values) = (Owned::of(begin, &keys), Owned::of(0, &values));
            let timestamps: Vec<_> = rows.iter().map(|row| row.1).collect();
            let types: Vec<_> = rows.iter().map(|row| TYPES[row.3]).collect();
            let value_types =
                if each { ValueTypes::Each(&types) } else { ValueTypes::All(TYPES[1]) };
            let (keys, values) = (keys.column(), values.column());
            batch.put_columns(&Columns { keys, timestamps: &timestamps, values, value_types }).unwrap();
            prop_assert_eq!(batch.encoded(), expected.encoded());
            prop_assert_eq!(batch.len(), expected.len());
        }
    }

    /// The offsets and bytes of the keys, the timestamps, the offsets of the values, which are two
    /// bytes, how many types there are, and what is said about it.
    type Case<'a> = (&'a [u32], &'a [u8], &'a [i64], &'a [u32], usize, &'a str);

    #[test]
    fn columns_that_do_not_fit_are_told_apart_and_leave_the_batch_as_it_was() {
        let too_long = vec![0; KEY_BYTES_MAX + 1];
        let long_end = too_long.len() as u32;
        let cases: &[Case<'_>] = &[
            (&[0, 1, 2], b"ab", &[1, 2, 3], &[0, 1, 2], 2, "keys: 3 offsets for 3 rows, not 4"),
            (&[0, 1, 2], b"ab", &[1, 2], &[0, 1], 2, "values: 2 offsets for 2 rows, not 3"),
            (&[], b"ab", &[], &[0], 0, "keys: 0 offsets for 0 rows, not 1"),
            (
                &[0, 2, 1],
                b"ab",
                &[1, 2],
                &[0, 1, 2],
                2,
                "keys: row 1 begins at byte 2 and ends at 1",
            ),
            (&[0, 1, 3], b"ab", &[1, 2], &[0, 1, 2], 2, "keys: the rows end at byte 3 of 2"),
            (&[0, 1, 2], b"ab", &[1, 2], &[0, 1, 9], 2, "values: the rows end at byte 9 of 2"),
            (
                &[0, 0, long_end],
                &too_long,
                &[1, 2],
                &[0, 1, 2],
                2,
                "keys: row 1 has 65537 bytes: the limit is 65536",
            ),
            (&[0, 1, 2], b"ab", &[1, 2], &[0, 1, 2], 1, "value types: 1 for 2 rows"),
        ];
        for (key_offsets, keys, timestamps, value_offsets, types, expected) in cases {
            let mut batch = WriteBatch::new();
            batch.put(b"before", 1, b"").unwrap();
            let before = batch.encoded().to_vec();
            let error = batch.put_columns(&Columns {
                keys: BytesColumn { offsets: key_offsets, bytes: keys },
                timestamps,
                values: BytesColumn { offsets: value_offsets, bytes: b"vw" },
                value_types: ValueTypes::Each(&TYPES[..*types]),
            });
            assert!(error.unwrap_err().to_string().contains(expected), "{expected}");
            assert_eq!((batch.encoded(), batch.len()), (&before[..], 1), "{expected}");
        }
    }

    #[test]
    fn the_limits_of_a_batch_hold_for_columns() {
        let put = |batch: &mut WriteBatch, rows: usize, value_bytes: usize| {
            let (offsets, value) = (vec![0; rows + 1], vec![0; value_bytes]);
            let mut value_offsets = vec![0; rows];
            value_offsets.push(value_bytes as u32);
            batch.put_columns(&Columns {
                keys: BytesColumn { offsets: &offsets, bytes: b"" },
                timestamps: &vec![7; rows],
                values: BytesColumn { offsets: &value_offsets, bytes: &value },
                value_types: ValueTypes::All(ValueType::Octets),
            })
        };
        let mut batch = WriteBatch::new();
        put(&mut batch, BATCH_OPS_MAX - 1, 0).unwrap();
        let error = put(&mut batch, 2, 0).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 operations"), "{error}");
        let error = put(&mut batch, 1, VALUE_BYTES_MAX + 1).unwrap_err().to_string();
        assert!(error.contains("values: row 0 has 67108865 bytes"), "{error}");
        put(&mut batch, 1, 0).unwrap();
        assert_eq!(batch.len(), BATCH_OPS_MAX);
        let mut batch = WriteBatch::new();
        put(&mut batch, 1, VALUE_BYTES_MAX).unwrap();
        let error = put(&mut batch, 1, VALUE_BYTES_MAX).unwrap_err().to_string();
        assert!(error.contains("a batch of 1342177"), "{error}");
    }
}
