//! `GET /v1/aggregate/{key}`: numbers over windows of time.

use kvtimedb_engine::{Db, Timestamp, Window};
use serde_json::{Value, json};
use warp::reply::Response;

use crate::api::moment::{TsFormat, TsUnit};
use crate::api::{stream, value};
use crate::error::{Error, Result};
use crate::request::Request;

/// The most windows of one answer.
const WINDOWS_MAX: u64 = 10_000;

/// What a window can come to, by name.
const FUNCTIONS: &[(&str, Function)] = &[
    ("count", |window| json!(window.count)),
    ("sum", |window| json!(window.sum)),
    ("mean", |window| json!(window.mean())),
    ("min", |window| json!(window.min)),
    ("max", |window| json!(window.max)),
    ("last", |window| json!(window.last)),
    ("twa", |window| json!(window.twa)),
];

type Function = fn(&Window) -> Value;

/// What is asked for.
struct Question {
    key: Vec<u8>,
    from: Timestamp,
    to: Timestamp,
    every: u64,
    functions: Vec<&'static (&'static str, Function)>,
    unit: TsUnit,
    ts_format: TsFormat,
}

/// Answers with all windows of the range; an empty one has no numbers.
pub(crate) async fn aggregate(request: Request) -> Result<Response> {
    let question = question(&request)?;
    let text = request.app.read(move |db| windows(db, &question)).await?;
    stream::whole(&request.app, "application/json", text)
}

fn question(request: &Request) -> Result<Question> {
    let params = request.params(&["key", "from", "to", "every", "fn", "ts_format"])?;
    let unit = request.app.unit;
    let required = |name| Error::parameter(name, "it is required, and is not there");
    let from = params.at("from", unit)?.ok_or_else(|| required("from"))?;
    let to = params.at("to", unit)?.ok_or_else(|| required("to"))?;
    if from > to {
        return Err(Error::parameter("to", "it lies before from"));
    }
    let every = params.duration("every", unit)?.unwrap_or(u64::MAX);
    if every == 0 {
        return Err(Error::parameter("every", "a window has a length of at least 1"));
    }
    let windows = (to.abs_diff(from) / every).saturating_add(1);
    if windows > WINDOWS_MAX {
        let detail = format!("that is {windows} windows, and the limit is {WINDOWS_MAX}");
        return Err(Error::parameter("every", detail));
    }
    Ok(Question {
        key: request.key(&params)?.into_owned().into_bytes(),
        from,
        to,
        every,
        functions: functions(params.text("fn"))?,
        unit,
        ts_format: params.ts_format()?,
    })
}

/// The functions in a list of names; without one, all.
fn functions(names: Option<&str>) -> Result<Vec<&'static (&'static str, Function)>> {
    let Some(names) = names else { return Ok(FUNCTIONS.iter().collect()) };
    let mut functions: Vec<&(&str, Function)> = Vec::new();
    for name in names.split(',') {
        let Some(function) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
            return Err(Error::parameter(
                "fn",
                format!("{name:?} is none of {}", known.join(", ")),
            ));
        };
        if functions.iter().any(|(other, _)| *other == name) {
            return Err(Error::parameter("fn", format!("{name:?} is there more than once")));
        }
        functions.push(function);
    }
    Ok(functions)
}

fn windows(db: &Db, question: &Question) -> Result<Vec<u8>> {
    let Question { key, from, to, every, functions, unit, ts_format } = question;
    let mut aggregate = db.snapshot()?.aggregate(key, *from, *to, *every)?;
    let mut text = b"{".to_vec();
    value::write_key(&mut text, key);
    text.extend_from_slice(b",\"windows\":[");
    let mut separator: &[u8] = b"";
    while let Some(window) = aggregate.next()? {
        text.extend_from_slice(separator);
        separator = b",";
        text.extend_from_slice(b"{\"from\":");
        unit.write(&mut text, window.from, *ts_format);
        text.extend_from_slice(b",\"to\":");
        unit.write(&mut text, window.to, *ts_format);
        for (name, function) in functions {
            text.extend_from_slice(format!(",\"{name}\":{}", function(&window)).as_bytes());
        }
        text.push(b'}');
    }
    text.extend_from_slice(b"]}\n");
    Ok(text)
}
