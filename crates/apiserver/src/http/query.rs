//! Query parameters, all of which any request may carry.

use crate::error::{Cause, Error, Reason};
use crate::registry::{Deletion, Propagation, Validation};
use crate::selector::Selector;
use crate::table::Include;
use serde_json::Value;

#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) watch: bool,
    pub(super) selector: Selector,
    /// At most so many items; 0 is all.
    pub(super) limit: usize,
    pub(super) continued: Option<String>,
    pub(super) resource_version: Option<u64>,
    pub(super) exact: bool,
    pub(super) not_older: bool,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) bookmarks: bool,
    pub(super) initial_events: Option<bool>,
    pub(super) dry_run: bool,
    pub(super) include: Include,
    pub(super) validation: Validation,
    pub(super) field_manager: Option<String>,
    pub(super) force: Option<bool>,
    /// The program that asks, as its User-Agent begins.
    pub(super) agent: String,
    deletion: Deletion,
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut query = Self::default();
        let (mut labels, mut fields) = (String::new(), String::new());
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match name.as_ref() {
                "labelSelector" => labels = value.into_owned(),
                "fieldSelector" => fields = value.into_owned(),
                _ => query.set(&name, &value)?,
            }
        }
        query.selector = Selector::parse(&labels, &fields)?;
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            "watch" => self.watch = flag(value),
            "limit" => self.limit = number(name, value)?.unwrap_or(0),
            "continue" => self.continued = Some(value.to_owned()).filter(|token| !token.is_empty()),
            "resourceVersion" => self.resource_version = number(name, value)?,
            "resourceVersionMatch" => {
                self.exact = value == "Exact";
                self.not_older = value == "NotOlderThan";
            }
            "timeoutSeconds" => self.timeout_seconds = number(name, value)?,
            "allowWatchBookmarks" => self.bookmarks = flag(value),
            "sendInitialEvents" => self.initial_events = Some(flag(value)),
            "dryRun" => self.dry_run = dry_run(value)?,
            "gracePeriodSeconds" => self.deletion.grace = number(name, value)?,
            "propagationPolicy" => self.deletion.propagation = propagation(value),
            "orphanDependents" if flag(value) => {
                self.deletion.propagation = Some(Propagation::Orphan);
            }
            "fieldManager" => {
                self.field_manager = Some(value.to_owned()).filter(|it| !it.is_empty())
            }
            "fieldValidation" => self.validation = validation(value)?,
            "force" => self.force = Some(flag(value)),
            "includeObject" => {
                self.include = match value {
                    "None" => Include::Nothing,
                    "Object" => Include::Object,
                    _ => Include::Metadata,
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// How to delete: `DeleteOptions` in the body over those in the query. Also says whether it is a dry run.
    pub(super) fn deletion(&self, options: &Value) -> Result<(Deletion, bool), Error> {
        let mut deletion = self.deletion.clone();
        let mut dry = self.dry_run;
        if let Some(grace) = options["gracePeriodSeconds"].as_i64() {
            deletion.grace = Some(grace);
        }
        if let Some(policy) = options["propagationPolicy"].as_str() {
            deletion.propagation = propagation(policy);
        }
        for mode in options["dryRun"].as_array().into_iter().flatten() {
            dry |= dry_run(mode.as_str().unwrap_or_default())?;
        }
        let condition = |field: &str| options["preconditions"][field].as_str().map(str::to_owned);
        deletion.uid = condition("uid");
        deletion.resource_version = condition("resourceVersion");
        Ok((deletion, dry))
    }
}

fn flag(value: &str) -> bool {
    matches!(value, "true" | "1" | "True" | "TRUE" | "t")
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<Option<T>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    let bad =
        |_| Error::BadRequest { message: format!("invalid {name}: {value:?} is not a number") };
    value.parse().map(Some).map_err(bad)
}

fn dry_run(value: &str) -> Result<bool, Error> {
    match value {
        "All" => Ok(true),
        "" => Ok(false),
        other => Err(Error::BadRequest {
            message: format!("Invalid value: {other:?}: dryRun must be All"),
        }),
    }
}

fn validation(value: &str) -> Result<Validation, Error> {
    match value {
        "Ignore" => Ok(Validation::Ignore),
        "" | "Warn" => Ok(Validation::Warn),
        "Strict" => Ok(Validation::Strict),
        other => {
            let supported = r#"supported values: "", "Ignore", "Strict", "Warn""#;
            let message = format!("Unsupported value: {other:?}: {supported}");
            let field = "fieldValidation".to_owned();
            let causes = vec![Cause { reason: Reason::NotSupported, field, message }];
            Err(Error::Options { kind: "CreateOptions", causes })
        }
    }
}

fn propagation(policy: &str) -> Option<Propagation> {
    match policy {
        "Orphan" => Some(Propagation::Orphan),
        "Foreground" => Some(Propagation::Foreground),
        "Background" => Some(Propagation::Background),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters() {
        let query =
            Query::parse("watch=1&resourceVersion=7&limit=&labelSelector=app%3Dweb&dryRun=All")
                .unwrap();
        assert!(query.watch && query.dry_run && query.selector != Selector::default());
        assert_eq!((query.resource_version, query.limit), (Some(7), 0));
        assert_eq!(Query::parse("limit=many").unwrap_err().code(), 400);
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "\\PC{0,80}") {
            let _parsed = Query::parse(&text);
        }
    }
}
