use super::*;

/// A table of a case, and how it is written there.
#[derive(Clone, Debug)]
struct CaseTable {
    name: String,
    file_bytes: u64,
    first: (String, Timestamp),
    last: (String, Timestamp),
    has_erases: bool,
    /// 0, 1 or 2: has garbage, so much that it is worth a merge.
    stale: usize,
}

impl CaseTable {
    fn parse(word: &str) -> CaseTable {
        let (name, bytes) = word.split_once(':').expect("a table is first-last:bytes");
        let (first, last) = name.split_once('-').expect("a table is first-last:bytes");
        let place = |text: &str| match text.split_once('@') {
            Some((key, ts)) => (key.to_owned(), ts.parse().expect("a timestamp")),
            None => (text.to_owned(), 0),
        };
        CaseTable {
            name: name.to_owned(),
            file_bytes: bytes.trim_end_matches(['!', '~']).parse().expect("a size"),
            first: place(first),
            last: place(last),
            has_erases: bytes.contains('!'),
            stale: bytes.matches('~').count(),
        }
    }

    fn shape(&self) -> TableShape<'_> {
        TableShape {
            file_bytes: self.file_bytes,
            first: (self.first.0.as_bytes(), self.first.1),
            last: (self.last.0.as_bytes(), self.last.1),
            has_erases: self.has_erases,
            is_stale: self.stale > 0,
            is_worth_pruning: self.stale > 1,
        }
    }
}

fn picker<'r>(runs: &'r [Vec<CaseTable>]) -> Picker<'r> {
    let shape = |tables: &'r Vec<CaseTable>| RunShape {
        tables: tables.iter().map(CaseTable::shape).collect(),
    };
    Picker { runs: runs.iter().map(shape).collect(), to_oldest: true, table_bytes_max: 64 }
}

/// A choice as the cases write it.
fn shown(runs: &[Vec<CaseTable>], task: Option<CompactionTask>) -> String {
    let Some(task) = task else { return "nothing".to_owned() };
    let name = |place: &TablePlace| runs[place.run][place.table].name.as_str();
    let part = |part: &Part| match part {
        Part::Move(place) => name(place).to_owned(),
        Part::Merge(places) => {
            format!("({})", places.iter().map(name).collect::<Vec<_>>().join(" "))
        }
    };
    let mut words: Vec<String> = task.parts.iter().map(part).collect();
    words.extend(task.drops_erases.then(|| "drop erases".to_owned()));
    words.join(" ")
}

/// Every table of the runs, and none else, is in one part.
fn assert_whole(picker: &Picker<'_>, task: &CompactionTask) {
    let mut places: Vec<_> = task
        .parts
        .iter()
        .flat_map(|part| match part {
            Part::Move(place) => vec![*place],
            Part::Merge(places) => places.clone(),
        })
        .map(|place| (place.run, place.table))
        .collect();
    places.sort_unstable();
    let tables = |run: usize| (0..picker.runs[run].tables.len()).map(move |table| (run, table));
    let all: Vec<_> = task.runs.clone().flat_map(tables).collect();
    assert_eq!(places, all);
}

#[test]
fn cases() {
    let text = include_str!("cases.txt");
    let mut choices = 0;
    for case in text.split("\n[").skip(1) {
        let (name, lines) = case.split_once("]\n").expect("a case begins with its [name]");
        let lines = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (choice_lines, run_lines): (Vec<_>, Vec<_>) =
            lines.partition(|line| line.contains(": "));
        assert!(!choice_lines.is_empty(), "{name}: chooses nothing");
        let runs: Vec<Vec<CaseTable>> = run_lines
            .iter()
            .map(|line| line.split_whitespace().map(CaseTable::parse).collect())
            .collect();
        let picker = picker(&runs);
        for line in choice_lines {
            let (effort, expected) = line.split_once(": ").unwrap();
            let effort = match effort {
                "worthwhile" => Effort::Worthwhile,
                "idle" => Effort::Idle,
                "full" => Effort::Full,
                other => panic!("{name}: {other} is no effort"),
            };
            let task = picker.pick(effort);
            if let Some(task) = &task {
                assert_whole(&picker, task);
            }
            assert_eq!(shown(&runs, task), expected, "{name}, {effort:?}");
            choices += 1;
        }
    }
    assert!(choices > 30, "{choices}");
}

/// Runs whose tables are ranges of numbers, of which each merge keeps all bytes.
#[derive(Default)]
struct Simulation {
    runs: Vec<Vec<CaseTable>>,
    flushed_bytes: u64,
    merged_bytes: u64,
}

impl Simulation {
    /// Flushes a table of the keys from `first` to `last`, and merges as far as is worthwhile.
    fn flush(&mut self, first: u64, last: u64, file_bytes: u64) {
        self.runs.insert(0, vec![Self::table(first, last, file_bytes)]);
        self.flushed_bytes += file_bytes;
        while self.merge(Effort::Worthwhile) {}
    }

    fn table(first: u64, last: u64, file_bytes: u64) -> CaseTable {
        let place = |key: u64| (format!("{key:012}"), 0);
        let (first, last) = (place(first), place(last));
        CaseTable { name: String::new(), file_bytes, first, last, has_erases: false, stale: 0 }
    }

    fn merge(&mut self, effort: Effort) -> bool {
        let picker = picker(&self.runs);
        let Some(task) = picker.pick(effort) else { return false };
        assert_whole(&picker, &task);
        let mut tables: Vec<CaseTable> = Vec::new();
        for part in &task.parts {
            match part {
                Part::Move(place) => tables.push(self.runs[place.run][place.table].clone()),
                Part::Merge(places) => {
                    let merged: Vec<_> =
                        places.iter().map(|place| &self.runs[place.run][place.table]).collect();
                    let bytes = merged.iter().map(|table| table.file_bytes).sum();
                    let key = |place: &(String, i64)| place.0.parse().unwrap();
                    let first = merged.iter().map(|table| key(&table.first)).min().unwrap();
                    let last = merged.iter().map(|table| key(&table.last)).max().unwrap();
                    self.merged_bytes += bytes;
                    tables.extend(Self::cut(first, last, bytes));
                }
            }
        }
        assert!(tables.windows(2).all(|pair| pair[0].last < pair[1].first));
        self.runs.splice(task.runs, [tables]);
        true
    }

    /// Tables of 64 bytes and a rest, each with its share of the keys.
    fn cut(first: u64, last: u64, bytes: u64) -> Vec<CaseTable> {
        let keys = last - first + 1;
        let key = |at: u64| first + keys * at / bytes;
        let starts = (0..bytes).step_by(64);
        let ends = starts.clone().skip(1).chain([bytes]);
        starts
            .zip(ends)
            .map(|(start, end)| Self::table(key(start), key(end) - 1, end - start))
            .collect()
    }

    fn write_amplification(&self) -> f64 {
        1.0 + self.merged_bytes as f64 / self.flushed_bytes as f64
    }

    fn tables(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }
}

const KEYS: u64 = 1_000_000_000;

#[test]
fn flushes_of_all_keys_are_written_as_often_as_there_are_tiers() {
    let mut simulation = Simulation::default();
    for flush in 1..=1000_u64 {
        simulation.flush(0, KEYS, 4 + flush % 3);
        assert!(simulation.runs.len() <= 16, "{} runs", simulation.runs.len());
        if flush == 83 {
            let written = simulation.write_amplification();
            assert!(written <= 4.0, "50 million points in 83 flushes: {written}");
        }
    }
    let written = simulation.write_amplification();
    assert!(written <= 6.0, "{written}");
}

#[test]
fn keys_in_their_order_are_written_until_their_tables_are_no_longer_small() {
    let mut simulation = Simulation::default();
    for flush in 0..1000_u64 {
        simulation.flush(flush * 1000, flush * 1000 + 999, 5);
        assert!(simulation.runs.len() <= 4, "{} runs", simulation.runs.len());
    }
    let written = simulation.write_amplification();
    assert!(written <= 2.1, "{written}");
    assert!(simulation.tables() <= 1000 * 5 / 16 + 4, "{} tables", simulation.tables());
}

#[test]
fn idle_merges_under_trickling_writes_stay_proportionate() {
    let mut simulation = Simulation::default();
    for _ in 0..1000 {
        simulation.flush(0, KEYS, 5);
        while simulation.merge(Effort::Idle) {}
        assert!(simulation.runs.len() <= 11, "{} runs", simulation.runs.len());
    }
    let written = simulation.write_amplification();
    assert!(written <= 12.0, "{written}");
}
