//! Bad input: nothing panics, nothing is lost, and the message says what is wrong, where, and what to do.

use std::io::Write;

use crate::project::{HEADER, Project, SHOP, complaint, lines};

const NIGHT: [&str; 3] = ["run", "--as-of", "2026-01-01"];

/// The small shop with another file, or another project file, fails with this code and this complaint.
fn refuses(project: &Project, code: i32, expect: &str) {
    let done = project.tessera(&NIGHT);
    assert_eq!((done.code, complaint(&done).as_str()), (code, expect), "{}", done.stderr);
}

fn with_file(bytes: &[u8]) -> Project {
    let project = Project::new(SHOP);
    project.write("orders.csv", bytes);
    project
}

fn with_project(text: &str) -> Project {
    let project = Project::shop();
    project.write("tessera.toml", text);
    project
}

/// The same shop written in another way is the same night.
fn reads_the_same(settings: &str, name: &str, bytes: &[u8]) {
    let plain = Project::shop();
    plain.ok(&NIGHT);
    let other = Project::new(&SHOP.replace("url = \"orders.csv\"", &format!("url = \"{name}\"\n{settings}")));
    other.write(name, bytes);
    other.ok(&NIGHT);
    assert_eq!(other.fingerprints("2026-01-01", &[]), plain.fingerprints("2026-01-01", &[]), "{name}");
}

#[test]
fn missing_columns_and_files() {
    refuses(
        &with_file(lines().replacen("unit_price", "price", 1).as_bytes()),
        2,
        "error: stage ingest: sources.transactions.columns.unit_price: `unit_price` is required, but nothing is mapped to it; the \
         source's columns are `order_id`, `customer_id`, `ordered_at`, `quantity`, `price`, `category`, `channel`",
    );
    refuses(
        &with_project(&format!("{SHOP}[sources.transactions.columns]\nunit_price = \"prize\"\n")),
        2,
        "error: stage ingest: sources.transactions.columns.unit_price: the source has no column prize; it has `order_id`, \
         `customer_id`, `ordered_at`, `quantity`, `unit_price`, `category`, `channel`",
    );
    refuses(
        &Project::new(SHOP),
        1,
        "error: the source of transactions (sources.transactions.url = \"orders.csv\"): no file matches …/orders.csv\n  \
         hint: the folder holds tessera.toml, lake",
    );
    refuses(
        &with_file(b""),
        1,
        "error: stage ingest: the source of transactions: …/orders.csv is empty: there is not even a header\n  hint: ask the \
         system that writes it to send the file again, or take the source out of the project file",
    );
    refuses(
        &with_file(b"order_id,customer_id,order_id\n1,2,3\n"),
        1,
        "error: stage ingest: the source of transactions: …/orders.csv, line 1: the header names `order_id` twice, as columns 1 and \
         3\n  hint: name each column once in the file's header",
    );
    refuses(
        &with_file(HEADER.as_bytes()),
        1,
        "error: stage segment: no customer has a purchase before the night: there is nobody to segment",
    );
}

#[test]
fn faulty_lines_are_set_aside_with_their_reason() {
    let mut bytes = lines().into_bytes();
    let good = bytes.iter().filter(|b| **b == b'\n').count() - 1;
    bytes.extend_from_slice(
        b"F1,C001,2025-05-05,1\n\
          F2,C001,2025-05-05,one,5.00,toys,web\n\
          F3,C001,2025-05-05,1,NaN,toys,web\n\
          F4,C001,2025-05-05,999999999999999,5.00,toys,web\n\
          F5,C001,2025-05-05,1,1e300,toys,web\n\
          F6,C001,31.02.2025,1,5.00,toys,web\n\
          F7,C0\xff1,2025-05-05,1,5.00,toys,web\n\
          F8,,2025-05-05,1,5.00,toys,web\n\
          F9,C001,2025-05-05,1,-5.00,toys,web\n\
          F10,C001,2025-05-05,0,5.00,toys,web\n\
          =cmd|' /C calc'!A0,C001,2025-05-05,1,5.00,toys,\"<script>\"\n",
    );
    let project = with_file(&bytes);
    project.ok(&NIGHT);
    let found = project.sql("SELECT \"row\", array_to_string(rules, '+'), defect FROM quarantine ORDER BY \"row\"");
    let found: Vec<_> = found
        .lines()
        .map(|line| {
            let (row, rest) = line.split_once(',').expect("columns");
            format!("F{} {rest}", row.parse::<usize>().expect("a number") - good)
        })
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    F1 malformed+bad_price,ragged: 4 fields where the header has 7
    F2 unparsable_quantity+bad_quantity,
    F3 unparsable_unit_price+bad_price,
    F4 unparsable_quantity+bad_quantity,
    F5 unparsable_unit_price+bad_price,
    F6 unparsable_ordered_at+missing_date,
    F7 malformed,"invalid UTF-8 at byte 3 of field ""customer_id"""
    F8 missing_customer,
    F9 bad_price,
    F10 bad_quantity,
    "#);
    let total = project.sql("SELECT rows_in, rows_clean, rows_quarantined + rows_merged FROM ledger WHERE step = 0");
    let numbers: Vec<usize> = total.trim().split(',').map(|n| n.parse().expect("a number")).collect();
    assert_eq!(numbers[0], good + 11);
    assert_eq!(numbers[0], numbers[1] + numbers[2]);
}

#[test]
fn the_ways_in_which_files_are_written() {
    let text = lines();
    let latin = text.replace("toys", "spielzeüg").replace("books", "bücher");
    let gzip = |bytes: &[u8]| {
        let mut child = std::process::Command::new("gzip")
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("gzip starts");
        let mut input = child.stdin.take().expect("piped");
        let bytes = bytes.to_vec();
        let feeding = std::thread::spawn(move || input.write_all(&bytes));
        let out = child.wait_with_output().expect("gzip ends").stdout;
        feeding.join().expect("fed").expect("fed");
        out
    };
    reads_the_same("", "orders.csv.gz", &gzip(text.as_bytes()));
    reads_the_same("", "semicolon.csv", text.replace(',', ";").as_bytes());
    reads_the_same("delimiter = \"|\"", "bar.txt", text.replace(',', "|").as_bytes());
    reads_the_same("", "mark.csv", format!("\u{feff}{text}").as_bytes());
    reads_the_same("", "windows.csv", text.replace('\n', "\r\n").as_bytes());

    let mut formats = String::new();
    for (number, line) in text.lines().enumerate() {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        if number > 0 {
            let (date, time) = cells[2].split_once(' ').expect("a time");
            let parts: Vec<_> = date.split('-').collect();
            cells[2] = match number % 3 {
                0 => format!("{}/{}/{} {time}", parts[2], parts[1], parts[0]),
                1 => format!("{date}T{time}Z"),
                _ => format!("{}.{}.{} {time}", parts[2], parts[1], parts[0]),
            };
        }
        formats.push_str(&cells.join(","));
        formats.push('\n');
    }
    reads_the_same("date_formats = [\"%d/%m/%Y %H:%M:%S\", \"%d.%m.%Y %H:%M:%S\"]", "dates.csv", formats.as_bytes());

    // As a German spreadsheet exports it, below a title, and without its header.
    let german = |line: &str| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        cells[4] = cells[4].replace('.', ",");
        cells[3] = format!("{}.000", cells[3]);
        cells.join(";")
    };
    let body: Vec<String> = text.lines().skip(1).map(german).collect();
    let header = HEADER.trim().replace(',', ";").replace("quantity", "thousandths");
    let signs = "decimal = \",\"\nthousands = \".\"\n\
                 columns = { quantity = \"number_text(thousandths, ',', '.')::decimal(18,3) / 1000\" }";
    let titled = format!("Report of the year\n\n{header}\n{}\n", body.join("\n"));
    reads_the_same(&format!("skip_lines = 2\n{signs}"), "titled.csv", titled.as_bytes());
    let names: Vec<String> = header.split(';').map(|name| format!("\"{name}\"")).collect();
    let without = format!("delimiter = \";\"\nheader = false\nnames = [{}]\n{signs}", names.join(", "));
    reads_the_same(&without, "without.csv", body.join("\n").as_bytes());
    let blanks = text.replace(' ', "T").replace(',', "   ");
    reads_the_same("delimiter = \" \"", "blanks.txt", format!("  {blanks}").as_bytes());

    // Categories differ, so only that they are read is compared.
    let project = Project::new(&SHOP.replace("orders.csv\"", "latin.csv\"\nencoding = \"latin-1\""));
    project.write("latin.csv", latin.chars().map(|c| u8::try_from(c as u32).expect("Latin-1")).collect::<Vec<_>>());
    project.ok(&NIGHT);
    assert_eq!(
        project
            .sql("SELECT count(DISTINCT category) FROM clean_transactions WHERE category IN ('spielzeüg', 'bücher')")
            .trim(),
        "2"
    );
    assert_eq!(project.sql("SELECT count(*) FROM quarantine").trim(), "0");
}

#[test]
fn project_files_with_mistakes() {
    let cases = [
        ("[segmentaton]\nmin_k = 2\n", "tessera.toml:1:2: unknown key `segmentaton`; did you mean `segmentation`?"),
        (
            "[project]\ntimezone = \"Mars/Olympus\"\n",
            "tessera.toml:2:12: unknown time zone `Mars/Olympus`: use an IANA name such as Europe/Berlin or UTC",
        ),
        ("[sources.transactions\n", "tessera.toml:1:22: unclosed table, expected `]`"),
        (
            "[lake]\nurl = \"lake\"\n",
            "the project names no source: add [sources.transactions] with its url and columns",
        ),
        (
            "[sources.customers]\nurl = \"x.csv\"\n",
            "tessera.toml: [sources.transactions] is missing; it is the one source that every project needs, unless \
             segmentation.population = \"customers\"",
        ),
    ];
    for (text, expect) in cases {
        refuses(&with_project(text), 2, &format!("error: {expect}"));
    }
    let done = Project::shop().tessera(&["run", "--as-of", "tomorrow"]);
    assert_eq!(
        (done.code, complaint(&done).as_str()),
        (2, "error: `tomorrow` is not a date: write it as YYYY-MM-DD, such as 2026-11-01")
    );
    let done = Project::shop().tessera(&[&NIGHT[..], &["--set", "segmentation.mink=3"]].concat());
    assert_eq!(
        (done.code, complaint(&done).as_str()),
        (2, "error: --set segmentation.mink=3: unknown key `segmentation.mink`; did you mean `min_k`?")
    );
    let done = Project::shop().tessera(&["run", "--as-of", "2026-01-01", "--project", "nowhere.toml"]);
    assert_eq!(done.code, 2);
    assert!(complaint(&done).starts_with("error: the project file nowhere.toml cannot be read: "), "{done:?}");
}

#[test]
fn expressions_with_mistakes_name_their_entry() {
    let check = |text: &str, place: &str| {
        let done = with_project(&format!("{SHOP}{text}")).tessera(&NIGHT);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(complaint(&done).contains(place), "{done:?}");
    };
    let feature = |expression: &str| {
        format!(
            "[features.mine]\ncriterion = \"behavioural\"\nover = \"transactions\"\nunit = \"x\"\ndescription = \"x\"\nexpression = \"{expression}\"\n"
        )
    };
    check(&feature("sum(amuont)"), "features.mine");
    check(&feature("sum(amount"), "features.mine");
    check(&feature("no_such_function(amount)"), "features.mine");
    check("[kpis.mine]\nnumerator = \"spendings\"\nunit = \"x\"\ndescription = \"x\"\n", "kpis.mine");
    check(
        "[quality.rules.mine]\nentity = \"transactions\"\nseverity = \"warn\"\norder = 1\nexpression = \"qantity > 1\"\ndescription = \"x\"\n",
        "quality.rules.mine",
    );
    check("[validation.gates.happiness]\nat_least = 1\nrequired = true\n", "validation.gates.happiness");
}

#[test]
fn too_few_or_too_equal_customers() {
    let people = |n: usize, each: &dyn Fn(usize) -> String| {
        let mut text = HEADER.to_owned();
        (0..n).for_each(|i| text.push_str(&each(i)));
        text
    };
    let same = people(50, &|i| format!("O{i},C{i},2025-06-01 12:00:00,1,10.00,toys,web\n"));
    refuses(
        &with_file(same.as_bytes()),
        1,
        "error: stage segment: 50 customers with 1 different feature rows cannot make 2 segments; lower segmentation.min_k, add \
         features, or wait for more data",
    );
    let one = people(1, &|_| "O1,C1,2025-06-01 12:00:00,1,10.00,toys,web\n".into());
    refuses(
        &with_file(one.as_bytes()),
        1,
        "error: stage segment: 1 customers with 1 different feature rows cannot make 2 segments; lower segmentation.min_k, add \
         features, or wait for more data",
    );
    let three = people(3, &|i| format!("O{i},C{i},2025-0{}-01 12:00:00,1,{}0.00,toys,web\n", i + 1, i + 1));
    let done = with_file(three.as_bytes()).tessera(&[&NIGHT[..], &["--set", "segmentation.k=5"]].concat());
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("3 customers with 3 different feature rows cannot make 5 segments; lower segmentation.k"),
        "{done:?}"
    );
    // Small segments are no segments: the gate says so.
    let done = with_file(three.as_bytes()).tessera(&NIGHT);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.stderr.contains("customers of segment 0 is"), "{done:?}");
}

#[test]
fn memory_that_does_not_suffice_is_temporary() {
    let project = Project::shop();
    let done = project.tessera(&[&NIGHT[..], &["--set", "engine.memory_limit=1KiB"]].concat());
    assert_eq!(done.code, 75, "{done:?}");
    assert!(done.stderr.contains("raise engine.memory_limit"), "{done:?}");
    project.ok(&NIGHT);
}

#[test]
fn a_lake_that_is_none() {
    let project = Project::shop();
    let done = project.tessera(&[&NIGHT[..], &["--lake", "https://example.com/x"]].concat());
    assert_eq!(done.code, 2, "{done:?}");
    assert!(complaint(&done).contains("https:// is not supported; expected a folder, or a URL"), "{done:?}");
    let none = project.tessera(&["sql", "SELECT * FROM kpis", "--as-of", "2026-01-01"]);
    assert_eq!(none.code, 2);
    assert!(complaint(&none).contains("no night of 2026-01-01 is published"), "{none:?}");
    project.ok(&NIGHT);
    let hidden = project.tessera(&["sql", "SELECT * FROM identity"]);
    assert_eq!(
        (hidden.code, complaint(&hidden).as_str()),
        (2, "error: the table identity holds personal data; ask for it with --restricted")
    );
    let typo = project.tessera(&["sql", "SELECT valeu FROM kpis"]);
    assert_eq!(typo.code, 2);
    assert!(complaint(&typo).contains("valeu"), "{typo:?}");
}

/// A window on the tables: whatever a query tries, nothing is written and nothing outside is read.
#[test]
fn a_query_only_reads() {
    let project = Project::shop();
    project.ok(&["run", "--as-of", "2025-12-01"]);
    let lake = || {
        let listed = std::process::Command::new("find").arg(project.path("lake")).args(["-type", "f"]).output();
        let mut files: Vec<_> =
            String::from_utf8_lossy(&listed.expect("lists").stdout).lines().map(str::to_owned).collect();
        files.retain(|f| !f.contains("/_tessera/leases/"));
        files.sort();
        files
    };
    let before = lake();
    let secret = project.path("orders.csv").display().to_string();
    for query in [
        "COPY (SELECT 1) TO 'out.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'out.csv'",
        "EXPLAIN ANALYZE VERBOSE COPY kpis TO 'out.parquet'",
        "COPY kpis TO 's3://somewhere/out.parquet'",
        &format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{secret}'"),
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "INSERT INTO kpis SELECT * FROM kpis",
        "DELETE FROM kpis",
        "UPDATE kpis SET value = 0",
        "DROP TABLE kpis",
        "DROP VIEW kpis",
        "SET datafusion.execution.batch_size = 1",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "TRUNCATE TABLE kpis",
    ] {
        let done = project.tessera(&["sql", query]);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{query}: {done:?}");
        let said = complaint(&done);
        assert!(!said.contains('\u{1b}') && said.starts_with("error: "), "{query}: {said}");
        assert_eq!(lake(), before, "{query}");
    }
    for query in [format!("SELECT * FROM '{secret}'"), format!("SELECT * FROM read_csv('{secret}')")] {
        assert_eq!(project.tessera(&["sql", &query]).code, 2, "{query}");
    }
    assert!(!project.path("out.csv").exists() && !project.path("out.parquet").exists());
    let said = complaint(&project.tessera(&["sql", "COPY (SELECT 1) TO 'out.csv'"]));
    assert_eq!(
        said,
        "error: `tessera sql` only reads the tables of the lake, and does not do this: COPY; to keep an answer, send it to a \
         file: --format parquet > answer.parquet"
    );
    for fine in
        ["EXPLAIN SELECT * FROM kpis", "WITH x AS (SELECT 1 AS a) SELECT a FROM x", "VALUES (1)", "DESCRIBE kpis"]
    {
        project.ok(&["sql", fine]);
    }

    // Keys are made under the project's secret or not at all, and for those who may see persons.
    let key = "SELECT count(*) AS n FROM accounts WHERE customer_key = customer_key('C001')";
    let done = project.tessera(&["sql", key]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(complaint(&done).contains("secret"), "{done:?}");
    assert_eq!(project.sql(key).trim(), "1");
}
