//! The page of a night: what it says is what the tables say.

use std::collections::BTreeMap;

use crate::night::generated;

/// The numbers of a page: address and value.
fn numbers(page: &str) -> Vec<(String, String)> {
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let tags = page.split("<data ").skip(1).filter_map(|rest| Some(rest.split_once('>')?.0));
    tags.filter_map(|tag| Some((attribute(tag, "data-fact")?, attribute(tag, "value")?))).collect()
}

#[test]
fn a_page_says_what_the_tables_say() {
    let project = generated(1500, &[]);
    project.ok(&["run", "--as-of", "2025-12-01"]);
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let page_of = |place: &str| {
        let inside = place.trim().trim_start_matches("…/");
        std::fs::read_to_string(project.path(inside)).expect("the page")
    };
    let page = page_of(&project.ok(&["report"]));
    assert!(page.contains("default-src 'none'") && !page.contains("<script") && page.len() < 300_000, "{}", page.len());

    let query =
        "SELECT kpi, segment_id, value, n, ci_low, ci_high, previous, CAST(numerator AS VARCHAR) AS exact FROM kpis";
    let answer = project.ok(&["sql", query, "--as-of", "2026-01-01", "--format", "csv"]);
    let mut lines = answer.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    let mut told: BTreeMap<String, f64> = BTreeMap::new();
    for cells in lines {
        for (column, cell) in header.iter().zip(&cells).skip(2) {
            if let Ok(value) = cell.parse() {
                told.insert(format!("kpis/{},{}/{column}", cells[0], cells[1]), value);
            }
        }
    }
    let numbers = numbers(&page);
    let of_kpis: Vec<&(String, String)> = numbers.iter().filter(|(address, _)| address.starts_with("kpis/")).collect();
    assert!(of_kpis.len() > 50 && numbers.len() > 2 * of_kpis.len(), "{} of {}", of_kpis.len(), numbers.len());
    for (address, value) in of_kpis {
        let value: f64 = value.parse().expect("a number");
        let is = told.get(address).unwrap_or_else(|| panic!("{address} is in no table"));
        assert!((value - is).abs() <= 1e-9 * is.abs(), "{address}: {value} and not {is}");
    }

    // The same again is the same to the byte; as a text it is short; and it goes wherever one wants.
    let text = project.ok(&["report", "--text"]);
    assert!(text.lines().count() <= 40 && text.lines().all(|line| line.chars().count() <= 78), "{text}");
    project.ok(&["report", "--as-of", "2026-01-01", "--out", "page.html"]);
    assert_eq!(std::fs::read_to_string(project.path("page.html")).expect("the page"), page);
    let wrong = project.tessera(&["report", "--as-of", "2020-01-01"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("there is no such night"), "{}", wrong.stderr);
    // Whoever names a night that is the first has a page too.
    assert!(page_of(&project.ok(&["report", "--as-of", "2025-12-01"])).contains("<h1"));
}
