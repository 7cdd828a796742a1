//! What a container wants done at its begin and before its end (`lifecycle`).

use crate::field::{Field, FieldError};
use crate::object::pod::ProbeAction;
use std::time::Duration;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Right after it has started; before it is done the container does not count as started.
    pub post_start: Option<Hook>,
    /// Before the container is asked to end.
    pub pre_stop: Option<Hook>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// `exec`, `httpGet` or `tcpSocket`.
    Action(ProbeAction),
    Sleep(Duration),
}

impl Lifecycle {
    pub(super) fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        Ok(Lifecycle {
            post_start: Hook::parse(&field.at("postStart"))?,
            pre_stop: Hook::parse(&field.at("preStop"))?,
        })
    }
}

impl Hook {
    fn parse(field: &Field<'_>) -> Result<Option<Self>, FieldError> {
        let sleep = field.at("sleep");
        if !field.is_present() {
            return Ok(None);
        }
        if !sleep.is_present() {
            return ProbeAction::parse(field).map(|action| Some(Hook::Action(action)));
        }
        let seconds: Option<u32> =
            sleep.at("seconds").optional_number("a whole number of seconds")?;
        Ok(Some(Hook::Sleep(Duration::from_secs(seconds.unwrap_or(0).into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn hooks() {
        let exec = Hook::Action(ProbeAction::Exec { command: vec!["true".to_owned()] });
        let rows = [
            (json!({}), Ok((None, None))),
            (
                json!({"preStop": {"sleep": {"seconds": 5}}}),
                Ok((None, Some(Hook::Sleep(Duration::from_secs(5))))),
            ),
            (json!({"postStart": {"exec": {"command": ["true"]}}}), Ok((Some(exec), None))),
            (json!({"preStop": {}}), Err(())),
            (json!({"preStop": {"sleep": {"seconds": "x"}}}), Err(())),
        ];
        for (value, expected) in rows {
            let read = |value: &Value| Lifecycle::parse(&Field::root(value));
            let parsed = read(&value).map(|found| (found.post_start, found.pre_stop));
            assert_eq!(parsed.map_err(drop), expected, "{value}");
        }
    }
}
