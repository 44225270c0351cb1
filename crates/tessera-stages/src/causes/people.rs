//! The people of two nights, and what they add to sums on either.

use std::collections::BTreeMap;

use datafusion::{arrow::array::RecordBatch, prelude::DataFrame};
use tessera_contract::AsOf;

use super::{restated, terms::Flow};
use crate::{
    Night, StageError,
    figures::{self, People},
    rows,
};

/// What became of the people of two nights, for every sum.
pub(super) struct Between {
    /// By sum, those of both nights: what they added is what is known of the earlier one now.
    pub flows: Vec<Vec<Flow>>,
    /// By sum, what is known of the earlier night now, and was not.
    pub restated: Vec<Vec<Flow>>,
    /// The people of the earlier night, by what is known of it now, and of this one: what they add to each sum, as `v0`, `v1` and on.
    pub valued: [DataFrame; 2],
    /// Who is a customer of the earlier night only by what is known of it now, and the segment; none, if nothing came late.
    pub late: Option<DataFrame>,
    /// Who is made of other accounts than on the earlier night.
    pub resolved: DataFrame,
    /// Who is in another segment because the model is another, from where and in which; none of nights of which this is not known.
    pub refitted: Option<DataFrame>,
}

impl Between {
    /// Between the people of an earlier night and those of this one. The causes of moves are known of the last night before this one.
    pub(super) async fn of(
        night: &Night<'_>,
        as_of: AsOf,
        tables: &BTreeMap<String, DataFrame>,
        previous: bool,
        sums: &[String],
    ) -> Result<Self, StageError> {
        let now = People::of_tonight(night).await?;
        let then = People::of(night, tables, &now).await?;
        let sums: Vec<&str> = sums.iter().map(String::as_str).collect();
        let resolved = resolved(night, tables).await?;
        let known_now = match previous {
            true => restated::restated(night, as_of, tables, (&then, &now), &sums, &resolved).await?,
            false => None,
        };
        let before = valued(night, &then, &sums).await?;
        let after = valued(night, &now, &sums).await?;
        let valued_now = after.clone();
        let refitted = "SELECT customer_key, from_segment_id, to_segment_id FROM moves WHERE cause IN ('refit', 'released') AND from_segment_id IS NOT NULL AND to_segment_id IS NOT NULL";
        let refitted = match previous {
            true => Some(night.over(refitted, &[("moves", night.input("segment_moves")?)]).await?),
            false => None,
        };
        let query = match previous {
            true => "SELECT p.*, m.cause FROM people AS p LEFT JOIN moves AS m ON p.customer_key = m.customer_key",
            false => "SELECT *, '' AS cause FROM people",
        };
        let after = night.over(query, &[("people", &after), ("moves", night.input("segment_moves")?)]).await?;
        let (mut earlier, mut found) = (before.clone(), vec![Vec::new(); sums.len()]);
        let mut late = None;
        if let Some(known) = &known_now {
            let query = "SELECT c.customer_key, c.segment_id FROM known AS c LEFT ANTI JOIN \
                 (SELECT customer_key FROM before WHERE segment_id >= 0) AS a ON c.customer_key = a.customer_key";
            late = Some(night.over(query, &[("known", known), ("before", &before)]).await?);
            let changes: String = (0..sums.len())
                .map(|at| format!(", coalesce(a.v{at}, 0) AS x{at}, c.v{at} - coalesce(a.v{at}, 0) AS y{at}"))
                .collect();
            let query = format!(
                "SELECT a.segment_id AS was, b.segment_id AS is, '' AS why{changes} FROM known AS c \
                 LEFT JOIN before AS a ON c.customer_key = a.customer_key LEFT JOIN after AS b ON c.customer_key = b.customer_key"
            );
            let places = valued(night, &now, &[]).await?;
            let each = night.over(&query, &[("known", known), ("before", &before), ("after", &places)]).await?;
            found = flows(night, &each, sums.len()).await?;
            let values: String = (0..sums.len()).map(|at| format!(", coalesce(c.v{at}, a.v{at}) AS v{at}")).collect();
            let query = format!(
                "SELECT coalesce(a.customer_key, c.customer_key) AS customer_key, a.segment_id{values} \
                 FROM known AS c FULL JOIN before AS a ON c.customer_key = a.customer_key"
            );
            earlier = night.over(&query, &[("known", known), ("before", &before)]).await?;
        }
        let valued = [earlier.clone(), valued_now];
        let marked = "SELECT p.*, r.customer_key IS NOT NULL AS resolved FROM people AS p LEFT JOIN resolved AS r ON p.customer_key = r.customer_key";
        let earlier = night.over(marked, &[("people", &earlier), ("resolved", &resolved)]).await?;
        let after = night.over(marked, &[("people", &after), ("resolved", &resolved)]).await?;
        let changes: String = (0..sums.len())
            .map(|at| format!(", coalesce(a.v{at}, 0) AS x{at}, coalesce(b.v{at}, 0) - coalesce(a.v{at}, 0) AS y{at}"))
            .collect();
        let query = format!(
            "SELECT a.segment_id AS was, b.segment_id AS is, \
             CASE WHEN a.resolved OR b.resolved THEN 'identity' ELSE coalesce(b.cause, '') END AS why{changes} \
             FROM a FULL JOIN b ON a.customer_key = b.customer_key"
        );
        let each = night.over(&query, &[("a", &earlier), ("b", &after)]).await?;
        let flows = flows(night, &each, sums.len()).await?;
        Ok(Self { flows, restated: found, valued, late, resolved, refitted })
    }
}

/// The people of a night with their segment and what they add to sums.
async fn valued(night: &Night<'_>, people: &People, sums: &[&str]) -> Result<DataFrame, StageError> {
    let columns = figures::columns(sums);
    let query = format!("SELECT customer_key, segment_id{columns} FROM {}", people.everybody(night, sums));
    night.over(&query, &people.tables()).await
}

/// Customers who are made of other accounts than on an earlier night, which knew these accounts.
async fn resolved(night: &Night<'_>, tables: &BTreeMap<String, DataFrame>) -> Result<DataFrame, StageError> {
    let missing = || StageError::Data("a published night left no table accounts".into());
    let then = tables.get("accounts").ok_or_else(missing)?;
    let query = "SELECT t.customer_key AS was, n.customer_key AS is FROM t JOIN n ON t.account_key = n.account_key \
                 WHERE t.customer_key <> n.customer_key";
    let pairs = night
        .materialised(night.over(query, &[("t", then), ("n", night.input("accounts")?)]).await?, "resolved")
        .await?;
    let query = "SELECT was AS customer_key FROM pairs UNION SELECT \"is\" FROM pairs";
    night.over(query, &[("pairs", &pairs)]).await
}

/// What people add, together, by where they were and are: of each sum `x`, what they added, and `y`, what they add otherwise.
async fn flows(night: &Night<'_>, people: &DataFrame, sums: usize) -> Result<Vec<Vec<Flow>>, StageError> {
    let moments: String = (0..sums)
        .map(|at| format!(", moments(x{at}, y{at}) AS m{at}, count(*) FILTER (WHERE x{at} + y{at} <> 0) AS n{at}"))
        .collect();
    let query = format!("SELECT was, \"is\", why{moments} FROM people GROUP BY was, \"is\", why");
    let batch = rows::collect(night.over(&query, &[("people", people)]).await?).await?;
    (0..sums).map(|at| of_sum(&batch, at)).collect()
}

fn of_sum(batch: &RecordBatch, at: usize) -> Result<Vec<Flow>, StageError> {
    let (was, is, why) = (rows::integers(batch, "was")?, rows::integers(batch, "is")?, rows::texts(batch, "why")?);
    let moments = rows::fields(batch, &format!("m{at}"))?;
    let some_now = rows::integers(batch, &format!("n{at}"))?;
    let (then, change) = (rows::money(&moments, "sum_x")?, rows::money(&moments, "sum_y")?);
    let (some_then, changed) = (rows::integers(&moments, "some_x")?, rows::integers(&moments, "some_y")?);
    let flow = |row: usize| Flow {
        was: was[row],
        is: is[row],
        why: why[row].clone().unwrap_or_default(),
        then: then[row].unwrap_or(0),
        change: change[row].unwrap_or(0),
        some_then: some_then[row].unwrap_or(0),
        changed: changed[row].unwrap_or(0),
        some_now: some_now[row].unwrap_or(0),
    };
    Ok((0..batch.num_rows()).map(flow).collect())
}
