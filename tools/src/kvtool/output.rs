//! Rows to stdout: tables for people, JSON for programs.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

/// A table of more rows is printed in parts, so that a long one needs no more memory, and its
/// beginning no wait.
const TABLE_ROWS_MAX: usize = 1000;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns
    Table,
    /// One array of all rows
    Json,
    /// An object a line
    Ndjson,
}

impl Format {
    /// What stdout is best served with.
    pub(super) fn of_stdout() -> Format {
        if io::stdout().is_terminal() { Format::Table } else { Format::Ndjson }
    }
}

/// A row of some kind. Its members are what JSON shows.
pub(super) trait Row: Serialize {
    /// The member `row` of the JSON.
    const KIND: &'static str;
    /// What a table calls its cells.
    const COLUMNS: &'static [&'static str];
    /// Whether each row is a table of its own, a line a column.
    const CARD: bool = false;

    /// As many as there are columns.
    fn cells(&self) -> Vec<Cell>;
}

#[derive(Serialize)]
struct Tagged<'r, R> {
    row: &'static str,
    #[serde(flatten)]
    members: &'r R,
}

/// Where rows go.
pub(super) struct Output {
    /// `None`: nowhere.
    format: Option<Format>,
    out: BufWriter<StdoutLock<'static>>,
    /// The rows of one kind that are not yet printed.
    table: Option<(&'static str, Table)>,
    /// What the next table is about.
    heading: Option<String>,
    /// Rows of the JSON array so far.
    rows: u64,
}

impl Output {
    pub(super) fn new(format: Option<Format>) -> Output {
        let out = BufWriter::new(io::stdout().lock());
        Output { format, out, table: None, heading: None, rows: 0 }
    }

    /// Whether people read it.
    pub(super) fn is_table(&self) -> bool {
        self.format == Some(Format::Table)
    }

    /// The tables that follow are about this.
    pub(super) fn heading(&mut self, heading: impl Into<String>) -> io::Result<()> {
        self.print_table()?;
        self.heading = Some(heading.into());
        Ok(())
    }

    /// Prints a row, now or together with those that follow.
    pub(super) fn row<R: Row>(&mut self, row: &R) -> io::Result<()> {
        let Some(format) = self.format else { return Ok(()) };
        if format == Format::Table {
            return self.table_row(row);
        }
        match (format, self.rows) {
            (Format::Json, 0) => self.out.write_all(b"[\n")?,
            (Format::Json, _) => self.out.write_all(b",\n")?,
            _ => {}
        }
        self.rows += 1;
        serde_json::to_writer(&mut self.out, &Tagged { row: R::KIND, members: row })?;
        if format == Format::Ndjson { self.out.write_all(b"\n") } else { Ok(()) }
    }

    fn table_row<R: Row>(&mut self, row: &R) -> io::Result<()> {
        let is_full = |table: &Table| R::CARD || table.row_count() == TABLE_ROWS_MAX;
        if self.table.as_ref().is_some_and(|(kind, table)| *kind != R::KIND || is_full(table)) {
            self.print_table()?;
        }
        let cells = row.cells();
        assert_eq!(cells.len(), R::COLUMNS.len(), "a {} row has a cell for each column", R::KIND);
        let (_, table) = self.table.get_or_insert_with(|| {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            if !R::CARD {
                table.set_header(R::COLUMNS.to_vec());
            }
            (R::KIND, table)
        });
        if R::CARD {
            for (column, cell) in R::COLUMNS.iter().zip(cells) {
                table.add_row(vec![text(column), cell.set_alignment(CellAlignment::Left)]);
            }
        } else {
            table.add_row(cells);
        }
        Ok(())
    }

    /// Prints a line between tables.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        if self.is_table() {
            self.print_table()?;
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn print_table(&mut self) -> io::Result<()> {
        let Some((_, mut table)) = self.table.take() else { return Ok(()) };
        if let Some(heading) = self.heading.take() {
            writeln!(self.out, "{heading}")?;
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        writeln!(self.out, "{}\n", table.trim_fmt())
    }

    /// Prints what was held back.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.print_table()?;
        self.out.flush()
    }

    /// Prints what was held back, and the end of the JSON.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match (self.format, self.rows) {
            (Some(Format::Json), 0) => self.out.write_all(b"[]\n")?,
            (Some(Format::Json), _) => self.out.write_all(b"\n]\n")?,
            _ => {}
        }
        self.flush()
    }
}

/// A cell of words.
pub(super) fn text(what: impl ToString) -> Cell {
    Cell::new(what)
}

/// A cell whose last digit stands under the last digit of those above.
pub(super) fn number(what: impl ToString) -> Cell {
    Cell::new(what).set_alignment(CellAlignment::Right)
}

/// A number that may be missing.
pub(super) fn number_or_none(what: Option<impl ToString>) -> Cell {
    number(what.map_or_else(|| "-".to_owned(), |what| what.to_string()))
}
