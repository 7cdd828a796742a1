//! Amounts with a unit (`resource.Quantity`).

use serde_json::Value;

/// The number that a quantity in JSON stands for.
pub(crate) fn parse(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| parse_text(value.as_str()?))
}

/// `100m`, `1.5Gi`, `2e3`: the number that it stands for.
pub(crate) fn parse_text(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let suffixed =
        SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)));
    let (digits, unit) = suffixed.unwrap_or((text, &1.0));
    let good = |it: char| it.is_ascii_digit() || "+-.eE".contains(it);
    let number: f64 = digits.chars().all(good).then(|| digits.parse().ok())??;
    Some(number * unit)
}

/// How an amount is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Form {
    /// `1500m`, `2k`
    #[default]
    Decimal,
    /// `2Ki`
    Binary,
    /// `2e3`
    Exponent,
}

const NANO: i128 = 1_000_000_000;

/// An amount that can be added up, to the billionth (`resource.Quantity`).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quantity {
    nanos: i128,
    form: Form,
}

impl Quantity {
    pub(crate) const ZERO: Self = Self { nanos: 0, form: Form::Decimal };

    pub(crate) fn count(number: usize) -> Self {
        Self { nanos: i128::try_from(number).unwrap_or(i128::MAX / NANO) * NANO, ..Self::ZERO }
    }

    /// None: it stands for no amount, or for one beyond all measure.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|it: char| !(it.is_ascii_digit() || "+-.".contains(it)));
        let (digits, suffix) = text.split_at(end.unwrap_or(text.len()));
        let (negative, digits) = match digits.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, digits.strip_prefix('+').unwrap_or(digits)),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |it: &str| it.bytes().all(|digit| digit.is_ascii_digit());
        if !plain(whole) || !plain(part) || whole.len() + part.len() == 0 {
            return None;
        }
        let (form, factor, exponent) = scale(suffix)?;
        let number: i128 = format!("{whole}{part}").parse().ok()?;
        let exponent = exponent + 9 - i32::try_from(part.len()).ok()?;
        let number = number.checked_mul(factor)?;
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        let nanos = if exponent >= 0 {
            number.checked_mul(power)?
        } else {
            // What is smaller counts as the smallest.
            number / power + i128::from(number % power != 0)
        };
        Some(Self { nanos: if negative { -nanos } else { nanos }, form })
    }

    pub(crate) fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub(crate) fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub(crate) fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    /// Without a fraction, upwards.
    pub(crate) fn rounded_up(self) -> Self {
        Self {
            nanos: self.nanos.div_euclid(NANO) * NANO + if self.is_whole() { 0 } else { NANO },
            ..self
        }
    }

    /// Written as this one, unless it is nothing.
    pub(crate) fn plus(self, other: Self) -> Self {
        let form = if self.is_zero() { other.form } else { self.form };
        Self { nanos: self.nanos.saturating_add(other.nanos), form }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, ..other })
    }

    /// How many times the other it is.
    pub(crate) fn ratio(self, other: Self) -> f64 {
        self.number() / other.number()
    }

    #[allow(clippy::cast_precision_loss, reason = "a ratio is shown with six digits")]
    fn number(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }
}

/// Form, factor and power of ten of a suffix.
fn scale(suffix: &str) -> Option<(Form, i128, i32)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(at) = BINARY.iter().position(|it| *it == suffix) {
        let times = u32::try_from(at).ok()? + 1;
        return Some((Form::Binary, 1024_i128.pow(times), 0));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(it, _)| *it == suffix) {
        return Some((Form::Decimal, 1, *exponent));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Form::Exponent, 1, exponent)).filter(|_| (-30..=30).contains(&exponent))
}

const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.nanos.partial_cmp(&other.nanos)
    }
}

impl std::fmt::Display for Quantity {
    /// As the real server writes it: no fraction, and the largest unit that allows for that.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        if self.form == Form::Binary && !small && self.is_whole() {
            let (mut number, mut unit) = (self.nanos / NANO, 0);
            let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            while number % 1024 == 0 && unit + 1 < units.len() {
                number /= 1024;
                unit += 1;
            }
            return write!(f, "{number}{}", units[unit]);
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        match (self.form, DECIMAL.iter().find(|(_, it)| *it == exponent)) {
            (Form::Exponent, _) if exponent != 0 => write!(f, "{number}e{exponent}"),
            (_, unit) => write!(f, "{number}{}", unit.map_or("", |(unit, _)| unit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_written_as_the_real_server_writes_them() {
        for (text, expected) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("-1.5", "-1500m"),
            ("+2", "2"),
            ("2000", "2k"),
            ("1500", "1500"),
            ("1024", "1024"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1000Ki", "1000Ki"),
            ("0.1Ki", "102400m"),
            ("1e3", "1e3"),
            ("12E6", "12e6"),
            ("1E", "1E"),
            ("0.1n", "1n"),
            ("x", ""),
            ("", ""),
            ("1.2.3", ""),
            ("--1", ""),
            ("1e99", ""),
            ("1KiB", ""),
        ] {
            let found = Quantity::parse(text).map(|it| it.to_string()).unwrap_or_default();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_sum_is_written_as_what_was_there_first() {
        let of = |text: &str| Quantity::parse(text).unwrap();
        for (a, b, sum) in [
            ("1Gi", "1G", "2073741824"),
            ("0", "1Gi", "1Gi"),
            ("900m", "0.1", "1"),
            ("1Gi", "-1Gi", "0"),
        ] {
            assert_eq!(of(a).plus(of(b)).to_string(), sum, "{a} {b}");
        }
        assert_eq!(of("1500m").rounded_up().to_string(), "2");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "[+-]?[0-9]{0,4}(\\.[0-9]{0,4})?(n|u|m|k|Ki|M|Mi|G|Gi|T|e[0-9]|E)?", free in "\\PC{0,8}") {
            let _free = Quantity::parse(&free);
            if let Some(amount) = Quantity::parse(&text) {
                prop_assert_eq!(Quantity::parse(&amount.to_string()), Some(amount));
            }
        }
    }
}
