//! Which rows come to be judged tonight: what a source is read for, what waited, and when all that was found stays.

use datafusion::{arrow::datatypes::DataType, prelude::DataFrame};
use tessera_contract::{Entity, Project, Rule, Severity, project::AfterAsOf};
use tessera_engine::{
    columns::conform,
    formula::{self, Words, quote, text},
    source::{RECORD, ROW_BITS},
};

use super::{Judge, Mapping, Step};
use crate::{Night, Outcome, Source, StageError, rows};

/// Whether an expression reads differently on another night.
fn names_the_night(expression: &str) -> bool {
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
        Some(_) => {
            let kept = night.kept.get(&waiting(source.entity)).ok_or_else(|| nobody_kept(source.entity))?;
            let record = kept.frame.schema().field_with_unqualified_name(RECORD)?.data_type();
            if *record != DataType::Struct(mapping.owners.fields().clone()) {
                let why = "their columns are not those of the files before".into();
                return Err(StageError::ReadAll { entity: source.entity, why });
            }
            let field = |name: &String| format!(", _record[{}] AS {}", text(name), quote(name));
            let fields: String = mapping.used.iter().map(field).collect();
            let query = format!("SELECT _locator, _defect, _record{fields} FROM waiting");
            Some(night.over(&query, &[("waiting", &kept.frame)]).await?)
        }
        None => None,
    };
    match (read, waited) {
        (Some(read), Some(waited)) => Ok(read.union(waited)?),
        (one, other) => {
            one.or(other).ok_or_else(|| StageError::Data(format!("the source of {} has no file", source.entity)))
        }
    }
}

/// The name under which it is kept how a source was judged that is judged as a whole.
pub(super) fn verdicts(entity: Entity) -> String {
    format!("verdicts_{entity}")
}

/// All that the parent night left of an entity stays.
pub(super) fn stay(entity: Entity, outcome: &mut Outcome) {
    outcome.stays(&entity.clean_table(), "");
    outcome.stays("quarantine", entity.name());
    outcome.stays("quarantine", &format!("{entity}/waiting"));
}

/// A source that is judged as a whole, if its files are those of the parent night and no row of it is judged differently
/// tonight: how it is judged, and the count of its files.
pub(super) async fn unchanged(night: &Night<'_>, source: &Source) -> Result<Option<(Judge, DataFrame)>, StageError> {
    let entity = source.entity;
    let (Some(parent), Some(inputs)) = (night.parent, night.previous.get("inputs")) else { return Ok(None) };
    if source.rows.is_none() || !source.unchanged || entity != Entity::Customers {
        return Ok(None);
    }
    let judge = Judge::of(night, source).await?;
    if night.kept.get(&verdicts(entity)).is_none_or(|kept| kept.stamp != judge.stamp) {
        return Ok(None);
    }
    let prefers = |step: &Step| step.rule.as_ref().and_then(|r| r.prefer.as_deref()).is_some_and(names_the_night);
    let names = |step: &&Step| step.skipped.is_none() && (names_the_night(&step.expression) || prefers(step));
    let named = night.project.source(entity).is_some_and(|s| s.columns.values().any(|from| names_the_night(from)));
    if named || judge.steps.iter().filter(names).any(|s| !s.checks()) {
        return Ok(None);
    }
    let then = Words::new(parent, &night.project.project.timezone);
    let after = formula::bind(entity.after(), &then)?;
    let flips = format!("coalesce({after}, false) <> after");
    let mut differs = Vec::new();
    if night.project.quality.events_after_as_of == AfterAsOf::SetAside {
        differs.push(flips.clone());
    }
    for step in judge.steps.iter().filter(names) {
        differs.push(format!("({}) IS DISTINCT FROM ({})", formula::bind(&step.expression, &then)?, step.expression));
    }
    let rows = judge.judged(night, &arrivals(night, source, &judge.mapping).await?).await?;
    let mut asked = Vec::new();
    if !differs.is_empty() {
        asked.push(format!("SELECT 1 FROM rows WHERE {}", differs.join(" OR ")));
    }
    // A row that is kept though the night did not know it took nobody's place.
    for compare in judge.compares()?.iter().filter(|c| c.rule.severity == Severity::Supersede) {
        let hash = quote(&compare.hash);
        asked.push(format!("SELECT 1 FROM rows GROUP BY {hash} HAVING count(*) > 1 AND bool_or({flips})"));
    }
    for query in asked {
        let found = night.over(&query, &[("rows", &rows)]).await?;
        if rows::count(night, &found).await? > 0 {
            return Ok(None);
        }
    }
    let query = format!("SELECT * FROM inputs WHERE source = {}", text(entity.name()));
    let counted = rows::collect(night.over(&query, &[("inputs", inputs)]).await?).await?;
    let counted = conform(night.engine.session().read_batch(counted)?, &night.table("inputs")?)?;
    Ok(Some((judge, counted)))
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
