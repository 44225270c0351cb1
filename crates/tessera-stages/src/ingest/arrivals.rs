//! Which rows come to be judged tonight: what a source is read for, and what waited.

use datafusion::prelude::DataFrame;
use tessera_contract::{Entity, Project, Rule, Severity, project::Source as Settings};
use tessera_engine::{
    formula::{self, quote},
    record,
    source::{FILE, RECORD, ROW, ROW_BITS},
};

use super::{Mapping, Step};
use crate::{Feed, Night, Source, StageError};

/// Whether an expression reads differently on another night.
pub(super) fn names_the_night(expression: &str) -> bool {
    formula::names(expression).is_ok_and(|names| names.contains("as_of") || names.contains("as_of_date"))
}

/// Why a source is read as a whole every night, if it is.
#[must_use]
pub fn reads_all(project: &Project, entity: Entity) -> Option<String> {
    if entity == Entity::Customers {
        return Some("which row of a customer counts is decided among all of them".into());
    }
    let turns_away = |s: Severity| matches!(s, Severity::Quarantine | Severity::Fail);
    let asks = |rule: &Rule| turns_away(rule.severity) && rule.expression.trim() == "customer_known";
    if project.gives(Entity::Customers)
        && entity.has_customer()
        && !project.rules(entity).iter().any(|(_, rule)| asks(rule))
    {
        return Some("no rule turns away rows of unknown customers, so that whose they are may change".into());
    }
    let mut merges = 0;
    for (name, rule) in project.rules(entity) {
        let looks_at_one = rule.severity == Severity::Merge && rule.by.is_empty();
        merges += i32::from(rule.severity == Severity::Merge && !looks_at_one);
        if merges > 1 {
            return Some(format!("the rule {name} is the second that merges rows"));
        }
        if names_the_night(&rule.expression) {
            return Some(format!("the rule {name} asks for the night"));
        }
        let compares = matches!(rule.severity, Severity::Merge | Severity::Supersede) && !looks_at_one;
        if compares && (rule.severity == Severity::Supersede || rule.by != ["*"] || rule.prefer.is_some()) {
            return Some(format!("the rule {name} compares rows of any time"));
        }
    }
    let feeds = project.feeds(entity);
    if feeds.iter().any(|feed| feed.source.query.is_some()) {
        return Some("they are the rows of a query".into());
    }
    let stands =
        |from: &str| formula::names(from).is_ok_and(|names| [ROW, FILE].iter().any(|word| names.contains(*word)));
    let placed = feeds.iter().flat_map(|feed| &feed.source.columns).find(|(_, from)| stands(from));
    if let Some((column, _)) = placed.filter(|_| merges > 0) {
        return Some(format!("the column {column} says where a row stands, and of rows that are the same one is kept"));
    }
    let named = feeds.iter().flat_map(|feed| &feed.source.columns).find(|(_, from)| names_the_night(from));
    named.map(|(column, _)| format!("the column {column} asks for the night"))
}

/// Rows with the columns of each feed: those of the files to read or, where there are none, those that wait.
pub(super) fn any(night: &Night<'_>, source: &Source) -> Result<Vec<DataFrame>, StageError> {
    let entity = source.entity;
    let of = |feed: &Feed| match (&feed.rows, night.kept.get(&waiting(entity, feed.name.as_deref()))) {
        (Some(rows), _) => Ok(rows.clone()),
        (None, Some(kept)) => Ok(kept.frame.clone()),
        (None, None) if source.before.is_some() => Err(nobody_kept(entity)),
        (None, None) => Err(without_a_file(entity)),
    };
    source.feeds.iter().map(of).collect()
}

fn nobody_kept(entity: Entity) -> StageError {
    StageError::ReadAll { entity, why: "nobody kept what waits of them".into() }
}

fn without_a_file(entity: Entity) -> StageError {
    StageError::Data(format!("a source of {entity} has no file"))
}

/// The rows of each feed that come to be judged tonight: those of the files to read, and those that waited for it. Of the owner's
/// columns stand by themselves only those that the mapping computes with.
pub(super) async fn arrivals(
    night: &Night<'_>,
    source: &Source,
    mapping: &Mapping,
) -> Result<Vec<DataFrame>, StageError> {
    let waited = match source.before {
        Some(_) => waited(night, source.entity, mapping).await?.into_iter().map(Some).collect(),
        None => vec![None; source.feeds.len()],
    };
    let mut number = source.before.unwrap_or(0);
    let mut all = Vec::new();
    for ((feed, mapped), waited) in source.feeds.iter().zip(&mapping.feeds).zip(waited) {
        let used: String = mapped.used.iter().map(|name| format!(", {}", quote(name))).collect();
        let read = match &feed.rows {
            Some(rows) => {
                let shift = number << ROW_BITS;
                let query = format!("SELECT _locator + {shift} AS _locator, _defect, _record{used} FROM rows");
                Some(night.over(&query, &[("rows", rows)]).await?)
            }
            None => None,
        };
        number += feed.files.len() as i64;
        all.push(match (read, waited) {
            (Some(read), Some(waited)) => read.union(waited)?,
            (one, other) => one.or(other).ok_or_else(|| without_a_file(source.entity))?,
        });
    }
    Ok(all)
}

/// The rows of each feed that waited for the night, as the columns of [`arrivals`].
///
/// # Errors
/// [`StageError::ReadAll`] when nobody kept them, or they have other columns.
pub(super) async fn waited(night: &Night<'_>, entity: Entity, mapping: &Mapping) -> Result<Vec<DataFrame>, StageError> {
    let mut all = Vec::new();
    for feed in &mapping.feeds {
        let kept = night.kept.get(&waiting(entity, feed.feed.as_deref())).ok_or_else(|| nobody_kept(entity))?;
        if *kept.frame.schema().field_with_unqualified_name(RECORD)?.data_type() != feed.record {
            return Err(StageError::ReadAll { entity, why: "their columns are not those of the files before".into() });
        }
        let field = |name: &String| format!(", {} AS {}", record::column(RECORD, &feed.record, name), quote(name));
        let fields: String = feed.used.iter().map(field).collect();
        let query = format!("SELECT _locator, _defect, _record{fields} FROM waiting");
        all.push(night.over(&query, &[("waiting", &kept.frame)]).await?);
    }
    Ok(all)
}

/// Whether the rows of an entity that wait are kept as they stand in the source.
pub(super) fn keeps_waiting(project: &Project, entity: Entity) -> bool {
    entity == Entity::Customers || reads_all(project, entity).is_none()
}

/// The name under which the rows of a feed that wait are kept.
pub(super) fn waiting(entity: Entity, feed: Option<&str>) -> String {
    match feed {
        Some(feed) => format!("waiting_{entity}.{feed}"),
        None => format!("waiting_{entity}"),
    }
}

/// The name under which the hashes are kept of the rows that were there when repeats were looked for.
pub(super) fn seen(entity: Entity) -> String {
    format!("seen_{entity}")
}

/// A hash of all that decides what becomes of a row, the row itself aside.
pub(super) fn stamp(night: &Night<'_>, entity: Entity, mapping: &Mapping, steps: &[Step]) -> String {
    let sources = night.project.feeds(entity).into_iter().map(|feed| (feed.name, feed.source.clone()));
    let source: Vec<_> = sources.map(|(name, source)| (name, Settings { url: String::new(), ..source })).collect();
    let aside = night.project.quality.events_after_as_of;
    let (zone, version) = (&night.project.project.timezone, env!("CARGO_PKG_VERSION"));
    formula::stamp(&format!("{version} {zone} {aside:?} {source:?} {mapping:?} {steps:?}"))
}
