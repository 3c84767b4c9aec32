//! Which node a key has: a hash table over the keys of a memtable, beside the skiplist that orders
//! them.
//!
//! ```text
//! root, one word:  log2 of the number of slots u32 | index of the first slot u32
//! slot, one word:  tag: the upper half of the key's hash u32 | index of the key's node u32; 0 if free
//! ```
//! Open addressing with linear probing. A slot's place is the leading bits of its tag, so a table is
//! doubled without a look at the keys, in one pass over the old table and the new one.
//!
//! # Thread safety
//! One writer (it holds the arena's [`Allocator`]) inserts while readers probe. A slot is stored with
//! Release after the node that it leads to, and the root after all slots of its table. A reader that
//! still has an old root finds there every key that was shown before the root was replaced.
//!
//! # Invariants
//! - At most three in four slots of a table are used, so that a probe ends soon, and ends at all.
//! - No two slots lead to the same key.
//! - With n keys, all tables but the first take at most twice `INDEXED_KEY_WORDS * n` words: a table
//!   of c slots is taken with key 3/8 c + 1, and those before it are smaller by half each.

use super::arena::{Allocator, Arena, NULL};
use crate::key::KeyHash;

/// What a key is charged: a share of the tables.
pub(super) const INDEXED_KEY_WORDS: u32 = 3;

const FIRST_SLOTS_LOG2: u32 = 3;

/// What an empty index takes: its root and the first table.
pub(super) const EMPTY_INDEX_WORDS: u32 = 1 + (1 << FIRST_SLOTS_LOG2);

/// The index by the word of its root.
#[derive(Clone, Copy)]
pub(super) struct KeyIndex<'a> {
    arena: &'a Arena,
    root: u32,
}

/// One table, as it was at one moment.
#[derive(Clone, Copy)]
struct Slots {
    first: u32,
    log2: u32,
}

impl Slots {
    fn read(root: u64) -> Slots {
        Slots { first: root as u32, log2: (root >> 32) as u32 }
    }

    fn to_word(self) -> u64 {
        u64::from(self.log2) << 32 | u64::from(self.first)
    }

    /// The slots in the order in which a tag is looked for, without an end.
    fn probe(self, tag: u32) -> impl Iterator<Item = u32> {
        let mask = (1 << self.log2) - 1;
        let start = tag >> (u32::BITS - self.log2);
        (start..).map(move |at| self.first + (at & mask))
    }

    /// The slot where a key that isn't there goes.
    fn free(self, arena: &Arena, tag: u32) -> u32 {
        let mut probe = self.probe(tag);
        probe.find(|&slot| arena.get(slot) == 0).expect("a table has free slots")
    }
}

impl<'a> KeyIndex<'a> {
    /// The index whose root is at `root`.
    pub(super) fn at(arena: &'a Arena, root: u32) -> Self {
        KeyIndex { arena, root }
    }

    /// Takes room for an empty index; it is found again by its root.
    pub(super) fn create(arena: &Arena, allocator: &mut Allocator) -> u32 {
        let root = allocator.take(arena, EMPTY_INDEX_WORDS);
        arena.set(root, Slots { first: root + 1, log2: FIRST_SLOTS_LOG2 }.to_word());
        root
    }

    /// The node for which `is_key` holds, of those whose key has this hash; [`NULL`] if there is
    /// none.
    pub(super) fn find(self, hash: KeyHash, is_key: impl Fn(u32) -> bool) -> u32 {
        let slots = Slots::read(self.arena.acquire(self.root));
        let tag = tag(hash);
        for slot in slots.probe(tag) {
            let word = self.arena.acquire(slot);
            let node = word as u32;
            if node == NULL || (word >> 32) as u32 == tag && is_key(node) {
                return node;
            }
        }
        NULL
    }

    /// Adds the node of a key that isn't there, where `keys` are. For the writer only.
    pub(super) fn insert(self, allocator: &mut Allocator, keys: usize, hash: KeyHash, node: u32) {
        allocator.charge(INDEXED_KEY_WORDS);
        let mut slots = Slots::read(self.arena.get(self.root));
        if (keys + 1) * 4 > 3 << slots.log2 {
            slots = self.double(allocator, slots);
        }
        let tag = tag(hash);
        self.arena.publish(slots.free(self.arena, tag), u64::from(tag) << 32 | u64::from(node));
    }

    /// Copies a table into one of twice its size, which takes its place.
    fn double(self, allocator: &mut Allocator, old: Slots) -> Slots {
        let log2 = old.log2 + 1;
        let new = Slots { first: allocator.take_ahead(self.arena, 1 << log2), log2 };
        for slot in old.first..old.first + (1 << old.log2) {
            let word = self.arena.get(slot);
            if word != 0 {
                self.arena.set(new.free(self.arena, (word >> 32) as u32), word);
            }
        }
        self.arena.publish(self.root, new.to_word());
        new
    }
}

fn tag(hash: KeyHash) -> u32 {
    (hash.0 >> 32) as u32
}
