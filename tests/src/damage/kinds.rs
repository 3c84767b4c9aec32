//! What can happen to a file: each kind of damage makes a damaged copy of an image.

use std::path::{Path, PathBuf};

use kvtimedb_engine::fs::SimFs;

use super::Image;

/// A damaged copy.
pub(super) struct Damaged {
    pub(super) fs: SimFs,
    /// The damaged files: a verification names one of them. None: it may be any file.
    pub(super) files: Vec<PathBuf>,
    /// One bit is another one, and nothing else.
    pub(super) is_flip: bool,
    pub(super) what: String,
}

/// Damages a copy of `image`; `other` is a database of other identity to which the same was done.
pub(super) fn damage(image: &Image, other: &Image, rng: &mut fastrand::Rng) -> Damaged {
    let fs = image.fs.fork();
    let paths = image.files();
    let path = &paths[rng.usize(..paths.len())];
    let bytes = fs.read_file(path).unwrap();
    let len = bytes.len();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let changed = |what: String, bytes: Vec<u8>| {
        fs.put_file(path, bytes);
        let what = format!("{name}: {what}");
        Damaged { fs: fs.clone(), files: vec![path.clone()], is_flip: false, what }
    };
    match rng.u8(0..20) {
        0..8 => {
            let (at, bit) = (rng.usize(..len), rng.u8(0..8));
            fs.corrupt(path, at as u64, 1 << bit);
            let what = format!("{name}: bit {bit} at {at} flipped");
            Damaged { fs, files: vec![path.clone()], is_flip: true, what }
        }
        8 | 9 => {
            let mut bytes = bytes;
            let count = rng.usize(2..6);
            (0..count).for_each(|_| bytes[rng.usize(..len)] ^= rng.u8(1..));
            changed(format!("{count} bytes changed"), bytes)
        }
        10 | 11 => {
            let end = rng.usize(..len);
            changed(format!("cut at {end}"), bytes[..end].to_vec())
        }
        12 => {
            let (start, sector) = (rng.usize(..len) / 512 * 512, 512 << rng.u8(0..4));
            let mut bytes = bytes;
            bytes[start..len.min(start + sector)].fill(0);
            changed(format!("{sector} bytes zeroed at {start}"), bytes)
        }
        13 | 14 => misdirected(image, other, path, rng),
        15 => {
            fs.remove_file(path);
            let what = format!("{name}: gone");
            Damaged { fs, files: vec![path.clone()], is_flip: false, what }
        }
        16 => {
            let from = &paths[rng.usize(..paths.len())];
            let from_bytes = fs.read_file(from).unwrap();
            changed(format!("all of {}", from.display()), from_bytes)
        }
        17 => {
            let bytes = other.fs.read_file(path).unwrap_or_default();
            changed("that of another database".to_owned(), bytes)
        }
        18 => older(image, rng),
        _ => {
            let tail = vec![rng.u8(..); rng.usize(1..600)];
            changed(format!("{} bytes longer", tail.len()), [bytes, tail].concat())
        }
    }
}

/// Some sectors are those of another place, another file, another database, or an earlier moment.
fn misdirected(image: &Image, other: &Image, path: &Path, rng: &mut fastrand::Rng) -> Damaged {
    let fs = image.fs.fork();
    let mut bytes = fs.read_file(path).unwrap();
    let earlier = image.earlier.iter().flatten().filter(|(of, _)| of == path);
    let sources: Vec<(String, Vec<u8>)> = image
        .files()
        .into_iter()
        .map(|from| (from.display().to_string(), image.fs.read_file(from).unwrap()))
        .chain(other.fs.read_file(path).map(|bytes| ("another database".to_owned(), bytes)))
        .chain(earlier.map(|(_, bytes)| ("an earlier moment".to_owned(), bytes.clone())))
        .collect();
    let (from, source) = &sources[rng.usize(..sources.len())];
    let step = [1, 16, 512][rng.usize(..3)];
    let count = rng.usize(1..=2048);
    let to = rng.usize(..bytes.len()) / step * step;
    let at = if rng.bool() { to } else { rng.usize(..source.len().max(1)) / step * step };
    let stretch = source.get(at..source.len().min(at + count)).unwrap_or_default();
    let end = bytes.len().min(to + stretch.len());
    bytes[to..end].copy_from_slice(&stretch[..end - to]);
    let what =
        format!("{}: {} bytes at {to} are those at {at} of {from}", path.display(), end - to);
    fs.put_file(path, bytes);
    Damaged { fs, files: vec![path.to_owned()], is_flip: false, what }
}

/// Some files are as they were once: all that name the live tables, or one of any kind.
fn older(image: &Image, rng: &mut fastrand::Rng) -> Damaged {
    let fs = image.fs.fork();
    let moment = rng.usize(..image.earlier.len());
    let files = &image.earlier[moment];
    let is_manifest = |path: &Path| {
        let name = path.to_string_lossy();
        name.contains("MANIFEST") || name.contains("CURRENT")
    };
    let (alone, all) = (rng.usize(..files.len()), rng.bool());
    let mut changed = Vec::new();
    for (number, (path, bytes)) in files.iter().enumerate() {
        if if all { is_manifest(path) } else { number == alone } {
            fs.put_file(path, bytes.clone());
            changed.push(path.clone());
        }
    }
    let what = format!("{changed:?} as at moment {moment}");
    // A manifest that is sound names files that are gone: those are what is found.
    let named = changed.iter().any(|path| is_manifest(path));
    Damaged { fs, files: if named { Vec::new() } else { changed }, is_flip: false, what }
}
