use super::*;
use crate::testing::{self, Given};

/// Two segments whose numerators add up to those of everybody; at a threshold of three of these four people, only what three spent is told.
#[tokio::test]
async fn segments_add_up_and_the_few_are_not_told() {
    let features = "
        customer_key | frequency | spend_last90 | returns_last90 | orders_last90 | spend_prior90 | returns_prior90 | orders_prior90
        A            | 4         | 40.00        | 1.50           | 2             | 20.00         | 0               | 1
        B            | 1         | 10.00        | 0              | 1             | 0             | 0               | 0
        C            | 2         | 0            | 0              | 0             | 15.00         | 0               | 2
        D            | 1         | 7.25         | 0              | 1             | 5.00          | 5.00            | 1";
    let kpis = async |segments: &str, k: u32| {
        let project = format!("[sources.transactions]\nurl = \"transactions.csv\"\n[privacy]\nk = {k}\n");
        let given = Given {
            project: &project,
            as_of: "2025-04-01",
            sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")],
            tables: &[
                ("features", features),
                ("segments", segments),
                ("customer_value", "customer_key | clv | basis\nA | 10 | historical"),
            ],
            previous: &[("kpis", "segment_id | kpi | value\n | revenue | 50")],
            looks_at: &[("kpis", "segment_id kpi value numerator denominator n previous state")],
        };
        let all = testing::check(&STAGE, given).await;
        let wanted = ["segment_id", "| revenue ", "| retention_rate", "| average_order_value", "| clv "];
        all.lines().filter(|l| wanted.iter().any(|w| l.contains(w))).collect::<Vec<_>>().join("\n")
    };
    let halves = "customer_key | segment_id\nA | 0\nB | 0\nC | 1\nD | 1";
    insta::assert_snapshot!(kpis(halves, 1).await, @r"
    segment_id | kpi                 | value     | numerator | denominator | n | previous | state
               | average_order_value | 13.9375   | 55.750000 | 4.000000    | 3 |          | low_n
               | clv                 |           |           |             |   |          | not_identifiable
               | retention_rate      | 0.666667  | 2.000000  | 3.000000    | 3 |          | low_n
               | revenue             | 55.75     | 55.750000 |             | 4 | 50       | low_n
    0          | average_order_value | 16.166667 | 48.500000 | 3.000000    | 2 |          | low_n
    0          | clv                 |           |           |             |   |          | not_identifiable
    0          | retention_rate      | 1         | 1.000000  | 1.000000    | 1 |          | low_n
    0          | revenue             | 48.5      | 48.500000 |             | 2 |          | low_n
    1          | average_order_value | 7.25      | 7.250000  | 1.000000    | 1 |          | low_n
    1          | clv                 |           |           |             |   |          | not_identifiable
    1          | retention_rate      | 0.5       | 1.000000  | 2.000000    | 2 |          | low_n
    1          | revenue             | 7.25      | 7.250000  |             | 2 |          | low_n
    ");
    insta::assert_snapshot!(kpis(halves, 3).await, @r"
    segment_id | kpi                 | value | numerator | denominator | n | previous | state
               | average_order_value |       |           |             |   |          | suppressed
               | clv                 |       |           |             |   |          | not_identifiable
               | retention_rate      |       |           |             |   |          | suppressed
               | revenue             | 55.75 | 55.750000 |             | 4 | 50       | low_n
    0          | average_order_value |       |           |             |   |          | suppressed
    0          | clv                 |       |           |             |   |          | not_identifiable
    0          | retention_rate      |       |           |             |   |          | suppressed
    0          | revenue             |       |           |             |   |          | suppressed
    1          | average_order_value |       |           |             |   |          | suppressed
    1          | clv                 |       |           |             |   |          | not_identifiable
    1          | retention_rate      |       |           |             |   |          | suppressed
    1          | revenue             |       |           |             |   |          | suppressed
    ");
}

const SEEN: &str = "[sources.transactions]\nurl = \"transactions.csv\"\n[privacy]\nk = 3\n";

/// Eighty customers, by turns in two segments; `spends` and `age` say what of each.
fn shop(spends: impl Fn(usize) -> usize, age: impl Fn(usize) -> Option<usize>) -> [String; 2] {
    let mut features =
        "customer_key | frequency | age_years | spend_last90 | returns_last90 | orders_last90 | spend_prior90 | returns_prior90 | orders_prior90".to_owned();
    let mut segments = "customer_key | segment_id".to_owned();
    for i in 0..80 {
        let age = age(i).map(|a| a.to_string()).unwrap_or_default();
        features.push_str(&format!("\nC{i} | 2 | {age} | {} | 0 | 1 | 5 | 0 | 1", spends(i)));
        segments.push_str(&format!("\nC{i} | {}", i % 2));
    }
    [features, segments]
}

async fn look(now: &[String; 2], previous: &[(&str, &str)], looks_at: (&str, &str)) -> String {
    let given = Given {
        project: SEEN,
        as_of: "2025-04-01",
        sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")],
        tables: &[("features", &now[0]), ("segments", &now[1]), ("customer_value", "customer_key | basis")],
        previous,
        looks_at: &[looks_at],
    };
    let all = testing::check(&STAGE, given).await;
    let wanted = ["segment_id", "| revenue ", "| active_customers", "age_years"];
    all.lines().filter(|l| wanted.iter().any(|w| l.contains(w))).collect::<Vec<_>>().join("\n")
}

/// Two people of the first segment spend more than on the night before, and nobody else: neither their segment's revenue is told nor
/// everybody's, from which it would follow. Through three of each segment, all is.
#[tokio::test]
async fn what_changed_through_few_since_a_published_night_is_not_told() {
    let told = "segment_id | kpi | value | numerator | denominator | n\n | revenue | 800 | 800 | | 80\n0 | revenue | 400 | 400 | | 40\n1 | revenue | 400 | 400 | | 40\n | active_customers | 80 | 80 | | 80\n0 | active_customers | 40 | 40 | | 40\n1 | active_customers | 40 | 40 | | 40";
    let then = shop(|_| 10, |_| None);
    let previous = [
        ("kpis", told),
        ("segment_profiles", "segment_id | feature\n0 | x"),
        ("features", &then[0]),
        ("segments", &then[1]),
        ("clean_customers", "account_key"),
        ("accounts", "customer_key"),
        ("golden_records", "customer_key"),
        ("customer_value", "customer_key | basis"),
    ];
    let cells = ("kpis", "segment_id kpi numerator state");
    let few = shop(|i| if [0, 2].contains(&i) { 11 } else { 10 }, |_| None);
    insta::assert_snapshot!(look(&few, &previous, cells).await, @r"
    segment_id | kpi                 | numerator  | state
               | active_customers    | 80.000000  | ok
               | revenue             |            | suppressed
    0          | active_customers    | 40.000000  | ok
    0          | revenue             |            | suppressed
    1          | active_customers    | 40.000000  | ok
    1          | revenue             | 400.000000 | ok
    ");
    let more = shop(|i| if i < 6 { 11 } else { 10 }, |_| None);
    insta::assert_snapshot!(look(&more, &previous, cells).await, @r"
    segment_id | kpi                 | numerator  | state
               | active_customers    | 80.000000  | ok
               | revenue             | 806.000000 | ok
    0          | active_customers    | 40.000000  | ok
    0          | revenue             | 403.000000 | ok
    1          | active_customers    | 40.000000  | ok
    1          | revenue             | 403.000000 | ok
    ");
    // The first night tells all.
    insta::assert_snapshot!(look(&few, &[], cells).await, @r"
    segment_id | kpi                 | numerator  | state
               | active_customers    | 80.000000  | ok
               | revenue             | 802.000000 | ok
    0          | active_customers    | 40.000000  | ok
    0          | revenue             | 402.000000 | ok
    1          | active_customers    | 40.000000  | ok
    1          | revenue             | 400.000000 | ok
    ");
}

/// Two members of the first segment did not say how old they are: how many did is not told, nor the mean to the last digit.
#[tokio::test]
async fn how_many_are_not_known_does_not_follow() {
    let now = shop(|_| 10, |i| (![0, 2].contains(&i)).then_some(30 + i % 7));
    let cells = ("segment_profiles", "segment_id feature customers mean population_mean");
    insta::assert_snapshot!(look(&now, &[], cells).await, @r"
    segment_id | feature                 | customers | mean | population_mean
    0          | age_years               |           | 33.1 | 33
    1          | age_years               | 40        | 32.9 | 33
    ");
}
