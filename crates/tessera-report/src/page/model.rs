//! How the segmentation was chosen among those that were tried.

use maud::html;

use super::parts::{Section, maybe};
use crate::{
    Facts,
    chart::{Mark, strip},
    number::{clean, count, figure, grouped, words},
    read::Row,
};

pub(super) fn chosen(facts: &Facts) -> Section {
    const HEIGHT: u32 = 26;
    let all = facts.candidates.len();
    let rows = &facts.candidates[..all.min(14)];
    let marks: Vec<Vec<Mark>> = rows
        .iter()
        .map(|row| {
            let class = if row.chosen == Some(true) { "bar" } else { "pale" };
            let score = row.score.as_ref().map(|score| score.value.clamp(0.0, 1.0));
            score.map(|score| vec![Mark::Bar(0.0, 100.0 * score, class)]).unwrap_or_default()
        })
        .collect();
    let desc = format!("Scores of {} candidates from 0 to 1; the chosen one stands first.", rows.len());
    let share = |value: f64| format!("{}\u{202f}%", grouped(100.0 * value, 1));
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="Candidates" {
            table.strips.gates {
                caption.sr { "Candidates for the segmentation, the chosen one first" }
                thead {
                    tr {
                        th scope="col" { "Candidate" }
                        th.chart scope="col" { "Score" }
                        th.num scope="col" { span.sr { "Score" } }
                        th.num scope="col" { "Silhouette" }
                        th.num scope="col" { "Prediction strength" }
                        th.num scope="col" { "Smallest" }
                        th.num scope="col" { "Of the objective" } th scope="col" { "Why, or why not" }
                    }
                }
                tbody {
                    @for (i, row) in rows.iter().enumerate() {
                        tr.total[row.chosen == Some(true)] {
                            th scope="row" {
                                bdi { (row.algorithm.as_deref().map(words).unwrap_or_else(|| "unnamed".to_owned())) }
                                @if let Some(k) = &row.k { ", k = " (maybe(Some(k), count, &row.at("k"))) }
                                @if let Some(origin) = &row.origin { " " small { (origin_words(origin)) } }
                            }
                            @if i == 0 {
                                td.chart rowspan=(rows.len()) {
                                    (strip("Scores of the candidates", &desc, HEIGHT, &marks, None))
                                }
                            }
                            td.num { (maybe(row.score.as_ref(), figure, &row.at("score"))) }
                            td.num { (maybe(row.silhouette.as_ref(), figure, &row.at("silhouette"))) }
                            td.num { (maybe(row.prediction_strength.as_ref(), figure, &row.at("prediction_strength"))) }
                            td.num { (maybe(row.min_size.as_ref(), share, &row.at("min_size"))) }
                            td.num { (maybe(row.objective_spread.as_ref(), share, &row.at("objective_spread"))) }
                            td {
                                bdi {
                                    @if row.chosen == Some(true) { "✓ chosen: " }
                                    (row.reason.as_deref().map(|reason| clean(reason, 120)).unwrap_or_default())
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    let lede = match all {
        1 => "The night kept its model; no other was tried.".to_owned(),
        n => format!(
            "{n} candidates on the same sample and axes. The score is a weighted mean of indices, each as a share of the best."
        ),
    };
    Section::new("model", "How the model was chosen", lede, (!rows.is_empty()).then_some(body))
}

fn origin_words(origin: &str) -> String {
    match origin {
        "parent" => "the model in use".to_owned(),
        "warm" => "goes on from it".to_owned(),
        "fresh" => "afresh".to_owned(),
        other => words(other),
    }
}
