//! The reference of the project file, made of its schema and of the defaults.

use serde_json::{Map, Value as Json};
use toml::{Table, Value};

/// Every key with its type, default and meaning, in Markdown.
pub fn reference(schema: &Json, defaults: &Table) -> String {
    let mut text = "# The project file\n\nMade by `tessera schema --markdown` from the schema and the defaults; do not edit. A project file needs only \
                    what differs from the defaults; `--set key.path=value` on the command line beats both. Unknown keys are errors that name \
                    the nearest known one.\n"
        .to_owned();
    for (name, section) in properties(schema, schema).into_iter().flatten() {
        describe(&mut text, schema, name, section, defaults.get(name));
    }
    text
}

/// A table of the file and those below it.
fn describe(text: &mut String, root: &Json, path: &str, given: &Json, defaults: Option<&Value>) {
    let schema = follow(given, root);
    if let Some(entry) = entries(schema, root) {
        let name = if path == "sources" { "entity" } else { "name" };
        describe(text, root, &format!("{path}.<{name}>"), entry, None);
        if let Some(names) = defaults.and_then(Value::as_table).filter(|names| !names.is_empty()) {
            let names: Vec<_> = names.keys().map(|name| format!("`{name}`")).collect();
            text.push_str(&format!("\nBuilt in: {}.\n", names.join(", ")));
        }
        return;
    }
    let Some(keys) = properties(schema, root) else { return };
    let is_table = |value: &Json| {
        let schema = follow(value, root);
        let of_tables = entries(schema, root).is_some_and(|entry| properties(entry, root).is_some());
        of_tables || properties(schema, root).is_some()
    };
    let (below, keys): (Vec<_>, Vec<_>) = keys.iter().partition(|(_, value)| is_table(value));
    text.push_str(&format!("\n## `[{path}]`\n\n"));
    let said = sentence(given).or_else(|| sentence(schema)).filter(|said| !said.starts_with("`["));
    if let Some(said) = said {
        text.push_str(&format!("{said}\n\n"));
    }
    if !keys.is_empty() {
        text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    }
    for (key, value) in keys {
        let schema = follow(value, root);
        let default = match defaults.and_then(|table| table.get(key)) {
            Some(default) => format!("`{}`", shown(default)),
            None => value.get("default").filter(|v| !v.is_null()).map_or(String::new(), |v| format!("`{v}`")),
        };
        let meaning = sentence(value).unwrap_or_default() + &words(schema);
        let cells = [format!("`{key}`"), kind(value, root), default, meaning].map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    for (key, value) in below {
        let inner = defaults.and_then(|table| table.get(key));
        describe(text, root, &format!("{path}.{key}"), value, inner);
    }
}

/// A default on one line.
fn shown(default: &Value) -> String {
    default.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The schema that a reference or an optional value stands for; of a source and its feeds, the source.
fn follow<'a>(schema: &'a Json, root: &'a Json) -> &'a Json {
    let inner = match schema.get("anyOf").and_then(Json::as_array) {
        Some(choices) => choices.first().unwrap_or(schema),
        None => schema,
    };
    match inner.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).map_or(inner, |found| follow(found, root)),
        None => inner,
    }
}

fn properties<'a>(schema: &'a Json, root: &'a Json) -> Option<&'a Map<String, Json>> {
    follow(schema, root).get("properties").and_then(Json::as_object)
}

/// What stands under any name.
fn entries<'a>(schema: &'a Json, root: &'a Json) -> Option<&'a Json> {
    follow(schema, root).get("additionalProperties").filter(|entry| entry.is_object())
}

fn sentence(schema: &Json) -> Option<String> {
    schema.get("description").and_then(Json::as_str).map(|said| said.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The words that a value may be, with what each means.
fn words(schema: &Json) -> String {
    let choices = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten();
    let words: Vec<_> = choices
        .filter_map(|choice| {
            let word = choice.get("const")?.as_str()?;
            Some(format!("`{word}`: {}", sentence(choice).unwrap_or_default().trim_end_matches('.')))
        })
        .collect();
    if words.is_empty() { String::new() } else { format!(" {}.", words.join("; ")) }
}

fn kind(schema: &Json, root: &Json) -> String {
    let schema = follow(schema, root);
    if schema.get("oneOf").is_some() {
        return "word".to_owned();
    }
    if let Some(entry) = entries(schema, root) {
        return format!("table of {}s", kind(entry, root));
    }
    let name = match schema.get("type") {
        Some(Json::String(name)) => name.as_str(),
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).find(|name| *name != "null").unwrap_or("any"),
        _ => "any",
    };
    match (name, schema.get("items"), schema.get("prefixItems").and_then(Json::as_array)) {
        ("array", _, Some(pair)) => {
            format!("[{}]", pair.iter().map(|one| kind(one, root)).collect::<Vec<_>>().join(", "))
        }
        ("array", Some(item), _) => format!("list of {}s", kind(item, root)),
        ("string", ..) => "text".to_owned(),
        (name, ..) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tessera_contract::Project;

    use super::*;

    #[test]
    fn every_key_is_there() {
        let made = reference(&Project::schema(), &tessera_contract::DEFAULTS.parse().expect("defaults"));
        for line in [
            "| `timezone` | text | `\"UTC\"` | IANA time zone in which nights begin. |",
            "## `[features.<name>]`",
            "## `[sources.<entity>]`",
            "## `[validation.gates.<name>]`",
        ] {
            assert!(made.lines().any(|known| known == line), "{line} is not in\n{made}");
        }
        assert!(made.contains("`log1p`: ln(1 + max(x, 0))"), "{made}");
    }
}
