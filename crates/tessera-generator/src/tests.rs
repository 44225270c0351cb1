//! What the generator promises: the same files again, nothing changed by a later end, and a truth that is true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::ToSpan;
use jiff::civil::{Date, date};
use parquet::file::reader::{FileReader, SerializedFileReader};
use tempfile::TempDir;

use crate::archetype::ARCHETYPE;
use crate::run::generate_in_parts;
use crate::{Dirt, Format, GeneratorError, LAYOUT, Planted, Shop, Summary, Type, generate};

const END: Date = date(2026, 1, 1);

fn shop(customers: u64) -> Shop {
    Shop { format: Format::Csv, ..Shop::new(customers, 7, END) }
}

fn spotless(customers: u64) -> Shop {
    Shop { dirt: Dirt::none(), ..shop(customers) }
}

fn made(shop: &Shop) -> (TempDir, Summary) {
    let out = tempfile::tempdir().unwrap();
    let summary = generate(shop, out.path(), &mut |_| {}).unwrap();
    (out, summary)
}

fn files(out: &Path, folder: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(out.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The cells of all rows of a folder, sorted. Cells with quotes or commas only occur where the caller does not look.
fn rows(out: &Path, folder: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for file in files(out, folder) {
        let bytes = std::fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        rows.extend(text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()));
    }
    rows.sort();
    rows
}

fn column(folder: &str, name: &str) -> usize {
    let layout = LAYOUT.iter().find(|layout| layout.name == folder).unwrap();
    layout.columns.iter().position(|c| c.0 == name).unwrap()
}

/// Ten-thousandths from quantity, price and discount.
fn amount(row: &[String]) -> i64 {
    let whole = |name: &str| row[column("transactions", name)].replace('.', "").parse::<i64>().unwrap();
    whole("qty") * whole("net_unit_price") * (100 - whole("discount_pct"))
}

#[test]
fn the_same_shop_gives_the_same_bytes_on_any_number_of_threads() {
    for format in [Format::Csv, Format::Parquet] {
        let one = Shop { format, threads: 1, ..shop(3000) };
        let (a, _) = made(&one);
        let (b, _) = made(&Shop { threads: 3, ..one });
        for folder in LAYOUT.iter().map(|layout| layout.name).chain(["truth"]) {
            let (left, right) = (files(a.path(), folder), files(b.path(), folder));
            assert_eq!(left.len(), right.len());
            for (x, y) in left.iter().zip(&right).filter(|(x, _)| x.is_file()) {
                assert_eq!(std::fs::read(x).unwrap(), std::fs::read(y).unwrap(), "{x:?}");
            }
        }
    }
}

#[test]
fn another_seed_gives_another_shop() {
    let (a, _) = made(&shop(50));
    let (b, _) = made(&Shop { seed: 8, ..shop(50) });
    assert_ne!(rows(a.path(), "customers"), rows(b.path(), "customers"));
}

#[test]
fn cutting_customers_into_parts_changes_nothing() {
    let out = tempfile::tempdir().unwrap();
    generate_in_parts(&shop(1500), out.path(), 70, &mut |_| {}).unwrap();
    let (whole, _) = made(&shop(1500));
    for layout in LAYOUT {
        assert_eq!(rows(out.path(), layout.name), rows(whole.path(), layout.name), "{}", layout.name);
    }
}

#[test]
fn a_later_end_adds_and_never_changes() {
    let cut = END.saturating_sub(47.days());
    let mut early = Shop { end: cut, ..shop(2500) };
    early.dirt.ragged_line = 0.001;
    early.dirt.invalid_utf8 = 0.001;
    let (short, _) = made(&early);
    let (long, _) = made(&Shop { end: END, ..early });
    let cut = cut.to_string();
    for layout in LAYOUT {
        let known_at_cut = |mut row: Vec<String>| {
            if layout.name == "campaign_contacts" {
                // Responses are filled in when they happen.
                if row[6] >= cut {
                    row[6].clear();
                }
                if row[7] >= cut {
                    row[7].clear();
                    row[8].clear();
                }
            }
            row
        };
        let mut more: BTreeMap<Vec<String>, i64> = BTreeMap::new();
        for row in rows(long.path(), layout.name) {
            *more.entry(known_at_cut(row)).or_default() += 1;
        }
        let before = rows(short.path(), layout.name);
        assert!(!before.is_empty());
        for row in before {
            let left = more.entry(row.clone()).or_default();
            *left -= 1;
            assert!(*left >= 0, "{}: {row:?} is gone or changed", layout.name);
        }
        let when = match layout.name {
            "customers" => "updated_at",
            "transactions" => "order_ts",
            "interactions" => "event_ts",
            "campaign_contacts" => "contact_ts",
            "survey_responses" => "answered_ts",
            "marketing_costs" => "cost_date",
            _ => "signed_up_on",
        };
        let at = column(layout.name, when);
        let extra: Vec<_> = more.into_iter().filter(|(_, n)| *n > 0).collect();
        assert!(!extra.is_empty(), "{}", layout.name);
        for (row, _) in extra.iter().filter(|(row, _)| row[at].starts_with("20")) {
            assert!(row[at] >= cut || row[at].len() < 10 || row[at].contains("-13-"), "{row:?}");
        }
    }
}

#[test]
fn what_is_reported_as_dirt_is_in_the_files() {
    let mut dirty = shop(4000);
    dirty.dirt.ragged_line = 0.0005;
    dirty.dirt.absurd_number = 0.0005;
    let (out, summary) = made(&dirty);
    let told = |folder: &str, kind: &str| summary.dirt[folder][kind].as_u64().unwrap_or(0);
    let all = rows(out.path(), "transactions");
    let whole: Vec<_> = all.iter().filter(|row| row.len() == 12).collect();
    let count = |seen: &dyn Fn(&[String]) -> bool| whole.iter().filter(|row| seen(row)).count() as u64;
    let tx = |kind: &str| told("transactions", kind);
    assert_eq!(count(&|r| r[2].is_empty()), tx("missing_customer"));
    assert_eq!(count(&|r| r[2].starts_with('L')), tx("orphan_customer"));
    assert_eq!(count(&|r| r[6] == "0"), tx("zero_quantity"));
    assert_eq!(count(&|r| r[7] == "0.00" || r[7].starts_with('-')), tx("non_positive_price"));
    assert_eq!(count(&|r| r[3].starts_with("2099")), tx("far_future"));
    assert_eq!(count(&|r| r[3].parse::<jiff::civil::DateTime>().is_err()), tx("unreadable_date"));
    assert_eq!(count(&|r| r[6] == "1000000" || r[7] == "99999999.99"), tx("absurd_number"));
    assert_eq!((all.len() - whole.len()) as u64, tx("ragged_line"));
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len() - distinct.len()) as u64, tx("duplicate_row") + tx("duplicate_elsewhere"));
    assert!(tx("duplicate_row") > 0 && tx("duplicate_elsewhere") > 0 && tx("ragged_line") > 0);
    assert!(files(out.path(), "transactions").iter().any(|f| f.to_string_lossy().contains("resent")));

    let customers = rows(out.path(), "customers");
    let cu = |kind: &str| told("customers", kind);
    let distinct = customers.iter().map(|row| &row[0]).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct as u64, summary.customers);
    assert_eq!(customers.len() as u64, summary.customers + cu("resent_customer") + cu("duplicate_row"));
    let truth = rows(out.path(), "truth/customers");
    assert_eq!(truth.len() as u64, summary.customers);
    let second = truth.iter().filter(|row| !row[4].is_empty()).count() as u64;
    assert_eq!(second, cu("duplicate_person"));
    let alike: Vec<_> = truth.iter().filter(|row| !row[5].is_empty()).collect();
    assert_eq!(alike.len() as u64, cu("lookalike_person"));
    for how in ["twin", "namesake", "family_email", "shared_phone", "recycled_phone"] {
        assert!(alike.iter().any(|row| row[6] == how), "{how}");
    }
    assert!(alike.iter().all(|row| row[4].is_empty() && row[5] < row[0]), "nobody is two and one");
    let incomes = column("customers", "yearly_income");
    let none = customers.iter().filter(|row| row[incomes].is_empty()).count() as u64;
    assert_eq!(none, cu("missing_income"));
    for kind in ["malformed_country", "lower_case_country", "messy_email", "messy_phone", "unreadable_date"] {
        assert!(cu(kind) > 0, "{kind}");
    }
    assert!(told("interactions", "missing_customer") > 0 && told("survey_responses", "absurd_number") > 0);
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.path().join("truth/dirt.json")).unwrap()).unwrap();
    assert_eq!(written, summary.dirt);
}

#[test]
fn a_spotless_shop_is_spotless() {
    let (out, summary) = made(&spotless(2000));
    assert!(summary.dirt.as_object().unwrap().values().all(|kinds| kinds.as_object().unwrap().is_empty()));
    let known: BTreeSet<String> = rows(out.path(), "customers").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(known.len(), 2000);
    let mandatory: &[(&str, &[&str])] = &[
        ("customers", &["cust_no", "registered_on", "country_code", "yearly_income"]),
        ("transactions", &["order_no", "cust_no", "order_ts", "qty", "net_unit_price", "sku"]),
        ("interactions", &["cust_no", "event_ts", "event_type"]),
        ("campaign_contacts", &["campaign_code", "cust_no", "contact_ts", "test_group"]),
        ("survey_responses", &["cust_no", "answered_ts", "question", "rating"]),
        ("marketing_costs", &["cost_date", "acq_channel", "spend"]),
    ];
    for (folder, names) in mandatory {
        let rows = rows(out.path(), folder);
        assert!(!rows.is_empty(), "{folder}");
        assert_eq!(rows.len() as u64, summary.rows_of(folder), "{folder}");
        for name in *names {
            let at = column(folder, name);
            assert!(rows.iter().all(|row| !row[at].is_empty()), "{folder}.{name}");
            if *name == "cust_no" {
                assert!(rows.iter().all(|row| known.contains(&row[at])), "{folder}");
            }
        }
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "{folder} repeats");
    }
    let (start, end) = (END.saturating_sub(2.years()).to_string(), END.to_string());
    for row in rows(out.path(), "transactions") {
        assert!(row[3] >= start && row[3] < end, "{row:?}");
        let quantity: i32 = row[6].parse().unwrap();
        assert_eq!(row[11] == "Y", quantity < 0, "{row:?}");
    }
}

#[test]
fn kinds_have_their_share_and_their_habits() {
    let (out, _) = made(&Shop { planted: vec![], ..spotless(6000) });
    let kind_of: BTreeMap<String, String> =
        rows(out.path(), "truth/customers").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    #[derive(Default)]
    struct Seen {
        customers: f64,
        lines: f64,
        returns: f64,
        discounted: f64,
        store: f64,
        orders: BTreeSet<String>,
    }
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for kind in kind_of.values() {
        seen.entry(kind).or_default().customers += 1.0;
    }
    for row in rows(out.path(), "transactions") {
        let Some(kind) = seen.get_mut(kind_of[&row[2]].as_str()) else { continue };
        kind.returns += f64::from(u8::from(row[11] == "Y"));
        if row[11] == "N" {
            kind.lines += 1.0;
            kind.discounted += f64::from(u8::from(row[8] != "0"));
            kind.store += f64::from(u8::from(row[10] == "store"));
            kind.orders.insert(row[0].clone());
        }
    }
    let total: f64 = ARCHETYPE.iter().map(|kind| kind.share).sum();
    for kind in &ARCHETYPE[..ARCHETYPE.len() - 1] {
        let seen = &seen[kind.name];
        assert!((seen.customers / 6000.0 - kind.share / total).abs() < 0.02, "{}", kind.name);
        assert!((seen.returns / seen.lines - kind.returns).abs() < 0.05, "{}", kind.name);
        assert!((seen.discounted / seen.lines - kind.discount).abs() < 0.06, "{}", kind.name);
    }
    assert!(seen["weekend_families"].store > 0.7 * seen["weekend_families"].lines);
    assert!(!seen.contains_key("social_shoppers"));
    let orders: usize = seen.values().map(|kind| kind.orders.len()).sum();
    assert!((orders as f64 / 6000.0 - 12.0).abs() < 1.2, "{orders}");
}

/// Orders, lines and revenue of the files.
fn totals(out: &Path) -> (i64, i64, i64) {
    let rows = rows(out, "transactions");
    let orders: BTreeSet<_> = rows.iter().filter(|row| row[11] == "N").map(|row| &row[0]).collect();
    (orders.len() as i64, rows.len() as i64, rows.iter().map(|row| amount(row)).sum())
}

fn ten_thousandths(value: &serde_json::Value) -> i64 {
    value.as_str().unwrap().replace('.', "").parse().unwrap()
}

#[test]
fn the_size_of_a_planted_change_is_the_difference_it_makes() {
    let (base, _) = made(&Shop { planted: vec![], ..spotless(2500) });
    let before = totals(base.path());
    let story = spotless(2500).planted;
    let fixed: Vec<_> = story.into_iter().filter(|p| !matches!(p, Planted::NewArchetype { .. })).collect();
    let mut cases: Vec<Vec<Planted>> = fixed.iter().map(|p| vec![p.clone()]).collect();
    cases.push(fixed);
    for planted in cases {
        let (out, summary) = made(&Shop { planted: planted.clone(), ..spotless(2500) });
        let after = totals(out.path());
        let sum = |value: &dyn Fn(&serde_json::Value) -> i64| {
            summary.planted.as_array().unwrap().iter().map(|entry| value(&entry["effect"])).sum::<i64>()
        };
        let told = (
            sum(&|e| e["orders"].as_i64().unwrap()),
            sum(&|e| e["lines"].as_i64().unwrap()),
            sum(&|e| ten_thousandths(&e["revenue"])),
        );
        assert_ne!(told.2, 0, "{planted:?}");
        assert_eq!(told.1, after.1 - before.1, "lines of {planted:?}");
        assert_eq!(told.2, after.2 - before.2, "revenue of {planted:?}");
        assert_eq!(told.0, after.0 - before.0, "orders of {planted:?}");
    }
}

#[test]
fn the_story_has_one_change_a_night() {
    let (out, summary) = made(&spotless(3000));
    let nights: Vec<_> =
        summary.planted.as_array().unwrap().iter().map(|p| p["first_night"].as_str().unwrap()).collect();
    assert_eq!(nights, ["2025-09-01", "2025-10-01", "2025-11-01", "2025-12-01", "2026-01-01"]);
    let gap = summary.planted[0]["on"].as_str().unwrap().to_owned();
    let rows = rows(out.path(), "transactions");
    assert!(rows.iter().all(|row| !row[3].starts_with(&gap)));
    let new = &summary.planted[4]["effect"];
    assert!((120..180).contains(&new["customers"].as_i64().unwrap()), "{new}");
    assert!(new["orders"].as_i64().unwrap() > 100, "{new}");
}

#[test]
fn small_shops_work() {
    for customers in [1, 2, 10] {
        for format in [Format::Csv, Format::Parquet] {
            let (_, summary) = made(&Shop { format, ..shop(customers) });
            assert_eq!(summary.customers, customers);
            assert!(summary.rows_of("customers") >= customers);
        }
    }
}

#[test]
fn parquet_holds_the_same_rows_as_csv() {
    let (_, csv) = made(&spotless(1200));
    let (out, parquet) = made(&Shop { format: Format::Parquet, ..spotless(1200) });
    assert_eq!(csv.rows, parquet.rows);
    for layout in LAYOUT {
        let mut rows = 0;
        for path in files(out.path(), layout.name) {
            let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
            let file = reader.metadata().file_metadata();
            rows += file.num_rows() as u64;
            let names: Vec<_> = file.schema_descr().columns().iter().map(|c| c.name().to_owned()).collect();
            assert!(names.iter().eq(layout.columns.iter().map(|c| c.0)));
            assert!(reader.metadata().row_groups().iter().all(|g| g.num_rows() <= 131_072));
        }
        assert_eq!(rows, parquet.rows_of(layout.name));
    }
}

#[test]
fn bad_settings_are_refused() {
    let refused = |shop: Shop| {
        let out = tempfile::tempdir().unwrap();
        generate(&shop, out.path(), &mut |_| {}).unwrap_err().to_string()
    };
    assert_eq!(refused(shop(0)), "customers of the shop: at least one is needed");
    let mut late = shop(1);
    late.end = late.start;
    assert_eq!(refused(late), "end of the shop: it must lie after the start");
    let outage = Planted::ChannelOutage { channel: "fax".into(), from: END, days: 1, lost: 1.0 };
    let fax = Shop { planted: vec![outage], ..shop(1) };
    assert_eq!(refused(fax), "the shop has no channel `fax`; it has web, app, store, phone");
    let (out, _) = made(&shop(1));
    let again = generate(&shop(1), out.path(), &mut |_| {});
    assert!(matches!(again, Err(GeneratorError::NotEmpty { .. })));
}

#[test]
fn progress_ends_at_the_whole() {
    let out = tempfile::tempdir().unwrap();
    let mut last = None;
    let summary = generate(&spotless(2500), out.path(), &mut |p| last = Some(p)).unwrap();
    let last = last.unwrap();
    assert_eq!((last.customers_done, last.customers), (2500, 2500));
    assert_eq!(last.transactions, summary.rows_of("transactions"));
}

#[test]
fn every_column_of_the_layout_is_documented() {
    let docs = include_str!("lib.rs");
    for layout in &LAYOUT[..LAYOUT.len() - 1] {
        for (name, kind) in layout.columns {
            assert!(docs.contains(&format!("`{name}`")), "{}.{name} ({kind:?})", layout.name);
        }
    }
    assert_eq!(LAYOUT[5].columns[2].1, Type::Money);
}
