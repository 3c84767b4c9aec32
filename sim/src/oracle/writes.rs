//! What is written: operations, the batches of them, and what they make of an oracle.

use kvtimedb_engine::{
    Committed, Condition, Entry, Expect, Timestamp, ValueRef, ValueType, WriteBatch,
};

use super::Oracle;

/// What an operation does to its `(key, timestamp)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has this value from there on.
    Put(ValueType, Vec<u8>),
    /// It has this value from there on, or from behind its newest version, if that is not earlier.
    Rising(ValueType, Vec<u8>),
    /// It has none from there on.
    End,
    /// What was there never was.
    Erase,
    /// What was there, and later up to this moment, never was.
    EraseTo(Timestamp),
}

/// One operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Of which key.
    pub key: Vec<u8>,
    /// At which moment.
    pub ts: Timestamp,
    /// What it does there.
    pub change: Change,
}

impl Op {
    /// A put of octets.
    pub fn put(key: impl AsRef<[u8]>, ts: Timestamp, value: impl AsRef<[u8]>) -> Op {
        let change = Change::Put(ValueType::Octets, value.as_ref().to_vec());
        Op { key: key.as_ref().to_vec(), ts, change }
    }

    /// A put of octets at a moment or later.
    pub fn rising(key: impl AsRef<[u8]>, ts_min: Timestamp, value: impl AsRef<[u8]>) -> Op {
        let change = Change::Rising(ValueType::Octets, value.as_ref().to_vec());
        Op { key: key.as_ref().to_vec(), ts: ts_min, change }
    }

    /// A put of JSON.
    pub fn json(key: impl AsRef<[u8]>, ts: Timestamp, text: impl AsRef<[u8]>) -> Op {
        let change = Change::Put(ValueType::Json, text.as_ref().to_vec());
        Op { key: key.as_ref().to_vec(), ts, change }
    }

    /// An end.
    pub fn end(key: impl AsRef<[u8]>, ts: Timestamp) -> Op {
        Op { key: key.as_ref().to_vec(), ts, change: Change::End }
    }

    /// An erase.
    pub fn erase(key: impl AsRef<[u8]>, ts: Timestamp) -> Op {
        Op { key: key.as_ref().to_vec(), ts, change: Change::Erase }
    }

    /// An erase of a range.
    pub fn erase_between(key: impl AsRef<[u8]>, from: Timestamp, to: Timestamp) -> Op {
        Op { key: key.as_ref().to_vec(), ts: from, change: Change::EraseTo(to) }
    }
}

/// The batch of these operations.
pub fn batch(ops: &[Op]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for Op { key, ts, change } in ops {
        match change {
            Change::Put(value_type, bytes) => {
                batch.put(key, *ts, ValueRef { value_type: *value_type, bytes })
            }
            Change::Rising(value_type, bytes) => {
                batch.put_rising(key, *ts, ValueRef { value_type: *value_type, bytes })
            }
            Change::End => batch.end(key, *ts),
            Change::Erase => batch.erase(key, *ts),
            Change::EraseTo(to) => batch.erase_between(key, *ts, *to),
        }
        .expect("a test's operations are within the limits");
    }
    batch
}

impl Oracle {
    /// Takes the operations of a batch. Returns what `Db::write` must.
    pub fn apply(&mut self, ops: &[Op]) -> Committed {
        self.take(ops, &mut Vec::new()).expect("a put behind the greatest timestamp")
    }

    /// As [`apply`](Self::apply). Returns also what goes to the log: puts, ends and erases.
    pub(crate) fn apply_and_log(&mut self, ops: &[Op]) -> (Committed, Vec<Op>) {
        let mut logged = Vec::new();
        (self.take(ops, &mut logged).expect("a put behind the greatest timestamp"), logged)
    }

    /// As [`apply`](Self::apply); `None`: the batch must be refused, because a put can't rise any more.
    pub fn try_apply(&mut self, ops: &[Op]) -> Option<Committed> {
        let mut after = self.clone();
        let committed = after.take(ops, &mut Vec::new())?;
        *self = after;
        Some(committed)
    }

    fn take(&mut self, ops: &[Op], logged: &mut Vec<Op>) -> Option<Committed> {
        let mut committed = Committed::default();
        for Op { key, ts, change } in ops {
            let timeline = self.keys.entry(key.clone()).or_default();
            timeline.moments.insert(*ts);
            let put = |ts, value_type: &ValueType, value: &Vec<u8>| {
                Some(Entry { ts, value_type: *value_type, value: value.clone() })
            };
            let versions = &mut timeline.versions;
            let logs = |ts, change| Op { key: key.clone(), ts, change };
            let already = logged.len();
            match change {
                Change::Put(value_type, value) => {
                    versions.insert(*ts, put(*ts, value_type, value));
                    logged.push(logs(*ts, change.clone()));
                }
                Change::Rising(value_type, value) => {
                    let ts = match versions.last_key_value() {
                        Some((newest, _)) => newest.checked_add(1)?.max(*ts),
                        None => *ts,
                    };
                    versions.insert(ts, put(ts, value_type, value));
                    logged.push(logs(ts, Change::Put(*value_type, value.clone())));
                    timeline.moments.insert(ts);
                    committed.assigned.push(ts);
                }
                Change::End => {
                    versions.insert(*ts, None);
                    logged.push(logs(*ts, Change::End));
                }
                Change::Erase => {
                    versions.remove(ts);
                    logged.push(logs(*ts, Change::Erase));
                }
                Change::EraseTo(to) => {
                    timeline.moments.insert(*to);
                    let erased = versions.extract_if(ts..=to, |_, _| true);
                    logged.extend(erased.map(|(ts, _)| logs(ts, Change::Erase)));
                    committed.erased += (logged.len() - already) as u64;
                }
            }
            self.last_seq += (logged.len() - already) as u64;
        }
        Some(Committed { seq: self.last_seq, ..committed })
    }

    /// Whether a batch with this condition may be committed.
    pub fn holds(&self, condition: &Condition) -> bool {
        let found = self.find(&condition.key, condition.lookup);
        match condition.expect {
            Expect::Absent => found.is_none(),
            Expect::Etag(etag) => found.is_some_and(|entry| entry.etag() == etag),
        }
    }
}
