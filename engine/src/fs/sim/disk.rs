//! The simulated disk: files and directories that keep what is durable apart from what is only
//! written, and what a power loss leaves of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::mem;
use std::sync::Arc;

use super::fault::FaultKind;

/// What a disk writes whole or not at all, in bytes.
pub(super) const SECTOR: usize = 512;

/// Names a file whatever it is called, also when it has no name left.
pub(super) type InodeNo = u64;

/// The content of one file. Both views are behind an `Arc`, so that a copy of the whole disk, and a
/// map of the file, cost nothing until one of them is written to.
#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What readers see: the page cache. Never shorter than `durable`.
    volatile: Arc<Vec<u8>>,
    /// What a power loss leaves for sure.
    durable: Arc<Vec<u8>>,
    /// The sectors that were written since the last sync, by number.
    dirty: BTreeSet<usize>,
    /// How many open handles there are; while there are any, the inode stays.
    pub(super) handles: usize,
}

impl Inode {
    /// A file that is durable as it is.
    pub(super) fn durable(bytes: Vec<u8>) -> Inode {
        let bytes = Arc::new(bytes);
        Inode { volatile: Arc::clone(&bytes), durable: bytes, ..Inode::default() }
    }

    /// What readers see.
    pub(super) fn content(&self) -> &Arc<Vec<u8>> {
        &self.volatile
    }

    /// Writes `data` at `offset`; what lies between the old end and `offset` becomes zeros.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len();
        let content = Arc::make_mut(&mut self.volatile);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(data);
        self.dirty.extend(offset / SECTOR..=(end - 1) / SECTOR);
    }

    /// Makes the dirty sectors durable, and the length that they give the file.
    pub(super) fn sync(&mut self) {
        for sector in mem::take(&mut self.dirty) {
            self.persist(sector, usize::MAX);
        }
    }

    /// What Linux may do when a sync fails: the dirty data stays in the page cache, where readers
    /// see it, but counts as clean, so that no later sync writes it.
    pub(super) fn fail_sync(&mut self) {
        self.dirty.clear();
    }

    /// A power loss that nothing survives but what was synced.
    pub(super) fn lose(&mut self) {
        self.dirty.clear();
        self.volatile = Arc::clone(&self.durable);
    }

    /// A power loss in the middle of writing back: some dirty sectors were written, in any order,
    /// and the file has some length between its durable one and the one that was written. A sector
    /// within that length that was not written holds its old bytes, followed by zeros.
    pub(super) fn tear(&mut self, rng: &mut Rng) {
        let old_len = self.durable.len();
        let dirty_end = self.dirty.last().map_or(0, |last| (last + 1) * SECTOR);
        let new_len = old_len.max(dirty_end.min(self.volatile.len()));
        let len = match rng.below(3) {
            0 => old_len,
            1 => new_len,
            _ => old_len + rng.below(new_len - old_len + 1),
        };
        if len > old_len {
            Arc::make_mut(&mut self.durable).resize(len, 0);
        }
        let odds = rng.odds();
        for sector in mem::take(&mut self.dirty) {
            if rng.happens(odds) {
                self.persist(sector, len);
            }
        }
        self.lose();
    }

    /// Copies one sector to the durable content, up to byte `len_max` of the file.
    fn persist(&mut self, sector: usize, len_max: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.volatile.len()).min(len_max);
        if from >= to {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        if durable.len() < to {
            durable.resize(to, 0);
        }
        durable[from..to].copy_from_slice(&self.volatile[from..to]);
    }

    /// Damages the byte at `offset`, in both views.
    pub(super) fn damage(&mut self, offset: usize, xor: u8) {
        assert!(offset < self.volatile.len(), "the damage at {offset} is past the end of the file");
        Arc::make_mut(&mut self.volatile)[offset] ^= xor;
        if offset < self.durable.len() {
            Arc::make_mut(&mut self.durable)[offset] ^= xor;
        }
    }

    /// Shortens both views to at most `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        Arc::make_mut(&mut self.volatile).truncate(len);
        Arc::make_mut(&mut self.durable).truncate(len);
        self.dirty.retain(|sector| sector * SECTOR < len);
    }
}

/// A change of one directory that happens whole or not at all: `inode` loses the name `from` and
/// gets the name `to`. Creating has only `to`, removing only `from`.
#[derive(Clone)]
struct Change {
    inode: InodeNo,
    from: Option<OsString>,
    to: Option<OsString>,
}

impl Change {
    /// The old name goes only if it still is this file's: an earlier change may not have survived.
    fn apply(&self, names: &mut BTreeMap<OsString, InodeNo>) {
        if let Some(from) = &self.from
            && names.get(from) == Some(&self.inode)
        {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.inode);
        }
    }
}

/// The names in one directory.
#[derive(Clone, Default)]
pub(super) struct Dir {
    volatile: BTreeMap<OsString, InodeNo>,
    durable: BTreeMap<OsString, InodeNo>,
    /// What leads from `durable` to `volatile`.
    pending: Vec<Change>,
}

impl Dir {
    pub(super) fn get(&self, name: &OsStr) -> Option<InodeNo> {
        self.volatile.get(name).copied()
    }

    /// The names of today, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.volatile.keys().map(OsString::as_os_str)
    }

    /// Takes the name `from` off `inode` and gives it the name `to`, in one step.
    pub(super) fn change(&mut self, inode: InodeNo, from: Option<&OsStr>, to: Option<&OsStr>) {
        let change = Change { inode, from: from.map(OsStr::to_owned), to: to.map(OsStr::to_owned) };
        change.apply(&mut self.volatile);
        self.pending.push(change);
    }

    /// Makes the names of today durable.
    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.volatile);
    }

    /// A power loss that nothing survives but what was synced.
    pub(super) fn lose(&mut self) {
        self.pending.clear();
        self.volatile.clone_from(&self.durable);
    }

    /// A power loss in the middle of writing back: each change is there or not.
    pub(super) fn tear(&mut self, rng: &mut Rng) {
        let odds = rng.odds();
        for change in mem::take(&mut self.pending) {
            if rng.happens(odds) {
                change.apply(&mut self.durable);
            }
        }
        self.lose();
    }

    /// Every file that has a name here, or that a crash could leave with one.
    pub(super) fn inodes(&self) -> impl Iterator<Item = InodeNo> {
        let named = self.volatile.values().chain(self.durable.values());
        named.copied().chain(self.pending.iter().map(|change| change.inode))
    }
}

/// `SplitMix64`: every choice of a simulation follows from its seed.
#[derive(Clone)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// How much of one file or directory survives, in quarters. Drawn for each, because with even
    /// odds throughout a large file would never survive, or be lost, as a whole.
    fn odds(&mut self) -> usize {
        self.below(5)
    }

    fn happens(&mut self, odds: usize) -> bool {
        self.below(4) < odds
    }

    /// Where some sector of a file of this length begins; 0 where it has none.
    pub(super) fn sector(&mut self, file_len: usize) -> usize {
        self.below(file_len.div_ceil(SECTOR).max(1)) * SECTOR
    }

    /// Makes what was read of a file a lie: a flipped bit, or another sector of the file in the place of
    /// one that was asked for.
    pub(super) fn lie(&mut self, kind: FaultKind, file: &[u8], read: &mut [u8]) {
        if kind == FaultKind::Misdirected {
            let (from, to) = (self.sector(file.len()), self.sector(read.len()));
            let len = SECTOR.min(file.len() - from).min(read.len() - to);
            read[to..to + len].copy_from_slice(&file[from..from + len]);
        } else {
            self.flip_bit(read);
        }
    }

    /// Flips one bit of `bytes`, if there is one.
    pub(super) fn flip_bit(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let bit = self.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
