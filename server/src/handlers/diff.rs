//! `GET /v1/diff`: the keys whose values differ between two moments, one a line.

use kvtimedb_engine::{Changed, Diff, EntryRef, Timestamp};
use warp::reply::Response;

use crate::api::moment::{TsFormat, TsUnit};
use crate::api::{stream, value};
use crate::error::{Error, Result};
use crate::request::Request;

/// Answers with a line for each key, in the order of the keys' bytes. All lines are of one snapshot.
pub(crate) async fn diff(request: Request) -> Result<Response> {
    let params = request.params(&["prefix", "start", "end", "from", "to", "ts_format"])?;
    let (app, unit) = (&request.app, request.app.unit);
    let (keys, ts_format) = (params.key_range()?, params.ts_format()?);
    let required = || Error::parameter("from", "it is required, and is not there");
    let from = params.at("from", unit)?.ok_or_else(required)?;
    let to = params.at("to", unit)?.unwrap_or(Timestamp::MAX);
    let mut diff: Diff = app.read(move |db| Ok(db.snapshot()?.diff(keys, from, to)?)).await?;
    let fill = move |piece: &mut Vec<u8>| {
        let changed = diff.next()?;
        if let Some(changed) = &changed {
            write_line(piece, changed, unit, ts_format);
        }
        Ok(changed.is_some())
    };
    stream::answer(app, "application/x-ndjson", fill).await
}

fn write_line(out: &mut Vec<u8>, changed: &Changed<'_>, unit: TsUnit, ts_format: TsFormat) {
    let side = |name: &[u8], version: Option<EntryRef<'_>>, out: &mut Vec<u8>| {
        out.extend_from_slice(name);
        match version {
            None => out.extend_from_slice(b"null"),
            Some(version) => {
                out.push(b'{');
                value::write_version(out, version, unit, ts_format);
                out.push(b'}');
            }
        }
    };
    out.push(b'{');
    value::write_key(out, changed.key);
    side(b",\"before\":", changed.before, out);
    side(b",\"after\":", changed.after, out);
    out.extend_from_slice(b"}\n");
}
