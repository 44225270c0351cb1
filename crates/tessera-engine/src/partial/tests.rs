use std::sync::Arc;

use datafusion::{arrow::util::pretty::pretty_format_batches, prelude::SessionContext};
use tessera_contract::AsOf;

use super::*;
use crate::{
    Engine, Secret, Settings, Stores,
    formula::{Words, bind},
    session::{self, Scratch},
};

fn engine() -> Engine {
    let settings = Settings { partitions: 2.try_into().expect("some"), memory_limit: None, spill_dir: None };
    let stores = Arc::new(Stores::new(Box::new(|url| Ok(object_store::parse_url(url)?.0.into()))));
    let state = session::state(&settings, Some(&Secret::new(b"secret")), stores).expect("a state");
    Engine::new(state, Scratch { store: "memory:///".parse().expect("a URL"), folder: "scratch".into() })
}

async fn lines(session: &SessionContext, rows: &str) -> DataFrame {
    let query = format!(
        "SELECT column1 AS account_key, arrow_cast(column2, 'Timestamp(µs, \"UTC\")') AS at, \
         arrow_cast(column3, 'Decimal128(38, 6)') AS amount, column4 AS product, arrow_cast(column3, 'Float64') AS weight \
         FROM (VALUES {rows})"
    );
    session.sql(&query).await.expect("rows")
}

const OLD: &str = "('a', '2026-01-01T10:00:00Z', 1.5, 'x'), ('a', '2026-02-20T10:00:00Z', 2.25, 'y'), \
                   ('b', '2026-02-25T10:00:00Z', 4, 'x'), ('c', '2026-01-05T00:00:00Z', NULL, NULL)";
const NEW: &str = "('a', '2026-03-01T10:00:00Z', 3, 'x'), ('d', '2026-03-01T11:00:00Z', 7.125, 'z'), \
                   ('a', '2025-12-24T18:00:00Z', 0.25, 'z')";

const EXPRESSIONS: [(&str, &str); 12] = [
    ("lines", "count(*)"),
    ("known", "count(amount)"),
    ("total", "sum(amount)"),
    ("mean", "avg(amount)"),
    ("first", "min(at)"),
    ("share", "CAST(sum(amount) FILTER (WHERE product = 'x') AS DOUBLE) / CAST(sum(amount) AS DOUBLE)"),
    ("products", "count(DISTINCT product)"),
    ("orders", "get_field(order_stats(product, at), 'orders')"),
    ("late", "sum(amount) FILTER (WHERE at >= as_of - INTERVAL '14 days')"),
    ("latest", "coalesce(count(*) FILTER (WHERE amount > 2 AND as_of - INTERVAL '14 days' <= at AND at < as_of), 0)"),
    ("weight", "sum(weight)"),
    ("age", "days_between(max(at), as_of)"),
];

fn split(session: &SessionContext, schema: &DFSchema) -> Partial {
    split_on(session, schema, "2026-03-02", None)
}

fn split_on(session: &SessionContext, schema: &DFSchema, night: &str, before: Option<&str>) -> Partial {
    let on = |text: &str, night: &str| {
        bind(text, &Words::new(AsOf::parse(night, "UTC").expect("a date"), "UTC")).expect("SQL")
    };
    let entry = |(name, text): &(&str, &str)| Entry {
        name: (*name).to_owned(),
        tonight: on(text, night),
        never: on(text, "1900-01-01"),
        before: before.map(|before| on(text, before)),
    };
    let entries: Vec<_> = EXPRESSIONS.iter().map(entry).collect();
    Partial::split(session, schema, "at", &["weight"], &entries).expect("expressions")
}

#[tokio::test]
async fn what_each_expression_asks_of_the_past() {
    let engine = engine();
    let session = engine.session();
    let rows = lines(session, OLD).await;
    let needs: Vec<_> = split(session, rows.schema()).needs().map(|(name, reach)| format!("{name}: {reach}")).collect();
    insta::assert_snapshot!(needs.join("\n"), @r"
    lines: the new rows and the kept state
    known: the new rows and the kept state
    total: the new rows and the kept state
    mean: the new rows and the kept state
    first: the new rows and the kept state
    share: the new rows and the kept state
    products: the new rows and the kept state
    orders: the new rows and the kept state
    late: the rows of its window
    latest: the rows of its window
    weight: all rows: it depends on the night, and not by a filter of at
    age: the new rows and the kept state
    ");
}

#[tokio::test]
async fn parts_give_what_the_whole_gives() {
    let engine = engine();
    let session = engine.session();
    let (old, new) = (lines(session, OLD).await, lines(session, NEW).await);
    let all = old.clone().union(new.clone()).expect("the same columns");
    let partial = split(session, all.schema());
    let groups = Groups { by: &["account_key"], keep: &["account_key"] };
    let states = |rows: DataFrame, lifetime, windows| partial.states(rows, &groups, lifetime, windows).expect("states");
    let everything = || Some(partial.everything(all.clone(), "account_key").expect("values"));
    let shown = async |values: DataFrame| {
        let values = partial.finish(values, "account_key", everything()).expect("values");
        let sorted = values.sort(vec![ident("account_key").sort(true, false)]).expect("sorted");
        pretty_format_batches(&sorted.collect().await.expect("rows")).expect("a table").to_string()
    };
    let answer = async |parts: Vec<DataFrame>| {
        let parts = partial.together(parts, "account_key").expect("parts");
        shown(partial.values(parts, "account_key", true, true).expect("values")).await
    };
    let whole = answer(vec![states(all.clone(), true, true)]).await;
    let chained = answer(vec![
        states(old.clone(), true, false),
        states(new.clone(), true, false),
        states(all.clone(), false, true),
    ])
    .await;
    assert_eq!(chained, whole);
    let parts =
        partial.together(vec![states(old, true, false), states(new, true, false)], "account_key").expect("parts");
    let folded = partial.fold(session, parts, "account_key").expect("folded");
    assert_eq!(answer(vec![folded, states(all.clone(), false, true)]).await, whole);

    // The values of windows beside those of lifetimes: some have no row in a window.
    let values = |parts, lifetime| partial.values(parts, "account_key", lifetime, !lifetime).expect("values");
    let lifetime = values(states(all.clone(), true, false), true);
    let recent = all.clone().filter(ident("at").gt(lit("2026-02-16T00:00:00Z"))).expect("a filter");
    let windows = values(states(recent, false, true), false);
    let beside = partial.beside(lifetime, windows, all.clone(), "account_key").await.expect("values");
    assert_eq!(shown(beside).await, whole);

    // And what the engine says of the expressions as they stand.
    let night = AsOf::parse("2026-03-02", "UTC").expect("a date");
    let columns: Vec<_> = EXPRESSIONS.iter().map(|(name, text)| format!("{text} AS {name}")).collect();
    let query =
        format!("SELECT account_key, {} FROM lines GROUP BY account_key ORDER BY account_key", columns.join(", "));
    let plain = engine.sql(&query, &[("lines", &all)], &Words::new(night, "UTC")).await.expect("planned");
    let plain = pretty_format_batches(&plain.collect().await.expect("rows")).expect("a table").to_string();
    assert_eq!(whole, plain);
}

/// The values of the night before are tonight's, but for those of whom a row came or moved: these are computed anew.
#[tokio::test]
async fn only_who_moved_has_other_windows() {
    let engine = engine();
    let session = engine.session();
    let all = lines(session, &format!("{OLD}, {NEW}")).await;
    let by_account = Groups { by: &["account_key"], keep: &["account_key"] };
    let values = async |partial: &Partial, rows: &DataFrame| {
        let known = rows.clone().filter(ident("at").lt(lit("2026-03-02T00:00:00Z"))).expect("a filter");
        let states = partial.states(known, &by_account, true, true).expect("states");
        let values = partial.values(states, "account_key", true, true).expect("values");
        let rows = values.collect().await.expect("rows");
        let text = pretty_format_batches(&rows).expect("a table").to_string();
        text.lines().filter(|l| l.contains("| ")).skip(1).map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    for (before, expect) in [("2026-03-01", "ad"), ("2026-02-19", "abd"), ("2026-03-02", "")] {
        let tonight = split_on(session, all.schema(), "2026-03-02", Some(before));
        let then = split_on(session, all.schema(), before, None);
        assert_eq!(then.kept_values(), tonight.kept_values(), "the names are those of every night");
        let (_, moved) = tonight.moved().expect("windows that move");
        let moved = values(&then, &all.clone().filter(moved).expect("a filter")).await;
        let key = |row: &String| row.trim_start_matches(['|', ' ']).chars().next().expect("a key");
        let moved: String = moved.iter().map(key).collect();
        assert_eq!(moved, expect, "{before}");
        let (then, tonight) = (values(&then, &all).await, values(&tonight, &all).await);
        assert!(tonight.difference(&then).all(|row| moved.contains(key(row))), "{before}: {then:?} {tonight:?}");
    }
}
