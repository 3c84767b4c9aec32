//! What a salvage got out of a database, and what it did not.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::key::{SEQ_NO_MAX, SeqNo, Timestamp};

/// What came of a salvage.
#[derive(Clone, Debug)]
pub struct Salvaged {
    /// Tables of which anything was taken.
    pub tables: u64,
    /// Records that were taken from them, tombstones included.
    pub records: u64,
    /// Operations that were taken from the log.
    pub operations: u64,
    /// The horizon of the new database; the least timestamp where everything can be read. Without a
    /// manifest it may be lower than it was, but not lower than what merges have dropped.
    pub horizon: Timestamp,
    /// What could not be taken, in the order in which it was met.
    pub lost: Vec<Lost>,
    /// What is worth to know of the rest.
    pub notes: Vec<String>,
}

/// A stretch of a file that could not be taken. A version that is missing is of these keys and times and
/// had one of these sequence numbers; what is not told may be any.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Why: with the file, and mostly the offset.
    pub error: Error,
    /// The file.
    pub file: PathBuf,
    /// Where the stretch begins in it.
    pub offset: u64,
    /// How long it is; 0 for what is missing as a whole.
    pub bytes: u64,
    /// Data blocks of a table that are lost while others were taken.
    pub blocks: u64,
    /// The first and the last key.
    pub keys: Option<(Vec<u8>, Vec<u8>)>,
    /// The least and the greatest timestamp.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Among these sequence numbers the missing ones are; all of them, where it is the log's.
    pub seqs: Option<(SeqNo, SeqNo)>,
    /// What older files hold may show again.
    pub returns: Returns,
}

/// What may be seen again where only older files hold something of the lost keys and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returns {
    /// Values that had been written anew at the same timestamp.
    pub replaced: bool,
    /// Values of keys that had ended.
    pub ended: bool,
    /// Versions that had been erased.
    pub erased: bool,
}

impl Returns {
    /// All of it.
    pub(super) const ANY: Returns = Returns { replaced: true, ended: true, erased: true };
}

impl Default for Salvaged {
    fn default() -> Self {
        Salvaged {
            tables: 0,
            records: 0,
            operations: 0,
            horizon: Timestamp::MIN,
            lost: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Lost {
    /// Operations that were in a segment that is gone, and are in no table either.
    pub(super) fn of_log(next: &Path, seqs: (SeqNo, SeqNo)) -> Lost {
        let what = format!("expected to begin with sequence number {}, not {}", seqs.0, seqs.1 + 1);
        Lost {
            error: Error::corruption(next, 0, what),
            file: next.to_owned(),
            offset: 0,
            bytes: 0,
            blocks: 0,
            keys: None,
            times: None,
            seqs: Some(seqs),
            returns: Returns::ANY,
        }
    }
}

impl Salvaged {
    /// Adds a lost stretch, to the last one where it goes on.
    pub(super) fn lose(&mut self, lost: Lost) {
        let goes_on = |before: &&mut Lost| {
            let end = before.offset + before.bytes;
            before.file == lost.file && before.blocks > 0 && end == lost.offset
        };
        match self.lost.last_mut().filter(goes_on) {
            Some(before) if lost.blocks > 0 => {
                before.bytes += lost.bytes;
                before.blocks += lost.blocks;
                if let (Some(keys), Some((_, last_key))) = (&mut before.keys, lost.keys) {
                    keys.1 = last_key;
                }
                if let (Some(times), Some((min, max))) = (&mut before.times, lost.times) {
                    *times = (times.0.min(min), times.1.max(max));
                }
            }
            _ => self.lost.push(lost),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost from offset {}, {} bytes", self.offset, self.bytes)?;
        if self.blocks > 0 {
            write!(f, " in {} blocks", self.blocks)?;
        }
        match &self.keys {
            Some((first, last)) => {
                let (first, last) = (first.escape_ascii(), last.escape_ascii());
                write!(f, ": keys from \"{first}\" to \"{last}\"")?;
            }
            None => write!(f, ": any keys")?,
        }
        match self.times {
            Some((min, max)) => write!(f, ", timestamps from {min} to {max}")?,
            None => write!(f, ", any timestamps")?,
        }
        match self.seqs {
            Some((first, SEQ_NO_MAX)) => write!(f, ", sequence numbers from {first} on")?,
            Some((first, last)) => write!(f, ", sequence numbers from {first} to {last}")?,
            None => write!(f, ", any sequence numbers")?,
        }
        write!(f, ". Floors of these keys may be older than they were, or missing")?;
        let Returns { replaced, ended, erased } = self.returns;
        for (may_return, what) in [
            (replaced, "values that had been written anew may be back"),
            (ended, "keys that had ended may have values again"),
            (erased, "erased versions may be back"),
        ] {
            if may_return {
                write!(f, "; {what}")?;
            }
        }
        write!(f, ". Cause: {}", self.error)
    }
}
