//! The page and the text over small, made-up nights.

mod made_up;

use crate::{Answers, Facts, FactsError, QUERIES, html, text};
use made_up::{HOSTILE, catalogue, night, shop};
use serde_json::{Map, Value, json};

fn facts(answers: &Answers) -> Facts {
    Facts::new(night(), catalogue(40), answers).unwrap()
}

/// All values and addresses that stand on a page.
fn data(page: &str) -> Vec<(&str, &str)> {
    let part = |text: &'static str, of: &mut &str| of.find(text).map(|at| *of = &of[at + text.len()..]);
    let mut rest = page;
    let mut all = vec![];
    while part("<data value=\"", &mut rest).is_some() {
        let value = &rest[..rest.find('"').unwrap()];
        part("data-fact=\"", &mut rest).unwrap();
        all.push((value, &rest[..rest.find('"').unwrap()]));
    }
    all
}

/// A part of a key, as it stands in an address.
fn part(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => text
            .bytes()
            .map(|byte| match byte {
                b'_' | b'-' | b'.' => char::from(byte).to_string(),
                _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect(),
        Some(other) => other.to_string(),
    }
}

/// What holds of every page.
fn check(answers: &Answers) -> (String, String) {
    let facts = facts(answers);
    let (page, mail) = (html(&facts), text(&facts));
    assert_eq!(page, html(&facts));
    for word in ["<script", "javascript:", "NaN", "inf%", "http://", "https://", "@import", "url("] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(!page.contains('\u{202e}') && !mail.contains('\u{202e}'));
    assert!(page.len() <= 300_000, "{} bytes", page.len());
    for (value, at) in data(&page) {
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{value} at {at}");
        let parts: Vec<&str> = at.split('/').collect();
        let query = QUERIES.iter().find(|query| query.name == parts[0]).unwrap();
        assert_eq!(parts.len(), 3, "{at}");
        assert_eq!(parts[1].split(',').count(), query.key.len(), "{at}");
        let column = parts[2];
        let row = answers[query.name]
            .iter()
            .find(|row| query.key.iter().map(|key| part(row.get(*key))).eq(parts[1].split(',')));
        let found = match row.and_then(|row| row.get(column)) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "nothing".to_owned(),
        };
        assert_eq!(found, value, "{at}");
    }
    for svg in page.split("<svg").skip(1) {
        let svg = &svg[..svg.find("</svg>").unwrap()];
        assert!(svg.contains("role=\"img\"") && svg.contains("<title>") && svg.contains("<desc>"), "{svg}");
    }
    let sections = page.matches("<section").count();
    assert_eq!(page.matches("<h1").count(), 1);
    assert_eq!(page.matches("</section>").count(), sections);
    assert!(mail.lines().count() <= 40, "{mail}");
    assert!(mail.lines().all(|line| line.chars().count() <= 78), "{mail}");
    (page, mail)
}

#[test]
fn an_ordinary_night() {
    let (page, mail) = check(&shop(6, 20, 10, "calm buyers"));
    assert!(mail.starts_with("shop, night of 1\u{a0}January 2026"), "{mail}");
    assert!(page.contains("Revenue rose by 20.0\u{202f}% to "));
    // The waterfall ends on the exact total.
    assert!(page.contains("<data value=\"1200000.125000\" data-fact=\"kpis/revenue,/exact\">"));
    assert!(page.contains("€1\u{202f}000\u{202f}000.00") && !page.contains("do not lead from"));
}

#[test]
fn a_waterfall_that_does_not_close_says_so() {
    let mut answers = shop(3, 5, 2, "x");
    answers.get_mut("waterfall").unwrap().pop();
    let (page, _) = check(&answers);
    assert!(page.contains("The terms do not lead from the earlier value"));
}

#[test]
fn the_largest_page_is_small_enough() {
    check(&shop(40, 40, 60, "a name of middling length, as they are"));
    check(&shop(40, 40, 60, HOSTILE));
    check(&shop(120, 40, 30, "x"));
}

#[test]
fn hostile_names_do_no_harm() {
    let (page, _) = check(&shop(9, 12, 5, HOSTILE));
    assert!(!page.contains("<img") && page.matches("</style>").count() == 1);
    assert!(page.contains("&lt;img src=x"));
}

#[test]
fn the_first_night_ever() {
    let (page, _) = check(&shop(1, 8, 1, "everybody"));
    assert!(page.contains("there is no earlier night to hold it against") || page.contains("first night"));
}

#[test]
fn nothing_at_all() {
    let (page, mail) = check(&Answers::new());
    assert!(page.contains("There are no segments tonight.") && mail.contains("No KPI is told tonight."));
    let empty: Answers = QUERIES.iter().map(|query| (query.name.to_owned(), vec![])).collect();
    check(&empty);
}

#[test]
fn all_suppressed_is_told_in_words() {
    let mut answers = shop(5, 10, 3, "few");
    for row in answers.values_mut().flatten() {
        if row.contains_key("state") && row.get("kpi").is_some() {
            row.retain(|column, _| ["kpi", "segment", "as_of", "state", "rank"].contains(&column.as_str()));
            row.insert("state".into(), json!("suppressed"));
        }
    }
    let (page, mail) = check(&answers);
    assert!(page.contains("not told (fewer than 5 people)") && mail.contains("not told (fewer than 5 people)"));
    assert!(!page.contains("fact=\"kpis/"));
}

#[test]
fn nulls_everywhere() {
    let mut answers = shop(5, 10, 3, "x");
    let needed = [
        "kpi",
        "segment",
        "as_of",
        "state",
        "feature",
        "metric",
        "source",
        "step",
        "rule",
        "name",
        "checks",
        "files",
        "place",
        "model",
        "horizon",
        "since",
        "breakdown",
        "event",
    ];
    for row in answers.values_mut().flatten() {
        row.retain(|column, _| needed.contains(&column.as_str()));
    }
    check(&answers);
}

#[test]
fn errors_name_query_and_column() {
    let with = |row: Value| {
        let Value::Object(row) = row else { unreachable!() };
        Facts::new(night(), vec![], &Answers::from([("kpis".to_owned(), vec![row])])).unwrap_err().to_string()
    };
    assert_eq!(with(json!({"kpi": "revenue"})), "query kpis, row 1: column state is missing");
    assert_eq!(
        with(json!({"kpi": "revenue", "state": "ok", "value": true})),
        "query kpis, row 1: column value is true, and should be a number"
    );
    assert_eq!(
        with(json!({"kpi": "x", "state": "ok", "n": "NaN"})),
        "query kpis, row 1: column n is \"NaN\", and should be a number"
    );
    assert_eq!(
        with(json!({"kpi": "x", "state": "ok", "customer": 1})),
        "query kpis, row 1: nobody asked for column customer"
    );
    let none = Answers::from([("secrets".to_owned(), Vec::<Map<String, Value>>::new())]);
    assert_eq!(Facts::new(night(), vec![], &none), Err(FactsError::NoQuery("secrets".into())));
}

#[test]
fn queries_are_bounded_and_ask_for_no_customer() {
    for query in QUERIES {
        assert!(query.sql.contains(" LIMIT "), "{}", query.name);
        assert!(!query.sql.contains("customer_key") && !query.sql.contains("account_key"), "{}", query.name);
        let nights = query.scope == crate::Scope::Nights;
        assert_eq!(nights, query.sql.contains("as_of <= DATE '{as_of}'"), "{}", query.name);
        assert!(!query.of("2026-01-01", 5).contains(['{', '}']), "{}", query.name);
    }
}
