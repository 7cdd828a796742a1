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
