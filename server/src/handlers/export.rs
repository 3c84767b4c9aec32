//! `GET /v1/export`: all versions of many keys, or their state as of a moment, in a form that
//! `POST /v1/import` reads again.

use std::sync::Arc;

use kvtimedb_engine::{Export, Exported, Order, Scan, Timestamp, ValueRef};
use warp::http::HeaderValue;
use warp::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use warp::reply::Response;

use crate::api::stream;
use crate::error::{Error, Result};
use crate::formats::{Encoder, Encoding, Format, Row, RowWriter};
use crate::request::Request;

/// What is written at once is compressed at once, when it has come to so many bytes.
const PLAIN_BYTES: usize = 32 << 10;

/// The formats by their names in parameters.
pub(crate) const FORMATS: [(&str, Format); 3] =
    [("ndjson", Format::Ndjson), ("csv", Format::Csv), ("arrow", Format::Arrow)];

const OFFERED: &str = "application/x-ndjson, text/csv, application/vnd.apache.arrow.stream";

/// Answers with a row for each version, in the order of the keys' bytes and of time. All are of one snapshot.
pub(crate) async fn export(request: Request) -> Result<Response> {
    let known = ["prefix", "start", "end", "from", "to", "at", "format"];
    let params = request.params(&known)?;
    let (app, unit) = (&request.app, request.app.unit);
    let keys = params.key_range()?;
    let (from, to) = (params.at("from", unit)?, params.at("to", unit)?);
    let at = params.at("at", unit)?;
    if at.is_some() && (from.is_some() || to.is_some()) {
        return Err(Error::parameter("at", "it goes with neither from nor to: leave one out"));
    }
    let format = match params.one_of("format", &FORMATS)? {
        Some(format) => format,
        None => accepted(request.header(ACCEPT))?,
    };
    let encoding = Encoding::accepted(request.header(ACCEPT_ENCODING).unwrap_or_default());
    let mut rows = app
        .read(move |db| {
            let snapshot = db.snapshot()?;
            Ok(if let Some(at) = at {
                Rows::State(Box::new(snapshot.scan(keys, at, Order::Ascending)?))
            } else {
                let (from, to) = (from.unwrap_or(Timestamp::MIN), to.unwrap_or(Timestamp::MAX));
                Rows::All(snapshot.export(keys, from, to)?)
            })
        })
        .await?;
    let mut encoder = Encoder::new(encoding).map_err(Error::Runtime)?;
    let mut plain = Vec::new();
    let mut writer = RowWriter::begin(format, &mut plain)?;
    let fill = move |piece: &mut Vec<u8>| {
        let more = rows.write_next(&mut writer, &mut plain)?;
        if !more {
            writer.finish(&mut plain)?;
        }
        if !more || plain.len() >= PLAIN_BYTES {
            encoder.encode(&mut plain, piece).map_err(Error::Runtime)?;
        }
        if !more {
            encoder.finish(piece).map_err(Error::Runtime)?;
        }
        Ok(more)
    };
    let app = Arc::clone(app);
    let mut response = stream::answer(&app, format.media_type(), fill).await?;
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if let Some(name) = encoding.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    Ok(response)
}

/// What is exported.
enum Rows {
    /// As of a moment: the version of each key that is in force then.
    State(Box<Scan>),
    All(Export),
}

impl Rows {
    /// Writes the next row; `false`: there is none.
    fn write_next(&mut self, writer: &mut RowWriter, out: &mut Vec<u8>) -> Result<bool> {
        let row = match self {
            Rows::State(scan) => scan.next()?.map(|(key, version)| {
                let value = ValueRef { value_type: version.value_type, bytes: version.value };
                Row { key, ts: version.ts, value: Some(value) }
            }),
            Rows::All(export) => {
                export.next()?.map(|Exported { key, ts, value }| Row { key, ts, value })
            }
        };
        let Some(row) = row else { return Ok(false) };
        writer.write(out, &row)?;
        Ok(true)
    }
}

/// The first format that `Accept` names; without one, or where any will do, NDJSON.
fn accepted(accept: Option<&str>) -> Result<Format> {
    let Some(accept) = accept else { return Ok(Format::Ndjson) };
    for range in accept.split(',') {
        let mut pieces = range.split(';').map(str::trim);
        let media_type = pieces.next().unwrap_or_default();
        let is_refused =
            pieces.any(|piece| matches!(piece, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let format = match media_type {
            "*/*" | "application/*" => Some(Format::Ndjson),
            "text/*" => Some(Format::Csv),
            _ => Format::of_media_type(media_type),
        };
        if let Some(format) = format.filter(|_| !is_refused) {
            return Ok(format);
        }
    }
    Err(Error::NotAcceptable { offered: OFFERED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_format_that_is_accepted_is_taken() {
        for (accept, expected) in [
            ("*/*", Some(Format::Ndjson)),
            ("text/html, text/csv", Some(Format::Csv)),
            ("application/x-ndjson;q=0, application/vnd.apache.arrow.stream", Some(Format::Arrow)),
            ("text/*;q=0.5", Some(Format::Csv)),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(accepted(Some(accept)).ok(), expected, "{accept}");
        }
        assert_eq!(accepted(None).unwrap(), Format::Ndjson);
    }
}
