//! `GET /v1/history/{key}`: the versions of a key, page by page.

use kvtimedb_engine::{Db, Lookup, Order, Snapshot, Timestamp};
use warp::reply::Response;

use crate::api::cursor::{Cursor, CursorKind};
use crate::api::moment::{TsFormat, TsUnit};
use crate::api::page::Page;
use crate::api::{stream, value};
use crate::error::{Error, Result};
use crate::request::Request;

const KNOWN: &[&str] =
    &["key", "from", "to", "order", "limit", "cursor", "entry", "deleted", "ts_format"];

/// What is asked for.
struct Question {
    key: Vec<u8>,
    from: Timestamp,
    to: Timestamp,
    order: Order,
    limit: usize,
    /// The last timestamp of the page before.
    behind: Option<Timestamp>,
    /// Show also the value in force where the range begins.
    entry: bool,
    /// Show also ends.
    deleted: bool,
    unit: TsUnit,
    ts_format: TsFormat,
}

/// Answers with a page of versions. Each page shows its own moment: what was written since the page before
/// is there, if it lies ahead.
pub(crate) async fn history(request: Request) -> Result<Response> {
    let question = question(&request)?;
    let text = request.app.read(move |db| page(db, &question)).await?;
    stream::whole(&request.app, "application/json", text)
}

fn question(request: &Request) -> Result<Question> {
    let params = request.params(KNOWN)?;
    let unit = request.app.unit;
    let (from, to) = (params.at("from", unit)?, params.at("to", unit)?);
    let (from, to) = (from.unwrap_or(Timestamp::MIN), to.unwrap_or(Timestamp::MAX));
    if from > to {
        return Err(Error::parameter("to", "it lies before from"));
    }
    let orders = [("asc", Order::Ascending), ("desc", Order::Descending)];
    let cursor = params.text("cursor").map(|text| Cursor::decode(text, CursorKind::History));
    Ok(Question {
        key: request.key(&params)?.into_owned().into_bytes(),
        from,
        to,
        order: params.one_of("order", &orders)?.unwrap_or(Order::Ascending),
        limit: params.limit()?,
        behind: cursor.transpose()?.map(|cursor| cursor.ts),
        entry: params.flag("entry")?,
        deleted: params.flag("deleted")?,
        unit,
        ts_format: params.ts_format()?,
    })
}

fn page(db: &Db, question: &Question) -> Result<Vec<u8>> {
    let Question { key, order, deleted, unit, ts_format, .. } = question;
    let snapshot = db.snapshot()?;
    let mut page = Page::new(question.limit);
    let mut last = None;
    let cursor = |last: Option<Timestamp>| {
        last.map(|ts| Cursor { kind: CursorKind::History, ts, key: Vec::new() })
    };
    let mut entry = if question.entry { value_before(&snapshot, question)? } else { None };
    if *order == Order::Ascending
        && let Some(entry) = entry.take().filter(|_| question.behind.is_none())
    {
        write_item(page.item(), |out| {
            value::write_version(out, (&entry).into(), *unit, *ts_format);
        });
        last = Some(entry.ts);
    }
    let (from, to) = question.rest(snapshot.horizon());
    let mut timeline = snapshot.timeline(key, from, to, *order)?;
    while let Some((ts, value)) = timeline.next()? {
        if value.is_none() && !deleted {
            continue;
        }
        if page.is_full() {
            return Ok(page.end(cursor(last).as_ref()));
        }
        write_item(page.item(), |out| {
            value::write_ts(out, ts, *unit, *ts_format);
            match value {
                Some(value) => {
                    out.push(b',');
                    value::write_value(out, value.value_type, value.bytes);
                }
                None => out.extend_from_slice(b",\"end\":true"),
            }
        });
        last = Some(ts);
    }
    if let Some(entry) = entry {
        if page.is_full() {
            return Ok(page.end(cursor(last).as_ref()));
        }
        write_item(page.item(), |out| {
            value::write_version(out, (&entry).into(), *unit, *ts_format);
        });
    }
    Ok(page.end(None))
}

impl Question {
    /// The range without what earlier pages have shown.
    fn rest(&self, horizon: Option<Timestamp>) -> (Timestamp, Timestamp) {
        // It lies before no horizon.
        const NOTHING: (Timestamp, Timestamp) = (Timestamp::MAX, Timestamp::MAX - 1);
        let rest = match (self.behind, self.order) {
            (None, _) => Some((self.from, self.to)),
            (Some(behind), Order::Ascending) => {
                behind.checked_add(1).map(|next| (self.from.max(next), self.to))
            }
            (Some(behind), Order::Descending) => {
                behind.checked_sub(1).map(|next| (self.from, self.to.min(next)))
            }
        };
        let Some((from, to)) = rest else { return NOTHING };
        match horizon {
            // The beginning of time is the beginning of what is kept, which moves between pages.
            Some(horizon) if self.from == Timestamp::MIN && horizon <= self.to => {
                if to < horizon {
                    NOTHING
                } else {
                    (from.max(horizon), to)
                }
            }
            _ => (from, to),
        }
    }
}

/// The value in force where the range begins, if it was written before.
fn value_before(
    snapshot: &Snapshot,
    question: &Question,
) -> Result<Option<kvtimedb_engine::Entry>> {
    let from = match snapshot.horizon() {
        // The beginning of time is the beginning of what is kept.
        Some(horizon) if question.from == Timestamp::MIN => horizon,
        _ => question.from,
    };
    let entry = snapshot.find(&question.key, Lookup::floor(from))?;
    // Where the beginning has moved, an earlier page may have shown it.
    let is_new = |ts| question.behind.is_none_or(|behind| ts < behind);
    Ok(entry.filter(|entry| entry.ts < from && is_new(entry.ts)))
}

fn write_item(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'{');
    write(out);
    out.push(b'}');
}
