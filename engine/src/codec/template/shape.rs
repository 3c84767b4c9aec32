//! Values apart: which share a skeleton, and where its holes are.
//!
//! A value is a sequence of *atoms* with one separator byte between each two; an atom is a quoted
//! string, unless it begins with a date, or else a run without separators, and may be empty. Values with
//! the same separators have the same *shape*. An atom is part of the skeleton's literals until a value
//! of the shape has another there: from then on it is a hole. Shapes are remembered from one run of
//! values to the next, so that a table's runs come to share the most general skeleton. Most values are
//! parsed by comparing the literals between the holes of the shape of the value before; only where that
//! fails is a value split into all its atoms.
//!
//! Any way to split a value is right, because a skeleton renders what stands between the holes too;
//! this one makes the holes few and their columns narrow.

use super::dictionary::HOLES_MAX;

/// The most atoms of a value: each may become a hole.
const ATOMS_MAX: usize = HOLES_MAX;

/// The most shapes of one run: finding a row's skeleton searches a row list each.
pub(super) const SHAPES_MAX: usize = 16;

/// The most shapes that are remembered; beyond, the one that was not met for longest is forgotten.
const REMEMBERED_MAX: usize = 4 * SHAPES_MAX;

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
#[derive(Debug)]
pub(super) struct Shape {
    separators: Vec<u8>,
    /// A value of the shape: its literals are those of the skeleton.
    sample: Vec<u8>,
    /// The atoms of the sample.
    atoms: Vec<Span>,
    /// In order of their atoms.
    pub(super) holes: Vec<Hole>,
    /// Which values of the run they are, ascending.
    pub(super) rows: Vec<i64>,
    /// The first of them.
    first: Span,
    /// The run that brought it, and the last one that had it.
    made_in: u64,
    met_in: u64,
}

/// An atom that is not the same in all values of the shape.
#[derive(Debug)]
pub(super) struct Hole {
    atom: usize,
    /// One a row.
    pub(super) spans: Vec<Span>,
}

/// The shapes of a run of values, and those of the runs before.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    run: u64,
    /// Of the value at hand.
    separators: Vec<u8>,
    atoms: Vec<Span>,
}

impl Shapes {
    /// Takes the next run of values. `false` where there is no value or where there are too many
    /// shapes.
    pub(super) fn read(&mut self, values: &[u8], ends: &[i64]) -> bool {
        self.run += 1;
        for shape in &mut self.known {
            shape.rows.clear();
            shape.holes.iter_mut().for_each(|hole| hole.spans.clear());
        }
        self.read_all(values, ends).is_some()
    }

    /// The shapes that the run has, that of most rows first.
    pub(super) fn of_run(&mut self) -> impl Iterator<Item = &mut Shape> {
        self.known.sort_by_key(|shape| std::cmp::Reverse(shape.rows.len()));
        self.known.iter_mut().take_while(|shape| !shape.rows.is_empty())
    }

    /// Forgets the shapes that the run brought.
    pub(super) fn undo(&mut self) {
        self.known.retain(|shape| shape.made_in != self.run);
    }

    fn read_all(&mut self, values: &[u8], ends: &[i64]) -> Option<()> {
        let last_end = usize::try_from(*ends.last()?).ok()?;
        if last_end != values.len() || u32::try_from(last_end).is_err() {
            return None;
        }
        let (mut start, mut shape) = (0, 0);
        for (row, &end) in ends.iter().enumerate() {
            let end = usize::try_from(end).ok().filter(|&end| start <= end && end <= last_end)?;
            if !self.predict(values, shape, start, end) {
                shape = self.split(values, start, end)?;
            }
            let shape = &mut self.known[shape];
            if shape.rows.is_empty() {
                shape.first = Span::new(start, end);
                shape.met_in = self.run;
            }
            shape.rows.push(row as i64);
            start = end;
        }
        Some(())
    }

    /// Takes the value if it differs from the sample of `shape` in its holes only.
    fn predict(&mut self, values: &[u8], shape: usize, start: usize, end: usize) -> bool {
        let Some(shape) = self.known.get_mut(shape) else { return false };
        self.atoms.clear();
        let mut at = start;
        for hole in 0..shape.holes.len() {
            let literal = shape.literal(hole);
            if !values[at..end].starts_with(literal) {
                return false;
            }
            at += literal.len();
            let atom_end = atom_end(&values[..end], at);
            self.atoms.push(Span::new(at, atom_end));
            at = atom_end;
        }
        if values[at..end] != *shape.literal(shape.holes.len()) {
            return false;
        }
        for (hole, &span) in shape.holes.iter_mut().zip(&self.atoms) {
            hole.spans.push(span);
        }
        true
    }

    /// Takes the value by its atoms: its shape.
    fn split(&mut self, values: &[u8], start: usize, end: usize) -> Option<usize> {
        split_into(values, Span::new(start, end), &mut self.separators, &mut self.atoms)?;
        let same = self.known.iter().position(|shape| shape.separators == self.separators);
        let shape = same.map_or_else(|| self.remember(values, start, end), Some)?;
        self.known[shape].push(values, &self.atoms)?;
        Some(shape)
    }

    /// A new shape, without holes, of the value at hand.
    fn remember(&mut self, values: &[u8], start: usize, end: usize) -> Option<usize> {
        let of_run = self.known.iter().filter(|shape| !shape.rows.is_empty()).count();
        if of_run == SHAPES_MAX {
            return None;
        }
        if self.known.len() == REMEMBERED_MAX {
            let unused = self.known.iter().enumerate().filter(|(_, shape)| shape.rows.is_empty());
            let (oldest, _) = unused.min_by_key(|(_, shape)| shape.met_in)?;
            self.known.swap_remove(oldest);
        }
        let in_sample = |at: u32| at as usize - start;
        let atoms = self.atoms.iter();
        self.known.push(Shape {
            separators: self.separators.clone(),
            sample: values[start..end].to_vec(),
            atoms: atoms.map(|a| Span::new(in_sample(a.start), in_sample(a.end))).collect(),
            holes: Vec::new(),
            rows: Vec::new(),
            first: Span::new(start, end),
            made_in: self.run,
            met_in: self.run,
        });
        Some(self.known.len() - 1)
    }
}

impl Shape {
    /// What stands before hole `hole` of the skeleton; that of the number of holes stands behind the
    /// last.
    pub(super) fn literal(&self, hole: usize) -> &[u8] {
        let atom = |hole: &Hole| self.atoms[hole.atom];
        let start = hole.checked_sub(1).map_or(0, |before| atom(&self.holes[before]).end as usize);
        let end = self.holes.get(hole).map_or(self.sample.len(), |hole| atom(hole).start as usize);
        &self.sample[start..end]
    }

    /// Takes the atoms of one more row; those that differ from the sample's become holes.
    fn push(&mut self, values: &[u8], atoms: &[Span]) -> Option<()> {
        let mut hole = 0;
        for (index, &atom) in atoms.iter().enumerate() {
            let is_hole = self.holes.get(hole).is_some_and(|hole| hole.atom == index);
            if !is_hole && self.atoms[index].of(&self.sample) == atom.of(values) {
                continue;
            }
            if !is_hole {
                let spans = self.literal_of_rows(values, index)?;
                self.holes.insert(hole, Hole { atom: index, spans });
            }
            self.holes[hole].spans.push(atom);
            hole += 1;
        }
        Some(())
    }

    /// Where the rows so far have atom `index`, which is the same in all of them: in the first one.
    fn literal_of_rows(&self, values: &[u8], index: usize) -> Option<Vec<Span>> {
        if self.rows.is_empty() {
            return Some(Vec::new());
        }
        let mut atoms = Vec::new();
        split_into(values, self.first, &mut Vec::new(), &mut atoms)?;
        Some(vec![*atoms.get(index)?; self.rows.len()])
    }
}

/// Replaces `separators` and `atoms` by those of a value; `None` where they are too many.
fn split_into(
    values: &[u8],
    value: Span,
    separators: &mut Vec<u8>,
    atoms: &mut Vec<Span>,
) -> Option<()> {
    separators.clear();
    atoms.clear();
    let (mut at, end) = (value.start as usize, value.end as usize);
    loop {
        let atom_end = atom_end(&values[..end], at);
        atoms.push(Span::new(at, atom_end));
        if atom_end == end {
            return Some(());
        }
        separators.push(values[atom_end]);
        if atoms.len() == ATOMS_MAX {
            return None;
        }
        at = atom_end + 1;
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
