use kvtimedb_engine::ValueType;

use super::*;
use crate::api::moment::TsUnit;
use crate::limits::Budget;

/// A row as it was shown: key, timestamp, and the value's type and the value.
type Owned = (Vec<u8>, Timestamp, Option<(ValueType, Vec<u8>)>);

/// The lines and rows that a reader shows, or what is wrong with them, and how it ended.
type Shown = (Vec<(u64, Result<Owned, String>)>, Result<(), String>);

fn layout() -> Layout {
    Layout {
        key: "key".to_owned(),
        ts: "ts".to_owned(),
        value: Some("value".to_owned()),
        clock: Clock { file: TsUnit::Us, database: TsUnit::Us, knows_words: false },
        text_as: TextAs::Json,
    }
}

fn unbounded() -> Charge {
    Budget::new(usize::MAX).share()
}

/// Gives few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = self.1.min(out.len()).min(self.0.len());
        out[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

fn read_as(format: Format, bytes: &[u8], layout: Layout) -> Shown {
    let mut rows = Vec::new();
    let mut reader = RowReader::new(format, Trickle(bytes, 7), layout, unbounded());
    let mut sink = |line, row: Result<Row<'_>, String>| {
        let row = row.map(|row| {
            let value = row.value;
            let value = value.map(|v| (v.value_type, v.bytes.to_vec()));
            (row.key.to_vec(), row.ts, value)
        });
        rows.push((line, row));
        Ok(())
    };
    let end = loop {
        match reader.read(&mut sink) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    (rows, end)
}

fn read(format: Format, bytes: impl AsRef<[u8]>) -> Shown {
    read_as(format, bytes.as_ref(), layout())
}

fn rows() -> Vec<Row<'static>> {
    vec![
        Row { key: b"a", ts: 1, value: Some(ValueRef::json(b"21.5")) },
        Row { key: b"a", ts: 2, value: None },
        Row { key: b"", ts: i64::MIN, value: Some(ValueRef::json(b"{\"x\":\"a,\\n\\\"b\\\"\"}")) },
        Row {
            key: "q\"u,o\nt\u{1}e\u{e9}".as_bytes(),
            ts: i64::MAX,
            value: Some(ValueRef::json(b"null")),
        },
        Row { key: b"o", ts: 0, value: Some(ValueRef::octets(&[0, 0xff, b'\n', 7])) },
        Row { key: b"t", ts: 0, value: Some(ValueRef::text("a,\"b\n\u{e9}")) },
        Row { key: b"o", ts: 1, value: Some(ValueRef::octets(b"")) },
        Row { key: b"o", ts: 2, value: Some(ValueRef::octets(b"a,b\n\"c")) },
    ]
}

fn written(format: Format, rows: &[Row<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = RowWriter::begin(format, &mut out).unwrap();
    for row in rows {
        writer.write(&mut out, row).unwrap();
    }
    writer.finish(&mut out).unwrap();
    out
}

const FORMATS: [Format; 3] = [Format::Ndjson, Format::Csv, Format::Arrow];

#[test]
fn what_is_written_is_read_again() {
    for format in FORMATS {
        let (shown, end) = read(format, written(format, &rows()));
        assert_eq!(end, Ok(()), "{format:?}");
        assert_eq!(shown.len(), rows().len(), "{format:?}: {shown:?}");
        for ((_, shown), row) in shown.into_iter().zip(rows()) {
            let value = row.value.map(|v| (v.value_type, v.bytes.to_vec()));
            assert_eq!(shown, Ok((row.key.to_vec(), row.ts, value)), "{format:?}");
        }
        assert_eq!(read(format, written(format, &[])), (vec![], Ok(())), "{format:?}");
    }
}

#[test]
fn what_is_compressed_is_read_again_and_nothing_that_was_cut_off() {
    let plain = written(Format::Ndjson, &rows());
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
        let (mut encoder, mut packed) = (Encoder::new(encoding).unwrap(), Vec::new());
        encoder.encode(&mut plain.clone(), &mut packed).unwrap();
        encoder.finish(&mut packed).unwrap();
        let unpack = |bytes: &[u8]| {
            let mut out = Vec::new();
            decoder(encoding, Trickle(bytes, 3)).unwrap().read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(unpack(&packed).unwrap(), plain, "{encoding:?}");
        if encoding != Encoding::Identity {
            for len in 1..packed.len() {
                assert!(unpack(&packed[..len]).is_err(), "{encoding:?} {len}");
            }
            assert!(unpack(b"no such stream").is_err());
        }
    }
    for (header, expected) in [
        ("", Encoding::Identity),
        ("gzip", Encoding::Gzip),
        ("gzip, deflate, br, zstd", Encoding::Zstd),
        ("gzip;q=1, zstd;q=0.1", Encoding::Gzip),
        ("*", Encoding::Zstd),
        ("*;q=0, gzip;q=0", Encoding::Identity),
    ] {
        assert_eq!(Encoding::accepted(header), expected, "{header}");
    }
}

/// What is wrong with the rows of a text, each with its line.
fn flaws(format: Format, text: impl AsRef<[u8]>) -> Vec<(u64, String)> {
    let (rows, end) = read(format, text);
    assert_eq!(end, Ok(()));
    rows.into_iter().filter_map(|(line, row)| Some((line, row.err()?))).collect()
}

#[test]
fn lines_that_are_no_rows_are_named_and_the_others_are_read() {
    let good = r#"{"key":"k","ts":"7","value":1,"other":[{}]}"#;
    for (line, expected) in [
        ("{", "EOF while parsing"),
        ("[1]", "expected an object, one a line"),
        (r#"{"ts":1,"value":1}"#, "the member `key` is missing"),
        (r#"{"key":"k","value":1}"#, "the member `ts` is missing"),
        (r#"{"key":"k","ts":1}"#, "the member `value` is missing"),
        (r#"{"key":5,"ts":1,"value":1}"#, "invalid type: integer `5`, expected a string"),
        (r#"{"key":"k","ts":1.5,"value":1}"#, "expected a timestamp"),
        (r#"{"key":"k","ts":9223372036854775808,"value":1}"#, "expected a timestamp"),
        (r#"{"key":"k","ts":"now","value":1}"#, "neither an integer of 64 bits nor a date"),
        (r#"{"key":"k","ts":"2024-13-01T00:00:00Z","value":1}"#, "2024-13-01"),
        (r#"{"key":"k","ts":1,"value":{]}"#, "at column"),
        (r#"{"key":"k","ts":1,"value":1} x"#, "trailing characters"),
        (r#"{"key":"k","ts":1,"value":1,"end":true}"#, "leave all out but one"),
        (r#"{"key":"k","ts":1,"value_base64":"?"}"#, "not base64"),
        (r#"{"key":"k","key_base64":"aw==","ts":1,"value":1}"#, "leave one out"),
        (r#"{"key":"k","ts":1,"value":"on","value_type":"TEXT"}"#, "`TEXT`: it must be json, text"),
        (r#"{"key":"k","ts":1,"value":1,"value_type":"text"}"#, "is not a string"),
        (r#"{"key":"k","ts":1,"value":"?","value_type":"octets"}"#, "not base64"),
        (r#"{"key":"k","ts":1,"value":"on","value_type":"end"}"#, "leave all out but one"),
        (r#"{"key":"k","ts":1,"value_base64":"aw==","value_type":"json"}"#, "is octets"),
    ] {
        let text = format!("{good}\n\n{line}\r\n{good}");
        let flaws = flaws(Format::Ndjson, &text);
        assert_eq!((flaws.len(), flaws[0].0), (1, 3), "{line}: {flaws:?}");
        assert!(flaws[0].1.contains(expected), "{line}: {flaws:?}");
    }
    let flaws = flaws(Format::Ndjson, [good.as_bytes(), b"\n{\"key\":\"\xff\"}\n"].concat());
    assert!(flaws[0].1.contains("not UTF-8"), "{flaws:?}");
}

#[test]
fn strings_in_ndjson_are_what_their_type_says() {
    let text = concat!(
        "{\"key\":\"k\",\"ts\":1,\"value\":\"b24=\"}\n",
        "{\"key\":\"k\",\"ts\":1,\"value\":\"b24=\",\"value_type\":\"json\"}\n",
        "{\"key\":\"k\",\"ts\":1,\"value\":\"b24=\",\"value_type\":\"text\"}\n",
        "{\"key\":\"k\",\"ts\":1,\"value\":\"b24=\",\"value_type\":\"octets\"}\n",
        "{\"key\":\"k\",\"ts\":1,\"value\":21.5}\n",
        "{\"key\":\"k\",\"ts\":1,\"value_type\":\"end\"}\n",
    );
    let json = Some((ValueType::Json, b"\"b24=\"".to_vec()));
    let as_text = Some((ValueType::Text, b"b24=".to_vec()));
    let octets = Some((ValueType::Octets, b"on".to_vec()));
    let number = Some((ValueType::Json, b"21.5".to_vec()));
    for (text_as, unsaid) in
        [(TextAs::Json, &json), (TextAs::Text, &as_text), (TextAs::Octets, &octets)]
    {
        let (rows, _) = read_as(Format::Ndjson, text.as_bytes(), Layout { text_as, ..layout() });
        let values: Vec<_> = rows.into_iter().map(|(_, row)| row.unwrap().2).collect();
        let expected = [unsaid, &json, &as_text, &octets, &number, &None];
        assert_eq!(values, expected.map(Clone::clone), "{text_as:?}");
    }
}

/// As in a body of PUT: the same value, however it was written, has the same bytes.
#[test]
fn json_is_stored_compact_and_not_too_deep() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let rows = |json: &str| {
        let line = format!("{{\"key\":\"k\",\"ts\":1,\"value\": {json} }}\n");
        let record = format!("key,ts,value\nk,1,\"{}\"\n", json.replace('"', "\"\""));
        [read(Format::Ndjson, line), read(Format::Csv, record)]
    };
    for (json, stored) in [
        (r#"{"a b": 1, "c":[ ]}"#, r#"{"a b":1,"c":[]}"#),
        ("\"a  b\"", "\"a  b\""),
        ("[1,2]", "[1,2]"),
        (&*deep(127), &*deep(127)),
    ] {
        for (rows, _) in rows(json) {
            let value = rows[0].1.as_ref().unwrap().2.clone();
            assert_eq!(value, Some((ValueType::Json, stored.as_bytes().to_vec())));
        }
    }
    for (rows, _) in rows(&deep(128)) {
        assert!(rows[0].1.as_ref().unwrap_err().contains("nested more than"), "{rows:?}");
    }
}

#[test]
fn csv_is_read_by_its_header() {
    let layout = Layout {
        key: "sensor".to_owned(),
        ts: "time".to_owned(),
        value: Some("temp".to_owned()),
        clock: Clock { file: TsUnit::Ms, database: TsUnit::Us, knows_words: false },
        text_as: TextAs::Json,
    };
    let text = "\u{feff}temp,other,sensor,time\n21.5,x,s1,100\n\
                \"{\"\"a\"\":1}\",\"\n\",s2,1970-01-01T00:00:01Z\n\
                on,x,s3,1\n1,x,s3\n1,x,s4,1.5\n2, ,s5, 7 \n";
    let (rows, end) = read_as(Format::Csv, text.as_bytes(), layout.clone());
    assert_eq!(end, Ok(()));
    let value = |json: &str| Some((ValueType::Json, json.as_bytes().to_vec()));
    assert_eq!(rows[0], (2, Ok((b"s1".to_vec(), 100_000, value("21.5")))));
    assert_eq!(rows[1], (3, Ok((b"s2".to_vec(), 1_000_000, value("{\"a\":1}")))));
    for (row, line, expected) in
        [(2, 5, "value_type=text"), (3, 6, "3 fields, and 4 columns"), (4, 7, "1.5")]
    {
        assert_eq!(rows[row].0, line, "{rows:?}");
        assert!(rows[row].1.as_ref().unwrap_err().contains(expected), "{rows:?}");
    }
    assert_eq!(rows[5].1, Ok((b"s5".to_vec(), 7_000, value("2"))));
    let as_text = Layout { text_as: TextAs::Text, ..layout };
    let (rows, _) = read_as(Format::Csv, text.as_bytes(), as_text);
    assert_eq!(rows[0].1.as_ref().unwrap().2, Some((ValueType::Text, b"21.5".to_vec())));
    let (_, end) = read(Format::Csv, "key,value\nk,1\n");
    assert!(end.unwrap_err().contains("no column `ts` among `key`, `value`"));
}

/// Bytes that go on for ever.
struct Endless(&'static [u8], usize);

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        out.fill(b' ');
        let begin = out.len().min(self.0.len());
        out[..begin].copy_from_slice(&self.0[..begin]);
        self.0 = &self.0[begin..];
        self.1 += out.len();
        assert!(self.1 < 3 * ROW_BYTES_MAX, "it reads on and on");
        Ok(out.len())
    }
}

#[test]
fn a_row_without_an_end_is_refused() {
    for (format, begin, expected) in [
        (Format::Ndjson, &b"{"[..], "is longer than"),
        (Format::Csv, b"key,ts,value\nk,1,\"", "is a quote open?"),
        (Format::Csv, &[b','; 5000], "line 1: a record has more than 4096 fields"),
        (Format::Arrow, b"\xff\xff\xff\xff\xff\xff\xff\x7f", "bytes of metadata: the limit is"),
    ] {
        let mut reader = RowReader::new(format, Endless(begin, 0), layout(), unbounded());
        let error = loop {
            match reader.read(&mut |_, _| panic!("no row")) {
                Ok(true) => {}
                other => break other.unwrap_err().to_string(),
            }
        };
        assert!(error.contains(expected), "{format:?}: {error}");
    }
}

#[test]
fn damaged_arrow_is_an_error_and_no_panic() {
    let whole = written(Format::Arrow, &rows());
    for len in 0..whole.len() {
        // Cut off between two messages it is a stream without its end, which is one too.
        let (shown, end) = read(Format::Arrow, &whole[..len]);
        assert!(end.is_err() || shown.len() <= rows().len(), "{len}");
    }
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..3000 {
        let mut damaged = whole.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..damaged.len());
            damaged[at] = rng.u8(..);
        }
        // Whatever it says.
        let _ = read(Format::Arrow, damaged);
    }
    for (bytes, expected) in [
        (&b""[..], "begins with its schema"),
        (b"ARROW1\0\0", "Arrow file"),
        (b"{\"key\":1}", "does not begin as one does"),
    ] {
        let (_, end) = read(Format::Arrow, bytes);
        assert!(end.as_ref().unwrap_err().contains(expected), "{end:?}");
    }
}
