//! Cells of requests for certificates.

use super::{NONE, items};
use crate::time;
use serde_json::Value;

pub(crate) fn requested_duration(request: &Value) -> Value {
    let seconds = request["spec"]["expirationSeconds"].as_i64();
    seconds.map_or_else(|| NONE.into(), |seconds| time::age(seconds).into())
}

/// How far it got.
pub(crate) fn condition(request: &Value) -> Value {
    let status = &request["status"];
    let has = |kind: &str| items(&status["conditions"]).any(|it| it["type"] == kind);
    let decided = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = status["certificate"].as_str().is_some_and(|it| !it.is_empty());
    let issued = if issued { ",Issued" } else { "" };
    format!("{decided}{failed}{issued}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_decided_and_issued() {
        for (conditions, certificate, expected) in [
            (&[][..], "", "Pending"),
            (&["Approved"], "", "Approved"),
            (&["Approved"], "x", "Approved,Issued"),
            (&["Failed", "Approved"], "", "Approved,Failed"),
            (&["Denied", "Approved"], "", "Denied"),
        ] {
            let conditions: Vec<_> = conditions.iter().map(|it| json!({"type": it})).collect();
            let status = json!({"conditions": conditions, "certificate": certificate});
            assert_eq!(condition(&json!({"status": status})), expected);
        }
    }
}
