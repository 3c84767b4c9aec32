//! Many long keys of a few versions each: what a service keeps of its users.

use std::fmt::Write;

use kvtimedb_engine::Timestamp;

use super::{EPOCH_US, Points};
use crate::rng::Rng;

/// The fields that a user has.
const FIELDS: [&str; 6] = [
    "profile/email",
    "profile/display-name",
    "settings/notifications",
    "settings/locale",
    "billing/plan",
    "session/last-seen",
];

/// Within how long all versions lie.
const YEAR_US: u64 = 365 * 24 * 3600 * 1_000_000;

/// About `count` points, in order of time.
pub(super) fn points(count: usize) -> Points {
    let mut rng = Rng::new(0x5eed);
    // Three versions a key in the mean.
    let users = count.div_ceil(3 * FIELDS.len());
    let mut points = Points::of_keys((0..users * FIELDS.len()).map(key).collect());
    let mut value = String::new();
    for i in 0..points.keys().len() {
        for _ in 0..=rng.below(5) {
            write_value(&mut value, i % FIELDS.len(), &mut rng);
            let ts = EPOCH_US + rng.below(YEAR_US) as Timestamp;
            points.push(i, ts, value.as_bytes());
        }
    }
    points.arrive_at(|_, ts| ts);
    points
}

fn key(i: usize) -> Vec<u8> {
    let (user, field) = (i / FIELDS.len(), FIELDS[i % FIELDS.len()]);
    // Spread like the hash of an account's name.
    let id = Rng::new(user as u64).bits() >> 24;
    format!("user/{id:010x}/{field}").into_bytes()
}

fn write_value(out: &mut String, field: usize, rng: &mut Rng) {
    out.clear();
    let id = rng.below(100_000_000);
    // Writing to a string can't fail.
    let _ = match field {
        0 => {
            let host = rng.choice(&["example.com", "example.org", "mail.example.net"]);
            write!(out, "\"u{id:x}@{host}\"")
        }
        1 => write!(out, "\"User {id}\""),
        2 => {
            let [email, push, digest] = [1, 2, 4].map(|bit| id & bit != 0);
            write!(out, r#"{{"email":{email},"push":{push},"digest":{digest}}}"#)
        }
        3 => write!(out, "\"{}\"", rng.choice(&["en-GB", "en-US", "de-DE", "fr-FR", "ja-JP"])),
        4 => write!(
            out,
            r#"{{"plan":"{}","seats":{}}}"#,
            rng.choice(&["free", "team", "business"]),
            1 + id % 50
        ),
        _ => write!(out, "{}", EPOCH_US / 1000 + id as i64 * 300),
    };
}
