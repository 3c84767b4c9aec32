//! Which segments of the log the change feed can read.
//!
//! Tables keep no sequence number of a single operation, so that the feed reads the log. A segment whose
//! operations were flushed is not needed for a recovery any more, and is kept for the feed: the newest
//! ones, up to [`Options::feed_bytes_max`](crate::Options::feed_bytes_max). They are removed from the
//! oldest on, but a power loss may bring back a name, or take what the last process had left unsynced
//! behind its death. So the list of them is no promise that no operation is missing between two: who
//! reads them counts, and where one is missing [gives up](Feed::give_up) what is older.
//!
//! # Thread safety
//! The lock of the list is held for no longer than it takes to look or to change it. It is taken under
//! `writer` by a freeze, once a mebibyte by a commit, under `flushing` by a flush, and under no lock by
//! those who read the feed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::key::{FileId, FileKind, SeqNo};
use crate::record::RecordPlace;
use crate::version::Home;
use crate::wal::SegmentFollower;

/// A segment of the log that the feed can read.
#[derive(Debug)]
pub(crate) struct FeedSegment {
    id: FileId,
    /// The sequence number of its first operation; of the next one, where it has none.
    first_seq: SeqNo,
    /// The length of the file in bytes, once nothing is appended to it any more.
    bytes: u64,
    flushed: bool,
    /// Where some operations stand, ascending: so that a reader need not begin at the front.
    marks: Vec<(SeqNo, RecordPlace)>,
}

/// Where an operation stands, or behind which place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) segment: FileId,
    /// The last operation of the segment; `None` if it is the live one.
    pub(crate) last_seq: Option<SeqNo>,
    /// A place in the segment, and the operation that stands behind it.
    pub(crate) mark: Option<(SeqNo, RecordPlace)>,
}

/// The segments that the feed can read, and how far it may.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Oldest first. The last one is live; those before it that wait for their flush are the newest.
    segments: Mutex<VecDeque<FeedSegment>>,
    /// The most bytes of flushed segments.
    bytes_max: u64,
    /// Every operation up to this one survives a power loss.
    synced_seq: AtomicU64,
}

impl Feed {
    /// Of a database that has been recovered up to `last_seq`, with a new live segment.
    pub(crate) fn new(
        kept: Vec<FeedSegment>,
        live: FileId,
        last_seq: SeqNo,
        bytes_max: u64,
    ) -> Feed {
        let mut segments = VecDeque::from(kept);
        segments.push_back(FeedSegment::live(live, last_seq + 1));
        Feed { segments: Mutex::new(segments), bytes_max, synced_seq: AtomicU64::new(last_seq) }
    }

    /// The log goes on in the segment `live`, from `first_seq` on; the one before it is sealed, and so many
    /// bytes long.
    pub(crate) fn begin_segment(&self, live: FileId, first_seq: SeqNo, sealed_bytes: u64) {
        let mut segments = self.segments.lock();
        if let Some(sealed) = segments.back_mut() {
            sealed.bytes = sealed_bytes;
        }
        segments.push_back(FeedSegment::live(live, first_seq));
        drop(segments);
        self.synced_up_to(first_seq - 1);
    }

    /// In the live segment the operation `seq` will stand at this place.
    pub(crate) fn mark(&self, seq: SeqNo, place: RecordPlace) {
        if let Some(live) = self.segments.lock().back_mut() {
            live.marks.push((seq, place));
        }
    }

    /// A segment was flushed. Returns those that are not kept from now on, for the caller to remove.
    pub(crate) fn flushed(&self, id: FileId) -> Vec<FileId> {
        let mut segments = self.segments.lock();
        if let Some(segment) = segments.iter_mut().find(|segment| segment.id == id) {
            segment.flushed = true;
        }
        let kept = segments.iter().take_while(|segment| segment.flushed);
        let mut bytes: u64 = kept.map(|segment| segment.bytes).sum();
        let mut given_up = Vec::new();
        while bytes > self.bytes_max
            && let Some(oldest) = segments.pop_front_if(|segment| segment.flushed)
        {
            bytes -= oldest.bytes;
            given_up.push(oldest.id);
        }
        given_up
    }

    /// Operations are missing before `seq`, of which it was not known. Returns the segments that are not
    /// kept from now on, for the caller to remove.
    pub(crate) fn give_up(&self, seq: SeqNo) -> Vec<FileId> {
        let mut segments = self.segments.lock();
        let is_before = |segment: &mut FeedSegment| segment.flushed && segment.first_seq < seq;
        std::iter::from_fn(|| segments.pop_front_if(is_before)).map(|segment| segment.id).collect()
    }

    /// Where the operation `seq` stands or will stand; [`Error::Trimmed`] where it is not kept any more.
    pub(crate) fn find(&self, seq: SeqNo) -> Result<Found> {
        let segments = self.segments.lock();
        let after = segments.partition_point(|segment| segment.first_seq <= seq);
        let Some(segment) = after.checked_sub(1).and_then(|at| segments.get(at)) else {
            let oldest = segments.front().map_or(0, |segment| segment.first_seq);
            return Err(Error::Trimmed { since: seq - 1, oldest });
        };
        let last_seq = segments.get(after).map(|next| next.first_seq - 1);
        let marks = segment.marks.partition_point(|&(marked, _)| marked <= seq);
        let mark = marks.checked_sub(1).map(|at| segment.marks[at]);
        Ok(Found { segment: segment.id, last_seq, mark })
    }

    /// Whether the file of this segment is kept.
    pub(crate) fn holds(&self, id: FileId) -> bool {
        self.segments.lock().iter().any(|segment| segment.id == id)
    }

    /// The oldest operation that is kept; the next one to be committed, where none is.
    pub(crate) fn oldest_seq(&self) -> SeqNo {
        self.segments.lock().front().map_or(0, |segment| segment.first_seq)
    }

    /// Every operation up to `seq` survives a power loss.
    pub(crate) fn synced_up_to(&self, seq: SeqNo) {
        self.synced_seq.fetch_max(seq, Ordering::AcqRel);
    }

    /// Every operation up to this one survives a power loss.
    pub(crate) fn synced_seq(&self) -> SeqNo {
        self.synced_seq.load(Ordering::Acquire)
    }
}

impl FeedSegment {
    fn live(id: FileId, first_seq: SeqNo) -> FeedSegment {
        FeedSegment { id, first_seq, bytes: 0, flushed: false, marks: Vec::new() }
    }
}

/// The segments among the files of a recovered database that are kept, oldest first: the newest ones that
/// have operations, up to `bytes_max`. All their operations are in tables.
///
/// Of each one the first record is read. One that is damaged has no place among the others: to lose it costs
/// the feed what is older, and an open that fails would cost more. But a file that can't be read now may be
/// read later, and is no reason to remove it: then the open fails.
pub(crate) fn kept_segments(
    home: &Home,
    files: &[FileKind],
    last_seq: SeqNo,
    bytes_max: u64,
) -> Result<Vec<FeedSegment>> {
    let segment = |file: &FileKind| if let FileKind::Wal(id) = file { Some(*id) } else { None };
    let mut ids: Vec<FileId> = files.iter().filter_map(segment).collect();
    ids.sort_unstable();
    let mut kept = VecDeque::new();
    let (mut bytes_left, mut next_seq) = (bytes_max, last_seq + 1);
    while let Some(id) = ids.pop().filter(|_| bytes_left > 0) {
        let (first_seq, bytes) = match look_into(home, id) {
            Ok(Some(found)) => found,
            Ok(None) | Err(Error::Corruption { .. } | Error::UnsupportedFormat { .. }) => continue,
            Err(error) => return Err(error),
        };
        if first_seq >= next_seq || bytes > bytes_left {
            break;
        }
        next_seq = first_seq;
        bytes_left -= bytes;
        kept.push_front(FeedSegment { bytes, flushed: true, ..FeedSegment::live(id, first_seq) });
    }
    Ok(kept.into())
}

/// The first sequence number of a segment, and the length of its file; `None` where it has no operation.
fn look_into(home: &Home, id: FileId) -> Result<Option<(SeqNo, u64)>> {
    let path = id.wal_path(&home.dir);
    let follower = SegmentFollower::open(&*home.fs, &path, home.database, id)?;
    let Some(mut follower) = follower else { return Ok(None) };
    let Some(first_seq) = follower.peek()? else { return Ok(None) };
    Ok(Some((first_seq, follower.file_bytes()?)))
}
