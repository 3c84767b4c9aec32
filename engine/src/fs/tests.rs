//! What both backends do alike.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn contents(fs: &dyn Fs, path: &Path) -> Vec<u8> {
    read_all(&*fs.open(path).unwrap(), u64::MAX).unwrap()
}

pub(super) fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

fn on_both(test: impl Fn(&dyn Fs, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&RealFs, dir.path());
    let fs = SimFs::new(0);
    fs.create_dir_all(dir.path()).unwrap();
    test(&fs, dir.path());
}

#[test]
fn files_are_written_read_and_mapped() {
    on_both(|fs, dir| {
        let path = dir.join("a");
        let file = fs.create(&path).unwrap();
        let reader = fs.open(&path).unwrap();
        assert_eq!((reader.len().unwrap(), reader.map().unwrap().len()), (0, 0));

        file.write_at(3, b"world").unwrap();
        file.write_at(0, b"abc").unwrap();
        file.write_at(1, b"").unwrap();
        file.write_at(10, b"!").unwrap();
        file.sync().unwrap();
        assert_eq!(contents(fs, &path), b"abcworld\0\0!");
        assert_eq!(*reader.map().unwrap(), b"abcworld\0\0!"[..]);

        let mut buf = [0; 4];
        reader.read_exact_at(2, &mut buf).unwrap();
        assert_eq!(&buf, b"cwor");
        reader.read_exact_at(11, &mut []).unwrap();
        assert_eq!(kind(reader.read_exact_at(8, &mut buf)), ErrorKind::UnexpectedEof);
        assert_eq!(kind(reader.read_exact_at(1 << 40, &mut buf)), ErrorKind::UnexpectedEof);
        assert_eq!(kind(read_all(&*reader, 10)), ErrorKind::InvalidData);
    });
}

#[test]
fn names_are_made_moved_and_taken() {
    on_both(|fs, dir| {
        let path = |name| dir.join(name);
        let names = || fs.list(dir).unwrap();
        assert!(names().is_empty());
        assert_eq!(kind(fs.open(&path("a"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.remove(&path("a"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.rename(&path("a"), &path("b"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.create(&path("no/a"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.list(&path("no"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.sync_dir(&path("no"))), ErrorKind::NotFound);

        for name in ["b", "c", "a"] {
            fs.create(&path(name)).unwrap().write_at(0, name.as_bytes()).unwrap();
        }
        assert_eq!(kind(fs.create(&path("a"))), ErrorKind::AlreadyExists);
        assert_eq!(names(), ["a", "b", "c"]);

        fs.rename(&path("a"), &path("c")).unwrap();
        fs.rename(&path("c"), &path("c")).unwrap();
        assert_eq!(names(), ["b", "c"]);
        assert_eq!(contents(fs, &path("c")), b"a");

        fs.remove(&path("b")).unwrap();
        fs.sync_dir(dir).unwrap();
        assert_eq!(names(), ["c"]);
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    on_both(|fs, dir| {
        let path = dir.join("a");
        let file = fs.create(&path).unwrap();
        file.write_at(0, b"old").unwrap();
        let reader = fs.open(&path).unwrap();
        let map = reader.map().unwrap();
        fs.remove(&path).unwrap();
        fs.create(&path).unwrap().write_at(0, b"new").unwrap();
        fs.sync_dir(dir).unwrap();

        let mut buf = [0; 3];
        reader.read_exact_at(0, &mut buf).unwrap();
        assert_eq!((&buf, &*map), (b"old", &b"old"[..]));
        assert_eq!(contents(fs, &path), b"new");
        file.sync().unwrap();
    });
}

#[test]
fn a_linked_file_has_two_names_that_are_equals() {
    on_both(|fs, dir| {
        fs.create_dir_all(&dir.join("x")).unwrap();
        let (first, second) = (dir.join("a"), dir.join("x/b"));
        let file = fs.create(&first).unwrap();
        file.write_at(0, b"abc").unwrap();
        fs.link(&first, &second).unwrap();
        file.write_at(1, b"!").unwrap();
        assert_eq!(contents(fs, &second), b"a!c");

        assert_eq!(kind(fs.link(&first, &second)), ErrorKind::AlreadyExists);
        assert_eq!(kind(fs.link(&dir.join("c"), &dir.join("d"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.link(&first, &dir.join("no/a"))), ErrorKind::NotFound);

        fs.remove(&first).unwrap();
        fs.sync_dir(dir).unwrap();
        assert_eq!(contents(fs, &second), b"a!c");
        fs.create(&first).unwrap().write_at(0, b"new").unwrap();
        assert_eq!(contents(fs, &second), b"a!c");
    });
}

#[test]
fn directories_are_made_with_their_parents_and_listed() {
    on_both(|fs, dir| {
        for _ in 0..2 {
            fs.create_dir_all(&dir.join("x/./y/z")).unwrap();
        }
        fs.create(&dir.join("x/y/file")).unwrap();
        assert_eq!(fs.list(dir).unwrap(), ["x"]);
        assert_eq!(fs.list(&dir.join("x/y")).unwrap(), ["file", "z"]);
        fs.create_dir_all(Path::new("")).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
    });
}

#[test]
fn a_lock_is_held_once_and_names_its_holder() {
    on_both(|fs, dir| {
        let path = dir.join("LOCK");
        assert_eq!(kind(fs.lock(&dir.join("no/LOCK"), "x")), ErrorKind::NotFound);
        let guard = fs.lock(&path, "the first, with a long name").unwrap().unwrap();
        assert_eq!(fs.lock(&path, "second").unwrap().unwrap_err(), "the first, with a long name");
        assert_eq!(fs.list(dir).unwrap(), ["LOCK"]);
        drop(guard);
        let _guard = fs.lock(&path, "third").unwrap().unwrap();
        assert_eq!(fs.lock(&path, "second").unwrap().unwrap_err(), "third");
    });
}

#[test]
fn the_real_directories_are_their_owners_own() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("x/y");
    RealFs.create_dir_all(&made).unwrap();
    for dir in [made.parent().unwrap(), &made] {
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}

/// `truncate -s 10T` of a table made whoever read it whole abort.
#[test]
fn a_file_longer_than_memory_is_an_error() {
    #[derive(Debug)]
    struct Endless;
    impl ReadableFile for Endless {
        fn len(&self) -> std::io::Result<u64> {
            Ok(1 << 62)
        }
        fn read_exact_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
            unreachable!("there is no room for it")
        }
        fn map(&self) -> std::io::Result<FileMap> {
            Err(ErrorKind::Unsupported.into())
        }
    }
    for error in [read_all(&Endless, u64::MAX).err(), read_around(&Endless, u64::MAX).err()] {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("4611686018427387904 bytes"), "{error}");
    }
}
