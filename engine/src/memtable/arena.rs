//! The memory of a memtable: one fixed array of words, addressed by index.
//!
//! # Thread safety
//! One writer, any number of readers, no locks. The writer is whoever holds the [`Allocator`]: it
//! alone stores, and it stores only into words that it has taken or, whole, into words that it
//! publishes. Readers load at any time.
//!
//! # Invariants
//! - The array never moves, grows or is given back before the arena is dropped, so that an index
//!   stays good for as long as the arena is borrowed.
//! - Contents ([`Arena::get`], [`Arena::set`], bytes) are written before the index that leads to
//!   them is published, and never again: a reader who came by way of [`Arena::acquire`] or
//!   [`Arena::acquire_half`] may read them relaxed.
//! - Index 0 is taken by nobody: it is [`NULL`].

use std::sync::atomic::Ordering;

use crate::fs::prefetch;
use crate::sync::{Word, zeroed_words};

/// The index that leads nowhere.
pub(super) const NULL: u32 = 0;

pub(super) const WORD_BYTES: usize = size_of::<u64>();

/// Words of zeros.
pub(super) struct Arena {
    words: Box<[Word]>,
}

impl Arena {
    /// An arena out of which `words` words can be taken.
    pub(super) fn new(words: u64) -> Arena {
        assert!(words < u64::from(u32::MAX), "an arena of {words} words: indexes have 32 bits");
        Arena { words: zeroed_words(words as usize + 1) }
    }

    /// Reads a word whose index was published after it was written.
    pub(super) fn get(&self, index: u32) -> u64 {
        self.words[index as usize].load(Ordering::Relaxed)
    }

    /// Writes a word that no reader has been led to yet.
    pub(super) fn set(&self, index: u32, word: u64) {
        self.words[index as usize].store(word, Ordering::Relaxed);
    }

    /// Reads a word that [`Arena::publish`] may be changing.
    pub(super) fn acquire(&self, index: u32) -> u64 {
        self.words[index as usize].load(Ordering::Acquire)
    }

    /// Shows a word to readers, and with it all that was written before.
    pub(super) fn publish(&self, index: u32, word: u64) {
        self.words[index as usize].store(word, Ordering::Release);
    }

    /// Reads one of the two indexes that share a word: `half` is 0 or 1.
    pub(super) fn acquire_half(&self, index: u32, half: u32) -> u32 {
        (self.acquire(index) >> (32 * half)) as u32
    }

    /// Shows an index to readers, and with it all that was written before. The other half stays as
    /// it is: a load and a store suffice, because nobody else stores.
    pub(super) fn publish_half(&self, index: u32, half: u32, value: u32) {
        let kept = self.get(index) & !(u64::from(u32::MAX) << (32 * half));
        self.publish(index, kept | u64::from(value) << (32 * half));
    }

    /// Writes `bytes` into words that no reader has been led to yet, see [`word_of`].
    pub(super) fn set_bytes(&self, index: u32, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<WORD_BYTES>();
        let (words, last) = self.words[index as usize..].split_at(whole.len());
        for (word, bytes) in words.iter().zip(whole) {
            word.store(u64::from_be_bytes(*bytes), Ordering::Relaxed);
        }
        if !rest.is_empty() {
            last[0].store(word_of(rest), Ordering::Relaxed);
        }
    }

    /// Whether these are the bytes that [`Arena::set_bytes`] wrote; there were as many.
    pub(super) fn holds_bytes(&self, index: u32, bytes: &[u8]) -> bool {
        let (whole, rest) = bytes.as_chunks::<WORD_BYTES>();
        let (words, last) = self.words[index as usize..].split_at(whole.len());
        let same = |(word, bytes): (&Word, &[u8; WORD_BYTES])| {
            word.load(Ordering::Relaxed) == u64::from_be_bytes(*bytes)
        };
        words.iter().zip(whole).all(same)
            && (rest.is_empty() || last[0].load(Ordering::Relaxed) == word_of(rest))
    }

    /// Tells that `len` bytes that [`Arena::set_bytes`] wrote will be read soon.
    pub(super) fn prefetch_bytes(&self, index: u32, len: usize) {
        prefetch(&self.words[index as usize..][..len.div_ceil(WORD_BYTES)]);
    }

    /// Replaces `out` by the `len` bytes that [`Arena::set_bytes`] wrote.
    pub(super) fn get_bytes(&self, index: u32, len: usize, out: &mut Vec<u8>) {
        let words = &self.words[index as usize..][..len.div_ceil(WORD_BYTES)];
        out.clear();
        out.resize(words.len() * WORD_BYTES, 0);
        for (bytes, word) in out.as_chunks_mut::<WORD_BYTES>().0.iter_mut().zip(words) {
            *bytes = word.load(Ordering::Relaxed).to_be_bytes();
        }
        out.truncate(len);
    }
}

/// The first eight bytes as a word, padded with zeros: big endian, so that words compare as the
/// bytes do.
pub(super) fn word_of(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk::<WORD_BYTES>() {
        return u64::from_be_bytes(*whole);
    }
    let mut padded = [0; WORD_BYTES];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(padded)
}

/// How many words hold `len` bytes.
pub(super) fn words_for(len: usize) -> u32 {
    len.div_ceil(WORD_BYTES) as u32
}

/// Gives out the words of one arena, front to back; to hold it is to be the writer.
///
/// It keeps two counts. What is *taken* bounds the arena. What is *charged* is what the contents
/// amount to, and is what callers reckon with: room that an array takes ahead for its growth is not
/// charged until it is used.
pub(super) struct Allocator {
    next: u32,
    charged_words: u64,
}

impl Allocator {
    pub(super) fn new() -> Allocator {
        Allocator { next: NULL + 1, charged_words: 0 }
    }

    /// Takes `words` zeroed words and charges them.
    pub(super) fn take(&mut self, arena: &Arena, words: u32) -> u32 {
        self.charge(words);
        self.take_ahead(arena, words)
    }

    /// Takes `words` zeroed words; the caller charges what it uses of them.
    pub(super) fn take_ahead(&mut self, arena: &Arena, words: u32) -> u32 {
        let index = self.next;
        let left = arena.words.len() - index as usize;
        assert!(words as usize <= left, "the memtable is full: {words} words of {left} left");
        self.next += words;
        index
    }

    pub(super) fn charge(&mut self, words: u32) {
        self.charged_words += u64::from(words);
    }

    pub(super) fn charged_words(&self) -> u64 {
        self.charged_words
    }
}
