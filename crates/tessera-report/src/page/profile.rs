//! What sets the segments apart: the features in which they differ most.

use maud::{Markup, html};

use super::{
    parts::{Section, data, maybe, told},
    segments::{named, shown},
};
use crate::{
    Facts,
    facts::EntryKind,
    number::{bare, grouped, head, title},
    read::Row,
    rows::Profile,
};

pub(super) fn profile(facts: &Facts, room: usize) -> Section {
    let mut features: Vec<&str> = facts.profiles.iter().map(|row| row.feature.as_str()).collect();
    features.sort_unstable();
    features.dedup();
    let weight = |feature: &str| -> f64 {
        let of = facts.profiles.iter().filter(|row| row.feature == feature);
        of.filter_map(|row| row.effect_size.as_ref()).map(|effect| effect.value * effect.value).sum()
    };
    features.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.cmp(b)));
    let ids: Vec<i64> =
        shown(facts).into_iter().filter(|id| facts.profiles.iter().any(|row| row.segment == *id)).collect();
    features.truncate((70 * room / ids.len().max(1)).clamp(3, 12));
    let body = html! {
        div.scroll tabindex="0" role="group" aria-label="Profile of the segments" {
            table.heat {
                caption.sr { "Means of the features by segment, with how far they are from all customers in standard deviations" }
                thead {
                    tr {
                        th scope="col" { "Feature" }
                        @for id in &ids { th.num scope="col" { (id) } }
                        th.num scope="col" { "All" }
                    }
                }
                tbody {
                    @for feature in &features {
                        @let unit = facts.unit(EntryKind::Feature, feature);
                        @let of_all = facts.profiles.iter().find(|row| row.feature == *feature && row.population_mean.is_some());
                        tr {
                            @let head = head(unit, &facts.night.currency);
                            @let largest = largest_mean(facts, feature);
                            th scope="row" {
                                bdi { (title(feature)) }
                                @if !title(feature).to_lowercase().contains(&head) { " " small { (head) } }
                            }
                            @for id in &ids {
                                (cell(facts.profiles.iter().find(|row| row.segment == *id && row.feature == *feature), unit, largest))
                            }
                            td {
                                @if let Some(row) = of_all {
                                    @let mean = |value: f64| bare(value, unit, largest);
                                    (maybe(row.population_mean.as_ref(), mean, &row.at("population_mean")))
                                }
                            }
                        }
                    }
                }
            }
        }
        p.small {
            "Above: the mean of the segment. Below: how far it lies from all customers, in standard deviations (on the scale the \
            feature is clustered on), deeper where it is further; + is above, − below."
        }
        details {
            summary { "The segments by number" }
            ul { @for id in &ids { li { (id) ": " bdi { (named(facts, *id)) } } } }
        }
    };
    let lede = "The features in which the segments differ most.";
    Section::new("profile", "What sets them apart", lede, (!features.is_empty() && !ids.is_empty()).then_some(body))
}

fn largest_mean(facts: &Facts, feature: &str) -> f64 {
    let of = facts.profiles.iter().filter(|row| row.feature == feature);
    of.filter_map(|row| Some(row.mean.as_ref()?.value.abs())).fold(0.0, f64::max)
}

fn cell(row: Option<&Profile>, unit: &str, largest: f64) -> Markup {
    let effect = row.and_then(|row| row.effect_size.as_ref());
    // Seven shades, three on each side.
    let shade = effect.map_or(0, |effect| match effect.value.abs() {
        size if size >= 1.5 => 3,
        size if size >= 0.8 => 2,
        size if size >= 0.3 => 1,
        _ => 0,
    });
    let side = if effect.is_some_and(|effect| effect.value < 0.0) { "b" } else { "a" };
    html! {
        td class=[(shade > 0).then(|| format!("{side}{shade}"))] {
            @if let Some(row) = row {
                (told(row.mean.as_ref(), |value| bare(value, unit, largest), &row.at("mean"), "suppressed"))
                @if let Some(effect) = effect {
                    @let sign = if effect.value > 0.0 { "+" } else { "" };
                    (data(effect, &format!("{sign}{}", grouped(effect.value, 1)), &row.at("effect_size")))
                }
            } @else { span.none { "–" } }
        }
    }
}
