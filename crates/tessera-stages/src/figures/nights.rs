//! Another published night, against which a night is held.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::prelude::DataFrame;

use super::{AT_ONCE, Sums, TELLING, Told, Values, columns, joined};
use crate::{
    StageError, rows, scaled,
    suppress::{Hidden, Moves},
};

/// Another night that is published.
pub(super) struct Other {
    customers: DataFrame,
    value: DataFrame,
    features: DataFrame,
    assigned: DataFrame,
    pub(super) segments: Vec<i64>,
    told: BTreeSet<(String, String, String, Option<i64>)>,
    pub(super) values: Values,
}

/// This night, as another is held against it.
pub(super) struct Now<'a> {
    pub(super) expressions: &'a [&'a str],
    pub(super) values: &'a Values,
    pub(super) segments: &'a [i64],
    pub(super) threshold: Option<i64>,
}

impl Other {
    pub(super) async fn of(
        sums: &Sums<'_>,
        tables: &BTreeMap<String, DataFrame>,
        expressions: &[&str],
        threshold: Option<i64>,
    ) -> Result<Self, StageError> {
        let night = sums.night;
        let table = |name: &str| {
            let missing = || StageError::Data(format!("a published night left no table {name}"));
            tables.get(name).ok_or_else(missing)
        };
        let customers =
            night.customers_of(table("clean_customers")?, table("accounts")?, tables.get("golden_records")).await?;
        let mut told = BTreeSet::new();
        for (name, of, columns) in TELLING {
            let known: String = columns.iter().map(|c| format!(", {c} IS NOT NULL AS {c}")).collect();
            let frame =
                night.over(&format!("SELECT segment_id, {of}{known} FROM told"), &[("told", table(name)?)]).await?;
            let batch = rows::collect(frame).await?;
            let (ids, of) = (rows::integers(&batch, "segment_id")?, rows::texts(&batch, of)?);
            for column in columns {
                let known = rows::integers(&batch, column)?;
                for row in (0..known.len()).filter(|row| known[*row] == Some(1)) {
                    told.insert((name.to_owned(), of[row].clone().unwrap_or_default(), (*column).to_owned(), ids[row]));
                }
            }
        }
        // Nights before there was one predicted nothing.
        let value = match tables.get("customer_value") {
            Some(value) => value.clone(),
            None => night.over("SELECT * FROM v WHERE false", &[("v", &sums.value)]).await?,
        };
        let joined = joined(night, &customers, &value, expressions);
        let (features, assigned) = (table("features")?.clone(), table("segments")?.clone());
        let given = [("features", &features), ("segments", &assigned), ("customers", &customers), ("value", &value)];
        let values = sums.values(&joined, &given, expressions, &scaled::below(threshold)).await?;
        let ids = rows::collect(night.over("SELECT DISTINCT segment_id FROM segments", &given).await?).await?;
        let mut segments: Vec<i64> = rows::integers(&ids, "segment_id")?.into_iter().flatten().collect();
        segments.sort_unstable();
        Ok(Self { customers, value, features, assigned, segments, told, values })
    }

    /// What it hides of a sum.
    pub(super) fn hidden(&self, places: &[Told]) -> Hidden {
        let tells = |told: &Told, column: &str, segment: Option<i64>| {
            self.told.contains(&(told.table.to_owned(), told.of.clone(), column.to_owned(), segment))
        };
        let of_all = |told: &Told| match told.total {
            None => tells(told, told.column, None),
            Some(column) => self.segments.iter().any(|id| tells(told, column, Some(*id))),
        };
        Hidden {
            groups: self
                .segments
                .iter()
                .map(|id| !places.iter().any(|told| tells(told, told.column, Some(*id))))
                .collect(),
            total: !places.iter().any(of_all),
        }
    }

    /// Who was where and is where, for each of some sums.
    pub(super) async fn moves(
        &self,
        sums: &Sums<'_>,
        now: &Now<'_>,
        asked: &[(usize, Hidden)],
    ) -> Result<Vec<Moves>, StageError> {
        let Now { expressions, values: now, segments, threshold } = *now;
        let place = |ids: &[i64], id: i64| ids.binary_search(&id).ok();
        let mut left: HashMap<&str, usize> =
            self.values.keys.iter().enumerate().map(|(i, key)| (key.as_str(), i)).collect();
        let mut pairs: Vec<(Option<usize>, Option<usize>)> = Vec::new();
        for (i, key) in now.keys.iter().enumerate().filter(|(i, _)| threshold.is_none_or(|t| now.hashes[*i] < t)) {
            pairs.push((left.remove(key.as_str()), Some(i)));
        }
        pairs.extend(left.into_values().map(|i| (Some(i), None)));
        let k = sums.night.project.privacy.k;
        let (mut found, mut open) = (Vec::new(), Vec::new());
        for (at, (sum, _)) in asked.iter().enumerate() {
            let mut moves = Moves::new(self.segments.len(), segments.len());
            for (then, later) in &pairs {
                let value = |values: &Values, i: &Option<usize>| i.map_or(0, |i| values.of[*sum][i]);
                let from = then.and_then(|i| place(&self.segments, self.values.segments[i]));
                let to = later.and_then(|i| place(segments, now.segments[i]));
                moves.add(from, to, [value(&self.values, then), value(now, later)]);
            }
            if threshold.is_some() && moves.undecided(k) {
                open.push(at);
            }
            found.push(moves);
        }
        for some in open.chunks(AT_ONCE / 3) {
            let expressions: Vec<&str> = some.iter().map(|at| expressions[asked[*at].0]).collect();
            let values = columns(&expressions);
            let counts: String = (0..expressions.len())
                .map(|at| {
                    format!(
                        ", count(*) FILTER (WHERE coalesce(a.v{at}, 0) <> coalesce(b.v{at}, 0)) AS c{at}, count(*) FILTER (WHERE a.v{at} <> 0) AS t{at}, count(*) FILTER (WHERE b.v{at} <> 0) AS n{at}"
                    )
                })
                .collect();
            let night = sums.night;
            let before = [
                ("features", &self.features),
                ("segments", &self.assigned),
                ("customers", &self.customers),
                ("value", &self.value),
            ];
            let query = |joined: &str| format!("SELECT customer_key, segment_id{values} FROM {joined}");
            let then = night.over(&query(&joined(night, &self.customers, &self.value, &expressions)), &before).await?;
            let now = night.over(&query(&sums.joined(&expressions)), &sums.tables()?).await?;
            let query = format!(
                "SELECT a.segment_id AS was, b.segment_id AS is{counts} FROM a FULL JOIN b ON a.customer_key = b.customer_key GROUP BY 1, 2"
            );
            let batch = rows::collect(night.over(&query, &[("a", &then), ("b", &now)]).await?).await?;
            let (was, is) = (rows::integers(&batch, "was")?, rows::integers(&batch, "is")?);
            for (at, which) in some.iter().enumerate() {
                let counts = ["c", "t", "n"].map(|count| rows::integers(&batch, &format!("{count}{at}")));
                let [changed, then, now] = counts;
                let (changed, then, now) = (changed?, then?, now?);
                for row in 0..batch.num_rows() {
                    let from = was[row].and_then(|id| place(&self.segments, id));
                    let to = is[row].and_then(|id| place(segments, id));
                    let counts = [&changed, &then, &now].map(|counts| counts[row].unwrap_or(0));
                    found[*which].put(from, to, counts);
                }
            }
        }
        Ok(found)
    }
}
