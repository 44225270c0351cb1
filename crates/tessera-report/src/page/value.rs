//! What customers are going to be worth: the models, and what they predicted beside what came.

use maud::{Markup, html};

use super::parts::{Section, maybe};
use crate::{
    Facts,
    chart::{Mark, Scale, strip},
    number::{clean, count, date, figure},
    read::Row,
    rows::{Backtest, Parameter},
};

pub(super) fn value(facts: &Facts) -> Section {
    let any = !facts.value_model.is_empty() || !facts.backtest.is_empty();
    let body = html! {
        (parameters(facts))
        @if facts.backtest.is_empty() {
            p.none { "There is no backtest tonight: it needs a night published 90 days before, or another of its horizons." }
        } @else { (backtest(facts)) }
    };
    let lede = "Models of how often customers buy (BG/NBD, MBG/NBD) and how much (Gamma-Gamma), fitted on tonight's customers.";
    Section::new("value", "Customer value", lede, any.then_some(body))
}

fn model(name: &str) -> String {
    match name {
        "bg_nbd" => "BG/NBD: purchases".to_owned(),
        "mbg_nbd" => "MBG/NBD: purchases".to_owned(),
        "gamma_gamma" => "Gamma-Gamma: value of a purchase".to_owned(),
        other => clean(other, 40),
    }
}

fn parameters(facts: &Facts) -> Markup {
    let mut models: Vec<&str> = facts.value_model.iter().map(|row| row.model.as_str()).collect();
    models.dedup();
    html! {
        div.columns {
            @for name in &models {
                @let rows: Vec<&Parameter> = facts.value_model.iter().filter(|row| row.model == *name).collect();
                div {
                    table {
                        caption {
                            (model(name))
                            @if rows.iter().any(|row| row.chosen == Some(true)) { " " small { "in use" } } @else { " " small { "not in use" } }
                        }
                        thead {
                            tr {
                                th scope="col" { "Parameter" }
                                th.num scope="col" { "Value" }
                                th.num scope="col" { "Std. error" }
                            }
                        }
                        tbody {
                            @for row in rows.iter().filter(|row| row.parameter.is_some()) {
                                tr {
                                    th scope="row" {
                                        (row.parameter.as_deref().map(|name| clean(name, 20)).unwrap_or_default())
                                    }
                                    td.num { (maybe(row.value.as_ref(), figure, &row.at("value"))) }
                                    td.num { (maybe(row.std_error.as_ref(), figure, &row.at("std_error"))) }
                                }
                            }
                        }
                    }
                    @if let Some(row) = rows.first() {
                        p.small {
                            @if row.state != "ok" { "Refused. " }
                            @if let Some(n) = &row.n {
                                (maybe(Some(n), count, &row.at("n"))) " customers"
                                @if let Some(unit) = &row.time_unit { ", in " (clean(unit, 20)) } ". "
                            }
                            @if let Some(told) = &row.told { "Beware: " bdi { (clean(told, 240)) } "." }
                        }
                    }
                }
            }
        }
    }
}

fn backtest(facts: &Facts) -> Markup {
    let mut horizons: Vec<i64> = facts.backtest.iter().map(|row| row.horizon).collect();
    horizons.dedup();
    html! { @for horizon in horizons.iter().take(3) { (tenths(facts, *horizon)) } }
}

fn tenths(facts: &Facts, horizon: i64) -> Markup {
    const HEIGHT: u32 = 24;
    let rows: Vec<&Backtest> = facts.backtest.iter().filter(|row| row.horizon == horizon).collect();
    let ends = rows.iter().flat_map(|row| [&row.predicted, &row.observed].map(|n| n.as_ref().map(|n| n.value)));
    let scale = Scale::of(ends.flatten()).with_zero();
    let marks: Vec<Vec<Mark>> = rows
        .iter()
        .map(|row| {
            let mut marks = vec![];
            if let (Some(observed), Some(error)) = (&row.observed, &row.std_error) {
                let reach = 1.96 * error.value;
                marks.push(Mark::Line(scale.x(observed.value - reach), scale.x(observed.value + reach)));
            }
            marks.extend(row.observed.as_ref().map(|n| Mark::Tick(scale.x(n.value), "tick")));
            marks.extend(row.predicted.as_ref().map(|n| Mark::Bound(scale.x(n.value))));
            marks
        })
        .collect();
    let since = rows.first().map(|row| date(&row.since)).unwrap_or_default();
    let desc =
        format!("What was predicted on {since} for {horizon} days, beside what came, by tenths of the customers.");
    html! {
        div.scroll tabindex="0" role="group" aria-label="Backtest" { table.strips.gates {
            caption { "Days with an order in " (horizon) " days: predicted on " (since) ", and what came" }
            thead {
                tr {
                    th scope="col" { "Tenth" } th.chart scope="col" { "Stroke: what came; upright: predicted" }
                    th.num scope="col" { "Predicted" }
                    th.num scope="col" { "Came" }
                    th.num scope="col" { "Std. error" }
                    th.num scope="col" { "Customers" }
                }
            }
            tbody {
                @for (i, row) in rows.iter().enumerate() {
                    tr {
                        th scope="row" { @match row.tenth { None => "All", Some(tenth) => (tenth) } }
                        @if i == 0 {
                            td.chart rowspan=(rows.len()) {
                                (strip("Predicted and observed orders", &desc, HEIGHT, &marks, None))
                            }
                        }
                        td.num { (maybe(row.predicted.as_ref(), figure, &row.at("predicted"))) }
                        td.num { (maybe(row.observed.as_ref(), figure, &row.at("observed"))) }
                        td.num { (maybe(row.std_error.as_ref(), figure, &row.at("std_error"))) }
                        td.num { (maybe(row.customers.as_ref(), count, &row.at("customers"))) }
                    }
                }
            }
        } }
    }
}
