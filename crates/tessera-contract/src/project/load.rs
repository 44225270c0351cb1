//! From text to a resolved project: defaults, file and flags are merged key by key, and every complaint has a place.

use std::{fmt, str::FromStr};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value as Json;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Project, Source};
use crate::DEFAULTS;

/// What is wrong with a project, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ProjectError {
    /// `file:line:column`, or the flag.
    pub place: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// A `--set key.path=value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    path: Vec<String>,
    value: Value,
    text: String,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) =
            text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`: write --set segmentation.k=6"))?;
        let path: Vec<_> = path.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!("`{text}` has an empty key: write --set segmentation.k=6"));
        }
        let value = value.trim();
        // Whatever is no TOML value is text, so that nobody has to quote twice for the shell.
        let value = format!("v = {value}")
            .parse::<Table>()
            .ok()
            .and_then(|mut t| t.remove("v"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self { path, value, text: text.to_owned() })
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(super) fn resolve<T: DeserializeOwned>(file: &str, text: &str, overrides: &[Override]) -> Result<T, ProjectError> {
    let at = |range: Option<std::ops::Range<usize>>, problem: String| ProjectError {
        place: place(file, text, range.map_or(0, |r| r.start)),
        problem,
    };
    let parsed = DeTable::parse(text).map_err(|e| at(e.span(), e.message().to_owned()))?;
    let schema = serde_json::to_value(schemars::schema_for!(Project)).unwrap_or_default();
    check_keys(parsed.get_ref(), &schema, &schema, "").map_err(|(start, problem)| at(Some(start..start), problem))?;

    let mut merged: Table = DEFAULTS.parse().map_err(|e: toml::de::Error| at(None, e.message().to_owned()))?;
    merge(&mut merged, text.parse().map_err(|e: toml::de::Error| at(e.span(), e.message().to_owned()))?);
    for flag in overrides {
        let lone = flag
            .path
            .iter()
            .rev()
            .fold(flag.value.clone(), |value, key| Value::Table([(key.clone(), value)].into_iter().collect()));
        let Value::Table(lone) = lone else { continue };
        let complain = |problem: String| ProjectError { place: format!("--set {flag}"), problem };
        let written = toml::to_string(&lone).unwrap_or_default();
        if let Ok(parsed) = DeTable::parse(&written) {
            check_keys(parsed.get_ref(), &schema, &schema, "").map_err(|(_, problem)| complain(problem))?;
        }
        merge(&mut merged, lone);
    }
    name_feeds(&mut merged).map_err(|(path, problem)| locate(file, text, &path, problem))?;
    serde_path_to_error::deserialize(Value::Table(merged)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().message().trim().to_owned();
        let flag = overrides.iter().find(|f| path.starts_with(&f.path.join(".")));
        match flag {
            Some(flag) => ProjectError { place: format!("--set {flag}"), problem: format!("{path}: {message}") },
            None => locate(file, text, &path, format!("{path}: {message}")),
        }
    })
}

/// What may stand at `sources.<entity>`, for the schema alone.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is a schema")]
pub(super) enum SourceOrFeeds {
    /// One source.
    Source(Box<Source>),
    /// Several, by name.
    Feeds(IndexMap<String, Source>),
}

/// Keys of a source that are tables.
const TABLES_OF_A_SOURCE: [&str; 2] = ["columns", "types"];

/// The feeds among the keys of `sources.<entity>`: tables that no source has.
fn feeds<'a>(keys: impl Iterator<Item = (&'a str, bool)>) -> Vec<&'a str> {
    keys.filter(|(key, is_table)| *is_table && !TABLES_OF_A_SOURCE.contains(key)).map(|(key, _)| key).collect()
}

/// Makes of the feeds of an entity sources of their own, `entity.feed`. A complaint comes with the path.
fn name_feeds(project: &mut Table) -> Result<(), (String, String)> {
    let Some(Value::Table(sources)) = project.get_mut("sources") else { return Ok(()) };
    let mut named = Table::new();
    for (entity, source) in std::mem::take(sources) {
        let Value::Table(table) = source else {
            named.insert(entity, source);
            continue;
        };
        let names = feeds(table.iter().map(|(key, value)| (key.as_str(), value.is_table())));
        let Some(first) = names.first() else {
            named.insert(entity, Value::Table(table));
            continue;
        };
        if names.len() < table.len() {
            let problem = format!(
                "{entity} has keys of one source and feeds (`{first}`); with several feeds, every key stands below the feed it is for"
            );
            return Err((format!("sources.{entity}"), problem));
        }
        for (feed, value) in table {
            if feed.is_empty() || !feed.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let problem = format!("the name of a feed is made of letters, digits and `_`, unlike `{feed}`");
                return Err((format!("sources.{entity}.{feed}"), problem));
            }
            named.insert(format!("{entity}.{feed}"), value);
        }
    }
    *sources = named;
    Ok(())
}

/// The complaint at the place where `path` stands in the file (or the nearest table above it).
pub(super) fn locate(file: &str, text: &str, path: &str, problem: String) -> ProjectError {
    let mut start = 0;
    if let Ok(root) = DeTable::parse(text) {
        let mut table = root.get_ref();
        for key in path.split('.') {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == key) else { break };
            match value.get_ref() {
                DeValue::Table(inner) => {
                    start = name.span().start;
                    table = inner;
                }
                _ => {
                    let last = path.rsplit('.').next() == Some(key);
                    // A column's name is what is wrong, elsewhere the value.
                    start = if last && path.contains(".columns.") { name.span().start } else { value.span().start };
                    break;
                }
            }
        }
    }
    ProjectError { place: place(file, text, start), problem }
}

pub(super) fn schema() -> Json {
    let mut schema = serde_json::to_value(schemars::schema_for!(Project)).unwrap_or_default();
    forget_required(&mut schema);
    schema
}

/// The defaults fill every gap, so that no key of the file is required.
fn forget_required(schema: &mut Json) {
    match schema {
        Json::Object(map) => {
            map.retain(|key, value| key != "required" || !value.is_array());
            map.values_mut().for_each(forget_required);
        }
        Json::Array(items) => items.iter_mut().for_each(forget_required),
        _ => {}
    }
}

/// "unknown `what` `name`; did you mean …?", or the list of what is known.
pub(super) fn unknown(name: &str, known: &[&str], what: &str) -> String {
    format!("unknown {what} `{name}`; {}", suggest(name, known))
}

/// The known name that is nearest, with how near it is.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(f64, &'a str)> {
    known.map(|k| (strsim::jaro_winkler(name, k), k)).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))
}

/// The known name that somebody mistyped who could also mean another one.
pub(super) fn nearly<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (_, nearest) = nearest(name, known)?;
    // A second one of a kind is another column.
    if name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_') == nearest {
        return None;
    }
    (strsim::damerau_levenshtein(name, nearest) <= 1 + usize::from(name.len() > 8)).then_some(nearest)
}

fn suggest(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some((score, nearest)) if score > 0.8 => format!("did you mean `{nearest}`?"),
        _ => format!("known are {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Holds every key against the schema; the first unknown one comes back with its offset.
fn check_keys(table: &DeTable<'_>, schema: &Json, root: &Json, path: &str) -> Result<(), (usize, String)> {
    let mut schema = follow(schema, root);
    if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
        let is_table = |value: &DeValue<'_>| matches!(value, DeValue::Table(_));
        let keys = table.iter().map(|(key, value)| (key.get_ref().as_ref(), is_table(value.get_ref())));
        let choice = usize::from(!feeds(keys).is_empty());
        schema = choices.get(choice).map_or(schema, |choice| follow(choice, root));
    }
    let properties = schema.get("properties").and_then(Json::as_object);
    let others = schema.get("additionalProperties").filter(|s| s.is_object());
    if properties.is_none() && others.is_none() {
        return Ok(());
    }
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let Some(inner) = properties.and_then(|p| p.get(name)).or(others) else {
            let mut known: Vec<_> = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str).collect();
            known.sort_unstable();
            return Err((key.span().start, format!("unknown key `{full}`; {}", suggest(name, &known))));
        };
        if let DeValue::Table(table) = value.get_ref() {
            check_keys(table, inner, root, &full)?;
        }
    }
    Ok(())
}

fn follow<'a>(schema: &'a Json, root: &'a Json) -> &'a Json {
    match schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or(schema),
        None => schema,
    }
}

fn place(file: &str, text: &str, offset: usize) -> String {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{file}:{line}:{column}")
}
