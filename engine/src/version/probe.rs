//! Many questions to one run: those to its tables, see [`TableProbe`].

use std::ops::Bound;

use super::run::{Run, Table, first, last};
use crate::error::Result;
use crate::iter::Order;
use crate::key::{KeyHash, Tag, Timestamp};
use crate::table::TableProbe;

/// A place among the keys of a run. It opens no table that can't hold what is asked for.
pub(crate) struct RunProbe<'v> {
    run: &'v Run,
    /// The least and the greatest timestamp of all records.
    pub(crate) ts_min: Timestamp,
    pub(crate) ts_max: Timestamp,
    /// The table that `probe` is in.
    table_no: usize,
    probe: Option<TableProbe<'v>>,
    /// Whether no other table has the key.
    has_key_alone: bool,
}

impl<'v> RunProbe<'v> {
    pub(crate) fn new(run: &'v Run) -> Self {
        RunProbe {
            run,
            ts_min: run.min_ts(),
            ts_max: run.max_ts(),
            table_no: 0,
            probe: None,
            has_key_alone: false,
        }
    }

    /// The floors that follow are those of `key` up to `at`; `false`: the run has no version of it so
    /// early.
    pub(crate) fn begin(&mut self, key: &[u8], hash: KeyHash, at: Timestamp) -> bool {
        let tables = self.run.tables();
        let first_no = tables.partition_point(|table| last(table).0 < key);
        let Some(table) = tables.get(first_no).filter(|table| first(table).0 <= key) else {
            return false;
        };
        self.has_key_alone = last(table).0 > key;
        if self.has_key_alone && !table.reader.may_contain(hash, at) {
            return false;
        }
        self.enter(first_no).begin();
        true
    }

    /// See [`TableProbe::floor`].
    pub(crate) fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Tag)>> {
        if !self.has_key_alone {
            let Some(table_no) = self.run.table_no_for(key, at) else { return Ok(None) };
            if table_no != self.table_no || self.probe.is_none() {
                let mut other = TableProbe::new(&self.run.tables()[table_no].reader);
                let found = other.floor(key, at)?;
                if found.is_some() {
                    if self.key().is_some() {
                        other.walk_on(key);
                    }
                    (self.table_no, self.probe) = (table_no, Some(other));
                }
                return Ok(found);
            }
        }
        self.probe.as_mut().map_or(Ok(None), |probe| probe.floor(key, at))
    }

    /// Appends the value of the last floor.
    pub(crate) fn value_into(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.probe.as_mut().expect("a value of a floor").value_into(out)
    }

    /// The key that a walk stands on; `None` past its end.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.probe.as_ref()?.key()
    }

    /// Begins a walk at the first key in this order that lies within `bound`.
    pub(crate) fn seek(&mut self, bound: Bound<&[u8]>, order: Order) -> Result<()> {
        self.probe = None;
        let tables = self.run.tables();
        let table_no = match (bound, order) {
            (Bound::Unbounded, Order::Ascending) => Some(0),
            (Bound::Unbounded, Order::Descending) => Some(tables.len() - 1),
            (Bound::Included(key) | Bound::Excluded(key), Order::Ascending) => {
                Some(tables.partition_point(|table| last(table).0 < key))
            }
            (Bound::Included(key) | Bound::Excluded(key), Order::Descending) => {
                tables.partition_point(|table| first(table).0 <= key).checked_sub(1)
            }
        };
        self.settle(table_no, bound, order)
    }

    /// Goes to the next key in this order. It must stand on one.
    pub(crate) fn step(&mut self, order: Order) -> Result<()> {
        let probe = self.probe.as_mut().expect("a walk that stands on a key");
        let Some(passed) = probe.step(order)? else {
            self.know_key();
            return Ok(());
        };
        // The next table may have more versions of the same key.
        let next = match order {
            Order::Ascending => Some(self.table_no + 1),
            Order::Descending => self.table_no.checked_sub(1),
        };
        self.settle(next, Bound::Excluded(&passed), order)
    }

    /// Stands on the first key within `bound` of this table and those behind it.
    fn settle(
        &mut self,
        mut table_no: Option<usize>,
        bound: Bound<&[u8]>,
        order: Order,
    ) -> Result<()> {
        while let Some(at) = table_no.filter(|&at| at < self.run.tables().len()) {
            let probe = self.enter(at);
            probe.seek(bound, order)?;
            if probe.key().is_some() {
                self.know_key();
                return Ok(());
            }
            table_no = match order {
                Order::Ascending => Some(at + 1),
                Order::Descending => at.checked_sub(1),
            };
        }
        self.probe = None;
        Ok(())
    }

    fn know_key(&mut self) {
        let table = &self.run.tables()[self.table_no];
        let key = self.key();
        self.has_key_alone = self.run.tables().len() == 1
            || key.is_some_and(|key| first(table).0 < key && key < last(table).0);
    }

    fn enter(&mut self, table_no: usize) -> &mut TableProbe<'v> {
        if self.table_no != table_no {
            self.probe = None;
        }
        self.table_no = table_no;
        let table: &'v Table = &self.run.tables()[table_no];
        self.probe.get_or_insert_with(|| TableProbe::new(&table.reader))
    }
}
