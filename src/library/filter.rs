//! Filters of a search: comparisons of a file's attributes, joined by `and` and `or`.

use serde_json::{Map, Value};

/// Deepest nesting of filters.
const MAX_DEPTH: usize = 8;

/// What a file's attributes must say.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    Compare { key: String, how: Compare, value: Value },
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

/// How an attribute is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    /// One of a list.
    In,
    /// None of a list.
    NotIn,
}

impl Compare {
    const ALL: [(&'static str, Self); 8] = [
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("gt", Self::Gt),
        ("gte", Self::Gte),
        ("lt", Self::Lt),
        ("lte", Self::Lte),
        ("in", Self::In),
        ("nin", Self::NotIn),
    ];
}

impl Filter {
    /// Reads a filter as OpenAI writes it.
    ///
    /// # Errors
    /// (where, what is wrong)
    pub fn read(value: &Value, at: &str) -> Result<Self, (String, String)> {
        Self::read_at(value, at, 0)
    }

    fn read_at(value: &Value, at: &str, depth: usize) -> Result<Self, (String, String)> {
        let wrong = |field: &str, reason: String| Err((format!("{at}{field}"), reason));
        if depth > MAX_DEPTH {
            return wrong("", format!("filters are nested deeper than {MAX_DEPTH}"));
        }
        let Some(map) = value.as_object() else { return wrong("", "a filter must be an object".into()) };
        let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
        let known = if matches!(kind, "and" | "or") { ["type", "filters", ""] } else { ["type", "key", "value"] };
        if let Some(name) = map.keys().find(|name| !known.contains(&name.as_str())) {
            return wrong(&format!(".{name}"), format!("there is no {name:?} in this filter"));
        }
        if matches!(kind, "and" | "or") {
            let Some(parts) = map.get("filters").and_then(Value::as_array).filter(|parts| !parts.is_empty()) else {
                return wrong(".filters", "it must be a list of filters".into());
            };
            let read = |(n, part): (usize, &Value)| Self::read_at(part, &format!("{at}.filters[{n}]"), depth + 1);
            let parts = parts.iter().enumerate().map(read).collect::<Result<_, _>>()?;
            return Ok(if kind == "and" { Self::All(parts) } else { Self::Any(parts) });
        }
        let Some((_, how)) = Compare::ALL.iter().find(|(name, _)| *name == kind) else {
            let names: Vec<&str> = Compare::ALL.iter().map(|(name, _)| *name).chain(["and", "or"]).collect();
            return wrong(".type", format!("it is {kind:?}; there are: {}", names.join(", ")));
        };
        let Some(key) = map.get("key").and_then(Value::as_str) else {
            return wrong(".key", "it must be the name of an attribute".into());
        };
        let value = map.get("value").cloned().unwrap_or_default();
        let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
        match how {
            Compare::In | Compare::NotIn if value.as_array().is_none_or(|all| !all.iter().all(plain)) => {
                wrong(".value", "it must be a list of texts or numbers".into())
            }
            Compare::Gt | Compare::Gte | Compare::Lt | Compare::Lte if !value.is_number() => {
                wrong(".value", "it must be a number".into())
            }
            Compare::Eq | Compare::Ne if !plain(&value) => {
                wrong(".value", "it must be a text, a number, true or false".into())
            }
            how => Ok(Self::Compare { key: key.into(), how: *how, value }),
        }
    }

    /// True where these attributes pass. One that is not there is unequal to everything.
    pub fn passes(&self, attributes: &Map<String, Value>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.passes(attributes)),
            Self::Any(parts) => parts.iter().any(|part| part.passes(attributes)),
            Self::Compare { key, how, value } => {
                let own = attributes.get(key);
                let ordered = |holds: fn(f64, f64) -> bool| {
                    own.and_then(Value::as_f64).zip(value.as_f64()).is_some_and(|(own, value)| holds(own, value))
                };
                let listed = || {
                    let all = value.as_array();
                    own.is_some_and(|own| all.is_some_and(|all| all.iter().any(|value| same(own, value))))
                };
                match how {
                    Compare::Eq => own.is_some_and(|own| same(own, value)),
                    Compare::Ne => !own.is_some_and(|own| same(own, value)),
                    Compare::Gt => ordered(|own, value| own > value),
                    Compare::Gte => ordered(|own, value| own >= value),
                    Compare::Lt => ordered(|own, value| own < value),
                    Compare::Lte => ordered(|own, value| own <= value),
                    Compare::In => listed(),
                    Compare::NotIn => !listed(),
                }
            }
        }
    }
}

/// 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn passes(filter: Value, attributes: Value) -> bool {
        Filter::read(&filter, "filters").unwrap().passes(attributes.as_object().unwrap())
    }

    #[test]
    fn comparisons_hold_as_they_say() {
        let attributes = json!({"lang": "en", "year": 2026, "public": true});
        let holds = |kind: &str, key: &str, value: Value| {
            passes(json!({"type": kind, "key": key, "value": value}), attributes.clone())
        };
        assert!(holds("eq", "lang", json!("en")) && !holds("eq", "lang", json!("ru")));
        assert!(holds("eq", "year", json!(2026.0)) && holds("eq", "public", json!(true)));
        assert!(holds("ne", "missing", json!("x")) && !holds("eq", "missing", json!("x")));
        assert!(holds("gte", "year", json!(2026)) && !holds("gt", "year", json!(2026)));
        assert!(holds("lt", "year", json!(2026.5)) && !holds("lt", "lang", json!(5)));
        assert!(holds("in", "lang", json!(["ru", "en"])) && !holds("nin", "lang", json!(["ru", "en"])));
        assert!(holds("nin", "missing", json!(["ru"])));
    }

    #[test]
    fn and_or_are_nested() {
        let either = json!({"type": "or", "filters": [
            {"type": "eq", "key": "a", "value": 1},
            {"type": "and", "filters": [{"type": "eq", "key": "b", "value": 2}, {"type": "lt", "key": "c", "value": 3}]},
        ]});
        assert!(passes(either.clone(), json!({"a": 1})));
        assert!(passes(either.clone(), json!({"b": 2, "c": 1})));
        assert!(!passes(either, json!({"b": 2, "c": 3})));
    }

    #[test]
    fn what_is_no_filter_is_told_with_its_place() {
        let fault = |filter: Value| Filter::read(&filter, "filters").unwrap_err();
        assert_eq!(fault(json!({"type": "like", "key": "a", "value": 1})).0, "filters.type");
        assert_eq!(fault(json!({"type": "gt", "key": "a", "value": "b"})).0, "filters.value");
        assert_eq!(
            fault(json!({"type": "and", "filters": [{"type": "eq", "key": 1, "value": 1}]})).0,
            "filters.filters[0].key"
        );
        assert_eq!(fault(json!({"type": "eq", "key": "a", "value": 1, "fold": true})).0, "filters.fold");
        let deep = (0..20)
            .fold(json!({"type": "eq", "key": "a", "value": 1}), |inner, _| json!({"type": "and", "filters": [inner]}));
        assert!(fault(deep).1.contains("deeper"));
    }
}
