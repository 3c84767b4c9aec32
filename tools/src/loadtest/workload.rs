//! What is sent: a stream of operations that is a pure function of the seed.
//!
//! Operation `i` of a stream draws from a generator seeded with `(seed, stream, i)`, so that a run
//! asks the same keys at the same times whichever connection happens to take which operation. The
//! one exception is the timestamp of a put: it is its key's next one, in the order of sending.
//!
//! Version `v` of a key has the timestamp `v * TIMESTAMP_STEP`. The preload writes the versions
//! below `versions` of every key; floors ask about that range, so each has an answer.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What lies between two versions of a key, in the database's unit of time.
pub const TIMESTAMP_STEP: i64 = 1_000;

/// Which operations a run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Puts only.
    Put,
    /// Floors only.
    Floor,
    /// Both, by [`Profile::read_share`].
    Mixed,
}

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Every key is as likely as any other.
    Uniform,
    /// The key of rank `r` (from 1) is chosen in proportion to `1 / r^theta`, `0 < theta < 1`.
    /// Ranks are scattered over the keys, so that popular keys are not neighbours.
    Zipf(f64),
}

/// How an operation is told to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `GET /?key&timestamp` and `PUT /`.
    Root,
    /// The same with a JSON body in the GET, as the original service takes it.
    Body,
    /// `GET /v1/kv/{key}?at` and `PUT /v1/kv/{key}?ts`.
    V1,
    /// Redis, a sorted set a key: `ZREVRANGEBYSCORE` and `ZADD`. The score is the timestamp, and the
    /// member begins with it: members of a set are distinct, values are not.
    Redis,
}

/// What to send. [`Profile::check`] tells whether it can be.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How they are told.
    pub api: Api,
    /// Which operations.
    pub workload: Workload,
    /// How many keys there are; at least 1.
    pub keys: u64,
    /// How many versions of each key the preload writes, and floors ask about; at least 1.
    pub versions: u64,
    /// The first version that puts write.
    pub first_version: u64,
    /// How keys are chosen.
    pub distribution: Distribution,
    /// The share of floors in [`Workload::Mixed`], 0 to 1.
    pub read_share: f64,
    /// About how long a value is, as JSON text in bytes.
    pub value_bytes: usize,
    /// The same seed gives the same operations.
    pub seed: u64,
}

impl Profile {
    /// Says what is wrong with the profile, in terms of the command line.
    pub fn check(&self) -> Result<(), String> {
        let last_version = self.first_version.max(self.versions);
        if self.keys == 0 || self.versions == 0 {
            return Err("--keys and --versions are at least 1".into());
        }
        // Half of the range is left to the puts of the run.
        if last_version > (i64::MAX / TIMESTAMP_STEP / 2) as u64 {
            return Err("--versions or --first-version is beyond the range of timestamps".into());
        }
        if self.keys.checked_mul(self.versions).is_none() {
            return Err("--keys times --versions is more than this can count".into());
        }
        if !(0.0..=1.0).contains(&self.read_share) {
            return Err("--read-share lies between 0 and 1".into());
        }
        match self.distribution {
            Distribution::Zipf(theta) if !(theta > 0.0 && theta < 1.0) => {
                Err("--zipf-theta lies between 0 and 1, both excluded".into())
            }
            _ => Ok(()),
        }
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OperationKind {
    /// Writes a version.
    Put,
    /// Asks for the newest version at or before a moment.
    Floor,
}

/// The streams of a run: none repeats the draws of another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    /// Every key and version once, oldest versions first, as a fleet of sensors would send them.
    Preload,
    /// Sent before anything is measured.
    Warmup,
    /// What the report is about.
    Measured,
}

/// One request, before it is told as HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operation {
    pub(crate) kind: OperationKind,
    /// Below [`Profile::keys`].
    pub(crate) key: u64,
    /// Of the version written, or the moment asked about.
    pub(crate) timestamp: i64,
    /// Where the value of a put is drawn from.
    values: Random,
}

/// Gives out the operations of a run. Shared by all connections.
pub(crate) struct Generator {
    profile: Profile,
    zipf: Option<Zipf>,
    /// How many versions each key was given by puts of this run. Empty where there are none.
    puts: Vec<AtomicU64>,
}

impl Generator {
    /// The profile passes [`Profile::check`].
    pub(crate) fn new(profile: Profile) -> Generator {
        let zipf = match profile.distribution {
            Distribution::Uniform => None,
            Distribution::Zipf(theta) => Some(Zipf::new(profile.keys, theta)),
        };
        let counted = if profile.workload == Workload::Floor { 0 } else { profile.keys };
        let puts = (0..counted).map(|_| AtomicU64::new(0)).collect();
        Generator { profile, zipf, puts }
    }

    /// How many operations [`Stream::Preload`] has.
    pub(crate) fn preload_count(&self) -> u64 {
        self.profile.keys * self.profile.versions
    }

    /// Operation `index` of a stream. A put takes its key's next timestamp, so ask once.
    pub(crate) fn operation(&self, stream: Stream, index: u64) -> Operation {
        let mut random = Random::of(self.profile.seed, stream, index);
        if let Stream::Preload = stream {
            let (version, key) = (index / self.profile.keys, index % self.profile.keys);
            return Operation {
                kind: OperationKind::Put,
                key,
                timestamp: timestamp_of(version),
                values: random,
            };
        }
        let kind = match self.profile.workload {
            Workload::Floor => OperationKind::Floor,
            Workload::Mixed if random.unit() < self.profile.read_share => OperationKind::Floor,
            Workload::Put | Workload::Mixed => OperationKind::Put,
        };
        let key = self.choose_key(&mut random);
        let timestamp = match kind {
            OperationKind::Put => {
                let written = self.puts[key as usize].fetch_add(1, Ordering::Relaxed);
                timestamp_of(self.profile.first_version + written)
            }
            OperationKind::Floor => random.below(timestamp_of(self.profile.versions) as u64) as i64,
        };
        Operation { kind, key, timestamp, values: random }
    }

    fn choose_key(&self, random: &mut Random) -> u64 {
        match &self.zipf {
            None => random.below(self.profile.keys),
            Some(zipf) => scatter(zipf.rank(random.unit()), self.profile.keys),
        }
    }

    /// How operations are told.
    pub(crate) fn api(&self) -> Api {
        self.profile.api
    }

    /// The path and query of an operation's HTTP request.
    pub(crate) fn target(&self, operation: &Operation) -> String {
        let Operation { kind, key, timestamp, .. } = operation;
        match (self.profile.api, kind) {
            (Api::V1, OperationKind::Put) => format!("/v1/kv/sensor-{key:08}?ts={timestamp}"),
            (Api::V1, OperationKind::Floor) => format!("/v1/kv/sensor-{key:08}?at={timestamp}"),
            (Api::Root, OperationKind::Floor) => {
                format!("/?key=sensor-{key:08}&timestamp={timestamp}")
            }
            _ => "/".to_owned(),
        }
    }

    /// The body of an operation's HTTP request; empty where there is none.
    pub(crate) fn body(&self, operation: &Operation) -> String {
        let Operation { kind, key, timestamp, .. } = operation;
        match (self.profile.api, kind) {
            (Api::V1, OperationKind::Put) => self.value(operation),
            (_, OperationKind::Put) => {
                let value = self.value(operation);
                format!(r#"{{"key":"sensor-{key:08}","timestamp":{timestamp},"value":{value}}}"#)
            }
            (Api::Body, OperationKind::Floor) => {
                format!(r#"{{"key":"sensor-{key:08}","timestamp":{timestamp}}}"#)
            }
            (_, OperationKind::Floor) => String::new(),
        }
    }

    /// An operation as a command to Redis: its words.
    pub(crate) fn words(&self, operation: &Operation) -> Vec<String> {
        let Operation { kind, key, timestamp, .. } = operation;
        let (key, timestamp) = (format!("sensor-{key:08}"), timestamp.to_string());
        match kind {
            OperationKind::Put => {
                let member = format!("{timestamp}:{}", self.value(operation));
                vec!["ZADD".to_owned(), key, timestamp, member]
            }
            OperationKind::Floor => {
                let range = [key, timestamp].into_iter();
                let limit = ["-inf", "LIMIT", "0", "1"].map(str::to_owned);
                ["ZREVRANGEBYSCORE".to_owned()].into_iter().chain(range).chain(limit).collect()
            }
        }
    }

    fn value(&self, operation: &Operation) -> String {
        let mut value = String::with_capacity(32 + self.profile.value_bytes);
        push_value(&mut value, self.profile.value_bytes, operation.values.clone());
        value
    }
}

fn timestamp_of(version: u64) -> i64 {
    version as i64 * TIMESTAMP_STEP
}

/// Appends an object of sensor readings: a temperature, a humidity, and as many more channels as
/// fit into `bytes`. Readings are drawn anew for every value: a constant padding would compress
/// away and flatter the store.
fn push_value(out: &mut String, bytes: usize, mut random: Random) {
    let start = out.len();
    let _ = write!(out, r#"{{"t":{}.{:02}"#, 15 + random.below(15), random.below(100));
    let _ = write!(out, r#","h":{}"#, 20 + random.below(70));
    for channel in 0_u32.. {
        let before = out.len();
        let _ = write!(out, r#","c{channel}":{}.{:02}"#, random.below(1000), random.below(100));
        if out.len() - start >= bytes {
            out.truncate(before);
            break;
        }
    }
    out.push('}');
}

/// Maps a rank to a key, one to one.
fn scatter(rank: u64, keys: u64) -> u64 {
    // A prime that does not divide the number of keys makes the multiplication a bijection.
    const PRIME: u128 = 0xffff_ffff_ffff_ffc5;
    (u128::from(rank) * PRIME % u128::from(keys)) as u64
}

/// The generator of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators"
/// (OOPSLA 2014), known as `SplitMix64`: one word of state, so one per operation costs nothing.
#[derive(Clone, Debug, PartialEq)]
struct Random(u64);

impl Random {
    /// Two rounds of mixing keep the sequences of neighbouring operations apart: with `seed +
    /// index` as the state, one would be the other, shifted.
    fn of(seed: u64, stream: Stream, index: u64) -> Random {
        let of_stream = Random(seed ^ ((stream as u64 + 1) << 56)).next();
        Random(Random(of_stream ^ index).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..bound`; the bias of the multiplication is below `bound / 2^64`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// In `0.0..1.0`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Draws ranks by Zipf's law: the method of Gray, Sundaresan, Englert, Baclawski and Weinberger,
/// "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994), which is also that of
/// YCSB's `ZipfianGenerator`. Exact for the two most popular ranks, approximate for the others.
struct Zipf {
    count: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
    /// `1 + 0.5^theta`: the weights of the first two ranks.
    two: f64,
}

impl Zipf {
    /// Sums `count` terms. `0 < theta < 1`.
    fn new(count: u64, theta: f64) -> Zipf {
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-theta)).sum();
        let two = 1.0 + 0.5_f64.powf(theta);
        // With fewer than three ranks `eta` is not a number, and never reached.
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - theta)) / (1.0 - two / zeta);
        Zipf { count, zeta, alpha: 1.0 / (1.0 - theta), eta, two }
    }

    /// The rank, from 0, that belongs to `unit`, which is uniform in `0.0..1.0`.
    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 || self.count == 1 {
            0
        } else if scaled < self.two || self.count == 2 {
            1
        } else {
            let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
            (rank as u64).min(self.count - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn profile(workload: Workload) -> Profile {
        Profile {
            api: Api::Root,
            workload,
            keys: 50,
            versions: 4,
            first_version: 4,
            distribution: Distribution::Uniform,
            read_share: 0.75,
            value_bytes: 100,
            seed: 7,
        }
    }

    #[test]
    fn zipf_has_the_shape_of_its_law() {
        let (count, theta, total) = (1_000_u64, 0.99, 200_000_u32);
        let zipf = Zipf::new(count, theta);
        let mut random = Random(1);
        let mut seen = vec![0_u32; count as usize];
        for _ in 0..total {
            seen[zipf.rank(random.unit()) as usize] += 1;
        }
        let share = |ranks: std::ops::Range<usize>| {
            f64::from(seen[ranks].iter().sum::<u32>()) / f64::from(total)
        };
        let law = |ranks: std::ops::Range<usize>| {
            ranks.map(|rank| (rank as f64 + 1.0).powf(-theta) / zipf.zeta).sum::<f64>()
        };
        for (ranks, tolerance) in
            [(0..1, 0.005), (1..2, 0.005), (0..10, 0.03), (0..100, 0.03), (500..1000, 0.03)]
        {
            let (drawn, expected) = (share(ranks.clone()), law(ranks.clone()));
            assert!((drawn - expected).abs() < tolerance, "{ranks:?}: {drawn} of {expected}");
        }
    }

    #[test]
    fn zipf_stays_within_few_keys_and_at_both_ends() {
        for count in [1, 2, 3, 1000] {
            let zipf = Zipf::new(count, 0.99);
            assert_eq!(zipf.rank(0.0), 0);
            assert_eq!(zipf.rank(1.0 - f64::EPSILON), count - 1, "{count} keys");
        }
    }

    #[test]
    fn scattering_loses_no_key() {
        for keys in [1, 2, 3, 1000, 4096] {
            let all: HashSet<u64> = (0..keys).map(|rank| scatter(rank, keys)).collect();
            assert_eq!(all.len() as u64, keys);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_operations_and_streams_differ() {
        let list = |stream, seed| -> Vec<Operation> {
            let generator = Generator::new(Profile { seed, ..profile(Workload::Mixed) });
            (0..100).map(|index| generator.operation(stream, index)).collect()
        };
        assert_eq!(list(Stream::Measured, 7), list(Stream::Measured, 7));
        assert_ne!(list(Stream::Measured, 7), list(Stream::Measured, 8));
        assert_ne!(list(Stream::Measured, 7), list(Stream::Warmup, 7));
    }

    #[test]
    fn the_preload_writes_every_version_once_and_floors_ask_within_it() {
        let generator = Generator::new(profile(Workload::Floor));
        let preloaded: HashSet<(u64, i64)> = (0..generator.preload_count())
            .map(|index| generator.operation(Stream::Preload, index))
            .map(|put| (put.key, put.timestamp))
            .collect();
        let expected = (0..50).flat_map(|key| (0..4).map(move |v| (key, v * TIMESTAMP_STEP)));
        assert_eq!(preloaded, expected.collect());
        for index in 0..1000 {
            let floor = generator.operation(Stream::Measured, index);
            assert_eq!(floor.kind, OperationKind::Floor);
            assert!(floor.key < 50 && (0..4 * TIMESTAMP_STEP).contains(&floor.timestamp));
        }
    }

    #[test]
    fn puts_rise_by_one_step_per_key_above_the_preload() {
        let generator = Generator::new(profile(Workload::Put));
        let mut next = [4; 50];
        for index in 0..1000 {
            let put = generator.operation(Stream::Measured, index);
            let version = &mut next[put.key as usize];
            assert_eq!(put.timestamp, *version * TIMESTAMP_STEP);
            *version += 1;
        }
    }

    #[test]
    fn the_read_share_is_kept() {
        let generator = Generator::new(profile(Workload::Mixed));
        let floors = (0..10_000)
            .filter(|&i| generator.operation(Stream::Measured, i).kind == OperationKind::Floor)
            .count();
        assert!((7_300..7_700).contains(&floors), "{floors}");
    }

    #[test]
    fn a_put_is_json_of_about_the_length_asked_for() {
        for value_bytes in [0, 18, 100, 5_000] {
            let generator = Generator::new(Profile { value_bytes, ..profile(Workload::Put) });
            let put = generator.operation(Stream::Measured, 3);
            let body = generator.body(&put);
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(json["key"], format!("sensor-{:08}", put.key));
            assert_eq!(json["timestamp"], put.timestamp);
            assert!(json["value"]["t"].is_f64() && json["value"]["h"].is_u64());
            let length = body.len() - body.find("{\"t\"").unwrap() - 1;
            let most = value_bytes.max(18);
            assert!(length <= most && length + 20 > most, "{length} for {value_bytes}");
        }
    }

    #[test]
    fn each_api_has_its_way_to_tell_an_operation() {
        let told = |api, kind| {
            let generator = Generator::new(Profile { api, ..profile(Workload::Floor) });
            let of_stream = generator.operation(Stream::Warmup, 0);
            let operation = Operation { kind, key: 1234, timestamp: 56, ..of_stream };
            (generator.target(&operation), generator.body(&operation), generator.words(&operation))
        };
        let (target, body, _) = told(Api::Root, OperationKind::Floor);
        assert_eq!((&*target, &*body), ("/?key=sensor-00001234&timestamp=56", ""));
        let (target, body, _) = told(Api::Body, OperationKind::Floor);
        assert_eq!((&*target, &*body), ("/", r#"{"key":"sensor-00001234","timestamp":56}"#));
        let (target, body, _) = told(Api::V1, OperationKind::Floor);
        assert_eq!((&*target, &*body), ("/v1/kv/sensor-00001234?at=56", ""));
        let (target, value, words) = told(Api::V1, OperationKind::Put);
        assert_eq!(target, "/v1/kv/sensor-00001234?ts=56");
        assert!(value.starts_with(r#"{"t":"#), "{value}");
        assert_eq!(words, ["ZADD", "sensor-00001234", "56", &format!("56:{value}")]);
        let (target, body, _) = told(Api::Body, OperationKind::Put);
        let whole = format!(r#"{{"key":"sensor-00001234","timestamp":56,"value":{value}}}"#);
        assert_eq!((&*target, body), ("/", whole));
        let (_, _, words) = told(Api::Redis, OperationKind::Floor);
        let range = ["sensor-00001234", "56", "-inf", "LIMIT", "0", "1"];
        assert_eq!((&*words[0], &words[1..]), ("ZREVRANGEBYSCORE", &range.map(str::to_owned)[..]));
    }

    #[test]
    fn profiles_that_cannot_be_sent_are_refused() {
        let good = profile(Workload::Mixed);
        assert_eq!(good.check(), Ok(()));
        for bad in [
            Profile { keys: 0, ..good.clone() },
            Profile { versions: 0, ..good.clone() },
            Profile { keys: u64::MAX, ..good.clone() },
            Profile { first_version: u64::MAX, ..good.clone() },
            Profile { read_share: 1.5, ..good.clone() },
            Profile { read_share: f64::NAN, ..good.clone() },
            Profile { distribution: Distribution::Zipf(1.0), ..good.clone() },
            Profile { distribution: Distribution::Zipf(f64::NAN), ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
