//! Values as people and programs write them, for property tests.

use proptest::collection::vec;
use proptest::prelude::*;

const SPELLINGS: &[&str] = &[
    "0",
    "-0",
    "00",
    "0.0",
    "-0.0",
    "0.10",
    "0.1",
    ".5",
    "1.",
    "+1",
    "-1",
    "--1",
    "-",
    ".",
    "1e5",
    "1E+05",
    "1.5e-7",
    "007",
    "12",
    "1.2.3",
    "9223372036854775807",
    "-9223372036854775808",
    "999999999999999999",
    "-999999999999999999",
    "1000000000000000000",
    "0.999999999999999999",
    "0.00000000000000001",
    "-0.00000000000000001",
    "123456789012345678901234.5",
    "null",
    "true",
    "false",
    "\"text\"",
    "\"\"",
    "\"12.50\"",
    "\"a, {b}: \\\"c\\\"\"",
    "\"\\\\\"",
    "\"open",
    "\"2024-02-30\"",
    "\"2024-",
    "\"2024",
    "NaN",
    "",
    "grün",
    "\"東京\"",
];

/// One of the spellings.
pub(crate) fn spelling() -> impl Strategy<Value = String> {
    proptest::sample::select(SPELLINGS).prop_map(str::to_owned)
}

/// A number as most are written.
pub(crate) fn number() -> impl Strategy<Value = String> {
    (any::<i64>(), 0_u32..63, 0_usize..18)
        .prop_map(|(n, shift, decimals)| format!("{:.decimals$}", (n >> shift) as f64 / 1e3))
}

/// A number in any spelling: with an exponent, zeros in front and behind, a sign, or more digits than any
/// integer has.
pub(crate) fn spelled_number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => number(),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        1 => any::<f64>().prop_map(|n| n.to_string()),
        1 => any::<f64>().prop_map(|n| format!("{n:e}")),
        1 => Just("-0".to_owned()),
        2 => "-?[0-9]{1,25}([.][0-9]{1,25})?([eE][-+]?[0-9]{1,3})?",
        1 => "[-+]?0{0,3}[0-9]{0,19}[.]?[0-9]{0,19}",
    ]
}

/// A string of JSON, with escapes and characters of all planes.
fn json_string() -> impl Strategy<Value = String> {
    let escape = r#"\\(["\\/bfnrt]|u[0-9a-f]{4})"#;
    let part = prop_oneof![
        3 => "[a-z ]{1,6}".boxed(),
        1 => any::<char>()
            .prop_filter("written as an escape", |c| !c.is_control() && !['"', '\\'].contains(c))
            .prop_map(String::from)
            .boxed(),
        1 => escape.boxed(),
        1 => "[-,:;{}=&|<>0-9]{1,3}".boxed(),
    ];
    vec(part, 0..5).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// JSON of any depth and shape, with and without blanks.
pub(crate) fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        2 => prop::sample::select(&["null", "true", "false"][..]).prop_map(str::to_owned),
        4 => spelled_number(),
        3 => json_string(),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let separator = || prop::sample::select(&[",", ", ", ",\n  "][..]);
        prop_oneof![
            (vec(inner.clone(), 0..5), separator())
                .prop_map(|(all, separator)| format!("[{}]", all.join(separator))),
            (vec((json_string(), inner), 0..5), separator()).prop_map(|(members, separator)| {
                let members = members.iter().map(|(name, value)| format!("{name}:{value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(separator))
            }),
        ]
    })
}
