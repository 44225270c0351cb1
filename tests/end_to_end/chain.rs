//! A chain of nights: whatever happens to the sources between two nights, going on from the parent gives what reading
//! everything gives.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use crate::{
    owner::{Owner, PROJECT, date},
    project::{Done, Project, complaint},
};

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp starts");
    assert!(done.success());
}

pub fn differing(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>, but: &[&str]) -> BTreeSet<String> {
    let names = a.keys().chain(b.keys()).filter(|n| a.get(*n) != b.get(*n) && !but.contains(&n.as_str()));
    names.cloned().collect()
}

/// Rows of a table that only one of two lakes has on a night.
pub fn rows_apart(project: &Project, as_of: &str, lakes: [&str; 2], tables: &BTreeSet<String>) -> String {
    let mut text = String::new();
    for table in tables {
        let rows = lakes.map(|lake| -> BTreeSet<String> {
            let query = format!("SELECT * FROM {table}");
            let answer =
                project.ok(&["sql", &query, "--as-of", as_of, "--lake", lake, "--restricted", "--format", "csv"]);
            answer.lines().map(str::to_owned).collect()
        });
        for (lake, (mine, theirs)) in lakes.iter().zip([(&rows[0], &rows[1]), (&rows[1], &rows[0])]) {
            mine.difference(theirs).take(4).for_each(|row| text.push_str(&format!("{table} of {lake}: {row}\n")));
        }
        text.push_str(&format!("{table}: {}\n", rows[0].iter().next_back().cloned().unwrap_or_default()));
    }
    text
}

/// What depends on the nights before: the ledger tells what changed since the parent, figures are held against what is published,
/// weights of identity are of the night that learned them, a model stays, and segments keep the ids that they had.
pub const HISTORIC: [&str; 20] = [
    "ledger",
    "causes",
    "cause_episodes",
    "clv_backtest",
    "kpi_breakdowns",
    "kpi_changes",
    "kpis",
    "segment_profiles",
    "identity_model",
    "identity_pairs",
    "identity_report",
    "model",
    "model_candidates",
    "segments",
    "drift",
    "drift_bins",
    "validation",
    "segment_lineage",
    "segment_moves",
    "segment_rules",
];

/// A project whose nights find their own models.
fn without_reuse(project: &str) -> String {
    assert!(project.contains("[segmentation]\n"));
    project.replace("[segmentation]\n", "[segmentation]\nreuse = false\n")
}

/// The segments of a night but for their ids: who is with whom, and how near.
fn together(project: &Project, as_of: &str, lake: &str) -> String {
    let query = "SELECT customer_key, min(customer_key) OVER (PARTITION BY segment_id) AS first, distance, margin, imputed \
                 FROM segments ORDER BY customer_key";
    project.ok(&["sql", query, "--as-of", as_of, "--lake", lake, "--format", "csv"])
}

/// Segments in which who came and who went is not the change of their members since the parent night.
fn moves_amiss(project: &Project, parent: &str, as_of: &str) -> String {
    let count = |what: &str, of: &str, night: &str| {
        format!("(SELECT {what} AS id, count(*) AS n FROM {of} WHERE as_of = DATE '{night}' GROUP BY {what})")
    };
    project.sql(&format!(
        "SELECT a.id FROM (SELECT DISTINCT segment_id AS id FROM segments WHERE as_of IN (DATE '{parent}', DATE '{as_of}')) AS a \
         LEFT JOIN {} AS n ON n.id = a.id LEFT JOIN {} AS p ON p.id = a.id LEFT JOIN {} AS came ON came.id = a.id \
         LEFT JOIN {} AS went ON went.id = a.id \
         WHERE coalesce(n.n, 0) - coalesce(p.n, 0) <> coalesce(came.n, 0) - coalesce(went.n, 0)",
        count("segment_id", "segments", as_of),
        count("segment_id", "segments", parent),
        count("to_segment_id", "segment_moves", as_of),
        count("from_segment_id", "segment_moves", as_of),
    ))
}

/// Chained nights over a random history, each held against a full night over the same parent and one in a fresh lake.
/// Gives how many sources went on from what their parent knew.
fn history(seed: u64, nights: usize) -> usize {
    // Where every night finds its own model, the segments of a fresh lake are the same but for their ids.
    let island = seed % 2 == 1;
    let project = Project::new(&if island { without_reuse(PROJECT) } else { PROJECT.to_owned() });
    let mut owner = Owner::new(&project, seed);
    let mut went_on = 0;
    let mut nights_before: Vec<String> = Vec::new();
    for night in 0..nights {
        if night == nights / 2 {
            let file = std::fs::read_to_string(project.path("tessera.toml")).expect("a project");
            let further = "[features.visits]\nexpression = \"count(*) FILTER (WHERE kind = 'visit')\"\n[features.toys]\n\
                           criterion = \"behavioural\"\nover = \"transactions\"\nunit = \"units\"\nexpression = \"CAST(sum(quantity) FILTER (WHERE category = 'toys') AS DOUBLE)\"\nmissing = \"0\"\ndescription = \"Toys\"\n";
            let file = file.replace("[features.visits]\n", "[features.visits_old]\n");
            project.write("tessera.toml", file + further.replace("[features.visits]\n", "[features.visits]\ncriterion = \"behavioural\"\nover = \"interactions\"\nunit = \"visits\"\ntype = \"integer\"\nmissing = \"0\"\ndescription = \"Visits\"\n").as_str());
        }
        let as_of = date(owner.day + 1);
        let full = format!("full-{night}");
        if project.path("lake").exists() {
            copy(&project.path("lake"), &project.path(&full));
        }
        let done: Done = project.tessera(&["run", "--as-of", &as_of]);
        assert_eq!(done.code, 0, "seed {seed}, night {night} after {:?}\n{}", owner.log, done.stderr);
        went_on += done.stderr.matches(" new of ").count() + done.stderr.matches("no new file").count();
        let chained = project.fingerprints(&as_of, &[]);
        project.ok(&["run", "--as-of", &as_of, "--full", "--lake", &full, "--set", "engine.partitions=3"]);
        let other = project.fingerprints(&as_of, &["--lake", &full]);
        let what = format!("seed {seed}, night {night} ({as_of}) after {:?}\n{}", owner.log, done.stderr);
        let apart = differing(&chained, &other, &[]);
        let rows = rows_apart(&project, &as_of, ["lake", &full], &apart);
        assert_eq!(apart, BTreeSet::new(), "full over the same parent: {what}\n{rows}");
        let fresh = format!("fresh-{night}");
        project.ok(&["run", "--as-of", &as_of, "--lake", &fresh, "--set", "engine.partitions=1"]);
        let other = project.fingerprints(&as_of, &["--lake", &fresh]);
        let apart = differing(&chained, &other, &HISTORIC);
        let rows = rows_apart(&project, &as_of, ["lake", &fresh], &apart);
        assert_eq!(apart, BTreeSet::new(), "in a fresh lake: {what}\n{rows}");
        if island {
            let (ours, theirs) = (together(&project, &as_of, "lake"), together(&project, &as_of, &fresh));
            assert_eq!(ours, theirs, "in a fresh lake: {what}");
        }
        if let Some(parent) = nights_before.last() {
            assert_eq!(moves_amiss(&project, parent, &as_of).trim(), "", "moves: {what}");
        }
        nights_before.push(as_of);
        owner.passes();
    }
    project.ok(&["snapshots", "verify"]);
    went_on
}

#[test]
fn chained_is_full_over_random_histories() {
    let seeds: u64 = std::env::var("TESSERA_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let went_on: usize = (1..=seeds).map(|seed| history(seed, 7)).sum();
    assert!(went_on > 10 * seeds as usize, "the nights went on from their parents only {went_on} times");
}

#[test]
fn a_chained_night_killed_in_any_stage_is_the_same() {
    let project = Project::new(PROJECT);
    let mut owner = Owner::new(&project, 77);
    let first = date(owner.day + 1);
    project.ok(&["run", "--as-of", &first]);
    owner.day += 3;
    owner.orders(20, 30, "");
    owner.others(10);
    owner.sign_up(41);
    owner.dump();
    let night = date(owner.day + 1);
    copy(&project.path("lake"), &project.path("whole"));
    project.ok(&["run", "--as-of", &night, "--lake", "whole"]);
    let expect = project.fingerprints(&night, &["--lake", "whole"]);
    for stage in crate::night::STAGES {
        let lake = format!("killed-in-{stage}");
        copy(&project.path("lake"), &project.path(&lake));
        crate::night::kill(&project, &lake, &night, stage, 0);
        project.ok(&["run", "--as-of", &night, "--lake", &lake]);
        assert_eq!(project.fingerprints(&night, &["--lake", &lake]), expect, "killed in {stage}");
        project.ok(&["snapshots", "verify", "--lake", &lake]);
    }
    // On a cluster too.
    copy(&project.path("lake"), &project.path("cluster"));
    project.ok(&["run", "--as-of", &night, "--lake", "cluster", "--engine", "in-process"]);
    assert_eq!(project.fingerprints(&night, &["--lake", "cluster"]), expect);
}

#[test]
fn a_night_reads_and_writes_what_is_new() {
    let project = Project::new(PROJECT);
    let mut owner = Owner::new(&project, 5);
    owner.orders(90, 4_000, "");
    // Nobody becomes known meanwhile, with all that they did before.
    (0..40).for_each(|id| drop(owner.customers.insert(id, format!("c{id:03},c{id}@example.com,DE,2025-01-01,,true"))));
    owner.dump();
    project.ok(&["run", "--as-of", &date(owner.day + 1)]);
    let size = |lake: &str| -> u64 {
        let listed = Command::new("find")
            .arg(project.path(lake))
            .args(["-name", "part-*.parquet", "-printf", "%s\n"])
            .output()
            .expect("find starts");
        let text = String::from_utf8(listed.stdout).expect("numbers");
        text.lines().map(|l| l.parse::<u64>().expect("a number")).sum()
    };
    let before = size("lake/clean_transactions");
    owner.day += 1;
    owner.orders(2, 40, "");
    let night = date(owner.day + 1);
    let plan = project.ok(&["plan", "--as-of", &night]);
    assert!(plan.contains("transactions: 1 new of 3 files"), "{plan}");
    assert!(plan.contains("customers: the same 1 files"), "{plan}");
    assert!(plan.contains("feature last_channel reads all transactions every night: "), "{plan}");
    assert!(!plan.contains("feature mean_line"), "{plan}");
    project.ok(&["run", "--as-of", &night]);
    let added = size("lake/clean_transactions") - before;
    assert!(added * 5 < before, "{added} bytes after {before}");
    assert!(project.ok(&["plan", "--as-of", &night]).contains("done in"));
    // Only the KPIs are asked for in other words: nothing else is done again.
    let other = ["--set", "kpis.repeat_rate.description=\"another\""];
    let plan = project.ok(&[&["plan", "--as-of", &night], other.as_slice()].concat());
    assert_eq!((plan.matches(" done in ").count(), plan.matches(" to do ").count()), (8, 3), "{plan}");
    // What a night knew stays what it was.
    let rows = |as_of: &str| {
        let text = project.ok(&["sql", "SELECT count(*) FROM clean_transactions", "--as-of", as_of, "--format", "csv"]);
        text.trim().lines().last().map(str::to_owned).unwrap_or_default()
    };
    assert_ne!(rows(&night), rows(&date(owner.day)));
    let changes = project.sql(&format!(
        "SELECT rows_clean_change = rows_clean - (SELECT rows_clean FROM ledger WHERE as_of = DATE '{}' AND step = 0 AND \
         source = 'transactions') FROM ledger WHERE as_of = DATE '{night}' AND step = 0 AND source = 'transactions'",
        date(owner.day)
    ));
    assert_eq!(changes.trim(), "true");
}

#[test]
fn an_older_night_made_again_does_not_turn_back_what_is_known() {
    let project = Project::shop();
    let count = |p: &Project| p.sql("SELECT count(*) FROM clean_transactions");
    project.ok(&["run", "--as-of", "2025-11-01"]);
    let early = count(&project);
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let late = count(&project);
    assert_ne!(early, late);
    let before = project.fingerprints("2026-01-01", &[]);
    project.ok(&["run", "--as-of", "2025-11-01", "--force"]);
    assert_eq!(count(&project), late);
    assert_eq!(project.fingerprints("2026-01-01", &[]), before);
    project.ok(&["backfill", "--from", "2025-11-01", "--to", "2026-01-01", "--step", "61", "--force"]);
    assert_eq!(project.fingerprints("2026-01-01", &[]), before);
    project.ok(&["snapshots", "verify"]);

    // A night between the two.
    project.ok(&["run", "--as-of", "2025-12-01"]);
    assert_eq!(count(&project), late);

    // What was published before comes back with its files.
    let first = project.fingerprints("2026-01-01", &[]);
    let orders = std::fs::read_to_string(project.path("orders.csv")).expect("the orders");
    project.write("orders.csv", orders.replace("-14 ", "-15 "));
    project.ok(&["run", "--as-of", "2026-01-01"]);
    assert_ne!(project.fingerprints("2026-01-01", &[]), first);
    project.write("orders.csv", orders);
    let again = project.ok(&["run", "--as-of", "2026-01-01"]);
    assert!(!again.contains("is published as"), "{again}");
    let now = project.fingerprints("2026-01-01", &[]);
    assert_eq!(differing(&now, &first, &HISTORIC), BTreeSet::new());
}

/// What a review found that the random histories do not reach: each was a chained night that was not the full one.
#[test]
fn rare_histories_are_full_too() {
    let late_rule = "[quality.rules.no_toys]\nentity = \"transactions\"\nseverity = \"quarantine\"\norder = 250\n\
                     expression = \"category <> 'toys'\"\ndescription = \"Toys are another company's\"\n";
    let without_customers = PROJECT.replace("[sources.customers]\nurl = \"customers/\"\n", "");
    let warned = "[quality.rules.orphan_customer]\nseverity = \"warn\"\n";
    let projects = [
        format!("{PROJECT}{late_rule}"),
        without_customers.clone(),
        format!("{without_customers}{late_rule}"),
        format!("{PROJECT}{warned}"),
    ];
    for (number, text) in projects.iter().enumerate() {
        let project = Project::new(&without_reuse(text));
        let mut owner = Owner::new(&project, 31 + number as u64);
        for night in 0..4 {
            let as_of = date(owner.day + 1);
            project.ok(&["run", "--as-of", &as_of]);
            let fresh = format!("fresh-{night}");
            project.ok(&["run", "--as-of", &as_of, "--lake", &fresh]);
            let (a, b) = (project.fingerprints(&as_of, &[]), project.fingerprints(&as_of, &["--lake", &fresh]));
            let apart = differing(&a, &b, &HISTORIC);
            let rows = rows_apart(&project, &as_of, ["lake", &fresh], &apart);
            assert_eq!(apart, BTreeSet::new(), "project {number}, night {night}\n{rows}");
            assert_eq!(
                together(&project, &as_of, "lake"),
                together(&project, &as_of, &fresh),
                "project {number}, night {night}"
            );
            owner.day += 3;
            match night {
                // Visitors who never bought, and then buy; old lines again.
                0 => owner.others(60),
                1 => owner.orders(90, 60, ""),
                _ => {
                    project.write(&format!("orders/empty-{night}.csv"), "");
                    owner.sign_up(40 + night);
                    owner.dump();
                }
            }
        }
    }
}

/// Rows of customers that were written for a later day: one takes the place of another, one does not, one is of somebody new, one
/// still waits.
#[test]
fn a_customers_row_that_comes_due_takes_its_place() {
    let second = "[quality.rules.one_address]\nentity = \"customers\"\nseverity = \"supersede\"\norder = 210\n\
                  by = [\"email\"]\nprefer = \"signup_at DESC\"\ndescription = \"One customer an address\"\n";
    let by_address = format!("{second}[quality.rules.superseded_customer]\nenabled = false\n");
    let judged_anew = "all customers are judged, though their files are the same: ";
    for (rules, anew) in
        [("", None), (second, Some("more than one rule compares rows")), (&by_address, Some("takes nobody's place"))]
    {
        let project = Project::new(&without_reuse(&format!("{PROJECT}{rules}")));
        let mut owner = Owner::new(&project, 12);
        let (then, soon, later) = (date(owner.day - 20), date(owner.day + 1), date(owner.day + 6));
        let row = |id: u64, mail: &str, country: &str, signup: &str, updated: &str| {
            format!("c{id:03},{mail}@example.com,{country},{signup},{updated},true")
        };
        owner.customers.clear();
        for id in 0..40 {
            owner.customers.insert(id, row(id, &format!("c{id}"), "DE", &then, &then));
        }
        owner.customers.insert(101, row(1, "one", "AT", &then, &soon));
        owner.customers.insert(102, row(2, "two", "FR", &soon, ""));
        owner.customers.insert(103, row(3, "three", "BE", &then, &later));
        owner.customers.insert(141, row(41, if anew.is_some() { "c4" } else { "new" }, "NL", &soon, &soon));
        owner.dump();
        if rules.is_empty() {
            // Once more in every column: the one merges with the other, whichever night it is.
            owner.customers.insert(201, row(1, "one", "AT", &then, &soon));
            owner.dump();
        } else if anew == Some("takes nobody's place") {
            owner.customers.retain(|id, _| *id < 101 || *id == 141);
            owner.dump();
        }
        project.ok(&["run", "--as-of", &date(owner.day + 1)]);
        owner.day += 3;
        let night = date(owner.day);
        copy(&project.path("lake"), &project.path("cluster"));
        let done = project.tessera(&["run", "--as-of", &night]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        project.ok(&["run", "--as-of", &night, "--lake", "cluster", "--engine", "in-process"]);
        assert_eq!(project.fingerprints(&night, &[]), project.fingerprints(&night, &["--lake", "cluster"]));
        match anew {
            None => assert!(!done.stderr.contains(judged_anew), "{}", done.stderr),
            Some(why) => assert!(done.stderr.contains(judged_anew) && done.stderr.contains(why), "{}", done.stderr),
        }
        project.ok(&["run", "--as-of", &night, "--lake", "fresh"]);
        let (a, b) = (project.fingerprints(&night, &[]), project.fingerprints(&night, &["--lake", "fresh"]));
        let apart = differing(&a, &b, &HISTORIC);
        let rows = rows_apart(&project, &night, ["lake", "fresh"], &apart);
        assert_eq!(apart, BTreeSet::new(), "{rules}\n{rows}");
        assert_eq!(together(&project, &night, "lake"), together(&project, &night, "fresh"), "{rules}");
        project.ok(&["snapshots", "verify"]);
        if rules.is_empty() {
            let asked = "SELECT email, country FROM clean_customers WHERE country <> 'DE' ORDER BY email";
            assert_eq!(project.sql(asked).trim(), "new@example.com,NL\none@example.com,AT");
        }
    }
}

#[test]
fn what_was_kept_and_is_lost_is_made_anew() {
    let project = Project::new(PROJECT);
    let mut owner = Owner::new(&project, 9);
    project.ok(&["run", "--as-of", &date(owner.day + 1)]);
    owner.day += 2;
    owner.orders(9, 30, "");
    let night = date(owner.day + 1);
    copy(&project.path("lake"), &project.path("whole"));
    project.ok(&["run", "--as-of", &night, "--lake", "whole"]);
    std::fs::remove_dir_all(project.path("lake/_tessera/state")).expect("removes");
    let done = project.tessera(&["run", "--as-of", &night]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("what the stage ingest kept is made anew"), "{}", done.stderr);
    assert_eq!(project.fingerprints(&night, &[]), project.fingerprints(&night, &["--lake", "whole"]));

    // And records of a published night: what they told follows from the Delta logs.
    owner.day += 1;
    owner.orders(3, 10, "");
    let next = date(owner.day + 1);
    std::fs::remove_dir_all(project.path("whole")).expect("removes");
    copy(&project.path("lake"), &project.path("whole"));
    project.ok(&["run", "--as-of", &next, "--lake", "whole"]);
    let records = project.path(&format!("lake/_tessera/stages/{night}"));
    for record in std::fs::read_dir(records).expect("records").map(|f| f.expect("a file").path()) {
        match record.file_name().and_then(|n| n.to_str()).unwrap_or_default().split('-').next() {
            Some("reconcile") => std::fs::remove_file(record).expect("removes"),
            Some("segment") => std::fs::write(record, "{").expect("writes"),
            _ => {}
        }
    }
    let done = project.tessera(&["run", "--as-of", &next]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("is asked of the Delta logs"), "{}", done.stderr);
    assert_eq!(project.fingerprints(&next, &[]), project.fingerprints(&next, &["--lake", "whole"]));
}

#[test]
fn a_snapshot_can_be_taken_back() {
    let project = Project::shop();
    project.ok(&["run", "--as-of", "2025-12-01"]);
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let list = |p: &Project| -> serde_json::Value {
        serde_json::from_str(&p.ok(&["snapshots", "list", "--json"])).expect("JSON")
    };
    let second = list(&project)[1].clone();
    assert_eq!(second["parent"], list(&project)[0]["snapshot_id"]);
    for known in ["project", "code_version", "secret", "recorded_by"] {
        assert!(second[known].as_str().is_some_and(|text| !text.is_empty()), "{known}: {second}");
    }
    assert_eq!(second["gates"][0]["required"], true);
    let id = second["snapshot_id"].as_str().expect("an id");
    assert_eq!(project.tessera(&["snapshots", "retract", "2026-01-01-nothing", "--why", "x"]).code, 2);
    project.ok(&["snapshots", "retract", id, "--why", "the prices were net"]);
    assert_eq!(project.tessera(&["sql", "SELECT 1", "--as-of", "2026-01-01"]).code, 2);
    // Whoever reads the tables as they stand doesn't see it either.
    assert_eq!(project.sql("SELECT count(*) FROM kpis WHERE as_of = DATE '2026-01-01'").trim(), "0");
    let known = project.sql("SELECT count(*) FROM clean_transactions");
    let then = ["sql", "SELECT count(*) FROM clean_transactions", "--as-of", "2025-12-01", "--format", "csv"];
    assert!(project.ok(&then).ends_with(&known));
    assert!(project.ok(&["plan", "--as-of", "2026-02-01"]).contains("goes on from 2025-12-01-"));
    project.ok(&["snapshots", "verify"]);
    project.ok(&["run", "--as-of", "2026-01-01"]);
    assert!(project.ok(&["plan", "--as-of", "2026-02-01"]).contains("goes on from 2026-01-01-"));
}

#[test]
fn another_secret_and_nights_to_come_are_refused() {
    let project = Project::shop();
    project.ok(&["run", "--as-of", "2025-12-01"]);
    let mut other = project.command(&["run", "--as-of", "2026-01-01"]);
    let done = other.env("TESSERA_SECRET", "an altogether different secret").output().expect("starts");
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("were made under another secret"), "{said}");
    let early = project.tessera(&["run", "--as-of", "2999-01-01"]);
    assert_eq!(early.code, 2);
    assert!(complaint(&early).starts_with("error: the night of 2999-01-01 is still to come, today is "), "{early:?}");
    project.ok(&["run", "--as-of", "2999-01-01", "--future"]);
}

#[test]
fn a_night_that_failed_can_be_looked_at() {
    let project = Project::shop();
    let rule = [
        "--set",
        "quality.rules.bad_price.severity=\"fail\"",
        "--set",
        "quality.rules.bad_price.expression=\"unit_price > 5\"",
    ];
    let done = project.tessera(&[&["run", "--as-of", "2026-01-01"], rule.as_slice()].concat());
    assert_eq!(done.code, 1);
    let plan = project.ok(&[&["plan", "--as-of", "2026-01-01"], rule.as_slice()].concat());
    let run = plan.lines().next().and_then(|l| l.strip_prefix("run ")).expect("a run").to_owned();
    let seen = project.ok(&[
        "sql",
        "SELECT count(*) > 0 FROM quarantine WHERE rule = 'bad_price'",
        "--run",
        &run,
        "--restricted",
        "--format",
        "csv",
    ]);
    assert!(seen.ends_with("true\n"), "{seen}");
    assert_eq!(project.tessera(&["sql", "SELECT 1", "--run", "2026-01-01-nothing"]).code, 2);
}

#[test]
fn what_an_unfinished_night_left_broken_is_done_again() {
    let project = Project::shop();
    for stage in ["ingest", "reconcile"] {
        project.ok(&["stage", stage, "--as-of", "2026-01-01"]);
    }
    let folder = project.path("lake/_tessera/stages/2026-01-01");
    let record = |stage: &str| {
        let mut found = std::fs::read_dir(&folder).expect("records").map(|f| f.expect("a file").path());
        found.find(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(stage))).expect("the record")
    };
    let text = std::fs::read(record("reconcile")).expect("reads");
    std::fs::write(record("reconcile"), &text[..text.len() / 2]).expect("writes");
    let done = project.tessera(&["run", "--as-of", "2026-01-01"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("the stage reconcile is done again"), "{done:?}");
    // Gone, it is done again and what follows too: never is it an empty table.
    std::fs::remove_file(record("ingest")).expect("removes");
    let done = project.tessera(&["run", "--as-of", "2026-01-01", "--set", "kpis.repeat_rate.description=\"another\""]);
    assert_eq!(done.code, 0, "{done:?}");
    project.ok(&["run", "--as-of", "2026-01-01", "--lake", "other"]);
    let fingerprints = |lake: &str| project.fingerprints("2026-01-01", &["--lake", lake]);
    assert_eq!(fingerprints("lake"), fingerprints("other"));
}
