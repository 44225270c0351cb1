//! Which segment of tonight is which of the parent night: a segment keeps its id as long as it keeps its members, and no id is given twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, Date32Array, Float64Array, Int32Array, StringArray},
    prelude::DataFrame,
};
use tessera_algo::lineage::{self, Descent, Event, Parent};

use super::Model;
use crate::{Night, StageError, rows};

/// The ids of tonight's segments, and what became of all that ever were.
pub(super) struct Lineage {
    /// By the place of the centroid.
    pub ids: Vec<i32>,
    rows: Vec<Row>,
}

/// A row of `segment_lineage`.
struct Row {
    segment: i32,
    parent: Option<(i32, f64, f64)>,
    event: &'static str,
    /// Days since 1970.
    born: i32,
    ended: Option<i32>,
}

/// Where customers are tonight.
pub(super) enum Places<'a> {
    /// In segments of a new model, by `customer_key` and `place`.
    New(&'a DataFrame),
    /// In those of the parent night's model (see [`super::place::segments`]), which go on as themselves, whoever is in them.
    Same(&'a DataFrame, &'a Model),
}

/// The ids of `k` segments.
pub(super) async fn carry(night: &Night<'_>, places: Places<'_>, k: usize) -> Result<Lineage, StageError> {
    let tonight = night.as_of.days();
    let known = night.previous.get("segments").zip(night.previous.get("segment_lineage"));
    let (before, shared) = match known {
        Some((segments, lineage)) => {
            let before = earlier(night, lineage).await?;
            let shared = shared(night, &places, segments, &before, k).await?;
            (before, shared)
        }
        None => (BTreeMap::new(), Vec::new()),
    };
    let alive: Vec<i32> = before.iter().filter(|(_, (_, ended))| ended.is_none()).map(|(id, _)| *id).collect();
    let descent = match places {
        Places::Same(_, model) => going_on(&shared, &model.ids, &alive),
        Places::New(_) => lineage::descent(&shared, k, night.project.segmentation.carried_share),
    };
    let mut free = before.keys().max().map_or(0, |last| last + 1);
    let ids: Vec<i32> = descent
        .iter()
        .map(|of| {
            of.goes_on.map_or_else(
                || {
                    free += 1;
                    free - 1
                },
                |at| alive[at],
            )
        })
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    for (id, Descent { event, parents, .. }) in ids.iter().zip(&descent) {
        let event = match event {
            Event::Carried => "carried",
            Event::Merged => "merged",
            Event::Split => "split",
            Event::Born => "born",
        };
        let born = before.get(id).map_or(tonight, |(born, _)| *born);
        let row = |parent| Row { segment: *id, parent, event, born, ended: None };
        rows.extend(parents.iter().map(|p| row(Some((alive[p.at], p.of_parent, p.of_cluster)))));
        if parents.is_empty() {
            rows.push(row(None));
        }
    }
    for (id, (born, ended)) in before.iter().filter(|(id, _)| !ids.contains(id)) {
        let ended = Some(ended.unwrap_or(tonight));
        rows.push(Row { segment: *id, parent: None, event: "died", born: *born, ended });
    }
    for row in rows.iter().filter(|row| row.born == tonight || row.ended == Some(tonight) || row.event == "merged") {
        if known.is_some() {
            tracing::info!("the segment {} {}", row.segment, row.told());
        }
    }
    Ok(Lineage { ids, rows })
}

/// The descent of segments that are those of the parent night.
fn going_on(shared: &[Vec<u64>], ids: &[i32], alive: &[i32]) -> Vec<Descent> {
    let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
    (ids.iter().enumerate())
        .map(|(place, id)| {
            let at = alive.iter().position(|alive| alive == id);
            let parent = at.map(|at| {
                let of_parent = share(shared[at][place], shared[at].iter().sum());
                let of_cluster = share(shared[at][place], shared.iter().map(|row| row[place]).sum());
                Parent { at, of_parent, of_cluster }
            });
            Descent { goes_on: at, event: Event::Carried, parents: parent.into_iter().collect() }
        })
        .collect()
}

/// The segments that ever were by id: the night on which each was born, and that on which it ended.
async fn earlier(night: &Night<'_>, lineage: &DataFrame) -> Result<BTreeMap<i32, (i32, Option<i32>)>, StageError> {
    let query = "SELECT DISTINCT segment_id, arrow_cast(born, 'Int32') AS born, arrow_cast(ended, 'Int32') AS ended FROM lineage";
    let batch = rows::collect(night.over(query, &[("lineage", lineage)]).await?).await?;
    let days = |name: &str| {
        let days = rows::integers(&batch, name)?.into_iter();
        Ok::<_, StageError>(days.map(|day| day.and_then(|day| i32::try_from(day).ok())).collect::<Vec<_>>())
    };
    let (ids, born, ended) = (days("segment_id")?, days("born")?, days("ended")?);
    let all = ids.into_iter().zip(born.into_iter().zip(ended));
    Ok(all.filter_map(|(id, (born, ended))| Some((id?, (born?, ended)))).collect())
}

/// How many customers of each segment that was alive are in each of tonight's.
async fn shared(
    night: &Night<'_>,
    places: &Places<'_>,
    segments: &DataFrame,
    before: &BTreeMap<i32, (i32, Option<i32>)>,
    k: usize,
) -> Result<Vec<Vec<u64>>, StageError> {
    let frame = match places {
        Places::New(nearest) => {
            let query = "SELECT p.segment_id AS was, a.place AS place, count(*) AS n FROM \
                         segments AS p JOIN nearest AS a ON p.customer_key = a.customer_key GROUP BY p.segment_id, a.place";
            night.over(query, &[("nearest", nearest), ("segments", segments)]).await?
        }
        Places::Same(placed, model) => {
            let query = format!(
                "SELECT was, {} AS place, n FROM (SELECT was, segment_id, count(*) AS n FROM placed WHERE was IS NOT NULL GROUP BY 1, 2)",
                model.place_of("segment_id")
            );
            night.over(&query, &[("placed", placed)]).await?
        }
    };
    let batch = rows::collect(frame).await?;
    let integer = |name: &str| rows::integers(&batch, name);
    let alive: Vec<i64> =
        before.iter().filter(|(_, (_, ended))| ended.is_none()).map(|(id, _)| i64::from(*id)).collect();
    let mut shared = vec![vec![0; k]; alive.len()];
    for ((was, place), n) in integer("was")?.into_iter().zip(integer("place")?).zip(integer("n")?) {
        let at = was.and_then(|was| alive.binary_search(&was).ok());
        let place = place.and_then(|place| usize::try_from(place).ok()).filter(|place| *place < k);
        if let (Some(at), Some(place)) = (at, place) {
            shared[at][place] = n.unwrap_or(0).unsigned_abs();
        }
    }
    Ok(shared)
}

impl Row {
    /// What happened, in words.
    fn told(&self) -> String {
        match (self.event, self.parent) {
            ("died", _) => "is no more".to_owned(),
            ("split", Some((parent, ..))) => format!("is new, of segment {parent}"),
            ("merged", Some((parent, ..))) => format!("is of segment {parent}"),
            _ => "is new".to_owned(),
        }
    }
}

impl Lineage {
    /// As the table `segment_lineage` has it.
    pub(super) fn frame(&self, night: &Night<'_>) -> Result<DataFrame, StageError> {
        let share = |of: fn(&(i32, f64, f64)) -> f64| {
            Arc::new(self.rows.iter().map(|r| r.parent.as_ref().map(of)).collect::<Float64Array>()) as ArrayRef
        };
        rows::frame(
            night.engine,
            vec![
                ("segment_id", Arc::new(self.rows.iter().map(|r| Some(r.segment)).collect::<Int32Array>()) as ArrayRef),
                ("parent_id", Arc::new(self.rows.iter().map(|r| r.parent.map(|p| p.0)).collect::<Int32Array>())),
                ("event", Arc::new(self.rows.iter().map(|r| Some(r.event)).collect::<StringArray>())),
                ("of_parent", share(|p| p.1)),
                ("of_segment", share(|p| p.2)),
                ("born", Arc::new(self.rows.iter().map(|r| Some(r.born)).collect::<Date32Array>())),
                ("ended", Arc::new(self.rows.iter().map(|r| r.ended).collect::<Date32Array>())),
            ],
        )
    }
}
