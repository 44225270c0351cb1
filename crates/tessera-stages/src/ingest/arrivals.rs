//! Which rows come to be judged tonight: what a source is read for, what waited, and when all that was found stays.

use datafusion::prelude::DataFrame;
use tessera_contract::{Entity, Project, Rule, Severity, project::AfterAsOf};
use tessera_engine::{
    columns::conform,
    formula::{self, Words, quote, text},
    source::ROW_BITS,
};

use super::{Cleaned, Mapping, Step, judge, map, steps};
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

/// The rows that come to be judged tonight: those of the files to read, and those that waited for it.
pub(super) async fn arrivals(night: &Night<'_>, source: &Source) -> Result<DataFrame, StageError> {
    let all = |why: &str| StageError::ReadAll { entity: source.entity, why: why.into() };
    let Some(before) = source.before else {
        return source
            .rows
            .clone()
            .ok_or_else(|| StageError::Data(format!("the source of {} has no file", source.entity)));
    };
    let waiting = night.kept.get(&waiting(source.entity)).ok_or_else(|| all("nobody kept what waits of them"))?;
    let names =
        |frame: &DataFrame| -> Vec<String> { frame.schema().fields().iter().map(|f| f.name().clone()).collect() };
    let Some(rows) = &source.rows else { return Ok(waiting.frame.clone()) };
    let (mut mine, mut theirs) = (names(rows), names(&waiting.frame));
    let columns: String = mine.iter().filter(|n| *n != "_locator").map(|n| format!("{}, ", quote(n))).collect();
    mine.sort();
    theirs.sort();
    if mine != theirs {
        return Err(all("their columns are not those of the files before"));
    }
    let shifted = format!("SELECT {columns} _locator + {} AS _locator FROM rows", before << ROW_BITS);
    let query = format!("{shifted} UNION ALL SELECT {columns} _locator FROM waiting");
    night.over(&query, &[("rows", rows), ("waiting", &waiting.frame)]).await
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
pub(super) async fn unchanged(night: &Night<'_>, source: &Source) -> Result<Option<(Cleaned, DataFrame)>, StageError> {
    let entity = source.entity;
    let (Some(parent), Some(inputs)) = (night.parent, night.previous.get("inputs")) else { return Ok(None) };
    let (Some(rows), true, true) = (&source.rows, source.unchanged, entity == Entity::Customers) else {
        return Ok(None);
    };
    let mapping = map(night, entity, rows).await?;
    let steps = steps(night.project, entity, &mapping, false)?;
    let stamp = stamp(night, entity, &mapping, &steps);
    if night.kept.get(&verdicts(entity)).is_none_or(|kept| kept.stamp != stamp) {
        return Ok(None);
    }
    let prefers = |step: &Step| step.rule.as_ref().and_then(|r| r.prefer.as_deref()).is_some_and(names_the_night);
    let names = |step: &&Step| step.skipped.is_none() && (names_the_night(&step.expression) || prefers(step));
    let named = night.project.source(entity).is_some_and(|s| s.columns.values().any(|from| names_the_night(from)));
    if named || steps.iter().filter(names).any(|s| !s.checks()) {
        return Ok(None);
    }
    let then = Words::new(parent, &night.project.project.timezone);
    let mut differs = Vec::new();
    for step in steps.iter().filter(names) {
        differs.push(format!("({}) IS DISTINCT FROM ({})", formula::bind(&step.expression, &then)?, step.expression));
    }
    if night.project.quality.events_after_as_of == AfterAsOf::SetAside {
        let later = entity.after();
        differs.push(format!("coalesce({}, false) <> coalesce({later}, false)", formula::bind(later, &then)?));
    }
    let judged = judge(night, entity, mapping, steps, rows).await?;
    if !differs.is_empty() {
        let query = format!("SELECT count(*) AS n FROM rows WHERE {}", differs.join(" OR "));
        let counted = rows::collect(night.over(&query, &[("rows", &judged.all)]).await?).await?;
        if rows::integers(&counted, "n")?.first() != Some(&Some(0)) {
            return Ok(None);
        }
    }
    let query = format!("SELECT * FROM inputs WHERE source = {}", text(entity.name()));
    let counted = rows::collect(night.over(&query, &[("inputs", inputs)]).await?).await?;
    let counted = conform(night.engine.session().read_batch(counted)?, &night.table("inputs")?)?;
    Ok(Some((Cleaned { stamp, ..judged }, counted)))
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
