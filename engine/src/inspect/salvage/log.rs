//! What can be read of the log: the records that are sound, in order, also behind damage.

use std::path::{Path, PathBuf};

use super::report::{Lost, Returns, Salvaged};
use crate::batch::{Op, Ops};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::key::{DatabaseId, FileId, SEQ_NO_MAX, SeqNo};
use crate::record::{LogKind, LogRecord, RecordReader};
use crate::wal::Payload;

/// Reads segments in the order of their ids. What was lost between two sound records is told by their
/// sequence numbers, as those go on without a gap.
pub(super) struct LogSource<'a> {
    pub(super) fs: &'a dyn Fs,
    pub(super) dir: &'a Path,
    pub(super) database: DatabaseId,
    /// The sequence number of the next operation; those below it are in tables.
    pub(super) next_seq: SeqNo,
    /// Damage behind which no sound record has come yet.
    pub(super) damage: Option<LogDamage>,
}

/// A stretch of a segment that can't be read.
pub(super) struct LogDamage {
    pub(super) error: Error,
    pub(super) file: PathBuf,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

type Take<'t> = dyn FnMut(SeqNo, &Op<'_>) -> Result<()> + 't;

impl LogSource<'_> {
    /// Hands the operations of the segments to `take`, whose error ends the salvage. The first one that
    /// is needed is `oldest`, where that is known.
    pub(super) fn read(
        &mut self,
        segments: &[FileId],
        oldest: Option<FileId>,
        salvaged: &mut Salvaged,
        take: &mut Take<'_>,
    ) -> Result<()> {
        let mut expected = oldest;
        for &id in segments {
            if let Some(missing) = expected.take().filter(|&expected| expected < id) {
                self.miss(missing, salvaged);
            }
            let is_needed = Some(id) == oldest;
            let path = id.wal_path(self.dir);
            if let Some(mut reader) = self.open(&path, id, is_needed, salvaged) {
                expected = self.segment(&mut reader, &path, salvaged, take)?;
            }
        }
        if let Some(missing) = expected {
            self.miss(missing, salvaged);
        }
        self.tell(SEQ_NO_MAX, salvaged);
        Ok(())
    }

    fn miss(&mut self, segment: FileId, salvaged: &mut Salvaged) {
        let file = segment.wal_path(self.dir);
        let error = Error::corruption(&file, 0, "the file is missing: the log goes on in it");
        self.meet(LogDamage { error, file, offset: 0, bytes: 0 }, salvaged);
    }

    fn open(
        &mut self,
        path: &Path,
        id: FileId,
        is_needed: bool,
        salvaged: &mut Salvaged,
    ) -> Option<RecordReader> {
        let (fs, database) = (self.fs, self.database);
        let error = match RecordReader::open(fs, path, LogKind::Wal, Some(database), id) {
            Ok(None) if !is_needed => return None,
            Ok(None) => Error::corruption(path, 0, "expected a header, which had been durable"),
            Ok(reader) => return reader,
            Err(error) => error,
        };
        let file = path.to_owned();
        self.meet(LogDamage { error, file, offset: 0, bytes: 0 }, salvaged);
        match RecordReader::open_damaged(fs, path, database, id) {
            Ok(reader) => Some(reader),
            Err(error) => {
                let file = path.to_owned();
                self.meet(LogDamage { error, file, offset: 0, bytes: 0 }, salvaged);
                None
            }
        }
    }

    /// Returns the segment that follows, where this one names it.
    fn segment(
        &mut self,
        reader: &mut RecordReader,
        path: &Path,
        salvaged: &mut Salvaged,
        take: &mut Take<'_>,
    ) -> Result<Option<FileId>> {
        let mut next_segment = None;
        loop {
            match reader.next() {
                Ok(Some(record)) => match Payload::decode(&record) {
                    Ok(Payload::Batch { first_seq, count, ops }) => {
                        self.check_follows(path, &record, first_seq, salvaged);
                        for (seq, op) in (first_seq..).zip(Ops::new(ops)) {
                            let op = op.map_err(|m| m.in_file(path, record.payload_offset()))?;
                            if seq >= self.next_seq {
                                take(seq, &op)?;
                                salvaged.operations += 1;
                            }
                        }
                        self.next_seq = self.next_seq.max(first_seq + u64::from(count));
                    }
                    Ok(Payload::Seal { last_seq, next }) => {
                        let after = last_seq.saturating_add(1).min(SEQ_NO_MAX);
                        self.check_follows(path, &record, after, salvaged);
                        self.next_seq = self.next_seq.max(after);
                        next_segment = next;
                    }
                    Err(malformed) => {
                        let error = malformed.in_file(path, record.payload_offset());
                        let (file, offset) = (path.to_owned(), record.offset);
                        let bytes = record.payload_offset() - offset + record.payload.len() as u64;
                        self.meet(LogDamage { error, file, offset, bytes }, salvaged);
                    }
                },
                Ok(None) => {
                    if next_segment.is_none() && reader.end().torn {
                        let (offset, next) = (reader.end().offset, self.next_seq);
                        salvaged.notes.push(format!(
                            "{}: torn at offset {offset}: what follows, from sequence number {next} \
                             on, was never known to be durable, and is left out",
                            path.display()
                        ));
                    }
                    return Ok(next_segment);
                }
                Err(error) => {
                    let offset = reader.offset();
                    let goes_on = reader.skip_damage();
                    let bytes = reader.offset() - offset;
                    let file = path.to_owned();
                    self.meet(LogDamage { error, file, offset, bytes }, salvaged);
                    if !goes_on {
                        return Ok(next_segment);
                    }
                }
            }
        }
    }

    /// Takes note of damage; what it cost, the next sound record tells.
    fn meet(&mut self, damage: LogDamage, salvaged: &mut Salvaged) {
        match &self.damage {
            // Nothing sound lies between the two, so that one range of sequence numbers is missing.
            Some(first) => {
                let (first, error) = (first.file.display(), &damage.error);
                salvaged.notes.push(format!("{error}; nothing is sound from {first} up to here"));
            }
            None => self.damage = Some(damage),
        }
    }

    /// A record begins with `seq`: what is missing before it is lost.
    fn check_follows(
        &mut self,
        path: &Path,
        record: &LogRecord<'_>,
        seq: SeqNo,
        salvaged: &mut Salvaged,
    ) {
        if seq > self.next_seq && self.damage.is_none() {
            let expected = self.next_seq;
            let what = format!("expected to go on with sequence number {expected}, not {seq}");
            let error = Error::corruption(path, record.offset, what);
            let (file, offset) = (path.to_owned(), record.offset);
            self.damage = Some(LogDamage { error, file, offset, bytes: 0 });
        }
        self.tell(seq - 1, salvaged);
    }

    /// Tells what the damage has cost, up to this sequence number.
    fn tell(&mut self, last_seq: SeqNo, salvaged: &mut Salvaged) {
        let Some(LogDamage { error, file, offset, bytes }) = self.damage.take() else { return };
        if last_seq < self.next_seq {
            salvaged.notes.push(format!("{error}; no operation is missing"));
            return;
        }
        let seqs = Some((self.next_seq, last_seq));
        let (keys, times, returns) = (None, None, Returns::ANY);
        salvaged.lose(Lost { error, file, offset, bytes, blocks: 0, keys, times, seqs, returns });
    }
}
