//! A cursor over a JSON object that knows where it stands.
//!
//! Every read says what it expected, so that an error names the field, what was there and what
//! should have been: the one way in for manifests and API objects.

use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A field that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: expected {expected}, found {found}")]
pub struct FieldError {
    /// Path as `kubectl explain` writes it, with list indices: `spec.ports[0].nodePort`.
    pub path: String,
    /// What would have been right, as a noun phrase.
    pub expected: &'static str,
    /// What is there, shortened.
    pub found: String,
}

/// One place in an object: a value, which may be absent, and the path to it.
#[derive(Clone)]
pub struct Field<'a> {
    value: Option<&'a Value>,
    path: Path<'a>,
}

#[derive(Clone, Default)]
struct Path<'a>(Vec<Step<'a>>);

#[derive(Clone)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if position == 0 => write!(f, "{name}")?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl<'a> Field<'a> {
    /// The object itself.
    pub fn root(value: &'a Value) -> Self {
        Field { value: Some(value), path: Path::default() }
    }

    /// The path from the root, empty at the root.
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// A member; absent when this is absent, null or no object.
    pub fn at(&self, name: &'a str) -> Field<'a> {
        let value = self.value.and_then(|value| value.get(name)).filter(|value| !value.is_null());
        let mut path = self.path.clone();
        path.0.push(Step::Name(name));
        Field { value, path }
    }

    pub fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// The error that says what should have been here.
    pub fn error(&self, expected: &'static str) -> FieldError {
        let found = self.value.map_or_else(|| "nothing".to_owned(), shorten);
        FieldError { path: self.path.to_string(), expected, found }
    }

    /// The elements of a list; none when absent.
    pub fn items(&self) -> Result<Vec<Field<'a>>, FieldError> {
        let Some(value) = self.value else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.error("a list"))?;
        Ok(list
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let mut path = self.path.clone();
                path.0.push(Step::Index(index));
                Field { value: Some(value), path }
            })
            .collect())
    }

    /// The members of an object; none when absent.
    pub fn members(&self) -> Result<Option<&'a Map<String, Value>>, FieldError> {
        self.value.map(|value| value.as_object().ok_or_else(|| self.error("an object"))).transpose()
    }

    /// That the object has no members but those listed, which `expected` names too.
    pub(crate) fn only(&self, names: &[&str], expected: &'static str) -> Result<(), FieldError> {
        let Some(members) = self.members()? else { return Ok(()) };
        match members.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(self.at(name).error(expected)),
            None => Ok(()),
        }
    }

    /// An object of strings, such as labels; empty when absent.
    pub fn strings(&self) -> Result<std::collections::BTreeMap<String, String>, FieldError> {
        let Some(members) = self.members()? else { return Ok(Default::default()) };
        members
            .iter()
            .map(|(name, value)| match value.as_str() {
                Some(text) => Ok((name.clone(), text.to_owned())),
                None => Err(FieldError {
                    path: format!("{}.{name}", self.path),
                    expected: "a string",
                    found: shorten(value),
                }),
            })
            .collect()
    }

    pub fn text(&self) -> Result<&'a str, FieldError> {
        self.optional_text()?.ok_or_else(|| self.error("a string"))
    }

    pub fn optional_text(&self) -> Result<Option<&'a str>, FieldError> {
        self.value.map(|value| value.as_str().ok_or_else(|| self.error("a string"))).transpose()
    }

    pub fn optional_bool(&self) -> Result<Option<bool>, FieldError> {
        self.value
            .map(|value| value.as_bool().ok_or_else(|| self.error("true or false")))
            .transpose()
    }

    /// A whole number that fits `T`.
    pub fn optional_number<T: TryFrom<i64>>(
        &self,
        expected: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let Some(value) = self.value else { return Ok(None) };
        let number = value.as_i64().and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.error(expected))
    }

    /// A port number from 1 to 65535.
    pub fn optional_port(&self) -> Result<Option<u16>, FieldError> {
        let expected = "a port number from 1 to 65535";
        let port = self.optional_number::<u16>(expected)?;
        if port == Some(0) { Err(self.error(expected)) } else { Ok(port) }
    }

    pub fn port(&self) -> Result<u16, FieldError> {
        self.optional_port()?.ok_or_else(|| self.error("a port number from 1 to 65535"))
    }

    /// Text that parses as `T`.
    pub fn optional_parsed<T: FromStr>(
        &self,
        expected: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let Some(value) = self.value else { return Ok(None) };
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.map(Some).ok_or_else(|| self.error(expected))
    }

    pub fn ip(&self) -> Result<IpAddr, FieldError> {
        self.optional_parsed("an IP address")?.ok_or_else(|| self.error("an IP address"))
    }
}

fn shorten(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_names_the_place_and_what_was_there() {
        let value = json!({"spec": {"ports": [{"port": 80}, {"port": 70000}]}});
        let ports = Field::root(&value).at("spec").at("ports").items().unwrap();
        assert_eq!(ports[0].at("port").port(), Ok(80));
        let error = ports[1].at("port").port().unwrap_err();
        assert_eq!(
            error.to_string(),
            "spec.ports[1].port: expected a port number from 1 to 65535, found 70000"
        );
        let missing = Field::root(&value).at("metadata").at("name").text().unwrap_err();
        assert_eq!(missing.to_string(), "metadata.name: expected a string, found nothing");
    }
}
