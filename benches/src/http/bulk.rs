//! Many points and many questions in one request.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use hyper::Method;

use super::bodies::{points, probes, rows};
use super::exchange::exchange;
use super::measures::{ARROW, Bulk, NDJSON};
use super::servers::{Programs, Server};
use crate::data::{DATA_SETS, Data};
use crate::figures::Recorder;
use crate::{Result, Rng, ours};

/// What is imported; the first is asked and exported as well.
const SETS: [&str; 3] = ["telemetry", "floats", "status"];

/// How much is sent, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often everything is measured.
    pub rounds: usize,
    /// Points of an import.
    pub points: usize,
    /// Questions of a request.
    pub probes: usize,
}

/// Measures imports into empty databases, then questions to one, and exports from it.
pub fn run(programs: &Programs, dir: &Path, effort: Effort, recorder: &mut Recorder) -> Result<()> {
    for name in SETS {
        let set = DATA_SETS.iter().find(|set| set.name == name).ok_or("no such data set")?;
        let data = set.make(Some(effort.points));
        recorder.data(&data)?;
        for bulk in [NDJSON, ARROW] {
            let body = points(bulk, &data)?;
            for round in 1..=effort.rounds {
                recorder.begin_round(round);
                let home = dir.join("import");
                import(programs, &home, bulk, body.clone(), &data, recorder)?;
                let is_last = bulk.format == ARROW.format && round == effort.rounds;
                if is_last && name == SETS[0] {
                    let server = programs.kvtimedb(&home, "sync")?;
                    ask(&server, &data, effort, recorder)?;
                }
                fs::remove_dir_all(&home)?;
            }
        }
    }
    Ok(())
}

fn import(
    programs: &Programs,
    home: &Path,
    bulk: Bulk,
    body: Bytes,
    data: &Data,
    recorder: &mut Recorder,
) -> Result<()> {
    let server = programs.kvtimedb(home, "sync")?;
    let target = format!("/v1/import?format={}", bulk.format);
    let began = Instant::now();
    let answer = exchange(&server, &Method::POST, &target, bulk.media_type, body)?;
    server.stop()?;
    let stopped = began.elapsed();
    let count = data.points.len() as f64;
    let mut figure = |measure, seconds: f64| {
        recorder.figure(data.set.name, measure, ours::NAME, count / seconds)
    };
    figure(bulk.import, answer.time.as_secs_f64())?;
    figure(bulk.import_stopped, stopped.as_secs_f64())
}

fn ask(server: &Server, data: &Data, effort: Effort, recorder: &mut Recorder) -> Result<()> {
    let questions = data.uniform_probes(&mut Rng::new(0xa50f), effort.probes);
    let bodies = [NDJSON, ARROW].map(|bulk| (bulk, probes(bulk, data, &questions)));
    for (bulk, body) in bodies {
        let body = body?;
        // The first one warms up.
        for round in 0..=effort.rounds {
            recorder.begin_round(round);
            let mut figure = |measure, count: usize, answer: &super::exchange::Answer| {
                let found = rows(bulk, answer)?;
                if found != count {
                    return Err(format!("{} rows of {count}, {}", found, bulk.format).into());
                }
                let rate = count as f64 / answer.time.as_secs_f64();
                if round == 0 {
                    return Ok(());
                }
                recorder.figure(data.set.name, measure, ours::NAME, rate)
            };
            let (post, get) = (Method::POST, Method::GET);
            let answer = exchange(server, &post, "/v1/asof", bulk.media_type, body.clone())?;
            figure(bulk.asof, effort.probes, &answer)?;
            let answer = exchange(server, &get, "/v1/export", bulk.media_type, Bytes::new())?;
            figure(bulk.export, data.points.len(), &answer)?;
        }
    }
    Ok(())
}
