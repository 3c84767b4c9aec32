//! Keys of versions in a database of ordered keys: the user's key, then the timestamp, the later the
//! smaller, so that a floor is the first entry at or after its own key.

use std::ops::Deref;

use kvtimedb_engine::Timestamp;

use crate::data::Points;

/// How user's keys are put before timestamps, so that no key is the prefix of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// As they are: all have this length.
    Fixed(usize),
    /// Each 00 as 00 ff, and 00 01 at the end.
    Ended,
}

/// The longest composite key, in bytes.
const BYTES_MAX: usize = 128;

const TS_BYTES: usize = 8;

/// Puts negative timestamps before the others.
const SIGN: u64 = 1 << 63;

/// The key of a version; on the stack, so that making it costs nobody an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Composite {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl KeyForm {
    /// The shortest that does for these keys.
    pub fn of(points: &Points) -> KeyForm {
        let mut lengths = points.keys().iter().map(Vec::len);
        let first = lengths.next().unwrap_or_default();
        if lengths.all(|length| length == first) { KeyForm::Fixed(first) } else { KeyForm::Ended }
    }

    /// The key of the version of `key` at `ts`.
    pub fn composite(self, key: &[u8], ts: Timestamp) -> Composite {
        let mut composite = Composite { bytes: [0; BYTES_MAX], len: 0 };
        match self {
            KeyForm::Fixed(length) => {
                assert_eq!(key.len(), length, "a key of another length");
                composite.push(key);
            }
            KeyForm::Ended => {
                for (i, part) in key.split(|byte| *byte == 0).enumerate() {
                    if i > 0 {
                        composite.push(&[0x00, 0xff]);
                    }
                    composite.push(part);
                }
                composite.push(&[0x00, 0x01]);
            }
        }
        composite.push(&(!(ts as u64 ^ SIGN)).to_be_bytes());
        composite
    }
}

impl Composite {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// The timestamp of another composite key, if that is one of the same user's key.
    pub fn ts_of(&self, other: &[u8]) -> Option<Timestamp> {
        let inverted = other.strip_prefix(without_ts(self))?.try_into().ok()?;
        Some((!u64::from_be_bytes(inverted) ^ SIGN) as Timestamp)
    }
}

impl Deref for Composite {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What all versions of one key have in common.
pub(super) fn without_ts(composite: &[u8]) -> &[u8] {
    &composite[..composite.len().saturating_sub(TS_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composite_keys_fall_as_time_grows() {
        let times = [i64::MIN, -1, 0, 1, i64::MAX];
        for form in [KeyForm::Fixed(3), KeyForm::Ended] {
            let keys = times.map(|ts| form.composite(b"key", ts));
            assert!(keys.is_sorted_by(|a, b| **a > **b));
            assert_eq!(keys.map(|key| keys[0].ts_of(&key)), times.map(Some));
            assert_eq!(form.composite(b"kez", 0).ts_of(&keys[0]), None);
        }
    }

    #[test]
    fn versions_of_keys_that_begin_alike_stay_apart_and_in_order() {
        let keys: [&[u8]; 6] = [b"", b"\0", b"\0\x01", b"a", b"a\0", b"aa"];
        let times = [i64::MAX, 0, i64::MIN];
        let all: Vec<Composite> =
            keys.iter().flat_map(|key| times.map(|ts| KeyForm::Ended.composite(key, ts))).collect();
        assert!(all.is_sorted_by(|a, b| **a < **b));
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!(a.ts_of(b).is_some(), i / times.len() == j / times.len());
            }
        }
    }
}
