//! Values apart: which share a skeleton, and where its holes are.
//!
//! A value is a sequence of *atoms* with one separator byte between each two; an atom is a quoted
//! string, unless it begins with a date, or else a run without separators, and may be empty. Values with
//! the same separators have the same *shape*. An atom is part of the skeleton's literals until a value
//! of the shape has another there: from then on it is a hole. Most values are parsed by comparing the
//! literals between the holes of the shape of the value before; only where that fails is a value split
//! into all its atoms.
//!
//! Any way to split a value is right, because a skeleton renders what stands between the holes too;
//! this one makes the holes few and their columns narrow.

use super::SKELETONS_MAX;

/// The most atoms of a value.
const ATOMS_MAX: usize = 512;

const IS_SEPARATOR: [bool; 256] = {
    let mut table = [false; 256];
    let separators = b" \t\r\n{}[]()<>,:;=|&";
    let mut i = 0;
    while i < separators.len() {
        table[separators[i] as usize] = true;
        i += 1;
    }
    table
};

/// A range of the run of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    pub(super) fn of(self, values: &[u8]) -> &[u8] {
        &values[self.start as usize..self.end as usize]
    }
}

/// Values that one skeleton renders.
pub(super) struct Shape {
    separators: Vec<u8>,
    /// The atoms of the first value.
    atoms: Vec<Span>,
    /// The first value.
    pub(super) first: Span,
    /// Which values they are, ascending.
    pub(super) rows: Vec<i64>,
    /// In order of their atoms.
    pub(super) holes: Vec<Hole>,
}

/// An atom that is not the same in all values of the shape.
pub(super) struct Hole {
    atom: usize,
    /// One a row.
    pub(super) spans: Vec<Span>,
}

/// The shapes found so far.
pub(super) struct Shapes<'a> {
    values: &'a [u8],
    found: Vec<Shape>,
    /// Of the value at hand, as are the atoms.
    separators: Vec<u8>,
    atoms: Vec<Span>,
}

impl<'a> Shapes<'a> {
    /// The shapes of these values, each of one row at least; `None` where there is no value or there
    /// are too many shapes.
    pub(super) fn of(values: &'a [u8], ends: &[i64]) -> Option<Vec<Shape>> {
        let last_end = usize::try_from(*ends.last()?).ok()?;
        if last_end != values.len() || u32::try_from(last_end).is_err() {
            return None;
        }
        let mut parser =
            Shapes { values, found: Vec::new(), separators: Vec::new(), atoms: Vec::new() };
        let (mut start, mut shape) = (0, 0);
        for (row, &end) in ends.iter().enumerate() {
            let end = usize::try_from(end).ok().filter(|&end| start <= end && end <= last_end)?;
            if !parser.predict(shape, start, end) {
                shape = parser.split(start, end)?;
            }
            parser.found[shape].rows.push(row as i64);
            start = end;
        }
        Some(parser.found)
    }

    /// Takes the value if it differs from the first one of `shape` in its holes only.
    fn predict(&mut self, shape: usize, start: usize, end: usize) -> bool {
        let Some(shape) = self.found.get_mut(shape) else { return false };
        self.atoms.clear();
        let (mut at, mut literal_start) = (start, shape.first.start as usize);
        for hole in &shape.holes {
            let first = hole.spans[0];
            let literal = &self.values[literal_start..first.start as usize];
            if !self.values[at..end].starts_with(literal) {
                return false;
            }
            at += literal.len();
            let atom_end = atom_end(&self.values[..end], at);
            self.atoms.push(Span::new(at, atom_end));
            (at, literal_start) = (atom_end, first.end as usize);
        }
        if self.values[at..end] != self.values[literal_start..shape.first.end as usize] {
            return false;
        }
        for (hole, &span) in shape.holes.iter_mut().zip(&self.atoms) {
            hole.spans.push(span);
        }
        true
    }

    /// Takes the value by its atoms: its shape.
    fn split(&mut self, start: usize, end: usize) -> Option<usize> {
        self.separators.clear();
        self.atoms.clear();
        let mut at = start;
        loop {
            let atom_end = atom_end(&self.values[..end], at);
            self.atoms.push(Span::new(at, atom_end));
            if atom_end == end {
                break;
            }
            self.separators.push(self.values[atom_end]);
            if self.atoms.len() == ATOMS_MAX {
                return None;
            }
            at = atom_end + 1;
        }
        if let Some(known) = self.found.iter().position(|s| s.separators == self.separators) {
            self.found[known].push(self.values, &self.atoms);
            return Some(known);
        }
        if self.found.len() == SKELETONS_MAX {
            return None;
        }
        self.found.push(Shape {
            separators: self.separators.clone(),
            atoms: self.atoms.clone(),
            first: Span::new(start, end),
            rows: Vec::new(),
            holes: Vec::new(),
        });
        Some(self.found.len() - 1)
    }
}

impl Shape {
    /// Takes the atoms of one more row; those that differ from the first row's become holes.
    fn push(&mut self, values: &[u8], atoms: &[Span]) {
        let mut hole = 0;
        for (index, (&first, &atom)) in self.atoms.iter().zip(atoms).enumerate() {
            let is_hole = self.holes.get(hole).is_some_and(|hole| hole.atom == index);
            if !is_hole && first.of(values) == atom.of(values) {
                continue;
            }
            if !is_hole {
                let spans = vec![first; self.rows.len()];
                self.holes.insert(hole, Hole { atom: index, spans });
            }
            self.holes[hole].spans.push(atom);
            hole += 1;
        }
    }
}

/// Where the atom that begins at `at` ends: at a separator, or with the value.
fn atom_end(value: &[u8], at: usize) -> usize {
    let mut end = at;
    if value.get(at) == Some(&b'"') && !is_date(&value[at + 1..]) {
        end += 1;
        while let Some(&byte) = value.get(end) {
            end += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        end = end.min(value.len());
    }
    value[end..].iter().position(|&b| IS_SEPARATOR[usize::from(b)]).map_or(value.len(), |n| end + n)
}

/// Whether a string begins as ISO 8601 dates do: its parts, which are numbers, are atoms then.
fn is_date(string: &[u8]) -> bool {
    string.get(4) == Some(&b'-') && string[..4].iter().all(u8::is_ascii_digit)
}
