//! Customers on the scale on which they are clustered.
//!
//! A number is kept within its quantiles where the feature says so, what is not known is imputed, and the rest is transformed and
//! z-scored by the mean and the population standard deviation over all customers. Of a text, each of the most frequent values is
//! an axis of its own, 1 for who has it and 0 for who has another, and the rest one more. A feature that nobody has is left out;
//! one that never varies stands at 0. Quantiles and frequencies are those of the sample.

use std::collections::BTreeMap;

use datafusion::{arrow::array::RecordBatch, prelude::DataFrame};
use tessera_algo::{Matrix, describe};
use tessera_contract::{Feature, Impute, Scaling, ValueType};
use tessera_engine::formula::{quote, text};

use crate::{Night, StageError, rows};

/// What an axis is of its feature.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// The number, transformed.
    Number(Scaling),
    /// Whether the text is this one.
    Category(String),
    /// Whether it is none of these.
    Other(Vec<String>),
}

/// How one feature, or one value of a text, is brought to its scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The feature.
    pub feature: String,
    /// What of it.
    pub part: Part,
    /// What lies below counts as this, in the feature's unit.
    pub low: Option<f64>,
    /// What lies above counts as this.
    pub high: Option<f64>,
    /// What stands for unknown, in the feature's unit; none for the mean on the scale.
    pub imputed: Option<f64>,
    /// The share of the customers for whom the feature is known.
    pub known: f64,
    /// Mean of the transformed feature over all customers.
    pub mean: f64,
    /// Its population standard deviation; 1 where that is 0.
    pub scale: f64,
}

impl Axis {
    /// The axis of a part of a feature, before anything is known of its values.
    pub(crate) fn new(feature: &str, part: Part) -> Self {
        let feature = feature.to_owned();
        Self { feature, part, low: None, high: None, imputed: None, known: 1.0, mean: 0.0, scale: 1.0 }
    }

    /// SQL of the value before it is z-scored.
    fn raw(&self) -> String {
        let feature = quote(&self.feature);
        let one_if = |condition: String| {
            format!(
                "CASE WHEN {feature} IS NOT NULL THEN CASE WHEN {condition} THEN {} ELSE {} END END",
                literal(1.0),
                literal(0.0)
            )
        };
        let scaling = match &self.part {
            Part::Number(scaling) => *scaling,
            Part::Category(value) => return one_if(format!("{feature} = {}", text(value))),
            Part::Other(others) => {
                let others: Vec<_> = others.iter().map(|value| text(value)).collect();
                return one_if(format!("{feature} NOT IN ({})", others.join(", ")));
            }
        };
        let x = format!("CAST({feature} AS DOUBLE)");
        let low = self.low.map(|low| format!(" WHEN {x} < {0} THEN {0}", literal(low)));
        let high = self.high.map(|high| format!(" WHEN {x} > {0} THEN {0}", literal(high)));
        let bounded = match [low, high].into_iter().flatten().collect::<String>() {
            none if none.is_empty() => x.clone(),
            cases => format!("CASE{cases} ELSE {x} END"),
        };
        let whole = self.imputed.map_or(bounded.clone(), |value| format!("coalesce({bounded}, {})", literal(value)));
        scaled_by(&whole, scaling)
    }

    /// SQL of the scaled value.
    #[must_use]
    pub fn expression(&self) -> String {
        let (mean, scale) = (literal(self.mean), literal(self.scale));
        format!("coalesce(({} - {mean}) / {scale}, {})", self.raw(), literal(0.0))
    }

    /// The transformation's name in the tables.
    #[must_use]
    pub fn transform(&self) -> &'static str {
        match self.part {
            Part::Number(Scaling::None) => "none",
            Part::Number(Scaling::Log1p) => "log1p",
            Part::Category(_) => "one_hot",
            Part::Other(_) => "other",
        }
    }

    /// The value of a text that the axis is of.
    #[must_use]
    pub fn category(&self) -> Option<&str> {
        match &self.part {
            Part::Category(value) => Some(value),
            _ => None,
        }
    }
}

/// Mean and scale by a row of the moments of transformed values, if there is a value.
pub(crate) fn mean_and_scale(moments: &RecordBatch, row: usize) -> Result<Option<(f64, f64)>, StageError> {
    let one = |field: &str| Ok::<_, StageError>(rows::floats(moments, field)?.get(row).copied().flatten());
    let (Some(mean), Some(variance)) = (one("mean_x")?, one("var_x")?) else { return Ok(None) };
    Ok(Some((mean, if variance > 0.0 { variance.sqrt() } else { 1.0 })))
}

/// A double as SQL that reads back to the same bits.
pub(crate) fn literal(value: f64) -> String {
    format!("arrow_cast('{value:?}', 'Float64')")
}

/// SQL of a feature after its transformation.
pub(crate) fn transformed(feature: &str, scaling: Scaling) -> String {
    scaled_by(&format!("CAST({} AS DOUBLE)", quote(feature)), scaling)
}

fn scaled_by(x: &str, scaling: Scaling) -> String {
    match scaling {
        Scaling::None => x.to_owned(),
        // The greatest of nothing and 0 would be 0, and not nothing.
        Scaling::Log1p => format!("ln(1 + CASE WHEN {x} < 0 THEN arrow_cast(0, 'Float64') ELSE {x} END)"),
    }
}

/// The numeric features with their scaling.
pub(crate) fn numeric<'a>(night: &'a Night<'_>) -> Vec<(&'a str, Scaling)> {
    let features = night.project.enabled_features();
    features.filter(|(_, f)| f.value_type != ValueType::Text).map(|(name, f)| (name, f.scaling)).collect()
}

/// The features of the customers in the sample, in the order of the hashes of their keys.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Customers in all.
    pub customers: i64,
    /// Numbers by feature.
    pub numbers: BTreeMap<String, Vec<Option<f64>>>,
    /// Texts by feature.
    pub texts: BTreeMap<String, Vec<Option<String>>>,
}

impl Known {
    /// What is known of some customers.
    ///
    /// # Errors
    /// When the features cannot be read.
    pub(crate) async fn of(night: &Night<'_>) -> Result<Self, StageError> {
        let counted = rows::collect(night.sql("SELECT count(*) AS n FROM features").await?).await?;
        let customers = rows::integers(&counted, "n")?.first().copied().flatten().unwrap_or(0);
        let condition = sampled(night.project.segmentation.sample, customers);
        let all: Vec<(&str, &Feature)> = night.project.enabled_features().collect();
        let columns: String = (all.iter())
            .map(|(name, feature)| {
                let kind = if feature.value_type == ValueType::Text { "VARCHAR" } else { "DOUBLE" };
                format!(", CAST({0} AS {kind}) AS {0}", quote(name))
            })
            .collect();
        let query = format!(
            "SELECT customer_key{columns} FROM (SELECT *, row_hash(customer_key) AS \"tessera.key_hash\" FROM features) \
             WHERE {} ORDER BY \"tessera.key_hash\", customer_key",
            condition.replace("key_hash", "\"tessera.key_hash\"")
        );
        let batch = rows::collect(night.sql(&query).await?).await?;
        let mut known = Self { customers, ..Self::default() };
        for (name, feature) in all {
            match feature.value_type {
                ValueType::Text => known.texts.insert(name.to_owned(), rows::texts(&batch, name)?).is_some(),
                _ => known.numbers.insert(name.to_owned(), rows::floats(&batch, name)?).is_some(),
            };
        }
        Ok(known)
    }

    /// Whether anybody in the sample has a value of the feature.
    pub(crate) fn has(&self, feature: &str) -> bool {
        let number = self.numbers.get(feature).is_some_and(|all| all.iter().any(Option::is_some));
        number || self.texts.get(feature).is_some_and(|all| all.iter().any(Option::is_some))
    }

    /// The values of a numeric feature, sorted.
    fn sorted(&self, feature: &str) -> Vec<f64> {
        let mut values: Vec<f64> = self.numbers.get(feature).into_iter().flatten().copied().flatten().collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    }
}

/// The values of a text, the most frequent first; ties by the text.
pub(crate) fn frequent(texts: &[Option<String>]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in texts.iter().flatten() {
        *counts.entry(value).or_default() += 1;
    }
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    all.into_iter().map(|(value, _)| value.to_owned()).collect()
}

/// The axes of a feature, before anything is known of all customers.
fn plan(name: &str, feature: &Feature, known: &Known, winsorise: f64) -> Vec<Axis> {
    if feature.value_type == ValueType::Text {
        let mut values = known.texts.get(name).map_or_else(Vec::new, |texts| frequent(texts));
        let others = values.len() > feature.categories;
        values.truncate(feature.categories);
        if values.len() == 2 && !others {
            // The second is the first turned round.
            values.truncate(1);
        }
        let mut axes: Vec<Axis> = values.iter().map(|value| Axis::new(name, Part::Category(value.clone()))).collect();
        // As a model reads them back.
        values.sort_unstable();
        axes.extend(others.then(|| Axis::new(name, Part::Other(values))));
        return axes;
    }
    let mut axis = Axis::new(name, Part::Number(feature.scaling));
    let sorted = known.sorted(name);
    if sorted.is_empty() {
        return Vec::new();
    }
    let beyond = feature.winsorise.unwrap_or(winsorise);
    if beyond > 0.0 {
        let [low, high] = [beyond, 1.0 - beyond].map(|p| describe::quantile(&sorted, p));
        // Bounds that are one would leave nothing of what a few have and most do not.
        if low != high {
            (axis.low, axis.high) = (low, high);
        }
    }
    if feature.impute == Impute::Median {
        axis.imputed = describe::quantile(&sorted, 0.5);
    }
    vec![axis]
}

/// The axes of the given features over all customers, and of all features for how many customers they are known. Features without a
/// value have no axis.
///
/// # Errors
/// When the features cannot be read.
pub(crate) async fn axes(
    night: &Night<'_>,
    features: &[(&str, &Feature)],
    known: &Known,
) -> Result<(Vec<Axis>, BTreeMap<String, i64>), StageError> {
    let winsorise = night.project.segmentation.winsorise;
    let planned: Vec<Axis> =
        features.iter().flat_map(|(name, feature)| plan(name, feature, known, winsorise)).collect();
    let all: Vec<&str> = night.project.enabled_features().map(|(name, _)| name).collect();
    let counts = all.iter().enumerate().map(|(at, name)| format!(", count({}) AS n{at}", quote(name)));
    let moments = planned.iter().enumerate().map(|(at, axis)| format!(", moments({}) AS m{at}", axis.raw()));
    let query = format!("SELECT count(*) AS customers{} FROM features", counts.chain(moments).collect::<String>());
    let batch = rows::collect(night.sql(&query).await?).await?;
    let mut counted = BTreeMap::new();
    for (at, name) in all.iter().enumerate() {
        let n = rows::integers(&batch, &format!("n{at}"))?.first().copied().flatten().unwrap_or(0);
        counted.insert((*name).to_owned(), n);
    }
    let mut axes = Vec::new();
    for (at, mut axis) in planned.into_iter().enumerate() {
        let n = counted.get(&axis.feature).copied().unwrap_or(0);
        let measured = mean_and_scale(&rows::fields(&batch, &format!("m{at}"))?, 0)?;
        let Some((mean, scale)) = measured.filter(|_| n > 0) else { continue };
        (axis.mean, axis.scale, axis.known) = (mean, scale, n as f64 / known.customers.max(1) as f64);
        axes.push(axis);
    }
    Ok((axes, counted))
}

/// SQL of all customers on the axes: `customer_key`, `key_hash`, `z0`, `z1` …, `imputed`, of how many features the value is not known,
/// and the columns in `further`.
#[must_use]
pub fn query(axes: &[Axis], further: &str) -> String {
    let columns: String = axes.iter().enumerate().map(|(i, axis)| format!(", {} AS z{i}", axis.expression())).collect();
    let mut features: Vec<&str> = axes.iter().map(|axis| axis.feature.as_str()).collect();
    features.dedup();
    let unknown: Vec<_> =
        features.iter().map(|name| format!("CASE WHEN {} IS NULL THEN 1 ELSE 0 END", quote(name))).collect();
    format!(
        "SELECT customer_key, row_hash(customer_key) AS key_hash{columns}, {} AS imputed{further} FROM features",
        unknown.join(" + ")
    )
}

/// The condition that keeps about `wanted` of `customers` by the hash of their key: the same ones however rows come.
#[must_use]
pub fn sampled(wanted: usize, customers: i64) -> String {
    below(threshold(wanted, customers))
}

/// The hash below which are about `wanted` of `customers`, if not all.
pub(crate) fn threshold(wanted: usize, customers: i64) -> Option<i64> {
    let share = wanted as f64 / customers.max(1) as f64;
    (share < 1.0).then(|| (share * 2.0_f64.powi(64) - 2.0_f64.powi(63)) as i64)
}

/// The condition on hashes below it.
pub(crate) fn below(threshold: Option<i64>) -> String {
    threshold.map_or_else(|| "true".to_owned(), |threshold| format!("key_hash < {threshold}"))
}

/// The sampled customers in the order of their hashes: the batch, its matrix and its hashes.
///
/// # Errors
/// When the frame lacks the columns of [`query`].
pub async fn sample(frame: DataFrame, dims: usize) -> Result<(RecordBatch, Matrix, Vec<u64>), StageError> {
    use datafusion::prelude::col;
    let frame = frame.sort(vec![col("key_hash").sort(true, false), col("customer_key").sort(true, false)])?;
    let batch = rows::collect(frame).await?;
    let columns = (0..dims).map(|i| rows::floats(&batch, &format!("z{i}"))).collect::<Result<Vec<_>, _>>()?;
    let mut data = Vec::with_capacity(batch.num_rows() * dims);
    for row in 0..batch.num_rows() {
        data.extend(columns.iter().map(|c| c[row].unwrap_or(0.0)));
    }
    let matrix = Matrix::new(batch.num_rows(), dims, data).map_err(|e| StageError::Data(e.to_string()))?;
    let hashes = rows::integers(&batch, "key_hash")?.into_iter().map(|h| h.unwrap_or(0) as u64).collect();
    Ok((batch, matrix, hashes))
}

#[cfg(test)]
mod tests {
    use tessera_contract::Project;

    use super::*;

    #[test]
    fn a_sample_is_a_range_of_hashes() {
        assert_eq!(sampled(100, 50), "true");
        assert_eq!(sampled(1, 2), "key_hash < 0");
        assert_eq!(sampled(1, 4), format!("key_hash < {}", i64::MIN / 2));
    }

    #[test]
    fn doubles_survive_as_text() {
        for value in [0.1, -1e-300, 1e300, 1.0 / 3.0, 5.0] {
            let text = literal(value);
            let inner = text.trim_start_matches("arrow_cast('").split('\'').next().expect("quoted");
            assert_eq!(inner.parse::<f64>().expect("a double").to_bits(), value.to_bits());
        }
    }

    fn feature(text: &str) -> Feature {
        let entry = format!(
            "[features.x]\ncriterion = \"demographic\"\nover = \"customers\"\nexpression = \"x\"\nunit = \"u\"\ndescription = \"d\"\n{text}\n"
        );
        Project::load("t", &entry, &[]).expect("valid").features["x"].clone()
    }

    #[test]
    fn the_most_frequent_values_of_a_text_are_axes() {
        let words = |all: &str| Known {
            texts: [("x".to_owned(), all.chars().map(|c| (c != '-').then(|| c.to_string())).collect())].into(),
            ..Known::default()
        };
        let parts = |all: &str| -> Vec<Part> {
            let plan = plan("x", &feature("type = \"text\"\ncategories = 2"), &words(all), 0.0);
            plan.into_iter().map(|axis| axis.part).collect()
        };
        let category = |value: &str| Part::Category(value.to_owned());
        assert_eq!(parts("cabbaa-"), [category("a"), category("b"), Part::Other(vec!["a".into(), "b".into()])]);
        assert_eq!(parts("ab-"), [category("a")]);
        assert_eq!(parts("a"), [category("a")]);
        assert_eq!(parts("--"), []);
    }

    #[test]
    fn bounds_and_what_is_imputed_are_those_of_the_sample() {
        let known = Known {
            numbers: [("x".to_owned(), (0..=100).map(f64::from).map(Some).chain([None]).collect())].into(),
            ..Known::default()
        };
        let [axis] =
            plan("x", &feature("winsorise = 0.05\nimpute = \"median\""), &known, 0.0).try_into().expect("one axis");
        assert_eq!((axis.low, axis.high, axis.imputed), (Some(5.0), Some(95.0), Some(50.0)));
        let [plain] = plan("x", &feature(""), &known, 0.0).try_into().expect("one axis");
        assert_eq!((plain.low, plain.high, plain.imputed), (None, None, None));
        let [default] = plan("x", &feature(""), &known, 0.1).try_into().expect("one axis");
        assert_eq!((default.low, default.high), (Some(10.0), Some(90.0)));
    }
}
