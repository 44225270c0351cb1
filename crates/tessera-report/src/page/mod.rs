//! The page: one document that needs nothing beside itself.

mod campaigns;
mod checks;
mod model;
mod nights;
mod parts;
mod profile;
mod rows_in;
mod segments;
mod today;
mod value;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    Facts,
    facts::EntryKind,
    number::{clean, date, title},
};

/// A page is to be no heavier than this, in bytes.
const HEAVIEST: usize = 300_000;

/// The page of a night. The same facts make the same bytes; a night of very many segments and KPIs is told in less detail.
pub fn html(facts: &Facts) -> String {
    let mut page = String::new();
    for room in [4, 3, 2, 1] {
        page = document(facts, room);
        if page.len() <= HEAVIEST {
            break;
        }
    }
    page
}

/// The page, with so much room: 4 is all of it.
fn document(facts: &Facts, room: usize) -> String {
    let night = &facts.night;
    let project = clean(&night.project, 80);
    let sections = sections(facts, room);
    let page = html! {
        (DOCTYPE)
        html lang="en-GB" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (project) ", " (date(&night.as_of)) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                a.skip href="#main" { "To the content" }
                (today::head(facts))
                div.frame {
                    nav aria-label="Contents" {
                        ol { @for section in &sections { li { a href=(format!("#{}", section.id)) { (section.title) } } } }
                    }
                    main id="main" tabindex="-1" {
                        (today::tiles(facts))
                        @for section in &sections { (parts::section(section)) }
                    }
                }
                footer {
                    p {
                        "Snapshot " bdi { (clean(&night.snapshot_id, 80)) } ". Every number that stands in a table of the \
                        lake carries its address: query, key and column. Differences and shares that the page computes \
                        carry none. What stands for fewer than " (night.k) " people is not told."
                    }
                }
            }
        }
    };
    page.into_string()
}

fn sections(facts: &Facts, room: usize) -> Vec<parts::Section> {
    vec![
        today::causes(facts, room),
        today::waterfall(facts),
        segments::list(facts, room),
        segments::panels(facts, room),
        profile::profile(facts, room),
        nights::over_time(facts, room),
        nights::lineage(facts, room),
        checks::gates(facts),
        checks::drift(facts),
        campaigns::campaigns(facts),
        campaigns::cohorts(facts),
        value::value(facts),
        rows_in::quality(facts),
        model::chosen(facts),
        rows_in::inputs(facts),
        glossary(facts),
    ]
}

fn glossary(facts: &Facts) -> parts::Section {
    let of = |kind: EntryKind| facts.catalogue.iter().filter(move |entry| entry.kind == kind).take(80);
    let list = |kind: EntryKind| -> Markup {
        html! {
            dl {
                @for entry in of(kind) {
                    div {
                        dt id=[(kind == EntryKind::Kpi).then(|| parts::anchor(&entry.name))] {
                            bdi { (title(&entry.name)) } " " small { (clean(&entry.unit, 40)) }
                        }
                        dd { bdi { (clean(&entry.description, 240)) } }
                    }
                }
            }
        }
    };
    let body = html! {
        h3 { "KPIs" }
        (list(EntryKind::Kpi))
        details { summary { "Features: what is known of each customer" } (list(EntryKind::Feature)) }
    };
    let lede = "What the names mean, as the project's catalogue says it.";
    parts::Section::new("glossary", "Glossary", lede, (!facts.catalogue.is_empty()).then_some(body))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    /// Relative luminance of a colour such as #0f5a86 (WCAG 2.2).
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn texts_can_be_read_by_day_and_by_night() {
        let sheets: Vec<&str> = include_str!("style.css").split(":root{").skip(1).collect();
        assert_eq!(sheets.len(), 3);
        for sheet in sheets {
            let pairs = sheet[..sheet.find('}').unwrap()]
                .split(';')
                .filter_map(|pair| pair.strip_prefix("--")?.split_once(':'));
            let colours: BTreeMap<&str, String> = pairs
                .map(|(name, colour)| match colour.len() {
                    4 => (name, colour.chars().flat_map(|c| if c == '#' { vec![c] } else { vec![c, c] }).collect()),
                    _ => (name, colour.to_owned()),
                })
                .collect();
            let on = |ink: &str, paper: &str| {
                let (a, b) = (luminance(&colours[ink]), luminance(&colours[paper]));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 4.5, "{ink} on {paper}: {contrast}");
            };
            for ink in ["ink", "soft", "accent", "bad", "below"] {
                on(ink, "bg");
            }
            for paper in ["a1", "a2", "a3", "b1", "b2", "b3"] {
                on("ink", paper);
            }
        }
    }
}
