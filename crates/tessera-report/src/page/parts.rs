//! What the sections are made of.

use maud::{Markup, html};

use crate::{
    Facts,
    facts::EntryKind,
    number::title,
    read::Number,
    words::{Piece, Sentence, untold_short},
};

/// A section of the page. One without a body says so.
pub(super) struct Section {
    pub id: &'static str,
    pub title: &'static str,
    lede: String,
    body: Option<Markup>,
}

impl Section {
    pub fn new(id: &'static str, title: &'static str, lede: impl Into<String>, body: Option<Markup>) -> Self {
        Self { id, title, lede: lede.into(), body }
    }
}

pub(super) fn section(section: &Section) -> Markup {
    let Section { id, title, lede, body } = section;
    html! {
        section id=(id) aria-labelledby=(format!("{id}-h")) {
            h2 id=(format!("{id}-h")) { (title) }
            @if let Some(body) = body {
                p.lede { (lede) }
                (body)
            } @else {
                p.none { (nothing(id)) }
            }
        }
    }
}

/// What a section says that has nothing to say.
fn nothing(id: &str) -> &'static str {
    match id {
        "causes" => {
            "No cause is told: there is no earlier night to hold this one against, or causes are not looked for."
        }
        "waterfall" => {
            "The change of revenue is not told: there is no earlier night, or one of the two values is hidden."
        }
        "segments" => "There are no segments tonight.",
        "figures" => "No KPI is told by segment.",
        "profile" => "No profile of the segments is told.",
        "nights" => "No KPI is told over the nights.",
        "movers" => "Nobody can have moved: there is no earlier night with segments.",
        "gates" => "No gate was asked.",
        "drift" => "Drift is not measured: there is no earlier night, or there are too few people.",
        "campaigns" => "The data tell of no campaign and no channel, or the catalogue breaks nothing down by them.",
        "cohorts" => "No cohort is told.",
        "value" => "Customer value is not modelled, or is of too few people.",
        "quality" => "No ledger of the rows is there.",
        "model" => "No candidate is recorded.",
        "inputs" => "No input is recorded.",
        _ => "Tonight's tables say nothing about this.",
    }
}

/// A number of a table, with its address.
pub(super) fn data(number: &Number, shown: &str, at: &str) -> Markup {
    html! { data value=(number.raw) data-fact=(at) { (shown) } }
}

/// A number of a table, or why there is none.
pub(super) fn told(number: Option<&Number>, shown: impl Fn(f64) -> String, at: &str, state: &str) -> Markup {
    match number {
        None => html! { span.none { (untold_short(state)) } },
        Some(number) => html! {
            (data(number, &shown(number.value), at))
            @if state == "low_n" { " " small { "few" } }
        },
    }
}

/// A number of a table, or a dash where nothing is to be said.
pub(super) fn maybe(number: Option<&Number>, shown: impl Fn(f64) -> String, at: &str) -> Markup {
    match number {
        None => html! { span.none { "–" } },
        Some(number) => data(number, &shown(number.value), at),
    }
}

pub(super) fn sentence(sentence: &Sentence) -> Markup {
    html! {
        @for piece in &sentence.0 {
            @match piece {
                Piece::Words(text) => (text),
                Piece::Fact { shown, raw, at } => data value=(raw) data-fact=(at) { (shown) },
            }
        }
    }
}

/// The name of a KPI, leading to what it means where the glossary says it.
pub(super) fn kpi_name(facts: &Facts, name: &str) -> Markup {
    let known = facts.catalogue.iter().any(|entry| entry.kind == EntryKind::Kpi && entry.name == name);
    html! {
        @if known { a href=(format!("#{}", anchor(name))) { bdi { (title(name)) } } } @else { bdi { (title(name)) } }
    }
}

/// An anchor made of a name, whatever signs it has.
pub(super) fn anchor(name: &str) -> String {
    let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect();
    format!("kpi-{safe}")
}

/// Passes or fails, in words beside the sign.
pub(super) fn outcome(state: &str) -> Markup {
    match state {
        "pass" => html! { span.pass { "✓ holds" } },
        "fail" => html! { span.fail { "✗ fails" } },
        other => html! { span.none { (crate::number::words(other)) } },
    }
}
