//! Nights that must not publish, and the sentence that says why.

use crate::project::{Done, HEADER, Project, complaint, lines};

const TEXT: &str = "[sources.transactions]\nurl = \"orders/\"\n[segmentation]\nmin_k = 2\nmax_k = 4\nk = 2\n";
const FIRST: [&str; 3] = ["run", "--as-of", "2026-01-01"];
const SECOND: [&str; 3] = ["run", "--as-of", "2026-01-02"];

/// The shop's lines of a month of 2025.
fn month(month: usize) -> String {
    let sign = format!(",2025-{month:02}-");
    let all = lines();
    let of_it: Vec<_> = all.lines().filter(|line| line.contains(&sign)).collect();
    std::iter::once(HEADER.trim_end()).chain(of_it).map(|line| format!("{line}\n")).collect()
}

fn path(month: usize) -> String {
    format!("orders/2025-{month:02}.csv")
}

/// The small shop, one file a month.
fn shop() -> Project {
    let project = Project::new(TEXT);
    (1..=12).for_each(|m| project.write(&path(m), month(m)));
    project
}

/// The night is held before anything is made of its rows, and says so.
fn held(done: &Done, expect: &str) {
    assert_eq!(done.code, 3, "{done:?}");
    let told = complaint(done);
    assert!(told.starts_with("error: the night of 2026-01-0") && told.contains(expect), "{told}");
    assert!(!done.stderr.contains("segment "), "{}", done.stderr);
}

#[test]
fn a_month_of_files_is_gone() {
    let project = shop();
    project.ok(&FIRST);
    let published = project.sql("SELECT snapshot_id FROM snapshots WHERE state = 'published'");
    for m in [3, 4] {
        std::fs::remove_file(project.path(&path(m))).expect("removes");
    }
    let gone = project.tessera(&SECOND);
    held(&gone, "2 files of transactions that the last published night had are gone, and ");
    assert!(complaint(&gone).contains("2025-03.csv") && complaint(&gone).contains("2025-04.csv"), "{gone:?}");
    // Asked again, it says the same; what was published is current; and the candidate can be looked at.
    held(&project.tessera(&SECOND), "2 files of transactions");
    assert_eq!(project.sql("SELECT snapshot_id FROM snapshots WHERE state = 'published'"), published);
    let id = project.sql("SELECT snapshot_id FROM snapshots WHERE state = 'held'");
    let failed = "SELECT \"check\" FROM quality WHERE state = 'fail' AND gate = 'required' ORDER BY 1";
    let found = project.ok(&["sql", failed, "--snapshot", id.trim(), "--format", "csv"]);
    assert!(found.contains("\nfiles_gone\n"), "{found}");
    project.ok(&["snapshots", "verify"]);
    // As steps of a scheduler.
    let project = shop();
    project.ok(&FIRST);
    std::fs::remove_file(project.path(&path(3))).expect("removes");
    for stage in ["ingest", "reconcile"] {
        project.ok(&["stage", stage, "--as-of", "2026-01-02"]);
    }
    held(&project.tessera(&["stage", "quality", "--as-of", "2026-01-02"]), "1 files of transactions");
    // Whole again, the next night needs no help.
    project.write(&path(3), month(3));
    project.ok(&["run", "--as-of", "2026-01-03"]);
    // Other names for the same rows are no loss.
    std::fs::rename(project.path(&path(3)), project.path("orders/march.csv")).expect("renames");
    project.ok(&["run", "--as-of", "2026-01-04", "--set", "quality.checks.freshness.enabled=false"]);
}

#[test]
fn a_column_is_renamed_in_one_file_of_twelve() {
    let project = shop();
    project.write(&path(7), month(7).replacen("channel", "chanel", 1));
    held(&project.tessera(&FIRST), "2025-07.csv lacks channel, which files of transactions before it have");
    // One that nobody maps, and one that begins with a later file.
    project.write(&path(7), month(7));
    for m in 6..=12 {
        let wider: Vec<String> =
            month(m).lines().enumerate().map(|(at, l)| format!("{l},{}", if at == 0 { "note" } else { "x" })).collect();
        project.write(&path(m), wider.join("\n"));
    }
    project.ok(&[&FIRST[..], &["--set", "sources.transactions.columns.remark=note"]].concat());
}

#[test]
fn a_third_of_the_rows_is_set_aside() {
    let project = shop();
    let minus = |line: &str| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        cells[4] = format!("-{}", cells[4]);
        cells.join(",")
    };
    let worse = |m: usize| {
        month(m)
            .lines()
            .enumerate()
            .map(|(at, l)| if at % 3 == 1 { minus(l) } else { l.to_owned() } + "\n")
            .collect::<String>()
    };
    (1..=12).for_each(|m| project.write(&path(m), worse(m)));
    held(&project.tessera(&FIRST), " of the rows of transactions are quarantined, most of them by bad_price (");
    // Who knows better says so.
    project.ok(&[&FIRST[..], &["--set", "quality.checks.quarantined_share.at_most=0.4"]].concat());
}

#[test]
fn all_of_one_file_is_set_aside() {
    let project = shop();
    project.write(&path(5), month(5).replace("2025-05-", "05/2025/"));
    held(
        &project.tessera(&FIRST),
        "100 % of the rows of …/orders/2025-05.csv are quarantined, most of them by unparsable_ordered_at",
    );
}

#[test]
fn revenue_is_halved() {
    let project = shop();
    project.ok(&FIRST);
    let half = |line: &str| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        cells[4] = cells[4].parse::<f64>().map_or(cells[4].clone(), |price| format!("{:.4}", price / 2.0));
        cells.join(",") + "\n"
    };
    (1..=12).for_each(|m| project.write(&path(m), month(m).lines().map(half).collect::<String>()));
    held(&project.tessera(&SECOND), "transactions have 50 % of the amount of the last published night");
    // Of December alone: four weeks are half of what they were.
    (1..=11).for_each(|m| project.write(&path(m), month(m)));
    held(&project.tessera(&SECOND), "recent_revenue of transactions is ");
    assert!(project.tessera(&SECOND).stderr.contains("; it was "));
}

#[test]
fn a_source_is_a_week_old() {
    let project = shop();
    // The first night may be of long ago.
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let done = project.tessera(&["run", "--as-of", "2026-01-06"]);
    held(&done, "freshness of transactions is ");
    assert!(complaint(&done).contains("where at most 6.9 is asked"), "{done:?}");
}
