//! What campaigns did beside their holdouts, other breakdowns, and which cohorts came back.

use maud::{Markup, html};

use super::parts::{Section, data, maybe, told};
use crate::{
    Facts,
    chart::{Mark, Scale, strip},
    facts::EntryKind,
    number::{change, clean, count, date, grouped, in_unit, title, words},
    read::{Number, Row},
    rows::{Cohort, Item},
    words::untold,
};

const HEIGHT: u32 = 26;

fn name(row: &Item) -> String {
    match (&row.item, &row.dimension) {
        (Some(item), _) => clean(item, 60),
        (None, Some(dimension)) => format!("all by {}", words(dimension)),
        (None, None) => "all".to_owned(),
    }
}

pub(super) fn campaigns(facts: &Facts) -> Section {
    let compared: Vec<&str> = {
        let with = |row: &&Item| row.versus.is_some() || row.difference.is_some() || row.state == "versus_suppressed";
        let mut all: Vec<&str> = facts.items.iter().filter(with).map(|row| row.breakdown.as_str()).collect();
        all.dedup();
        all
    };
    let others: Vec<&str> = {
        let mut all: Vec<&str> =
            facts.items.iter().map(|row| row.breakdown.as_str()).filter(|one| !compared.contains(one)).collect();
        all.dedup();
        all
    };
    let body = html! {
        @for breakdown in &compared { (uplift(facts, breakdown)) }
        @if compared.is_empty() { p.none { "No campaign has a holdout: what it would have been without it cannot be told." } }
        div.columns { @for breakdown in others.iter().take(8) { (plain(facts, breakdown)) } }
    };
    let lede =
        "What was done, beside those who were left out of it on purpose. An interval with both signs cannot tell.";
    Section::new("campaigns", "Campaigns and channels", lede, (!facts.items.is_empty()).then_some(body))
}

fn uplift(facts: &Facts, breakdown: &str) -> Markup {
    let rows: Vec<&Item> = facts.items.iter().filter(|row| row.breakdown == breakdown).take(20).collect();
    let ends = rows.iter().flat_map(|row| [&row.difference, &row.low, &row.high].map(|n| n.as_ref().map(|n| n.value)));
    let scale = Scale::of(ends.flatten()).with_zero();
    let marks: Vec<Vec<Mark>> = rows
        .iter()
        .map(|row| {
            let interval = row.low.as_ref().zip(row.high.as_ref());
            let line = interval.map(|(low, high)| Mark::Line(scale.x(low.value), scale.x(high.value)));
            let tick = row.difference.as_ref().map(|value| Mark::Tick(scale.x(value.value), "tick"));
            line.into_iter().chain(tick).collect()
        })
        .collect();
    let sure = rows.iter().filter(|row| row.state == "ok" && row.difference.is_some()).count();
    let desc =
        format!("Differences from the holdout with their intervals; {sure} of {} lie on one side of zero.", rows.len());
    // A breakdown need not be a share; the values of one lie between 0 and 1.
    let unit = unit(facts, breakdown, &rows);
    let needed = rows.iter().any(|row| row.needed_n.is_some());
    let shown = |value: f64| in_unit(value, unit, &facts.night.currency);
    let points = |value: f64| change(value, unit, &facts.night.currency);
    html! {
        div.scroll tabindex="0" role="group" aria-label=(title(breakdown)) {
            table.strips.gates {
                caption { (title(breakdown)) }
                thead {
                    tr {
                        th scope="col" { "Of" } th.chart scope="col" { "Difference, 95\u{202f}% interval" }
                        th.num scope="col" { "Difference" }
                        th.num scope="col" { "Interval" }
                        th.num scope="col" { "Treated" }
                        th.num scope="col" { "Holdout" } th scope="col" { "Verdict" }
                        @if needed { th.num scope="col" { "People needed in each" } }
                    }
                }
                tbody {
                    @for (i, row) in rows.iter().enumerate() {
                        tr {
                            th scope="row" {
                                bdi { (name(row)) }
                                @if row.item.is_some() && let Some(dimension) = &row.dimension { " " small { (words(dimension)) } }
                            }
                            @if i == 0 {
                                td.chart rowspan=(rows.len()) {
                                    (strip(&title(breakdown), &desc, HEIGHT, &marks, Some(scale.x(0.0))))
                                }
                            }
                            td.num { (maybe(row.difference.as_ref(), points, &row.at("difference"))) }
                            td.num {
                                @if let (Some(low), Some(high)) = (&row.low, &row.high) {
                                    (data(low, &short(low, unit), &row.at("low"))) " to " (data(high, &short(high, unit), &row.at("high")))
                                } @else { span.none { "–" } }
                            }
                            td.num { (maybe(row.value.as_ref(), shown, &row.at("value"))) }
                            td.num { (maybe(row.versus.as_ref(), shown, &row.at("versus"))) }
                            td { (verdict(row, facts.night.k)) }
                            @if needed { td.num { (maybe(row.needed_n.as_ref(), count, &row.at("needed_n"))) } }
                        }
                    }
                }
            }
        }
    }
}

fn short(number: &Number, unit: &str) -> String {
    let value = if unit == "share" { 100.0 * number.value } else { number.value };
    grouped(value, if value.abs() >= 1000.0 { 0 } else { 1 })
}

fn unit<'a>(facts: &'a Facts, breakdown: &str, rows: &[&Item]) -> &'a str {
    match facts.unit(EntryKind::Kpi, breakdown) {
        "" if rows.iter().all(|row| row.value.as_ref().is_none_or(|value| (0.0..=1.0).contains(&value.value))) => {
            "share"
        }
        unit => unit,
    }
}

fn verdict(row: &Item, k: u32) -> String {
    match (row.state.as_str(), &row.difference) {
        ("ok", Some(difference)) if difference.value > 0.0 => "it worked".to_owned(),
        ("ok", Some(difference)) if difference.value < 0.0 => "it did harm".to_owned(),
        ("ok" | "low_n", Some(_)) => "too few people to rely on".to_owned(),
        ("ok", None) => "nothing to compare with".to_owned(),
        (state, _) => untold(state, k),
    }
}

fn plain(facts: &Facts, breakdown: &str) -> Markup {
    let rows: Vec<&Item> = facts.items.iter().filter(|row| row.breakdown == breakdown).take(14).collect();
    let unit = match facts.unit(EntryKind::Kpi, breakdown) {
        "" if breakdown == "roi" => "",
        _ => unit(facts, breakdown, &rows),
    };
    html! {
        table {
            caption { (title(breakdown)) }
            thead { tr { th scope="col" { "Of" } th.num scope="col" { "Value" } th.num scope="col" { "People" } } }
            tbody {
                @for row in &rows {
                    tr {
                        th scope="row" { bdi { (name(row)) } }
                        td.num {
                            (told(row.value.as_ref(), |value| in_unit(value, unit, &facts.night.currency), &row.at("value"), &row.state))
                        }
                        td.num { (maybe(row.n.as_ref(), count, &row.at("n"))) }
                    }
                }
            }
        }
    }
}

pub(super) fn cohorts(facts: &Facts) -> Section {
    let Some(breakdown) = facts.cohorts.first().map(|row| row.breakdown.as_str()) else {
        return Section::new("cohorts", "Cohorts", "", None);
    };
    let rows: Vec<&Cohort> = facts.cohorts.iter().filter(|row| row.breakdown == breakdown).collect();
    let mut items: Vec<Option<&str>> = rows.iter().map(|row| row.item.as_deref()).collect();
    items.sort_unstable();
    items.dedup();
    let (all, mut items): (Vec<_>, Vec<_>) = items.into_iter().partition(Option::is_none);
    items.drain(..items.len().saturating_sub(14));
    items.extend(all);
    let last = rows.iter().map(|row| row.step).max().unwrap_or(1).min(13);
    let values: Vec<f64> = rows.iter().filter_map(|row| Some(row.value.as_ref()?.value)).collect();
    let scale = Scale::of(values);
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="Cohorts" {
            table.heat {
                caption.sr { "Share of a cohort's customers with an order in the month, by months since the first order" }
                thead {
                    tr {
                        th scope="col" { "First order" } th.num scope="col" { "People" }
                        @for step in 1..=last { th.num scope="col" { (step) } }
                    }
                }
                tbody {
                    @for item in &items {
                        @let of: Vec<&&Cohort> = rows.iter().filter(|row| row.item.as_deref() == *item).collect();
                        tr {
                            th scope="row" {
                                bdi { (item.map(month).unwrap_or_else(|| "All, and earlier ones".to_owned())) }
                            }
                            td.num {
                                @if let Some(row) = of.iter().find(|row| row.step == 1) { (maybe(row.n.as_ref(), count, &row.at("n"))) }
                            }
                            @for step in 1..=last {
                                @match of.iter().find(|row| row.step == step) {
                                    None => td {},
                                    Some(row) => {
                                        @let deep = row.value.as_ref().map_or(0.0, |value| scale.x(value.value) / 25.0);
                                        td class=[((deep as u8) > 0).then(|| format!("a{}", (deep as u8).min(3)))] {
                                            (told(row.value.as_ref(), |value| grouped(100.0 * value, 0), &row.at("value"), &row.state))
                                        }
                                    },
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    let lede =
        "Of the customers who first ordered in a month, how many per hundred ordered again so many months later.";
    Section::new("cohorts", "Cohorts", lede, Some(body))
}

fn month(item: &str) -> String {
    let spoken = date(&format!("{item}-01"));
    spoken.strip_prefix("1\u{a0}").map_or_else(|| clean(item, 30), str::to_owned)
}
