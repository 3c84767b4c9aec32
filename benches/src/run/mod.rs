//! A run: every database, every data set, every measure, in rounds.
//!
//! In each round every step is made by all of them, one after the other, before the next step, and each
//! round begins with another one, so that a machine that drifts wrongs nobody. Nothing is timed before
//! its answers were compared with a model.

mod bare;
mod check;
mod durable;
mod floors;
mod mixed;
mod round;

use std::path::PathBuf;
use std::time::Duration;

use self::round::Round;
use crate::Result;
use crate::arguments::Arguments;
use crate::data::{DATA_SETS, DataSet};
use crate::figures::{Recorder, Who};
use crate::machine::machine;
use crate::peers::{Kind, kinds};

/// How much of everything a run does.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Points a data set, where they are not its own number.
    points: Option<usize>,
    /// Floors a figure; as many before them to warm up.
    probes: usize,
    /// Histories a figure.
    histories: usize,
    /// Single writes a figure, buffered.
    puts: usize,
    /// How long durable writes go on for a figure.
    durable: Duration,
}

const FULL: Sizes = Sizes {
    points: None,
    probes: 50_000,
    histories: 3_000,
    puts: 300_000,
    durable: Duration::from_millis(1_500),
};

const QUICK: Sizes = Sizes {
    points: Some(40_000),
    probes: 2_000,
    histories: 100,
    puts: 2_000,
    durable: Duration::from_millis(100),
};

/// Does what the command line says.
pub fn run() -> Result<()> {
    let names = ["--data", "--points", "--rounds", "--only", "--out", "--dir"];
    let arguments = Arguments::parse(&names)?;
    let mut sizes = if arguments.quick { QUICK } else { FULL };
    sizes.points = arguments.number("--points")?.or(sizes.points);
    let rounds = arguments.number("--rounds")?.unwrap_or(if arguments.quick { 1 } else { 3 });
    let plan = Plan {
        sizes,
        kinds: arguments.chosen("--only", &kinds(), |kind| kind.name)?,
        dir: arguments.dir(),
    };
    let sets: Vec<DataSet> = arguments.chosen("--data", &DATA_SETS, |set| set.name)?;
    let mut recorder = Recorder::new(arguments.path("--out").as_deref())?;
    recorder.run("peers", &machine())?;
    for kind in &plan.kinds {
        recorder.who(&kind.who())?;
    }
    recorder.who(&Who {
        name: bare::NAME.to_owned(),
        versions: "no database".to_owned(),
        settings: bare::SETTINGS.to_owned(),
    })?;
    for set in sets {
        let data = set.make(plan.sizes.points);
        recorder.data(&data)?;
        for round in 1..=rounds {
            recorder.begin_round(round);
            Round::new(&plan, &data, round)?.run(&mut recorder)?;
        }
    }
    Ok(())
}

/// What is the same in every round.
struct Plan {
    sizes: Sizes,
    kinds: Vec<Kind>,
    dir: PathBuf,
}
