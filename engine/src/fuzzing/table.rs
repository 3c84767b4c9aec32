//! A whole table, of which every checksum is right.

use std::ops::Bound;
use std::sync::Arc;

use crate::error::Result;
use crate::inspect::check_table;
use crate::iter::{Cursor, Order, Versions};
use crate::key::{KeyHash, Tag, Timestamp};
use crate::table::fuzzing::{copy_chunks, open, put_right, read_chunk};
use crate::table::{TableCursor, TableHistory, TableProbe, TableReader, Wanted};

/// Questions that are asked of a table, of each kind.
const QUESTIONS: usize = 8;

/// More records than a small file mostly has: the rest is not read.
const RECORDS_MAX: usize = 2000;

type OwnedRecord = (Vec<u8>, Timestamp, Tag, Vec<u8>);

/// A file. Where a deep verification finds no fault with it, everything that reads it agrees; whatever else
/// it is, reading ends.
pub(super) fn table(data: &[u8]) {
    let mut file = data.to_vec();
    put_right(&mut file);
    let Ok(table) = open(file).map(Arc::new) else { return };
    assert!((0.0..=1.0).contains(&table.filter().fill()));
    let is_sound = check_table(&table).is_ok();
    read_blocks(&table);
    let records = scan(&table, b"", Timestamp::MIN);
    if !is_sound {
        let records = records.unwrap_or_default();
        let keys = records.iter().map(|record| &record.0[..]);
        for key in keys.step_by(1 + records.len() / QUESTIONS).chain([&b""[..], b"k"]) {
            let _ = ask(&table, key, 0);
            let _ = scan(&table, key, 0);
        }
        let _ = (walk(&table, 0, Order::Ascending), walk(&table, i64::MAX, Order::Descending));
        let _ = copy_chunks(&table);
        return;
    }
    let records = records.expect("what was verified");
    assert_eq!(copy_chunks(&table).expect("what was verified"), records);
    for at in (0..records.len()).step_by(1 + records.len() / QUESTIONS) {
        let (key, ts, ..) = &records[at];
        let versions: Vec<_> = records.iter().filter(|other| other.0 == *key).cloned().collect();
        assert!(table.may_contain(KeyHash::of(key), *ts));
        for at in [*ts, ts.saturating_sub(1), ts.saturating_add(1), Timestamp::MAX] {
            let expected = versions.iter().rfind(|other| other.1 <= at).cloned();
            assert_eq!(floor(&table, key, at).expect("what was verified"), expected);
        }
        for order in [Order::Ascending, Order::Descending] {
            let mut found = history(&table, key, order).expect("what was verified");
            if order == Order::Descending {
                found.reverse();
            }
            assert_eq!(found, versions);
        }
        assert_eq!(scan(&table, key, *ts).expect("what was verified"), records[at..]);
        let mut expected: Vec<OwnedRecord> = Vec::new();
        for record in records.iter().filter(|other| other.1 <= *ts) {
            if expected.last().is_some_and(|last| last.0 == record.0) {
                expected.pop();
            }
            expected.push(record.clone());
        }
        assert_eq!(walk(&table, *ts, Order::Ascending).expect("what was verified"), expected);
        expected.reverse();
        assert_eq!(walk(&table, *ts, Order::Descending).expect("what was verified"), expected);
    }
}

fn read_blocks(table: &TableReader) {
    for number in 0..table.index().len() {
        let Ok(block) = table.block(number) else { continue };
        for chunk_no in 0..block.chunks() {
            if let Ok(chunk) = block.chunk(chunk_no) {
                read_chunk(&block, chunk_no, &chunk);
            }
        }
    }
}

fn scan(table: &Arc<TableReader>, key: &[u8], ts: Timestamp) -> Result<Vec<OwnedRecord>> {
    let mut cursor = TableCursor::new(Arc::clone(table));
    cursor.seek(key, ts)?;
    let mut found = Vec::new();
    while let Some(record) = cursor.record().filter(|_| found.len() < RECORDS_MAX) {
        found.push((record.key.to_vec(), record.ts, record.tag, record.value.to_vec()));
        cursor.next()?;
    }
    Ok(found)
}

fn ask(table: &Arc<TableReader>, key: &[u8], at: Timestamp) -> Result<()> {
    floor(table, key, at)?;
    history(table, key, Order::Ascending)?;
    history(table, key, Order::Descending)?;
    let mut probe = TableProbe::new(table);
    for bound in [Bound::Included(key), Bound::Excluded(key)] {
        for order in [Order::Ascending, Order::Descending] {
            probe.seek(bound, order)?;
        }
    }
    Ok(())
}

fn floor(table: &TableReader, key: &[u8], at: Timestamp) -> Result<Option<OwnedRecord>> {
    let Some(found) = table.floor(key, at)? else { return Ok(None) };
    let in_order = TableProbe::new(table).floor(key, at)?;
    assert_eq!(in_order, Some((found.ts, found.tag)));
    Ok(Some((key.to_vec(), found.ts, found.tag, found.value()?)))
}

fn history(table: &Arc<TableReader>, key: &[u8], order: Order) -> Result<Vec<OwnedRecord>> {
    let wanted = Wanted { key: key.to_vec(), from: Timestamp::MIN, to: Timestamp::MAX, order };
    let (mut history, mut versions) = (TableHistory::new(Arc::clone(table)), Versions::default());
    let mut found = Vec::new();
    loop {
        history.read(&wanted, &mut versions)?;
        if versions.left.is_empty() || found.len() >= RECORDS_MAX {
            return Ok(found);
        }
        let read = versions.left.clone().map(|index| {
            let entry = versions.entry(index);
            (key.to_vec(), entry.ts, versions.tags[index], entry.value.to_vec())
        });
        match order {
            Order::Ascending => found.extend(read),
            Order::Descending => found.extend(read.rev()),
        }
    }
}

/// The floor of every key at one moment, by a walk in this order.
fn walk(table: &TableReader, at: Timestamp, order: Order) -> Result<Vec<OwnedRecord>> {
    let mut probe = TableProbe::new(table);
    probe.seek(Bound::Unbounded, order)?;
    let (mut found, mut steps) = (Vec::new(), 0);
    while let Some(key) = probe.key().filter(|_| steps < RECORDS_MAX).map(<[u8]>::to_vec) {
        if let Some((ts, tag)) = probe.floor(&key, at)? {
            let mut value = Vec::new();
            probe.value_into(&mut value)?;
            found.push((key, ts, tag, value));
        }
        probe.step(order)?;
        steps += 1;
    }
    Ok(found)
}
