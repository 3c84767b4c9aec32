//! Text, the worst case for a store that looks for structure: half of it words, half of it noise.

use super::{Points, Telemetry};
use crate::rng::Rng;

/// How many different words there are.
const WORDS: usize = 4_000;

/// As many points of as many keys as `shape` has: 100 to 200 bytes each, of made-up words, some much
/// more frequent than others, and random letters and digits by turns.
pub(super) fn points(shape: Telemetry) -> Points {
    let mut rng = Rng::new(0x7e87);
    let words: Vec<String> = (0..WORDS).map(|_| word(&mut rng)).collect();
    let keys = (0..shape.keys).map(|i| format!("notes/ticket-{i:06}/comment").into_bytes());
    let mut points = Points::of_keys(keys.collect());
    let mut value = String::new();
    for version in 0..shape.versions {
        for i in 0..shape.keys {
            write_value(&mut value, &words, &mut rng);
            points.push(i as usize, shape.ts(i, version), value.as_bytes());
        }
    }
    points
}

/// Two to four syllables.
fn word(rng: &mut Rng) -> String {
    let syllables = 2 + rng.below(3);
    (0..syllables)
        .flat_map(|_| [rng.choice(b"bcdfghjklmnprstvwz"), rng.choice(b"aeiou")])
        .map(char::from)
        .collect()
}

fn write_value(out: &mut String, words: &[String], rng: &mut Rng) {
    const NOISE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let bytes = 100 + rng.below(100) as usize;
    out.clear();
    while out.len() < bytes {
        // The product of two draws favours small ranks, as the words of a language do.
        let rank = rng.below(WORDS as u64) * rng.below(WORDS as u64) / WORDS as u64;
        let chosen = &words[rank as usize];
        out.push_str(chosen);
        out.push(' ');
        out.extend(chosen.bytes().map(|_| char::from(rng.choice(NOISE))));
        out.push(' ');
    }
    out.truncate(bytes);
}
