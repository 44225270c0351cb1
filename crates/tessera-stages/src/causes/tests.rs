use super::*;
use crate::testing::{self, Given};

/// Of seven people one stayed and buys more, one moved, one is gone, one is part of somebody else and one is new.
#[tokio::test]
async fn terms_are_what_became_of_people() {
    let project = |k: u32| format!("[sources.transactions]\nurl = \"transactions.csv\"\n[privacy]\nk = {k}\n");
    let changes = async |k: u32, moves: &str| {
        let features = "customer_key | spend_last90 | returns_last90 | orders_last90
            A | 120 | 0 | 2\nB | 60 | 0 | 2\nN | 35 | 0 | 1\nE | 20 | 0 | 1\nF | 70 | 0 | 1";
        let before = "customer_key | spend_last90 | returns_last90 | orders_last90
            A | 100 | 0 | 2\nB | 50 | 0 | 1\nC | 40 | 0 | 1\nD | 30 | 0 | 1\nE | 20 | 0 | 1";
        let given = Given {
            project: &project(k),
            as_of: "2025-04-01",
            sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")],
            tables: &[
                ("features", features),
                ("segments", "customer_key | segment_id\nA | 0\nB | 1\nN | 1\nE | 1\nF | 0"),
                ("segment_moves", moves),
                ("accounts", "account_key | customer_key\na | A\nb | B\nd | N\ne | E\nn | N\nf | F"),
                (
                    "kpis",
                    "segment_id | kpi | value | numerator | denominator | state
                    | revenue | 305 | 305 | | ok\n0 | revenue | 190 | 190 | | ok\n1 | revenue | 115 | 115 | | ok
                    | average_order_value | 43.571428571428571 | 305 | 7 | ok\n0 | average_order_value | 63.333333333333333 | 190 | 3 | ok
                    1 | average_order_value | 28.75 | 115 | 4 | ok\n | csat | | | | suppressed
                    | active_customers | 5 | 5 | | ok\n0 | active_customers | 2 | 2 | | ok\n1 | active_customers | 3 | 3 | | ok",
                ),
            ],
            previous: &[
                ("features", before),
                ("segments", "customer_key | segment_id\nA | 0\nB | 0\nC | 1\nD | 1\nE | 1"),
                ("segment_lineage", "segment_id\n0\n1"),
                ("clean_customers", "account_key | country\na | DE"),
                ("accounts", "account_key | customer_key\na | A\nb | B\nc | C\nd | D\ne | E"),
                (
                    "kpis",
                    "segment_id | kpi | value | numerator | denominator | state
                    | revenue | 240 | 240 | | ok\n0 | revenue | 150 | 150 | | ok\n1 | revenue | 90 | 90 | | ok
                    | average_order_value | 40 | 240 | 6 | ok\n0 | average_order_value | 50 | 150 | 3 | ok
                    1 | average_order_value | 30 | 90 | 3 | ok\n | csat | | | | suppressed
                    | active_customers | 5 | 5 | | ok\n0 | active_customers | 2 | 2 | | ok\n1 | active_customers | 3 | 3 | | ok",
                ),
            ],
            looks_at: &[(
                "kpi_changes",
                "segment_id kpi split term detail of_segment_id numerator denominator contribution from to state",
            )],
        };
        let all = testing::check(&STAGE, given).await;
        let wanted = ["segment_id", "| revenue ", "| average_order_value", "| csat", "error"];
        all.lines().filter(|l| wanted.iter().any(|w| l.contains(w))).collect::<Vec<_>>().join("\n")
    };
    let moves =
        "customer_key | from_segment_id | to_segment_id | cause\nB | 0 | 1 | data\nC | 1 | | left\nF | | 0 | new";
    insta::assert_snapshot!(changes(1, moves).await, @r"
    segment_id | kpi                 | split    | term      | detail                     | of_segment_id | numerator  | denominator | contribution | from       | to         | state
               | average_order_value | people   | behaviour |                            |               | 30.000000  | 1.000000    | -1.845238    | 45.416667  | 43.571429  | ok
               | average_order_value | people   | identity  |                            |               | 5.000000   | 0.000000    | 0.77381      | 40         | 40.77381   | ok
               | average_order_value | people   | left      |                            |               | -40.000000 | -1.000000   | 0.297619     | 45.119048  | 45.416667  | ok
               | average_order_value | people   | new       |                            |               | 70.000000  | 1.000000    | 4.345238     | 40.77381   | 45.119048  | ok
               | average_order_value | segments | mix       |                            | 0             |            |             | -1.062925    |            |            | ok
               | average_order_value | segments | mix       |                            | 1             |            |             | -0.88648     |            |            | ok
               | average_order_value | segments | rate      |                            | 0             |            |             | 6.190476     |            |            | ok
               | average_order_value | segments | rate      |                            | 1             |            |             | -0.669643    |            |            | ok
               | csat                |          |           |                            |               |            |             |              |            |            | suppressed
               | revenue             | people   | behaviour | active_customers           |               | 0.000000   |             | 0            | 275        | 275        | ok
               | revenue             | people   | behaviour | orders_per_active_customer |               | 41.250000  |             | 41.25        | 275        | 316.25     | ok
               | revenue             | people   | behaviour | revenue_per_order          |               | -11.250000 |             | -11.25       | 316.25     | 305        | ok
               | revenue             | people   | identity  |                            |               | 5.000000   |             | 5            | 240        | 245        | ok
               | revenue             | people   | left      |                            |               | -40.000000 |             | -40          | 315        | 275        | ok
               | revenue             | people   | new       |                            |               | 70.000000  |             | 70           | 245        | 315        | ok
               | revenue             | segments | change    |                            | 0             | 40.000000  |             | 40           |            |            | ok
               | revenue             | segments | change    |                            | 1             | 25.000000  |             | 25           |            |            | ok
    0          | average_order_value | people   | behaviour |                            |               | 20.000000  | 0.000000    | 6.666667     | 56.666667  | 63.333333  | ok
    0          | average_order_value | people   | moved_out | data                       |               | -50.000000 | -1.000000   | 2.222222     | 54.444444  | 56.666667  | ok
    0          | average_order_value | people   | new       |                            |               | 70.000000  | 1.000000    | 4.444444     | 50         | 54.444444  | ok
    0          | csat                |          |           |                            |               |            |             |              |            |            | suppressed
    0          | revenue             | people   | behaviour | active_customers           |               | 0.000000   |             | 0            | 170        | 170        | ok
    0          | revenue             | people   | behaviour | orders_per_active_customer |               | 0.000000   |             | 0            | 170        | 170        | ok
    0          | revenue             | people   | behaviour | revenue_per_order          |               | 20.000000  |             | 20           | 170        | 190        | ok
    0          | revenue             | people   | moved_out | data                       |               | -50.000000 |             | -50          | 220        | 170        | ok
    0          | revenue             | people   | new       |                            |               | 70.000000  |             | 70           | 150        | 220        | ok
    1          | average_order_value | people   | behaviour |                            |               | 10.000000  | 1.000000    | -5.625       | 34.375     | 28.75      | ok
    1          | average_order_value | people   | identity  |                            |               | 5.000000   | 0.000000    | 1.458333     | 30         | 31.458333  | ok
    1          | average_order_value | people   | left      |                            |               | -40.000000 | -1.000000   | -3.125       | 31.458333  | 28.333333  | ok
    1          | average_order_value | people   | moved_in  | data                       |               | 50.000000  | 1.000000    | 6.041667     | 28.333333  | 34.375     | ok
    1          | csat                |          |           |                            |               |            |             |              |            |            | suppressed
    1          | revenue             | people   | behaviour | active_customers           |               | 0.000000   |             | 0            | 105        | 105        | ok
    1          | revenue             | people   | behaviour | orders_per_active_customer |               | 30.833333  |             | 30.833333    | 105        | 135.833333 | ok
    1          | revenue             | people   | behaviour | revenue_per_order          |               | -20.833333 |             | -20.833333   | 135.833333 | 115        | ok
    1          | revenue             | people   | identity  |                            |               | 5.000000   |             | 5            | 90         | 95         | ok
    1          | revenue             | people   | left      |                            |               | -40.000000 |             | -40          | 95         | 55         | ok
    1          | revenue             | people   | moved_in  | data                       |               | 50.000000  |             | 50           | 55         | 105        | ok
    ");
    insta::assert_snapshot!(changes(2, moves).await, @r"
    segment_id | kpi                 | split    | term      | detail | of_segment_id | numerator | denominator | contribution | from      | to        | state
               | average_order_value | people   | identity  |        |               | 5.000000  | 0.000000    | 0.77381      | 40        | 40.77381  | ok
               | average_order_value | people   | withheld  |        |               | 60.000000 | 1.000000    | 2.797619     | 40.77381  | 43.571429 | ok
               | average_order_value | segments | mix       |        | 0             |           |             | -1.062925    |           |           | ok
               | average_order_value | segments | mix       |        | 1             |           |             | -0.88648     |           |           | ok
               | average_order_value | segments | rate      |        | 0             |           |             | 6.190476     |           |           | ok
               | average_order_value | segments | rate      |        | 1             |           |             | -0.669643    |           |           | ok
               | csat                |          |           |        |               |           |             |              |           |           | suppressed
               | revenue             | people   | behaviour |        |               | 30.000000 |             | 30           | 245       | 275       | ok
               | revenue             | people   | identity  |        |               | 5.000000  |             | 5            | 240       | 245       | ok
               | revenue             | people   | withheld  |        |               | 30.000000 |             | 30           | 275       | 305       | ok
               | revenue             | segments | change    |        | 0             | 40.000000 |             | 40           |           |           | ok
               | revenue             | segments | change    |        | 1             | 25.000000 |             | 25           |           |           | ok
    0          | average_order_value | people   | withheld  |        |               | 40.000000 | 0.000000    | 13.333333    | 50        | 63.333333 | ok
    0          | csat                |          |           |        |               |           |             |              |           |           | suppressed
    0          | revenue             | people   | withheld  |        |               | 40.000000 |             | 40           | 150       | 190       | ok
    1          | average_order_value | people   | identity  |        |               | 5.000000  | 0.000000    | 1.458333     | 30        | 31.458333 | ok
    1          | average_order_value | people   | withheld  |        |               | 20.000000 | 1.000000    | -2.708333    | 31.458333 | 28.75     | ok
    1          | csat                |          |           |        |               |           |             |              |           |           | suppressed
    1          | revenue             | people   | identity  |        |               | 5.000000  |             | 5            | 90        | 95        | ok
    1          | revenue             | people   | withheld  |        |               | 20.000000 |             | 20           | 95        | 115       | ok
    ");
}

/// A night with another definition is not compared, and of one before segments had a lineage nothing is said.
#[tokio::test]
async fn what_is_not_comparable_says_so() {
    let changes = async |numerator: &str, lineage: (&str, &str)| {
        let kpis = format!(
            "segment_id | kpi | value | numerator | denominator | state\n | revenue | 100 | {numerator} | | ok\n0 | revenue | 100 | {numerator} | | ok"
        );
        let features = "customer_key | spend_last90 | returns_last90 | orders_last90\nA | 100 | 0 | 2";
        let (segments, accounts) = ("customer_key | segment_id\nA | 0", "account_key | customer_key\na | A");
        let given = Given {
            project: "[sources.transactions]\nurl = \"transactions.csv\"\n[privacy]\nk = 1\n",
            as_of: "2025-04-01",
            sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")],
            tables: &[
                ("features", features),
                ("segments", segments),
                ("accounts", accounts),
                (
                    "kpis",
                    "segment_id | kpi | value | numerator | denominator | state\n | revenue | 100 | 100 | | ok\n0 | revenue | 100 | 100 | | ok",
                ),
            ],
            previous: &[
                ("features", features),
                ("segments", segments),
                lineage,
                ("clean_customers", "account_key | country\na | DE"),
                ("accounts", accounts),
                ("kpis", &kpis),
            ],
            looks_at: &[("kpi_changes", "segment_id kpi split term contribution from to state")],
        };
        let all = testing::check(&STAGE, given).await;
        all.lines().filter(|l| l.contains("| revenue ")).collect::<Vec<_>>().join("\n")
    };
    let lineage = ("segment_lineage", "segment_id\n0");
    insta::assert_snapshot!(changes("100", lineage).await, @r"
               | revenue             | people   | behaviour | 0            | 100  | 100 | ok
               | revenue             | segments | change    | 0            |      |     | ok
    0          | revenue             | people   | behaviour | 0            | 100  | 100 | ok
    ");
    insta::assert_snapshot!(changes("99", lineage).await, @r"
               | revenue             |       |      |              | 100  | 100 | redefined
    0          | revenue             |       |      |              | 100  | 100 | redefined
    ");
    insta::assert_snapshot!(changes("100", ("segment_moves", "customer_key\nA")).await, @r"");
}

/// Customers of segment 1 buy toys no longer: of 600, every sixth. The rows are from the last day, and from the one that is out of the window now.
#[tokio::test]
async fn where_it_changed_is_found_and_all_adds_up() {
    let changes = async |kept: bool, project: &str| {
        let (mut features, mut before) = ("customer_key | spend_last90 | returns_last90\n".to_owned(), String::new());
        before.push_str(&features);
        let mut segments = "customer_key | segment_id\n".to_owned();
        let mut accounts = "account_key | customer_key\n".to_owned();
        let mut rows = "account_key | ordered_at | category | channel | is_return | amount\n".to_owned();
        let mut sums = [[0, 0], [0, 0]];
        for i in 0..600 {
            let (segment, category, channel) = (i % 2, ["Toys", "Books", "Food"][i % 3], ["web", "shop"][i / 7 % 2]);
            let (stays, gone, new) = (50 + i % 7, 10 + i * 7 % 13, 10 + i * 11 % 13);
            let new = if !kept && segment == 1 && category == "Toys" { 0 } else { new };
            sums[segment][0] += stays + gone;
            sums[segment][1] += stays + new;
            before.push_str(&format!("C{i} | {} | 0\n", stays + gone));
            features.push_str(&format!("C{i} | {} | 0\n", stays + new));
            segments.push_str(&format!("C{i} | {segment}\n"));
            accounts.push_str(&format!("a{i} | C{i}\n"));
            for (day, amount) in [("2025-02-01", stays), ("2024-12-31", gone), ("2025-03-31", new)] {
                rows.push_str(&format!("a{i} | {day}T12:00:00Z | {category} | {channel} | false | {amount}\n"));
            }
        }
        let kpis = |night: usize| {
            let [a, b] = sums.map(|sums| sums[night]);
            let all = a + b;
            format!(
                "segment_id | kpi | value | numerator | denominator | state\n | revenue | {all} | {all} | | ok\n0 | revenue | {a} | {a} | | ok\n1 | revenue | {b} | {b} | | ok"
            )
        };
        let [now, then] = [kpis(1), kpis(0)];
        let given = Given {
            project: &format!("[sources.transactions]\nurl = \"transactions.csv\"\n{project}"),
            as_of: "2025-04-01",
            sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price,category,channel\n")],
            tables: &[
                ("features", &features),
                ("segments", &segments),
                ("accounts", &accounts),
                ("clean_transactions", &rows),
                ("kpis", &now),
            ],
            previous: &[
                ("features", &before),
                ("segments", &segments),
                ("segment_lineage", "segment_id\n0\n1"),
                ("clean_customers", "account_key | country\na | DE"),
                ("clean_transactions", &rows),
                ("accounts", &accounts),
                ("kpis", &then),
            ],
            looks_at: &[("causes", "segment_id kpi rank finding dimensions contribution change bootstrap_share state")],
        };
        let all = testing::check(&STAGE, given).await;
        all.lines()
            .filter(|l| ["segment_id", "| revenue ", "error"].iter().any(|w| l.contains(w)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(changes(false, "").await, @r"
    segment_id | kpi     | rank | finding    | dimensions                 | contribution | change | bootstrap_share | state
               | revenue |      | everywhere | []                         | -12          |        |                 | ok
               | revenue |      | rest       | []                         | 0            |        |                 | ok
               | revenue | 1    | where      | [segment=1, category=Toys] | -1590        | -0.231 | 1               | ok
    0          | revenue |      | everywhere | []                         | 0            |        |                 | ok
    0          | revenue |      | rest       | []                         | 0            |        |                 | ok
    1          | revenue |      | everywhere | []                         | -12          |        |                 | ok
    1          | revenue |      | rest       | []                         | 0            |        |                 | ok
    1          | revenue | 1    | where      | [category=Toys]            | -1590        | -0.231 | 1               | ok
    ");
    insta::assert_snapshot!(changes(true, "").await, @r"
    segment_id | kpi     | rank | finding    | dimensions | contribution | change | bootstrap_share | state
               | revenue |      | everywhere | []         | 4            |        |                 | ok
               | revenue |      | rest       | []         | 0            |        |                 | ok
    0          | revenue |      | everywhere | []         | 0            |        |                 | ok
    0          | revenue |      | rest       | []         | 0            |        |                 | ok
    1          | revenue |      | everywhere | []         | 4            |        |                 | ok
    1          | revenue |      | rest       | []         | 0            |        |                 | ok
    ");
    // More people than there are behind it are asked for.
    insta::assert_snapshot!(changes(false, "[privacy]\nk = 120\n").await, @r"
    segment_id | kpi     | rank | finding    | dimensions      | contribution | change | bootstrap_share | state
               | revenue |      | everywhere | []              | 18           |        |                 | ok
               | revenue |      | rest       | []              | 0            |        |                 | ok
               | revenue | 1    | where      | [category=Toys] | -1620        | -0.118 | 1               | ok
    0          | revenue |      | everywhere | []              | 0            |        |                 | ok
    0          | revenue |      | rest       | []              | 0            |        |                 | ok
    1          | revenue |      | everywhere | []              | -1602        |        |                 | ok
    1          | revenue |      | rest       | []              | 0            |        |                 | ok
    ");
    // What rows are said to add up to is not what the KPI is.
    let other = "[kpis.revenue.rows]\nover = \"transactions\"\nwindow = \"30 days\"\nnumerator = \"amount\"\n";
    insta::assert_snapshot!(changes(false, other).await, @r"
    segment_id | kpi     | rank | finding | dimensions | contribution | change | bootstrap_share | state
               | revenue |      |         | []         |              |        |                 | rows_differ
    ");
    insta::assert_snapshot!(changes(false, "[causes.dimensions.channel]\nby = \"chanel\"\n").await, @r"error: causes.dimensions.channel.by: `chanel`: No field named chanel. Did you mean 'rows.channel'?");
}
