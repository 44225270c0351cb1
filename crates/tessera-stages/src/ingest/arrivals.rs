//! Which rows come to be judged tonight: what a source is read for, and what waited.

use datafusion::prelude::DataFrame;
use tessera_contract::{Entity, Project, Rule, Severity};
use tessera_engine::{
    formula::{self, quote},
    record,
    source::{RECORD, ROW_BITS},
};

use super::{Mapping, Step};
use crate::{Night, Source, StageError};

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
    if project.source(Entity::Customers).is_some()
        && entity.has_customer()
        && !project.rules(entity).iter().any(|(_, rule)| asks(rule))
    {
        return Some("no rule turns away rows of unknown customers, so that whose they are may change".into());
    }
    let mut merges = 0;
    for (name, rule) in project.rules(entity) {
        merges += i32::from(rule.severity == Severity::Merge);
        if merges > 1 {
            return Some(format!("the rule {name} is the second that merges rows"));
        }
        if names_the_night(&rule.expression) {
            return Some(format!("the rule {name} asks for the night"));
        }
        let compares = matches!(rule.severity, Severity::Merge | Severity::Supersede);
        if compares && (rule.severity == Severity::Supersede || rule.by != ["*"] || rule.prefer.is_some()) {
            return Some(format!("the rule {name} compares rows of any time"));
        }
    }
    let columns = project.source(entity).map(|s| &s.columns);
    let named = columns.into_iter().flatten().find(|(_, from)| names_the_night(from));
    named.map(|(column, _)| format!("the column {column} asks for the night"))
}

/// Rows with the columns of a source: those of the files to read or, where there are none, those that wait.
pub(super) fn any(night: &Night<'_>, source: &Source) -> Result<DataFrame, StageError> {
    match (&source.rows, night.kept.get(&waiting(source.entity))) {
        (Some(rows), _) => Ok(rows.clone()),
        (None, Some(kept)) => Ok(kept.frame.clone()),
        (None, None) if source.before.is_some() => Err(nobody_kept(source.entity)),
        (None, None) => Err(StageError::Data(format!("the source of {} has no file", source.entity))),
    }
}

fn nobody_kept(entity: Entity) -> StageError {
    StageError::ReadAll { entity, why: "nobody kept what waits of them".into() }
}

/// The rows that come to be judged tonight: those of the files to read, and those that waited for it. Of the owner's columns stand
/// by themselves only those that the mapping computes with.
pub(super) async fn arrivals(night: &Night<'_>, source: &Source, mapping: &Mapping) -> Result<DataFrame, StageError> {
    let used: String = mapping.used.iter().map(|name| format!(", {}", quote(name))).collect();
    let read = match &source.rows {
        Some(rows) => {
            let shift = source.before.unwrap_or(0) << ROW_BITS;
            let query = format!("SELECT _locator + {shift} AS _locator, _defect, _record{used} FROM rows");
            Some(night.over(&query, &[("rows", rows)]).await?)
        }
        None => None,
    };
    let waited = match source.before {
        Some(_) => Some(waited(night, source.entity, mapping).await?),
        None => None,
    };
    match (read, waited) {
        (Some(read), Some(waited)) => Ok(read.union(waited)?),
        (one, other) => {
            one.or(other).ok_or_else(|| StageError::Data(format!("the source of {} has no file", source.entity)))
        }
    }
}

/// The rows that waited for the night, as the columns of [`arrivals`].
///
/// # Errors
/// [`StageError::ReadAll`] when nobody kept them, or they have other columns.
pub(super) async fn waited(night: &Night<'_>, entity: Entity, mapping: &Mapping) -> Result<DataFrame, StageError> {
    let kept = night.kept.get(&waiting(entity)).ok_or_else(|| nobody_kept(entity))?;
    if *kept.frame.schema().field_with_unqualified_name(RECORD)?.data_type() != mapping.record {
        return Err(StageError::ReadAll { entity, why: "their columns are not those of the files before".into() });
    }
    let field = |name: &String| format!(", {} AS {}", record::column(RECORD, &mapping.record, name), quote(name));
    let fields: String = mapping.used.iter().map(field).collect();
    night.over(&format!("SELECT _locator, _defect, _record{fields} FROM waiting"), &[("waiting", &kept.frame)]).await
}

/// Whether the rows of an entity that wait are kept as they stand in the source.
pub(super) fn keeps_waiting(project: &Project, entity: Entity) -> bool {
    entity == Entity::Customers || reads_all(project, entity).is_none()
}

/// The name under which the rows of an entity that wait are kept.
pub(super) fn waiting(entity: Entity) -> String {
    format!("waiting_{entity}")
}

/// The name under which the hashes are kept of the rows that were there when repeats were looked for.
pub(super) fn seen(entity: Entity) -> String {
    format!("seen_{entity}")
}

/// A hash of all that decides what becomes of a row, the row itself aside.
pub(super) fn stamp(night: &Night<'_>, entity: Entity, mapping: &Mapping, steps: &[Step]) -> String {
    let mut source = night.project.source(entity).cloned();
    if let Some(source) = &mut source {
        source.url.clear();
    }
    let aside = night.project.quality.events_after_as_of;
    let (zone, version) = (&night.project.project.timezone, env!("CARGO_PKG_VERSION"));
    formula::stamp(&format!("{version} {zone} {aside:?} {source:?} {mapping:?} {steps:?}"))
}
