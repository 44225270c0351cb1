//! The house itself: who may know whom, and papers that say what the code says.

use std::process::{Command, Stdio};

use crate::project::{Project, repository};

/// Everything that a crate links, by name.
fn dependencies(package: &str) -> Vec<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(repository())
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            package,
        ])
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn crates_know_only_what_they_may() {
    let forbidden: [(&str, &[&str]); 8] = [
        (
            "tessera-contract",
            &["datafusion", "tokio", "object_store", "tessera-engine", "tessera-lake", "tessera-stages"],
        ),
        ("tessera-lake", &["tessera-stages", "tessera-engine", "tessera-algo", "smartcore", "clap"]),
        ("tessera-algo", &["arrow", "arrow-schema", "tokio", "futures", "datafusion", "jiff"]),
        ("tessera-engine", &["tessera-lake", "tessera-stages", "deltalake-core", "ballista-core", "clap"]),
        ("tessera-stages", &["tessera-lake", "tessera-generator", "deltalake-core", "ballista-core", "clap"]),
        ("tessera-cluster", &["tessera-engine", "tessera-lake", "tessera-stages", "tessera-contract"]),
        ("tessera-report", &["arrow", "datafusion", "tokio", "tessera-contract", "tessera-lake", "tessera-engine"]),
        ("tessera-generator", &["tessera-contract", "tessera-engine", "tessera-lake", "tessera-stages", "datafusion"]),
    ];
    for (package, banned) in forbidden {
        let all = dependencies(package);
        assert!(all.len() > 3, "{package}: {all:?}");
        let known: Vec<_> = banned.iter().filter(|b| all.iter().any(|d| d == *b)).collect();
        assert!(known.is_empty(), "{package} must not know {known:?}");
    }
    // What is linked for the engine must not be handed to a stage: it has no store in its own manifest, but for its tests.
    let manifest = std::fs::read_to_string(repository().join("crates/tessera-stages/Cargo.toml")).expect("reads");
    let (linked, _) = manifest.split_once("[dev-dependencies]").expect("the tests' section");
    assert!(!linked.contains("object_store"), "a stage has no handle with which to do IO");
}

#[test]
fn who_may_not_read_personal_data_is_told_of_all_of_it() {
    let dictionary = Project::new("").ok(&["tables"]);
    let restricted = dictionary.split("\n### ").filter(|section| section.contains("Class: personal data"));
    let names: Vec<_> = restricted.filter_map(|section| section.split_whitespace().next()).collect();
    assert!(names.len() > 2, "{names:?}");
    let policy = std::fs::read_to_string(repository().join("infra/terraform/aws/variables.tf")).expect("reads");
    for name in names {
        let name = name.trim_matches('`');
        assert!(policy.contains(&format!("\"{name}\"")), "{name} is missing among the restricted tables");
    }
}

#[test]
fn the_dictionary_is_the_contract() {
    let project = Project::new("");
    let made = project.ok(&["tables"]);
    let kept = std::fs::read_to_string(repository().join("docs/tables.md")).expect("docs/tables.md");
    assert_eq!(made, kept, "run `just dictionary`");
    let made = project.ok(&["schema", "--markdown"]);
    let kept = std::fs::read_to_string(repository().join("docs/project-file.md")).expect("docs/project-file.md");
    assert_eq!(made, kept, "run `just dictionary`");
    let one = project.ok(&["tables", "kpis"]);
    assert!(
        one.starts_with("### kpis\n") && one.contains("| ci_low | float | Lower end of the 95 % interval |"),
        "{one}"
    );
    assert_eq!(project.tessera(&["tables", "kpi"]).code, 2);
}

#[test]
fn the_schema_knows_every_key_of_the_defaults() {
    let project = Project::new("");
    let schema: serde_json::Value = serde_json::from_str(&project.ok(&["schema"])).expect("JSON");
    for section in [
        "project",
        "lake",
        "engine",
        "sources",
        "quality",
        "identity",
        "features",
        "segmentation",
        "validation",
        "kpis",
        "privacy",
    ] {
        assert!(schema["properties"].get(section).is_some(), "{section}");
    }
}

#[test]
fn a_new_project_checks() {
    let project = Project::new("");
    project.ok(&["init", "mine"]);
    let again = project.tessera(&["init", "mine"]);
    assert_eq!(again.code, 2);
    let none = project.tessera(&["check", "--project", "mine/tessera.toml"]);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("no file matches"), "{none:?}");
    let rows = "order_no,customer_no,date,qty,price\n1,7,24.12.2025 18:00,2,9.99\n";
    project.write("mine/data/transactions/a.csv", rows);
    let out = project.ok(&["check", "--project", "mine/tessera.toml"]);
    for expect in [
        "quantity",
        "qty",
        "not mapped: line_id",
        "feature online_share (transactions give no channel)",
        "every source opens",
    ] {
        assert!(out.contains(expect), "{expect}\n{out}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let project = Project::new("");
    for command in ["demo", "init", "check", "run", "stage", "backfill", "plan", "sql", "generate"] {
        let help = project.ok(&[command, "--help"]);
        assert!(help.contains("Example: tessera "), "{help}");
    }
}

#[test]
fn a_reader_may_stop_reading() {
    let project = Project::new("");
    let mut command = project.command(&["tables"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let done = child.wait_with_output().expect("ends");
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn answers_come_in_four_formats() {
    let project = Project::shop();
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let query =
        "SELECT segment_id, kpi, value FROM kpis WHERE kpi = 'customers' ORDER BY segment_id NULLS LAST LIMIT 1";
    let csv = project.ok(&["sql", query, "--format", "csv"]);
    assert!(csv.starts_with("segment_id,kpi,value\n0,customers,"), "{csv}");
    let json = project.ok(&["sql", query, "--format", "json"]);
    assert!(json.starts_with("{\"segment_id\":0,\"kpi\":\"customers\",\"value\":"), "{json}");
    let table = project.ok(&["sql", query]);
    assert!(table.contains("segment_id") && table.contains("customers"), "{table}");
    let parquet = project.command(&["sql", query, "--format", "parquet"]).output().expect("starts").stdout;
    assert_eq!((&parquet[..4], &parquet[parquet.len() - 4..]), (b"PAR1".as_slice(), b"PAR1".as_slice()));
}

#[test]
fn a_secret_is_made_once_and_kept_from_others() {
    let project = Project::shop();
    let without = |args: &[&str]| {
        let done = project.command(args).env_remove("TESSERA_SECRET").output().expect("the program starts");
        // Whether the gates like the segments depends on the keys.
        assert!(matches!(done.status.code(), Some(0 | 3)), "{done:?}");
        String::from_utf8(done.stderr).expect("text")
    };
    assert!(without(&["run", "--as-of", "2026-01-01"]).contains("made a secret"));
    let file = project.path("tessera.secret");
    let secret = std::fs::read(&file).expect("the secret");
    assert_eq!(secret.len(), 64);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).expect("the secret").permissions().mode() & 0o777, 0o600);
    }
    assert!(!without(&["run", "--as-of", "2025-12-31"]).contains("made a secret"));
    assert_eq!(std::fs::read(&file).expect("the secret"), secret);
}
