//! The first screen: the verdict, the tiles, why, and the change of revenue term by term.

use maud::{Markup, html};

use super::parts::{Section, data, kpi_name, sentence};
use crate::{
    Facts,
    chart::{Mark, Scale, spark, strip},
    facts::EntryKind,
    number::{change, clean, date, exact, in_unit, title, words},
    read::{Number, Row},
    rows::{Cause, Kpi, Term},
    words::{cause, freshness, headlines, moved, segment, term, untold, verdict},
};

pub(super) fn head(facts: &Facts) -> Markup {
    let night = &facts.night;
    html! {
        header {
            p.kicker {
                bdi { (clean(&night.project, 80)) } " · night of "
                time datetime=(night.as_of) { (date(&night.as_of)) }
                " · " (clean(&night.timezone, 40))
            }
            @let all = verdict(facts);
            h1 { @if let Some(first) = all.first() { (sentence(first)) } }
            p.verdict { @for one in all.iter().skip(1) { (sentence(one)) " " } }
            p.fresh { (sentence(&freshness(facts))) }
        }
    }
}

pub(super) fn tiles(facts: &Facts) -> Markup {
    let rows = headlines(facts);
    html! {
        @if !rows.is_empty() {
            section.tiles aria-label="Headline figures" { @for row in &rows { (tile(facts, row)) } }
        }
    }
}

fn tile(facts: &Facts, row: &Kpi) -> Markup {
    let unit = facts.unit(EntryKind::Kpi, &row.kpi);
    let currency = &facts.night.currency;
    let shown = |value: f64| in_unit(value, unit, currency);
    let past: Vec<Option<f64>> =
        facts.past(&row.kpi, None).iter().map(|past| past.value.as_ref().map(|number| number.value)).collect();
    let since = facts.since().map(date);
    html! {
        div.tile {
            h2 { (kpi_name(facts, &row.kpi)) }
            @match &row.value {
                Some(value) => p.big { (data(value, &shown(value.value), &row.at("value"))) },
                None => p.big.none { (untold(&row.state, facts.night.k)) },
            }
            @if let (Some(moved), Some(previous)) = (moved(row, unit, currency), &row.previous) {
                p {
                    strong { (moved) } " from " (data(previous, &shown(previous.value), &row.at("previous")))
                    @if let Some(since) = &since { " on " (since) }
                }
            } @else if row.value.is_some() { p.none { "nothing earlier to hold it against" } }
            @if let (Some(low), Some(high)) = (&row.ci_low, &row.ci_high) {
                p.small {
                    "95\u{202f}% interval " (data(low, &shown(low.value), &row.at("ci_low"))) " to "
                    (data(high, &shown(high.value), &row.at("ci_high")))
                }
            }
            @if row.state == "low_n" { p.small { "few people behind it" } }
            @if let (Some(bound), Some(verdict)) = (&row.threshold, &row.verdict) {
                p.small {
                    (super::parts::outcome(verdict)) ", asked for "
                    (data(bound, &shown(bound.value), &row.at("threshold")))
                }
            }
            @let known: Vec<f64> = past.iter().flatten().copied().collect();
            @if let (true, [first, .., last]) = (known.len() > 1, known.as_slice()) {
                @let desc = format!("From {} to {} over {} nights.", shown(*first), shown(*last), past.len());
                (spark(&title(&row.kpi), &desc, &past))
            }
        }
    }
}

pub(super) fn causes(facts: &Facts, room: usize) -> Section {
    let order: Vec<&str> = {
        let mut names: Vec<&str> = headlines(facts).iter().map(|row| row.kpi.as_str()).collect();
        names.extend(
            facts
                .of_everybody()
                .iter()
                .map(|row| row.kpi.as_str())
                .filter(|name| !names.contains(name))
                .collect::<Vec<_>>(),
        );
        names
    };
    let of = |kpi: &str| -> Vec<&Cause> {
        facts
            .causes
            .iter()
            .filter(|row| row.kpi == kpi && row.segment.is_none() && is_told(row))
            .take(room.min(3))
            .collect()
    };
    let open: Vec<&str> =
        order.iter().copied().take(headlines(facts).len()).filter(|kpi| !of(kpi).is_empty()).collect();
    let further: Vec<&str> =
        order.iter().copied().skip(headlines(facts).len()).filter(|kpi| !of(kpi).is_empty()).take(3 * room).collect();
    let list = |kpis: &[&str]| {
        html! {
            dl.causes {
                @for kpi in kpis {
                    div {
                        dt { (kpi_name(facts, kpi)) (so_much(facts, kpi)) }
                        dd {
                            ol { @for row in of(kpi) { li { (sentence(&cause(facts, row))) } } }
                            @for row in shared(facts, kpi) { p.small { (sentence(&cause(facts, row))) } }
                        }
                    }
                }
            }
        }
    };
    let silent: Vec<String> =
        order.iter().filter(|kpi| of(kpi).is_empty() && !facts.causes.is_empty()).map(|kpi| words(kpi)).collect();
    let narrower: Vec<&Cause> =
        facts.causes.iter().filter(|row| row.segment.is_some() && row.rank == Some(1)).take(4 * room).collect();
    let body = html! {
        (list(&open))
        @if !silent.is_empty() {
            p.small {
                "Nothing stands out for " bdi { (silent.join(", ")) } ": what changed there, changed everywhere alike."
            }
        }
        @if !further.is_empty() { details { summary { "Further KPIs" } (list(&further)) } }
        @if !narrower.is_empty() {
            details {
                summary { "Within single segments" }
                ul {
                    @for row in narrower {
                        li {
                            bdi { (title(&row.kpi)) } " of " bdi { (segment(facts, row.segment.unwrap_or_default())) } ": "
                            (sentence(&cause(facts, row)))
                        }
                    }
                }
            }
        }
    };
    let lede = "Where the change since the previous night was otherwise than everywhere else, the weightiest first: what a \
                place adds beyond what all share. It says where to look, not who is to blame.";
    Section::new("causes", "Why", lede, (!facts.causes.is_empty()).then_some(body))
}

/// Whether a row is a finding, or says why there is none; the others are what is left of the change.
fn is_told(row: &Cause) -> bool {
    row.rank.is_some() || row.state != "ok"
}

/// What is left of the change beside the findings.
fn shared<'a>(facts: &'a Facts, kpi: &str) -> Vec<&'a Cause> {
    let zero = |row: &Cause| row.contribution.as_ref().is_none_or(|number| number.value == 0.0);
    facts.causes.iter().filter(|row| row.kpi == kpi && row.segment.is_none() && !is_told(row) && !zero(row)).collect()
}

fn so_much(facts: &Facts, kpi: &str) -> Markup {
    let unit = facts.unit(EntryKind::Kpi, kpi);
    html! {
        @if let Some((row, moved)) = facts.kpi(kpi, None).and_then(|row| Some((row, moved(row, unit, &facts.night.currency)?))) {
            " " small {
                (moved)
                @if let Some(value) = &row.value { ", to " (data(value, &in_unit(value.value, unit, &facts.night.currency), &row.at("value"))) }
            }
        }
    }
}

/// The change of revenue, in millionths: where it begins, its terms, and where it ends.
pub(super) struct Steps<'a> {
    pub start: i128,
    pub terms: Vec<(&'a Term, &'a Number, i128)>,
    pub end: i128,
    /// Whether the terms lead from the value that the first one begins with to the KPI's.
    pub closes: bool,
}

/// The terms of the change of revenue, if it is told.
pub(super) fn steps(facts: &Facts) -> Option<Steps<'_>> {
    let end = facts.kpi("revenue", None)?.exact.as_ref()?.micros()?;
    let mut terms = Vec::new();
    for row in facts.waterfall.iter().filter(|row| row.term.is_some()) {
        let number = row.exact.as_ref()?;
        terms.push((row, number, number.micros()?));
    }
    terms.sort_by_key(|(row, ..)| row.step);
    let sum = terms.iter().try_fold(0_i128, |sum, (.., micros)| sum.checked_add(*micros))?;
    let start = end.checked_sub(sum)?;
    let told = terms.first()?.0.before.as_ref()?.value;
    // The table has the old value as a float.
    let closes = (start as f64 / 1e6 - told).abs() <= 1e-9 * told.abs().max(1.0);
    Some(Steps { start, terms, end, closes })
}

pub(super) fn waterfall(facts: &Facts) -> Section {
    let (id, name) = ("waterfall", "From last night's revenue to tonight's");
    let Some(Steps { start, terms, end, closes }) = steps(facts) else {
        return Section::new(id, name, "", None);
    };
    const HEIGHT: u32 = 34;
    let currency = &facts.night.currency;
    let float = |micros: i128| micros as f64 / 1e6;
    let mut at = start;
    let mut spans = vec![];
    for (.., micros) in &terms {
        spans.push((at, at + micros));
        at += micros;
    }
    let all = spans.iter().flat_map(|(a, b)| [*a, *b]).chain([start, end]).map(float);
    // Bars of totals begin at zero only where the steps between them can still be seen.
    let tight = Scale::of(all);
    let scale = if tight.low > 0.0 && (tight.high - tight.low) < 0.3 * tight.high {
        Scale { low: tight.low - 0.25 * (tight.high - tight.low), high: tight.high }
    } else {
        tight.with_zero()
    };
    let cut = scale.low > 0.0;
    let zero = scale.x(scale.low.max(0.0));
    let mut marks = vec![vec![Mark::Bar(zero, scale.x(float(start)), "total"), Mark::Join(scale.x(float(start)))]];
    for (from, to) in &spans {
        let class = if to < from { "down" } else { "up" };
        let (from, to) = (scale.x(float(*from)), scale.x(float(*to)));
        marks.push(vec![Mark::Bar(from, to, class), Mark::Join(to)]);
    }
    marks.push(vec![Mark::Bar(zero, scale.x(float(end)), "total")]);
    let since = facts.since().map(date).unwrap_or_else(|| "the previous night".to_owned());
    let desc = format!(
        "Net revenue went from {} on {since} to {} tonight, in {} steps.",
        exact(start, currency),
        exact(end, currency),
        terms.len()
    );
    let rows = u32::try_from(marks.len()).unwrap_or(u32::MAX);
    let kpi = facts.kpi("revenue", None);
    let body = html! {
        table.strips.tall {
            caption.sr { "Terms of the change of net revenue since " (since) }
            thead { tr { th scope="col" { "Term" } th.chart scope="col" { "Change" } th.num scope="col" { "Amount" } } }
            tbody {
                tr.total {
                    th scope="row" { (since) }
                    td.chart rowspan=(rows) { (strip("Change of net revenue, term by term", &desc, HEIGHT, &marks, None)) }
                    td.num { (exact(start, currency)) }
                }
                @for (row, number, micros) in &terms {
                    tr {
                        @let label = term(row.term.as_deref().unwrap_or_default(), row.detail.as_deref());
                        th scope="row" { bdi { (title(&label.replace("customers known before:", "known before:"))) } }
                        td.num {
                            @let sign = if *micros > 0 { "+" } else { "" };
                            (data(number, &format!("{sign}{}", exact(*micros, currency)), &row.at("exact")))
                        }
                    }
                }
                tr.total {
                    th scope="row" { "Tonight" }
                    td.num {
                        @if let Some((kpi, number)) = kpi.and_then(|kpi| Some((kpi, kpi.exact.as_ref()?))) {
                            (data(number, &exact(end, currency), &kpi.at("exact")))
                        }
                    }
                }
            }
        }
        @if cut { p.small { "Bars of the two totals are cut: they do not begin at zero." } }
        @if !closes { p.small.fail { "The terms do not lead from the earlier value to tonight's: some are not told." } }
    };
    let total = change(float(end - start), "currency", currency);
    let lede =
        format!("Net revenue of 90 days changed by {total}. Each term is exact, and they add up to tonight's total.");
    Section::new(
        id,
        name,
        if closes { lede } else { format!("Net revenue of 90 days changed by {total}.") },
        Some(body),
    )
}
