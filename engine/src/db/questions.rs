//! Questions of the form "this key at that moment", in the order in which sources are walked.

use crate::key::{KeyHash, Timestamp, key_number, shared_len};

/// Many questions, grouped by key.
pub(super) struct Questions {
    /// In the order of the keys.
    groups: Vec<Group>,
    /// Those of the first group, then those of the second ...
    questions: Vec<Question>,
}

/// A question of a group.
#[derive(Clone, Copy)]
pub(super) struct Question {
    pub(super) at: Timestamp,
    pub(super) number: u32,
}

/// The questions about one key.
struct Group {
    hash: KeyHash,
    /// The number of a question that has the key.
    example: u32,
    start: u32,
    end: u32,
}

/// A part of the keys, by their hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) number: usize,
    /// How many there are.
    pub(super) of: usize,
}

impl Share {
    fn has(self, hash: KeyHash) -> bool {
        // Other bits than those that a table of groups is ordered by.
        self.of == 1 || (hash.0 >> 56) as usize % self.of == self.number
    }
}

impl Questions {
    /// Groups the questions of a share; there are fewer than 2^32 - 1 in all.
    pub(super) fn of(lookups: &[(&[u8], Timestamp)], share: Share) -> Self {
        assert!(lookups.len() < u32::MAX as usize, "{} questions at once", lookups.len());
        let mut table = Table { groups: Vec::new(), slots: vec![0; 1024] };
        let mut group_of = Vec::with_capacity(lookups.len() / share.of);
        for (number, (key, _)) in (0..).zip(lookups) {
            let hash = KeyHash::of(key);
            if share.has(hash) {
                group_of.push((number, table.group_of(number, hash, lookups)));
            }
        }
        let mut groups = table.groups;
        let order = order(&groups, lookups);
        let mut start = 0;
        for &group in &order {
            let group = &mut groups[group as usize];
            let len = group.end;
            (group.start, group.end) = (start, start);
            start += len;
        }
        let mut questions = vec![Question { at: 0, number: 0 }; group_of.len()];
        for (number, group) in group_of {
            let group = &mut groups[group as usize];
            let at = lookups[number as usize].1;
            questions[group.end as usize] = Question { at, number };
            group.end += 1;
        }
        let mut groups: Vec<_> = groups.into_iter().map(Some).collect();
        let groups = order.into_iter().filter_map(|group| groups[group as usize].take()).collect();
        Questions { groups, questions }
    }

    /// How many keys there are.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// A key and its questions, in the order of time.
    pub(super) fn group<'k>(
        &mut self,
        group: usize,
        lookups: &[(&'k [u8], Timestamp)],
    ) -> (&'k [u8], KeyHash, &[Question]) {
        let group = &self.groups[group];
        let questions = &mut self.questions[group.start as usize..group.end as usize];
        questions.sort_unstable_by_key(|question| question.at);
        (lookups[group.example as usize].0, group.hash, questions)
    }
}

/// The groups' numbers in the order of their keys.
fn order(groups: &[Group], lookups: &[(&[u8], Timestamp)]) -> Vec<u32> {
    let key = |group: &Group| lookups[group.example as usize].0;
    let shared = groups.first().map_or(0, |first| {
        let first = key(first);
        groups.iter().fold(first.len(), |shared, other| shared_len(&first[..shared], key(other)))
    });
    // The bytes behind what all keys share, as a number, tell most keys apart without a look at them.
    let mut order: Vec<_> = (0..)
        .zip(groups)
        .map(|(number, group): (u32, _)| (key_number(&key(group)[shared..]), number))
        .collect();
    order.sort_unstable_by(|(a_number, a), (b_number, b)| {
        let keys = || key(&groups[*a as usize]).cmp(key(&groups[*b as usize]));
        a_number.cmp(b_number).then_with(keys)
    });
    order.into_iter().map(|(_, number)| number).collect()
}

/// A hash table of groups, by key. It grows with the keys, not with the questions: then it stays in
/// the processor's cache where the keys are few.
struct Table {
    groups: Vec<Group>,
    /// A power of two of them: the upper half of a hash, and a group's number + 1, or 0.
    slots: Vec<u64>,
}

impl Table {
    /// The number of the group of question `number`, which is counted in its `end`.
    fn group_of(&mut self, number: u32, hash: KeyHash, lookups: &[(&[u8], Timestamp)]) -> u32 {
        let key = lookups[number as usize].0;
        let mut at = hash.0 as usize;
        loop {
            at &= self.slots.len() - 1;
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            let group_number = slot as u32 - 1;
            if slot >> 32 == hash.0 >> 32 {
                let group = &mut self.groups[group_number as usize];
                if lookups[group.example as usize].0 == key {
                    group.end += 1;
                    return group_number;
                }
            }
            at += 1;
        }
        self.groups.push(Group { hash, example: number, start: 0, end: 1 });
        self.slots[at] = slot(hash, self.groups.len());
        if 2 * self.groups.len() > self.slots.len() {
            self.grow();
        }
        self.groups.len() as u32 - 1
    }

    fn grow(&mut self) {
        let mask = 2 * self.slots.len() - 1;
        let mut slots = vec![0; mask + 1];
        for (number, group) in (1..).zip(&self.groups) {
            let mut at = group.hash.0 as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = slot(group.hash, number);
        }
        self.slots = slots;
    }
}

fn slot(hash: KeyHash, number: usize) -> u64 {
    hash.0 >> 32 << 32 | number as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few short keys, or one of thousands that share a prefix and are equal in the eight bytes behind it
    /// or not: more of them than the first table of groups holds.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        (any::<bool>(), any::<u16>()).prop_map(|(short, n)| match n % 4 {
            _ if short => b"abab"[usize::from(n % 2)..usize::from(n % 4)].to_vec(),
            0 => format!("same/long/prefix/and more of it/{n}").into_bytes(),
            _ => format!("same/long/prefix/{n}").into_bytes(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn questions_come_in_the_order_of_key_and_time(
            asked in prop::collection::vec((key(), 0..9_i64), 0..1500),
            of in 1_usize..4,
        ) {
            let lookups: Vec<_> = asked.iter().map(|(key, at)| (key.as_slice(), *at)).collect();
            let mut found = Vec::new();
            for number in 0..of {
                let mut questions = Questions::of(&lookups, Share { number, of });
                let mut last_key = None;
                for group in 0..questions.groups() {
                    let (key, hash, asked) = questions.group(group, &lookups);
                    prop_assert!(last_key < Some(key) && hash == KeyHash::of(key));
                    last_key = Some(key);
                    prop_assert!(asked.is_sorted_by_key(|question| question.at));
                    for question in asked {
                        prop_assert_eq!(lookups[question.number as usize], (key, question.at));
                        found.push((key, question.at));
                    }
                }
            }
            let mut expected = lookups.clone();
            expected.sort_unstable();
            if of > 1 {
                found.sort_unstable();
            }
            prop_assert_eq!(found, expected);
        }
    }
}
