//! `GET /v1/scan`: the state of many keys as of one moment, page by page.

use kvtimedb_engine::{Db, KeyRange, Order, Timestamp};
use warp::reply::Response;

use crate::api::cursor::{Cursor, CursorKind};
use crate::api::moment::{TsFormat, TsUnit};
use crate::api::page::Page;
use crate::api::{stream, value};
use crate::error::Result;
use crate::request::Request;

const KNOWN: &[&str] =
    &["prefix", "start", "end", "at", "limit", "cursor", "keys_only", "ts_format"];

/// What is asked for.
struct Question {
    /// Without what earlier pages have shown.
    keys: KeyRange,
    at: Timestamp,
    limit: usize,
    keys_only: bool,
    unit: TsUnit,
    ts_format: TsFormat,
}

/// Answers with a page of keys and their versions. All pages show the same moment, which the cursor keeps,
/// with all that was written about it until the page was made.
pub(crate) async fn scan(request: Request) -> Result<Response> {
    let question = question(&request)?;
    let text = request.app.read(move |db| page(db, question)).await?;
    stream::whole(&request.app, "application/json", text)
}

fn question(request: &Request) -> Result<Question> {
    let params = request.params(KNOWN)?;
    let unit = request.app.unit;
    let mut keys = params.key_range()?;
    let mut at = params.at("at", unit)?.unwrap_or(Timestamp::MAX);
    if let Some(cursor) = params.text("cursor") {
        let cursor = Cursor::decode(cursor, CursorKind::Scan)?;
        keys.begin_behind(&cursor.key, Order::Ascending);
        at = cursor.ts;
    }
    Ok(Question {
        keys,
        at,
        limit: params.limit()?,
        keys_only: params.flag("keys_only")?,
        unit,
        ts_format: params.ts_format()?,
    })
}

fn page(db: &Db, question: Question) -> Result<Vec<u8>> {
    let Question { keys, at, limit, keys_only, unit, ts_format } = question;
    let mut page = Page::new(limit);
    let mut last = Vec::new();
    let mut scan = db.snapshot()?.scan(keys, at, Order::Ascending)?;
    while let Some((key, version)) = scan.next()? {
        if page.is_full() {
            let next = Cursor { kind: CursorKind::Scan, ts: at, key: last };
            return Ok(page.end(Some(&next)));
        }
        let out = page.item();
        out.push(b'{');
        value::write_key(out, key);
        out.push(b',');
        if keys_only {
            value::write_ts(out, version.ts, unit, ts_format);
        } else {
            value::write_version(out, version, unit, ts_format);
        }
        out.push(b'}');
        last.clear();
        last.extend_from_slice(key);
    }
    Ok(page.end(None))
}
