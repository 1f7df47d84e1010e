//! Lists as OpenAI pages them: `limit`, `order`, `after`, `before`.

use axum::Json;
use serde_json::{Value, json};

use super::path::ReadQuery;
use super::wire::error::ApiError;

/// The query of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    pub limit: Option<usize>,
    /// `asc` or `desc` (the default): by the time of creation.
    pub order: Option<String>,
    /// Only what stands after this id.
    pub after: Option<String>,
    /// Only what stands before this id.
    pub before: Option<String>,
    /// Of files: only those of this purpose.
    pub purpose: Option<String>,
    /// Of a vector store's files: only those of this status.
    pub filter: Option<String>,
}

impl ReadQuery for ListQuery {
    fn take(&mut self, name: &str, value: String) -> Result<bool, ApiError> {
        match name {
            "limit" => {
                let number = value.parse().map_err(|_| {
                    ApiError::invalid("limit", format!("\"limit\" is {value:?}; it must be a whole number"))
                })?;
                self.limit = Some(number);
            }
            "order" => self.order = Some(value),
            "after" => self.after = Some(value),
            "before" => self.before = Some(value),
            "purpose" => self.purpose = Some(value),
            "filter" => self.filter = Some(value),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl ListQuery {
    /// # Errors
    /// For lists whose entries have no status.
    pub fn refuse_filter(&self) -> Result<(), ApiError> {
        refuse("filter", self.filter.as_ref())
    }

    /// # Errors
    /// For lists whose entries have no purpose.
    pub fn refuse_purpose(&self) -> Result<(), ApiError> {
        refuse("purpose", self.purpose.as_ref())
    }
}

fn refuse(name: &str, value: Option<&String>) -> Result<(), ApiError> {
    match value {
        None => Ok(()),
        Some(_) => {
            let error = ApiError::unsupported(name, format!("there is no parameter {name:?} here"));
            Err(ApiError { code: "unknown_parameter", ..error })
        }
    }
}

/// One page of `items`, which come oldest first.
///
/// # Errors
/// A limit out of range, an order that is none, an id that is not in the list.
pub fn list<T>(
    mut items: Vec<T>,
    query: &ListQuery,
    most: usize,
    id: impl Fn(&T) -> &str,
    show: impl Fn(&T) -> Value,
) -> Result<Json<Value>, ApiError> {
    let limit = query.limit.unwrap_or(most.clamp(20, 10_000)).min(most);
    if query.limit.is_some_and(|limit| limit == 0 || limit > most) {
        return Err(ApiError::invalid("limit", format!("\"limit\" must be between 1 and {most}")));
    }
    match query.order.as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(other) => {
            return Err(ApiError::invalid("order", format!("\"order\" is {other:?}; it can be \"asc\" or \"desc\"")));
        }
    }
    let place = |items: &[T], name: &str, wanted: &str| {
        let at = items.iter().position(|item| id(item) == wanted);
        at.ok_or_else(|| ApiError::invalid(name, format!("{name:?} is {wanted:?}, which is not in this list")))
    };
    if let Some(after) = &query.after {
        let at = place(&items, "after", after)?;
        items.drain(..=at);
    }
    let mut has_more = items.len() > limit;
    if let Some(before) = &query.before {
        let at = place(&items, "before", before)?;
        items.truncate(at);
        has_more = items.len() > limit;
        items.drain(..items.len().saturating_sub(limit));
    }
    items.truncate(limit);
    Ok(Json(json!({
        "object": "list", "data": items.iter().map(&show).collect::<Vec<_>>(),
        "first_id": items.first().map(&id), "last_id": items.last().map(&id), "has_more": has_more,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: ListQuery) -> Value {
        let items: Vec<String> = (0..10).map(|n| format!("i{n}")).collect();
        list(items, &query, 100, |item| item, |item| json!(item)).unwrap().0
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_string())
    }

    #[test]
    fn pages_follow_one_another_in_both_orders() {
        let first = page(ListQuery { limit: Some(4), ..ListQuery::default() });
        assert_eq!((&first["data"], &first["has_more"]), (&json!(["i9", "i8", "i7", "i6"]), &json!(true)));
        let next = page(ListQuery { limit: Some(4), after: some("i6"), ..ListQuery::default() });
        assert_eq!(next["data"], json!(["i5", "i4", "i3", "i2"]));
        let last = page(ListQuery { limit: Some(4), after: some("i2"), ..ListQuery::default() });
        assert_eq!(
            (&last["data"], &last["has_more"], &last["last_id"]),
            (&json!(["i1", "i0"]), &json!(false), &json!("i0"))
        );
        let back = page(ListQuery { limit: Some(2), before: some("i5"), order: some("asc"), ..ListQuery::default() });
        assert_eq!((&back["data"], &back["has_more"]), (&json!(["i3", "i4"]), &json!(true)));
        assert_eq!(page(ListQuery::default())["data"].as_array().unwrap().len(), 10);
    }

    #[test]
    fn a_query_that_makes_no_sense_is_refused_by_name() {
        let refused = |query: ListQuery| {
            list(vec!["a".to_string()], &query, 100, |item| item, |item| json!(item)).unwrap_err().param.unwrap()
        };
        assert_eq!(refused(ListQuery { limit: Some(0), ..ListQuery::default() }), "limit");
        assert_eq!(refused(ListQuery { limit: Some(101), ..ListQuery::default() }), "limit");
        assert_eq!(refused(ListQuery { order: some("up"), ..ListQuery::default() }), "order");
        assert_eq!(refused(ListQuery { after: some("b"), ..ListQuery::default() }), "after");
    }
}
