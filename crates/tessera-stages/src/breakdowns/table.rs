//! The table of figures by item.

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray},
    prelude::DataFrame,
};
use tessera_algo::interval;
use tessera_contract::table::MONEY;

use super::{Breakdowns, Cell};
use crate::{
    Night, StageError,
    figures::{Moments, NOBODYS, Verdict},
    kpis::LOW_N,
    rows,
};

/// A row of the table.
#[derive(Default)]
struct Row<'a> {
    breakdown: &'a str,
    item: Option<(&'a str, &'a str)>,
    step: Option<i64>,
    segment: Option<i32>,
    value: Option<f64>,
    sums: Option<[i128; 2]>,
    n: Option<i64>,
    bounds: Option<(f64, f64)>,
    versus: Option<f64>,
    versus_sums: Option<[i128; 2]>,
    difference: Option<f64>,
    difference_bounds: Option<(f64, f64)>,
    needed: Option<i64>,
    state: &'static str,
}

impl Breakdowns<'_> {
    /// The table, by a row per segment and one of everybody.
    pub(crate) fn table(
        &self,
        night: &Night<'_>,
        batch: &RecordBatch,
        verdict: &Verdict,
    ) -> Result<DataFrame, StageError> {
        let segments = rows::integers(batch, "segment_id")?;
        let missing = self.missing.iter().map(|name| Row { breakdown: name, state: "not_available", ..Row::default() });
        let mut table: Vec<Row<'_>> = missing.collect();
        for cell in &self.cells {
            let all = Moments::all(batch, &cell.column)?;
            let versus = cell.versus.as_ref().map(|(_, column)| Moments::all(batch, column)).transpose()?;
            for (at, segment) in segments.iter().enumerate().filter(|(_, s)| **s != Some(NOBODYS)) {
                if segment.is_some() && !cell.entry.segments {
                    continue;
                }
                let versus = versus.as_ref().map(|versus| &versus[at]);
                table.extend(row(cell, *segment, &all[at], versus, verdict));
            }
        }
        frame(night, &table)
    }
}

/// A figure of a segment or of everybody; none, where nobody is behind it.
fn row<'a>(
    cell: &'a Cell<'_>,
    segment: Option<i64>,
    of: &Moments,
    versus: Option<&Moments>,
    verdict: &Verdict,
) -> Option<Row<'a>> {
    let spent = cell.spent.filter(|spent| *spent != 0);
    if of.y == 0 && versus.is_none_or(|versus| versus.y == 0) && spent.is_none() {
        return None;
    }
    let row = Row {
        breakdown: cell.name,
        item: cell.item.as_ref().map(|(dimension, item)| (*dimension, item.as_str())),
        step: cell.step.map(i64::from),
        segment: segment.and_then(|segment| i32::try_from(segment).ok()),
        ..Row::default()
    };
    let hides = |sum: &String| verdict.hides(sum, segment);
    if cell.sums.iter().any(hides) {
        return Some(Row { state: "suppressed", ..row });
    }
    let alone = cell.versus.iter().flat_map(|(sums, _)| sums).any(hides);
    let versus = versus.filter(|_| !alone);
    let offset = f64::from(cell.entry.offset);
    let ratio = match cell.spent {
        Some(spent) => (of.y != 0).then(|| spent as f64 / 10_f64.powi(i32::from(MONEY.1)) / of.sums().1),
        None => of.ratio(),
    };
    let interval = cell.entry.interval;
    let bounds = of.bounds(interval).filter(|_| ratio.is_some() && cell.spent.is_none());
    let compared = versus.filter(|versus| versus.y != 0).and_then(|versus| Some((versus, versus.ratio()?)));
    let both = ratio.zip(compared);
    let apart = both.and_then(|(p, (versus, q))| Some(((p, bounds?), (q, versus.bounds(interval)?))));
    let difference_bounds = apart.map(|(a, b)| interval::difference(a, b));
    let n = Some(of.some_y).filter(|_| !hides(&cell.people()));
    let shares = both.filter(|(_, (versus, _))| n.is_some() && of.is_share() && versus.is_share());
    let cannot_tell = difference_bounds.is_some_and(|(low, high)| low <= 0.0 && high >= 0.0);
    Some(Row {
        value: ratio.map(|ratio| ratio + offset),
        sums: Some([cell.spent.unwrap_or(of.x), of.y]),
        n,
        bounds: bounds.map(|(low, high)| (low + offset, high + offset)),
        versus: compared.map(|(_, ratio)| ratio + offset),
        versus_sums: versus.map(|versus| [versus.x, versus.y]),
        difference: both.map(|(p, (_, q))| p - q),
        difference_bounds,
        needed: shares.and_then(|(p, (_, q))| interval::needed(p, q)).map(|n| n as i64),
        state: match of.some_y {
            _ if alone => "versus_suppressed",
            _ if cannot_tell => "cannot_tell",
            n if n < LOW_N => "low_n",
            _ => "ok",
        },
        ..row
    })
}

fn frame(night: &Night<'_>, table: &[Row<'_>]) -> Result<DataFrame, StageError> {
    let floats = |get: &dyn Fn(&Row<'_>) -> Option<f64>| -> ArrayRef {
        Arc::new(table.iter().map(get).collect::<Float64Array>())
    };
    let wholes =
        |get: &dyn Fn(&Row<'_>) -> Option<i64>| -> ArrayRef { Arc::new(table.iter().map(get).collect::<Int64Array>()) };
    let texts = |get: &dyn Fn(&Row<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(table.iter().map(get).collect::<StringArray>())
    };
    let money = |get: &dyn Fn(&Row<'_>) -> Option<i128>| rows::money_array(table.iter().map(get).collect());
    rows::frame(
        night.engine,
        vec![
            ("breakdown", texts(&|r| Some(r.breakdown.to_owned()))),
            ("dimension", texts(&|r| r.item.map(|(dimension, _)| dimension.to_owned()))),
            ("item", texts(&|r| r.item.map(|(_, item)| item.to_owned()))),
            ("step", wholes(&|r| r.step)),
            ("segment_id", Arc::new(table.iter().map(|r| r.segment).collect::<Int32Array>())),
            ("value", floats(&|r| r.value)),
            ("numerator", money(&|r| r.sums.map(|[x, _]| x))?),
            ("denominator", money(&|r| r.sums.map(|[_, y]| y))?),
            ("n", wholes(&|r| r.n)),
            ("ci_low", floats(&|r| r.bounds.map(|(low, _)| low))),
            ("ci_high", floats(&|r| r.bounds.map(|(_, high)| high))),
            ("versus", floats(&|r| r.versus)),
            ("versus_numerator", money(&|r| r.versus_sums.map(|[x, _]| x))?),
            ("versus_denominator", money(&|r| r.versus_sums.map(|[_, y]| y))?),
            ("difference", floats(&|r| r.difference)),
            ("difference_low", floats(&|r| r.difference_bounds.map(|(low, _)| low))),
            ("difference_high", floats(&|r| r.difference_bounds.map(|(_, high)| high))),
            ("needed_n", wholes(&|r| r.needed)),
            ("state", texts(&|r| Some(r.state.to_owned()))),
        ],
    )
}
