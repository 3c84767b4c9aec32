//! What the templates of a table share: skeletons and words, each stored once and named by its number.
//!
//! ```text
//! dictionary: words varint | word * words | skeletons varint | skeleton * skeletons
//! word:       length varint | bytes
//! skeleton:   holes varint | literal * (holes + 1)
//! literal:    length varint | bytes
//! ```

use std::collections::BTreeMap;

use crate::coding::{Decoder, put_bytes, put_varint};
use crate::error::Malformed;
use crate::key::VALUE_BYTES_MAX;

/// A dictionary takes nothing more when its texts reach this size, in bytes: it is held in memory while
/// its table is open. Values that would need more are stored without a template.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What the numbers of words and skeletons stay below, for the same reason.
const ENTRIES_MAX: usize = 1 << 16;

/// Texts of up to so many bytes are copied by a quicker way.
pub(super) const SHORT_BYTES: usize = 16;

/// The most holes of a skeleton.
pub(super) const HOLES_MAX: usize = 512;

/// Skeletons and words, by their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dictionary {
    /// The texts of words, one after the other, and of literals.
    words: Texts,
    literals: Texts,
    /// For each skeleton the end of its literals.
    skeleton_ends: Vec<u32>,
}

/// Texts one after the other.
#[derive(Clone, Debug)]
struct Texts {
    /// With [`SHORT_BYTES`] zeros behind the last one.
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Default for Texts {
    fn default() -> Self {
        Texts { bytes: vec![0; SHORT_BYTES], ends: Vec::new() }
    }
}

/// A text of a dictionary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'d> {
    /// The text and [`SHORT_BYTES`] more.
    padded: &'d [u8],
    len: usize,
}

impl<'d> Text<'d> {
    pub(super) fn bytes(self) -> &'d [u8] {
        &self.padded[..self.len]
    }

    /// Appends the text to `out`. Copying so many bytes as are always there, and giving back those that
    /// are too many, takes a fraction of a copy of unknown length.
    #[inline]
    pub(super) fn push_to(self, out: &mut Vec<u8>) {
        match self.padded.first_chunk::<SHORT_BYTES>() {
            Some(short) if self.len <= SHORT_BYTES => {
                let end = out.len() + self.len;
                out.extend_from_slice(short);
                out.truncate(end);
            }
            _ => out.extend_from_slice(&self.padded[..self.len]),
        }
    }

    /// Writes the text at `at`, perhaps with others behind it, and returns where it ends. Behind it there
    /// is room for [`SHORT_BYTES`] more.
    #[inline]
    pub(super) fn write_at(self, out: &mut [u8], at: usize) -> usize {
        match self.padded.first_chunk::<SHORT_BYTES>() {
            Some(short) if self.len <= SHORT_BYTES => {
                out[at..at + SHORT_BYTES].copy_from_slice(short);
            }
            _ => out[at..at + self.len].copy_from_slice(&self.padded[..self.len]),
        }
        at + self.len
    }

    pub(super) fn len(self) -> usize {
        self.len
    }
}

impl Texts {
    fn push(&mut self, text: &[u8]) {
        self.bytes.truncate(self.len());
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(&[0; SHORT_BYTES]);
    }

    /// What they take in all, in bytes.
    fn len(&self) -> usize {
        self.bytes.len() - SHORT_BYTES
    }

    #[inline]
    fn get(&self, index: usize) -> Option<Text<'_>> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(Text { padded: &self.bytes[start..end + SHORT_BYTES], len: end - start })
    }

    fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().map_or(0, |&end| end as usize));
        self.bytes.extend_from_slice(&[0; SHORT_BYTES]);
    }

    fn encode(&self, texts: std::ops::Range<usize>, out: &mut Vec<u8>) {
        for text in texts.filter_map(|index| self.get(index)) {
            put_bytes(out, text.bytes());
        }
    }

    /// Reads so many texts at the decoder's place. The count is not believed: the loop ends with the
    /// bytes.
    fn read(&mut self, input: &mut Decoder<'_>, count: u64) -> Result<(), Malformed> {
        for _ in 0..count {
            let text = input.bytes(VALUE_BYTES_MAX, "a text of a dictionary")?;
            if u32::try_from(self.len() + text.len()).is_err() {
                return Err(input.malformed("texts of less than 4 GiB"));
            }
            self.push(text);
        }
        Ok(())
    }
}

/// The literals of a skeleton: one before each hole, and one behind the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skeleton<'d> {
    dictionary: &'d Dictionary,
    first: usize,
    pub(super) holes: usize,
}

impl<'d> Skeleton<'d> {
    /// The literal before hole `hole`; that of `holes` is the last one.
    #[inline]
    pub(super) fn literal(&self, hole: usize) -> Text<'d> {
        let literal = self.dictionary.literals.get(self.first + hole);
        literal.unwrap_or(Text { padded: &[], len: 0 })
    }

    /// All its literals.
    pub(super) fn literals(self) -> impl Iterator<Item = &'d [u8]> + Clone {
        (0..=self.holes).map(move |hole| self.literal(hole).bytes())
    }
}

impl Dictionary {
    /// Reads what [`DictionaryBuilder::encode`] wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut dictionary = Dictionary::default();
        let mut input = Decoder::new(bytes);
        let words = input.varint("a count of words")?;
        dictionary.words.read(&mut input, words)?;
        let skeletons = input.varint("a count of skeletons")?;
        if words.max(skeletons) > ENTRIES_MAX as u64 {
            return Err(input.malformed("counts of words and skeletons within their limit"));
        }
        for _ in 0..skeletons {
            let holes = input.varint("a count of holes")?;
            if holes > HOLES_MAX as u64 {
                return Err(input.malformed("a count of holes within its limit"));
            }
            dictionary.literals.read(&mut input, holes + 1)?;
            dictionary.skeleton_ends.push(dictionary.literals.ends.len() as u32);
        }
        if dictionary.words.len() + dictionary.literals.len() > TEXT_BYTES_MAX {
            return Err(input.malformed("texts within their length in all"));
        }
        if !input.is_empty() {
            return Err(input.malformed("the end of the dictionary"));
        }
        Ok(dictionary)
    }

    /// How many words and skeletons it has.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.words.ends.len(), self.skeleton_ends.len())
    }

    #[inline]
    pub(super) fn word(&self, number: u64) -> Result<Text<'_>, Malformed> {
        let word = usize::try_from(number).ok().and_then(|number| self.words.get(number));
        word.ok_or(Malformed { pos: 0, what: "a word of the dictionary" })
    }

    #[inline]
    pub(super) fn skeleton(&self, number: u64) -> Result<Skeleton<'_>, Malformed> {
        let number = usize::try_from(number).ok();
        let end = number.and_then(|number| self.skeleton_ends.get(number));
        let (Some(number), Some(&end)) = (number, end) else {
            return Err(Malformed { pos: 0, what: "a skeleton of the dictionary" });
        };
        let first = number.checked_sub(1).map_or(0, |before| self.skeleton_ends[before]) as usize;
        Ok(Skeleton { dictionary: self, first, holes: end as usize - first - 1 })
    }
}

/// A dictionary that is being filled, each text found by its bytes.
#[derive(Debug, Default)]
pub(super) struct DictionaryBuilder {
    dictionary: Dictionary,
    word_numbers: BTreeMap<Vec<u8>, u64>,
    /// By their encoded form.
    skeleton_numbers: BTreeMap<Vec<u8>, u64>,
}

/// How full a dictionary was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    words: usize,
    skeletons: usize,
}

impl DictionaryBuilder {
    /// As readers will see it.
    pub(super) fn as_read(&self) -> &Dictionary {
        &self.dictionary
    }

    pub(super) fn mark(&self) -> Mark {
        let (words, skeletons) = self.dictionary.counts();
        Mark { words, skeletons }
    }

    /// Forgets what was added since the mark.
    pub(super) fn undo_to(&mut self, mark: Mark) {
        let Dictionary { words, literals, skeleton_ends } = &mut self.dictionary;
        self.word_numbers.retain(|_, &mut number| number < mark.words as u64);
        self.skeleton_numbers.retain(|_, &mut number| number < mark.skeletons as u64);
        words.truncate(mark.words);
        skeleton_ends.truncate(mark.skeletons);
        literals.truncate(skeleton_ends.last().map_or(0, |&end| end as usize));
    }

    /// About what was added since the mark, in bytes.
    pub(super) fn bytes_since(&self, mark: Mark) -> usize {
        let since = |texts: &Texts, from: usize| {
            let start = from.checked_sub(1).map_or(0, |last| texts.ends[last]) as usize;
            texts.len() - start + texts.ends.len() - from
        };
        let Dictionary { words, literals, skeleton_ends } = &self.dictionary;
        let literals_before = mark.skeletons.checked_sub(1).map_or(0, |last| skeleton_ends[last]);
        since(words, mark.words) + since(literals, literals_before as usize)
    }

    /// The number of a word, if it is there already.
    pub(super) fn known_word(&self, word: &[u8]) -> Option<u64> {
        self.word_numbers.get(word).copied()
    }

    /// The number of a word, which is added if need be; `None` where there is no room.
    pub(super) fn word(&mut self, word: &[u8]) -> Option<u64> {
        if let Some(number) = self.known_word(word) {
            return Some(number);
        }
        self.has_room_for(word.len()).then(|| {
            let number = self.dictionary.words.ends.len() as u64;
            self.dictionary.words.push(word);
            self.word_numbers.insert(word.to_vec(), number);
            number
        })
    }

    /// The number of the skeleton of these literals, which is added if need be; `None` where there is
    /// no room.
    pub(super) fn skeleton<'l>(
        &mut self,
        literals: impl Iterator<Item = &'l [u8]> + Clone,
    ) -> Option<u64> {
        let mut encoded = Vec::new();
        literals.clone().for_each(|literal| put_bytes(&mut encoded, literal));
        if let Some(&number) = self.skeleton_numbers.get(&encoded) {
            return Some(number);
        }
        self.has_room_for(encoded.len()).then(|| {
            let number = self.dictionary.skeleton_ends.len() as u64;
            literals.for_each(|literal| self.dictionary.literals.push(literal));
            self.dictionary.skeleton_ends.push(self.dictionary.literals.ends.len() as u32);
            self.skeleton_numbers.insert(encoded, number);
            number
        })
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let Dictionary { words, literals, skeleton_ends } = &self.dictionary;
        words.len() + literals.len() + bytes <= TEXT_BYTES_MAX
            && words.ends.len().max(skeleton_ends.len()) < ENTRIES_MAX
    }

    /// Its bytes in a table.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Dictionary { words, literals, skeleton_ends } = &self.dictionary;
        let mut out = Vec::new();
        put_varint(&mut out, words.ends.len() as u64);
        words.encode(0..words.ends.len(), &mut out);
        put_varint(&mut out, skeleton_ends.len() as u64);
        let mut first = 0;
        for &end in skeleton_ends {
            put_varint(&mut out, u64::from(end) - first as u64 - 1);
            literals.encode(first..end as usize, &mut out);
            first = end as usize;
        }
        out
    }
}
