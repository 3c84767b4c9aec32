//! The change feed: a cursor over the operations in the order of their commits, out of the log.

use std::sync::Arc;

use super::feed::Found;
use super::state::Core;
use crate::error::{Error, Result};
use crate::key::{SeqNo, Timestamp, ValueKind, ValueRef};
use crate::options::Durability;
use crate::wal::SegmentFollower;

/// An operation, still where the cursor holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Its place in the order of the commits.
    pub seq: SeqNo,
    /// Its key.
    pub key: &'a [u8],
    /// Its timestamp.
    pub ts: Timestamp,
    /// What it says of the two.
    pub kind: ValueKind,
    /// The value of a put.
    pub value: Option<ValueRef<'a>>,
}

/// The operations from a sequence number on, each once, in the order of their commits: those that have
/// been committed and those that will be. See [`Db::changes`](crate::Db::changes).
///
/// It holds one file and the one record of the log that it is at, and keeps neither the database open nor a
/// segment of the log in the directory.
#[derive(Debug)]
pub struct Changes {
    core: Arc<Core>,
    /// The sequence number of the next operation.
    next_seq: SeqNo,
    segment: Option<Segment>,
}

/// The segment that the cursor is in.
#[derive(Debug)]
struct Segment {
    found: Found,
    follower: SegmentFollower,
}

impl Changes {
    /// The next operation; `None` if there is none yet: call again later. What it shows survives a power
    /// loss: under [`Durability::Buffered`] an operation shows when the log has been made durable.
    ///
    /// Errors: [`Error::Trimmed`] if the operation is not kept any more, [`Error::Corruption`] or
    /// [`Error::Io`] if the log can't be read there, [`Error::Closed`].
    // Not an iterator: what it shows is its own.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Change<'_>>> {
        self.core.check_open()?;
        let seq = self.next_seq;
        if seq > self.core.durable_seq() {
            if let Some(segment) = &mut self.segment {
                segment.follower.release();
            }
            return Ok(None);
        }
        while !self.is_at(seq)? {}
        let Some(segment) = &mut self.segment else { return Ok(None) };
        let op = segment.follower.next()?;
        self.next_seq = seq + 1;
        let kind = op.tag.kind();
        let value = ValueRef { value_type: op.tag.value_type(), bytes: op.value };
        let value = (kind == ValueKind::Put).then_some(value);
        Ok(Some(Change { seq, key: op.key, ts: op.ts, kind, value }))
    }

    /// Every operation up to this one was shown, or came before the first.
    pub fn seq(&self) -> SeqNo {
        self.next_seq - 1
    }

    /// The memory that it holds, in bytes: 64 KiB, or as much as the record of the log that it is at.
    pub fn buffer_bytes(&self) -> usize {
        self.segment.as_ref().map_or(0, |segment| segment.follower.buffer_bytes())
    }

    /// Takes a step towards `seq`, which is in the log; whether it is there.
    fn is_at(&mut self, seq: SeqNo) -> Result<bool> {
        let Some(segment) = &mut self.segment else {
            self.segment = self.core.open_segment(seq)?;
            return Ok(false);
        };
        let Segment { found, follower } = segment;
        if found.last_seq.is_none_or(|last| seq <= last) && follower.seek(seq)? {
            return Ok(true);
        }
        // It was live when it was opened, and has been sealed since; or it lacks the operation.
        if self.core.feed.find(seq)?.segment == found.segment {
            self.core.miss_operation(seq, found, follower)?;
        }
        self.segment = None;
        Ok(false)
    }
}

impl Core {
    /// A feed of the operations after `since`.
    pub(crate) fn changes(self: &Arc<Self>, since: SeqNo) -> Result<Changes> {
        self.check_open()?;
        let last = self.view.visible_seq();
        if since > last {
            return Err(Error::Unwritten { since, last });
        }
        // A power loss would give these numbers to other operations, and the caller would not know.
        if since > self.durable_seq() {
            self.sync_log()?;
        }
        self.feed.find(since + 1)?;
        Ok(Changes { core: Arc::clone(self), next_seq: since + 1, segment: None })
    }

    /// The last operation that is both visible and durable.
    pub(crate) fn durable_seq(&self) -> SeqNo {
        let visible = self.view.visible_seq();
        match self.options.durability {
            Durability::Sync => visible,
            Durability::Buffered => visible.min(self.feed.synced_seq()),
        }
    }

    /// Opens the segment in which `seq` stands; `None` where it was removed meanwhile, and another look
    /// will tell.
    fn open_segment(&self, seq: SeqNo) -> Result<Option<Segment>> {
        let found = self.feed.find(seq)?;
        let (home, id) = (&self.home, found.segment);
        let path = id.wal_path(&home.dir);
        let opened = SegmentFollower::open(&*home.fs, &path, home.database, id);
        let opened = match opened {
            Err(_) if !self.feed.find(seq).is_ok_and(|now| now.segment == id) => return Ok(None),
            opened => {
                opened.map_err(|error| error.damage_if_missing("the change feed needs it"))?
            }
        };
        let Some(mut follower) = opened else {
            let what = "expected a WAL header, which was durable before the segment was used";
            return Err(Error::corruption(&path, 0, what));
        };
        if let Some((marked, place)) = found.mark {
            follower.go_to(place, marked);
        }
        Ok(Some(Segment { found, follower }))
    }

    /// The segment in which `seq` should stand has none such: [`Error::Corruption`]; or a power loss
    /// took what the process before had not synced: then what is older is given up, and
    /// [`Error::Trimmed`].
    fn miss_operation(&self, seq: SeqNo, found: &Found, follower: &SegmentFollower) -> Result<()> {
        let home = &self.home;
        follower.judge_end(&*home.fs, home.database, found.segment)?;
        let Some(last_seq) = found.last_seq else {
            let path = found.segment.wal_path(&home.dir);
            let what = format!("expected the record of sequence number {seq}");
            return Err(Error::corruption(&path, follower.offset(), what));
        };
        self.remove_segments(self.feed.give_up(last_seq + 1));
        let oldest = self.feed.oldest_seq();
        Err(Error::Trimmed { since: seq - 1, oldest })
    }
}
