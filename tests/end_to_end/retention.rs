//! What is retained, what may go, and that nobody's work goes with it.

use std::{
    path::Path,
    process::{Child, Stdio},
    time::{Duration, SystemTime},
};

use crate::{night, project::Project};

/// As if whoever held a lease of the lake had died long ago.
pub fn all_died(lake: &Path) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for lease in std::fs::read_dir(lake.join("_tessera/leases")).into_iter().flatten() {
        let file = std::fs::File::options().write(true).open(lease.expect("a lease").path()).expect("opens");
        file.set_modified(long_ago).expect("a time");
    }
}

fn objects(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn nights_that_are_not_retained_expire_and_their_files_go() {
    let project = Project::shop();
    let nights = ["2025-10-31", "2025-11-29", "2025-11-30", "2025-12-30", "2025-12-31", "2026-01-01"];
    for night in nights {
        project.ok(&["run", "--as-of", night]);
    }
    project.ok(&["run", "--as-of", "2025-12-30", "--force"]);
    let list = project.ok(&["snapshots", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let id = |at: usize| list[at]["snapshot_id"].as_str().expect("an id").to_owned();
    let shown = |query: &str| project.sql(query).lines().map(str::to_owned).collect::<Vec<_>>();
    let known = shown("SELECT count(*), sum(amount) FROM clean_transactions");

    let expire = ["snapshots", "expire", "--keep", "2", "--keep-months", "3"];
    let dry = project.ok(&[expire.as_slice(), &["--dry-run"]].concat());
    // The second attempt at a night goes with the first.
    let expect = [id(0), id(1), id(3), id(6)].map(|id| format!("{id} published\n")).concat();
    assert_eq!(dry, format!("{expect}4 snapshots would expire\n"));
    let before = objects(&project.path("lake")).len();
    project.ok(&expire);
    assert!(project.ok(&expire).starts_with("0 snapshots expired"));

    let nights = "SELECT DISTINCT CAST(as_of AS VARCHAR) FROM kpis ORDER BY 1";
    assert_eq!(shown(nights), ["2025-11-30", "2025-12-31", "2026-01-01"]);
    assert_eq!(shown("SELECT count(*), sum(amount) FROM clean_transactions"), known);
    let asked = project.tessera(&["sql", "SELECT 1", "--snapshot", &id(1)]);
    assert_eq!(asked.code, 2);
    assert!(asked.stderr.contains("(retained are 2 nights and 3 months): its files are not retained"), "{asked:?}");
    assert_eq!(project.tessera(&["sql", "SELECT 1", "--as-of", "2025-11-29"]).code, 2);
    let listed = project.ok(&["snapshots", "list"]);
    assert_eq!(listed.matches("published, expired").count(), 4, "{listed}");
    project.ok(&["snapshots", "verify"]);

    // Not at once: somebody may be reading.
    assert_eq!(project.ok(&["vacuum"]), "0 files of 0 bytes removed\n");
    project.ok(&["vacuum", "--older-than", "0"]);
    let after = objects(&project.path("lake"));
    assert!(after.len() + 4 * 8 <= before, "{before} {}", after.len());
    assert!(!after.iter().any(|path| path.contains("as_of=2025-11-29")), "{after:#?}");
    project.ok(&["snapshots", "verify"]);
    assert_eq!(shown(nights), ["2025-11-30", "2025-12-31", "2026-01-01"]);
    for night in ["2025-11-30", "2025-12-31"] {
        let rows =
            project.ok(&["sql", "SELECT count(*) > 0 FROM clean_transactions", "--as-of", night, "--format", "csv"]);
        assert!(rows.ends_with("true\n"), "{rows}");
    }

    // What is left is a lake like any other: an older night is made again, and goes on from what is retained.
    project.ok(&["run", "--as-of", "2025-12-30"]);
    project.ok(&["run", "--as-of", "2025-12-30", "--lake", "fresh"]);
    let mut again = project.fingerprints("2025-12-30", &[]);
    let mut fresh = project.fingerprints("2025-12-30", &["--lake", "fresh"]);
    for fingerprints in [&mut again, &mut fresh] {
        // They compare with the parent night.
        fingerprints.retain(|table, _| table != "inputs" && !crate::chain::HISTORIC.contains(&table.as_str()));
    }
    assert_eq!(again, fresh);
    project.ok(&["snapshots", "verify"]);
}

/// Long nights leave a log that is as long as what is retained.
#[test]
fn logs_do_not_grow_with_the_nights() {
    let project = Project::shop();
    let logs = || {
        let files = objects(&project.path("lake"));
        files.into_iter().filter(|path| path.contains("/_delta_log/") && path.contains("/kpis/")).count()
    };
    let mut counts = Vec::new();
    for month in 11..=12 {
        for day in 1..=14 {
            project.ok(&["run", "--as-of", &format!("2025-{month:02}-{day:02}"), "--set", "segmentation.max_k=2"]);
            project.ok(&["snapshots", "expire", "--keep", "3"]);
            project.ok(&["vacuum", "--older-than", "0"]);
        }
        counts.push(logs());
    }
    assert!(counts[1] <= counts[0] + 2 && counts[1] <= 25, "{counts:?}");
    project.ok(&["snapshots", "verify"]);
    assert_eq!(project.sql("SELECT count(DISTINCT as_of) FROM kpis").trim(), "3");
}

fn spawn(project: &Project, lake: &str) -> Child {
    let mut command = project.command(&["run", "--as-of", "2026-01-01", "--lake", lake]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Whatever `vacuum` is told, it takes nothing from a night that runs or is gone on with.
#[test]
fn nobody_loses_work_to_a_vacuum() {
    let project = night::generated(400, &[]);
    project.ok(&["run", "--as-of", "2026-01-01", "--lake", "expect"]);
    let expect = project.fingerprints("2026-01-01", &["--lake", "expect"]);
    for (lake, stage) in [("new", None), ("stopped", Some("features")), ("late", Some("kpis"))] {
        if let Some(stage) = stage {
            night::kill(&project, lake, "2026-01-01", stage, 0);
            all_died(&project.path(lake));
        }
        let mut run = spawn(&project, lake);
        // From before its first step to after its last.
        let mut met = 0;
        let status = loop {
            let said = project.ok(&["vacuum", "--older-than", "0", "--lake", lake]);
            met += usize::from(said.contains("is at work at the night of 2026-01-01"));
            if let Some(status) = run.try_wait().expect("waits") {
                break status;
            }
        };
        assert!(status.success(), "{lake}: {status}");
        assert!(met > 0, "{lake}: no vacuum met the run");
        assert_eq!(project.fingerprints("2026-01-01", &["--lake", lake]), expect, "{lake}");
        project.ok(&["snapshots", "verify", "--lake", lake]);
    }
}

/// Every stage record of a night, by its stage.
fn records(project: &Project, night: &str, stage: &str) -> Vec<std::path::PathBuf> {
    let folder = project.path(&format!("lake/_tessera/stages/{night}"));
    let found = std::fs::read_dir(folder).expect("records").map(|f| f.expect("a file").path());
    found.filter(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(stage))).collect()
}

/// What a broken record does not tell, the Delta logs do.
#[test]
fn a_broken_record_costs_no_file() {
    let project = Project::shop();
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let [record] = records(&project, "2026-01-01", "segment-").try_into().expect("one record");
    project.ok(&["run", "--as-of", "2026-01-01", "--force"]);
    let text = std::fs::read_to_string(&record).expect("reads");
    std::fs::write(&record, text.replace("\"version\": 2", "\"version\": 99")).expect("writes");
    project.ok(&["vacuum", "--older-than", "0"]);
    let done = project.tessera(&["snapshots", "verify"]);
    assert!(
        done.code == 1 && done.stderr.contains("it is of version 99") && !done.stderr.contains(": missing"),
        "{done:?}"
    );
    // Nor does a table of somebody else that stands in the lake.
    let copy = std::process::Command::new("cp")
        .arg("-r")
        .args([project.path("lake/kpis"), project.path("lake/report")])
        .status();
    assert!(copy.expect("cp starts").success());
    let before = objects(&project.path("lake/report"));
    project.ok(&["vacuum", "--older-than", "0"]);
    assert_eq!(objects(&project.path("lake/report")), before);
}

/// A run that was stopped while it published, and whose stages are done anew, publishes what it then has.
#[test]
fn a_night_published_by_half_and_made_anew_is_whole() {
    let project = Project::shop();
    project.ok(&["run", "--as-of", "2026-01-01", "--lake", "expect"]);
    project.ok(&["run", "--as-of", "2026-01-01"]);
    // As if it had died before the registry knew, and its records had been removed.
    for gone in ["lake/snapshots", "lake/_tessera/stages"] {
        std::fs::remove_dir_all(project.path(gone)).expect("removes");
    }
    project.ok(&["run", "--as-of", "2026-01-01"]);
    project.ok(&["snapshots", "verify"]);
    assert_eq!(project.fingerprints("2026-01-01", &[]), project.fingerprints("2026-01-01", &["--lake", "expect"]));
    assert_ne!(project.sql("SELECT count(*) FROM kpis").trim(), "0");
    assert_ne!(project.sql("SELECT count(*) FROM clean_transactions").trim(), "0");
}

/// A registry whose last rows are gone is a chain that holds: only who noted a hash can tell.
#[test]
fn a_cut_registry_is_not_the_one_that_was_noted() {
    let project = Project::shop();
    let noted = |lake: &str| {
        let said = project.ok(&["snapshots", "verify", "--lake", lake]);
        said.split([' ', ',', ';']).find(|word| word.len() == 64).expect("a hash").to_owned()
    };
    project.ok(&["run", "--as-of", "2025-12-01"]);
    let first = noted("lake");
    let copy = std::process::Command::new("cp").arg("-r").args([project.path("lake"), project.path("cut")]).status();
    assert!(copy.expect("cp starts").success());
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let second = noted("lake");
    project.ok(&["snapshots", "verify", "--expect", &first]);
    project.ok(&["snapshots", "verify", "--expect", &second]);
    let done = project.tessera(&["snapshots", "verify", "--lake", "cut", "--expect", &second]);
    assert!(done.code == 1 && done.stderr.contains("rows are gone, or this is another lake"), "{done:?}");
}

/// Plain Delta readers know no registry: what they see is held against it.
#[test]
fn what_plain_readers_see_is_proven() {
    let project = Project::shop();
    project.ok(&["run", "--as-of", "2025-12-01"]);
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let log = |table: &str, version: u64| project.path(&format!("lake/{table}/_delta_log/{version:020}.json"));
    let verify = || project.tessera(&["snapshots", "verify"]);
    // Somebody takes a file out: the published versions are what they were.
    for table in ["kpis", "clean_transactions"] {
        let first = std::fs::read_to_string(log(table, 0)).expect("a commit");
        let actions = first.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let path = actions.filter_map(|a| a["add"]["path"].as_str().map(str::to_owned)).next().expect("a file");
        let remove = serde_json::json!({ "remove": { "path": path, "dataChange": true } });
        std::fs::write(log(table, 2), format!("{remove}\n")).expect("writes");
        let done = verify();
        let told = format!("{table}: its newest version 2");
        assert!(done.code == 1 && done.stderr.contains(&told), "{done:?}");
        assert!(done.stderr.contains("somebody else wrote to the table"), "{done:?}");
        std::fs::remove_file(log(table, 2)).expect("removes");
    }
    // Or leaves a checkpoint that readers begin with.
    let forged = project.path("lake/kpis/_delta_log/00000000000000000001.checkpoint.parquet");
    std::fs::write(&forged, "").expect("writes");
    let done = verify();
    assert!(done.code == 1 && done.stderr.contains("was not written by tessera"), "{done:?}");
    std::fs::remove_file(forged).expect("removes");
    // A night that was stopped while it published is no finding; what it was to be is told.
    let stopped = "which was stopped while it published: run its night again";
    assert!(!project.ok(&["snapshots", "verify"]).contains(stopped));
    std::fs::remove_file(log("snapshots", 1)).expect("removes");
    let told = project.ok(&["snapshots", "verify"]);
    assert!(told.contains("kpis: its newest version 1 of 2026-01-01 is that of the run 2026-01-01-"), "{told}");
    assert!(told.contains(stopped), "{told}");
    project.ok(&["run", "--as-of", "2026-01-01"]);
    assert!(!project.ok(&["snapshots", "verify"]).contains(stopped));
    // What is taken back, or no longer retained, is taken out of the tables too; the next night proves those commits.
    let shown = project.ok(&["snapshots", "show", "--as-of", "2026-01-01", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let id = shown["snapshot_id"].as_str().expect("an id").to_owned();
    project.ok(&["snapshots", "retract", &id, "--why", "a test"]);
    project.ok(&["snapshots", "verify"]);
    project.ok(&["run", "--as-of", "2026-01-02"]);
    project.ok(&["snapshots", "expire", "--keep", "1"]);
    project.ok(&["snapshots", "verify"]);
    project.ok(&["run", "--as-of", "2026-01-03"]);
    project.ok(&["snapshots", "verify"]);
    for version in 0..=6 {
        let Ok(text) = std::fs::read_to_string(log("kpis", version)) else { continue };
        std::fs::write(log("kpis", version), text.replace("WRITE", "write")).expect("writes");
        let done = verify();
        let told = format!("kpis/_delta_log/{version:020}.json: is another one than was written");
        assert!(done.code == 1 && done.stderr.contains(&told), "{version}: {done:?}");
        std::fs::write(log("kpis", version), text).expect("writes");
    }
    assert!(log("kpis", 4).exists(), "two nights, one taken back, one more, one expired, one more");
}
