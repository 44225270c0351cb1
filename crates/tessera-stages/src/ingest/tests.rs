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
O4,C1,someday,1,5.00
O5,C2,2025-04-01 00:00:00,1,9.99
O6,C2,2025-03-31 23:59:59,1,9.99
";
const PROJECT: &str =
    "[sources.customers]\nurl = \"customers.csv\"\n[sources.transactions]\nurl = \"transactions.csv\"\n";

/// A repeat, a line without quantity, an unknown customer, a date that is none, an order of the next day; a customer twice
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
    customers    | 2   | superseded  | superseded_customer   | [superseded_customer]                 | 0.000000  | 2025-04-01
    customers    | 4   | quarantined | missing_customer_id   | [missing_customer_id]                 | 0.000000  | 2025-04-01
    transactions | 2   | merged      | exact_duplicate       | [exact_duplicate]                     | 10.000000 | 2025-04-01
    transactions | 3   | quarantined | bad_quantity          | [bad_quantity]                        | 0.000000  | 2025-04-01
    transactions | 4   | quarantined | orphan_customer       | [orphan_customer]                     | 5.000000  | 2025-04-01
    transactions | 5   | quarantined | unparsable_ordered_at | [unparsable_ordered_at, missing_date] | 5.000000  | 2025-04-01

    inputs
    source       | file                       | rows | amount
    customers    | memory:///customers.csv    | 5    | 0.000000
    transactions | memory:///transactions.csv | 7    | 49.980000
    ");
}
