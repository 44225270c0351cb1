use super::*;
use crate::testing::{self, Given};

const CUSTOMERS: &str = "\
customer_id,email,signup_at,country
C1, Ann@Example.com ,2025-01-01,de
C1,ann@old.example,2025-02-01,de
C2,bob@example.com,2025-01-05,fr
,nobody@example.com,2025-01-01,de
C7,late@example.com,2025-04-02,de
";
const ORDERS: &str = "\
order_id,customer_id,ordered_at,quantity,unit_price
O1,C1,2025-03-01 10:00:00,2,5.00
O1,C1,2025-03-01 10:00:00,2,5.00
O2,C1,2025-03-02 10:00:00,0,5.00
O3,C9,2025-03-02 10:00:00,1,5.00
O3,C9,2025-03-02 10:00:00,1,5.00
O4,C1,someday,1,5.00
O5,C2,2025-04-01 00:00:00,1,9.99
O6,C2,2025-03-31 23:59:59,1,9.99
";
const PROJECT: &str =
    "[sources.customers]\nurl = \"customers.csv\"\n[sources.transactions]\nurl = \"transactions.csv\"\n";

/// A repeat, one of an unknown customer, a line without quantity, an unknown customer, a date that is none, an order of the next day; a customer twice
/// and one without an id.
#[tokio::test]
async fn every_row_goes_somewhere() {
    let given = Given {
        project: PROJECT,
        as_of: "2025-04-01",
        sources: &[("customers", CUSTOMERS), ("transactions", ORDERS)],
        tables: &[],
        previous: &[],
        looks_at: &[
            ("clean_customers", "email country signup_at repaired_by"),
            ("clean_transactions", "order_id ordered_at quantity unit_price amount"),
            ("quarantine", "source row disposition rule rules amount since"),
            ("inputs", "source file rows amount"),
        ],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    clean_customers
    email           | country | signup_at            | repaired_by
    ann@example.com | DE      | 2025-01-01T00:00:00Z | [email_normalised, country_normalised]
    bob@example.com | FR      | 2025-01-05T00:00:00Z | [country_normalised]

    clean_transactions
    order_id | ordered_at           | quantity | unit_price | amount
    O1       | 2025-03-01T10:00:00Z | 2.000    | 5.0000     | 10.000000
    O6       | 2025-03-31T23:59:59Z | 1.000    | 9.9900     | 9.990000

    quarantine
    source       | row | disposition | rule                  | rules                                 | amount    | since
    customers    | 2   | superseded  | superseded_customer   | [superseded_customer]                 |           | 2025-04-01
    customers    | 4   | quarantined | missing_customer_id   | [missing_customer_id]                 |           | 2025-04-01
    transactions | 2   | merged      | exact_duplicate       | [exact_duplicate]                     | 10.000000 | 2025-04-01
    transactions | 3   | quarantined | bad_quantity          | [bad_quantity]                        | 0.000000  | 2025-04-01
    transactions | 4   | quarantined | orphan_customer       | [orphan_customer]                     | 5.000000  | 2025-04-01
    transactions | 5   | merged      | exact_duplicate       | [exact_duplicate]                     | 5.000000  | 2025-04-01
    transactions | 6   | quarantined | unparsable_ordered_at | [unparsable_ordered_at, missing_date] | 5.000000  | 2025-04-01

    inputs
    source       | file                       | rows | amount
    customers    | memory:///customers.csv    | 5    | 0.000000
    transactions | memory:///transactions.csv | 8    | 54.980000
    ");
}

fn looking<'a>(project: &'a str, sources: &'a [(&'a str, &'a str)], looks_at: &'a [(&'a str, &'a str)]) -> Given<'a> {
    Given { project, as_of: "2025-04-01", sources, tables: &[], previous: &[], looks_at }
}

const KEEPS: &str = "[quality]\nevents_after_as_of = \"keep\"\n[sources.customers]\nurl = \"customers.csv\"\n\
                     [sources.transactions]\nurl = \"transactions.csv\"\n";

/// Where rows after the night are kept, they still do not decide what the night knows.
#[tokio::test]
async fn the_future_takes_nobodys_place() {
    let customers = "customer_id,email,updated_at\nC1,then@example.com,2025-03-01\nC1,later@example.com,2025-05-01\n\
                     C2,only@example.com,2025-05-01\n";
    let sources = [("customers", customers), ("transactions", ORDERS)];
    let given = looking(KEEPS, &sources, &[("clean_customers", "email updated_at"), ("quarantine", "row rule")]);
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    clean_customers
    email            | updated_at
    only@example.com | 2025-05-01T00:00:00Z
    then@example.com | 2025-03-01T00:00:00Z

    quarantine
    row | rule
    2   | exact_duplicate
    2   | superseded_customer
    3   | bad_quantity
    4   | orphan_customer
    5   | exact_duplicate
    6   | unparsable_ordered_at
    ");
}

#[tokio::test]
async fn two_rows_of_a_customer_need_a_rule_that_chooses() {
    let project = format!("{PROJECT}[quality.rules.superseded_customer]\nenabled = false\n");
    let sources = [("customers", CUSTOMERS), ("transactions", ORDERS)];
    let told = testing::check(&STAGE, looking(&project, &sources, &[])).await;
    insta::assert_snapshot!(told, @r#"error: quality.rules: 1 customers have 2 clean rows, and no rule says which of them counts; a rule of severity "supersede" with by = ["customer_id"] does (superseded_customer, unless it was switched off)"#);
}

/// Two rules that compare rows: by the line, and then by the order, of which the dearest line stays.
#[tokio::test]
async fn rules_that_compare_take_their_turn() {
    let project = format!(
        "{PROJECT}[quality.rules.one_line]\nentity = \"transactions\"\nseverity = \"merge\"\norder = 250\n\
         by = [\"order_id\"]\nprefer = \"amount DESC\"\ndescription = \"One line an order\"\n"
    );
    let orders = "order_id,customer_id,ordered_at,quantity,unit_price,note\n\
                  O1,C1,2025-03-01,1,5.00,a\nO1,C1,2025-03-01,1,5.00,a\nO1,C1,2025-03-01,1,5.00,b\nO1,C1,2025-03-01,3,5.00,a\n\
                  O1,C1,2025-03-01,0,9.00,a\nO2,C9,2025-03-01,1,5.00,a\nO2,C2,2025-03-01,2,5.00,a\n";
    let sources = [("customers", CUSTOMERS), ("transactions", orders)];
    let given = looking(
        &project,
        &sources,
        &[("clean_transactions", "order_id amount"), ("quarantine", "source row rule rules record")],
    );
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r#"
    clean_transactions
    order_id | amount
    O1       | 15.000000
    O2       | 10.000000

    quarantine
    source       | row | rule                | rules                 | record
    customers    | 2   | superseded_customer | [superseded_customer] | {"customer_id":"C1","email":"ann@old.example","signup_at":"2025-02-01","country":"de"}
    customers    | 4   | missing_customer_id | [missing_customer_id] | {"email":"nobody@example.com","signup_at":"2025-01-01","country":"de"}
    transactions | 1   | one_line            | [one_line]            | {"order_id":"O1","customer_id":"C1","ordered_at":"2025-03-01","quantity":"1","unit_price":"5.00","note":"a"}
    transactions | 2   | exact_duplicate     | [exact_duplicate]     | {"order_id":"O1","customer_id":"C1","ordered_at":"2025-03-01","quantity":"1","unit_price":"5.00","note":"a"}
    transactions | 3   | one_line            | [one_line]            | {"order_id":"O1","customer_id":"C1","ordered_at":"2025-03-01","quantity":"1","unit_price":"5.00","note":"b"}
    transactions | 5   | bad_quantity        | [bad_quantity]        | {"order_id":"O1","customer_id":"C1","ordered_at":"2025-03-01","quantity":"0","unit_price":"9.00","note":"a"}
    transactions | 6   | one_line            | [one_line]            | {"order_id":"O2","customer_id":"C9","ordered_at":"2025-03-01","quantity":"1","unit_price":"5.00","note":"a"}
    "#);
}

/// Digits beyond those of the column, in every type in which a source may write them, and what a `TRY_CAST` gives up: the row stays and
/// says so, and a rule may turn it away.
#[tokio::test]
async fn what_a_cast_loses_is_told() {
    let project = "[sources.transactions]\nurl = \"transactions.csv\"\n[sources.transactions.columns]\n\
                   discount = \"TRY_CAST(pct AS DOUBLE) / 100\"\n";
    let orders = "order_id,customer_id,ordered_at,quantity,unit_price,pct\n\
                  O1,C1,2025-03-01,1.00004,5.00,\nO2,C1,2025-03-01,1,0.00005,7\nO3,C1,2025-03-01,1.500,5.0000,5%\n\
                  O4,C1,2025-03-01,2,1e-5,33.33\nO5,C1,2025-03-01,2,5,0.00001\n";
    let sources = [("transactions", orders)];
    let looks_at =
        [("clean_transactions", "order_id quantity unit_price discount warned_by"), ("quarantine", "row rule")];
    insta::assert_snapshot!(testing::check(&STAGE, looking(project, &sources, &looks_at)).await, @r"
    clean_transactions
    order_id | quantity | unit_price | discount | warned_by
    O1       | 1.000    | 5.0000     |          | [lossy_quantity]
    O2       | 1.000    | 0.0001     | 0.070000 | [lossy_unit_price]
    O3       | 1.500    | 5.0000     |          | [lossy_discount]
    O5       | 2.000    | 5.0000     | 0.000000 | [lossy_discount]

    quarantine
    row | rule
    4   | unparsable_unit_price
    ");
    let project = format!(
        "{project}[quality.rules.whole_prices]\nentity = \"transactions\"\nseverity = \"quarantine\"\norder = 100\n\
         expression = \"NOT lossy_unit_price\"\ndescription = \"Prices have four digits\"\n"
    );
    let looks_at = [("quarantine", "row rule")];
    insta::assert_snapshot!(testing::check(&STAGE, looking(&project, &sources, &looks_at)).await, @r"
    quarantine
    row | rule
    2   | whole_prices
    4   | unparsable_unit_price
    ");
}
