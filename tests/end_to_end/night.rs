//! Nights: the same answer whatever the circumstances, and nothing visible before it is whole.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use crate::project::{Project, complaint, repository};

pub const STAGES: [&str; 11] = [
    "ingest",
    "reconcile",
    "quality",
    "identity",
    "features",
    "value",
    "segment",
    "validate",
    "kpis",
    "causes",
    "publish",
];

/// The demo's project over a generated shop.
pub fn generated(customers: u32, further: &[&str]) -> Project {
    let demo = repository().join("crates/tessera/src/commands/demo/tessera.toml");
    let project = Project::new(&std::fs::read_to_string(demo).expect("the demo's project"));
    project.ok(&[&["generate", "--customers", &customers.to_string(), "--out", "data"], further].concat());
    project
}

/// Features of every kind that a project may have of its own.
const FURTHER: &str = r#"
[segmentation]
features = ["recency_days", "monetary", "before_last", "price_sensitivity", "education", "income", "content", "share_of_spend"]
without = ["sensitive"]
[features.price_sensitivity]
enabled = true
winsorise = 0.02
[features.income]
enabled = true
impute = "median"
[features.education]
enabled = true
categories = 3
[features.before_last]
criterion = "behavioural"
over = "transactions"
expression = "CAST(sum(amount) FILTER (WHERE purchase) AS DOUBLE) / nullif(count(DISTINCT order_id), 0)"
window = "3 months"
lag = "2 weeks"
unit = "currency per order"
description = "Order value of the three months that ended two weeks ago"
[features.calls]
criterion = "behavioural"
over = "interactions"
expression = "count(*) FILTER (WHERE kind = 'support')"
window = "60 days"
type = "integer"
unit = "calls"
consent = "consent_marketing"
description = "Contacts with the support, of those who agree to marketing"
[features.share_of_spend]
criterion = "behavioural"
over = "features"
expression = "before_last / nullif(CAST(gross_spend AS DOUBLE), 0)"
unit = "share"
description = "Of a formula over a window"
[scales.content]
items = ["nps", "csat"]
range = [0, 10]
min_alpha = -1
description = "How content the customer is"
[quality.rules.late_line]
entity = "transactions"
severity = "merge"
order = 95
expression = "line_id <> '9'"
description = "A ninth line repeats an order's first"
"#;

/// The same shop with these.
fn with_further(customers: u32, further: &[&str]) -> Project {
    let project = generated(customers, further);
    let file = std::fs::read_to_string(project.path("tessera.toml")).expect("a project");
    project.write("tessera.toml", file + FURTHER);
    project
}

/// Puts the files of a folder into another order, under other names, and the lines of each too.
fn shuffle(data: &Path) {
    for folder in
        ["customers", "transactions", "interactions", "campaign_contacts", "survey_responses", "marketing_costs"]
    {
        let mut files: Vec<_> =
            std::fs::read_dir(data.join(folder)).expect("a folder").map(|f| f.expect("a file").path()).collect();
        files.sort();
        for (number, file) in files.iter().enumerate() {
            let bytes = std::fs::read(file).expect("reads");
            let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
            let rows = &mut lines[1..];
            rows.reverse();
            let third = rows.len() / 3;
            rows.rotate_left(third);
            std::fs::remove_file(file).expect("removes");
            std::fs::write(data.join(folder).join(format!("z{:02}.csv", files.len() - number)), lines.concat())
                .expect("writes");
        }
    }
}

#[test]
fn any_partitioning_and_any_order_give_the_same_night() {
    let project = with_further(500, &["--format", "csv"]);
    let night = "2026-01-01";
    let run = |lake: &str, further: &[&str]| {
        project.ok(&[&["run", "--as-of", night, "--lake", lake], further].concat());
        project.fingerprints(night, &["--lake", lake])
    };
    let expect = run("one", &["--set", "engine.partitions=1"]);
    assert_eq!(expect.len(), 39, "{expect:?}");
    assert_eq!(run("two", &["--set", "engine.partitions=2"]), expect);
    assert_eq!(run("seven", &["--set", "engine.partitions=7", "--set", "engine.memory_limit=256MiB"]), expect);
    shuffle(&project.path("data"));
    assert_eq!(run("shuffled", &["--set", "engine.partitions=3"]), expect);
}

#[test]
fn a_shop_in_buckets_and_on_disk_is_the_same_night() {
    let night = "2026-01-01";
    let project = generated(6_000, &["--format", "csv"]);
    project.ok(&["run", "--as-of", night, "--lake", "whole", "--set", "engine.partitions=2"]);
    let buckets = |lake: &str| {
        let folder = project.path(&format!("{lake}/clean_transactions"));
        let names = std::fs::read_dir(folder).expect("a folder").map(|f| f.expect("an entry").file_name());
        names.filter(|n| n.to_string_lossy().starts_with("bucket-")).count()
    };
    assert!(buckets("whole") > 1, "the sources are large enough");

    // A fraction of what the rows take.
    let limit = ["--set", "engine.memory_limit=10MiB", "--set", "engine.partitions=2"];
    let done = project.tessera(&[&["run", "--as-of", night, "--lake", "little", "-v"], limit.as_slice()].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("spilled_bytes="), "{}", done.stderr);
    let expect = project.fingerprints(night, &["--lake", "whole"]);
    assert_eq!(project.fingerprints(night, &["--lake", "little"]), expect);

    // Compressed, the same rows are too few bytes for buckets.
    let transactions = project.path("data/transactions");
    for file in std::fs::read_dir(&transactions).expect("a folder").map(|f| f.expect("a file").path()) {
        let bytes = std::fs::read(&file).expect("reads");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut gz, &bytes).expect("compresses");
        std::fs::write(file.with_extension("csv.gz"), gz.finish().expect("compresses")).expect("writes");
        std::fs::remove_file(&file).expect("removes");
    }
    project.ok(&["run", "--as-of", night, "--lake", "gz", "--set", "sources.transactions.url=data/transactions/*.gz"]);
    assert_eq!(buckets("gz"), 0);
    assert_eq!(project.fingerprints(night, &["--lake", "gz"]), expect);
}

#[test]
fn the_future_changes_nothing() {
    let night = "2025-10-01";
    let short = with_further(400, &["--to", night]);
    let long = with_further(400, &["--to", "2026-01-01"]);
    short.ok(&["run", "--as-of", night]);
    long.ok(&["run", "--as-of", night]);
    let known = |p: &Project| {
        let mut tables = p.fingerprints(night, &[]);
        // Rows that have no date they could be read by are nobody's future; they are quarantined as soon as they are seen.
        tables.retain(|name, _| name != "quarantine" && name != "ledger");
        // What a contact led to later stands in its row, and is looked at by nobody.
        tables.remove("clean_campaign_contacts");
        let dated = "SELECT source, rule, count(*), sum(amount) FROM quarantine WHERE NOT array_has_any(rules, \
                     make_array('missing_date', 'interaction_incomplete', 'contact_incomplete', 'survey_incomplete')) \
                     GROUP BY 1, 2 ORDER BY 1, 2";
        (tables, p.sql(dated))
    };
    assert_eq!(known(&short), known(&long));
    let used = short.sql("SELECT feature FROM feature_report WHERE clustered_on ORDER BY feature");
    assert_eq!(used.split_whitespace().count(), 8, "{used}");

    let rows = |p: &Project| p.sql("SELECT sum(rows_after_as_of) FROM ledger WHERE step = 0");
    assert_ne!(rows(&short), rows(&long), "the later rows are there, and counted");
    // Nor does a later night change an earlier one.
    let before = long.fingerprints(night, &[]);
    let kpis = long.sql(&format!("SELECT * FROM kpis WHERE as_of = DATE '{night}' ORDER BY kpi, segment_id"));
    long.ok(&["run", "--as-of", "2025-11-01"]);
    assert_eq!(long.fingerprints(night, &[]), before);
    assert_eq!(long.sql(&format!("SELECT * FROM kpis WHERE as_of = DATE '{night}' ORDER BY kpi, segment_id")), kpis);
    let previous = long.sql("SELECT previous = (SELECT value FROM kpis WHERE as_of = DATE '2025-10-01' AND kpi = 'revenue' AND segment_id IS NULL) \
                             FROM kpis WHERE as_of = DATE '2025-11-01' AND kpi = 'revenue' AND segment_id IS NULL");
    assert_eq!(previous.trim(), "true");
}

fn kill_in(project: &Project, lake: &str, stage: &str, after_lines: usize) -> bool {
    kill(project, lake, "2026-01-01", stage, after_lines)
}

/// Kills the run with no chance to tidy up as soon as `stage` begins. False when it had ended before.
pub fn kill(project: &Project, lake: &str, night: &str, stage: &str, after_lines: usize) -> bool {
    let mut child = project
        .command(&["run", "--as-of", night, "--lake", lake, "--log", "json", "-v"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut begun = lines.map_while(Result::ok).skip_while(|line| !line.contains(&format!("\"stage\":\"{stage}\"")));
    let found = begun.nth(after_lines).is_some();
    child.kill().expect("killed");
    let status = child.wait().expect("ends");
    found && !status.success()
}

#[test]
fn a_night_killed_at_any_stage_goes_on_and_is_the_same() {
    let project = generated(400, &[]);
    let night = "2026-01-01";
    project.ok(&["run", "--as-of", night]);
    let expect = project.fingerprints(night, &[]);
    let mut killed = 0;
    for stage in STAGES {
        let lake = format!("killed-in-{stage}");
        killed += u32::from(kill_in(&project, &lake, stage, 0));
        let list = project.ok(&["snapshots", "list", "--json", "--lake", &lake]);
        if list.trim() == "[]" {
            let seen = project.tessera(&["sql", "SELECT count(*) FROM snapshots", "--lake", &lake]);
            assert!(seen.code != 0 || seen.stdout.contains('0'), "{seen:?}");
        }
        project.ok(&["run", "--as-of", night, "--lake", &lake]);
        assert_eq!(project.fingerprints(night, &["--lake", &lake]), expect, "killed in {stage}");
        project.ok(&["snapshots", "verify", "--lake", &lake]);
    }
    assert!(killed >= 6, "only {killed} runs were still running when they were to be killed");

    // One lake, killed again and again.
    for stage in STAGES {
        kill_in(&project, "often", stage, 0);
    }
    // What the killed left is young, and may be somebody's; and a run that is not yet published is not forgotten.
    let vacuum = |lake: &str, hours: &str, further: &[&str]| {
        project.ok(&[&["vacuum", "--lake", lake, "--older-than", hours], further].concat())
    };
    let said = vacuum("often", "1", &[]);
    assert!(
        said.contains("is at work at the night of 2026-01-01") && said.ends_with("0 files of 0 bytes removed\n"),
        "{said}"
    );
    crate::retention::all_died(&project.path("often"));
    let said = vacuum("often", "1", &[]);
    assert!(said.starts_with(&format!("{} files of ", STAGES.len())), "the leases of processes that died: {said}");
    project.ok(&["run", "--as-of", night, "--lake", "often"]);
    assert_eq!(project.fingerprints(night, &["--lake", "often"]), expect);

    // Such as a writer leaves that is killed in the middle.
    project.write("often/clean_transactions/part-left.parquet", "PAR1");
    project.write("often/_tessera/scratch/a-run/people/part-left.parquet", "PAR1");
    project.write("often/clean_transactions/somebody-elses.txt", "not ours");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let listed = vacuum("often", "0", &["--dry-run"]);
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines.len() > 2 && !listed.contains("_delta_log") && !listed.contains("not ours"), "{listed}");
    assert_eq!(listed.matches("part-left.parquet").count(), 2, "{listed}");
    let removed = vacuum("often", "0", &[]);
    assert!(removed.starts_with(&format!("{} files of", lines.len() - 1)), "{removed} {listed}");
    assert_eq!(vacuum("often", "0", &[]).trim(), "0 files of 0 bytes removed");
    assert!(project.path("often/clean_transactions/somebody-elses.txt").exists());
    project.ok(&["snapshots", "verify", "--lake", "often"]);
    assert_eq!(project.fingerprints(night, &["--lake", "often"]), expect);
    let rows =
        project.ok(&["sql", "SELECT count(*) > 0 FROM clean_transactions", "--lake", "often", "--format", "csv"]);
    assert!(rows.ends_with("true\n"), "{rows}");
}

#[test]
fn stage_by_stage_is_the_whole_night() {
    let project = Project::shop();
    let night = "2026-01-01";
    let early = project.tessera(&["stage", "kpis", "--as-of", night]);
    assert_eq!(early.code, 1);
    assert_eq!(
        complaint(&early),
        "error: the stage kpis needs ingest of this run to be done; run `tessera stage ingest --as-of 2026-01-01` first"
    );
    for stage in STAGES {
        project.ok(&["stage", stage, "--as-of", night]);
        project.ok(&["stage", stage, "--as-of", night]);
    }
    let staged = project.fingerprints(night, &[]);
    project.ok(&["run", "--as-of", night, "--lake", "whole", "--set", "engine.partitions=2"]);
    assert_eq!(project.fingerprints(night, &["--lake", "whole"]), staged);
    assert_eq!(project.ok(&["plan", "--as-of", night, "--stages"]).split_whitespace().collect::<Vec<_>>(), STAGES);
    let unknown = project.tessera(&["stage", "cluster", "--as-of", night]);
    assert_eq!(unknown.code, 2);
    assert!(complaint(&unknown).starts_with("error: unknown stage `cluster`; known are ingest, "), "{unknown:?}");
}

#[test]
fn a_published_night_is_not_run_twice_unless_forced() {
    let project = Project::shop();
    let night = "2026-01-01";
    project.ok(&["run", "--as-of", night]);
    let first = project.fingerprints(night, &[]);
    assert!(project.ok(&["run", "--as-of", night]).contains("is published as"));
    project.ok(&["run", "--as-of", night, "--force"]);
    assert_eq!(project.fingerprints(night, &[]), first);
    // The night's rows were replaced, not added.
    assert_eq!(project.sql("SELECT count(*) = count(DISTINCT customer_key) FROM segments").trim(), "true");
    project.ok(&["snapshots", "verify"]);

    let out = project.ok(&["backfill", "--from", "2025-12-01", "--to", "2026-01-01", "--step", "31"]);
    assert!(out.contains("2025-12-01 published") && out.contains("2026-01-01 already"), "{out}");
}

#[test]
fn a_gate_holds_a_night() {
    let project = Project::shop();
    project.ok(&["run", "--as-of", "2025-12-01"]);
    let before = project.ok(&["sql", "SELECT * FROM segments ORDER BY customer_key", "--format", "csv"]);
    let strict = ["run", "--as-of", "2026-01-01", "--set", "validation.gates.silhouette.at_least=0.99"];
    let held = project.tessera(&strict);
    assert_eq!(held.code, 3, "{held:?}");
    assert!(
        complaint(&held).starts_with("error: the night of 2026-01-01 is held: silhouette of model is 0."),
        "{held:?}"
    );
    assert!(held.stderr.contains("what was published before stays current"), "{held:?}");
    assert_eq!(project.tessera(&strict).code, 3, "held again, without being computed again");
    assert_eq!(project.ok(&["sql", "SELECT * FROM segments ORDER BY customer_key", "--format", "csv"]), before);

    let list: serde_json::Value = serde_json::from_str(&project.ok(&["snapshots", "list", "--json"])).expect("JSON");
    let states: Vec<_> =
        list.as_array().expect("a list").iter().map(|s| s["state"].as_str().expect("a text")).collect();
    assert_eq!(states, ["published", "held"]);
    let id = list[1]["snapshot_id"].as_str().expect("a text");
    let candidate = project.ok(&["sql", "SELECT count(*) FROM segments", "--snapshot", id, "--format", "csv"]);
    assert_eq!(candidate, "count(*)\n60\n", "the candidate can be looked at");
}

#[test]
fn entries_of_the_project_go_the_way_of_the_built_in_ones() {
    let project = Project::shop();
    project.write(
        "tessera.toml",
        format!(
            "{}
[features.largest_line]
criterion = \"behavioural\"
over = \"transactions\"
expression = \"max(amount) FILTER (WHERE purchase)\"
type = \"money\"
unit = \"currency\"
description = \"Most expensive line\"

[features.largest_share]
criterion = \"behavioural\"
over = \"features\"
expression = \"CAST(largest_line AS DOUBLE) / CAST(gross_spend AS DOUBLE)\"
unit = \"share\"
description = \"Its share of everything\"

[kpis.big_spenders]
numerator = \"CASE WHEN largest_line > 60 THEN 1 ELSE 0 END\"
denominator = \"1\"
interval = \"wilson\"
unit = \"share\"
description = \"Customers with a line above 60\"

[quality.checks.quarantined_share]
at_most = 0.5
[quality.rules.no_toys]
entity = \"transactions\"
severity = \"quarantine\"
order = 170
expression = \"category <> 'toys'\"
description = \"Toys are another company's\"
",
            crate::project::SHOP
        ),
    );
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let wrong =
        "SELECT count(*) FROM features WHERE largest_share IS NULL OR largest_share > 1 OR largest_line > gross_spend";
    assert_eq!(project.sql(wrong).trim(), "0");
    assert_eq!(project.sql("SELECT count(*) FROM clean_transactions WHERE category = 'toys'").trim(), "0");
    assert_ne!(project.sql("SELECT rows_quarantined FROM ledger WHERE rule = 'no_toys'").trim(), "0");
    let kpi = "SELECT k.numerator = (SELECT count(*) FROM features WHERE largest_line > 60) FROM kpis AS k \
               WHERE kpi = 'big_spenders' AND segment_id IS NULL";
    assert_eq!(project.sql(kpi).trim(), "true");
    // What is summed over segments is what everybody has.
    let sums = "SELECT count(*) FROM (SELECT kpi, sum(numerator) FILTER (WHERE segment_id IS NULL) AS whole, \
                sum(numerator) FILTER (WHERE segment_id IS NOT NULL) AS parts, bool_or(state = 'suppressed') AS hidden \
                FROM kpis GROUP BY kpi) WHERE whole <> parts AND NOT hidden";
    assert_eq!(project.sql(sums).trim(), "0");
}

#[test]
fn the_demo_runs_and_runs_again() {
    let project = Project::new("");
    let out = project.ok(&["demo", "--customers", "800", "--dir", "d"]);
    for expect in ["KPIs of retention per segment", "Campaigns", "they balance", "Gates", "night by night", "What next"]
    {
        assert!(out.contains(expect), "{out}");
    }
    let again = project.ok(&["demo", "--customers", "800", "--dir", "d"]);
    assert_eq!(again, out);
    project.ok(&["snapshots", "verify", "--project", "d/tessera.toml"]);
}

/// The plans of a run, as `-vv` logs them.
fn plans(log: &str) -> Vec<Vec<&str>> {
    let mut plans: Vec<Vec<&str>> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        let begins = line.contains(" TRACE ") && line.contains("Exec");
        if begins {
            plans.push(vec![line]);
        } else if let (true, Some(plan)) = (inside && line.starts_with("  "), plans.last_mut()) {
            plan.push(line);
        }
        inside = begins || (inside && line.starts_with("  "));
    }
    plans
}

#[test]
fn plans_that_cost_are_spread_and_read_what_they_need() {
    let project = generated(2_000, &[]);
    let done = project.tessera(&["run", "--as-of", "2026-01-01", "--set", "engine.partitions=4", "-vv"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let plans = plans(&done.stderr);
    assert!(plans.len() > 30, "{}", plans.len());
    for plan in &plans {
        let text = plan.join("\n");
        assert!(
            !text.contains("CrossJoinExec") && !text.contains("NestedLoopJoinExec"),
            "every row meets every other: {text}"
        );
    }
    // What writes a large table has all partitions beneath it: nothing brings them into one on the way from the widest scan.
    for table in ["clean_transactions", "clean_interactions", "features", "segments"] {
        let plan = plans.iter().find(|p| p[0].contains(&format!("WriteExec: tables=[{table}")));
        let plan = plan.unwrap_or_else(|| panic!("{table} is written"));
        let scan =
            plan.iter().position(|l| l.contains("SourceScanExec") || l.contains("file_type=parquet")).expect("a scan");
        let depth = |line: &str| line.len() - line.trim_start().len();
        let mut above = depth(plan[scan]);
        for line in plan[1..scan].iter().rev() {
            if depth(line) < above {
                above = depth(line);
                let one = ["CoalescePartitionsExec", "SortPreservingMergeExec"].iter().any(|n| line.contains(n));
                let held = plan[..scan].iter().any(|l| l.contains("mode=CollectLeft") && depth(l) < above);
                assert!(!one || held, "{table} goes through one partition: {}", plan.join("\n"));
            }
        }
    }
    // Repeats are looked for among the columns that tell them, beside those that are counted.
    let hashes = plans.iter().find(|p| p[0].contains("tables=[transactions_census")).expect("a plan");
    let scan = hashes.iter().find(|l| l.contains("SourceScanExec")).expect("a scan");
    let columns = scan.split("projection=[").nth(1).map_or(0, |c| c.split(',').count());
    let all = plans.iter().find(|p| p[0].contains("tables=[clean_transactions")).expect("a plan");
    let whole =
        all.iter().filter(|l| l.contains("SourceScanExec")).map(|l| l.split(',').count()).max().expect("a scan");
    assert!(columns < whole, "{scan}");
}
