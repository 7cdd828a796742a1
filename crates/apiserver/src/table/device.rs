//! Cells of devices.

use super::items;
use serde_json::Value;

/// As far as a claim has come: `pending`, `allocated,reserved`, `deleted,allocated`.
pub(crate) fn state(claim: &Value) -> Value {
    let deleted = !claim["metadata"]["deletionTimestamp"].is_null();
    let allocated = !claim["status"]["allocation"].is_null();
    let reserved = allocated && items(&claim["status"]["reservedFor"]).next().is_some();
    let states = [
        (deleted, "deleted"),
        (!deleted && !allocated, "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    let states = states.into_iter().filter_map(|(is, state)| is.then_some(state));
    states.collect::<Vec<_>>().join(",").into()
}

pub(crate) fn node(slice: &Value) -> Value {
    slice["spec"]["nodeName"].as_str().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states_of_claims() {
        let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        for (claim, expected) in [
            (json!({"status": {}}), "pending"),
            (json!({"metadata": gone}), "deleted"),
            (json!({"status": {"allocation": {}}}), "allocated"),
            (
                json!({"metadata": gone, "status": {"allocation": {}, "reservedFor": [{}]}}),
                "deleted,allocated,reserved",
            ),
        ] {
            assert_eq!(state(&claim), expected, "{claim}");
        }
    }
}
