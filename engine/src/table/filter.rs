//! The bloom filter over a table's keys.
//!
//! It sees the key only, never the timestamp: a filter over both would say "not here" of the version
//! that a floor has to fall back to. It is the `bloomfilter` crate over one xxh3 of the key, so that
//! a floor hashes its key once, however many tables it asks.

use bloomfilter::Bloom;

use crate::key::KeyHash;

/// The share of absent keys that pass, at the number of keys that it was made for.
const FALSE_POSITIVE_RATE: f64 = 0.01;

/// The crate makes two hash functions of the two halves: were they equal, so would be the functions,
/// and 3.7 % would pass instead of 1 %. Do not change: the seed is part of the stored filter.
const SEED: [u8; 32] = *b"KVTimeDB bloom A filter seed: B.";

/// The most hash functions that a stored filter may name; the crate makes 7 of them at 1 %.
const HASH_FUNCTIONS_MAX: u32 = 32;

/// A filter in memory.
#[derive(Debug)]
pub(crate) struct Filter {
    bloom: Bloom<u64>,
}

impl Filter {
    /// A filter over these keys, of which there is at least one.
    pub(crate) fn build(hashes: &[KeyHash]) -> Result<Self, &'static str> {
        assert!(!hashes.is_empty(), "a filter over no keys");
        let mut bloom = Bloom::new_for_fp_rate_with_seed(hashes.len(), FALSE_POSITIVE_RATE, &SEED)?;
        for hash in hashes {
            bloom.set(&hash.0);
        }
        Ok(Filter { bloom })
    }

    /// Reads the bytes that [`to_bytes`](Self::to_bytes) made.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let bloom = Bloom::from_slice(bytes)?;
        let functions = bloom.number_of_hash_functions();
        // The crate's `is_empty` asks for set bits; a filter of no bits at all would divide by zero.
        #[allow(clippy::len_zero)]
        let no_bits = bloom.len() == 0;
        if no_bits || functions == 0 || functions > HASH_FUNCTIONS_MAX {
            return Err("a filter with bits and hash functions");
        }
        Ok(Filter { bloom })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.bloom.to_bytes()
    }

    /// `false`: the key is not in the table, for certain.
    pub(crate) fn may_contain(&self, hash: KeyHash) -> bool {
        self.bloom.check(&hash.0)
    }

    /// Its size in bits, and its number of hash functions.
    pub(crate) fn shape(&self) -> (u64, u32) {
        (self.bloom.len(), self.bloom.number_of_hash_functions())
    }

    /// The share of its bits that are set.
    pub(crate) fn fill(&self) -> f64 {
        let bytes = self.bloom.as_slice();
        let bits_at = bytes.len() - (self.bloom.len() / 8) as usize;
        let set: u64 = bytes[bits_at..].iter().map(|byte| u64::from(byte.count_ones())).sum();
        set as f64 / self.bloom.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hashes(range: std::ops::Range<u32>) -> Vec<KeyHash> {
        range.map(|i| KeyHash::of(&i.to_le_bytes())).collect()
    }

    #[test]
    fn it_misses_no_key_and_few_strangers_pass() {
        let filter = Filter::build(&hashes(0..10_000)).unwrap();
        let filter = Filter::parse(&filter.to_bytes()).unwrap();
        assert!(hashes(0..10_000).into_iter().all(|hash| filter.may_contain(hash)));
        let strangers = hashes(10_000..110_000);
        let passed = strangers.into_iter().filter(|&hash| filter.may_contain(hash)).count();
        assert!((500..1500).contains(&passed), "{passed} of 100,000 strangers passed");
        assert!((0.45..0.55).contains(&filter.fill()), "{}", filter.fill());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in Just(Filter::build(&hashes(0..3)).unwrap().to_bytes()),
            at: prop::sample::Index,
            byte: u8,
            len: prop::sample::Index,
        ) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(len.index(bytes.len() + 1));
            if let Ok(filter) = Filter::parse(&bytes) {
                filter.may_contain(KeyHash::of(b"key"));
                filter.fill();
            }
        }
    }
}
