//! One person is one customer, from raw files to published tables: the traps of the generated shop, keys that persist from night to night,
//! decisions of people, and what is told of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::project::{Project, complaint, repository};

const NIGHT: &str = "2026-01-01";

/// The generated shop with the demo's project.
fn shop(customers: &str) -> Project {
    let file = repository().join("crates/tessera/src/commands/demo/tessera.toml");
    let project = Project::new(&std::fs::read_to_string(file).expect("the demo's project"));
    project.ok(&[
        "generate",
        "--customers",
        customers,
        "--out",
        "data",
        "--from",
        "2025-06-01",
        "--to",
        NIGHT,
        "--format",
        "csv",
    ]);
    project
}

/// `customer_id` → customer, as a published night has it.
fn customers(project: &Project, as_of: &str, lake: &str) -> BTreeMap<String, String> {
    let query = "SELECT customer_id, customer_key FROM identity";
    let answer = project.ok(&["sql", query, "--as-of", as_of, "--restricted", "--format", "csv", "--lake", lake]);
    answer.lines().skip(1).filter_map(|l| l.split_once(',')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

#[test]
fn persons_of_the_shop_are_found_and_no_two_people_are_one() {
    let project = shop("6000");
    project.ok(&["run", "--as-of", NIGHT]);
    let of = customers(&project, NIGHT, "lake");
    let mut truth = String::new();
    for file in std::fs::read_dir(project.path("data/truth/customers")).expect("the truth") {
        truth += &std::fs::read_to_string(file.expect("a file").path()).expect("text");
    }
    let rows: Vec<Vec<&str>> =
        truth.lines().map(|l| l.split(',').collect()).filter(|r: &Vec<&str>| r[0] != "cust_no").collect();
    let person: BTreeMap<&str, &str> = rows.iter().map(|r| (r[0], if r[4].is_empty() { r[0] } else { r[4] })).collect();
    let mut wrong = Vec::new();
    let mut by: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (id, customer) in &of {
        by.entry(customer).or_default().insert(person[id.as_str()]);
    }
    wrong.extend(by.values().filter(|people| people.len() > 1));
    assert!(wrong.is_empty(), "different people in one: {wrong:?}");
    let (mut twice, mut found, mut traps) = (0, 0, 0);
    for row in &rows {
        if let (Some(a), Some(b)) = (of.get(row[0]), of.get(row[4])) {
            twice += 1;
            found += usize::from(a == b);
        }
        traps += usize::from(of.contains_key(row[0]) && of.contains_key(row[5]));
    }
    assert!(twice > 60 && traps > 20, "{twice} second accounts, {traps} lookalikes");
    assert!(found * 100 >= twice * 95, "{found} of {twice} second accounts were found");

    // Everything after it is of persons.
    let counts = project.sql(
        "SELECT (SELECT count(DISTINCT customer_key) FROM accounts) AS a, (SELECT count(*) FROM features) AS f, \
                              (SELECT count(DISTINCT customer_key) FROM features) AS d",
    );
    let counts: Vec<u64> = counts.trim().split(',').map(|n| n.parse().expect("a number")).collect();
    assert!(counts[0] >= counts[1] && counts[1] == counts[2], "{counts:?}");
    let query = "SELECT count(*) AS n FROM golden_records AS g WHERE g.accounts < 2";
    assert_eq!(project.ok(&["sql", query, "--restricted", "--format", "csv"]).lines().nth(1), Some("0"));

    // Personal data of pairs is in restricted tables only.
    for table in ["identity_pairs", "golden_records", "golden_ledger", "identity_model", "account_ids"] {
        let done = project.tessera(&["sql", &format!("SELECT * FROM {table}")]);
        assert_eq!((done.code, complaint(&done).contains("--restricted")), (2, true), "{table}");
    }
    let mut truth = "customer_id,person\n".to_owned();
    person.iter().for_each(|(id, person)| truth += &format!("{id},{person}\n"));
    project.write("truth.csv", truth);
    let figures = project.ok(&["identity", "evaluate", "--truth", "truth.csv", "--format", "json"]);
    let figures: serde_json::Value = serde_json::from_str(&figures).expect("JSON");
    assert!(figures["precision"].as_f64() == Some(1.0) && figures["recall"].as_f64() > Some(0.9), "{figures}");

    let expect = project.fingerprints(NIGHT, &[]);
    for (lake, further) in [
        ("three", &["--set", "engine.partitions=3"][..]),
        ("cluster", &["--engine", "in-process"]),
        ("little", &["--set", "engine.partitions=2", "--set", "engine.memory_limit=64MiB"]),
    ] {
        project.ok(&[&["run", "--as-of", NIGHT, "--lake", lake], further].concat());
        assert_eq!(project.fingerprints(NIGHT, &["--lake", lake]), expect, "{lake}");
    }
}

const HEADER: &str = "customer_id,email,phone,first_name,last_name,birth_date,postal_code,city,signup_at\n";

const PROJECT: &str = "[project]\ntimezone = \"Europe/Berlin\"\n[sources.customers]\nurl = \"customers.csv\"\n[sources.transactions]\nurl = \"orders.csv\"\n\
    [identity]\ncountry = \"DE\"\ndecisions = \"decisions.csv\"\n[segmentation]\nk = 2\n[quality.checks]\nfiles_gone.required = false\nrows_kept.required = false\n\
    amount_kept.required = false\nfreshness.required = false\nrecent_rows.required = false\nrecent_revenue.required = false\n\
    quarantined_share.required = false\nquarantined_share_of_new.required = false\nquarantined_share_of_file.required = false\n\
    [validation.gates]\nsilhouette = { at_least = -1.0, required = false }\nvariance_between_share = { at_least = 0.0, required = false }\n\
    share = { at_least = 0.0, required = false }\ncustomers = { at_least = 0, required = false }\n";

/// Customers of whom each is somebody else, with the further lines.
fn people(project: &Project, further: &[&str]) {
    let mut text = HEADER.to_owned();
    let names = ["Ada", "Bruno", "Cleo", "Dario", "Edda", "Fritz", "Gerda", "Hugo", "Ilse", "Jakob"];
    for n in 0..60_usize {
        let (first, last) = (names[n % 10], format!("Family{}", ["ab", "ec", "id", "of", "ug", "ha"][n / 10]));
        text += &format!(
            "C{n:03},c{n}@example.com,0171 20000{n:02},{first},{last},19{:02}-0{}-1{},{}0115,Berlin,2024-01-01\n",
            40 + n % 50,
            1 + n % 9,
            n % 10,
            1 + n % 9
        );
    }
    further.iter().for_each(|line| text += &format!("{line}\n"));
    project.write("customers.csv", text);
}

fn orders(project: &Project, days: u32) {
    let mut text = "order_id,customer_id,ordered_at,quantity,unit_price\n".to_owned();
    for n in 0..60 {
        for day in 1..=days.min(1 + n % 20) {
            text += &format!("O{n}-{day},C{n:03},2025-03-{day:02}T10:00:00,1,{}.50\n", 1 + (n * 7 + day) % 40);
        }
    }
    for (id, count) in [("X1", 3), ("X2", 6), ("X3", 1)] {
        (1..=count).for_each(|day| text += &format!("{id}-{day},{id},2025-03-{day:02}T12:00:00,1,5.00\n"));
    }
    project.write("orders.csv", text);
}

const X1: &str = "X1,xaver@example.org,,Xaver,Quell,1970-02-03,80331,Munich,2024-05-01";
const X2: &str = "X2,XAVER@example.org,0172 999 8877,Xaver,Quell,1970-02-03,80331,Munich,2024-06-01";
const X3: &str = "X3,,+49 172 9998877,X.,Quell,,,,2024-07-01";

/// Ten nights in which accounts come, change and go: whoever is one keeps the key, a night from its parent is that from all files, and on a
/// cluster.
#[test]
fn persons_keep_their_keys_from_night_to_night() {
    let project = Project::new(PROJECT);
    orders(&project, 20);
    let other = X2.replace("XAVER@", "other@").replace("1970-02-03", "1991-11-30");
    let nights: [&[&str]; 10] = [
        &[X1],
        &[X1, X2],
        &[X1, X2, X3],
        &[X1, &other, X3],
        &[X1, X2, X3],
        &[X2, X3],
        &[X1, X2, X3],
        &[X1, &other],
        &[X1, &other, X3],
        &[X1, X2, X3],
    ];
    let mut keys: Vec<BTreeMap<String, String>> = Vec::new();
    for (n, lines) in nights.iter().enumerate() {
        people(&project, lines);
        let as_of = format!("2025-04-{:02}", n + 1);
        if n > 0 {
            for copy in ["full", "cluster", "anew"] {
                let lake = project.path(&format!("{copy}-{n}"));
                let done = std::process::Command::new("cp").arg("-r").arg(project.path("lake")).arg(lake).status();
                assert!(done.expect("cp starts").success());
            }
        }
        project.ok(&["run", "--as-of", &as_of]);
        let expect = project.fingerprints(&as_of, &[]);
        if n > 0 {
            let lake = format!("full-{n}");
            project.ok(&["run", "--as-of", &as_of, "--full", "--lake", &lake, "--set", "engine.partitions=3"]);
            assert_eq!(project.fingerprints(&as_of, &["--lake", &lake]), expect, "night {n}, from all files");
        }
        if n > 0 {
            // Under another bound, which nobody reaches, everybody is asked, rather than those who hang together with somebody that changed.
            let lake = format!("anew-{n}");
            project.ok(&["run", "--as-of", &as_of, "--lake", &lake, "--set", "identity.largest_person=49"]);
            let (mut anew, mut expect) = (project.fingerprints(&as_of, &["--lake", &lake]), expect.clone());
            anew.remove("identity_model").zip(expect.remove("identity_model")).expect("it has the stamp of the bound");
            assert_eq!(anew, expect, "night {n}, of everybody");
        }
        if n % 4 == 1 {
            let lake = format!("cluster-{n}");
            project.ok(&["run", "--as-of", &as_of, "--lake", &lake, "--engine", "in-process"]);
            assert_eq!(project.fingerprints(&as_of, &["--lake", &lake]), expect, "night {n}, on a cluster");
        }
        keys.push(customers(&project, &as_of, "lake"));
    }
    let of = |night: usize, id: &str| keys[night][id].clone();
    let first = of(0, "X1");
    // X1 was there first: its key survives, and X3 joins it by telephone.
    assert_eq!((of(1, "X2"), of(2, "X3")), (first.clone(), first.clone()));
    // X2 is somebody else from the fourth night on, with X3's number: of what was one, the part with the most orders keeps the key.
    assert_eq!((of(3, "X2"), of(3, "X3")), (first.clone(), first.clone()));
    assert!(of(3, "X1") != first, "somebody else has the key");
    // One again: the key with the longest history.
    assert_eq!([of(4, "X1"), of(4, "X2"), of(4, "X3")], [first.clone(), first.clone(), first.clone()]);
    // X1 goes and comes back to itself.
    assert_eq!((of(5, "X2"), of(6, "X1")), (first.clone(), first.clone()));
    assert_eq!([of(9, "X1"), of(9, "X2"), of(9, "X3")], [first.clone(), first.clone(), first]);
    // Nobody else ever changed.
    for n in 0..60 {
        let id = format!("C{n:03}");
        let all: BTreeSet<&String> = keys.iter().map(|night| &night[&id]).collect();
        assert_eq!(all.len(), 1, "{id}");
    }
    project.ok(&["snapshots", "verify"]);
}

#[test]
fn people_decide_and_the_next_night_honours_it() {
    let project = Project::new(PROJECT);
    people(&project, &[X1, X2, X3]);
    orders(&project, 20);
    project.ok(&["run", "--as-of", "2025-04-01"]);
    let told = project.ok(&["identity", "explain", "X2"]);
    for word in ["X1", "the same e-mail address", "the same telephone number", "What they say together", "merged_into"]
    {
        assert!(told.contains(word), "{word} is not in\n{told}");
    }
    let nobody = project.tessera(&["identity", "explain", "X9"]);
    assert_eq!((nobody.code, complaint(&nobody).contains("nobody has this id")), (2, true));
    project.ok(&["identity", "decide", "X1", "X2", "different"]);
    project.ok(&["identity", "decide", "C000", "C001", "same"]);
    project.ok(&["identity", "decide", "C001", "C002", "same"]);
    project.ok(&["identity", "decide", "C000", "C002", "different"]);
    let nobody = project.tessera(&["identity", "decide", "C001", "X9", "same"]);
    assert_eq!(
        (nobody.code, complaint(&nobody).contains("X9 is no customer_id of the newest night")),
        (0, true),
        "{nobody:?}"
    );
    assert_eq!(project.tessera(&["identity", "decide", "X1", "X1", "same"]).code, 2);
    project.ok(&["run", "--as-of", "2025-04-02"]);
    let of = customers(&project, "2025-04-02", "lake");
    // Of decisions that contradict each other, one of what makes two one is not followed.
    assert!(of["X1"] != of["X2"] && of["X2"] == of["X3"] && of["C000"] != of["C002"], "{of:?}");
    assert!((of["C000"] == of["C001"]) != (of["C001"] == of["C002"]), "{of:?}");
    let told = project.ok(&["identity", "explain", "C001"]);
    assert!(told.contains("decided by people") && told.contains("Bruno Familyab"), "{told}");
    let counts = project
        .sql("SELECT scope, CAST(value AS INT) AS n FROM identity_report WHERE metric = 'decisions' ORDER BY scope");
    assert_eq!(counts.trim(), "contradicted,1\ndifferent,2\nof nobody,1\nsame,1", "{counts}");
    let review = project.ok(&["identity", "review", "--rows", "0", "--format", "csv"]);
    assert!(review.starts_with("customer_id,says,other_customer_id,other_says,decision,bits,reason"), "{review}");
    assert!(review.contains("\"Xaver Quell, 1970-02-03, xaver@example.org, 80331 Munich\""), "{review}");
    project.ok(&["identity", "report"]);

    for (text, told) in [
        ("customer_id,other_customer_id,decision\nX1,X2,maybe\n", "a decision is `same` or `different`, not `maybe`"),
        (
            "customer_id,decision\nX1,same\n",
            "needs the columns customer_id, other_customer_id, decision; its header is customer_id, decision",
        ),
        ("customer_id,other_customer_id,decision\nX1,X1,same\n", "`X1` stands on both sides"),
    ] {
        project.write("decisions.csv", text);
        let done = project.tessera(&["run", "--as-of", "2025-04-03"]);
        assert_eq!((done.code, complaint(&done).contains(told)), (2, true), "{done:?}");
    }
    // Who takes a decision back takes it out of the file.
    project.write("decisions.csv", "customer_id,other_customer_id,decision\n");
    project.ok(&["run", "--as-of", "2025-04-03"]);
    let of = customers(&project, "2025-04-03", "lake");
    assert!(of["X1"] == of["X2"] && of["C000"] != of["C001"], "{of:?}");

    // A night without persons: each account is somebody, and the weights stand for the next.
    let learned = |night: &str| {
        let query = "SELECT * EXCEPT (as_of) FROM identity_model WHERE parameter <> 'verdicts'";
        project.ok(&["sql", query, "--restricted", "--format", "csv", "--as-of", night])
    };
    let weights = learned("2025-04-03");
    project.ok(&["run", "--as-of", "2025-04-04", "--set", "identity.enabled=false"]);
    let of = customers(&project, "2025-04-04", "lake");
    assert!(of["X1"] != of["X2"] && learned("2025-04-04") == weights, "{of:?}");
    project.ok(&["run", "--as-of", "2025-04-05"]);
    let of = customers(&project, "2025-04-05", "lake");
    assert!(of["X1"] == of["X2"] && learned("2025-04-05") == weights, "{of:?}");

    // What is held against the truth says what it could not use.
    for (truth, told) in
        [("customer_id,person\nX1,a\nX1,b\n", "`X1` is both"), ("id,person\nX1,a\n", "its header is id, person")]
    {
        project.write("truth.csv", truth);
        let done = project.tessera(&["identity", "evaluate", "--truth", "truth.csv"]);
        assert_eq!((done.code, complaint(&done).contains(told)), (2, true), "{done:?}");
    }
    project.write("truth.csv", "customer_id,person\nX1,a\nX2,\nX3,\n");
    let figures = project.ok(&["identity", "evaluate", "--truth", "truth.csv", "--format", "csv"]);
    assert!(figures.ends_with("1,1,1,0,0,0,,,\n"), "{figures}");
}
