//! A source that is judged as a whole, on a night that finds the files of the parent night: what was found of its rows stays, and
//! only those that waited are judged.

use datafusion::prelude::DataFrame;
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
    come: Option<DataFrame>,
}

/// The source as the parent night judged it, if its files are the same, no row that was judged then is judged differently now, and
/// none has a rival among those that waited and do so no more.
pub(super) async fn again(night: &Night<'_>, source: &Source) -> Result<Option<Again>, StageError> {
    let entity = source.entity;
    let (Some(parent), Some(inputs)) = (night.parent, night.previous.get("inputs")) else { return Ok(None) };
    if source.rows.is_none() || !source.unchanged || entity != Entity::Customers {
        return Ok(None);
    }
    let judge = Judge::of(night, source).await?;
    if night.kept.get(&verdicts(entity)).is_none_or(|kept| kept.stamp != judge.stamp) {
        return anew(entity, "their rules, their columns or the program changed");
    }
    let prefers = |step: &Step| step.rule.as_ref().and_then(|r| r.prefer.as_deref()).is_some_and(names_the_night);
    let names = |step: &&Step| step.skipped.is_none() && (names_the_night(&step.expression) || prefers(step));
    let named = night.project.source(entity).is_some_and(|s| s.columns.values().any(|from| names_the_night(from)));
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
    let mut rows = judge.judged(night, &arrivals(night, source, &judge.mapping).await?).await?;
    let mut differs = Vec::new();
    for step in judge.steps.iter().filter(names) {
        differs.push(format!("({}) IS DISTINCT FROM ({})", formula::bind(&step.expression, &then)?, step.expression));
    }
    let compares = judge.compares()?;
    if let Some(come) = &come {
        // Rows that are the same in every column waited together.
        for compare in compares.iter().filter(|c| c.rule.by != ["*"]) {
            let query = format!("SELECT DISTINCT {} AS h, true AS rival FROM come", quote(&compare.hash));
            let hashes = night.engine.materialise(night.over(&query, &[("come", come)]).await?, &compare.hash).await?;
            let (count, flag) = (rows::count(night, &hashes).await?, format!("rival.{}", compare.bit));
            rows = night.engine.look_up(rows, &compare.hash, (hashes, count), &flag).await?;
            differs.push(format!("{} IS NOT NULL", quote(&flag)));
        }
    }
    let mut asked = Vec::new();
    if !differs.is_empty() {
        let waited = match night.project.quality.events_after_as_of {
            AfterAsOf::SetAside => after.as_str(),
            AfterAsOf::Keep => "false",
        };
        asked.push(format!("SELECT 1 FROM rows WHERE NOT {waited} AND ({})", differs.join(" OR ")));
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
            return anew(
                entity,
                "a verdict depends on the night, or a row that waited for it has a rival among the others",
            );
        }
    }

    let later = inputs::later(night, entity, &waited).await?;
    let files = inputs::known(night, entity, inputs, None, later).await?;
    let Some(come) = come else { return Ok(Some(Again { judge, files, come: None })) };
    if let Some(identity) = night.previous.get("identity") {
        let query = "SELECT 1 FROM come JOIN identity ON come.customer_id = identity.customer_id";
        let found = night.over(query, &[("come", &come), ("identity", identity)]).await?;
        if rows::count(night, &found).await? > 0 {
            return anew(entity, "a row that waited for this night is of somebody who was known");
        }
    }
    let keyed = judge.keyed(night, waited, None).await?;
    let come = Some(Census::of_nothing().decide(night, &judge, &keyed).await?);
    Ok(Some(Again { judge, files, come }))
}

/// All rows of the source are judged, and why.
fn anew(entity: Entity, why: &str) -> Result<Option<Again>, StageError> {
    tracing::info!("all {entity} are judged, though their files are the same: {why}");
    Ok(None)
}

impl Again {
    /// Leaves what the parent night found, and beside it what came to be judged. Of that, whom clean rows name.
    pub(super) async fn leave(
        &self,
        night: &Night<'_>,
        source: &Source,
        outcome: &mut Outcome,
    ) -> Result<Option<DataFrame>, StageError> {
        let entity = source.entity;
        outcome.stays(&entity.clean_table(), "");
        outcome.stays("quarantine", entity.name());
        outcome.stays("quarantine", &format!("{entity}/waiting"));
        for name in [verdicts(entity), waiting(entity)] {
            outcome.stamps.insert(name, self.judge.stamp.clone());
        }
        let Some(come) = &self.come else {
            outcome.stays(&waiting(entity), "");
            return Ok(None);
        };
        let routes = routes::routes(night, source, &self.judge, come, true).await?;
        let mut frames = night.write(outcome, Output { frame: come.clone(), routes }).await?;
        Ok(frames.remove(NAMED))
    }
}
