//! The ledger: every row and every penny of a file with the faults of real ones, counted by hand.

use crate::project::Project;

/// Shaped like Online Retail II: a quoted header with a blank, cancellations by a letter, adjustments, repeats.
const SALES: &str = "\
Invoice,StockCode,Quantity,InvoiceDate,Price,Customer ID,Country
1001,A,10,2011-01-01 10:00:00,2.50,17850.0,United Kingdom
1001,B,3,2011-01-01 10:00:00,0.99,17850.0,United Kingdom
1001,B,3,2011-01-01 10:00:00,0.99,17850.0,United Kingdom
1002,A,1,2011-02-01 09:30:00,2.50,,United Kingdom
C1003,A,-2,2011-02-02 09:30:00,2.50,17850.0,United Kingdom
1004,C,5,2011-03-01 12:00:00,0.00,13047.0,France
A1005,B,1,2011-03-02 12:00:00,-53.25,,United Kingdom
1006,C,-4,2011-03-03 12:00:00,1.00,13047.0,France
1007,D,2,2011-03-04 12:00:00,7.00,13047.0,France
1008,D,two,2011-03-05 12:00:00,7.00,13047.0,France
1009,D,1,soon,7.00,13047.0,France
1010,D,1,2012-06-01 12:00:00,7.00,13047.0,France
";

fn project(further: &str) -> Project {
    let project = Project::new(&format!(
        "[sources.transactions]
url = \"sales.csv\"
columns = {{ order_id = \"Invoice\", product_id = \"StockCode\", quantity = \"Quantity\", ordered_at = \"InvoiceDate\", \
         unit_price = \"Price\", customer_id = \"Customer ID\", is_return = \"\\\"Invoice\\\" LIKE 'C%'\" }}
[segmentation]
features = [\"recency_days\", \"frequency\", \"monetary\"]
min_k = 2
max_k = 2
[validation.gates]
silhouette = {{ at_least = -1.0, required = true }}
customers = {{ at_least = 1, required = true }}
{further}"
    ));
    project.write("sales.csv", SALES);
    project
}

#[test]
fn a_waterfall_to_the_penny() {
    let project = project("");
    project.ok(&["run", "--as-of", "2012-01-01"]);
    let ledger = project.ok(&[
        "sql",
        "SELECT rule, rows_in, rows_failed AS failed, rows_quarantined AS quarantined, rows_merged AS merged, \
         rows_after_as_of AS later, rows_clean AS clean, amount_clean FROM ledger ORDER BY step",
    ]);
    insta::assert_snapshot!(ledger, @r"
    ┌────────────────────────────────────────────────────────────────────────────────────────────────┐
    │ rule                    rows_in   failed   quarantined   merged   later   clean   amount_clean │
    ╞════════════════════════════════════════════════════════════════════════════════════════════════╡
    │ total                        12                      6        1       1       4          36.97 │
    │ after_as_of                  12                      0        0       1      11           0.19 │
    │ malformed                    11        0             0        0       0      11           0.19 │
    │ unparsable_ordered_at        11        1             1        0       0      10          -6.81 │
    │ unparsable_quantity          10        1             1        0       0       9          -6.81 │
    │ unparsable_unit_price         9        0             0        0       0       9          -6.81 │
    │ lossy_quantity                9        0             0        0       0       9          -6.81 │
    │ lossy_unit_price              9        0             0        0       0       9          -6.81 │
    │ amount_out_of_range           9        0             0        0       0       9          -6.81 │
    │ missing_customer              9        2             2        0       0       7          43.94 │
    │ missing_order                 7        0             0        0       0       7          43.94 │
    │ missing_date                  7        1             0        0       0       7          43.94 │
    │ bad_quantity                  7        2             1        0       0       6          39.94 │
    │ bad_price                     6        2             1        0       0       5          39.94 │
    │ exact_duplicate               5        1             0        1       0       4          36.97 │
    └────────────────────────────────────────────────────────────────────────────────────────────────┘
    ");
    let quarantine = project.sql(
        "SELECT \"row\", disposition, rule, array_to_string(rules, '+') AS rules, amount FROM quarantine ORDER BY \"row\"",
    );
    insta::assert_snapshot!(quarantine, @r"
    3,merged,exact_duplicate,exact_duplicate,2.970000
    4,quarantined,missing_customer,missing_customer,2.500000
    6,quarantined,bad_price,bad_price,0.000000
    7,quarantined,missing_customer,missing_customer+bad_price,-53.250000
    8,quarantined,bad_quantity,bad_quantity,4.000000
    10,quarantined,unparsable_quantity,unparsable_quantity+bad_quantity,
    11,quarantined,unparsable_ordered_at,unparsable_ordered_at+missing_date,7.000000
    ");
    let record = project.sql("SELECT record FROM quarantine WHERE \"row\" = 10");
    assert_eq!(
        record.trim().trim_matches('"').replace("\"\"", "\""),
        "{\"Invoice\":\"1008\",\"StockCode\":\"D\",\"Quantity\":\"two\",\"InvoiceDate\":\"2011-03-05 12:00:00\",\"Price\":\"7.00\",\
         \"Customer ID\":\"13047.0\",\"Country\":\"France\"}"
    );
}

#[test]
fn a_rule_switched_off_keeps_its_rows() {
    let project = project("[quality.rules.exact_duplicate]\nenabled = false\n");
    project.ok(&["run", "--as-of", "2012-01-01"]);
    let clean = project.sql("SELECT rows_clean, rows_merged, amount_clean FROM ledger WHERE step = 0");
    assert_eq!(clean.trim(), "5,0,39.940000");
}

#[test]
fn a_rule_of_severity_fail_fails_the_night() {
    let project = project(
        "[quality.rules.no_free_lunch]\nentity = \"transactions\"\nseverity = \"fail\"\norder = 90\n\
         expression = \"unit_price <> 0\"\ndescription = \"Nothing is free\"\n",
    );
    let done = project.tessera(&["run", "--as-of", "2012-01-01"]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("1 rows of transactions break the rule `no_free_lunch`, which fails the night"),
        "{done:?}"
    );
    assert_eq!(project.ok(&["snapshots", "list", "--json"]).trim(), "[]");
}

#[test]
fn repairs_and_warnings_are_counted_and_the_newest_customer_row_wins() {
    let project = Project::shop();
    project.write("tessera.toml", format!("{}[sources.customers]\nurl = \"customers.csv\"\n", crate::project::SHOP));
    let mut customers = "customer_id,email,country,signup_at,updated_at\n".to_owned();
    for i in 0..59 {
        customers.push_str(&format!("C{i:03},c{i}@example.com,DE,2024-01-{:02},2024-06-01 00:00:00\n", 1 + i % 28));
    }
    customers.push_str("C000, C0@Example.com ,de,2024-01-01,2025-01-01 00:00:00\n");
    customers.push_str("C001,later@example.com,FR,2024-01-02,2030-01-01 00:00:00\n");
    customers.push_str("C002,c2@example.com,U$,2024-01-03,2024-07-01 00:00:00\n");
    project.write("customers.csv", &customers);
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let ledger = project.ok(&[
        "sql",
        "SELECT rule, severity, rows_failed AS failed, rows_repaired AS repaired, rows_superseded AS superseded, \
         rows_quarantined AS quarantined, rows_after_as_of AS later, rows_clean AS clean \
         FROM ledger WHERE source = 'customers' ORDER BY step",
    ]);
    insta::assert_snapshot!(ledger, @r"
    ┌───────────────────────────────────────────────────────────────────────────────────────────────────┐
    │ rule                    severity     failed   repaired   superseded   quarantined   later   clean │
    ╞═══════════════════════════════════════════════════════════════════════════════════════════════════╡
    │ total                                                1            2             0       1      59 │
    │ after_as_of                                          0            0             0       1      61 │
    │ malformed               quarantine        0          0            0             0       0      61 │
    │ unparsable_signup_at    warn              0          0            0             0       0      61 │
    │ unparsable_updated_at   quarantine        0          0            0             0       0      61 │
    │ email_normalised        repair                       1            0             0       0      61 │
    │ country_normalised      repair                       1            0             0       0      61 │
    │ missing_customer_id     quarantine        0          0            0             0       0      61 │
    │ superseded_customer     supersede         2          0            2             0       0      59 │
    │ malformed_country       warn              1          0            0             0       0      59 │
    └───────────────────────────────────────────────────────────────────────────────────────────────────┘
    ");
    let who = "SELECT email, country, array_to_string(repaired_by, '+'), array_to_string(repaired_from, '+'), \
               array_to_string(warned_by, '+') FROM clean_customers \
               JOIN identity USING (account_key) WHERE customer_id IN ('C000', 'C001', 'C002') ORDER BY customer_id";
    insta::assert_snapshot!(project.sql(who), @r"
    c0@example.com,DE,email_normalised+country_normalised, C0@Example.com +de,
    c1@example.com,DE,,,
    c2@example.com,U$,,,malformed_country
    ");
    // The customer whom no customer file knows.
    let orphans = project.sql("SELECT rows_quarantined > 0 FROM ledger WHERE rule = 'orphan_customer'");
    assert_eq!(orphans.trim(), "true");
}

#[test]
fn who_objects_to_profiling_is_left_out() {
    let project = Project::shop();
    project.write("tessera.toml", format!("{}[sources.customers]\nurl = \"customers.csv\"\n", crate::project::SHOP));
    let mut customers = "customer_id,consent_profiling\n".to_owned();
    (0..60).for_each(|i| customers.push_str(&format!("C{i:03},{}\n", i % 10 != 0)));
    project.write("customers.csv", &customers);
    project.ok(&["run", "--as-of", "2026-01-01", "--set", "segmentation.k=2"]);
    assert_eq!(project.sql("SELECT count(*) FROM segments").trim(), "54");
    assert_eq!(project.sql("SELECT count(*) FROM clean_customers").trim(), "60");
}

/// Two sheets in one file, the second of which begins with what the first ended with: the row's place in the file tells. The share of
/// rows that fail a rule, and a KPI, are gates by their name; what is set aside can be looked at, and comes back with its rule mended.
#[test]
fn rules_by_place_gates_by_name_and_what_was_set_aside() {
    let project = project("");
    let file = std::fs::read_to_string(project.path("tessera.toml")).expect("a project");
    let file = file
        .replace("is_return = ", "place = \"_row\", is_return = ")
        .replace("[segmentation]", "types = { place = \"integer\" }\n[segmentation]");
    let sheet: Vec<&str> = SALES.lines().skip(1).collect();
    let twice = format!("{}\n{}\n1011,E,1,2011-03-06 12:00:00,5.00,13047.0,France\n", SALES.trim_end(), sheet[8]);
    project.write("sales.csv", twice);
    let rule = "[quality.rules.second_sheet]\nentity = \"transactions\"\nseverity = \"merge\"\norder = 50\n\
                expression = \"place <= 12 OR ordered_at > TIMESTAMP '2011-03-05'\"\ndescription = \"In the first sheet already\"\n";
    project.write("tessera.toml", format!("{file}\n{rule}"));
    project.ok(&["run", "--as-of", "2012-01-01"]);
    let merged = project.sql("SELECT disposition, rule, \"row\" FROM quarantine WHERE \"row\" > 12");
    assert_eq!(merged.trim(), "merged,second_sheet,13");

    // What is asked of a rule, and of a KPI, by name.
    let checks = "[quality.checks.priced]\nrule = \"bad_price\"\nat_most = 0.1\ndescription = \"Few lines have no price\"\n\
                  [kpis.revenue]\nat_least = 100\n";
    project.write("tessera.toml", format!("{file}\n{rule}\n{checks}"));
    let held = project.tessera(&["run", "--as-of", "2012-01-01"]);
    assert_eq!(held.code, 3, "{}", held.stderr);
    assert!(held.stderr.contains("15.38 % of the rows of transactions fail bad_price (2 of 13)"), "{}", held.stderr);
    project.write("tessera.toml", format!("{file}\n{rule}\n{}", checks.replace("0.1", "0.2")));
    let held = project.tessera(&["run", "--as-of", "2012-01-01"]);
    assert_eq!(held.code, 3, "{}", held.stderr);
    assert!(held.stderr.contains("revenue of everybody is "), "{}", held.stderr);
    let elsewhere = "[validation.gates.revenue]\nat_least = 1\nrequired = true\n";
    project.write("tessera.toml", format!("{file}\n{rule}\n{elsewhere}"));
    let refused = project.tessera(&["check"]);
    assert!(refused.code == 2 && refused.stderr.contains("[kpis.revenue] at_least"), "{}", refused.stderr);

    // Who mends a rule gets its rows back.
    project.write("tessera.toml", format!("{file}\n{rule}"));
    let shown = project.ok(&["quarantine", "--as-of", "2012-01-01", "--format", "csv"]);
    assert!(shown.starts_with("source,rule,disposition,file,rows,amount,first_row\n"), "{shown}");
    assert!(shown.contains("transactions,missing_customer,quarantined,") && !shown.contains("13047"), "{shown}");
    let rows = project.ok(&["quarantine", "--rule", "bad_price", "--restricted", "--format", "csv"]);
    assert!(
        rows.lines().count() == 3 && rows.contains("missing_customer, bad_price") && rows.contains("1004"),
        "{rows}"
    );
    let mended = "[quality.rules.bad_price]\nexpression = \"unit_price >= 0\"\n";
    project.write("tessera.toml", format!("{file}\n{rule}\n{mended}"));
    project.ok(&["run", "--as-of", "2012-01-02", "--set", "quality.checks.freshness.required=false"]);
    let rows = project.ok(&["quarantine", "--rule", "bad_price", "--restricted", "--format", "csv"]);
    assert!(rows.lines().count() == 2 && !rows.contains("1004"), "{rows}");
    assert_eq!(project.tessera(&["quarantine", "--source", "orders"]).code, 2);
}
