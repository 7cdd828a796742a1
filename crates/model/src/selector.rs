//! Label selectors.

use crate::field::{Field, FieldError};
use std::collections::{BTreeMap, BTreeSet};

/// A label selector (`metav1.LabelSelector`); the empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// In order of names; a map would keep room for eleven.
    match_labels: Box<[(String, String)]>,
    pub match_expressions: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// The old form, a bare map, as in `Service.spec.selector`.
    pub fn from_labels(match_labels: BTreeMap<String, String>) -> Self {
        let match_labels = match_labels.into_iter().collect();
        Selector { match_labels, match_expressions: Vec::new() }
    }

    /// The labels that objects must have.
    pub fn match_labels(&self) -> BTreeMap<String, String> {
        self.match_labels.iter().cloned().collect()
    }

    pub fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let match_labels = field.at("matchLabels").strings()?.into_iter().collect();
        let expressions = field.at("matchExpressions").items()?;
        let match_expressions =
            expressions.iter().map(Requirement::parse).collect::<Result<_, _>>()?;
        Ok(Selector { match_labels, match_expressions })
    }

    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn parse(field: &Field<'_>) -> Result<Self, FieldError> {
        let operator = match field.at("operator").text()? {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return Err(field.at("operator").error("In, NotIn, Exists or DoesNotExist")),
        };
        let values = field.at("values").items()?;
        let values =
            values.iter().map(|value| value.text().map(str::to_owned)).collect::<Result<_, _>>()?;
        Ok(Requirement { key: field.at("key").text()?.to_owned(), operator, values })
    }

    /// `NotIn` and `DoesNotExist` hold for objects without the key, too.
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows() {
        let labels: BTreeMap<_, _> =
            [("app", "web"), ("tier", "front")].map(|(k, v)| (k.into(), v.into())).into();
        let rows = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "web", "tier": "back"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "In", "values": ["web"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false),
        ];
        for (selector, expected) in rows {
            let parsed = Selector::parse(&Field::root(&selector)).unwrap();
            assert_eq!(parsed.matches(&labels), expected, "{selector}");
        }
    }
}
