//! What was found before: so that the third time in a quarter is told as that.

use std::collections::BTreeMap;

use datafusion::prelude::DataFrame;
use jiff::civil::Date;
use tessera_contract::AsOf;
use tessera_engine::formula::stamp;

use super::{MONTH, found::Row};
use crate::{Night, StageError, rows};

/// Days in which a finding that begins again is told to have come before.
const QUARTER: i32 = 92;
/// Days for which an episode is kept.
const KEPT: i32 = 400;
/// Between the conditions of a combination, where they are one text.
const BETWEEN: &str = "\u{1f}";

/// Whose finding it is, of what, what it is, where, and whether it went up.
type Key = (Option<i32>, String, String, Vec<String>, bool);

/// How a cause is called.
fn id(key: &Key) -> String {
    stamp(&format!("{key:?}")).split_off(20)
}

/// Nights in a row on which something was found.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Episode {
    since: i32,
    until: i32,
    nights: i32,
    contribution: f64,
}

/// All that was found, by its key in the order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Memory(BTreeMap<Key, Vec<Episode>>);

fn key(row: &Row) -> Option<Key> {
    let contribution = row.contribution.filter(|_| row.rank.is_some())?;
    let finding = row.finding?;
    // Days are others every time.
    let dimensions = if finding == "missing" { Vec::new() } else { row.dimensions.clone() };
    Some((row.segment, row.kpi.clone()?, finding.to_owned(), dimensions, contribution > 0.0))
}

impl Memory {
    /// What the last night left.
    pub(super) async fn of(night: &Night<'_>) -> Result<Self, StageError> {
        let mut memory = Self::default();
        let last = night.history.first().and_then(|(_, tables)| tables.get("cause_episodes"));
        let Some(left) = last else { return Ok(memory) };
        // Nights before there were others knew places only.
        let finding = match left.schema().has_column_with_unqualified_name("finding") {
            true => "finding",
            false => "'where'",
        };
        let query = format!(
            "SELECT segment_id, kpi, {finding} AS finding, array_to_string(dimensions, '{BETWEEN}') AS dimensions, direction, \
             arrow_cast(since, 'Int32') AS since, arrow_cast(until, 'Int32') AS until, nights, contribution FROM t"
        );
        let batch = rows::collect(night.over(&query, &[("t", left)]).await?).await?;
        let whole = |name: &str| rows::integers(&batch, name);
        let (segments, since, until, nights) =
            (whole("segment_id")?, whole("since")?, whole("until")?, whole("nights")?);
        let text = |name: &str| rows::texts(&batch, name);
        let (kpis, findings) = (text("kpi")?, text("finding")?);
        let (dimensions, directions) = (text("dimensions")?, text("direction")?);
        let contributions = rows::floats(&batch, "contribution")?;
        let small = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
        for row in 0..batch.num_rows() {
            let (Some(since), Some(until)) = (small(since[row]), small(until[row])) else { continue };
            let of = dimensions[row].clone().unwrap_or_default();
            let key = (
                small(segments[row]),
                kpis[row].clone().unwrap_or_default(),
                findings[row].clone().unwrap_or_default(),
                of.split(BETWEEN).filter(|one| !one.is_empty()).map(str::to_owned).collect(),
                directions[row].as_deref() == Some("up"),
            );
            let contribution = contributions[row].unwrap_or_default();
            let episode = Episode { since, until, nights: small(nights[row]).unwrap_or(1), contribution };
            memory.0.entry(key).or_default().push(episode);
        }
        memory.0.values_mut().for_each(|episodes| episodes.sort_by_key(|episode| episode.since));
        Ok(memory)
    }

    /// Adds what this night found, and tells the rows since when it is there and how often it came.
    pub(super) fn add(&mut self, as_of: AsOf, last: Option<Date>, table: &mut [Row]) {
        let tonight = as_of.days();
        let last = last.and_then(|date| AsOf::new(date, "UTC").ok()).map(|as_of| as_of.days());
        for row in table.iter_mut() {
            let Some(key) = key(row) else { continue };
            row.id = Some(id(&key));
            if row.versus != "previous" {
                continue;
            }
            let contribution = row.contribution.unwrap_or_default();
            let episodes = self.0.entry(key).or_default();
            match episodes.last_mut().filter(|episode| episode.until == tonight || Some(episode.until) == last) {
                Some(episode) if episode.until == tonight => episode.contribution += contribution,
                Some(episode) => {
                    *episode = Episode { until: tonight, nights: episode.nights + 1, contribution, ..*episode };
                }
                None => episodes.push(Episode { since: tonight, until: tonight, nights: 1, contribution }),
            }
            row.since = episodes.last().map(|episode| episode.since);
            let lately = episodes.iter().filter(|episode| episode.since > tonight - QUARTER).count();
            row.occurrences = i32::try_from(lately).ok();
        }
        for episodes in self.0.values_mut() {
            episodes.retain(|episode| episode.until > tonight - KEPT);
        }
    }

    /// Calls what happened in four weeks and was found on no night of them by what it is: a small effect in one direction, told before it is large.
    pub(super) fn emerging(&self, table: &mut [Row]) {
        for row in table.iter_mut().filter(|row| row.versus == MONTH && row.finding == Some("where")) {
            let episodes = key(row).and_then(|key| self.0.get(&key));
            if !episodes.is_some_and(|episodes| episodes.iter().any(|episode| episode.until > row.days)) {
                row.finding = Some("emerging");
            }
        }
    }

    pub(super) fn frame(&self, night: &Night<'_>) -> Result<DataFrame, StageError> {
        let each = self.0.iter().flat_map(|(key, episodes)| episodes.iter().map(move |episode| (key, episode)));
        let all: Vec<(&Key, &Episode)> = each.collect();
        let ids: Vec<String> = all.iter().map(|(key, _)| id(key)).collect();
        let of = rows::Columns(&all);
        rows::frame(
            night.engine,
            vec![
                ("cause_id", rows::Columns(&ids).texts(|id| Some(id))),
                ("segment_id", of.small(|(key, _)| key.0)),
                ("kpi", of.texts(|(key, _)| Some(&key.1))),
                ("finding", of.texts(|(key, _)| Some(&key.2))),
                ("dimensions", of.lists(|(key, _)| &key.3)),
                ("direction", of.texts(|(key, _)| Some(if key.4 { "up" } else { "down" }))),
                ("since", of.dates(|(_, episode)| Some(episode.since))),
                ("until", of.dates(|(_, episode)| Some(episode.until))),
                ("nights", of.small(|(_, episode)| Some(episode.nights))),
                ("contribution", of.floats(|(_, episode)| Some(episode.contribution))),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found on two nights in a row, gone, and found again: the second time in a quarter; half a year later, the first.
    #[test]
    fn what_comes_again_is_known() {
        let mut memory = Memory::default();
        let mut last = None;
        let nights = [
            ("2025-01-01", true),
            ("2025-01-02", true),
            ("2025-01-03", false),
            ("2025-02-01", true),
            ("2025-02-02", false),
            ("2025-09-01", true),
        ];
        let told = nights.map(|(date, found)| {
            let as_of = AsOf::parse(date, "UTC").expect("a night");
            let mut rows = [Row {
                kpi: Some("revenue".into()),
                versus: "previous",
                rank: found.then_some(1),
                finding: Some(if found { "where" } else { "rest" }),
                dimensions: vec!["channel=app".to_owned()],
                contribution: Some(-5.0),
                ..Row::default()
            }];
            memory.add(as_of, last, &mut rows);
            last = Some(as_of.date());
            (rows[0].since.map(|since| as_of.days() - since), rows[0].occurrences)
        });
        assert_eq!(
            told,
            [
                (Some(0), Some(1)),
                (Some(1), Some(1)),
                (None, None),
                (Some(0), Some(2)),
                (None, None),
                (Some(0), Some(1))
            ]
        );
        assert_eq!(memory.0.values().map(Vec::len).sum::<usize>(), 3);
    }
}
