//! `sim`: looks for a seed whose scenario fails, or replays one.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use kvtimedb_sim::{Scenario, replay, search};

/// Run the engine on a disk that fails, and hold what it answers against a model
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Replay the scenario of this seed alone
    #[arg(long, env = "SEED", hide_env_values = true)]
    seed: Option<u64>,
    /// Only these of its steps, by their numbers: 3,17,18
    #[arg(long, env = "STEPS", value_delimiter = ',', requires = "seed", hide_env_values = true)]
    steps: Option<Vec<usize>>,
    /// Otherwise: the first seed of the search
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many crash points to come to
    #[arg(long, default_value_t = 5000)]
    crash_points: u64,
    /// On how many threads, each with a scenario of its own [default: as many as processors]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if let Some(seed) = arguments.seed {
        let mut scenario = Scenario::of(seed);
        if let Some(steps) = arguments.steps {
            scenario = scenario.only(&BTreeSet::from_iter(steps));
        }
        replay(&scenario).map_err(|what| format!("seed {seed} fails: {what}"))
    } else {
        let threads = arguments.threads.or_else(|| thread::available_parallelism().ok());
        let threads = threads.map_or(1, NonZeroUsize::get);
        search(arguments.from, arguments.crash_points, threads).map_err(|f| f.to_string())
    };
    match result {
        Ok(tally) => {
            println!("{tally}: nothing lost, nothing wrong");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
