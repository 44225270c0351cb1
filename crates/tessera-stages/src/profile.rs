//! Profiles: what sets a segment apart, feature by feature.
//!
//! Means are over all members and quantiles over those in the sample. A mean is told if the sum behind it is (see
//! [`crate::figures`]); where the number of members behind it is not, to three digits, from which it does not follow.

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray},
    prelude::DataFrame,
};
use tessera_algo::describe;
use tessera_contract::Scaling;
use tessera_engine::formula::quote;

use crate::{
    Night, StageError,
    figures::{Behind, Field, NOBODYS, Sums, Told, Verdict, of_customers},
    rows, scaled,
};

/// A feature as it is added up.
fn value(feature: &str) -> String {
    of_customers(&quote(feature))
}

/// One for those of whom a feature is known.
fn known(feature: &str) -> String {
    of_customers(&format!("CASE WHEN {} IS NULL THEN 0 ELSE 1 END", quote(feature)))
}

/// Names the sums behind the profiles.
pub(crate) fn tell(night: &Night<'_>, sums: &mut Sums<'_>) {
    for (at, (feature, _)) in scaled::numeric(night).into_iter().enumerate() {
        let told = |column| Told {
            table: "segment_profiles",
            of: feature.to_owned(),
            column,
            total: Some("population_mean"),
            segments: true,
            rank: 0,
        };
        let of = |field| Behind { column: format!("feature {at}"), field };
        sums.add(&value(feature), of(Field::X), told("mean"));
        sums.add(&known(feature), of(Field::Known), told("customers"));
    }
}

/// The moments of which profiles are made, with their arguments.
pub(crate) fn moments(night: &Night<'_>) -> Vec<(String, String)> {
    let mut moments = Vec::new();
    for (at, (name, scaling)) in scaled::numeric(night).into_iter().enumerate() {
        moments.push((format!("feature {at}"), scaled::transformed(name, Scaling::None)));
        if scaling != Scaling::None {
            moments.push((format!("scaled {at}"), scaled::transformed(name, scaling)));
        }
    }
    moments
}

/// The table, by a row per segment and one of everybody with [`moments`].
pub(crate) async fn profiles(
    night: &Night<'_>,
    sums: &Sums<'_>,
    counted: &RecordBatch,
    verdict: &Verdict,
) -> Result<DataFrame, StageError> {
    let numeric: Vec<(&str, Scaling)> = scaled::numeric(night);
    let segments = rows::integers(counted, "segment_id")?;
    let everybody = segments.iter().position(Option::is_none);
    let members = rows::integers(counted, "members")?;
    let of_segments = segments.iter().zip(members).filter(|(segment, _)| segment.is_some_and(|id| id != NOBODYS));
    let customers = of_segments.map(|(_, members)| members.unwrap_or(0)).sum();
    let condition = scaled::sampled(night.project.segmentation.sample, customers);
    let features: String = numeric.iter().map(|(name, _)| format!(", {}", quote(name))).collect();
    let query = format!(
        "SELECT segment_id{features} FROM (SELECT *, row_hash(customer_key) AS key_hash FROM {}) WHERE {condition}",
        sums.people().joined(night, &[])
    );
    let sampled = rows::collect(night.over(&query, &sums.people().tables()).await?).await?;
    let k = night.project.privacy.k;
    let mut table = Profile::default();
    for (at, (name, scaling)) in numeric.iter().enumerate() {
        let plain = rows::fields(counted, &format!("feature {at}"))?;
        let on_axis = match scaling {
            Scaling::None => plain.clone(),
            _ => rows::fields(counted, &format!("scaled {at}"))?,
        };
        let known_here = rows::integers(&plain, "n")?;
        let sum = rows::floats(&plain, "sum_x")?;
        let on_scale = rows::floats(&on_axis, "sum_x")?;
        let axis = everybody.map(|row| scaled::mean_and_scale(&on_axis, row)).transpose()?.flatten();
        let quantiles = quantiles(&sampled, name, &segments, k)?;
        let told = |segment: Option<i64>, sum: &str| !verdict.hides(sum, segment);
        let mean = |row: usize, sum: &[Option<f64>]| -> Option<f64> {
            let members = known_here[row].filter(|n| *n > 0)?;
            let mean = sum[row].filter(|_| told(segments[row], &value(name)))? / members as f64;
            Some(if told(segments[row], &known(name)) { mean } else { three_digits(mean) })
        };
        let population = everybody.and_then(|row| mean(row, &sum));
        for (row, segment) in segments.iter().enumerate().filter(|(_, s)| s.is_some_and(|id| id != NOBODYS)) {
            table.segment.push(segment.and_then(|s| i32::try_from(s).ok()));
            table.feature.push((*name).to_owned());
            table.customers.push(known_here[row].filter(|_| told(*segment, &known(name))));
            table.mean.push(mean(row, &sum));
            table.quantiles.push(quantiles[row]);
            table.population.push(population);
            table.effect.push(mean(row, &on_scale).zip(axis).map(|(mean, (center, scale))| (mean - center) / scale));
        }
    }
    table.frame(night)
}

/// A number to three significant digits.
fn three_digits(x: f64) -> f64 {
    format!("{x:.2e}").parse().unwrap_or(x)
}

#[derive(Default)]
struct Profile {
    segment: Vec<Option<i32>>,
    feature: Vec<String>,
    customers: Vec<Option<i64>>,
    mean: Vec<Option<f64>>,
    quantiles: Vec<[Option<f64>; 3]>,
    population: Vec<Option<f64>>,
    effect: Vec<Option<f64>>,
}

impl Profile {
    fn frame(self, night: &Night<'_>) -> Result<DataFrame, StageError> {
        let quantile =
            |i: usize| -> ArrayRef { Arc::new(self.quantiles.iter().map(|q| q[i]).collect::<Float64Array>()) };
        rows::frame(
            night.engine,
            vec![
                ("segment_id", Arc::new(Int32Array::from(self.segment.clone()))),
                ("feature", Arc::new(StringArray::from(self.feature.clone()))),
                ("customers", Arc::new(Int64Array::from(self.customers.clone()))),
                ("mean", Arc::new(Float64Array::from(self.mean.clone()))),
                ("p10", quantile(0)),
                ("median", quantile(1)),
                ("p90", quantile(2)),
                ("population_mean", Arc::new(Float64Array::from(self.population.clone()))),
                ("effect_size", Arc::new(Float64Array::from(self.effect.clone()))),
            ],
        )
    }
}

/// The 10 %, 50 % and 90 % quantiles per segment (linear between order statistics, type 7 of Hyndman & Fan 1996), if `k` members at
/// least lie on either side of it.
fn quantiles(
    sampled: &RecordBatch,
    feature: &str,
    segments: &[Option<i64>],
    k: u64,
) -> Result<Vec<[Option<f64>; 3]>, StageError> {
    let enough = |members: &[f64], p: f64| members.len() as f64 * p.min(1.0 - p) >= k as f64;
    let ids = rows::integers(sampled, "segment_id")?;
    let values = rows::floats(sampled, feature)?;
    Ok(segments
        .iter()
        .map(|segment| {
            let mut members: Vec<f64> =
                ids.iter().zip(&values).filter(|(id, _)| *id == segment).filter_map(|(_, v)| *v).collect();
            members.sort_unstable_by(f64::total_cmp);
            [0.1, 0.5, 0.9].map(|p| describe::quantile(&members, p).filter(|_| enough(&members, p)))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_left() {
        assert_eq!([41.266_6, -0.001_234_5, 98_765.0, 0.0].map(three_digits), [41.3, -0.001_23, 98_800.0, 0.0]);
    }
}
