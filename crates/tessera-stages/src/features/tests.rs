use super::*;
use crate::testing::{self, Given};

/// An order of two lines, one more, a return; an order 90 days ago, and one of tomorrow. Means and totals by hand.
#[tokio::test]
async fn features_are_what_one_counts_by_hand() {
    let lines = "
    account_key | order_id | line_id | ordered_at          | category | quantity | unit_price | discount | channel | is_return | gross | amount
    a           | O1       | 1       | 2025-03-01T10:00:00 | toys     | 2        | 5.00       | 0.1      | web     | false     | 10.00 | 9.00
    a           | O1       | 2       | 2025-03-01T10:00:00 | books    | 1        | 3.50       | 0        | web     | false     | 3.50  | 3.50
    a           | O2       | 1       | 2025-03-11T10:00:00 | toys     | 1        | 5.00       | 0        | store   | false     | 5.00  | 5.00
    a           | O3       | 1       | 2025-03-12T10:00:00 | toys     | 1        | 5.00       | 0        | store   | true      | 5.00  | 5.00
    b           | O4       | 1       | 2025-01-01T00:00:00 | books    | 1        | 8.00       | 0        | web     | false     | 8.00  | 8.00
    b           | O5       | 1       | 2025-04-01T00:00:00 | books    | 1        | 8.00       | 0        | web     | false     | 8.00  | 8.00";
    let given = Given {
        project: "[sources.transactions]\nurl = \"transactions.csv\"\n",
        as_of: "2025-04-01",
        sources: &[(
            "transactions",
            "order_id,customer_id,ordered_at,quantity,unit_price,discount,category,channel,line_id,is_return\n",
        )],
        tables: &[("clean_transactions", lines), ("accounts", "account_key | customer_key\na | A\nb | B")],
        previous: &[],
        looks_at: &[(
            "features",
            "customer_key recency_days frequency gross_spend returned monetary average_order_value interpurchase_mean_days \
             top_category_share return_rate online_share orders_last90 orders_prior90",
        )],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    features
    customer_key | recency_days | frequency | gross_spend | returned | monetary  | average_order_value | interpurchase_mean_days | top_category_share | return_rate | online_share | orders_last90 | orders_prior90
    A            | 20.583333    | 2         | 17.500000   | 5.000000 | 12.500000 | 8.75                | 10                      | 0.8                | 0.25        | 0.666667     | 2             | 0
    B            | 90           | 1         | 8.000000    | 0.000000 | 8.000000  | 8                   | 90                      | 1                  | 0           | 1            | 1             | 0
    ");
}

const ITEMS: &str = "
    account_key | order_id | line_id | ordered_at          | category | quantity | unit_price | discount | channel | is_return | gross | amount
    a           | O1       | 1       | 2025-03-01T10:00:00 | toys     | 2        | 5.00       | 0.1      | web     | false     | 10.00 | 9.00
    a           | O2       | 1       | 2025-03-11T10:00:00 | toys     | 1        | 5.00       | 0        | store   | false     | 5.00  | 5.00
    b           | O3       | 1       | 2025-03-02T10:00:00 | toys     | 1        | 8.00       | 0        | web     | false     | 8.00  | 8.00
    b           | O4       | 1       | 2025-01-15T00:00:00 | books    | 1        | 8.00       | 0        | web     | false     | 8.00  | 8.00
    b           | O5       | 1       | 2024-06-01T00:00:00 | books    | 1        | 8.00       | 0.5      | web     | false     | 8.00  | 4.00";

async fn look(project: &str, columns: &str) -> String {
    let project = format!("[sources.transactions]\nurl = \"t.csv\"\n[sources.customers]\nurl = \"c.csv\"\n{project}");
    let given = Given {
        project: &project,
        as_of: "2025-04-01",
        sources: &[
            (
                "transactions",
                "order_id,customer_id,ordered_at,quantity,unit_price,discount,category,channel,line_id,is_return\n",
            ),
            ("customers", "customer_id,income,country,consent_marketing\n"),
        ],
        tables: &[
            ("clean_transactions", ITEMS),
            (
                "clean_customers",
                "account_key | income | country | consent_marketing\na | 100 | DE | true\nb | 200 | AT | false",
            ),
            ("accounts", "account_key | customer_key\na | A\nb | B"),
        ],
        previous: &[],
        looks_at: &[("features", columns)],
    };
    testing::check(&STAGE, given).await
}

fn entry(name: &str, over: &str, rest: &str) -> String {
    format!(
        "[features.{name}]\ncriterion = \"behavioural\"\nover = \"{over}\"\nunit = \"u\"\ndescription = \"d\"\n{rest}\n"
    )
}

#[tokio::test]
async fn a_window_is_a_condition_on_every_aggregate() {
    let spend = "CAST(sum(amount) FILTER (WHERE purchase) AS DOUBLE) / count(*)";
    let project = [
        entry("near", "transactions", &format!("expression = \"{spend}\"\nwindow = \"4 weeks\"")),
        entry("before", "transactions", &format!("expression = \"{spend}\"\nwindow = \"2 months\"\nlag = \"4 weeks\"")),
        entry("ever", "transactions", &format!("expression = \"{spend}\"")),
    ];
    insta::assert_snapshot!(look(&project.concat(), "customer_key near before ever orders_last90 orders_prior90").await, @r"
    features
    customer_key | orders_last90 | orders_prior90 | near | before | ever
    A            | 2             | 0              | 5    | 9      | 7
    B            | 2             | 0              |      | 8      | 6.666667
    ");
    let none = entry("near", "transactions", "expression = \"1\"\nwindow = \"4 weeks\"");
    insta::assert_snapshot!(look(&none, "near").await, @r"error: features.near.expression: `1`: a window is of aggregates, and the expression has none");
}

#[tokio::test]
async fn a_column_outside_of_an_aggregate_is_told() {
    let loose = entry("odd", "transactions", "expression = \"sum(amount) + quantity\"");
    insta::assert_snapshot!(look(&loose, "odd").await, @r"error: features.odd.expression: `sum(amount) + quantity`: a customer has many rows of transactions: `quantity` stands in no aggregate, such as sum(quantity) or max(quantity)");
}

#[tokio::test]
async fn who_does_not_agree_has_no_value_nor_what_is_made_of_it() {
    let project = [
        entry("spent", "transactions", "expression = \"sum(amount)\"\nconsent = \"consent_marketing\""),
        entry("doubled", "features", "expression = \"2 * spent\""),
    ];
    let project = project.concat() + "[features.income]\nenabled = true\nconsent = \"consent_marketing\"\n";
    insta::assert_snapshot!(look(&project, "customer_key monetary spent doubled income").await, @r"
    features
    customer_key | monetary  | income     | spent | doubled
    A            | 14.000000 | 100.000000 | 14    | 28
    B            | 20.000000 |            |       |
    ");
}

/// Of toys in March one of three lines went at a discount, of books in January none, and of those in June all.
#[tokio::test]
async fn who_buys_at_discounts_more_than_others_is_sensitive_to_prices() {
    let few = "[features.price_sensitivity]\nenabled = true\nexpression = \"CAST(sum(amount) FILTER (WHERE purchase AND discount > 0) AS DOUBLE) / \
               CAST(sum(CAST(amount * offered_share AS DECIMAL(38,6))) FILTER (WHERE purchase) AS DOUBLE)\"\n";
    insta::assert_snapshot!(look(few, "customer_key price_sensitivity").await, @r"
    features
    customer_key | price_sensitivity
    A            | 1.928571
    B            | 0.6
    ");
}
