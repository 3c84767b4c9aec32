//! A file system of its own in a file, whose power can be cut.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::tool;

/// Which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FsKind {
    Ext4,
    Xfs,
}

/// What a power cut leaves of the journal that was in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Journal {
    /// It reached the disk: metadata may be newer than the data.
    Written,
    Lost,
}

/// A mounted file system, gone when it is dropped. Its image is kept if the test fails.
pub(super) struct LoopFs {
    device: String,
    root: PathBuf,
    /// Holds the image and the mount point.
    home: Option<TempDir>,
}

impl LoopFs {
    /// Makes and mounts a file system. The error says what is missing here.
    pub(super) fn make(kind: FsKind) -> Result<LoopFs, String> {
        if !geteuid().is_root() {
            return Err("mounting a file system takes root".to_owned());
        }
        // The smallest that have a journal as large ones do.
        let (mkfs, mebibytes, flags): (_, _, &[_]) = match kind {
            FsKind::Ext4 => ("mkfs.ext4", 64, &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0"]),
            FsKind::Xfs => ("mkfs.xfs", 320, &["-q"]),
        };
        let home = TempDir::new().map_err(|error| error.to_string())?;
        let (image, root) = (home.path().join("image"), home.path().join("mounted"));
        let sized = File::create(&image).and_then(|file| file.set_len(mebibytes << 20));
        sized.and_then(|()| std::fs::create_dir(&root)).map_err(|error| error.to_string())?;
        let image = image.to_str().ok_or("a temporary directory that is not UTF-8")?;
        tool(mkfs, &[flags, &[image]].concat())?;
        tool("xfs_io", &["-V"])?;
        let device = tool("losetup", &["--find", "--show", image])?;
        let fs = LoopFs { device, root, home: Some(home) };
        fs.try_mount()?;
        Ok(fs)
    }

    /// Where it is mounted.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A directory in it.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    /// From now on nothing reaches the disk any more: what was not synced is gone.
    pub(super) fn cut_power(&self, journal: Journal) {
        let command = if journal == Journal::Written { "shutdown -f" } else { "shutdown" };
        tool("xfs_io", &["-x", "-c", command, self.root.to_str().unwrap()]).unwrap();
    }

    /// Power is back: the file system recovers from its journal. Nobody may use it any more.
    pub(super) fn remount(&self) {
        tool("umount", &[self.root.to_str().unwrap()]).unwrap();
        self.try_mount().unwrap();
    }

    fn try_mount(&self) -> Result<(), String> {
        tool("mount", &[&self.device, self.root.to_str().unwrap()]).map(drop)
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        // Who fails may have left a server behind that is ended only later.
        let unmounted = tool("umount", &["--lazy", self.root.to_str().unwrap_or_default()]);
        let detached = tool("losetup", &["--detach", &self.device]);
        if std::thread::panicking()
            && let Some(home) = self.home.take()
        {
            println!("{unmounted:?}, {detached:?}, the image is kept in {}", home.keep().display());
        }
    }
}
