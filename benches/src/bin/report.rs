//! Makes the document of the benchmarks from their figures: `cargo run -p kvtimedb-benches --bin report
//! -- [--figures FILE] [--frame FILE] [--out FILE] [--plots DIR]`. Nothing is measured.

use std::fs;

use kvtimedb_benches::Result;
use kvtimedb_benches::arguments::{Arguments, root};
use kvtimedb_benches::figures::Figures;
use kvtimedb_benches::report::{document, plots};

fn main() -> Result<()> {
    let arguments = Arguments::parse(&["--figures", "--frame", "--out", "--plots"])?;
    let path = |name: &str, usual: &str| arguments.path(name).unwrap_or_else(|| root().join(usual));
    let figures =
        Figures::parse(&fs::read_to_string(path("--figures", "docs/benchmarks/figures.jsonl"))?)?;
    let frame = fs::read_to_string(path("--frame", "benches/report/frame.md"))?;
    fs::write(path("--out", "docs/benchmarks.md"), document(&frame, &figures)?)?;
    // Another frame has its own document, and no plots unless it asks for them.
    if arguments.path("--frame").is_some() && arguments.path("--plots").is_none() {
        return Ok(());
    }
    let dir = path("--plots", "docs/benchmarks");
    fs::create_dir_all(&dir)?;
    for (name, svg) in plots(&figures) {
        fs::write(dir.join(name), svg)?;
    }
    Ok(())
}
