//! Where the rows come from, and what became of them on the way to the clean tables.

use maud::{Markup, html};

use super::parts::{Section, maybe, outcome};
use crate::{
    Facts,
    chart::{Mark, Scale, strip},
    number::{clean, count, date, exact, figure, in_unit, title, words},
    read::{Number, Row},
    rows::{Check, Checks, Ledger},
};

pub(super) fn quality(facts: &Facts) -> Section {
    let any = !facts.ledger.is_empty() || !facts.check_states.is_empty();
    let body = html! {
        (failing(facts))
        (totals(facts))
        (rules(facts))
    };
    let lede =
        "Of what stands in the sources, what became clean and what was set aside; nothing goes missing in between.";
    Section::new("quality", "Data quality", lede, any.then_some(body))
}

fn failing(facts: &Facts) -> Markup {
    let rows: Vec<&Check> = facts.checks.iter().filter(|check| check.state == "fail").collect();
    let of = |state: &str, gate: &str| -> f64 {
        let is = |row: &&Checks| row.state == state && row.gate.as_deref().unwrap_or("none") == gate;
        facts.check_states.iter().filter(is).map(|row| row.checks.value).sum()
    };
    let mut states = vec![];
    for (state, verb) in [("fail", "fail"), ("pass", "hold")] {
        for gate in ["required", "advisory", "none"] {
            let kind = if gate == "none" { String::new() } else { format!(" {gate}") };
            states.extend((of(state, gate) > 0.0).then(|| format!("{}{kind} {verb}", count(of(state, gate)))));
        }
    }
    let silent: f64 = ["required", "advisory", "none"].iter().map(|gate| of("info", gate)).sum();
    states.extend((silent > 0.0).then(|| format!("{} have nothing to judge", count(silent))));
    html! {
        @if !states.is_empty() { p.small { "Checks of the rows: " (states.join(", ")) "." } }
        @if rows.is_empty() {
            @if !states.is_empty() { p { span.pass { "✓" } " No check of the rows fails." } }
        } @else {
            div.scroll tabindex="0" role="group" aria-label="Checks that fail" { table {
                caption { "Checks that fail" }
                thead {
                    tr {
                        th scope="col" { "Check" }
                        th scope="col" { "Of" }
                        th.num scope="col" { "Measured" }
                        th scope="col" { "Finding" }
                        th scope="col" { "Weight" }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" { (title(&row.name)) " " (outcome("fail")) }
                            td { (words(&row.source)) }
                            td.num { (maybe(row.value.as_ref(), figure, &row.at("value"))) }
                            td { bdi { (row.told.as_deref().map(|told| clean(told, 240)).unwrap_or_default()) } }
                            td { (row.gate.as_deref().map(words).unwrap_or_default()) }
                        }
                    }
                }
            } }
        }
    }
}

/// What a source's rows became, as shares of what came in.
fn totals(facts: &Facts) -> Markup {
    const HEIGHT: u32 = 26;
    let rows: Vec<&Ledger> = facts.ledger.iter().filter(|row| row.step == 0).take(20).collect();
    let marks: Vec<Vec<Mark>> = rows.iter().map(|row| parts(row)).collect();
    let desc = format!(
        "Of the rows of {} sources: clean, set aside, merged or superseded, and later than the night.",
        rows.len()
    );
    let cell = |row: &Ledger, number: &Option<Number>, column: &str| maybe(number.as_ref(), count, &row.at(column));
    html! {
        @if !rows.is_empty() {
            div.scroll tabindex="0" role="group" aria-label="Rows by source" {
                table.strips.gates {
                    caption { "Rows by source" }
                    thead {
                        tr {
                            th scope="col" { "Source" }
                            th.chart scope="col" { "What became of the rows" }
                            th.num scope="col" { "In" }
                            th.num scope="col" { "Clean" }
                            th.num scope="col" { "Quarantined" }
                            th.num scope="col" { "Merged" }
                            th.num scope="col" { "Superseded" }
                            th.num scope="col" { "Later" }
                            th.num scope="col" { "In since before" }
                        }
                    }
                    tbody {
                        @for (i, row) in rows.iter().enumerate() {
                            tr {
                                th scope="row" { bdi { (title(&row.source)) } }
                                @if i == 0 {
                                    td.chart rowspan=(rows.len()) {
                                        (strip("What became of the rows", &desc, HEIGHT, &marks, None))
                                    }
                                }
                                td.num { (cell(row, &row.rows_in, "rows_in")) }
                                td.num { (cell(row, &row.clean, "clean")) }
                                td.num { (cell(row, &row.quarantined, "quarantined")) }
                                td.num { (cell(row, &row.merged, "merged")) }
                                td.num { (cell(row, &row.superseded, "superseded")) }
                                td.num { (cell(row, &row.later, "later")) }
                                td.num { (cell(row, &row.came, "came")) }
                            }
                        }
                    }
                }
            }
            p.small { "From the left: clean; merged, superseded, or later than the night; quarantined." }
        }
    }
}

fn parts(row: &Ledger) -> Vec<Mark> {
    let of = |number: &Option<Number>| number.as_ref().map_or(0.0, |number| number.value.max(0.0));
    let (clean, set_aside) = (of(&row.clean), of(&row.quarantined));
    let between = of(&row.merged) + of(&row.superseded) + of(&row.later);
    let all = clean + set_aside + between;
    if all <= 0.0 {
        return vec![];
    }
    let scale = Scale { low: 0.0, high: all };
    let mut marks = vec![Mark::Bar(scale.x(0.0), scale.x(clean), "pale")];
    if between > 0.0 {
        marks.push(Mark::Bar(scale.x(clean), scale.x(clean + between), "bar"));
    }
    if set_aside > 0.0 {
        marks.push(Mark::Bar(scale.x(clean + between), scale.x(all), "down"));
    }
    marks
}

fn rules(facts: &Facts) -> Markup {
    let rows: Vec<&Ledger> = facts.ledger.iter().filter(|row| row.step > 0).take(30).collect();
    html! {
        @if !rows.is_empty() {
            details {
                summary { "Rule by rule: where rows left, and what was only noted" }
                div.scroll tabindex="0" role="group" aria-label="Rules" { table {
                    caption.sr { "Rules that rows failed" }
                    thead {
                        tr {
                            th scope="col" { "Source" }
                            th scope="col" { "Rule" }
                            th scope="col" { "What it does" }
                            th.num scope="col" { "Failed" }
                            th.num scope="col" { "Rows in" }
                            th.num scope="col" { "Rows on" }
                            th.num scope="col" { "Money in" }
                            th.num scope="col" { "Money on" }
                        }
                    }
                    tbody {
                        @for row in &rows {
                            tr {
                                td { bdi { (words(&row.source)) } }
                                th scope="row" { bdi { (title(&row.rule)) } }
                                td { (row.severity.as_deref().map(words).unwrap_or_default()) }
                                td.num { (maybe(row.failed.as_ref(), count, &row.at("failed"))) }
                                td.num { (maybe(row.rows_in.as_ref(), count, &row.at("rows_in"))) }
                                td.num { (maybe(row.clean.as_ref(), count, &row.at("clean"))) }
                                td.num { (amount(facts, row, &row.amount_in, "amount_in")) }
                                td.num { (amount(facts, row, &row.amount_clean, "amount_clean")) }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn amount(facts: &Facts, row: &Ledger, number: &Option<Number>, column: &str) -> Markup {
    let told = number.as_ref().filter(|number| number.value != 0.0);
    let shown = told.and_then(Number::micros).map(|micros| exact(micros, &facts.night.currency));
    maybe(told, |value| shown.clone().unwrap_or_else(|| figure(value)), &row.at(column))
}

pub(super) fn inputs(facts: &Facts) -> Section {
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="Sources" {
            table {
                caption.sr { "Files and rows of each source" }
                thead {
                    tr {
                        th scope="col" { "Source" }
                        th.num scope="col" { "Files" }
                        th.num scope="col" { "New tonight" }
                        th.num scope="col" { "Rows" }
                        th.num scope="col" { "Money" }
                        th scope="col" { "First read" }
                        th scope="col" { "Last new file" }
                        th.num scope="col" { "Lack a column" }
                    }
                }
                tbody {
                    @for row in &facts.inputs {
                        tr {
                            th scope="row" {
                                bdi { (title(&row.source)) } @if let Some(feed) = &row.feed { " " small { bdi { (clean(feed, 40)) } } }
                            }
                            td.num { (maybe(Some(&row.files), count, &row.at("files"))) }
                            td.num { (maybe(row.new_files.as_ref(), count, &row.at("new_files"))) }
                            td.num { (maybe(row.file_rows.as_ref(), count, &row.at("file_rows"))) }
                            td.num {
                                @let money = row.amount.as_ref().filter(|amount| amount.value != 0.0);
                                @let shown = |value: f64| in_unit(value, "currency", &facts.night.currency);
                                (maybe(money, shown, &row.at("amount")))
                            }
                            td { (row.first_night.as_deref().map(date).unwrap_or_default()) }
                            td { (row.last_night.as_deref().map(date).unwrap_or_default()) }
                            td.num { (maybe(row.lacking.as_ref(), count, &row.at("lacking"))) }
                        }
                    }
                }
            }
        }
    };
    let lede = "The files that tonight was made of, as they were counted before any rule.";
    Section::new("inputs", "Inputs", lede, (!facts.inputs.is_empty()).then_some(body))
}
