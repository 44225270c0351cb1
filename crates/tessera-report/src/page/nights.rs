//! Over the nights: the KPIs of everybody, and what became of the segments.

use maud::{Markup, html};

use super::{
    parts::{Section, data, kpi_name, maybe},
    segments::named,
};
use crate::{
    Facts,
    chart::spark,
    facts::EntryKind,
    number::{change, date, in_unit, title, words},
    read::{Number, Row},
    rows::{Lineage, Move, Past, Run},
    words::segment,
};

pub(super) fn over_time(facts: &Facts, room: usize) -> Section {
    let kpis: Vec<&str> = facts.of_everybody().iter().map(|row| row.kpi.as_str()).take(10 * room).collect();
    let mut nights: Vec<&str> = facts.history.iter().map(|past| past.as_of.as_str()).collect();
    nights.sort_unstable();
    nights.dedup();
    let enough = nights.len() > 1 && !kpis.is_empty();
    let unpublished = |run: &&Run| run.state.as_deref().is_some_and(|state| state != "published");
    let held: Vec<String> = facts.nights.iter().filter(unpublished).map(|run| date(&run.as_of)).take(12).collect();
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="KPIs over the nights" {
            table.lines {
                caption.sr { "KPIs of all customers over the nights: a line, the first value, the lowest, the highest and tonight's" }
                thead {
                    tr {
                        th scope="col" { "KPI" } th scope="col" { "Over nights" } th.num scope="col" { "First" }
                        th.num scope="col" { "Lowest" }
                        th.num scope="col" { "Highest" }
                        th.num scope="col" { "Tonight" }
                    }
                }
                tbody { @for kpi in &kpis { (line(facts, kpi)) } }
            }
        }
        @if !held.is_empty() {
            p.small {
                "Nights that were not published: " (held.join(", ")) "."
            }
        }
    };
    let lede = match (nights.first(), nights.last()) {
        (Some(first), Some(last)) => {
            format!("All customers, {} nights from {} to {}.", nights.len(), date(first), date(last))
        }
        _ => String::new(),
    };
    if nights.len() == 1 {
        let only =
            html! { p.none { "This is the first night that is published: there is nothing to compare it with yet." } };
        return Section::new("nights", "Over the nights", "", Some(only));
    }
    Section::new("nights", "Over the nights", lede, enough.then_some(body))
}

fn line(facts: &Facts, kpi: &str) -> Markup {
    let past = facts.past(kpi, None);
    let unit = facts.unit(EntryKind::Kpi, kpi);
    let shown = |value: f64| in_unit(value, unit, &facts.night.currency);
    let known: Vec<(&Past, &Number)> = past.iter().filter_map(|row| Some((*row, row.value.as_ref()?))).collect();
    let values: Vec<Option<f64>> = past.iter().map(|row| row.value.as_ref().map(|number| number.value)).collect();
    let cell = |of: Option<&(&Past, &Number)>| {
        html! {
            td.num {
                @match of {
                    Some((row, number)) => (data(number, &shown(number.value), &row.at("value"))),
                    None => span.none { "not told" },
                }
            }
        }
    };
    let by = |a: &&(&Past, &Number), b: &&(&Past, &Number)| a.1.value.total_cmp(&b.1.value);
    let tonight = known.iter().find(|(row, _)| row.as_of == facts.night.as_of);
    let desc = match (known.first(), known.last()) {
        (Some((_, a)), Some((_, b))) => format!("From {} to {}.", shown(a.value), shown(b.value)),
        _ => "No value is told.".to_owned(),
    };
    html! {
        tr {
            th scope="row" { (kpi_name(facts, kpi)) }
            td.line {
                @if known.len() > 1 { (spark(&format!("{} over {} nights", title(kpi), past.len()), &desc, &values)) }
            }
            (cell(known.first())) (cell(known.iter().min_by(by))) (cell(known.iter().max_by(by))) (cell(tonight))
        }
    }
}

pub(super) fn lineage(facts: &Facts, room: usize) -> Section {
    let mut ids = facts.segments();
    for row in &facts.lineage {
        if !ids.contains(&row.segment) {
            ids.push(row.segment);
        }
    }
    for row in &facts.moves {
        if !ids.contains(&row.segment) {
            ids.push(row.segment);
        }
    }
    let more = ids.len().saturating_sub(12 * room);
    ids.truncate(12 * room);
    let has_moves = facts.moves.iter().any(|row| row.contribution.is_some());
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="What became of the segments" {
            table.moves {
                caption.sr { "Segments: where they come from, and how many customers came and went since the previous night" }
                thead {
                    tr {
                        th.num scope="col" { abbr title="Number of the segment" { "№" } }
                        th scope="col" { "Segment" } th scope="col" { "What became of it" }
                        @if has_moves {
                            th.num scope="col" { "New customers" } th.num scope="col" { "From other segments" }
                            th.num scope="col" { "To other segments" } th.num scope="col" { "Left, other" }
                        }
                    }
                }
                tbody {
                    @for id in &ids {
                        tr {
                            td.num { (id) }
                            th scope="row" {
                                bdi { (named(facts, *id)) }
                            }
                            td { bdi { (became(facts, *id)) } }
                            @if has_moves {
                                (moves(facts, *id, |term| term == "new"))
                                (moves(facts, *id, |term| term == "moved_in"))
                                (moves(facts, *id, |term| term == "moved_out"))
                                (moves(facts, *id, |term| !["new", "moved_in", "moved_out"].contains(&term)))
                            }
                        }
                    }
                }
            }
        }
        @if more > 0 { p.small { (more) " further segments stand in the table segment_lineage." } }
        @if has_moves {
            p.small {
                "“data”: their own data moved them; “model”: the new model places them elsewhere. \
                “withheld”: of too few people to be told by themselves."
            }
        }
    };
    let lede = "A segment keeps its number as long as it keeps its members.";
    let any = !facts.lineage.is_empty() || !facts.moves.is_empty();
    Section::new("movers", "Lineage and movers", lede, any.then_some(body))
}

fn became(facts: &Facts, id: i64) -> String {
    let rows: Vec<&Lineage> = facts.lineage.iter().filter(|row| row.segment == id).collect();
    let Some(first) = rows.first() else { return "is no more".to_owned() };
    let parents: Vec<String> = rows
        .iter()
        .filter_map(|row| row.parent.filter(|parent| *parent != id))
        .map(|parent| segment(facts, parent))
        .collect();
    let parents = parents.join(" and ");
    let since = || first.born.as_deref().map(|born| format!(" since {}", date(born))).unwrap_or_default();
    match first.event.as_str() {
        "carried" if parents.is_empty() => format!("goes on{}", since()),
        "carried" => format!("goes on from {parents}"),
        "merged" => format!("goes on{}, and took in {parents}", since()),
        "split" => format!("part of {parents}"),
        "born" => "new".to_owned(),
        "died" => "ended tonight".to_owned(),
        other => words(other),
    }
}

fn moves(facts: &Facts, id: i64, is: impl Fn(&str) -> bool) -> Markup {
    let rows: Vec<&Move> =
        facts.moves.iter().filter(|row| row.segment == id && row.term.as_deref().is_some_and(&is)).take(6).collect();
    html! {
        td.num {
            @if rows.is_empty() { span.none { "–" } }
            @for (i, row) in rows.iter().enumerate() {
                @if i > 0 { br; }
                (maybe(row.contribution.as_ref(), |value| change(value, "customers", ""), &row.at("contribution")))
                @match (row.term.as_deref(), row.detail.as_deref()) {
                    (_, Some("refit")) => { " " small { "model" } },
                    (_, Some(detail)) => { " " small { (words(detail)) } },
                    (Some("new" | "moved_in" | "moved_out"), None) => {},
                    (Some(term), None) => { " " small { (words(term)) } },
                    (None, None) => {},
                }
            }
        }
    }
}
