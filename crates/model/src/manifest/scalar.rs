//! What a plain YAML scalar means to `kubectl`.
//!
//! Its reader follows YAML 1.1 (`yes` is true, `010` is eight) and then turns everything into JSON,
//! by which `80.0` becomes the whole number 80 and dates stay text.

use serde_json::{Number, Value};

/// A float without a place in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// The value of an unquoted, untagged scalar.
pub(super) fn plain(text: &str) -> Result<Value, NotJson> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Ok(Value::Bool(true))
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Ok(Value::Bool(false))
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => Err(NotJson),
        _ => match number(text) {
            Some(number) => number.map(Value::Number),
            None => Ok(Value::String(text.to_owned())),
        },
    }
}

/// The number that text spells, if it spells one; `NotJson` when it is too large for a float.
fn number(text: &str) -> Option<Result<Number, NotJson>> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    let digits = text.replace('_', "");
    if let Some(whole) = whole(&digits) {
        return Some(Ok(whole));
    }
    is_float(&digits).then(|| float(&digits))
}

fn float(text: &str) -> Result<Number, NotJson> {
    let float: f64 = text.parse().or(Err(NotJson))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the bounds are checked and there is no fraction"
    )]
    if float.fract() == 0.0 && float.abs() < 9e15 {
        return Ok((float as i64).into());
    }
    Number::from_f64(float).ok_or(NotJson)
}

/// A whole number of 64 bits: decimal, `0x`, `0o`, `0b`, or octal by a leading zero.
fn whole(text: &str) -> Option<Number> {
    let (negative, magnitude) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = radix(magnitude);
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return Some(0_i64.checked_sub_unsigned(magnitude)?.into());
    }
    Some(magnitude.into())
}

fn radix(magnitude: &str) -> (u32, &str) {
    let prefixes = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    for (prefix, radix) in prefixes {
        if let Some(digits) = magnitude.strip_prefix(prefix) {
            return (radix, digits);
        }
    }
    match magnitude.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => (8, digits),
        _ => (10, magnitude),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|octet| octet.is_ascii_digit());
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    digits(before) && digits(after) && !(before.is_empty() && after.is_empty()) && exponent_is_right
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_mean_what_kubectl_takes_them_for() {
        let rows = [
            ("", json!(null)),
            ("~", json!(null)),
            ("Null", json!(null)),
            ("nULL", json!("nULL")),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("n", json!(false)),
            ("oN", json!("oN")),
            ("80", json!(80)),
            ("+80", json!(80)),
            ("-80", json!(-80)),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("010", json!(8)),
            ("0o14", json!(12)),
            ("0x1F", json!(31)),
            ("-0x10", json!(-16)),
            ("0b101", json!(5)),
            ("08", json!(8)),
            ("1_000", json!(1000)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("80.0", json!(80)),
            ("1e3", json!(1000)),
            ("0.5", json!(0.5)),
            (".5", json!(0.5)),
            ("5.", json!(5)),
            ("1.5e-3", json!(0.0015)),
            ("36893488147419103232", json!(36_893_488_147_419_103_232_f64)),
            ("1.2.3", json!("1.2.3")),
            ("10.1.1.110", json!("10.1.1.110")),
            ("1e", json!("1e")),
            ("-", json!("-")),
            (".", json!(".")),
            ("0x", json!("0x")),
            ("0x-1", json!("0x-1")),
            ("+-1", json!("+-1")),
            ("2026-01-02", json!("2026-01-02")),
            ("1:30", json!("1:30")),
            ("500m", json!("500m")),
            ("100ms", json!("100ms")),
        ];
        for (text, value) in rows {
            assert_eq!(plain(text), Ok(value), "{text:?}");
        }
        for text in [".inf", "-.Inf", ".NaN", "1e999"] {
            assert_eq!(plain(text), Err(NotJson), "{text:?}");
        }
    }
}
