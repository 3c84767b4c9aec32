//! Real observations: a year of hourly weather at three airports, from the tests' data.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::value::RawValue;

use super::Points;

/// All of them, in the order of the file: airport by airport, each in order of time.
pub(super) fn points() -> Points {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/nyc2013");
    let file = File::open(dir.join("observations.ndjson.gz")).expect("the tests' data");
    let (mut keys, mut found) = (Vec::new(), Vec::new());
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        let line = line.expect("lines of text");
        let members: HashMap<&str, &RawValue> = serde_json::from_str(&line).expect("an object");
        let text = |name: &str| members[name].get();
        let key = text("key").trim_matches('"').as_bytes().to_vec();
        let at = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1
        });
        let ts = text("timestamp").parse().expect("a timestamp");
        found.push((at, ts, text("value").to_owned()));
    }
    let mut points = Points::of_keys(keys);
    for (key, ts, value) in &found {
        points.push(*key, *ts, value.as_bytes());
    }
    points
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_observations_are_there() {
        let points = super::points();
        assert_eq!((points.len(), points.keys().len()), (26_115, 3));
    }
}
