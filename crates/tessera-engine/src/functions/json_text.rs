//! `json_text(text, 'path')`: a value inside JSON as text, `address.city` or `tags[0].name`; null where the text is no JSON, or has no
//! such value. Objects and lists come as JSON.
//!
//! `json_list(text)`, `json_list(text, 'path')`: the entries of a list inside JSON as texts likewise, null where there is no list. Unnested,
//! they are rows.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, ListBuilder, StringBuilder, StringViewBuilder},
        datatypes::{DataType, Field},
    },
    common::{DataFusionError, Result},
    logical_expr::ScalarUDF,
};
use serde_json::Value;

use super::{cast, literal_text, with_words, wrong};

pub(super) fn udf() -> ScalarUDF {
    with_words("json_text", 1, DataType::Utf8View, json_text)
}

pub(super) fn list_udf() -> ScalarUDF {
    with_words("json_list", 1, DataType::List(entry()), json_list)
}

fn entry() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Utf8, true))
}

/// A step of a path.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    Key(&'a str),
    At(usize),
}

fn json_text(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, path] = args else { return Err(wrong("json_text takes a text and a path".into())) };
    let path = literal_text(path, "a path into JSON")?;
    let steps = steps(&path).ok_or_else(|| no_path(&path))?;
    let texts = cast(texts, &DataType::Utf8View)?;
    let mut values = StringViewBuilder::with_capacity(texts.len());
    for text in texts.as_string_view() {
        values.append_option(text.and_then(|text| value(text, &steps)));
    }
    Ok(Arc::new(values.finish()))
}

fn json_list(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, path) = match args {
        [texts] => (texts, String::new()),
        [texts, path] => (texts, literal_text(path, "a path into JSON")?),
        _ => return Err(wrong("json_list takes a text and, if the list is inside, a path".into())),
    };
    let steps = match path.as_str() {
        "" => Vec::new(),
        path => steps(path).ok_or_else(|| no_path(path))?,
    };
    let texts = cast(texts, &DataType::Utf8View)?;
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(entry());
    for text in texts.as_string_view() {
        let json: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
        let list = json.as_ref().and_then(|json| found(json, &steps)).and_then(Value::as_array);
        for value in list.into_iter().flatten() {
            lists.values().append_option(as_text(value));
        }
        lists.append(list.is_some());
    }
    Ok(Arc::new(lists.finish()))
}

fn no_path(path: &str) -> DataFusionError {
    wrong(format!("`{path}` is no path into JSON: write address.city or tags[0]"))
}

fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (key, mut rest) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        if !key.is_empty() {
            steps.push(Step::Key(key));
        }
        while let Some(inner) = rest.strip_prefix('[') {
            let (number, after) = inner.split_once(']')?;
            steps.push(Step::At(number.parse().ok()?));
            rest = after;
        }
        if !rest.is_empty() || part.is_empty() {
            return None;
        }
    }
    Some(steps)
}

fn value(text: &str, steps: &[Step<'_>]) -> Option<String> {
    let json: Value = serde_json::from_str(text).ok()?;
    as_text(found(&json, steps)?)
}

fn found<'a>(json: &'a Value, steps: &[Step<'_>]) -> Option<&'a Value> {
    steps.iter().try_fold(json, |json, step| match step {
        Step::Key(key) => json.get(key),
        Step::At(at) => json.get(at),
    })
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_where_the_path_says() {
        let text = r#"{"city": "Köln", "geo": {"lat": 50.9}, "tags": [["a"], {"n": null}], "odd.key": 1}"#;
        for (path, expect) in [
            ("city", Some("Köln")),
            ("geo.lat", Some("50.9")),
            ("geo", Some(r#"{"lat":50.9}"#)),
            ("tags[0][0]", Some("a")),
            ("tags[1].n", None),
            ("tags[2]", None),
            ("city.x", None),
        ] {
            assert_eq!(value(text, &steps(path).expect(path)).as_deref(), expect, "{path}");
        }
        for path in ["", "a..b", "a[", "a[x]", "a[0]b"] {
            assert_eq!(steps(path), None, "{path}");
        }
        assert_eq!(value("no json", &[Step::Key("x")]), None);
    }
}
