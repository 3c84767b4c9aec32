//! A skiplist in an arena: the order of the keys of a memtable, and that of one key's late versions.
//!
//! It knows nothing of what a node holds. The caller gives an order by telling, of a node, whether
//! it comes before the place looked for. A node's index lies between its tower, which grows
//! downwards, and its contents, which the caller lays out upwards; so neither has to know the size
//! of the other. The contents of a list's head are the list's own: its fingers.
//!
//! ```text
//!          tower, two links a word                 contents
//!   ... | level 2, level 3 | level 0, level 1 | index: the caller's words ...
//!                            contents of a head | finger 0, finger 1 | finger 2, finger 3
//! ```
//! Finger `l` is the node inserted last with level `l`. Nodes often come in ascending order, and a
//! node that goes right behind the fingers of its levels needs no descent.
//!
//! # Thread safety
//! One writer (it holds the arena's [`Allocator`]) inserts while readers descend. A link is stored
//! with Release after the node's contents and its own links, and loaded with Acquire; so whoever
//! meets a node sees all of it. Nodes are never removed.
//!
//! # Invariants
//! - Level 0 links every node in order; each level above links a part of the nodes below it. A node
//!   is linked from level 0 upwards, so that this holds at every moment, for readers too.
//! - A node has all levels below its height, and is reached at no other.
//! - Fingers are the writer's alone.

use super::arena::{Allocator, Arena, NULL};

/// The most levels of a tower. With one node in four reaching the next level, twelve serve sixteen
/// million nodes.
pub(super) const HEIGHT_MAX: u32 = 12;

/// One node in `1 << BRANCHING_LOG2` of a level reaches the next.
const BRANCHING_LOG2: u32 = 2;

/// The most words of a tower.
pub(super) const TOWER_WORDS_MAX: u32 = tower_words(HEIGHT_MAX);

/// The levels with a finger. One node in 256 is higher and always descends.
const FINGERS: u32 = 4;

/// What a head takes: a tower and the fingers.
pub(super) const HEAD_WORDS: u32 = TOWER_WORDS_MAX + FINGERS / 2;

const fn tower_words(height: u32) -> u32 {
    height.div_ceil(2)
}

/// Draws the heights of towers. The same draws give the same list, so that a failure can be
/// replayed.
pub(super) struct Heights {
    state: u64,
}

impl Heights {
    pub(super) fn new() -> Heights {
        Heights { state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn draw(&mut self) -> u32 {
        // Marsaglia's xorshift64: never zero, if not begun with zero.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (1 + self.state.leading_zeros() / BRANCHING_LOG2).min(HEIGHT_MAX)
    }
}

/// A node that is not in a list yet.
#[derive(Clone, Copy)]
pub(super) struct NewNode {
    /// Where its contents begin.
    pub(super) index: u32,
    height: u32,
}

impl NewNode {
    /// Takes room for a node with this many words of contents.
    pub(super) fn take(
        arena: &Arena,
        allocator: &mut Allocator,
        heights: &mut Heights,
        content_words: u32,
    ) -> NewNode {
        let height = heights.draw();
        let tower = tower_words(height);
        let index = allocator.take(arena, tower + content_words) + tower;
        NewNode { index, height }
    }
}

/// A list by its head.
#[derive(Clone, Copy)]
pub(super) struct SkipList<'a> {
    arena: &'a Arena,
    head: u32,
}

impl<'a> SkipList<'a> {
    /// The list whose head is at `head`.
    pub(super) fn at(arena: &'a Arena, head: u32) -> Self {
        SkipList { arena, head }
    }

    /// Takes room for an empty list; it is found again by its head.
    pub(super) fn create(arena: &Arena, allocator: &mut Allocator) -> u32 {
        allocator.take(arena, HEAD_WORDS) + TOWER_WORDS_MAX
    }

    /// The node after `node`; [`NULL`] at the end.
    pub(super) fn next(self, node: u32) -> u32 {
        self.link(node, 0)
    }

    /// The last node that comes before the place looked for, and the first that does not; [`NULL`]
    /// where there is none. `before` holds for the nodes up to some node and for none after it.
    pub(super) fn split(self, before: impl Fn(u32) -> bool) -> (u32, u32) {
        let (last, first) = self.descend(before, |_, _, _| ());
        (if last == self.head { NULL } else { last }, first)
    }

    /// Puts a node, its contents written, where `before` says. For the writer only.
    pub(super) fn insert(self, node: NewNode, before: impl Fn(u32) -> bool) {
        let mut neighbours = [(NULL, NULL); HEIGHT_MAX as usize];
        if !self.at_fingers(node.height, &before, &mut neighbours) {
            self.descend(before, |level, last, first| neighbours[level as usize] = (last, first));
        }
        for (level, &(_, first)) in (0..node.height).zip(&neighbours) {
            self.set_link(node.index, level, first);
        }
        for (level, &(last, _)) in (0..node.height).zip(&neighbours) {
            self.set_link(last, level, node.index);
        }
        for level in 0..node.height.min(FINGERS) {
            self.arena.publish_half(self.head + level / 2, level % 2, node.index);
        }
    }

    /// Whether the place looked for is right behind the fingers, on all levels below `height`; then
    /// the neighbours there are known.
    fn at_fingers(
        self,
        height: u32,
        before: impl Fn(u32) -> bool,
        neighbours: &mut [(u32, u32)],
    ) -> bool {
        height <= FINGERS
            && (0..height).zip(neighbours).all(|(level, neighbours)| {
                let last = self.arena.acquire_half(self.head + level / 2, level % 2);
                if last == NULL || !before(last) {
                    return false;
                }
                let first = self.link(last, level);
                *neighbours = (last, first);
                first == NULL || !before(first)
            })
    }

    /// Goes down the levels, and tells `at_level` between which neighbours it leaves each one.
    /// Returns the neighbours on level 0.
    fn descend(
        self,
        before: impl Fn(u32) -> bool,
        mut at_level: impl FnMut(u32, u32, u32),
    ) -> (u32, u32) {
        let mut last = self.head;
        let mut level = HEIGHT_MAX - 1;
        // The node that ended the level above often ends this one too: it isn't compared again.
        let mut refused = NULL;
        loop {
            let first = self.link(last, level);
            if first != NULL && first != refused && before(first) {
                last = first;
                continue;
            }
            at_level(level, last, first);
            if level == 0 {
                return (last, first);
            }
            refused = first;
            level -= 1;
        }
    }

    fn link(self, node: u32, level: u32) -> u32 {
        self.arena.acquire_half(node - 1 - level / 2, level % 2)
    }

    fn set_link(self, node: u32, level: u32, to: u32) {
        self.arena.publish_half(node - 1 - level / 2, level % 2, to);
    }
}
