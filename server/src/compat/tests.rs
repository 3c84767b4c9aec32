//! The tables were made with Python 3: `str()` and `int()` of what `json.loads` returns.

use super::*;

fn put(member: &str, json: &str) -> Result<Put<'static>> {
    let mut members = [("key", "\"k\""), ("value", "\"v\""), ("timestamp", "1")];
    for (name, text) in &mut members {
        if *name == member {
            *text = json;
        }
    }
    let body: Vec<String> =
        members.iter().map(|(name, text)| format!("\"{name}\":{text}")).collect();
    let body = format!("{{{}}}", body.join(", "));
    let put = parse_put(body.as_bytes())?;
    Ok(Put {
        key: put.key.into_owned().into(),
        value: put.value.into_owned().into(),
        timestamp: put.timestamp,
    })
}

/// JSON scalars and what Python's `str()` makes of them.
const SCALARS: &[(&str, &str)] = &[
    ("5", "5"),
    ("-5", "-5"),
    ("0", "0"),
    ("-0", "0"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("-99999999999999999999", "-99999999999999999999"),
    ("1.5", "1.5"),
    ("5.0", "5.0"),
    ("5.10", "5.1"),
    ("-0.0", "-0.0"),
    ("0e5", "0.0"),
    ("0.1", "0.1"),
    ("0.30000000000000004", "0.30000000000000004"),
    ("0.1000000000000000055511151231257827", "0.1"),
    ("1e15", "1000000000000000.0"),
    ("1E+15", "1000000000000000.0"),
    ("9999999999999998.0", "9999999999999998.0"),
    ("1e16", "1e+16"),
    ("-1e16", "-1e+16"),
    ("12345678901234567.0", "1.2345678901234568e+16"),
    ("123456789012345680.0", "1.2345678901234568e+17"),
    ("1e22", "1e+22"),
    ("663989851370716.25", "663989851370716.2"),
    ("1692301325225751.75", "1692301325225751.8"),
    ("-79619449374608.62500", "-79619449374608.62"),
    ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ("1e100", "1e+100"),
    ("0.001", "0.001"),
    ("0.0001", "0.0001"),
    ("0.00001", "1e-05"),
    ("0.000123", "0.000123"),
    ("1.5e-5", "1.5e-05"),
    ("1e-7", "1e-07"),
    ("5e-324", "5e-324"),
    ("1e-400", "0.0"),
    ("-1e-400", "-0.0"),
    ("1e400", "inf"),
    ("-1e400", "-inf"),
    ("true", "True"),
    ("false", "False"),
    ("null", "None"),
];

#[test]
fn scalars_become_what_str_makes_of_them() {
    for (json, text) in SCALARS {
        assert_eq!(put("key", json).unwrap().key, *text, "key {json}");
        assert_eq!(put("value", json).unwrap().value, format!("\"{text}\""), "value {json}");
    }
}

#[test]
fn strings_are_taken_as_they_are() {
    for (json, key) in [
        (r#""""#, ""),
        (r#"" a ""#, " a "),
        (r#""\u0041\/\n""#, "A/\n"),
        (r#""\ud83d\ude00""#, "😀"),
        (r#""\u0000""#, "\0"),
        ("\"ключ\"", "ключ"),
        (r#""\"""#, "\""),
    ] {
        assert_eq!(put("key", json).unwrap().key, key, "{json}");
        let stored = put("value", json).unwrap().value;
        assert_eq!(serde_json::from_str::<String>(&stored).unwrap(), key, "{json}");
    }
    assert_eq!(put("value", r#""\u0041\/\u000a😀\ud83d\ude00""#).unwrap().value, r#""A/\n😀😀""#);
}

#[test]
fn objects_and_arrays_are_kept_as_text_and_only_as_values() {
    for (json, stored) in [
        ("{}", "{}"),
        ("[ ]", "[]"),
        (
            " { \"b\" : 1.50 , \"a\":-0,\"a\": [1E5,\n\t\"x  y\"\r\n] } ",
            r#"{"b":1.50,"a":-0,"a":[1E5,"x  y"]}"#,
        ),
        (r#"[ "\"  ", "\\" , " [ " ]"#, r#"["\"  ","\\"," [ "]"#),
        (r#"["\n", "\u000a"]"#, r#"["\n","\u000a"]"#),
        ("[123456789012345678901234567890.000]", "[123456789012345678901234567890.000]"),
        ("[null,true]", "[null,true]"),
    ] {
        let put = put("value", json).unwrap();
        assert_eq!(put.value, stored, "{json}");
        assert!(!put.value.contains('\n'));
    }
    for json in ["{}", "[1]"] {
        assert!(matches!(put("key", json), Err(Error::InvalidTypes(_))), "{json}");
    }
}

#[test]
fn timestamps_become_what_int_makes_of_them_where_nothing_is_lost() {
    for (json, timestamp) in [
        ("0", 0),
        ("-0", 0),
        ("-3", -3),
        ("1673524092123456", 1_673_524_092_123_456),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("5.0", 5),
        ("-5.000", -5),
        ("1e3", 1000),
        ("1.5E+1", 15),
        ("1500e-2", 15),
        ("0.0", 0),
        ("0e999999999999999999999", 0),
        ("-0.0e-5", 0),
        ("9007199254740993.0", 9_007_199_254_740_993),
        ("9.223372036854775807e18", i64::MAX),
        ("true", 1),
        ("false", 0),
        (r#""100""#, 100),
        (r#""007""#, 7),
        (r#"" 7 ""#, 7),
        (r#""\t+7\n""#, 7),
        (r#""\u00a0-7\u2003""#, -7),
        (r#""\u001c7""#, 7),
        (r#""1_000""#, 1000),
        (r#""-1_0_0""#, -100),
        (r#""-9223372036854775808""#, i64::MIN),
        (r#""000000000000000000000000000001""#, 1),
    ] {
        assert_eq!(put("timestamp", json).unwrap().timestamp, timestamp, "{json}");
    }
}

#[test]
fn timestamps_that_are_no_i64_are_refused() {
    for json in [
        "1.5",
        "-0.1",
        "1e-7",
        "1.00000000000000000000001",
        "15e-2",
        "1e19",
        "1e400",
        "1e999999999999999999999",
        "1e-999999999999999999999",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999999999999999999999999999999999999999",
        "null",
        "{}",
        "[1]",
        r#""""#,
        r#"" ""#,
        r#""+""#,
        r#""1.0""#,
        r#""1e3""#,
        r#""0x10""#,
        r#""+ 7""#,
        r#""--7""#,
        r#""_1""#,
        r#""1_""#,
        r#""1__0""#,
        r#""1 0""#,
        r#""nan""#,
        r#""9223372036854775808""#,
    ] {
        let error = put("timestamp", json).unwrap_err();
        assert!(matches!(error, Error::InvalidTypes(_)), "{json}: {error}");
        assert!(error.to_string().starts_with("Invalid data types: timestamp must be "), "{error}");
    }
    let error = put("timestamp", &format!("\"{}\"", "é".repeat(100_000))).unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn bodies_that_are_no_request_are_refused_with_the_reason() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(put("value", &deep(127)).is_ok());
    for (body, reason) in [
        ("", "Invalid JSON: the body is empty"),
        (" ", "Invalid JSON: EOF"),
        ("{", "Invalid JSON: EOF"),
        ("{}{}", "Invalid JSON: trailing characters"),
        ("{'key': 1}", "Invalid JSON: key must be a string"),
        (r#"{"key":"k","value":NaN,"timestamp":1}"#, "Invalid JSON: expected value"),
        (r#"{"key":"k","value":01,"timestamp":1}"#, "Invalid JSON: invalid number"),
        ("{\"key\":\"k\",\"value\":[\"a\nb\"],\"timestamp\":1}", "Invalid JSON: control character"),
        (r#"{"key":"\ud800","value":1,"timestamp":1}"#, "Invalid JSON: the string in key"),
        (r#"{"key":"k","value":"\ud800","timestamp":1}"#, "Invalid JSON: the string in value"),
        ("[]", "Invalid data types: the body must be a JSON object"),
        ("\"text\"", "Invalid data types: the body must be a JSON object"),
        ("null", "Invalid data types: the body must be a JSON object"),
        ("{}", "Missing required fields: key, value, timestamp"),
        (r#"{"key":"k","timestamp":1}"#, "Missing required fields: key, value, timestamp"),
        (
            r#"{"Key":"k","value":1,"timestamp":1}"#,
            "Missing required fields: key, value, timestamp",
        ),
        (
            &format!(r#"{{"key":"k","value":{},"timestamp":1}}"#, deep(128)),
            "Invalid JSON: value is nested more than 127 levels deep",
        ),
        (
            &format!(r#"{{"key":"k","value":{},"timestamp":1}}"#, deep(200_000)),
            "Invalid JSON: value is nested more than 127 levels deep",
        ),
        (
            &format!(r#"{{"key":"{}","timestamp":1,"value":1}}"#, "k".repeat(KEY_BYTES_MAX + 1)),
            "The key is too large: 65537 bytes, the limit is 65536 bytes",
        ),
    ] {
        let error = parse_put(body.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{body:.80}: {error}");
    }
    assert!(parse_put(b"{\"key\":\"\xff\"}").unwrap_err().to_string().contains("not UTF-8"));
    assert_eq!(
        parse_get(b"{}").unwrap_err().to_string(),
        "Missing required fields: key, timestamp"
    );
}

#[test]
fn members_come_in_any_order_and_the_last_of_its_name_counts() {
    let body =
        br#" {"timestamp":1,"x":[{}],"value":1,"key":{},"k\u0065y":"b","timestamp":2,"value":[]} "#;
    let expected = Put { key: "b".into(), value: "[]".into(), timestamp: 2 };
    assert_eq!(parse_put(body).unwrap(), expected);
    let with_mark = "\u{feff}{\"key\":1,\"timestamp\":\"2\",\"value\":null}";
    let expected = Lookup { key: "1".into(), timestamp: 2 };
    assert_eq!(parse_get(with_mark.as_bytes()).unwrap(), expected);
}

#[test]
fn a_query_is_decoded_as_a_form() {
    for (query, key, timestamp) in [
        ("key=a&timestamp=1", "a", 1),
        ("timestamp=%2B7&key=a+b%2Bc%26", "a b+c&", 7),
        ("timestamp=-7&key=", "", -7),
        ("key&timestamp=1_0", "", 10),
        ("key=1&key=%D0%BA%3D=&x=&timestamp=+1+", "к==", 1),
        ("key=%zz&timestamp=1", "%zz", 1),
    ] {
        let expected = Lookup { key: key.into(), timestamp };
        assert_eq!(parse_query(query).unwrap(), expected, "{query}");
    }
    for (query, reason) in [
        ("", "Missing required fields: key, timestamp"),
        ("key=a", "Missing required fields: key, timestamp"),
        ("timestamp=1", "Missing required fields: key, timestamp"),
        ("key=a&timestamp=", "Invalid data types: timestamp"),
        ("key=a&timestamp=1.5", "Invalid data types: timestamp"),
        ("key=%ff&timestamp=1", "Invalid query"),
    ] {
        let error = parse_query(query).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{query}: {error}");
    }
}
