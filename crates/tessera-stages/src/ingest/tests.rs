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

/// Two feeds of orders: one with its own names and signs, one that gives totals and no orders. What one lacks is null in its rows, and
/// each row is set aside as what it was.
#[tokio::test]
async fn feeds_are_rows_of_one_entity() {
    let project = "
[sources.transactions.shop]
url = \"transactions.shop.csv\"
delimiter = \";\"
decimal = \",\"
thousands = \".\"
true_values = [\"ja\"]
false_values = [\"nein\"]
date_formats = [\"%d.%m.%Y\"]
columns = { order_id = \"Beleg\", customer_id = \"Kunde\", ordered_at = \"Datum\", quantity = \"Menge\", unit_price = \"Preis\", is_return = \"Retoure\", store = \"Filiale\" }
[sources.transactions.web]
url = \"transactions.web.csv\"
columns = { customer_id = \"who\", ordered_at = \"day\", total = \"paid\", clicks = \"clicks\", city = \"address.city\" }
types = { clicks = \"integer\" }
";
    let shop = "Beleg;Kunde;Datum;Menge;Preis;Retoure;Filiale\n\
                B1;K1;01.03.2025;1.000;2,50;nein;Köln\n\
                B1;K1;01.03.2025;1.000;2,50;nein;Köln\n\
                B2;K2;02.03.2025;1;1.25;nein;Bonn\n\
                B3;K2;02.03.2025;3;1,25;ja;\n\
                B4;K2;02.03.2025;3;1,25;vielleicht;\n";
    let web = "who,day,paid,clicks,address\n\
               W1,2025-03-05,19.99,7,\"{\"\"city\"\": \"\"Ulm\"\"}\"\n\
               W1,2025-03-05,5,x,none\n\
               W1,2025-03-06,-5,,\n\
               W2,,5,1,\n";
    let sources = [("transactions.shop", shop), ("transactions.web", web)];
    let looks_at = [
        ("clean_transactions", "quantity unit_price gross amount is_return total store clicks city warned_by"),
        ("quarantine", "source feed row rule record amount"),
        ("inputs", "source feed file rows amount"),
    ];
    insta::assert_snapshot!(testing::check(&STAGE, looking(project, &sources, &looks_at)).await, @r#"
    clean_transactions
    quantity | unit_price | is_return | total   | gross       | amount      | warned_by           | store | clicks | city
    1.000    | 19.9900    | false     | 19.9900 | 19.990000   | 19.990000   |                     |       | 7      | Ulm
    1.000    | 5.0000     | false     | 5.0000  | 5.000000    | 5.000000    | [unparsable_clicks] |       |        |
    1.000    | 5.0000     | true      | -5.0000 | 5.000000    | 5.000000    |                     |       |        |
    1000.000 | 2.5000     | false     |         | 2500.000000 | 2500.000000 |                     | Köln  |        |
    3.000    | 1.2500     | true      |         | 3.750000    | 3.750000    |                     |       |        |

    quarantine
    source       | feed | row | rule                  | record                                                                                                            | amount
    transactions | shop | 2   | exact_duplicate       | {"Beleg":"B1","Kunde":"K1","Datum":"01.03.2025","Menge":"1.000","Preis":"2,50","Retoure":"nein","Filiale":"Köln"} | 2500.000000
    transactions | shop | 3   | unparsable_unit_price | {"Beleg":"B2","Kunde":"K2","Datum":"02.03.2025","Menge":"1","Preis":"1.25","Retoure":"nein","Filiale":"Bonn"}     |
    transactions | shop | 5   | unparsable_is_return  | {"Beleg":"B4","Kunde":"K2","Datum":"02.03.2025","Menge":"3","Preis":"1,25","Retoure":"vielleicht"}                | 3.750000
    transactions | web  | 4   | missing_date          | {"who":"W2","paid":"5","clicks":"1"}                                                                              | 5.000000

    inputs
    source       | feed | file                            | rows | amount
    transactions | shop | memory:///transactions.shop.csv | 5    | 5000.000000
    transactions | web  | memory:///transactions.web.csv  | 4    | 24.990000
    "#);
}

/// What a row does without is null where it cannot be read; a rule may still turn the row away.
#[tokio::test]
async fn one_value_that_cannot_be_read_costs_no_customer() {
    let customers =
        "customer_id,birth_date,income,signup_at\nC1,1980-02-30,many,2025-01-01\nC2,1980-02-03,100,2025-01-01\n";
    let sources = [("customers", customers), ("transactions", ORDERS)];
    let looks_at = [("clean_customers", "birth_date income warned_by")];
    insta::assert_snapshot!(testing::check(&STAGE, looking(PROJECT, &sources, &looks_at)).await, @r"
    clean_customers
    birth_date | income   | warned_by
               |          | [unparsable_birth_date, unparsable_income]
    1980-02-03 | 100.0000 |
    ");
    let project = format!(
        "{PROJECT}[quality.rules.readable_income]\nentity = \"customers\"\nseverity = \"quarantine\"\norder = 100\n\
         expression = \"NOT unparsable_income\"\ndescription = \"Incomes can be read\"\n"
    );
    let looks_at = [("clean_customers", "income"), ("quarantine", "source row rule rules")];
    insta::assert_snapshot!(testing::check(&STAGE, looking(&project, &sources, &looks_at)).await, @r"
    clean_customers
    income
    100.0000

    quarantine
    source       | row | rule                  | rules
    customers    | 1   | readable_income       | [unparsable_birth_date, unparsable_income, readable_income]
    transactions | 1   | orphan_customer       | [orphan_customer]
    transactions | 2   | exact_duplicate       | [exact_duplicate]
    transactions | 3   | bad_quantity          | [bad_quantity]
    transactions | 4   | orphan_customer       | [orphan_customer]
    transactions | 5   | exact_duplicate       | [exact_duplicate]
    transactions | 6   | unparsable_ordered_at | [unparsable_ordered_at, missing_date]
    ");
}

#[tokio::test]
async fn a_total_stands_in_for_a_price_and_nothing_for_both() {
    let project = "[sources.transactions]\nurl = \"transactions.csv\"\n";
    let sources = [("transactions", "customer_id,ordered_at\nC1,2025-03-01\n")];
    let told = testing::check(&STAGE, looking(project, &sources, &[])).await;
    insta::assert_snapshot!(told, @r"
    error: sources.transactions.columns.quantity: `quantity` is required, but nothing is mapped to it; the source's columns are `customer_id`, `ordered_at`
      sources.transactions.columns.unit_price: `unit_price` is required, but nothing is mapped to it; the source's columns are `customer_id`, `ordered_at`
    ");
}

/// What contacts cost is money of theirs; nobody has to know it.
#[tokio::test]
async fn contacts_may_cost_nothing() {
    let project = format!("{PROJECT}[sources.campaign_contacts]\nurl = \"campaign_contacts.csv\"\n");
    let contacts = "campaign_id,customer_id,contacted_at\nA,C1,2025-03-01\nA,C9,2025-03-01\n";
    let sources = [("customers", CUSTOMERS), ("transactions", ORDERS), ("campaign_contacts", contacts)];
    let looks_at = [("clean_campaign_contacts", "campaign_id cost"), ("inputs", "source rows amount")];
    insta::assert_snapshot!(testing::check(&STAGE, looking(&project, &sources, &looks_at)).await, @r"
    clean_campaign_contacts
    campaign_id | cost
    A           |

    inputs
    source            | rows | amount
    campaign_contacts | 2    | 0.000000
    customers         | 5    | 0.000000
    transactions      | 8    | 54.980000
    ");
}
