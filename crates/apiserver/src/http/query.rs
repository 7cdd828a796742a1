//! Query parameters, all of which any request may carry.

use super::accept::Form;
use crate::access::User;
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
    unknown_match: Option<String>,
    /// What is no number.
    unknown_version: Option<String>,
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
    pub(super) user: User,
    /// Of the answer.
    pub(super) form: Form,
    deletion: Deletion,
}

impl Query {
    /// A request of a user who asks for nothing in particular.
    pub(super) fn of(user: User) -> Self {
        Self { user, ..Self::default() }
    }

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
            "limit" => self.limit = limit(value)?,
            "continue" => self.continued = Some(value.to_owned()).filter(|token| !token.is_empty()),
            "resourceVersion" => match value.parse() {
                Ok(version) => self.resource_version = Some(version),
                Err(_no_number) => {
                    self.unknown_version = Some(value.to_owned()).filter(|it| !it.is_empty());
                }
            },
            "resourceVersionMatch" => {
                self.exact = value == "Exact";
                self.not_older = value == "NotOlderThan";
                self.unknown_match = Some(value.to_owned())
                    .filter(|_| !self.exact && !self.not_older && !value.is_empty());
            }
            "timeoutSeconds" => self.timeout_seconds = number(name, value)?,
            "allowWatchBookmarks" => self.bookmarks = flag(value),
            "sendInitialEvents" => self.initial_events = Some(flag(value)),
            "dryRun" => self.dry_run = dry_run(value)?,
            "gracePeriodSeconds" => self.deletion.grace = number(name, value)?,
            "propagationPolicy" => self.deletion.propagation = propagation(value)?,
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

    /// Which of the options for lists do not go together (`ValidateListOptions` of the real server).
    pub(super) fn check_list(&self) -> Result<(), Error> {
        let refuse = |field: &str, message: String| {
            Err(bad("ListOptions", Reason::Forbidden, field, format!("Forbidden: {message}")))
        };
        const MATCH: &str = "resourceVersionMatch";
        if let Some(version) = self.no_version() {
            let message = format!("invalid resource version: {version}");
            return Err(Error::BadRequest { message });
        }
        if self.initial_events.is_some() {
            return refuse("sendInitialEvents", "sendInitialEvents is forbidden for list".into());
        }
        if let Some(other) = &self.unknown_match {
            let supported = r#"supported values: "Exact", "NotOlderThan", """#;
            let message = format!("Unsupported value: {other:?}: {supported}");
            return Err(bad("ListOptions", Reason::NotSupported, MATCH, message));
        }
        if (self.exact || self.not_older) && self.resource_version.is_none() {
            let message = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return refuse(MATCH, message.into());
        }
        if self.exact && self.resource_version == Some(0) {
            let message = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            return refuse(MATCH, message.into());
        }
        Ok(())
    }

    /// What is wrong with the number of a write.
    pub(super) fn no_version(&self) -> Option<String> {
        let text = self.unknown_version.as_ref()?;
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Some(format!("resourceVersion: Invalid value: {text:?}: {why}"))
    }

    /// How to delete: `DeleteOptions` in the body over those in the query. Also says whether it is a dry run.
    pub(super) fn deletion(&self, options: &Value) -> Result<(Deletion, bool), Error> {
        let mut deletion = self.deletion.clone();
        let mut dry = self.dry_run;
        if let Some(grace) = options["gracePeriodSeconds"].as_i64() {
            deletion.grace = Some(grace);
        }
        if let Some(policy) = options["propagationPolicy"].as_str() {
            if !options["orphanDependents"].is_null() {
                let message = format!(
                    "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
                );
                return Err(bad("DeleteOptions", Reason::Invalid, "propagationPolicy", message));
            }
            deletion.propagation = propagation(policy)?;
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
        other => {
            let message = format!("Unsupported value: [{other:?}]: supported values: \"All\"");
            Err(bad("CreateOptions", Reason::NotSupported, "dryRun", message))
        }
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
            Err(bad("CreateOptions", Reason::NotSupported, "fieldValidation", message))
        }
    }
}

fn propagation(policy: &str) -> Result<Option<Propagation>, Error> {
    match policy {
        "Orphan" => Ok(Some(Propagation::Orphan)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        "Background" => Ok(Some(Propagation::Background)),
        "" => Ok(None),
        other => {
            let supported = r#"supported values: "Foreground", "Background", "Orphan", "nil""#;
            let message = format!("Unsupported value: {other:?}: {supported}");
            Err(bad("DeleteOptions", Reason::NotSupported, "propagationPolicy", message))
        }
    }
}

fn bad(kind: &'static str, reason: Reason, field: &str, message: String) -> Error {
    Error::Options { kind, causes: vec![Cause { reason, field: field.to_owned(), message }] }
}

fn limit(value: &str) -> Result<usize, Error> {
    let message = || format!("strconv.ParseInt: parsing {value:?}: invalid syntax");
    match value {
        "" => Ok(0),
        _ => value.parse().map_err(|_no_number| Error::BadRequest { message: message() }),
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
