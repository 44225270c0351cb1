//! A source that is judged as a whole, on a night that finds the files of the parent night: what was found of its rows stays, and
//! only those that waited are judged, together with the rows that they rival. Whose place they take leaves.

use datafusion::{logical_expr::ident, prelude::DataFrame};
use tessera_contract::{Entity, Severity, project::AfterAsOf};
use tessera_engine::formula::{self, Words, quote};

use super::{
    Judge, Step,
    arrivals::{arrivals, names_the_night, waited, waiting},
    inputs,
    rivals::Census,
    routes::{self, NAMED},
};
use crate::{Night, Outcome, Output, Source, StageError, rows};

/// The name under which it is kept how a source was judged that is judged as a whole.
pub(super) fn verdicts(entity: Entity) -> String {
    format!("verdicts_{entity}")
}

/// What a source is known to be without judging it.
pub(super) struct Again {
    pub judge: Judge,
    /// The count of its files.
    pub files: DataFrame,
    /// What became of the rows that waited, if any does so no more.
    come: Option<Come>,
}

/// What changes by rows that waited and do so no more.
struct Come {
    /// What became of the rows that waited, and of those that left for one of them.
    decided: DataFrame,
    /// The accounts of clean rows that left (`account_key`, and that they did), and how many these are.
    lost: (DataFrame, u64),
}

/// The source as the parent night judged it, if its files are the same, and no row that was judged then is judged differently now,
/// but for those whose place is taken by a row that waited.
pub(super) async fn again(night: &Night<'_>, source: &Source) -> Result<Option<Again>, StageError> {
    let entity = source.entity;
    let (Some(parent), Some(inputs)) = (night.parent, night.previous.get("inputs")) else { return Ok(None) };
    let unknown = !night.previous.contains_key("account_ids");
    if source.feeds.iter().any(|feed| feed.rows.is_none())
        || !source.unchanged
        || entity != Entity::Customers
        || unknown
    {
        return Ok(None);
    }
    let judge = Judge::of(night, source).await?;
    if night.kept.get(&verdicts(entity)).is_none_or(|kept| kept.stamp != judge.stamp) {
        return anew(entity, "their rules, their columns or the program changed");
    }
    let prefers = |step: &Step| step.rule.as_ref().and_then(|r| r.prefer.as_deref()).is_some_and(names_the_night);
    let names = |step: &&Step| step.skipped.is_none() && (names_the_night(&step.expression) || prefers(step));
    let feeds = night.project.feeds(entity);
    let named = feeds.iter().any(|feed| feed.source.columns.values().any(|from| names_the_night(from)));
    if named || judge.steps.iter().filter(names).any(|s| !s.checks()) {
        return anew(entity, "a column or a rule that is no check asks for the night");
    }
    let waited = match waited(night, entity, &judge.mapping).await {
        Err(StageError::ReadAll { why, .. }) => return anew(entity, &why),
        waited => judge.judged(night, &waited?).await?,
    };
    let come = night.over("SELECT * FROM waited WHERE NOT later", &[("waited", &waited)]).await?;
    let come = (rows::count(night, &come).await? > 0).then_some(come);

    let then = Words::new(parent, &night.project.project.timezone);
    let after = format!("coalesce({}, false)", formula::bind(entity.after(), &then)?);
    let rows = judge.judged(night, &arrivals(night, source, &judge.mapping).await?).await?;
    let mut differs = Vec::new();
    for step in judge.steps.iter().filter(names) {
        differs.push(format!("({}) IS DISTINCT FROM ({})", formula::bind(&step.expression, &then)?, step.expression));
    }
    let then_later = match night.project.quality.events_after_as_of {
        AfterAsOf::SetAside => after.as_str(),
        AfterAsOf::Keep => "false",
    };
    let compares = judge.compares()?;
    let mut asked = Vec::new();
    if !differs.is_empty() {
        asked.push(format!("SELECT 1 FROM rows WHERE NOT {then_later} AND ({})", differs.join(" OR ")));
    }
    if night.project.quality.events_after_as_of == AfterAsOf::Keep {
        // A row that is kept though the night did not know it took nobody's place.
        for compare in compares.iter().filter(|c| c.rule.severity == Severity::Supersede) {
            let hash = quote(&compare.hash);
            let query = format!("SELECT 1 FROM rows GROUP BY {hash} HAVING count(*) > 1 AND bool_or({after} <> after)");
            asked.push(query);
        }
    }
    for query in asked {
        let found = night.over(&query, &[("rows", &rows)]).await?;
        if rows::count(night, &found).await? > 0 {
            return anew(entity, "a verdict depends on the night");
        }
    }

    let later = inputs::later(night, entity, &waited).await?;
    let files = inputs::known(night, entity, inputs, None, later).await?;
    let Some(come) = come else { return Ok(Some(Again { judge, files, come: None })) };
    let mut all = night.over("SELECT *, true AS came FROM waited", &[("waited", &waited)]).await?;
    // Rows that are the same in every column waited together, and agree in whatever else is compared.
    let compares: Vec<_> = compares.iter().filter(|c| c.rule.by != ["*"]).collect();
    let rivals = match compares.as_slice() {
        [] => None,
        [compare] => rivals(night, source, &judge, &compare.hash, (&come, rows, then_later)).await?,
        _ => return anew(entity, "rows waited for this night, and more than one rule compares rows"),
    };
    let mut left = None;
    if let Some(rivals) = rivals {
        let keyed = judge.keyed(night, rivals.clone(), None).await?;
        left = Some(Census::of_nothing().decide(night, &judge, &keyed).await?);
        all = all.union(night.over("SELECT *, false AS came FROM rivals", &[("rivals", &rivals)]).await?)?;
    }
    let keyed = judge.keyed(night, all, None).await?;
    let decided = Census::of_nothing().decide(night, &judge, &keyed).await?;
    let decided = night.engine.materialise(decided, &format!("{entity}_decided")).await?;
    let come = Come::of(night, entity, decided, left).await?;
    if let Some(ids) = night.previous.get("account_ids") {
        // Otherwise there would be two rows of somebody, or none.
        let query = "SELECT 1 FROM \
                     (SELECT c.account_key AS key FROM come AS c JOIN ids ON c.customer_id = ids.customer_id \
                     WHERE c.came AND NOT c.waits AND c.leaving = 0) AS known \
                     FULL JOIN lost ON known.key = lost.account_key WHERE known.key IS NULL OR lost.account_key IS NULL";
        let tables = [("come", &come.decided), ("ids", ids), ("lost", &come.lost.0)];
        let found = night.over(query, &tables).await?;
        if rows::count(night, &found).await? > 0 {
            return anew(
                entity,
                "a row that waited for this night is of somebody who was known, and takes nobody's place",
            );
        }
    }
    Ok(Some(Again { judge, files, come: Some(come) }))
}

/// The rows, judged, that the parent night compared and that agree in a hash with one of those that `come`: found among all `rows` of
/// the source, without those that were later `then`.
async fn rivals(
    night: &Night<'_>,
    source: &Source,
    judge: &Judge,
    hash: &str,
    (come, rows, then_later): (&DataFrame, DataFrame, &str),
) -> Result<Option<DataFrame>, StageError> {
    let query = format!("SELECT DISTINCT {} AS h, true AS rival FROM come", quote(hash));
    let hashes = night.engine.materialise(night.over(&query, &[("come", come)]).await?, hash).await?;
    let count = rows::count(night, &hashes).await?;
    let rows = night.engine.look_up(rows, hash, (hashes, count), "rival").await?;
    let query = format!("SELECT _locator, rival FROM rows WHERE NOT {then_later} AND rival IS NOT NULL");
    let found = night.over(&query, &[("rows", &rows)]).await?;
    let found = night.engine.materialise(found, &format!("{}_rivals", judge.entity)).await?;
    let count = rows::count(night, &found).await?;
    if count == 0 {
        return Ok(None);
    }
    // Few of all rows: the others are neither typed nor judged.
    let mut rivals = Vec::new();
    for all in arrivals(night, source, &judge.mapping).await? {
        let all = night.engine.look_up(all, "_locator", (found.clone(), count), "rival").await?;
        rivals.push(all.filter(ident("rival").is_not_null())?.drop_columns(&["rival"])?);
    }
    let judged = judge.judged(night, &rivals).await?;
    Ok(Some(night.engine.materialise(judged, &format!("{}_rivaled", judge.entity)).await?))
}

/// All rows of the source are judged, and why.
fn anew(entity: Entity, why: &str) -> Result<Option<Again>, StageError> {
    tracing::info!("all {entity} are judged, though their files are the same: {why}");
    Ok(None)
}

impl Again {
    /// Leaves what the parent night found, and beside it what came to be judged. Whom the clean rows among that name.
    pub(super) async fn leave(
        &self,
        night: &Night<'_>,
        source: &Source,
        outcome: &mut Outcome,
    ) -> Result<Option<DataFrame>, StageError> {
        let entity = source.entity;
        outcome.stays("quarantine", entity.name());
        outcome.stays("quarantine", &format!("{entity}/waiting"));
        let waiting: Vec<_> = source.feeds.iter().map(|feed| waiting(entity, feed.name.as_deref())).collect();
        for name in waiting.iter().chain([&verdicts(entity)]) {
            outcome.stamps.insert(name.clone(), self.judge.stamp.clone());
        }
        let table = entity.clean_table();
        let Some(come) = &self.come else {
            outcome.stays(&table, "");
            waiting.iter().for_each(|name| outcome.stays(name, ""));
            return Ok(None);
        };
        match night.previous.get(&table) {
            Some(before) if come.lost.1 > 0 => {
                let rows = night.engine.look_up(before.clone(), "account_key", come.lost.clone(), "left").await?;
                let rows = rows.filter(ident("left").is_null())?.drop_columns(&["left"])?;
                night.write(outcome, Output::table(night, &table, rows)?).await?;
            }
            _ => outcome.stays(&table, ""),
        }
        let routes = routes::routes(night, source, &self.judge, &come.decided, true).await?;
        let mut frames = night.write(outcome, Output { frame: come.decided.clone(), routes }).await?;
        Ok(frames.remove(NAMED))
    }
}

impl Come {
    /// Of `decided` rows, those that came, and those that left for them: of the others, it was decided before which had `left`.
    async fn of(
        night: &Night<'_>,
        entity: Entity,
        decided: DataFrame,
        left: Option<DataFrame>,
    ) -> Result<Self, StageError> {
        let came = night.over("SELECT * FROM decided WHERE came", &[("decided", &decided)]).await?;
        let Some(left) = left else {
            let nobody = "SELECT account_key, true AS \"left\" FROM came WHERE false";
            return Ok(Self { lost: (night.over(nobody, &[("came", &came)]).await?, 0), decided: came });
        };
        let query = "SELECT d.* FROM decided AS d LEFT ANTI JOIN \
                     (SELECT _locator FROM \"before\" WHERE leaving <> 0) AS b ON d._locator = b._locator \
                     WHERE NOT d.came AND d.leaving <> 0";
        let leave = night.over(query, &[("decided", &decided), ("before", &left)]).await?;
        let leave = night.engine.materialise(leave, &format!("{entity}_leave")).await?;
        let query = "SELECT account_key, true AS \"left\" FROM leave";
        let lost = night.over(query, &[("leave", &leave)]).await?;
        let count = rows::count(night, &lost).await?;
        Ok(Self { decided: came.union(leave)?, lost: (lost, count) })
    }
}
