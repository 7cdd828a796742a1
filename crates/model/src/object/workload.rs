//! Workloads: what makes pods.

use crate::field::{Field, FieldError};
use crate::object::{Meta, pod};
use crate::selector::Selector;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub meta: Meta,
    pub replicas: u32,
    pub selector: Selector,
}

impl Deployment {
    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let spec = object.at("spec");
        let (selector, template) = (spec.at("selector"), spec.at("template"));
        if !selector.is_present() {
            return Err(selector.error("a label selector"));
        }
        pod::containers(&template.at("spec"))?;
        let parsed = Selector::parse(&selector)?;
        if !parsed.matches(&template.at("metadata").at("labels").strings()?) {
            return Err(selector.error("a selector that the template's labels match"));
        }
        let replicas = spec.at("replicas").optional_number("a number of pods, not negative")?;
        Ok(Deployment { replicas: replicas.unwrap_or(1), selector: parsed, meta })
    }
}
