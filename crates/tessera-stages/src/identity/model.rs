//! What agreement weighs: learned of the night's accounts, or read as an earlier night learned it.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray},
    prelude::DataFrame,
};
use tessera_algo::fellegi_sunter::{self, Pattern, Shape};
use tessera_contract::project::matching::{Contradiction, Train};
use tessera_engine::formula::quote;

use super::{
    Plan,
    fields::Blocks,
    pairs::{self, BIT},
};
use crate::{Night, StageError, rows};

/// Pairs that weights are learned of, at most about.
const PAIRS: u64 = 1_000_000;
/// Accounts that are compared each with each.
const RANDOM: u64 = 1_200;
/// Frequent values of a field that have a weight of their own.
const TERMS: u64 = 1_000;

/// The parameters, weights in millionths of a bit.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub prior: i64,
    /// Of each comparison, of each level: m, u and the weight.
    pub levels: Vec<Vec<(f64, f64, i64)>>,
    /// By comparison, what is added to the weight of an equal value.
    pub terms: BTreeMap<usize, Terms>,
    /// By contradiction, whether it proves anything in these data.
    holds: BTreeMap<String, bool>,
    trained_on: u64,
    trained_at: i32,
    definition: String,
    verdicts: String,
}

/// What frequent values weigh less, or rare ones more.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    /// Value, its share of the accounts, and what it adds.
    frequent: Vec<(String, f64, i64)>,
    /// What any other value adds.
    other: i64,
}

impl Model {
    /// Learns the parameters of the night's accounts.
    pub(super) async fn learn(
        night: &Night<'_>,
        plan: &Plan<'_>,
        fields: &DataFrame,
        blocks: &Blocks,
        accounts: u64,
    ) -> Result<Self, StageError> {
        // A pair is in the sample by its first account alone, however many blocks it is in.
        let mut part = 0;
        while part < 10 && blocks.counts.pairs() >> part > PAIRS {
            part += 1;
        }
        let which = if part == 0 { String::new() } else { format!(" AND l._id & {} = 0", (1 << part) - 1) };
        // How often one value of a person is another altogether is asked of pairs that contradict in nothing: otherwise whoever lives together
        // would say that contradictions prove nothing. If they prove something, such pairs are of different people, and nothing is learned of them.
        let (mut calm, mut candidates) = (Vec::new(), Vec::new());
        for at in (0..plan.blocks.len()).filter(|at| blocks.counts.0[*at].1[1] > 0) {
            let made_of = plan.made_of(at)?;
            let (of_calm, of_all) = patterns(night, plan, &pairs::of_block(at, &which), &blocks.frame).await?;
            calm.push(fellegi_sunter::Block { pairs: of_calm, made_of: made_of.clone() });
            candidates.push(fellegi_sunter::Block { pairs: of_all, made_of });
        }
        let query = format!("SELECT *, 1 AS _all FROM f ORDER BY _id LIMIT {RANDOM}");
        let some = night.engine.materialise(night.over(&query, &[("f", fields)]).await?, "some").await?;
        let (_, random) =
            patterns(night, plan, "FROM f AS l JOIN f AS r ON l._all = r._all AND l._id < r._id", &some).await?;
        let shapes: Vec<_> = plan
            .comparisons
            .iter()
            .map(|(_, c)| Shape {
                levels: c.levels.len() + 1,
                exact_at_least: c.exact_at_least,
                different_at_most: c.different_at_most,
            })
            .collect();
        let all = accounts as f64 * (accounts as f64 - 1.0) / 2.0;
        let share = 1.0 / f64::from(1 << part);
        let mut learned = fellegi_sunter::learn(&shapes, &calm, share, &random, all);
        let holds: BTreeMap<String, bool> = plan
            .contradictions
            .iter()
            .map(|(name, c)| {
                let of = c.unless_replaced.as_deref();
                let at = plan.comparisons.iter().position(|(name, _)| Some(*name) == of);
                let (known, different) = at.map_or((0.0, 0.0), |at| learned.seen[at]);
                // Of few matches nothing is believed.
                ((*name).to_owned(), known / share < 100.0 || different < c.replaced_share * known)
            })
            .collect();
        if holds.values().any(|holds| !holds) {
            learned = fellegi_sunter::learn(&shapes, &candidates, share, &random, all);
        }
        let micro = |bits: f64| (bits * BIT).round() as i64;
        let of = |(at, levels): (usize, &Vec<(f64, f64)>)| {
            levels.iter().enumerate().map(|(n, (m, u))| (*m, *u, micro(learned.weight(at, n + 1)))).collect()
        };
        let mut model = Self {
            prior: micro(learned.prior_weight()),
            levels: learned.levels.iter().enumerate().map(of).collect(),
            terms: BTreeMap::new(),
            holds,
            trained_on: accounts,
            trained_at: night.as_of.days(),
            definition: plan.definition(night),
            verdicts: plan.verdicts(night),
        };
        for (at, (_, comparison)) in plan.comparisons.iter().enumerate() {
            if let Some(field) = &comparison.terms {
                let agreeing = model.levels[at][0].1;
                model.terms.insert(at, Terms::learn(night, fields, field, agreeing).await?);
            }
        }
        Ok(model)
    }

    /// The parameters of an earlier night, if they are still good.
    pub(super) async fn read(
        night: &Night<'_>,
        plan: &Plan<'_>,
        before: &DataFrame,
        accounts: u64,
    ) -> Result<Option<Self>, StageError> {
        if night.project.identity.train == Train::Always {
            return Ok(None);
        }
        let query = "SELECT *, arrow_cast(trained_at, 'Int32') AS day FROM model ORDER BY parameter, comparison, level";
        let batch = rows::collect(night.over(query, &[("model", before)]).await?).await?;
        let text = |name: &str| rows::texts(&batch, name);
        let (parameters, comparisons, levels) = (text("parameter")?, text("comparison")?, text("level")?);
        let (definitions, trained_on) = (text("definition")?, rows::integers(&batch, "trained_on")?);
        let trained_at = rows::integers(&batch, "day")?;
        let (ms, us, weights) =
            (rows::floats(&batch, "m")?, rows::floats(&batch, "u")?, rows::floats(&batch, "weight")?);
        let definition = plan.definition(night);
        let trained_on = trained_on.first().copied().flatten().unwrap_or(0).unsigned_abs();
        if definitions.first().cloned().flatten().as_ref() != Some(&definition)
            || accounts >= trained_on.saturating_mul(2)
        {
            return Ok(None);
        }
        let micro = |at: usize| (weights[at].unwrap_or(0.0) * BIT).round() as i64;
        let trained_at = trained_at.first().copied().flatten().and_then(|day| i32::try_from(day).ok()).unwrap_or(0);
        let mut model = Self {
            prior: 0,
            levels: plan.comparisons.iter().map(|(_, c)| vec![(0.0, 0.0, 0); c.levels.len() + 1]).collect(),
            terms: BTreeMap::new(),
            holds: BTreeMap::new(),
            trained_on,
            trained_at,
            definition,
            verdicts: String::new(),
        };
        for at in 0..batch.num_rows() {
            let comparison = plan.comparisons.iter().position(|(name, _)| comparisons[at].as_deref() == Some(name));
            match (parameters[at].as_deref(), comparison) {
                (Some("prior"), _) => model.prior = micro(at),
                (Some("level"), Some(of)) => {
                    let names = plan.comparisons[of].1.levels.iter().map(|l| l.name.as_str()).chain(["different"]);
                    if let Some(n) = names.into_iter().position(|name| levels[at].as_deref() == Some(name)) {
                        model.levels[of][n] = (ms[at].unwrap_or(0.0), us[at].unwrap_or(0.0), micro(at));
                    }
                }
                (Some("contradiction"), _) => {
                    model.holds.insert(levels[at].clone().unwrap_or_default(), weights[at].is_some_and(|w| w > 0.0));
                }
                (Some("verdicts"), _) => model.verdicts = levels[at].clone().unwrap_or_default(),
                (Some("term"), Some(of)) => {
                    let terms = model.terms.entry(of).or_default();
                    match &levels[at] {
                        Some(value) => terms.frequent.push((value.clone(), us[at].unwrap_or(0.0), micro(at))),
                        None => terms.other = micro(at),
                    }
                }
                _ => {}
            }
        }
        Ok(Some(model))
    }

    /// Whether pairs were told by the rules and contradictions of tonight.
    pub(super) fn tells(&self, plan: &Plan<'_>, night: &Night<'_>) -> bool {
        self.verdicts == plan.verdicts(night)
    }

    /// The same, with tonight's rules and contradictions.
    pub(super) fn telling(self, plan: &Plan<'_>, night: &Night<'_>) -> Self {
        Self { verdicts: plan.verdicts(night), ..self }
    }

    /// The same, by whose rules and contradictions no pair was told.
    pub(super) fn untold(self) -> Self {
        Self { verdicts: String::new(), ..self }
    }

    /// The weights as `match_weight` takes them.
    pub(super) fn weights(&self) -> String {
        let of = |levels: &Vec<(f64, f64, i64)>| levels.iter().map(|l| l.2.to_string()).collect::<Vec<_>>().join(" ");
        self.levels.iter().map(of).collect::<Vec<_>>().join(";")
    }

    /// The contradictions, and whether each proves anything in these data.
    pub(super) fn contradictions<'a>(&self, plan: &Plan<'a>) -> Vec<(&'a str, &'a Contradiction, bool)> {
        let holds = |name: &str| self.holds.get(name).copied().unwrap_or(true);
        plan.contradictions.iter().map(|(name, c)| (*name, *c, holds(name))).collect()
    }

    /// A frame of accounts with what equal values of theirs add, `_t<comparison>`.
    pub(super) async fn with_terms(
        &self,
        night: &Night<'_>,
        plan: &Plan<'_>,
        mut frame: DataFrame,
    ) -> Result<DataFrame, StageError> {
        for (at, terms) in &self.terms {
            let Some(field) = &plan.comparisons[*at].1.terms else { continue };
            let values: ArrayRef =
                Arc::new(terms.frequent.iter().map(|(v, ..)| Some(v.as_str())).collect::<StringArray>());
            let adds: ArrayRef = Arc::new(terms.frequent.iter().map(|(.., add)| Some(*add)).collect::<Int64Array>());
            let table = rows::frame(night.engine, vec![("value", values), ("adds", adds)])?;
            let table = night
                .over("SELECT arrow_cast(value, 'Utf8View') AS value, adds AS _adds FROM t", &[("t", &table)])
                .await?;
            frame = night.engine.look_up(frame, field, (table, terms.frequent.len() as u64), "_adds").await?;
            let query = format!("SELECT * EXCEPT (_adds), coalesce(_adds, {}) AS _t{at} FROM f", terms.other);
            frame = night.over(&query, &[("f", &frame)]).await?;
        }
        Ok(frame)
    }
}

impl Terms {
    /// `agreeing`: the share of pairs of different people who agree in the field.
    async fn learn(night: &Night<'_>, fields: &DataFrame, field: &str, agreeing: f64) -> Result<Self, StageError> {
        let name = quote(field);
        let query = format!(
            "SELECT {name} AS value, count(*) AS n FROM f WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) > 1 \
             ORDER BY n DESC, value LIMIT {TERMS}"
        );
        let batch = rows::collect(night.over(&query, &[("f", fields)]).await?).await?;
        let (values, counts) = (rows::texts(&batch, "value")?, rows::integers(&batch, "n")?);
        let query = format!("SELECT count({name}) AS known FROM f");
        let batch = rows::collect(night.over(&query, &[("f", fields)]).await?).await?;
        let known = rows::integers(&batch, "known")?.first().copied().flatten().unwrap_or(1).max(1) as f64;
        let add = |share: f64| ((agreeing / share).log2().clamp(-8.0, 8.0) * BIT).round() as i64;
        let share = |n: i64| n as f64 / known;
        let mut frequent: Vec<_> = values
            .into_iter()
            .zip(&counts)
            .filter_map(|(value, n)| Some((value?, share((*n)?), add(share((*n)?)))))
            .collect();
        let rarest = frequent.last().map_or(1.0 / known, |(_, share, _)| *share);
        frequent.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { frequent, other: add(rarest) })
    }
}

/// The pairs of a query from its FROM on by pattern, in the order of these: those that contradict in nothing, and all.
async fn patterns(
    night: &Night<'_>,
    plan: &Plan<'_>,
    from: &str,
    frame: &DataFrame,
) -> Result<(Vec<(Pattern, u64)>, Vec<(Pattern, u64)>), StageError> {
    let query = format!(
        "SELECT levels, against, count(*) AS n FROM (SELECT {} AS levels, {} AS against {from}) GROUP BY levels, against",
        pairs::levels(plan),
        pairs::contradict(plan)
    );
    let batch = rows::collect(night.over(&query, &[("f", frame)]).await?).await?;
    let (levels, against) = (rows::integers(&batch, "levels")?, rows::integers(&batch, "against")?);
    let counts = rows::integers(&batch, "n")?;
    let (mut calm, mut all): (BTreeMap<Pattern, u64>, BTreeMap<Pattern, u64>) = Default::default();
    for ((levels, against), n) in levels.into_iter().zip(against).zip(counts) {
        let (levels, n) = (levels.unwrap_or(0).cast_unsigned(), n.unwrap_or(0).unsigned_abs());
        *all.entry(levels).or_default() += n;
        if against == Some(0) {
            *calm.entry(levels).or_default() += n;
        }
    }
    Ok((calm.into_iter().collect(), all.into_iter().collect()))
}

/// The parameters as rows of `identity_model`.
pub(super) fn table(night: &Night<'_>, model: Option<&Model>, plan: &Plan<'_>) -> Result<DataFrame, StageError> {
    type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<f64>, Option<f64>, f64);
    let mut all: Vec<Row<'_>> = Vec::new();
    if let Some(model) = model {
        let bits = |micro: i64| micro as f64 / BIT;
        all.push(("prior", None, None, None, None, bits(model.prior)));
        for ((name, comparison), levels) in plan.comparisons.iter().zip(&model.levels) {
            let names = comparison.levels.iter().map(|l| l.name.as_str()).chain(["different"]);
            for (level, (m, u, weight)) in names.zip(levels) {
                all.push(("level", Some(name), Some(level), Some(*m), Some(*u), bits(*weight)));
            }
        }
        for (name, holds) in &model.holds {
            all.push(("contradiction", None, Some(name), None, None, f64::from(u8::from(*holds))));
        }
        all.push(("verdicts", None, Some(&model.verdicts), None, None, 0.0));
        for (at, terms) in &model.terms {
            let name = plan.comparisons[*at].0;
            all.push(("term", Some(name), None, None, None, bits(terms.other)));
            for (value, share, adds) in &terms.frequent {
                all.push(("term", Some(name), Some(value), None, Some(*share), bits(*adds)));
            }
        }
    }
    let (trained_on, trained_at) = model.map_or((0, 0), |m| (m.trained_on, m.trained_at));
    let texts =
        |of: &dyn Fn(&Row<'_>) -> Option<String>| Arc::new(all.iter().map(of).collect::<StringArray>()) as ArrayRef;
    let floats =
        |of: &dyn Fn(&Row<'_>) -> Option<f64>| Arc::new(all.iter().map(of).collect::<Float64Array>()) as ArrayRef;
    let days = arrow::array::Date32Array::from(vec![trained_at; all.len()]);
    let on = Int64Array::from(vec![i64::try_from(trained_on).unwrap_or(i64::MAX); all.len()]);
    let definition = model.map(|m| m.definition.clone()).unwrap_or_default();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("parameter", texts(&|r| Some(r.0.to_owned())), true),
        ("comparison", texts(&|r| r.1.map(str::to_owned)), true),
        ("level", texts(&|r| r.2.map(str::to_owned)), true),
        ("m", floats(&|r| r.3), true),
        ("u", floats(&|r| r.4), true),
        ("weight", floats(&|r| Some(r.5)), true),
        ("trained_on", Arc::new(on) as ArrayRef, true),
        ("trained_at", Arc::new(days) as ArrayRef, true),
        ("definition", texts(&|_| Some(definition.clone())), true),
    ])?;
    Ok(night.engine.session().read_batch(batch)?)
}
