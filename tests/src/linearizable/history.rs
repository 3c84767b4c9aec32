//! What clients did to one key and when, as they saw it.

use std::fmt;

use kvtimedb_engine::Timestamp;

/// What was asked of the key, and for a floor the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Put(Timestamp, String),
    End(Timestamp),
    Floor(Timestamp, Option<String>),
}

/// One operation. It took effect at one moment between `called` and `answered`; without an answer, at
/// one after `called`, or never. Moments are counted, over all clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) called: u64,
    pub(crate) answered: Option<u64>,
    pub(crate) action: Action,
}

impl Operation {
    /// Whether the other one is this one, or a floor that may have seen it.
    fn goes_with(&self, other: &Operation) -> bool {
        self == other
            || match (&self.action, &other.action) {
                (Action::Put(_, put), Action::Floor(_, Some(read))) => put == read,
                (Action::End(ts), Action::Floor(at, None)) => ts <= at,
                _ => false,
            }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = self.answered.map_or("?".to_owned(), |answered| answered.to_string());
        write!(f, "{:>5} to {answered:<5} client {}: ", self.called, self.client)?;
        match &self.action {
            Action::Put(ts, value) => write!(f, "put {ts} {value}"),
            Action::End(ts) => write!(f, "end {ts}"),
            Action::Floor(at, answer) => {
                write!(f, "floor {at} -> {}", answer.as_deref().unwrap_or("null"))
            }
        }
    }
}

/// The operations one to a line, in the order of their calls.
pub(crate) fn told(history: &[Operation]) -> String {
    let mut ordered: Vec<&Operation> = history.iter().collect();
    ordered.sort_by_key(|operation| operation.called);
    ordered.into_iter().map(Operation::to_string).collect::<Vec<_>>().join("\n")
}

/// The smallest history left when operations are dropped one after the other for as long as what is left
/// `fails`. A write is dropped with all that may have seen it: without it they would fail for another
/// reason than the whole does.
pub(crate) fn shrunk(
    history: &[Operation],
    fails: impl Fn(&[Operation]) -> bool,
) -> Vec<Operation> {
    let mut left = history.to_vec();
    let mut at = 0;
    while at < left.len() {
        let dropped = &left[at];
        let fewer: Vec<_> = left.iter().filter(|o| !dropped.goes_with(o)).cloned().collect();
        if fails(&fewer) {
            (left, at) = (fewer, 0);
        } else {
            at += 1;
        }
    }
    left
}

/// Reads a history drawn as a picture: a line a client, an operation from `[` to `]`, or to `>` where no
/// answer came; the columns are the moments.
///
/// ```text
/// a: [put 1 x]     [floor 1 -> x]
/// b:      [end 1>
/// ```
pub(crate) fn drawn(picture: &str) -> Vec<Operation> {
    let mut history = Vec::new();
    for (client, line) in picture.lines().enumerate() {
        for (start, _) in line.match_indices('[') {
            // An arrow is no end.
            let text = line[start + 1..].replace("->", "is");
            let len = text.find([']', '>']).expect("an end, ] or >");
            let end = start + 1 + len;
            let answered = text[len..].starts_with(']').then_some(end as u64);
            let action = parsed(&text[..len]);
            history.push(Operation { client, called: start as u64, answered, action });
        }
    }
    history
}

fn parsed(text: &str) -> Action {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ts = || words[1].parse().unwrap_or_else(|_| panic!("no timestamp in {text:?}"));
    match words[..] {
        ["put", _, value] => Action::Put(ts(), value.to_owned()),
        ["end", _] => Action::End(ts()),
        ["floor", _, "is", "null"] => Action::Floor(ts(), None),
        ["floor", _, "is", value] => Action::Floor(ts(), Some(value.to_owned())),
        _ => panic!("no operation: {text:?}"),
    }
}
