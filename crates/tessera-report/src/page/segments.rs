//! The segments: who they are, how large, and what they are worth.

use maud::{Markup, html};

use super::parts::{Section, kpi_name, told};
use crate::{
    Facts,
    chart::{Mark, Scale, spark, strip},
    facts::EntryKind,
    number::{bare, change, count, date, head, in_unit, title},
    read::Row,
    rows::Kpi,
    words::{headlines, segment_name},
};

const NOT_TOLD: &str = "“not told”: a figure of fewer than ";

/// The segments that the page tells of one by one, the largest first.
pub(super) fn shown(facts: &Facts) -> Vec<i64> {
    let mut ids = facts.segments();
    ids.truncate(60);
    ids
}

/// The name of a segment, or that it has none.
pub(super) fn named(facts: &Facts, id: i64) -> String {
    segment_name(facts, id).unwrap_or_else(|| "without a name".to_owned())
}

fn number_of(row: Option<&Kpi>) -> Option<f64> {
    row.and_then(|row| Some(row.value.as_ref()?.value))
}

pub(super) fn list(facts: &Facts, room: usize) -> Section {
    let ids = shown(facts);
    let everybody = number_of(facts.kpi("customers", None));
    let share = |id: i64| Some(number_of(facts.kpi("customers", Some(id)))? / everybody.filter(|all| *all > 0.0)?);
    let widest = ids.iter().filter_map(|id| share(*id)).fold(0.0, f64::max);
    let marks: Vec<Vec<Mark>> = ids
        .iter()
        .map(|id| share(*id).map(|share| vec![Mark::Bar(0.0, 100.0 * share / widest, "bar")]).unwrap_or_default())
        .collect();
    let desc = format!("Bars of the share of customers in each of {} segments, the largest first.", ids.len());
    let rows = ids.len();
    let currency = &facts.night.currency;
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="Table of segments" {
            table.strips.people {
                caption.sr { "Segments: size, share, change since the previous night, revenue and size over the nights" }
                thead {
                    tr {
                        th.num scope="col" { abbr title="Number of the segment" { "№" } }
                        th scope="col" { "Segment" }
                        th.num scope="col" { "Customers" }
                        th.num scope="col" { "Share" }
                        th.chart scope="col" { span.sr { "Share as a bar" } }
                        th.num scope="col" { "Since before" }
                        th.num scope="col" { "Revenue, " (head("currency", currency)) }
                        @if many(facts) { th scope="col" { "Size over nights" } }
                    }
                }
                tbody {
                    @for (i, id) in ids.iter().enumerate() {
                        tr {
                            td.num { (id) }
                            th scope="row" {
                                bdi { (named(facts, *id)) }
                            }
                            td.num { (size(facts, *id)) }
                            td.num {
                                @if let Some(share) = share(*id) { (in_unit(share, "share", currency)) } @else { span.none { "–" } }
                            }
                            @if i == 0 {
                                td.chart rowspan=(rows) {
                                    (strip("Share of customers by segment", &desc, 34, &marks, None))
                                }
                            }
                            td.num { (since_before(facts, *id)) }
                            td.num { (figure(facts, "revenue", *id)) }
                            @if many(facts) { td.line { (over_nights(facts, *id, room)) } }
                        }
                    }
                }
            }
        }
        @if ids.iter().any(|id| facts.kpi("customers", Some(*id)).is_some_and(|row| row.value.is_none())) {
            p.small {
                (NOT_TOLD) (facts.night.k) " people, or of more where it would tell of these with other figures."
            }
        }
    };
    let fitted = facts.names.iter().find_map(|row| row.fitted_on.as_deref());
    let lede = match (facts.segments().len(), fitted) {
        (1, _) => "All customers are in one segment.".to_owned(),
        (n, Some(on)) if on == facts.night.as_of => format!("{n} segments, by a model found tonight."),
        (n, Some(on)) => format!("{n} segments, by the model of {}.", date(on)),
        (n, None) => format!("{n} segments."),
    };
    let lede = if ids.len() == 60 { format!("{lede} Only the largest 60 are told of here.") } else { lede };
    Section::new("segments", "Segments", lede, (!ids.is_empty()).then_some(body))
}

fn many(facts: &Facts) -> bool {
    facts.history.iter().any(|past| past.as_of < facts.night.as_of)
}

fn size(facts: &Facts, id: i64) -> Markup {
    figure(facts, "customers", id)
}

fn figure(facts: &Facts, kpi: &str, id: i64) -> Markup {
    let unit = facts.unit(EntryKind::Kpi, kpi);
    match facts.kpi(kpi, Some(id)) {
        None => html! { span.none { "–" } },
        Some(row) => {
            let largest = largest(facts.kpis.iter().filter(|row| row.kpi == kpi && row.segment.is_some()));
            told(row.value.as_ref(), |value| bare(value, unit, largest), &row.at("value"), &row.state)
        }
    }
}

fn largest<'a>(rows: impl Iterator<Item = &'a Kpi>) -> f64 {
    rows.filter_map(|row| Some(row.value.as_ref()?.value.abs())).fold(0.0, f64::max)
}

fn since_before(facts: &Facts, id: i64) -> Markup {
    let row = facts.kpi("customers", Some(id));
    html! {
        @match row.and_then(|row| row.value.as_ref().zip(row.previous.as_ref())) {
            Some((value, previous)) => (change(value.value - previous.value, "customers", "")),
            None => span.none { "–" },
        }
    }
}

fn over_nights(facts: &Facts, id: i64, room: usize) -> Markup {
    let mut past = facts.past("customers", Some(id));
    past.drain(..past.len().saturating_sub(15 * room));
    let values: Vec<Option<f64>> = past.iter().map(|past| past.value.as_ref().map(|number| number.value)).collect();
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    html! {
        @if known.len() > 1 {
            @let ends = known.first().zip(known.last());
            @let ends = ends.map(|(a, b)| format!("From {} to {} customers over {} nights.", count(*a), count(*b), past.len()));
            (spark(&format!("Size of segment {id}"), &ends.unwrap_or_default(), &values))
        } @else { span.none { "new" } }
    }
}

pub(super) fn panels(facts: &Facts, room: usize) -> Section {
    let ids = shown(facts);
    let mut order: Vec<&str> = headlines(facts).iter().map(|row| row.kpi.as_str()).collect();
    for row in facts.of_everybody() {
        if !order.contains(&row.kpi.as_str()) {
            order.push(&row.kpi);
        }
    }
    order.retain(|kpi| *kpi != "customers" && ids.iter().any(|id| number_of(facts.kpi(kpi, Some(*id))).is_some()));
    let all = order.len();
    order.truncate((100 * room / ids.len().max(1)).clamp(3, 15));
    let body = html! {
        div.panels { @for kpi in &order { (panel(facts, kpi, &ids)) } }
        p.small {
            "Stroke: the value; thin line: its 95\u{202f}% interval; bars are sums; dotted: all customers. Rows are in the order \
            of the table above. “few”: few people behind it. " (NOT_TOLD) (facts.night.k)
            " people, or of more where it would tell of these with other figures."
            @if order.len() < all { " " (all - order.len()) " further KPIs stand in the table kpis." }
        }
    };
    let lede = "One panel for each KPI, each on a scale of its own that all segments share.";
    Section::new("figures", "KPIs by segment", lede, (!order.is_empty()).then_some(body))
}

fn panel(facts: &Facts, kpi: &str, ids: &[i64]) -> Markup {
    const HEIGHT: u32 = 20;
    let unit = facts.unit(EntryKind::Kpi, kpi);
    let rows: Vec<(i64, Option<&Kpi>)> = ids.iter().map(|id| (*id, facts.kpi(kpi, Some(*id)))).collect();
    let is_sum = rows.iter().all(|(_, row)| row.is_none_or(|row| row.ci_low.is_none()));
    let everybody = facts.kpi(kpi, None).filter(|_| !is_sum);
    let (scale, beyond) = common_scale(&rows, number_of(everybody), is_sum);
    let largest = largest(rows.iter().filter_map(|(_, row)| *row));
    let marks: Vec<Vec<Mark>> = rows
        .iter()
        .map(|(id, row)| row.filter(|_| Some(*id) != beyond).map(|row| mark(row, scale, is_sum)).unwrap_or_default())
        .collect();
    let rule = number_of(everybody).map(|value| scale.x(value));
    let known: Vec<&(i64, Option<&Kpi>)> = rows.iter().filter(|(_, row)| number_of(*row).is_some()).collect();
    let by = |a: &&&(i64, Option<&Kpi>), b: &&&(i64, Option<&Kpi>)| {
        number_of(a.1).unwrap_or_default().total_cmp(&number_of(b.1).unwrap_or_default())
    };
    let shown = |value: f64| in_unit(value, unit, &facts.night.currency);
    let desc = match (known.iter().max_by(by), known.iter().min_by(by)) {
        (Some(most), Some(least)) if most.0 != least.0 => format!(
            "Highest in segment {} ({}), lowest in segment {} ({}).",
            most.0,
            shown(number_of(most.1).unwrap_or_default()),
            least.0,
            shown(number_of(least.1).unwrap_or_default())
        ),
        _ => "One segment has a value.".to_owned(),
    };
    let head = head(unit, &facts.night.currency);
    html! {
        table.strips.panel {
            caption { (kpi_name(facts, kpi)) @if !head.is_empty() { " " small { (head) } } }
            thead.sr { tr { th scope="col" { "Segment" }
            th scope="col" { "On one scale" }
            th scope="col" { "Value" } } }
            tbody {
                @for (i, (id, row)) in rows.iter().enumerate() {
                    tr {
                        th scope="row" { (id) }
                        @if i == 0 {
                            td.chart rowspan=(rows.len()) {
                                (strip(&format!("{} by segment", title(kpi)), &desc, HEIGHT, &marks, rule))
                            }
                        }
                        td {
                            @match row {
                                None => span.none { "–" },
                                Some(row) => (told(row.value.as_ref(), |value| bare(value, unit, largest), &row.at("value"), &row.state)),
                            }
                        }
                    }
                }
            }
            tfoot {
                tr {
                    th scope="row" { abbr title="All customers" { "all" } }
                    td.ends { span { (bare(scale.low, unit, largest)) } span { (bare(scale.high, unit, largest)) } }
                    td {
                        @if let Some(row) = facts.kpi(kpi, None) {
                            (told(row.value.as_ref(), |value| bare(value, unit, largest), &row.at("value"), &row.state))
                        }
                    }
                }
                @if let Some(id) = beyond { tr { td colspan="3" { small { "Segment " (id) " lies beyond the scale." } } } }
            }
        }
    }
}

/// The scale that all segments share: one segment far off everybody else would leave no room for the others, and the
/// far ends of an interval take no more of it than the values do.
fn common_scale(rows: &[(i64, Option<&Kpi>)], everybody: Option<f64>, is_sum: bool) -> (Scale, Option<i64>) {
    let mut values: Vec<(i64, f64)> = rows.iter().filter_map(|(id, row)| Some((*id, number_of(*row)?))).collect();
    if is_sum {
        return (Scale::of(values.iter().map(|(_, value)| *value)).with_zero(), None);
    }
    values.sort_by(|a, b| a.1.total_cmp(&b.1));
    let width = |of: &[(i64, f64)]| of.first().zip(of.last()).map_or(0.0, |(low, high)| high.1 - low.1);
    let mut beyond = None;
    if let [first, middle @ .., last] = values.as_slice()
        && middle.len() > 1
    {
        let (without_first, without_last) = (width(&values[1..]), width(&values[..values.len() - 1]));
        let narrower = without_first.min(without_last);
        if narrower > 0.0 && width(&values) > 8.0 * narrower {
            beyond = Some(if without_last < without_first { last.0 } else { first.0 });
        }
    }
    values.retain(|(id, _)| Some(*id) != beyond);
    let tight = Scale::of(values.iter().map(|(_, value)| *value).chain(everybody));
    let room = tight.high / 2.0 - tight.low / 2.0;
    let ends = rows.iter().filter(|(id, _)| Some(*id) != beyond).filter_map(|(_, row)| *row);
    let ends = ends.flat_map(|row| [&row.ci_low, &row.ci_high].map(|end| end.as_ref().map(|end| end.value)));
    let ends = ends.flatten().map(|end| end.clamp(tight.low - room, tight.high + room));
    (Scale::of(ends.chain([tight.low, tight.high])), beyond)
}

fn mark(row: &Kpi, scale: Scale, is_sum: bool) -> Vec<Mark> {
    let Some(value) = &row.value else { return vec![] };
    if is_sum {
        return vec![Mark::Bar(scale.x(0.0), scale.x(value.value), "bar")];
    }
    let interval = row.ci_low.as_ref().zip(row.ci_high.as_ref());
    let mut marks: Vec<Mark> =
        interval.map(|(low, high)| Mark::Line(scale.x(low.value), scale.x(high.value))).into_iter().collect();
    marks.push(Mark::Tick(scale.x(value.value), "tick"));
    marks
}
