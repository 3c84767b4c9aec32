use std::cell::Cell;

use super::*;
use crate::compaction::retention::Outside;
use crate::error::Error;
use crate::key::{Tag, ValueKind, ValueType};

/// `key@ts=value`; `key@ts.` is an end, `key@ts!` an erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compaction) struct Row {
    key: String,
    ts: Timestamp,
    tag: Tag,
    value: String,
}

impl Row {
    fn parse(word: &str) -> Row {
        let (key, rest) = word.split_once('@').expect("a row is key@ts=value");
        let (ts, tag, value) = match rest.split_once('=') {
            Some((ts, value)) => (ts, Tag::put(ValueType::Octets), value),
            None => match rest.strip_suffix('!') {
                Some(ts) => (ts, Tag::ERASE, ""),
                None => (rest.strip_suffix('.').expect("an end is key@ts."), Tag::END, ""),
            },
        };
        let ts = ts.parse().expect("a timestamp");
        Row { key: key.to_owned(), ts, tag, value: value.to_owned() }
    }

    fn record(&self) -> Record<'_> {
        Record {
            key: self.key.as_bytes(),
            ts: self.ts,
            tag: self.tag,
            value: self.value.as_bytes(),
        }
    }
}

/// Rows in chunks: `[a@1=x a@2=y] b@1=z`, where those in brackets are a chunk that is large enough to
/// be copied, and the others are in chunks of their own that are too small.
pub(in crate::compaction) struct Rows {
    chunks: Vec<(Vec<Row>, bool)>,
    chunk: usize,
    row: usize,
}

impl Rows {
    pub(in crate::compaction) fn parse(line: &str) -> Rows {
        let mut chunks: Vec<(Vec<Row>, bool)> = Vec::new();
        let mut inside = false;
        for word in line.split_whitespace() {
            let row = Row::parse(word.trim_matches(['[', ']']));
            if word.starts_with('[') || !inside {
                chunks.push((vec![row], word.starts_with('[')));
                inside = word.starts_with('[');
            } else {
                chunks.last_mut().unwrap().0.push(row);
            }
            inside &= !word.ends_with(']');
        }
        Rows { chunks, chunk: 0, row: 0 }
    }
}

impl MergeSource for Rows {
    type Chunk<'c> = &'c [Row];

    fn head(&self) -> Option<(&[u8], Timestamp)> {
        let row = self.chunks.get(self.chunk)?.0.get(self.row)?;
        Some((row.key.as_bytes(), row.ts))
    }

    fn chunk(&self, horizon: Timestamp) -> Option<(ChunkShape<'_>, &[Row])> {
        let (rows, is_large) = self.chunks.get(self.chunk)?;
        let last = rows.last().unwrap();
        let shape = ChunkShape {
            last_key: last.key.as_bytes(),
            last_ts: last.ts,
            rows: if *is_large { COPY_ROWS_MIN } else { COPY_ROWS_MIN - 1 },
            raw_bytes: 0,
            first_tag: rows[0].tag,
            may_be_stale: rows.iter().any(|row| row.ts <= horizon),
            has_erases: rows.iter().any(|row| row.tag == Tag::ERASE),
        };
        (self.row == 0).then_some((shape, rows))
    }

    fn pass_chunk(&mut self) -> Result<()> {
        assert_eq!(self.row, 0);
        self.chunk += 1;
        Ok(())
    }

    fn record(&mut self) -> Result<Record<'_>> {
        Ok(self.chunks[self.chunk].0[self.row].record())
    }

    fn pass_record(&mut self) -> Result<()> {
        self.row += 1;
        if self.row == self.chunks[self.chunk].0.len() {
            (self.chunk, self.row) = (self.chunk + 1, 0);
        }
        Ok(())
    }
}

/// What was written, as the cases write it: copied chunks in brackets.
#[derive(Default)]
pub(in crate::compaction) struct Written(pub(in crate::compaction) Vec<String>);

fn shown(record: &Record<'_>) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes);
    let (key, ts) = (text(record.key), record.ts);
    if record.tag.kind() != ValueKind::Put {
        let sign = if record.tag == Tag::END { '.' } else { '!' };
        return format!("{key}@{ts}{sign}");
    }
    format!("{key}@{ts}={}", text(record.value))
}

impl MergeSink<Rows> for Written {
    fn add_record(&mut self, record: &Record<'_>) -> Result<()> {
        self.0.push(shown(record));
        Ok(())
    }

    fn add_chunk(&mut self, first: (&[u8], Timestamp), chunk: &[Row]) -> Result<()> {
        assert_eq!(first, (chunk[0].key.as_bytes(), chunk[0].ts));
        let rows: Vec<_> = chunk.iter().map(|row| shown(&row.record())).collect();
        self.0.push(format!("[{}]", rows.join(" ")));
        Ok(())
    }
}

/// Rules without a horizon.
fn rules(drops_erases: bool) -> Rules<'static> {
    Rules { horizon: Timestamp::MIN, drops_erases, outside: &Nothing }
}

/// There is no other source.
struct Nothing;

impl Outside for Nothing {
    fn may_erase(&self, _: &[u8], _: Timestamp) -> bool {
        false
    }

    fn may_hold(&self, _: &[u8], _: Timestamp) -> bool {
        false
    }
}

fn merged(sources: &[&str], drops_erases: bool) -> String {
    let mut sources: Vec<Rows> = sources.iter().map(|line| Rows::parse(line)).collect();
    let mut written = Written::default();
    merge(&mut sources, &mut written, &rules(drops_erases), &|| Ok(())).unwrap();
    written.0.join(" ")
}

#[test]
fn the_newest_source_of_a_record_stands() {
    let sources = ["b@1=new d@4=new", "a@1=mid b@1=mid d@3=mid d@4=mid", "b@1=old b@2=old c@1=old"];
    let expected = "a@1=mid b@1=new b@2=old c@1=old d@3=mid d@4=new";
    assert_eq!(merged(&sources, false), expected);
    assert_eq!(merged(&sources[..1], false), "b@1=new d@4=new");
    assert_eq!(merged(&[], false), "");
    assert_eq!(merged(&["", "a@1=x", ""], false), "a@1=x");
}

#[test]
fn erases_hide_and_are_dropped_where_nothing_is_older() {
    let sources = ["a@1! b@1=x", "a@1=hidden a@2!"];
    assert_eq!(merged(&sources, false), "a@1! a@2! b@1=x");
    assert_eq!(merged(&sources, true), "b@1=x");
}

#[test]
fn a_chunk_is_copied_where_no_other_record_comes_between_its_own() {
    // Later versions of each key: all of them.
    let sources = ["[a@3=n a@4=n] [b@3=n b@4=n]", "[a@1=o a@2=o] [b@1=o b@2=o]"];
    let expected = "[a@1=o a@2=o] [a@3=n a@4=n] [b@1=o b@2=o] [b@3=n b@4=n]";
    assert_eq!(merged(&sources, false), expected);
    // A late version: its chunk is decoded, the others not.
    let sources = ["a@2=late", "[a@1=o a@3=o] [a@4=o a@5=o]"];
    assert_eq!(merged(&sources, false), "a@1=o a@2=late a@3=o [a@4=o a@5=o]");
    // The same version: at the beginning of a chunk, and at its end.
    let sources = ["[a@3=n a@4=n]", "[a@1=o a@2=o a@3=o] a@9=o"];
    assert_eq!(merged(&sources, false), "a@1=o a@2=o [a@3=n a@4=n] a@9=o");
    let sources = ["[a@1=n a@3=n]", "[a@3=o a@4=o] [a@5=o a@6=o]"];
    assert_eq!(merged(&sources, false), "a@1=n a@3=n a@4=o [a@5=o a@6=o]");
}

#[test]
fn small_chunks_are_decoded_so_that_they_grow() {
    let sources = ["a@3=n", "a@1=o a@2=o [a@5=o a@6=o]"];
    assert_eq!(merged(&sources, false), "a@1=o a@2=o a@3=n [a@5=o a@6=o]");
}

#[test]
fn a_chunk_with_erases_is_decoded_where_they_are_dropped() {
    let sources = ["[a@1! a@2=x] [b@1=x b@2=x]"];
    assert_eq!(merged(&sources, false), "[a@1! a@2=x] [b@1=x b@2=x]");
    assert_eq!(merged(&sources, true), "a@2=x [b@1=x b@2=x]");
}

/// Not only by the number of records, which may be huge.
#[test]
fn a_merge_of_huge_values_gives_way_at_each() {
    let rows: Vec<String> =
        (0..6).map(|ts| format!("a@{ts}={}", "v".repeat(GIVE_WAY_BYTES))).collect();
    let line = rows.join(" ");
    let mut sources = [Rows::parse(&line)];
    let calls = Cell::new(0);
    let give_way = || {
        calls.set(calls.get() + 1);
        if calls.get() == 3 { Err(Error::Closed) } else { Ok(()) }
    };
    let mut written = Written::default();
    let merged = merge(&mut sources, &mut written, &rules(false), &give_way);
    assert!(matches!(merged, Err(Error::Closed)));
    assert_eq!(written.0.len(), 3);
}

#[test]
fn a_merge_of_small_records_gives_way_too() {
    let records = 3 * GIVE_WAY_BYTES / RECORD_BYTES;
    let rows: Vec<String> = (0..records).map(|ts| format!("a@{ts}=")).collect();
    let line = rows.join(" ");
    let mut sources = [Rows::parse(&line), Rows::parse(&line)];
    let calls = Cell::new(0);
    let mut written = Written::default();
    let give_way = || {
        calls.set(calls.get() + 1);
        Ok(())
    };
    merge(&mut sources, &mut written, &rules(false), &give_way).unwrap();
    assert_eq!(written.0.len(), records);
    assert!(calls.get() >= 3, "{}", calls.get());
}
