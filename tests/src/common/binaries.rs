//! The workspace's binaries, built once per test process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The server.
pub(crate) fn kvtimedb() -> PathBuf {
    dir().join("kvtimedb")
}

/// The tool that looks into data directories.
#[allow(dead_code)]
pub(crate) fn kvtool() -> PathBuf {
    dir().join("kvtool")
}

/// The load tester.
#[allow(dead_code)]
pub(crate) fn loadtest() -> PathBuf {
    dir().join("loadtest")
}

/// Where the binaries are, in the profile of the tests.
fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let dir = test.parent().and_then(Path::parent).unwrap().to_owned();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        build.args(["build", "--quiet", "--bins", "-p", "kvtimedb-server", "-p", "kvtimedb-tools"]);
        if dir.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the binaries don't build");
        dir
    })
}
