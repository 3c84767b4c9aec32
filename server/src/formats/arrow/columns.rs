//! The columns of a record batch, as the fields of rows.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Float32Array, Float64Array,
    Int64Array, LargeBinaryArray, LargeStringArray, StringArray, StringViewArray, UInt64Array,
};
use arrow_schema::{DataType, TimeUnit};
use kvtimedb_engine::{Timestamp, ValueRef};
use serde::Serialize;

use super::super::clock::Clock;
use super::super::fields::{TextAs, utf8};
use crate::api::moment::TsUnit;

/// Text or octets.
pub(super) enum Texts<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Dictionary { column: &'a dyn Array, numbers: Vec<usize>, values: Box<Texts<'a>> },
}

impl<'a> Texts<'a> {
    pub(super) fn of(column: &'a ArrayRef) -> Option<Texts<'a>> {
        Some(match column.data_type() {
            DataType::Utf8 => Texts::Utf8(column.as_string_opt()?),
            DataType::LargeUtf8 => Texts::LargeUtf8(column.as_string_opt()?),
            DataType::Utf8View => Texts::Utf8View(column.as_string_view_opt()?),
            DataType::Binary => Texts::Binary(column.as_binary_opt()?),
            DataType::LargeBinary => Texts::LargeBinary(column.as_binary_opt()?),
            DataType::BinaryView => Texts::BinaryView(column.as_binary_view_opt()?),
            DataType::Dictionary(..) => {
                let dictionary = column.as_any_dictionary_opt()?;
                let values = Box::new(Texts::of(dictionary.values())?);
                let is_empty = dictionary.values().is_empty();
                let numbers = if is_empty { Vec::new() } else { dictionary.normalized_keys() };
                Texts::Dictionary { column: &**column, numbers, values }
            }
            _ => return None,
        })
    }

    fn is_octets(&self) -> bool {
        match self {
            Texts::Utf8(_) | Texts::LargeUtf8(_) | Texts::Utf8View(_) => false,
            Texts::Binary(_) | Texts::LargeBinary(_) | Texts::BinaryView(_) => true,
            Texts::Dictionary { values, .. } => values.is_octets(),
        }
    }

    /// A row's bytes; `None` if it is null.
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Texts::Utf8(column) => column.is_valid(row).then(|| column.value(row).as_bytes()),
            Texts::LargeUtf8(column) => column.is_valid(row).then(|| column.value(row).as_bytes()),
            Texts::Utf8View(column) => column.is_valid(row).then(|| column.value(row).as_bytes()),
            Texts::Binary(column) => column.is_valid(row).then(|| column.value(row)),
            Texts::LargeBinary(column) => column.is_valid(row).then(|| column.value(row)),
            Texts::BinaryView(column) => column.is_valid(row).then(|| column.value(row)),
            Texts::Dictionary { column, numbers, values } => {
                let number = numbers.get(row).filter(|_| column.is_valid(row))?;
                values.get(*number)
            }
        }
    }
}

/// Timestamps.
pub(super) enum Moments<'a> {
    Numbers { column: Int64Array, unit: TsUnit, clock: Clock },
    Texts { column: Texts<'a>, clock: Clock },
}

impl<'a> Moments<'a> {
    pub(super) fn of(column: &'a ArrayRef, clock: Clock) -> Option<Moments<'a>> {
        let (unit, column) = match column.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => {
                (TsUnit::S, column.as_primitive::<TimestampSecondType>().reinterpret_cast())
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                (TsUnit::Ms, column.as_primitive::<TimestampMillisecondType>().reinterpret_cast())
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                (TsUnit::Us, column.as_primitive::<TimestampMicrosecondType>().reinterpret_cast())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                (TsUnit::Ns, column.as_primitive::<TimestampNanosecondType>().reinterpret_cast())
            }
            DataType::Date32 => {
                let days = column.as_primitive::<Date32Type>();
                (TsUnit::S, days.unary(|days| i64::from(days) * 86_400))
            }
            DataType::Date64 => {
                (TsUnit::Ms, column.as_primitive::<Date64Type>().reinterpret_cast())
            }
            _ => match signed(column) {
                Some(numbers) => (clock.file, numbers),
                None => return Some(Moments::Texts { column: Texts::of(column)?, clock }),
            },
        };
        Some(Moments::Numbers { column, unit, clock })
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> Result<Timestamp, String> {
        let is_null = || "the timestamp is null".to_owned();
        match self {
            Moments::Numbers { column, unit, clock } if column.is_valid(row) => {
                clock.number_of(column.value(row), *unit)
            }
            Moments::Numbers { .. } => Err(is_null()),
            Moments::Texts { column, clock } => {
                clock.text(utf8(column.get(row).ok_or_else(is_null)?, "the timestamp")?)
            }
        }
    }
}

/// Whole numbers that fit 64 bits with a sign.
fn signed(column: &ArrayRef) -> Option<Int64Array> {
    Some(match column.data_type() {
        DataType::Int8 => column.as_primitive::<Int8Type>().unary(i64::from),
        DataType::Int16 => column.as_primitive::<Int16Type>().unary(i64::from),
        DataType::Int32 => column.as_primitive::<Int32Type>().unary(i64::from),
        DataType::Int64 => column.as_primitive::<Int64Type>().clone(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().unary(i64::from),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().unary(i64::from),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().unary(i64::from),
        _ => return None,
    })
}

/// Values.
pub(super) enum Values<'a> {
    Texts(Texts<'a>),
    Signed(Int64Array),
    Unsigned(&'a UInt64Array),
    Singles(&'a Float32Array),
    Doubles(&'a Float64Array),
    Booleans(&'a BooleanArray),
    Nulls,
}

impl<'a> Values<'a> {
    pub(super) fn of(column: &'a ArrayRef) -> Option<Values<'a>> {
        Some(match column.data_type() {
            DataType::UInt64 => Values::Unsigned(column.as_primitive::<UInt64Type>()),
            DataType::Float32 => Values::Singles(column.as_primitive::<Float32Type>()),
            DataType::Float64 => Values::Doubles(column.as_primitive::<Float64Type>()),
            DataType::Boolean => Values::Booleans(column.as_boolean()),
            DataType::Null => Values::Nulls,
            _ => match signed(column) {
                Some(numbers) => Values::Signed(numbers),
                None => Values::Texts(Texts::of(column)?),
            },
        })
    }

    /// A row's value; `None`: an end. `said` is what the type column says of it, and `text_as` what text is
    /// otherwise. `out` is where the value is made, if it has to be.
    pub(super) fn get<'o>(
        &'o self,
        row: usize,
        said: &[u8],
        text_as: TextAs,
        out: &'o mut Vec<u8>,
    ) -> Result<Option<ValueRef<'o>>, String> {
        match self {
            Values::Texts(column) => {
                let text_as = text_as.of_field(said)?;
                match column.get(row) {
                    Some(octets) if column.is_octets() && said != b"json" && said != b"text" => {
                        Ok(Some(ValueRef::octets(octets)))
                    }
                    Some(text) => text_as.value(text, out),
                    None if text_as == TextAs::End => Ok(None),
                    None => Ok(Some(NULL)),
                }
            }
            _ if said == b"end" => Ok(None),
            Values::Signed(column) => number(column.is_valid(row).then(|| column.value(row)), out),
            Values::Unsigned(column) => {
                number(column.is_valid(row).then(|| column.value(row)), out)
            }
            Values::Singles(column) => {
                let value = column.is_valid(row).then(|| column.value(row));
                finite(value.is_none_or(f32::is_finite))?;
                number(value, out)
            }
            Values::Doubles(column) => {
                let value = column.is_valid(row).then(|| column.value(row));
                finite(value.is_none_or(f64::is_finite))?;
                number(value, out)
            }
            Values::Booleans(column) => {
                number(column.is_valid(row).then(|| column.value(row)), out)
            }
            Values::Nulls => Ok(Some(NULL)),
        }
    }
}

/// What stands for a null.
const NULL: ValueRef<'static> = ValueRef::json(b"null");

fn finite(is_finite: bool) -> Result<(), String> {
    if is_finite {
        Ok(())
    } else {
        Err("the value is no finite number, which JSON can't hold".to_owned())
    }
}

/// A scalar in JSON; none is `null`.
fn number(
    value: Option<impl Serialize + Copy>,
    out: &mut Vec<u8>,
) -> Result<Option<ValueRef<'_>>, String> {
    out.clear();
    serde_json::to_writer(&mut *out, &value).map_err(|error| error.to_string())?;
    Ok(Some(ValueRef::json(out)))
}
