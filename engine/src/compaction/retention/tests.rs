//! What stays of the records of some sources, which are written as in the tests of the merge.

use super::*;
use crate::compaction::merge::merge;
use crate::compaction::merge::tests::{Rows, Written};

/// Sources that the merge does not read, as the records that they may hold.
#[derive(Clone, Copy, Default)]
struct Others<'a> {
    /// `key@ts`: may be erased by a newer source.
    erased: &'a str,
    /// `key@ts`: may be in any.
    held: &'a str,
}

fn places(line: &str) -> impl Iterator<Item = (&[u8], Timestamp)> {
    line.split_whitespace().map(|word| {
        let (key, ts) = word.split_once('@').expect("a place is key@ts");
        (key.as_bytes(), ts.parse().expect("a timestamp"))
    })
}

impl Outside for Others<'_> {
    fn may_erase(&self, key: &[u8], ts: Timestamp) -> bool {
        places(self.erased).any(|place| place == (key, ts))
    }

    fn may_hold(&self, key: &[u8], ts: Timestamp) -> bool {
        places(self.held).any(|place| place.0 == key && place.1 <= ts)
    }
}

const HORIZON: Timestamp = 10;

fn pruned_beside(sources: &[&str], drops_erases: bool, others: Others<'_>) -> String {
    let mut sources: Vec<Rows> = sources.iter().map(|line| Rows::parse(line)).collect();
    let mut written = Written::default();
    let rules = Rules { horizon: HORIZON, drops_erases, outside: &others };
    merge(&mut sources, &mut written, &rules, &|| Ok(())).unwrap();
    written.0.join(" ")
}

fn pruned(sources: &[&str]) -> String {
    pruned_beside(sources, true, Others::default())
}

#[test]
fn the_newest_at_or_before_the_horizon_stays_and_so_does_all_behind_it() {
    assert_eq!(
        pruned(&["a@1=x a@5=x a@9=base a@11=x a@12=x b@3=base"]),
        "a@9=base a@11=x a@12=x b@3=base"
    );
    assert_eq!(pruned(&["a@9=x a@10=base a@11=x"]), "a@10=base a@11=x");
    assert_eq!(pruned(&["a@11=x a@12=x"]), "a@11=x a@12=x");
    assert_eq!(pruned(&["b@8=new", "a@8=x b@9=base", "a@9=base b@7=old"]), "a@9=base b@9=base");
    assert_eq!(pruned(&["a@9=x b@9=x c@11=x", "a@8=y d@1=y"]), "a@9=x b@9=x c@11=x d@1=y");
}

#[test]
fn an_erased_version_is_no_base() {
    assert_eq!(pruned(&["a@9!", "a@5=x a@7=base a@9=erased"]), "a@7=base");
    assert_eq!(pruned(&["a@9! a@7! a@12!", "a@5=base"]), "a@5=base");
}

/// `RocksDB` #9106: what is erased must not take with it what it had hidden.
#[test]
fn a_base_that_a_newer_source_may_have_erased_keeps_the_one_before() {
    let others = Others { erased: "a@9", ..Others::default() };
    assert_eq!(pruned_beside(&["a@5=x a@7=x a@9=x"], true, others), "a@7=x a@9=x");
    let others = Others { erased: "a@9 a@7", ..Others::default() };
    assert_eq!(pruned_beside(&["a@3=x a@5=x a@7=x a@9=x"], true, others), "a@5=x a@7=x a@9=x");
    let others = Others { erased: "a@8 b@9", ..Others::default() };
    assert_eq!(pruned_beside(&["a@5=x a@9=x"], true, others), "a@9=x");
}

#[test]
fn an_end_stands_for_what_was_before_it_until_nothing_can_be() {
    assert_eq!(pruned(&["a@5=x a@9. b@1=x"]), "b@1=x");
    assert_eq!(pruned(&["a@5=x a@10."]), "a@10.", "a read at the horizon shows that it ended then");
    assert_eq!(pruned(&["a@5. a@11=x"]), "a@11=x");
    assert_eq!(pruned(&["a@5. a@9=base"]), "a@9=base");
    let late = Others { held: "a@3", ..Others::default() };
    assert_eq!(
        pruned_beside(&["a@5=x a@9."], true, late),
        "a@9.",
        "also a late put in a newer source"
    );
    let same = Others { held: "a@9", ..Others::default() };
    assert_eq!(
        pruned_beside(&["a@9."], true, same),
        "a@9.",
        "an older source's put at its own time"
    );
    let later = Others { held: "a@10", ..Others::default() };
    assert_eq!(pruned_beside(&["a@9."], true, later), "");
}

#[test]
fn an_end_stays_while_anything_before_it_does() {
    let others = Others { erased: "a@9", ..Others::default() };
    assert_eq!(pruned_beside(&["a@5=x a@9."], true, others), "a@5=x a@9.");
    assert_eq!(pruned_beside(&["a@3! a@9."], false, Others::default()), "a@3! a@9.");
}

#[test]
fn an_erase_stays_where_anything_is_older_and_what_is_before_it_too() {
    let kept = |line| pruned_beside(&[line], false, Others::default());
    assert_eq!(kept("a@1=x a@5=x a@7! a@9=x"), "a@5=x a@7! a@9=x");
    assert_eq!(kept("a@5! a@7=x a@9=x a@11!"), "a@5! a@9=x a@11!");
    assert_eq!(kept("a@9=x a@12! b@1=x"), "a@9=x a@12! b@1=x");
    assert_eq!(pruned(&["a@1=x a@5=x a@7! a@9=x"]), "a@9=x");
}

#[test]
fn a_chunk_is_copied_only_where_nothing_of_it_can_be_garbage() {
    assert_eq!(pruned(&["[a@9=x a@11=x] [a@12=x b@13=x]"]), "a@9=x a@11=x [a@12=x b@13=x]");
    assert_eq!(pruned(&["[b@11=x b@12=x]", "a@5=x a@6=x"]), "a@6=x [b@11=x b@12=x]");
    assert_eq!(pruned(&["[a@11=x a@12=x]", "a@5=x a@6=x"]), "a@6=x [a@11=x a@12=x]");
}

#[test]
fn without_a_horizon_everything_stays() {
    let mut sources = [Rows::parse("a@-9223372036854775808=x a@1=x a@2. b@-9223372036854775808.")];
    let mut written = Written::default();
    let outside = Others::default();
    let rules = Rules { horizon: Timestamp::MIN, drops_erases: true, outside: &outside };
    merge(&mut sources, &mut written, &rules, &|| Ok(())).unwrap();
    assert_eq!(written.0.len(), 4);
}
