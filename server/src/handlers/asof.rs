//! `POST /v1/asof`: many lookups, answered in their order, all of one snapshot.
//!
//! Some thousand lookups come as JSON and are answered as JSON. Any number comes as NDJSON or Arrow, and is
//! answered while it arrives: a stretch of lookups is read, answered and sent, and then the next one. Neither
//! the lookups nor the answers are ever all in memory, so a client has to take answers while it sends; one that
//! sends all before it takes any is slowed down to a stop once the buffers on the way are full, and given up.

use std::sync::Arc;

use bytes::Bytes;
use kvtimedb_engine::{AsOf, Db, EntryRef, Lookup, Mode, Snapshot, Timestamp, ValueType};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use warp::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

use crate::api::json::{moment, some_at_most};
use crate::api::moment::{TsUnit, UNITS};
use crate::api::params::{MODES, word};
use crate::api::stream::{self, PIECE_BYTES, Piece};
use crate::api::upload::{self, Upload};
use crate::api::value;
use crate::complain;
use crate::error::{Error, Result};
use crate::formats::{
    self, AnswerWriter, Clock, Encoder, Encoding, Format, Layout, Row, RowReader, TextAs, ndjson,
};
use crate::handlers::{App, typed_response};
use crate::limits::Charge;
use crate::request::Request;

/// The most lookups of a request that is one JSON document.
pub(crate) const ASOF_LOOKUPS_MAX: usize = 10_000;

/// A stretch ends with so many lookups, or so many bytes of keys. The engine shares so many out among two
/// threads.
const STRETCH_LOOKUPS_MAX: usize = 32 << 10;
const STRETCH_KEY_BYTES_MAX: usize = 4 << 20;

/// As many lookups are answered at once as have answers of so many bytes together: a guess by those before,
/// and where it is wrong, fewer are asked for.
const ANSWERS_BYTES: usize = 4 << 20;

/// With how many lookups a request begins, whose answers' size is not known.
const FIRST_LOOKUPS: usize = 1024;

/// What a stream of lookups takes of the memory for uploads: a stretch, and the answers of two threads.
const STREAM_BYTES: usize = 14 << 20;

/// What all lookups of a request have in common.
#[derive(Clone, Copy)]
struct Manner {
    mode: Mode,
    max_age: Option<u64>,
}

/// Answers lookups in the format in which they come.
pub(crate) async fn asof(request: Request) -> Result<Response> {
    match upload::format(&request) {
        None => document(request).await,
        Some(Format::Csv) => Err(Error::ContentType(
            "Lookups come as application/json, application/x-ndjson or \
             application/vnd.apache.arrow.stream"
                .to_owned(),
        )),
        Some(format) => lookups_stream(request, format).await,
    }
}

/// Lookups in one JSON document.
async fn document(mut request: Request) -> Result<Response> {
    request.params(&[])?;
    let body = request.read_body().await?;
    let app = Arc::clone(&request.app);
    let unit = app.unit;
    let mut charge = app.answers.share();
    let text = app
        .read(move |db| {
            let asked = Asked::parse(body.bytes(), unit)?;
            let mut out = Answered::new(asked.in_columns);
            let snapshot = db.snapshot()?;
            answer_all(&snapshot, &asked.lookups, asked.manner, |number, (key, at), answer| {
                out.write(number, key, *at, answer);
                charge.grow_to(out.len())
            })?;
            Ok(Bytes::from_owner(Charged(out.end(), charge)))
        })
        .await?;
    Ok(typed_response(StatusCode::OK, "application/json", text))
}

/// Text, and its share of the memory for answers.
struct Charged(Vec<u8>, #[expect(dead_code, reason = "given back when it is dropped")] Charge);

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(borrow, default, deserialize_with = "some_at_most::<ASOF_LOOKUPS_MAX, _, _>")]
    lookups: Option<Vec<OneLookup<'a>>>,
    #[serde(default, deserialize_with = "some_at_most::<ASOF_LOOKUPS_MAX, _, _>")]
    key: Option<Vec<String>>,
    #[serde(borrow, default, deserialize_with = "some_at_most::<ASOF_LOOKUPS_MAX, _, _>")]
    at: Option<Vec<&'a RawValue>>,
    mode: Option<String>,
    #[serde(borrow)]
    max_age: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneLookup<'a> {
    key: String,
    #[serde(borrow)]
    at: Option<&'a RawValue>,
}

/// A document that was understood.
struct Asked {
    lookups: Vec<(String, Timestamp)>,
    manner: Manner,
    in_columns: bool,
}

impl Asked {
    fn parse(body: &[u8], unit: TsUnit) -> Result<Asked> {
        let document: Document<'_> = serde_json::from_slice(body)
            .map_err(|error| Error::invalid("/body", error.to_string()))?;
        let moment = |pointer: String, at: Option<&RawValue>| {
            let at = at.map_or(Ok(Timestamp::MAX), |at| moment(at, unit));
            at.map_err(|detail| Error::invalid(pointer, detail))
        };
        let in_columns = document.lookups.is_none();
        let lookups: Vec<_> = match (document.lookups, document.key, document.at) {
            (Some(lookups), None, None) => {
                check_count(lookups.len())?;
                let lookups =
                    lookups.into_iter().enumerate().map(|(number, OneLookup { key, at })| {
                        Ok((key, moment(format!("/body/lookups/{number}/at"), at)?))
                    });
                lookups.collect::<Result<_>>()?
            }
            (None, Some(keys), Some(at)) if keys.len() == at.len() => {
                check_count(keys.len())?;
                let lookups = keys.into_iter().zip(at).enumerate().map(|(number, (key, at))| {
                    Ok((key, moment(format!("/body/at/{number}"), Some(at))?))
                });
                lookups.collect::<Result<_>>()?
            }
            (None, Some(keys), Some(at)) => {
                let detail = format!("there are {} of them for {} keys", at.len(), keys.len());
                return Err(Error::invalid("/body/at", detail));
            }
            _ => {
                let detail = "it must have lookups, or else key and at, columns of one length";
                return Err(Error::invalid("/body", detail));
            }
        };
        let manner = Manner {
            mode: document
                .mode
                .map_or(Ok(Mode::default()), |name| word(&name, MODES))
                .map_err(|detail| Error::invalid("/body/mode", detail))?,
            max_age: document
                .max_age
                .map(|age| max_age(age, unit))
                .transpose()
                .map_err(|detail| Error::invalid("/body/max_age", detail))?,
        };
        Ok(Asked { lookups, manner, in_columns })
    }
}

/// The answer to a document, as far as it is written.
enum Answered {
    /// An object for each lookup.
    Objects(Vec<u8>),
    /// A list for each member of those objects.
    Columns([Vec<u8>; 6]),
}

/// The names of the columns; each begins a list, which the last one closes.
const COLUMNS: [&str; 6] = [
    "{\"key\":[",
    "],\"at\":[",
    "],\"found\":[",
    "],\"ts\":[",
    "],\"value\":[",
    "],\"value_base64\":[",
];

impl Answered {
    fn new(in_columns: bool) -> Answered {
        if in_columns {
            Answered::Columns(COLUMNS.map(|name| name.as_bytes().to_vec()))
        } else {
            Answered::Objects(b"{\"results\":[".to_vec())
        }
    }

    fn len(&self) -> usize {
        match self {
            Answered::Objects(text) => text.len(),
            Answered::Columns(columns) => columns.iter().map(Vec::len).sum(),
        }
    }

    fn write(&mut self, number: usize, key: &str, at: Timestamp, answer: Option<EntryRef<'_>>) {
        let comma: &[u8] = if number == 0 { b"" } else { b"," };
        let [keys, ats, found, ts, values, octets] = match self {
            Answered::Columns(columns) => columns,
            Answered::Objects(text) => {
                text.extend_from_slice(comma);
                return ndjson::write_answer(text, key.as_bytes(), at, answer);
            }
        };
        for column in [&mut *keys, &mut *ats, &mut *found, &mut *ts, &mut *values, &mut *octets] {
            column.extend_from_slice(comma);
        }
        value::write_text(keys, key);
        ats.extend_from_slice(at.to_string().as_bytes());
        found.extend_from_slice(answer.is_some().to_string().as_bytes());
        match answer {
            Some(answer) => ts.extend_from_slice(answer.ts.to_string().as_bytes()),
            None => ts.extend_from_slice(b"null"),
        }
        match answer.map(|answer| (answer.value_type, answer.value)) {
            Some((ValueType::Json, json)) => value::write_line(values, json),
            Some((ValueType::Text, text)) => {
                value::write_text(values, &String::from_utf8_lossy(text));
            }
            _ => values.extend_from_slice(b"null"),
        }
        match answer.map(|answer| (answer.value_type, answer.value)) {
            Some((ValueType::Octets, bytes)) => value::write_base64(octets, bytes),
            _ => octets.extend_from_slice(b"null"),
        }
    }

    fn end(self) -> Vec<u8> {
        let mut text = match self {
            Answered::Objects(text) => text,
            Answered::Columns(columns) => columns.concat(),
        };
        text.extend_from_slice(b"]}\n");
        text
    }
}

fn check_count(lookups: usize) -> Result<()> {
    if lookups > ASOF_LOOKUPS_MAX {
        let detail = format!(
            "the limit is {ASOF_LOOKUPS_MAX} lookups; as NDJSON or Arrow there may be any number"
        );
        return Err(Error::invalid("/body", detail));
    }
    Ok(())
}

/// Reads a duration: a count of units, or a string of what a query may say.
fn max_age(raw: &RawValue, unit: TsUnit) -> Result<u64, String> {
    let json = raw.get();
    if json.starts_with('"') {
        let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
        return unit.parse_duration(&text);
    }
    json.parse().map_err(|_| {
        let shown: String = json.chars().take(40).collect();
        format!("{shown} is neither a duration such as 10s nor a whole number of 64 bits")
    })
}

/// Lookups that are answered while they arrive.
async fn lookups_stream(request: Request, format: Format) -> Result<Response> {
    let params = request.params(&["mode", "max_age", "key_col", "at_col", "ts_unit"])?;
    let database = request.app.unit;
    let manner = Manner {
        mode: params.one_of("mode", MODES)?.unwrap_or_default(),
        max_age: params.duration("max_age", database)?,
    };
    let file = params.one_of("ts_unit", &UNITS)?.unwrap_or(database);
    let layout = Layout {
        key: params.text("key_col").unwrap_or("key").to_owned(),
        ts: params.text("at_col").unwrap_or("at").to_owned(),
        value: None,
        clock: Clock { file, database, knows_words: true },
        text_as: TextAs::Json,
    };
    let accepted = Encoding::accepted(request.header(ACCEPT_ENCODING).unwrap_or_default());
    let encoding = upload::encoding(&request)?;
    let permit = upload::turn(&request.app).await?;
    let app = Arc::clone(&request.app);
    let mut charge = app.uploading.share();
    charge.grow(STREAM_BYTES)?;
    let (sender, upload) = upload::divide();
    tokio::spawn(upload::pass_on(request.body, Arc::clone(&app.limits), sender));
    let (answers, pieces) = channel(1);
    let (begin, beginning) = oneshot::channel();
    let mut outgoing = Outgoing {
        encoder: Encoder::new(accepted).map_err(Error::Runtime)?,
        piece: Vec::with_capacity(2 * PIECE_BYTES),
        answers,
        begin: Some(begin),
        app: Arc::clone(&app),
        runtime: Handle::current(),
    };
    spawn_blocking(move || {
        let outcome = run(&app.db, upload, encoding, format, layout, manner, &mut outgoing);
        outgoing.end(outcome);
        drop((permit, charge));
    });
    // The thread says nothing only if it panicked.
    beginning.await.unwrap_or(Err(Error::Panicked))?;
    let mut response = stream::response(format.media_type(), pieces);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(name) = accepted.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    Ok(response)
}

/// Reads lookups and sends their answers, to the end.
fn run(
    db: &Db,
    upload: Upload,
    encoding: Encoding,
    format: Format,
    layout: Layout,
    manner: Manner,
    outgoing: &mut Outgoing,
) -> Result<()> {
    let input =
        formats::decoder(encoding, upload).map_err(|error| Error::BadRequest(error.to_string()))?;
    let mut reader = RowReader::new(format, input, layout, outgoing.app.uploading.share());
    let snapshot = db.snapshot()?;
    let mut plain = Vec::new();
    let mut writer = AnswerWriter::begin(format, &mut plain)?;
    let mut stretch = Stretch::default();
    loop {
        let more = reader.read(&mut |line, row| {
            let Row { key, ts: at, .. } = row.map_err(|detail| {
                Error::invalid(format!("/body/{line}"), format!("line {line}: {detail}"))
            })?;
            stretch.push(key, at);
            if stretch.is_full() {
                stretch.answer(&snapshot, manner, &mut writer, &mut plain, outgoing)?;
            }
            Ok(())
        })?;
        if !more {
            break;
        }
    }
    stretch.answer(&snapshot, manner, &mut writer, &mut plain, outgoing)?;
    writer.finish(&mut plain)?;
    outgoing.send(&mut plain)
}

/// Lookups that wait for each other, to be answered at once.
#[derive(Default)]
struct Stretch {
    keys: Vec<u8>,
    /// Where each key ends, and the moment.
    lookups: Vec<(usize, Timestamp)>,
}

impl Stretch {
    fn push(&mut self, key: &[u8], at: Timestamp) {
        self.keys.extend_from_slice(key);
        self.lookups.push((self.keys.len(), at));
    }

    fn is_full(&self) -> bool {
        self.lookups.len() >= STRETCH_LOOKUPS_MAX || self.keys.len() >= STRETCH_KEY_BYTES_MAX
    }

    /// Sends the answers, and is empty afterwards.
    fn answer(
        &mut self,
        snapshot: &Snapshot,
        manner: Manner,
        writer: &mut AnswerWriter,
        plain: &mut Vec<u8>,
        outgoing: &mut Outgoing,
    ) -> Result<()> {
        let mut start = 0;
        let lookups = self.lookups.iter().map(|&(end, at)| {
            let key = &self.keys[start..end];
            start = end;
            (key, at)
        });
        let lookups: Vec<(&[u8], Timestamp)> = lookups.collect();
        answer_all(snapshot, &lookups, manner, |_, (key, at), answer| {
            writer.write(plain, key, *at, answer)?;
            if plain.len() >= PIECE_BYTES {
                outgoing.send(plain)?;
            }
            Ok(())
        })?;
        self.keys.clear();
        self.lookups.clear();
        Ok(())
    }
}

/// Where answers go.
struct Outgoing {
    encoder: Encoder,
    piece: Vec<u8>,
    answers: Sender<Piece>,
    /// Until the answer has begun: where its beginning, or why there is none, is awaited.
    begin: Option<oneshot::Sender<Result<()>>>,
    app: Arc<App>,
    runtime: Handle,
}

impl Outgoing {
    /// Takes what is written, which is empty afterwards, and sends it in whole pieces.
    fn send(&mut self, plain: &mut Vec<u8>) -> Result<()> {
        self.encoder.encode(plain, &mut self.piece).map_err(Error::Runtime)?;
        if self.piece.len() >= PIECE_BYTES { self.send_piece() } else { Ok(()) }
    }

    /// Waits until the client takes the piece, for a while.
    fn send_piece(&mut self) -> Result<()> {
        if let Some(begin) = self.begin.take() {
            // Who has gone shows in the pieces.
            let _ = begin.send(Ok(()));
        }
        let piece = Piece::Bytes(Bytes::from(std::mem::take(&mut self.piece)));
        self.pass(piece)
    }

    fn pass(&mut self, piece: Piece) -> Result<()> {
        let sent = self.answers.send_timeout(piece, self.app.limits.write_timeout);
        self.runtime.block_on(sent).map_err(|_| Error::RequestTimeout)
    }

    /// Sends the rest, or says why there is none.
    fn end(&mut self, outcome: Result<()>) {
        let ended = outcome.and_then(|()| {
            self.encoder.finish(&mut self.piece).map_err(Error::Runtime)?;
            self.send_piece()?;
            self.pass(Piece::End)
        });
        match (ended, self.begin.take()) {
            (Ok(()), _) => {}
            (Err(error), Some(begin)) => drop(begin.send(Err(error))),
            (Err(error), None) => complain(&format!("answers to lookups were broken off: {error}")),
        }
    }
}

/// Shows the answer to each lookup, in their order.
fn answer_all<'l, K: AsRef<[u8]>>(
    snapshot: &Snapshot,
    lookups: &'l [(K, Timestamp)],
    manner: Manner,
    mut show: impl FnMut(usize, &'l (K, Timestamp), Option<EntryRef<'_>>) -> Result<()>,
) -> Result<()> {
    let Manner { mode, max_age } = manner;
    if !matches!(mode, Mode::Floor | Mode::Exact | Mode::Before) {
        for (number, lookup) in lookups.iter().enumerate() {
            let found = snapshot.find(lookup.0.as_ref(), Lookup { at: lookup.1, mode, max_age })?;
            show(number, lookup, found.as_ref().map(EntryRef::from))?;
        }
        return Ok(());
    }
    let (mut number, mut len) = (0, FIRST_LOOKUPS);
    while number < lookups.len() {
        let some = &lookups[number..lookups.len().min(number + len)];
        let Some(floors) = manner.floors(snapshot, some)? else {
            len = some.len() / 2;
            continue;
        };
        let mut bytes = some.len();
        for (at, lookup) in some.iter().enumerate() {
            let answer = floors.get(at).filter(|answer| manner.means(lookup.1, answer.ts));
            bytes += answer.map_or(0, |answer| answer.value.len());
            show(number + at, lookup, answer)?;
        }
        number += some.len();
        let fitting = ANSWERS_BYTES * some.len() / bytes;
        len = fitting.min(2 * len).clamp(1, STRETCH_LOOKUPS_MAX);
    }
    Ok(())
}

impl Manner {
    /// The floors from which the answers come, of a mode that is a floor with a condition; `None`: they take
    /// too much memory, unless there is only one.
    fn floors<K: AsRef<[u8]>>(
        self,
        snapshot: &Snapshot,
        lookups: &[(K, Timestamp)],
    ) -> Result<Option<AsOf>> {
        let strict = i64::from(self.mode == Mode::Before);
        let bound = |at: Timestamp| at.saturating_sub(strict);
        let lookups = lookups.iter().map(|(key, at)| (key.as_ref(), bound(*at)));
        let lookups: Vec<(&[u8], Timestamp)> = lookups.collect();
        Ok(snapshot.asof_within(&lookups, ANSWERS_BYTES)?)
    }

    /// Whether a floor answers the lookup of this moment.
    fn means(self, at: Timestamp, ts: Timestamp) -> bool {
        let is_meant = match self.mode {
            Mode::Exact => ts == at,
            Mode::Before => ts < at,
            _ => true,
        };
        is_meant && self.max_age.is_none_or(|age| at.abs_diff(ts) <= age)
    }
}
