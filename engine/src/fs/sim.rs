//! A file system in memory that loses power, fails and lies where a test tells it to.
//!
//! - What is written is *volatile*: readers see it, and it outlives the process, but not a power
//!   loss. [`WritableFile::sync`] makes a file's content *durable*, [`Fs::sync_dir`] the names in a
//!   directory; neither does the other's work.
//! - Every mutating call (create, write, sync, rename, link, remove, `sync_dir`) has a number; the first is
//!   number 1. [`SimFs::stop_after`] and [`SimFs::stop_within`] end a run at one of them, and
//!   [`SimFs::crash`] then decides what is left. To visit every crash point of a workload, run it
//!   once to learn how many calls it makes, then once for each of them on a [`SimFs::fork`] of the
//!   image that it began with.
//!   Or let [`SimFs::watch`] show each call of one run, and crash a fork there.
//! - A [`Fault`] makes one call fail, or lie.
//!
//! Every choice comes from the seed, so a run that makes the same calls in the same order does the
//! same. All calls are atomic with respect to each other.
//!
//! Simpler than life: directories are durable as soon as they are made, and a file is renamed only
//! within its directory.

mod disk;
mod fault;
mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io, mem};

use parking_lot::{Mutex, MutexGuard};

use self::disk::{Dir, Inode, InodeNo, Rng};
pub use self::fault::{Fault, FaultKind, FsOp};
use self::file::{SimFile, SimLock};
use super::{FileLock, Fs, ReadableFile, WritableFile};

/// What is left after a [crash](SimFs::crash).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// A power loss: what was synced, and nothing else.
    Synced,
    /// The death of the process: all that was written. What was not synced still isn't, so a later
    /// power loss may take it.
    Everything,
    /// A power loss: what was synced, and any of the unsynced 512-byte sectors and directory
    /// changes. So writes are torn and reordered.
    Random,
}

/// A simulated file system. Its clones are handles of the same one.
#[derive(Clone)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    rng: Rng,
    dirs: BTreeMap<PathBuf, Dir>,
    inodes: BTreeMap<InodeNo, Inode>,
    inode_next: InodeNo,
    /// What is locked, and the text of the holder.
    locks: BTreeMap<PathBuf, String>,
    faults: Vec<Fault>,
    mutations: u64,
    stop: Option<Stop>,
    /// How many crashes there were: what was opened or locked before the last one is dead.
    crashes: u64,
    trace: Vec<String>,
    watcher: Option<Watcher>,
}

/// Told of each mutating call.
type Watcher = Arc<dyn Fn(&str) + Send + Sync>;

/// Where the simulation stops: after a mutating call, or halfway through it.
#[derive(Clone, Copy)]
enum Stop {
    After(u64),
    Within(u64),
}

impl SimFs {
    /// An empty file system, of which only the root and the current directory exist. All its choices
    /// follow from `seed`.
    pub fn new(seed: u64) -> SimFs {
        let dirs = ["/", ""].map(|dir| (PathBuf::from(dir), Dir::default()));
        let state = State {
            rng: Rng(seed),
            dirs: BTreeMap::from(dirs),
            inodes: BTreeMap::new(),
            inode_next: 0,
            locks: BTreeMap::new(),
            faults: Vec::new(),
            mutations: 0,
            stop: None,
            crashes: 0,
            trace: Vec::new(),
            watcher: None,
        };
        SimFs { state: Arc::new(Mutex::new(state)) }
    }

    /// A file system of its own with the same files, durable and not, the same faults, numbers and
    /// random choices to come. Nothing in it is open or locked, its trace is empty, and nobody watches.
    #[must_use]
    pub fn fork(&self) -> SimFs {
        let mut state = self.state.lock();
        let trace = mem::take(&mut state.trace);
        let mut fork = state.clone();
        state.trace = trace;
        fork.close_all();
        fork.watcher = None;
        SimFs { state: Arc::new(Mutex::new(fork)) }
    }

    /// From now on all choices follow from this seed.
    pub fn reseed(&self, seed: u64) {
        self.state.lock().rng = Rng(seed);
    }

    /// Ends the process, and with it all open files and locks, and then the power, if `survival`
    /// says so. A stop is over; faults stay.
    ///
    /// Whoever has a clone of this handle may go on calling it: so drop the database first, or crash
    /// a [fork](SimFs::fork).
    pub fn crash(&self, survival: Survival) {
        let state = &mut *self.state.lock();
        state.crashes += 1;
        state.stop = None;
        state.close_all();
        for dir in state.dirs.values_mut() {
            match survival {
                Survival::Synced => dir.lose(),
                Survival::Everything => {}
                Survival::Random => dir.tear(&mut state.rng),
            }
        }
        for inode in state.inodes.values_mut() {
            match survival {
                Survival::Synced => inode.lose(),
                Survival::Everything => {}
                Survival::Random => inode.tear(&mut state.rng),
            }
        }
        state.free_unnamed();
    }

    /// How many mutating calls there were.
    pub fn mutations(&self) -> u64 {
        self.state.lock().mutations
    }

    /// Makes mutating call number `n` the last one that has an effect; the later ones fail, until
    /// the [crash](SimFs::crash). Reads go on.
    pub fn stop_after(&self, n: u64) {
        self.state.lock().stop = Some(Stop::After(n));
    }

    /// As [`SimFs::stop_after`], but call `n` itself fails too: a write after a part of its data,
    /// any other call without effect.
    pub fn stop_within(&self, n: u64) {
        self.state.lock().stop = Some(Stop::Within(n));
    }

    /// Calls `watcher` before each mutating call, with the text that the [trace](SimFs::trace) will
    /// have, on the thread that makes the call. It may do with the file system, and with whatever lies
    /// in it, what a thread of its own could, as long as it does not wait for the caller.
    pub fn watch(&self, watcher: impl Fn(&str) + Send + Sync + 'static) {
        self.state.lock().watcher = Some(Arc::new(watcher));
    }

    /// Ends the [watch](SimFs::watch).
    pub fn unwatch(&self) {
        self.state.lock().watcher = None;
    }

    /// Tells the watcher, unless the call will not be made. Not under the lock.
    fn announce(&self, call: &str) {
        let state = self.state.lock();
        let watcher = state.watcher.clone().filter(|_| state.check_running().is_ok());
        drop(state);
        if let Some(watcher) = watcher {
            watcher(call);
        }
    }

    /// Begins a mutating call whose faults are all errors without effect.
    fn begin(&self, op: FsOp, names: &[&str], call: String) -> io::Result<MutexGuard<'_, State>> {
        self.announce(&call);
        let mut state = self.state.lock();
        state.begin(op, names, call)?.map_or(Ok(()), |kind| Err(kind.error()))?;
        Ok(state)
    }

    /// Makes a call to come fail. Faults are independent: each counts the calls that match it, and
    /// where several strike one call, the oldest shows.
    pub fn inject(&self, fault: Fault) {
        assert!(fault.is_possible(), "a fault that can't be: {fault:?}");
        self.state.lock().faults.push(fault);
    }

    /// Whether there are faults that have not struck, or go on striking.
    pub fn has_faults(&self) -> bool {
        !self.state.lock().faults.is_empty()
    }

    /// Takes back the faults that have not struck.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// The mutating calls so far, failed ones included: `create 000001.wal`,
    /// `write 000001.wal 52+100` (offset and length), `sync 000001.wal`,
    /// `rename CURRENT.tmp CURRENT`, `link 000002.sst 000002.sst`, `remove 000001.wal`, `sync_dir`.
    pub fn trace(&self) -> Vec<String> {
        self.state.lock().trace.clone()
    }

    /// The [trace](SimFs::trace), which begins anew.
    pub fn take_trace(&self) -> Vec<String> {
        mem::take(&mut self.state.lock().trace)
    }
}

/// Looking into the file system, and meddling with it, behind the back of whoever uses it. None of
/// this counts as a call, or fails.
impl SimFs {
    /// The paths of all files, sorted.
    pub fn file_names(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let paths = state.dirs.iter().flat_map(|(dir, d)| d.names().map(|name| dir.join(name)));
        let mut paths: Vec<_> = paths.collect();
        paths.sort_unstable();
        paths
    }

    /// What a reader of the file sees now.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        let inode = state.find(path.as_ref()).ok()?;
        Some(state.inode(inode).content().to_vec())
    }

    /// Makes a file, or replaces it, with its directory; durable at once, and so are the other names
    /// of the directory.
    pub fn put_file(&self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) {
        self.state.lock().put(path.as_ref(), bytes.into());
    }

    /// Removes a file that exists; durable at once, and so are the other names of its directory.
    pub fn remove_file(&self, path: impl AsRef<Path>) {
        let mut state = self.state.lock();
        let inode = state.find_existing(path.as_ref());
        let (dir, name) = split(path.as_ref());
        let dir = state.dirs.entry(dir).or_default();
        dir.change(inode, Some(&name), None);
        dir.sync();
    }

    /// Flips the bits `xor` of the byte at `offset` of an existing file, in what is durable too. Maps
    /// keep what they showed when they were made.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, xor: u8) {
        let mut state = self.state.lock();
        let inode = state.find_existing(path.as_ref());
        state.inode(inode).damage(offset as usize, xor);
    }

    /// Shortens an existing file to at most `len` bytes, in what is durable too.
    pub fn truncate(&self, path: impl AsRef<Path>, len: u64) {
        let mut state = self.state.lock();
        let inode = state.find_existing(path.as_ref());
        state.inode(inode).truncate(len as usize);
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mutations = self.mutations();
        f.debug_struct("SimFs").field("mutations", &mutations).finish_non_exhaustive()
    }
}

impl State {
    fn check_running(&self) -> io::Result<()> {
        match self.stop {
            Some(Stop::After(n) | Stop::Within(n)) if self.mutations >= n => {
                Err(io::Error::other("the simulation has stopped"))
            }
            _ => Ok(()),
        }
    }

    /// Counts a mutating call and says what is to become of it: an error is to be returned as it is,
    /// with no effect; a fault is to be acted out.
    fn begin(&mut self, op: FsOp, names: &[&str], call: String) -> io::Result<Option<FaultKind>> {
        self.check_running()?;
        self.mutations += 1;
        self.trace.push(call);
        match self.stop {
            Some(Stop::Within(n)) if self.mutations == n => match op {
                FsOp::Write => Ok(Some(FaultKind::Short)),
                _ => self.check_running().map(|()| None),
            },
            _ => Ok(self.fault(op, names)),
        }
    }

    /// The fault that strikes this call, if there is one; it is spent by that.
    fn fault(&mut self, op: FsOp, names: &[&str]) -> Option<FaultKind> {
        let mut kind = None;
        self.faults.retain_mut(|fault| {
            let every = fault.nth == 0;
            let strikes = fault.strikes(op, names);
            if strikes {
                kind.get_or_insert(fault.kind);
            }
            every || !strikes
        });
        kind
    }

    fn fault_or_ok(&mut self, op: FsOp, path: &Path) -> io::Result<()> {
        self.fault(op, &[&name_of(path)]).map_or(Ok(()), |kind| Err(kind.error()))
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn find(&mut self, path: &Path) -> io::Result<InodeNo> {
        let (dir, name) = split(path);
        self.dir(&dir)?.get(&name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn find_existing(&mut self, path: &Path) -> InodeNo {
        self.find(path).unwrap_or_else(|_| panic!("there is no file {}", path.display()))
    }

    fn inode(&mut self, no: InodeNo) -> &mut Inode {
        self.inodes.get_mut(&no).expect("an inode stays while it has a name or a handle")
    }

    fn add_inode(&mut self, inode: Inode) -> InodeNo {
        self.inode_next += 1;
        self.inodes.insert(self.inode_next, inode);
        self.inode_next
    }

    fn make_dirs(&mut self, dir: &Path) {
        for dir in dir.ancestors() {
            self.dirs.entry(dir.to_owned()).or_default();
        }
    }

    /// Makes or replaces a file, durable at once.
    fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        let (dir, name) = split(path);
        self.make_dirs(&dir);
        let inode = self.add_inode(Inode::durable(bytes));
        let dir = self.dirs.entry(dir).or_default();
        dir.change(inode, None, Some(&name));
        dir.sync();
    }

    /// Drops the files that no name, handle or crash can lead to any more.
    fn free_unnamed(&mut self) {
        let named: BTreeSet<_> = self.dirs.values().flat_map(Dir::inodes).collect();
        self.inodes.retain(|no, inode| inode.handles > 0 || named.contains(no));
    }

    fn close_all(&mut self) {
        self.locks.clear();
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
        }
    }
}

impl Fs for SimFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_running()?;
        state.fault_or_ok(FsOp::CreateDir, dir)?;
        state.make_dirs(&plain(dir));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        let name = name_of(path);
        let mut state = self.begin(FsOp::Create, &[&name], format!("create {name}"))?;
        let (dir, name) = split(path);
        if state.dir(&dir)?.get(&name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.add_inode(Inode::default());
        state.dir(&dir)?.change(inode, None, Some(&name));
        Ok(Arc::new(SimFile::open(self, &mut state, inode, path)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        let mut state = self.state.lock();
        state.fault_or_ok(FsOp::Open, path)?;
        let inode = state.find(path)?;
        Ok(Arc::new(SimFile::open(self, &mut state, inode, path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let names = [name_of(from), name_of(to)];
        let call = format!("rename {} {}", names[0], names[1]);
        let mut state = self.begin(FsOp::Rename, &[&names[0], &names[1]], call)?;
        let inode = state.find(from)?;
        let ((dir, from), (dir_to, to)) = (split(from), split(to));
        if dir != dir_to {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        state.dir(&dir)?.change(inode, Some(&from), Some(&to));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let names = [name_of(from), name_of(to)];
        let call = format!("link {} {}", names[0], names[1]);
        let mut state = self.begin(FsOp::Link, &[&names[0], &names[1]], call)?;
        let inode = state.find(from)?;
        let (dir, to) = split(to);
        if state.dir(&dir)?.get(&to).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.dir(&dir)?.change(inode, None, Some(&to));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let name = name_of(path);
        let mut state = self.begin(FsOp::Remove, &[&name], format!("remove {name}"))?;
        let inode = state.find(path)?;
        let (dir, name) = split(path);
        state.dir(&dir)?.change(inode, Some(&name), None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.begin(FsOp::SyncDir, &[&name_of(dir)], "sync_dir".to_owned())?;
        state.dir(&plain(dir))?.sync();
        state.free_unnamed();
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state.lock();
        state.fault_or_ok(FsOp::List, dir)?;
        let dir = plain(dir);
        let mut names: Vec<_> = state.dir(&dir)?.names().map(OsStr::to_owned).collect();
        let subdirs = state.dirs.keys().filter(|subdir| subdir.parent() == Some(&dir));
        names.extend(subdirs.filter_map(|subdir| subdir.file_name()).map(OsStr::to_owned));
        names.sort_unstable();
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn random(&self) -> u64 {
        self.state.lock().rng.next()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn FileLock>, String>> {
        let mut state = self.state.lock();
        state.check_running()?;
        state.fault_or_ok(FsOp::Lock, path)?;
        let path = plain(path);
        if let Some(other) = state.locks.get(&path) {
            return Ok(Err(other.clone()));
        }
        // Its name is as durable as any other that is created.
        let (dir, name) = split(&path);
        if state.dir(&dir)?.get(&name).is_none() {
            let inode = state.add_inode(Inode::durable(holder.as_bytes().to_vec()));
            state.dir(&dir)?.change(inode, None, Some(&name));
        }
        state.locks.insert(path.clone(), holder.to_owned());
        Ok(Ok(Box::new(SimLock::new(self, &state, path))))
    }
}

/// The path without its `.` steps: `./db` and `db` are one directory.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|step| *step != Component::CurDir).collect()
}

/// The directory of a file, and its name in it.
fn split(path: &Path) -> (PathBuf, OsString) {
    let path = plain(path);
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    (dir, path.file_name().unwrap_or_default().to_owned())
}

/// The name by which traces and faults know a file.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
