//! Arguments of the form `--name value`, as the benches take them.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::Result;

/// What was said on the command line.
#[derive(Clone, Debug)]
pub struct Arguments {
    said: Vec<(String, String)>,
    /// Whether `--quick` was among them: small sizes, to see that everything works.
    pub quick: bool,
}

impl Arguments {
    /// Those of this process, which may only be of these names.
    pub fn parse(names: &[&str]) -> Result<Arguments> {
        let mut parsed = Arguments { said: Vec::new(), quick: false };
        // Cargo says `--bench` to a benchmark.
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            if name == "--quick" {
                parsed.quick = true;
                continue;
            }
            if !names.contains(&name.as_str()) {
                return Err(format!("{name}: not one of {names:?} or --quick").into());
            }
            let value = arguments.next().ok_or_else(|| format!("{name}: a value is missing"))?;
            parsed.said.push((name, value));
        }
        Ok(parsed)
    }

    /// What was said of `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.said.iter().rev().find(|(said, _)| said == name).map(|(_, value)| value.as_str())
    }

    /// The number that was said of `name`.
    pub fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>>
    where
        N::Err: std::error::Error + Send + Sync + 'static,
    {
        Ok(self.text(name).map(str::parse).transpose()?)
    }

    /// The path that was said of `name`, meant from the root of the workspace: Cargo runs a benchmark
    /// in its package.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(|path| root().join(path))
    }

    /// Where databases are made: `--dir`, or the system's place for such things.
    pub fn dir(&self) -> PathBuf {
        self.path("--dir").unwrap_or_else(std::env::temp_dir)
    }

    /// Which of `all` were chosen by a list of names after `name`: all, where nothing was said.
    pub fn chosen<T: Copy>(
        &self,
        name: &str,
        all: &[T],
        name_of: fn(&T) -> &str,
    ) -> Result<Vec<T>> {
        let Some(list) = self.text(name) else { return Ok(all.to_vec()) };
        let find = |wanted: &str| {
            let found = all.iter().find(|one| name_of(one).eq_ignore_ascii_case(wanted)).copied();
            found.ok_or_else(|| format!("{name} {wanted}: there is no such").into())
        };
        list.split(',').map(find).collect()
    }
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
