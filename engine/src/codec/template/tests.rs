//! What is taken comes back, what ought to be taken is, and no bytes make a reader panic.

use std::fmt::Write;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::samples::{json, number, spelled_number, spelling};

/// A payload with its pads, and the dictionary that it needs.
struct Encoded {
    padded: Payload,
    dictionary: Dictionary,
}

const PAD: [u8; PAD_BYTES] = [0xa5; PAD_BYTES];

/// One run of values and where each ends.
fn run_of<T: AsRef<[u8]>>(values: &[T]) -> (Vec<u8>, Vec<i64>) {
    let (mut run, mut ends) = (Vec::new(), Vec::new());
    for value in values {
        run.extend_from_slice(value.as_ref());
        ends.push(run.len() as i64);
    }
    (run, ends)
}

/// The payload of these values, checked by rendering each value alone, all at once, and some; `None`
/// where the encoder gives up.
fn encoded<T: AsRef<[u8]>>(values: &[T]) -> Option<Encoded> {
    encoded_by(&mut TemplateEncoder::default(), values)
}

fn encoded_by<T: AsRef<[u8]>>(encoder: &mut TemplateEncoder, values: &[T]) -> Option<Encoded> {
    let (run, ends) = run_of(values);
    let before = b"what was there";
    let mut padded = Payload::default();
    let known = encoder.dictionary.as_read().counts();
    let taken = encoder.encode(&mut padded, &run, &ends, usize::MAX);
    let len = padded.len();
    if taken.is_none() {
        assert_eq!(len, 0);
        assert_eq!(encoder.dictionary.as_read().counts(), known);
        return None;
    }
    for bytes_max in [0, len - 1, len] {
        let mut again = Payload::default();
        let fits = TemplateEncoder::default().encode(&mut again, &run, &ends, bytes_max);
        assert!(known != (0, 0) || fits.is_some() == (bytes_max == len));
    }
    padded.head.extend_from_slice(&PAD);
    padded.data.extend_from_slice(&PAD);
    let dictionary = encoder.dictionary().map(|bytes| Dictionary::parse(&bytes).unwrap()).unwrap();
    let Payload { head, data } = &padded;
    let parse = |bytes_max| Template::parse(head, data, values.len(), bytes_max, &dictionary);
    let template = parse(run.len()).unwrap();
    for (row, value) in values.iter().enumerate() {
        let mut rendered = before.to_vec();
        template.value_into(row, &mut rendered).unwrap();
        assert_eq!(rendered.strip_prefix(before).unwrap(), value.as_ref());
    }
    let (first, last) = (values.len() / 3, values.len() - values.len() / 4);
    for rows in [0..values.len(), first..last, first..first] {
        let (expected, expected_ends) = run_of(&values[rows.clone()]);
        let (mut all, mut all_ends) = (Vec::new(), Vec::new());
        template.values_into(rows.clone(), &mut all, &mut all_ends).unwrap();
        all.truncate(expected.len());
        assert_eq!((all, all_ends), (expected, expected_ends), "{rows:?}");
    }
    if !run.is_empty() {
        let (out, out_ends) = (&mut Vec::new(), &mut Vec::new());
        let template = parse(run.len() - 1).unwrap();
        assert!(template.values_into(0..values.len(), out, out_ends).is_err());
    }
    assert_taken_over(&padded, &dictionary, &run, &ends);
    Some(Encoded { padded, dictionary })
}

/// By a table that has skeletons and words of its own, and by that table once more, which needs nothing new
/// then.
fn assert_taken_over(padded: &Payload, dictionary: &Dictionary, run: &[u8], ends: &[i64]) {
    let (other_run, other_ends) = run_of(&["{\"x\":1ms,\"y\":no}", "{\"x\":2ms,\"y\":yes}"]);
    let mut other = TemplateEncoder::default();
    other.encode(&mut Payload::default(), &other_run, &other_ends, usize::MAX).unwrap();
    let mut head = Vec::new();
    assert!(other.take_over(&mut head, &padded.head, dictionary).unwrap());
    let counts = other.dictionary.as_read().counts();
    let mut again = Vec::new();
    assert!(other.take_over(&mut again, &padded.head, dictionary).unwrap());
    assert_eq!((&again, other.dictionary.as_read().counts()), (&head, counts));
    head.extend_from_slice(&PAD);
    let dictionary = other.dictionary.as_read();
    let template = Template::parse(&head, &padded.data, ends.len(), run.len(), dictionary);
    let (mut all, mut all_ends) = (Vec::new(), Vec::new());
    template.unwrap().values_into(0..ends.len(), &mut all, &mut all_ends).unwrap();
    assert!(all.starts_with(run) && all_ends == ends);
}

/// Bytes a value of a payload; the encoder must not give up on these, nor need much of a dictionary.
fn bytes_per_value<T: AsRef<[u8]>>(values: &[T]) -> f64 {
    let mut encoder = TemplateEncoder::default();
    let payload = encoded_by(&mut encoder, values).expect("a template fits these values");
    let raw_bytes: usize = values.iter().map(|value| value.as_ref().len()).sum();
    let dictionary_bytes = encoder.dictionary().map_or(0, |bytes| bytes.len());
    assert!(dictionary_bytes <= raw_bytes + 100, "{dictionary_bytes} bytes of a dictionary");
    (payload.padded.len() - 2 * PAD_BYTES) as f64 / values.len() as f64
}

/// A number below `bound`, the same for the same `row` and `salt`.
fn hashed(row: usize, salt: u64, bound: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&row.to_le_bytes(), salt) % bound
}

fn telemetry(row: usize) -> String {
    let (t, h, p) = (1500 + hashed(row, 1, 1500), hashed(row, 2, 100), hashed(row, 3, 3000));
    let status = ["ok", "ok", "ok", "degraded"][hashed(row, 4, 4) as usize];
    format!(
        r#"{{"temp":{}.{:02},"humid":{h},"press":{},"status":"{status}","n":{row}}}"#,
        t / 100,
        t % 100,
        99_000 + p
    )
}

/// Weather as some services write it: binary fractions at full length, `null` where a sensor was mute.
fn weather(row: usize) -> String {
    let speeds = ["0", "8.05546", "10.357019999999999", "12.658579999999999", "11.5078"];
    let gusts = ["null", "null", "18.41248", "28.769499999999997"];
    let mut out = String::from("{");
    let _ = write!(out, r#""temp":{}"#, (2000 + hashed(row, 1, 5000)) as f64 / 100.0);
    let _ = write!(out, r#","wind_dir":{}"#, 10 * hashed(row, 2, 37));
    let _ = write!(out, r#","wind_speed":{}"#, speeds[hashed(row, 3, 5) as usize]);
    let _ = write!(out, r#","wind_gust":{}"#, gusts[hashed(row, 4, 4) as usize]);
    match hashed(row, 5, 10) {
        0 => out.push_str(r#","pressure":null"#),
        1 => {}
        _ => {
            let _ = write!(out, r#","pressure":{}"#, (9_900 + hashed(row, 6, 400)) as f64 / 10.0);
        }
    }
    out.push('}');
    out
}

proptest! {
    /// In one hole: a number has no separator, so that a template must fit.
    #[test]
    fn numbers_in_every_spelling_come_back(values in vec(spelled_number(), 1..80)) {
        bytes_per_value(&values);
    }

    #[test]
    fn numbers_of_one_spelling_come_back(
        numbers in vec(any::<i64>(), 1..80),
        shift in 0_u32..64,
        (digits, decimals) in (0_usize..22, 0_usize..19),
        exponent in prop_oneof![Just(""), Just("e3"), Just("E-07"), Just("ms")],
    ) {
        let value = |n: &i64| {
            let n = n >> shift;
            let (sign, n) = (if n < 0 { "-" } else { "" }, n.unsigned_abs());
            let fraction = if decimals == 0 { String::new() } else { format!(".{:0decimals$}", n % 977) };
            format!("{sign}{n:0digits$}{fraction}{exponent}")
        };
        bytes_per_value(&numbers.iter().map(value).collect::<Vec<_>>());
    }

    #[test]
    fn json_of_any_shape_comes_back_or_is_refused(values in vec(json(), 0..30)) {
        encoded(&values);
    }

    /// The same members in every row, each with anything in it.
    #[test]
    fn json_within_one_shape_comes_back_or_is_refused(
        rows in vec((json(), spelled_number(), json()), 1..30),
    ) {
        let value = |(a, b, c): &(String, String, String)| format!(r#"{{"a":{a},"b":{b},"c":{c}}}"#);
        encoded(&rows.iter().map(value).collect::<Vec<_>>());
    }

    #[test]
    fn huge_and_empty_values_come_back_or_are_refused(
        values in vec(
            prop_oneof![
                Just(Vec::new()),
                vec(any::<u8>(), 0..40),
                (json(), 0_usize..3000).prop_map(|(text, times)| text.repeat(times).into_bytes()),
                (any::<u8>(), 0_usize..200_000).prop_map(|(byte, len)| vec![byte; len]),
            ],
            1..8,
        ),
    ) {
        encoded(&values);
    }

    #[test]
    fn any_values_come_back_or_are_refused(values: Vec<Vec<u8>>) {
        encoded(&values);
    }

    #[test]
    fn values_like_text_come_back_or_are_refused(
        values in vec(
            r#"[{]?("?[ab]{0,2}"?[:,]-?[0-9]{0,3}[.]?[0-9]{0,3}["\\]{0,2}[,}]){0,3}"#,
            0..40,
        ),
    ) {
        encoded(&values);
    }

    #[test]
    fn words_and_numbers_come_back(values in vec(prop_oneof![spelling(), number()], 1..60)) {
        bytes_per_value(&values);
    }

    #[test]
    fn fields_of_any_kind_come_back(rows in vec((spelling(), number(), any::<i64>()), 1..60)) {
        let values = rows.iter().map(|(a, b, c)| format!(r#"{{"a":{a},"b":{b},"c":{c}}}"#));
        bytes_per_value(&values.collect::<Vec<_>>());
    }

    #[test]
    fn values_with_missing_fields_come_back(
        rows in vec((any::<Option<i16>>(), any::<Option<bool>>(), any::<Option<u8>>()), 1..100),
    ) {
        let field =
            |name: &str, value: Option<String>| value.map(|value| format!("\"{name}\":{value}"));
        let values: Vec<_> = rows
            .iter()
            .map(|(a, b, c)| {
                let a = field("a", a.map(|a| a.to_string()));
                let b = field("b", b.map(|b| b.to_string()));
                let c = field("c", c.map(|c| format!("[{c},{c}]")));
                format!("{{{}}}", [a, b, c].into_iter().flatten().collect::<Vec<_>>().join(","))
            })
            .collect();
        bytes_per_value(&values);
    }

    #[test]
    fn forged_payloads_do_not_panic(
        rows in 1_usize..60,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        told in 1_usize..70,
    ) {
        let values: Vec<_> = (0..rows).map(weather).collect();
        let Encoded { mut padded, dictionary } = encoded(&values).unwrap();
        for (at, byte) in damage {
            let forged = if byte % 4 == 0 { &mut padded.data } else { &mut padded.head };
            let at = at.index(forged.len());
            forged[at] = byte;
        }
        let Payload { head, data } = &padded;
        read_all(head, data, told, &dictionary);
        read_all(&head[..told.min(head.len())], data, rows, &dictionary);
        read_all(head, &data[..told.min(data.len())], rows, &dictionary);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, data: Vec<u8>, rows in 1_usize..50) {
        let known = encoded(&[weather(1), weather(2), weather(3)]).unwrap().dictionary;
        read_all(&bytes, &data, rows, &known);
        if let Ok(dictionary) = Dictionary::parse(&bytes) {
            read_all(&bytes, &data, rows, &dictionary);
        }
    }

    /// Runs that share shapes, bring new ones and are given up, as the chunks of a table do.
    #[test]
    fn runs_of_one_table_come_back(
        runs in vec((0_usize..4, vec((spelling(), number(), 0_u8..3), 1..20), any::<bool>()), 1..12),
    ) {
        let mut encoder = TemplateEncoder::default();
        for (shape, rows, taken) in runs {
            let value = |(a, b, c): &(String, String, u8)| match shape {
                0 => format!(r#"{{"a":{a},"b":{b},"c":{c}}}"#),
                1 => format!(r#"{{"a":{a},"z":[{b},{c}]}}"#),
                2 => b.clone(),
                _ => ",".repeat(a.len() * 7 + usize::from(*c)),
            };
            let values: Vec<_> = rows.iter().map(value).collect();
            let before = encoder.dictionary.as_read().counts();
            if encoded_by(&mut encoder, &values).is_some() && !taken {
                encoder.undo();
                prop_assert_eq!(encoder.dictionary.as_read().counts(), before);
            }
        }
    }
}

fn read_all(head: &[u8], data: &[u8], rows: usize, dictionary: &Dictionary) {
    let _ = TemplateEncoder::default().take_over(&mut Vec::new(), head, dictionary);
    let Ok(template) = Template::parse(head, data, rows, 1 << 20, dictionary) else { return };
    for row in 0..rows {
        let _ = template.value_into(row, &mut Vec::new());
    }
    let _ = template.values_into(0..rows, &mut Vec::new(), &mut Vec::new());
}

/// A kilobyte that names a long word in each of many holes was rendered into gigabytes, and room was made
/// for sixteen such rows before the first was.
#[test]
fn a_forged_payload_does_not_outgrow_its_values() {
    const HOLES: usize = 512;
    let mut builder = DictionaryBuilder::default();
    builder.word(&vec![b'x'; (1 << 20) - 4096]).unwrap();
    builder.skeleton([&[][..]; HOLES + 1].into_iter()).unwrap();
    // The one skeleton, no bits, and in each hole the one word.
    let mut head = vec![1, 0, 0];
    crate::coding::put_bytes(&mut head, &[ENUM, 1, 0].repeat(HOLES));
    head.extend_from_slice(&PAD);
    let template = Template::parse(&head, &PAD, 1, 1 << 20, builder.as_read()).unwrap();
    let (mut one, mut all) = (Vec::new(), Vec::new());
    assert!(template.value_into(0, &mut one).is_err());
    assert!(template.values_into(0..1, &mut all, &mut Vec::new()).is_err());
    assert!(template.row_reader().is_err());
    assert!(one.capacity().max(all.capacity()) <= 4 << 20);
}

/// More texts than any encoder writes are refused: they are held in memory while a table is open.
#[test]
fn a_dictionary_has_its_limits() {
    let parse = |words: usize, word: &[u8], skeletons: usize| {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, words as u64);
        (0..words).for_each(|_| crate::coding::put_bytes(&mut bytes, word));
        put_varint(&mut bytes, skeletons as u64);
        (0..skeletons).for_each(|_| bytes.extend_from_slice(&[0, 0]));
        Dictionary::parse(&bytes).is_ok()
    };
    assert!(parse(1 << 16, b"", 1 << 16) && parse(1, &vec![0; 1 << 20], 1));
    assert!(!parse((1 << 16) + 1, b"", 0) && !parse(0, b"", (1 << 16) + 1));
    assert!(!parse(1, &vec![0; (1 << 20) + 1], 0));
}

#[test]
fn similar_values_cost_their_columns() {
    let at_most = |bytes: f64, value: fn(usize) -> String| {
        let found = bytes_per_value(&(0..512).map(value).collect::<Vec<_>>());
        assert!(found <= bytes, "{found} bytes a value such as {}", value(1));
    };
    at_most(4.2, telemetry);
    at_most(5.3, weather);
    at_most(0.1, |_| "the very same".to_owned());
    at_most(0.3, |row| ["ok", "degraded", ""][row % 3].to_owned());
    at_most(1.6, |row| hashed(row, 1, 4000).to_string());
    // A number costs its digits however it is written, as long as all are written alike.
    at_most(1.6, |row| {
        format!("-{}.{:02}", hashed(row, 1, 4000) / 100, hashed(row, 1, 4000) % 100)
    });
    at_most(1.6, |row| format!("{}", hashed(row, 1, 4000) as f64 / 100.0));
    at_most(1.6, |row| format!("{:?}", hashed(row, 1, 4000) as f64 / 100.0));
    at_most(1.6, |row| format!("{:06}", hashed(row, 1, 4000)));
    at_most(1.6, |row| format!("\"{}ms\"", hashed(row, 1, 4000)));
    at_most(1.6, |row| match row % 9 {
        0 => "null".to_owned(),
        _ => format!("-{}", 1 + hashed(row, 1, 4000)),
    });
    // A line costs nothing.
    at_most(0.2, |row| format!("{} {:03}; {}.{}", row, row, row / 10, row % 10));
    // A time of day is numbers.
    at_most(1.5, |row| {
        format!("{{\"at\":\"2024-01-02T03:{:02}:{:02}.000Z\"}}", row / 60, row % 60)
    });
    // Rows of another shape cost their numbers in a list.
    at_most(0.8, |row| match row % 10 {
        7 => "{\"error\":{}}".to_owned(),
        _ => format!("{{\"n\":{}}}", hashed(row, 1, 16)),
    });
}

#[test]
fn values_without_a_common_shape_are_refused() {
    let values: Vec<_> = (0..40).map(|commas| ",".repeat(commas)).collect();
    assert!(encoded(&values).is_none());
    assert!(encoded(&[",".repeat(100_000)]).is_none());
    assert!(encoded::<&[u8]>(&[]).is_none());
    assert!(encoded(&[""; 3]).is_some());
}

#[test]
fn a_full_dictionary_takes_nothing_over() {
    let known = encoded(&[telemetry(0), telemetry(1)]).unwrap();
    let mut full = TemplateEncoder::default();
    // The limit of its texts is a mebibyte.
    let (run, ends) = run_of(&["x".repeat((1 << 20) - 20)]);
    full.encode(&mut Payload::default(), &run, &ends, usize::MAX).unwrap();
    let counts = full.dictionary.as_read().counts();
    let taken = full.take_over(&mut Vec::new(), &known.padded.head, &known.dictionary);
    assert!(!taken.unwrap());
    assert_eq!(full.dictionary.as_read().counts(), counts);
}

#[test]
fn ends_that_do_not_fit_the_values_are_refused() {
    for ends in [&[][..], &[1], &[3], &[-1, 2], &[2, 1, 2], &[i64::MAX, 2]] {
        let mut out = Payload::default();
        assert_eq!(TemplateEncoder::default().encode(&mut out, b"12", ends, 1000), None);
        assert_eq!(out.len(), 0);
    }
}

#[test]
fn huge_values_come_back() {
    let values: Vec<_> =
        (0..5).map(|n| format!("{{\"blob\":\"{}\"}}", "x\\\"".repeat(n << 16))).collect();
    assert!(encoded(&values).is_some());
}
