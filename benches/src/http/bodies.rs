//! Points and questions as bodies of requests, and how many rows an answer has.

use std::io::{Read, Write as _};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bytes::{Buf, Bytes};
use kvtimedb_engine::Timestamp;

use super::exchange::Answer;
use super::measures::{ARROW, Bulk};
use crate::Result;
use crate::data::{Data, Probe};

/// Rows of a record batch.
const BATCH_ROWS: usize = 16 << 10;

/// All points in the order in which they are written. Values have to be JSON.
pub fn points(bulk: Bulk, data: &Data) -> Result<Bytes> {
    let all = 0..data.points.len();
    if bulk.format != ARROW.format {
        let mut out = Vec::new();
        for point in data.points.part(all).iter() {
            let (key, value) = (str::from_utf8(point.key)?, str::from_utf8(point.value)?);
            let key = serde_json::to_string(key)?;
            writeln!(out, r#"{{"key":{key},"ts":{},"value":{value}}}"#, point.ts)?;
        }
        return Ok(out.into());
    }
    let mut stream = Stream::default();
    for part in data.points.parts(BATCH_ROWS) {
        let keys = part.iter().map(|point| text(point.key)).collect::<Result<_>>()?;
        let values = part.iter().map(|point| text(point.value)).collect::<Result<_>>()?;
        stream.batch(vec![
            ("key", strings(keys)),
            ("ts", integers(part.iter().map(|point| point.ts))),
            ("value", strings(values)),
        ])?;
    }
    stream.end()
}

/// Questions in their order.
pub fn probes(bulk: Bulk, data: &Data, probes: &[Probe]) -> Result<Bytes> {
    if bulk.format != ARROW.format {
        let mut out = Vec::new();
        for (key, at) in probes {
            let key = serde_json::to_string(str::from_utf8(data.key(*key))?)?;
            writeln!(out, r#"{{"key":{key},"at":{at}}}"#)?;
        }
        return Ok(out.into());
    }
    let mut stream = Stream::default();
    for part in probes.chunks(BATCH_ROWS) {
        let keys = part.iter().map(|(key, _)| text(data.key(*key))).collect::<Result<_>>()?;
        stream.batch(vec![
            ("key", strings(keys)),
            ("at", integers(part.iter().map(|(_, at)| *at))),
        ])?;
    }
    stream.end()
}

/// How many rows an answer has.
pub fn rows(bulk: Bulk, answer: &Answer) -> Result<usize> {
    if bulk.format != ARROW.format {
        return Ok(answer.lines());
    }
    let pieces = answer.body.iter().cloned().map(Buf::reader);
    let whole = pieces.fold(Box::new(std::io::empty()) as Box<dyn Read>, |read, piece| {
        Box::new(read.chain(piece))
    });
    let mut rows = 0;
    for batch in StreamReader::try_new(std::io::BufReader::new(whole), None)? {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(str::from_utf8(bytes)?.to_owned())
}

fn strings(column: Vec<String>) -> ArrayRef {
    Arc::new(StringArray::from(column))
}

fn integers(column: impl Iterator<Item = Timestamp>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(column))
}

/// An Arrow stream under way; the first batch says what columns there are.
#[derive(Default)]
struct Stream {
    writer: Option<StreamWriter<Vec<u8>>>,
}

impl Stream {
    fn batch(&mut self, columns: Vec<(&str, ArrayRef)>) -> Result<()> {
        let batch = RecordBatch::try_from_iter(columns)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(StreamWriter::try_new(Vec::new(), &batch.schema())?),
        };
        Ok(writer.write(&batch)?)
    }

    fn end(self) -> Result<Bytes> {
        let writer = self.writer.ok_or("a stream of no rows has no columns")?;
        Ok(writer.into_inner()?.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Rng;
    use crate::data::DATA_SETS;
    use crate::http::measures::NDJSON;

    #[test]
    fn bodies_have_a_row_for_each_point_and_question() {
        let data = DATA_SETS[0].make(Some(BATCH_ROWS + 10));
        let questions = data.uniform_probes(&mut Rng::new(1), BATCH_ROWS + 1);
        for bulk in [NDJSON, ARROW] {
            for (body, count) in [
                (points(bulk, &data).unwrap(), data.points.len()),
                (probes(bulk, &data, &questions).unwrap(), questions.len()),
            ] {
                // In pieces, as it would come.
                let body = vec![body.slice(..1000), body.slice(1000..)];
                let answer = Answer { body, time: Duration::ZERO };
                assert_eq!(rows(bulk, &answer).unwrap(), count, "{}", bulk.format);
            }
        }
    }

    #[test]
    fn a_line_is_a_point() {
        let data = DATA_SETS[0].make(Some(2_000));
        let body = points(NDJSON, &data).unwrap();
        let first = body.split(|&byte| byte == b'\n').next().unwrap();
        let first: serde_json::Value = serde_json::from_slice(first).unwrap();
        let point = data.points.get(0);
        assert_eq!(first["key"].as_str().unwrap().as_bytes(), point.key);
        assert_eq!(first["ts"], point.ts);
        let value: serde_json::Value = serde_json::from_slice(point.value).unwrap();
        assert_eq!(first["value"], value);
    }
}
