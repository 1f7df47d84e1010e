//! Taking a JSON object apart, field by field: each with its type and range, and nothing left over at the end.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// An object's fields; what is taken is gone. A field that is `null` counts as absent.
#[derive(Debug)]
pub struct Fields {
    map: Map<String, Value>,
    /// Where the object stands in the request: "" or "messages[0]".
    at: String,
}

impl Fields {
    pub fn new(value: Value, at: impl Into<String>) -> Result<Self, ApiError> {
        let at = at.into();
        match value {
            Value::Object(map) => Ok(Self { map, at }),
            other if at.is_empty() => {
                Err(ApiError::invalid("body", format!("the body must be a JSON object, not {}", type_of(&other))))
            }
            other => Err(wrong_type(&at, "an object", &other)),
        }
    }

    /// A field's full name, for `param`.
    pub fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_string() } else { format!("{}.{name}", self.at) }
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.path(name), "a string", &other)),
        }
    }

    pub fn required_string(&mut self, name: &str) -> Result<String, ApiError> {
        self.string(name)?.ok_or_else(|| ApiError::missing(self.path(name)))
    }

    /// An object within this one.
    pub fn required_object(&mut self, name: &str) -> Result<Self, ApiError> {
        let at = self.path(name);
        let inner = self.take(name).ok_or_else(|| ApiError::missing(&at))?;
        Self::new(inner, at)
    }

    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.path(name), "true or false", &other)),
        }
    }

    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Some(number) = value.as_f64() else { return Err(wrong_type(&self.path(name), "a number", &value)) };
        if !range.contains(&number) {
            let (low, high) = range.into_inner();
            let message = format!("{name:?} must be between {low} and {high}, not {number}");
            return Err(ApiError::invalid(self.path(name), message));
        }
        Ok(Some(number as f32))
    }

    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Some(number) = value.as_i64() else { return Err(wrong_type(&self.path(name), "an integer", &value)) };
        if !range.contains(&number) {
            let message = match range.into_inner() {
                (low, i64::MAX) => format!("{name:?} must be at least {low}, not {number}"),
                (low, high) => format!("{name:?} must be between {low} and {high}, not {number}"),
            };
            return Err(ApiError::invalid(self.path(name), message));
        }
        Ok(Some(number))
    }

    /// A count that must fit a `usize`.
    pub fn count(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<usize>, ApiError> {
        Ok(self.integer(name, range)?.and_then(|n| usize::try_from(n).ok()))
    }

    /// Accepted for the sake of clients, without effect here.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Refuses these by name, with the reason.
    pub fn refuse(&mut self, refused: &[(&str, &str)]) -> Result<(), ApiError> {
        match refused.iter().find(|(name, _)| self.map.get(*name).is_some_and(|value| !value.is_null())) {
            Some((name, why)) => {
                Err(ApiError::unsupported(self.path(name), format!("{name:?} is not supported: {why}")))
            }
            None => Ok(()),
        }
    }

    /// Refuses whatever was not taken.
    pub fn end(self) -> Result<(), ApiError> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let error = ApiError::unsupported(self.path(name), format!("there is no parameter {name:?} here"));
                Err(ApiError { code: "unknown_parameter", ..error })
            }
        }
    }
}

pub fn wrong_type(path: &str, wanted: &str, got: &Value) -> ApiError {
    let error = ApiError::invalid(path, format!("{path:?} must be {wanted}, not {}", type_of(got)));
    ApiError { code: "invalid_type", ..error }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::new(value, "").unwrap()
    }

    #[test]
    fn null_is_absent() {
        let mut f = fields(json!({"a": null, "b": null}));
        assert_eq!(f.string("a").unwrap(), None);
        f.end().unwrap();
    }

    #[test]
    fn a_range_is_told_with_the_refused_value() {
        let error = fields(json!({"top_p": 1.5})).number("top_p", 0.0..=1.0).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("top_p"));
        assert!(error.message.contains("1.5"), "{}", error.message);
        assert!(fields(json!({"n": 1.5})).integer("n", 0..=3).is_err());
        assert!(fields(json!({"n": 1e300})).integer("n", 0..=3).is_err());
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_place() {
        let error = Fields::new(json!({"colour": 1}), "messages[3]").unwrap().end().unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some("messages[3].colour"), "unknown_parameter"));
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        assert_eq!(Fields::new(json!([1]), "").unwrap_err().code, "invalid_value");
    }
}
