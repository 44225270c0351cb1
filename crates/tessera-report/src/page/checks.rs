//! Whether the model may be trusted: the gates, and how far the customers have gone from where it was found.

use std::collections::BTreeMap;

use maud::html;

use super::parts::{Section, data, maybe, outcome};
use crate::{
    Facts,
    chart::{Mark, Scale, strip},
    number::{date, figure, title},
    read::Row,
    rows::{Drift, Gate},
};

const HEIGHT: u32 = 26;

/// Whether a gate asks for its bound at least; the table does not say it, and a value that passes or fails does.
fn at_least(gates: &[&Gate]) -> Option<bool> {
    gates.iter().find_map(|gate| {
        let (value, bound) = (gate.value.as_ref()?.value, gate.threshold.as_ref()?.value);
        (value != bound).then_some((value > bound) == (gate.state == "pass"))
    })
}

pub(super) fn gates(facts: &Facts) -> Section {
    let mut by_metric: BTreeMap<(bool, &str), Vec<&Gate>> = BTreeMap::new();
    for gate in &facts.gates {
        by_metric.entry((gate.segment.is_some(), gate.metric.as_str())).or_default().push(gate);
    }
    let rows: Vec<Vec<&Gate>> = by_metric.into_values().take(40).collect();
    let marks: Vec<Vec<Mark>> = rows.iter().map(|gates| bullet(gates)).collect();
    let failing = facts.gates.iter().filter(|gate| gate.state == "fail").count();
    let desc = format!(
        "{} gates in {} rows: what was measured, and the bound; {failing} fail.",
        facts.gates.len(),
        rows.len()
    );
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="Gates" {
            table.strips.gates {
                caption.sr { "Gates: what was measured, what is asked for, and whether it holds" }
                thead {
                    tr {
                        th scope="col" { "Gate" }
                        th.chart scope="col" { "Measured, with the bound" }
                        th.num scope="col" { "Weakest" }
                        th.num scope="col" { "Asked for" } th scope="col" { "Outcome" } th scope="col" { "Weight" }
                    }
                }
                tbody {
                    @for (i, gates) in rows.iter().enumerate() {
                        @let least = at_least(gates);
                        @let weakest = weakest(gates, least);
                        @let failed = gates.iter().filter(|gate| gate.state == "fail").count();
                        tr {
                            th scope="row" {
                                bdi { (title(&gates[0].metric)) }
                                @if gates[0].segment.is_some() { " " small { "of each segment" } }
                            }
                            @if i == 0 {
                                td.chart rowspan=(rows.len()) {
                                    (strip("Gates", &desc, HEIGHT, &marks, None))
                                }
                            }
                            td.num {
                                @if let Some((gate, value)) = weakest.and_then(|gate| Some((gate, gate.value.as_ref()?))) {
                                    (data(value, &figure(value.value), &gate.at("value")))
                                    @if let Some(id) = gate.segment { " " small { "№ " (id) } }
                                } @else { span.none { "not told" } }
                            }
                            td.num {
                                @if let Some(bound) = &gates[0].threshold {
                                    @match least { Some(true) => "≥ ", Some(false) => "≤ ", None => "" }
                                    (data(bound, &figure(bound.value), &gates[0].at("threshold")))
                                } @else { span.none { "–" } }
                            }
                            td {
                                @if failed == 0 { (outcome(&gates[0].state)) }
                                @else if gates.len() == 1 { (outcome("fail")) }
                                @else { span.fail { "✗ " (failed) " of " (gates.len()) " fail" } }
                            }
                            td { (gates[0].gate.as_deref().map(crate::number::words).unwrap_or_default()) }
                        }
                    }
                }
            }
        }
        p.small {
            "Shaded: where the gate holds. Strokes: what was measured, one for each segment; upright: the bound. \
            A required gate that fails holds the night."
        }
    };
    Section::new(
        "gates",
        "Gates",
        "What a night has to satisfy before it is published.",
        (!rows.is_empty()).then_some(body),
    )
}

/// The one that failed or is nearest to it.
fn weakest<'a>(gates: &[&'a Gate], least: Option<bool>) -> Option<&'a Gate> {
    let measure = |gate: &&&Gate| gate.value.as_ref().map(|value| value.value);
    let known = gates.iter().filter(|gate| measure(gate).is_some());
    let by = |a: &&&Gate, b: &&&Gate| measure(a).unwrap_or_default().total_cmp(&measure(b).unwrap_or_default());
    if least == Some(false) { known.max_by(by) } else { known.min_by(by) }.copied()
}

fn bullet(gates: &[&Gate]) -> Vec<Mark> {
    let values: Vec<f64> = gates.iter().filter_map(|gate| Some(gate.value.as_ref()?.value)).collect();
    let bound = gates[0].threshold.as_ref().map(|bound| bound.value);
    let tight = Scale::of(values.iter().copied().chain(bound)).with_zero();
    let scale = Scale { low: tight.low, high: tight.high + 0.06 * (tight.high - tight.low) };
    let mut marks = vec![Mark::Line(1.0, 99.0)];
    if let (Some(bound), Some(least)) = (bound, at_least(gates)) {
        let end = if least { 99.0 } else { 1.0 };
        marks.insert(0, Mark::Bar(scale.x(bound), end, "band"));
    }
    for gate in gates {
        if let Some(value) = &gate.value {
            marks.push(Mark::Tick(scale.x(value.value), if gate.state == "fail" { "tick bad" } else { "tick" }));
        }
    }
    marks.extend(bound.map(|bound| Mark::Bound(scale.x(bound))));
    marks
}

pub(super) fn drift(facts: &Facts) -> Section {
    let (mut used, rest): (Vec<&Drift>, Vec<&Drift>) =
        facts.drift.iter().partition(|row| row.clustered_on == Some(true));
    used.truncate(30);
    let of_rest = rest.iter().filter(|row| ["changed", "shifted"].contains(&row.state.as_str())).count();
    let rows = if used.is_empty() { rest.iter().copied().take(20).collect() } else { used };
    let ends = rows.iter().flat_map(|row| [&row.psi, &row.critical_value].map(|n| n.as_ref().map(|n| n.value)));
    let scale = Scale::of(ends.flatten()).with_zero();
    let marks: Vec<Vec<Mark>> = rows
        .iter()
        .map(|row| {
            let psi = row.psi.as_ref().map(|psi| Mark::Bar(scale.x(0.0), scale.x(psi.value), "bar"));
            psi.into_iter().chain(row.critical_value.as_ref().map(|bound| Mark::Bound(scale.x(bound.value)))).collect()
        })
        .collect();
    let gone = rows.iter().filter(|row| row.state == "shifted").count();
    let desc = format!("Population stability index of {} features; {gone} have shifted.", rows.len());
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="Drift" {
            table.strips.gates {
                caption.sr { "Drift of the features: population stability index, its critical value and what it means" }
                thead {
                    tr {
                        th scope="col" { "Feature" }
                        th.chart scope="col" { "Drift, with what chance makes" }
                        th.num scope="col" { "PSI" }
                        th.num scope="col" { "By chance" } th scope="col" { "State" }
                    }
                }
                tbody {
                    @for (i, row) in rows.iter().enumerate() {
                        tr {
                            th scope="row" { bdi { (title(&row.feature)) } }
                            @if i == 0 {
                                td.chart rowspan=(rows.len()) {
                                    (strip("Drift", &desc, HEIGHT, &marks, None))
                                }
                            }
                            td.num { (maybe(row.psi.as_ref(), figure, &row.at("psi"))) }
                            td.num { (maybe(row.critical_value.as_ref(), figure, &row.at("critical_value"))) }
                            td { (state(&row.state)) }
                        }
                    }
                }
            }
        }
        @if !rest.is_empty() && of_rest > 0 && rows.iter().any(|row| row.clustered_on == Some(true)) {
            p.small {
                "Of the features that the segments are not made of, " (of_rest) " changed too: "
                bdi {
                    (rest.iter().filter(|row| ["changed", "shifted"].contains(&row.state.as_str())).take(8)
                        .map(|row| crate::number::words(&row.feature)).collect::<Vec<_>>().join(", "))
                }
                @if of_rest > 8 { " and others" } "."
            }
        }
    };
    let since = facts.drift.iter().find_map(|row| row.since.as_deref()).map(date);
    let lede = match since {
        Some(since) => format!(
            "How far the customers have gone from where they were on {since}, in the features that the segments are made of."
        ),
        None => "How far the customers have gone from where the model was looked for.".to_owned(),
    };
    Section::new("drift", "Drift", lede, (!rows.is_empty()).then_some(body))
}

fn state(state: &str) -> maud::Markup {
    match state {
        "shifted" => html! { span.fail { "shifted: a new model is looked for" } },
        "changed" => html! { "changed, more than chance makes" },
        "stable" => html! { "stable" },
        "frozen" => html! { "measured from tonight on" },
        other => html! { (crate::number::words(other)) },
    }
}
