//! `POST /v1/batch`: many operations, all or nothing.

use std::borrow::Cow;

use kvtimedb_engine::{Condition, Expect, Lookup, Timestamp, ValueRef, WriteBatch};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::json::{at_most, compacted, moment, present};
use crate::api::moment::TsUnit;
use crate::error::{Error, FLAWS_MAX, Flaw, Result};
use crate::handlers::json_line;
use crate::handlers::store::parse_etag;
use crate::request::Request;

/// The most operations of a batch, and the most conditions.
pub(crate) const BATCH_OPS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    #[serde(borrow, deserialize_with = "at_most::<BATCH_OPS_MAX, _, _>")]
    ops: Vec<&'a RawValue>,
    #[serde(borrow, default, rename = "if", deserialize_with = "at_most::<BATCH_OPS_MAX, _, _>")]
    conditions: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Put,
    End,
    Erase,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentOp<'a> {
    op: Kind,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    ts: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    at: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    from: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    to: Option<&'a RawValue>,
    all: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentCondition<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    at: Option<&'a RawValue>,
    #[serde(borrow)]
    etag: Option<Cow<'a, str>>,
    absent: Option<bool>,
}

/// Commits the operations, if the conditions hold, and answers once they are as durable as the database
/// promises.
pub(crate) async fn batch(mut request: Request) -> Result<Response> {
    request.params(&[])?;
    let body = request.read_body().await?;
    let batch = parse(body.bytes(), request.app.unit)?;
    let committed = request.app.commit(batch).await?;
    let answer =
        json!({ "seq": committed.seq, "assigned": committed.assigned, "erased": committed.erased });
    Ok(json_line(StatusCode::OK, &answer))
}

fn parse(body: &[u8], unit: TsUnit) -> Result<WriteBatch> {
    let sent: Sent<'_> = serde_json::from_slice(body)
        .map_err(|error| Error::invalid("/body", format!("it is not a batch: {error}")))?;
    let Sent { ops, conditions } = sent;
    for (len, name) in [(ops.len(), "ops"), (conditions.len(), "if")] {
        if len > BATCH_OPS_MAX {
            let what = format!("it holds more: the limit is {BATCH_OPS_MAX}, split it");
            return Err(Error::invalid(format!("/body/{name}"), what));
        }
    }
    let (mut batch, mut flaws, now) = (WriteBatch::new(), Vec::new(), unit.now());
    for (number, raw) in ops.iter().enumerate() {
        if let Err(detail) = add_op(&mut batch, raw, unit, now) {
            flaws.push(Flaw { pointer: format!("/body/ops/{number}"), detail });
        }
        if flaws.len() == FLAWS_MAX {
            return Err(Error::Invalid(flaws));
        }
    }
    for (number, raw) in conditions.iter().enumerate() {
        if let Err(detail) = add_condition(&mut batch, raw, unit) {
            flaws.push(Flaw { pointer: format!("/body/if/{number}"), detail });
        }
        if flaws.len() == FLAWS_MAX {
            break;
        }
    }
    if flaws.is_empty() { Ok(batch) } else { Err(Error::Invalid(flaws)) }
}

/// Adds an operation; the error says what is wrong with it.
fn add_op(
    batch: &mut WriteBatch,
    raw: &RawValue,
    unit: TsUnit,
    now: Timestamp,
) -> Result<(), String> {
    let SentOp { op, key, value, ts, at, from, to, all } = read(raw)?;
    let key = key.as_bytes();
    let ts = ts.map(|raw| written(raw, unit)).transpose()?;
    let at = at.map(|raw| written(raw, unit)).transpose()?;
    let from = from.map(|raw| written(raw, unit)).transpose()?;
    let to = to.map(|raw| moment(raw, unit)).transpose()?;
    let added = match (op, value, ts, at, from, to, all) {
        (Kind::Put, Some(value), ts, None, None, None, None) => {
            let text = compacted(value.get())?;
            let value = ValueRef::json(text.as_bytes());
            match ts {
                Some(ts) => batch.put(key, ts, value),
                None => batch.put_rising(key, now, value),
            }
        }
        (Kind::End, None, None, Some(at), None, None, None) => batch.end(key, at),
        (Kind::Erase, None, Some(ts), None, None, None, None) => batch.erase_between(key, ts, ts),
        (Kind::Erase, None, None, None, Some(from), Some(to), None) => {
            batch.erase_between(key, from, to)
        }
        (Kind::Erase, None, None, None, None, None, Some(true)) => {
            batch.erase_between(key, Timestamp::MIN, Timestamp::MAX)
        }
        _ => {
            let forms = "a put has key and value and may have ts; an end has key and at; an erase has \
                         key, and ts, or from and to, or \"all\":true";
            return Err(forms.to_owned());
        }
    };
    added.map_err(|error| error.to_string())
}

fn add_condition(batch: &mut WriteBatch, raw: &RawValue, unit: TsUnit) -> Result<(), String> {
    let SentCondition { key, at, etag, absent } = read(raw)?;
    let at = at.map_or(Ok(Timestamp::MAX), |raw| moment(raw, unit))?;
    let expect = match (etag, absent) {
        (None, Some(true)) => Expect::Absent,
        (Some(etag), None) => {
            let digits = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let etag = parse_etag(digits.unwrap_or(&etag));
            Expect::Etag(etag.ok_or("etag is not one that a GET answers: sixteen digits")?)
        }
        _ => {
            return Err(
                "a condition has key, and \"absent\":true or etag, and may have at".to_owned()
            );
        }
    };
    let condition =
        Condition { key: key.into_owned().into_bytes(), lookup: Lookup::floor(at), expect };
    batch.require(condition).map_err(|error| error.to_string())
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(raw.get()).map_err(|error| error.to_string())
}

/// A moment that is written to.
fn written(raw: &RawValue, unit: TsUnit) -> Result<Timestamp, String> {
    if raw.get() == "\"latest\"" {
        return Err("latest is no moment to write at: say when, or now".to_owned());
    }
    moment(raw, unit)
}
