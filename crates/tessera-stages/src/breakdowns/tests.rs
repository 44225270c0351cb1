use super::*;
use crate::{
    kpis::STAGE,
    testing::{self, Given},
};

const PROJECT: &str = "[sources.transactions]\nurl = \"t.csv\"\n[sources.customers]\nurl = \"c.csv\"\n\
    [sources.campaign_contacts]\nurl = \"cc.csv\"\n[sources.marketing_costs]\nurl = \"m.csv\"\n";

const SOURCES: [(&str, &str); 4] = [
    ("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n"),
    ("customers", "customer_id,acquisition_channel\n"),
    (
        "campaign_contacts",
        "campaign_id,customer_id,contacted_at,channel,group,cost,responded_at,converted_at,converted_amount\n",
    ),
    ("marketing_costs", "spent_on,channel,amount\n"),
];

const ACCOUNTS: &str = "account_key | customer_key\na | A\nb | B\nc | C\nd | D\ne | E";
const FEATURES: &str = "
    customer_key | frequency | first_order_days | first_order_month | active_months
    A            | 3         | 200              | 2024-09           | 1011
    B            | 1         | 195              | 2024-09           | 1
    C            | 2         | 120              | 2024-12           | 11
    D            | 1         | 20               | 2025-03           | 1";
const SEGMENTS: &str = "customer_key | segment_id\nA | 0\nB | 0\nC | 1\nD | 1";
const CUSTOMERS: &str = "account_key | acquisition_channel\na | Search\nb | search\nc | Shop\nd | search\ne | shop";
/// E bought nothing; the last contact is of tomorrow, the first too long ago.
const CONTACTS: &str = "
    account_key | campaign_id | contacted_at        | channel | group   | cost | responded_at        | converted_at        | converted_amount
    a           | spring      | 2024-12-01T10:00:00 | email   | treated | 1    | 2024-12-02T10:00:00 | 2024-12-02T10:00:00 | 70
    a           | summer      | 2025-03-01T10:00:00 | email   | treated | 1    | 2025-03-02T10:00:00 | 2025-03-03T10:00:00 | 30
    b           | summer      | 2025-03-01T10:00:00 | email   | treated | 1    |                     |                     |
    c           | summer      | 2025-03-01T10:00:00 | email   | holdout |      |                     |                     |
    d           | summer      | 2025-03-01T10:00:00 | email   | control |      |                     | 2025-03-05T10:00:00 | 8
    e           | summer      | 2025-03-01T10:00:00 | post    |         | 2    | 2025-03-09T10:00:00 | 2025-04-02T10:00:00 | 90
    c           | autumn      | 2025-03-20T10:00:00 | post    | treated | 2    | 2025-03-21T10:00:00 | 2025-03-21T10:00:00 | 6
    a           | autumn      | 2025-04-20T10:00:00 | post    | treated | 2    |                     |                     | ";

async fn look(settings: &str, columns: &str, which: &[&str]) -> String {
    let given = Given {
        project: &format!("{PROJECT}{settings}"),
        as_of: "2025-04-01",
        sources: &SOURCES,
        tables: &[
            ("features", FEATURES),
            ("segments", SEGMENTS),
            ("accounts", ACCOUNTS),
            ("clean_customers", CUSTOMERS),
            ("prospects", "customer_key | contacts_last90 | responses_last90 | conversions_last90\nE | 1 | 1 | 0"),
            ("clean_campaign_contacts", CONTACTS),
            (
                "clean_marketing_costs",
                "spent_on | channel | amount\n2025-03-31 | Search | 100.50\n2025-01-01 | search | 20\n2024-12-31 | search | 7\n\
                 2025-04-01 | search | 9\n2025-02-01 | tv | 40",
            ),
        ],
        previous: &[],
        looks_at: &[("kpi_breakdowns", columns)],
    };
    let all = testing::check(&STAGE, given).await;
    let wanted = |line: &&str| which.iter().any(|which| line.starts_with(which)) || line.starts_with("breakdown ");
    all.lines().filter(wanted).collect::<Vec<_>>().join("\n")
}

/// Every contact of the last 90 days counts once for its campaign and its channel; who bought nothing counts for everybody; of tomorrow
/// nothing is known.
#[tokio::test]
async fn campaigns_are_what_one_counts_by_hand() {
    let columns = "breakdown dimension item segment_id numerator denominator n versus_numerator versus_denominator difference needed_n state";
    insta::assert_snapshot!(look("[privacy]\nk = 1\n", columns, &["response_rate", "uplift"]).await, @r"
    breakdown       | dimension           | item    | segment_id | numerator  | denominator | n | versus_numerator | versus_denominator | difference | needed_n | state
    response_rate   |                     |         |            | 3.000000   | 4.000000    | 4 |                  |                    |            |          | low_n
    response_rate   |                     |         | 0          | 1.000000   | 2.000000    | 2 |                  |                    |            |          | low_n
    response_rate   |                     |         | 1          | 1.000000   | 1.000000    | 1 |                  |                    |            |          | low_n
    response_rate   | campaign            | autumn  |            | 1.000000   | 1.000000    | 1 |                  |                    |            |          | low_n
    response_rate   | campaign            | autumn  | 1          | 1.000000   | 1.000000    | 1 |                  |                    |            |          | low_n
    response_rate   | campaign            | summer  |            | 2.000000   | 3.000000    | 3 |                  |                    |            |          | low_n
    response_rate   | campaign            | summer  | 0          | 1.000000   | 2.000000    | 2 |                  |                    |            |          | low_n
    response_rate   | channel             | email   |            | 1.000000   | 2.000000    | 2 |                  |                    |            |          | low_n
    response_rate   | channel             | email   | 0          | 1.000000   | 2.000000    | 2 |                  |                    |            |          | low_n
    response_rate   | channel             | post    |            | 2.000000   | 2.000000    | 2 |                  |                    |            |          | low_n
    response_rate   | channel             | post    | 1          | 1.000000   | 1.000000    | 1 |                  |                    |            |          | low_n
    uplift          |                     |         |            | 2.000000   | 4.000000    | 4 | 1.000000         | 2.000000           | 0          |          | cannot_tell
    uplift          |                     |         | 0          | 1.000000   | 2.000000    | 2 | 0.000000         | 0.000000           |            |          | low_n
    uplift          |                     |         | 1          | 1.000000   | 1.000000    | 1 | 1.000000         | 2.000000           | 0.5        | 11       | cannot_tell
    uplift          | campaign            | autumn  |            | 1.000000   | 1.000000    | 1 | 0.000000         | 0.000000           |            |          | low_n
    uplift          | campaign            | autumn  | 1          | 1.000000   | 1.000000    | 1 | 0.000000         | 0.000000           |            |          | low_n
    uplift          | campaign            | summer  |            | 1.000000   | 3.000000    | 3 | 1.000000         | 2.000000           | -0.166667  | 137      | cannot_tell
    uplift          | campaign            | summer  | 0          | 1.000000   | 2.000000    | 2 | 0.000000         | 0.000000           |            |          | low_n
    uplift          | campaign            | summer  | 1          | 0.000000   | 0.000000    | 0 | 1.000000         | 2.000000           |            |          | low_n
    uplift          | channel             | email   |            | 1.000000   | 2.000000    | 2 | 1.000000         | 2.000000           | 0          |          | cannot_tell
    uplift          | channel             | email   | 0          | 1.000000   | 2.000000    | 2 | 0.000000         | 0.000000           |            |          | low_n
    uplift          | channel             | email   | 1          | 0.000000   | 0.000000    | 0 | 1.000000         | 2.000000           |            |          | low_n
    uplift          | channel             | post    |            | 1.000000   | 2.000000    | 2 | 0.000000         | 0.000000           |            |          | low_n
    uplift          | channel             | post    | 1          | 1.000000   | 1.000000    | 1 | 0.000000         | 0.000000           |            |          | low_n
    ");
    let columns = "breakdown dimension item segment_id value numerator denominator";
    insta::assert_snapshot!(look("[privacy]\nk = 1\n", columns, &["roi"]).await, @r"
    breakdown       | dimension           | item    | segment_id | value    | numerator  | denominator
    roi             |                     |         |            | 5        | 36.000000  | 6.000000
    roi             |                     |         | 0          | 14       | 30.000000  | 2.000000
    roi             |                     |         | 1          | 2        | 6.000000   | 2.000000
    roi             | campaign            | autumn  |            | 2        | 6.000000   | 2.000000
    roi             | campaign            | autumn  | 1          | 2        | 6.000000   | 2.000000
    roi             | campaign            | summer  |            | 6.5      | 30.000000  | 4.000000
    roi             | campaign            | summer  | 0          | 14       | 30.000000  | 2.000000
    roi             | channel             | email   |            | 14       | 30.000000  | 2.000000
    roi             | channel             | email   | 0          | 14       | 30.000000  | 2.000000
    roi             | channel             | post    |            | 0.5      | 6.000000   | 4.000000
    roi             | channel             | post    | 1          | 2        | 6.000000   | 2.000000
    ");
}

/// One new customer came by search, for 120.50 of the last 90 days; of television nobody came.
#[tokio::test]
async fn acquisition_costs_by_channel() {
    let columns = "breakdown dimension item segment_id value numerator denominator";
    insta::assert_snapshot!(look("[privacy]\nk = 1\n", columns, &["cac"]).await, @r"
    breakdown       | dimension           | item    | segment_id | value    | numerator  | denominator
    cac             |                     |         |            | 160.5    | 160.500000 | 1.000000
    cac             | acquisition_channel | search  |            | 120.5    | 120.500000 | 1.000000
    cac             | acquisition_channel | tv      |            |          | 40.000000  | 0.000000
    ");
    let settings = "[privacy]\nk = 1\n[breakdowns.cac]\nlag = \"1 days\"\n";
    insta::assert_snapshot!(look(settings, columns, &["cac"]).await, @r"
    breakdown       | dimension           | item    | segment_id | value    | numerator | denominator
    cac             |                     |         |            | 67       | 67.000000 | 1.000000
    cac             | acquisition_channel | search  |            | 27       | 27.000000 | 1.000000
    cac             | acquisition_channel | tv      |            |          | 40.000000 | 0.000000
    ");
}

/// Of September's cohort, steps 1 to 5 are over for everybody on April 1st: 180 days after the last day of September.
#[tokio::test]
async fn cohorts_are_told_once_they_are_whole() {
    let columns = "breakdown dimension item step segment_id value numerator denominator";
    insta::assert_snapshot!(look("[privacy]\nk = 1\n", columns, &["retention_curve"]).await, @r"
    breakdown       | dimension           | item    | step | segment_id | value    | numerator  | denominator
    retention_curve |                     |         | 1    |            | 0.333333 | 1.000000   | 3.000000
    retention_curve |                     |         | 2    |            | 0.333333 | 1.000000   | 3.000000
    retention_curve |                     |         | 3    |            | 0.5      | 1.000000   | 2.000000
    retention_curve |                     |         | 4    |            | 0        | 0.000000   | 2.000000
    retention_curve |                     |         | 5    |            | 0        | 0.000000   | 2.000000
    retention_curve | cohort              | 2024-09 | 1    |            | 0        | 0.000000   | 2.000000
    retention_curve | cohort              | 2024-09 | 2    |            | 0.5      | 1.000000   | 2.000000
    retention_curve | cohort              | 2024-09 | 3    |            | 0.5      | 1.000000   | 2.000000
    retention_curve | cohort              | 2024-09 | 4    |            | 0        | 0.000000   | 2.000000
    retention_curve | cohort              | 2024-09 | 5    |            | 0        | 0.000000   | 2.000000
    retention_curve | cohort              | 2024-12 | 1    |            | 1        | 1.000000   | 1.000000
    retention_curve | cohort              | 2024-12 | 2    |            | 0        | 0.000000   | 1.000000
    ");
}

/// With three people at least behind each figure, campaigns of few are `other`, and no two figures tell of fewer.
#[tokio::test]
async fn few_are_not_told() {
    let columns = "breakdown dimension item segment_id numerator denominator versus_denominator state";
    insta::assert_snapshot!(look("[privacy]\nk = 3\n", columns, &["uplift", "cac"]).await, @r"
    breakdown       | dimension           | item   | segment_id | numerator | denominator | versus_denominator | state
    cac             |                     |        |            |           |             |                    | suppressed
    cac             | acquisition_channel | search |            |           |             |                    | suppressed
    cac             | acquisition_channel | tv     |            | 40.000000 | 0.000000    |                    | low_n
    uplift          |                     |        |            |           |             |                    | suppressed
    uplift          |                     |        | 0          |           |             |                    | suppressed
    uplift          |                     |        | 1          |           |             |                    | suppressed
    uplift          | campaign            | other  |            |           |             |                    | suppressed
    uplift          | campaign            | other  | 1          |           |             |                    | suppressed
    uplift          | campaign            | summer |            |           |             |                    | suppressed
    uplift          | campaign            | summer | 0          |           |             |                    | suppressed
    uplift          | campaign            | summer | 1          |           |             |                    | suppressed
    uplift          | channel             | email  |            |           |             |                    | suppressed
    uplift          | channel             | email  | 0          |           |             |                    | suppressed
    uplift          | channel             | email  | 1          |           |             |                    | suppressed
    uplift          | channel             | other  |            |           |             |                    | suppressed
    uplift          | channel             | other  | 1          |           |             |                    | suppressed
    ");
}

#[tokio::test]
async fn a_mistake_is_told_with_its_place() {
    for (key, wrong, at) in [
        ("numerator", "\"respondet_at\"", "numerator"),
        ("versus", "\"NOT treatet\"", "versus"),
        ("by", "{ campaign = \"campain\" }", "by.campaign"),
    ] {
        let found = look(&format!("[breakdowns.uplift]\n{key} = {wrong}\n"), "breakdown", &["error"]).await;
        assert!(found.starts_with(&format!("error: breakdowns.uplift.{at}: ")), "{found}");
    }
}

#[test]
fn the_last_cohorts_or_the_largest_items_are_told() {
    let project = tessera_contract::Project::load("tessera.toml", "", &[]).expect("defaults");
    let found = || [("b", 5), ("d", 9), ("a", 9), ("c", 1)].map(|(item, n)| (item.to_owned(), n)).to_vec();
    let told = |entry: &str, most: usize| {
        let entry = Breakdown { most, ..project.breakdowns[entry].clone() };
        let Chosen { items, others, all } = chosen(found(), &entry, 2);
        (items.join(" "), others, all)
    };
    assert_eq!(told("uplift", 2), ("a d".to_owned(), true, true));
    assert_eq!(told("uplift", 9), ("a d b".to_owned(), true, true));
    assert_eq!(told("retention_curve", 2), ("b d".to_owned(), false, false));
}
