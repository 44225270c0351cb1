//! Drift: how far the features of the sample have gone from where they were when the model was last looked for.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::array::{ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, StringArray},
    prelude::DataFrame,
};
use tessera_algo::drift::{self, bin, psi};
use tessera_contract::ValueType;

use crate::{
    Night, StageError, rows,
    scaled::{Known, frequent},
};

/// Bins of a number, and values of a text that have one of their own.
const BINS: usize = 10;
/// What stands beside the features: how far customers are from the centroid of their segment. Whoever is like nobody before is far from all of them,
/// however ordinary each feature is by itself.
pub(super) const DISTANCE: &str = "(distance)";

/// Its bins, in thousandths: a few who are like nobody before are most of a thin tail.
const TAIL: [usize; 5] = [500, 750, 900, 950, 990];

/// The values of the sampled customers.
#[derive(Clone, Copy)]
enum Values<'v> {
    Numbers(&'v [Option<f64>]),
    Texts(&'v [Option<String>]),
}

/// What is looked at of a night: what is known of the sample, and how far each customer of it is from the centroid.
fn looked_at<'a, 'v>(
    night: &'a Night<'_>,
    known: &'v Known,
    distances: &'v [Option<f64>],
) -> Vec<(&'a str, Values<'v>)> {
    let mut all: Vec<(&str, Values<'v>)> = (night.project.enabled_features())
        .filter_map(|(name, entry)| {
            let values = match entry.value_type {
                ValueType::Text => Values::Texts(known.texts.get(name)?),
                _ => Values::Numbers(known.numbers.get(name)?),
            };
            Some((name, values))
        })
        .collect();
    // Rules know no distance.
    if distances.iter().any(Option::is_some) {
        all.push((DISTANCE, Values::Numbers(distances)));
    }
    all
}

/// Bins as they were frozen.
#[derive(Debug, Clone, PartialEq)]
struct Bins {
    by: By,
    /// Customers by bin; the last is of those for whom the feature is not known.
    reference: Vec<u64>,
    /// Days since 1970.
    as_of: i32,
}

#[derive(Debug, Clone, PartialEq)]
enum By {
    /// Between cuts.
    Number(Vec<f64>),
    /// These, and the rest.
    Text(Vec<String>),
}

impl By {
    /// Bins of what is known tonight.
    fn of(feature: &str, values: Values<'_>) -> Self {
        match values {
            Values::Numbers(numbers) => {
                let mut sorted: Vec<f64> = numbers.iter().copied().flatten().collect();
                sorted.sort_unstable_by(f64::total_cmp);
                Self::Number(match feature {
                    DISTANCE => drift::cuts_at(&sorted, &TAIL, 1_000),
                    _ => drift::cuts(&sorted, BINS),
                })
            }
            Values::Texts(texts) => {
                let mut values = frequent(texts);
                values.truncate(BINS);
                Self::Text(values)
            }
        }
    }

    /// Customers by bin; none where it is of another kind.
    fn counts(&self, values: Values<'_>) -> Option<Vec<u64>> {
        let bins = match self {
            Self::Number(cuts) => cuts.len() + 2,
            Self::Text(values) => values.len() + 2,
        };
        let mut counts = vec![0; bins];
        match (self, values) {
            (Self::Number(cuts), Values::Numbers(numbers)) => {
                numbers.iter().for_each(|value| counts[value.map_or(bins - 1, |value| bin(cuts, value))] += 1);
            }
            (Self::Text(known), Values::Texts(texts)) => texts.iter().for_each(|text| {
                let of = |text: &String| known.iter().position(|value| value == text).unwrap_or(known.len());
                counts[text.as_ref().map_or(bins - 1, of)] += 1;
            }),
            _ => return None,
        }
        Some(counts)
    }
}

/// A feature beside its bins.
struct Row<'a> {
    feature: &'a str,
    bins: Bins,
    counts: Vec<u64>,
    /// None on the night that froze the bins.
    found: Option<drift::Drift>,
}

/// The drift of a night.
pub(super) struct Drift<'a> {
    rows: Vec<Row<'a>>,
    tonight: i32,
    /// The index from which on a feature has gone too far.
    limit: f64,
}

impl<'a> Drift<'a> {
    /// Held against the bins of the parent night, if these are of the same definition. `distances` are of the sample by the model in use; none
    /// where there is none.
    pub(super) async fn of(
        night: &'a Night<'a>,
        known: &Known,
        distances: &[Option<f64>],
        comparable: bool,
    ) -> Result<Self, StageError> {
        let mut frozen = match night.previous.get("drift_bins").filter(|_| comparable) {
            Some(bins) => read(night, bins).await?,
            None => BTreeMap::new(),
        };
        let tonight = night.as_of.days();
        let rows = (looked_at(night, known, distances).into_iter())
            .map(|(feature, values)| {
                let bins = frozen.remove(feature).and_then(|bins| Some((bins.by.counts(values)?, bins)));
                match bins {
                    Some((counts, bins)) => Row { feature, found: psi(&bins.reference, &counts), bins, counts },
                    None => freeze(feature, values, tonight),
                }
            })
            .collect();
        Ok(Self { rows, tonight, limit: night.project.segmentation.refit_psi })
    }

    /// The bins of tonight, from which later nights are measured; distances by tonight's model.
    pub(super) fn frozen(&self, night: &'a Night<'a>, known: &Known, distances: &[Option<f64>]) -> Self {
        let all = looked_at(night, known, distances).into_iter();
        Self { rows: all.map(|(feature, values)| freeze(feature, values, self.tonight)).collect(), ..*self }
    }

    /// Of some features and the distance, those that have gone too far, the farthest first.
    pub(super) fn shifted(&self, features: &[&str]) -> Vec<(&'a str, f64)> {
        let ours = self.rows.iter().filter(|row| features.contains(&row.feature) || row.feature == DISTANCE);
        let mut shifted: Vec<_> = ours.filter(|row| self.state(row) == "shifted").collect();
        let index = |row: &Row<'_>| row.found.map_or(0.0, |found| found.psi);
        shifted.sort_by(|a, b| index(b).total_cmp(&index(a)));
        shifted.into_iter().map(|row| (row.feature, index(row))).collect()
    }

    fn state(&self, row: &Row<'_>) -> &'static str {
        match row.found {
            None if row.bins.as_of == self.tonight => "frozen",
            Some(found) if found.psi > found.critical && found.psi >= self.limit => "shifted",
            Some(found) if found.psi > found.critical => "changed",
            _ => "stable",
        }
    }

    /// The table `drift`.
    pub(super) fn frame(&self, night: &Night<'_>, clustered_on: &[&str]) -> Result<DataFrame, StageError> {
        let rows = &self.rows;
        let float = |get: fn(&drift::Drift) -> f64| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.found.as_ref().map(get)).collect::<Float64Array>())
        };
        let sum = |get: fn(&Row<'_>) -> u64| -> ArrayRef {
            Arc::new(rows.iter().map(|row| i64::try_from(get(row)).ok()).collect::<Int64Array>())
        };
        let used = |row: &Row<'_>| {
            let bins = row.counts.iter().zip(&row.bins.reference).filter(|(now, then)| **now + **then > 0);
            i32::try_from(bins.count()).ok()
        };
        rows::frame(
            night.engine,
            vec![
                ("feature", Arc::new(rows.iter().map(|row| Some(row.feature)).collect::<StringArray>())),
                (
                    "clustered_on",
                    Arc::new(
                        rows.iter()
                            .map(|row| Some(clustered_on.contains(&row.feature) || row.feature == DISTANCE))
                            .collect::<BooleanArray>(),
                    ),
                ),
                ("psi", float(|found| found.psi)),
                ("critical_value", float(|found| found.critical)),
                ("bins", Arc::new(rows.iter().map(used).collect::<Int32Array>())),
                ("n", sum(|row| row.counts.iter().sum())),
                ("reference_n", sum(|row| row.bins.reference.iter().sum())),
                ("reference_as_of", Arc::new(rows.iter().map(|row| Some(row.bins.as_of)).collect::<Date32Array>())),
                ("state", Arc::new(rows.iter().map(|row| Some(self.state(row))).collect::<StringArray>())),
            ],
        )
    }

    /// The table `drift_bins`.
    pub(super) fn bins(&self, night: &Night<'_>) -> Result<DataFrame, StageError> {
        let cells: Vec<(&Row<'_>, usize)> =
            self.rows.iter().flat_map(|row| (0..row.counts.len()).map(move |at| (row, at))).collect();
        let number = |get: &dyn Fn(&[f64], usize) -> Option<f64>| -> ArrayRef {
            let of = |(row, at): &(&Row<'_>, usize)| match &row.bins.by {
                By::Number(cuts) if at + 1 < row.counts.len() => get(cuts, *at),
                _ => None,
            };
            Arc::new(cells.iter().map(of).collect::<Float64Array>())
        };
        let category = |(row, at): &(&Row<'_>, usize)| match &row.bins.by {
            By::Text(values) => values.get(*at).cloned(),
            By::Number(_) => None,
        };
        let count = |get: fn(&Row<'_>, usize) -> u64| -> ArrayRef {
            Arc::new(cells.iter().map(|(row, at)| i64::try_from(get(row, *at)).ok()).collect::<Int64Array>())
        };
        rows::frame(
            night.engine,
            vec![
                ("feature", Arc::new(cells.iter().map(|(row, _)| Some(row.feature)).collect::<StringArray>())),
                ("bin", Arc::new(cells.iter().map(|(_, at)| i32::try_from(*at).ok()).collect::<Int32Array>())),
                ("above", number(&|cuts, at| at.checked_sub(1).and_then(|before| cuts.get(before)).copied())),
                ("up_to", number(&|cuts, at| cuts.get(at).copied())),
                ("category", Arc::new(cells.iter().map(category).collect::<StringArray>())),
                (
                    "unknown",
                    Arc::new(cells.iter().map(|(row, at)| Some(at + 1 == row.counts.len())).collect::<BooleanArray>()),
                ),
                ("reference", count(|row, at| row.bins.reference[at])),
                ("customers", count(|row, at| row.counts[at])),
                (
                    "reference_as_of",
                    Arc::new(cells.iter().map(|(row, _)| Some(row.bins.as_of)).collect::<Date32Array>()),
                ),
            ],
        )
    }
}

fn freeze<'a>(feature: &'a str, values: Values<'_>, tonight: i32) -> Row<'a> {
    let by = By::of(feature, values);
    let counts = by.counts(values).unwrap_or_default();
    Row { feature, bins: Bins { by, reference: counts.clone(), as_of: tonight }, counts, found: None }
}

/// The bins that a night left.
async fn read(night: &Night<'_>, bins: &DataFrame) -> Result<BTreeMap<String, Bins>, StageError> {
    let query = "SELECT feature, up_to, category, unknown, reference, arrow_cast(reference_as_of, 'Int32') AS day FROM bins \
                 ORDER BY feature, bin";
    let batch = rows::collect(night.over(query, &[("bins", bins)]).await?).await?;
    let (features, categories) = (rows::texts(&batch, "feature")?, rows::texts(&batch, "category")?);
    let (up_to, reference) = (rows::floats(&batch, "up_to")?, rows::integers(&batch, "reference")?);
    let days = rows::integers(&batch, "day")?;
    let mut all: BTreeMap<String, Bins> = BTreeMap::new();
    for (row, feature) in features.into_iter().enumerate() {
        let day = days[row].and_then(|day| i32::try_from(day).ok()).unwrap_or(0);
        let empty = || Bins { by: By::Number(Vec::new()), reference: Vec::new(), as_of: day };
        let bins = all.entry(feature.unwrap_or_default()).or_insert_with(empty);
        bins.reference.push(reference[row].unwrap_or(0).unsigned_abs());
        match (up_to[row], &categories[row], &mut bins.by) {
            (Some(cut), _, By::Number(cuts)) => cuts.push(cut),
            (_, Some(value), By::Text(values)) => values.push(value.clone()),
            (_, Some(value), by) => *by = By::Text(vec![value.clone()]),
            _ => {}
        }
    }
    let whole = |bins: &Bins| match &bins.by {
        By::Number(cuts) => cuts.len() + 2 == bins.reference.len(),
        By::Text(values) => values.len() + 2 == bins.reference.len(),
    };
    all.retain(|_, bins| whole(bins));
    Ok(all)
}
