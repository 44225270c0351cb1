use super::*;
use crate::testing::{self, Given};

/// The features of the customers of CDNOW, so many times over (see the tests of [`tessera_algo::value`]).
fn panel(times: u64, keep: impl Fn(u64) -> bool) -> String {
    let mut features =
        "customer_key | purchase_days | purchase_span_days | observed_days | repeat_value | average_order_value | monetary".to_owned();
    let mut customer = 0;
    for line in include_str!("../../../tessera-algo/src/value/cdnow.csv").lines().skip(1) {
        let numbers: Vec<u64> = line.split(',').map(|n| n.parse().expect("a number")).collect();
        let [x, last, observed, cents, customers] = numbers.try_into().expect("five columns");
        for _ in 0..customers * times {
            customer += 1;
            if keep(x) {
                let value = if x > 0 { format!("{}.{:02}", cents / 100, cents % 100) } else { String::new() };
                let days = x + 1;
                features
                    .push_str(&format!("\nC{customer} | {days} | {last} | {observed} | {value} | 20 | {}", 20 * days));
            }
        }
    }
    features
}

async fn look(settings: &str, features: &str, looks_at: &[(&str, &str)]) -> String {
    let project = format!("[sources.transactions]\nurl = \"transactions.csv\"\n[value]\n{settings}\n");
    let given = Given {
        project: &project,
        as_of: "1997-10-01",
        sources: &[("transactions", "order_id,customer_id,ordered_at,quantity,unit_price\n")],
        tables: &[("features", features)],
        previous: &[],
        looks_at,
    };
    testing::check(&STAGE, given).await
}

const MODEL: (&str, &str) = ("clv_model", "model parameter value std_error n time_unit chosen state told");

/// Fader, Hardie & Lee (2005) and Fader & Hardie (2013); the customer of 2 purchases more, the last after 30.43 of 38.86 weeks.
#[tokio::test]
async fn the_published_figures() {
    let features = panel(1, |_| true);
    let looks_at = [
        MODEL,
        (
            "customer_value",
            "customer_key p_alive expected_orders_273 expected_order_value clv churn_risk next_order_days basis",
        ),
    ];
    let all = look("model = \"bg_nbd\"\nhorizons_days = [273]", &features, &looks_at).await;
    let first = features.lines().find(|line| line.contains("| 3 | 213 | 272 | 22.35")).expect("the first customer");
    let key = first.split(' ').next().expect("a key");
    let wanted = |line: &&str| {
        ["model", "customer_", "bg_nbd", "gamma_"].iter().any(|w| line.contains(w))
            || line.starts_with(&format!("{key} "))
    };
    let shown: Vec<&str> = all.lines().filter(wanted).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    clv_model
    model       | parameter | value     | std_error | n    | time_unit | chosen | state | told
    bg_nbd      | a         | 0.792922  | 0.185734  | 2357 | weeks     | true   | ok    |
    bg_nbd      | alpha     | 4.413602  | 0.378224  | 2357 | weeks     | true   | ok    |
    bg_nbd      | b         | 2.425907  | 0.705414  | 2357 | weeks     | true   | ok    |
    bg_nbd      | r         | 0.242595  | 0.012557  | 2357 | weeks     | true   | ok    |
    gamma_gamma | gamma     | 15.447748 | 4.159987  | 946  |           | true   | ok    |
    gamma_gamma | p         | 6.248802  | 1.189685  | 946  |           | true   | ok    |
    gamma_gamma | q         | 3.744588  | 0.290165  | 946  |           | true   | ok    |
    customer_value
    customer_key | p_alive  | expected_orders_273 | expected_order_value | clv         | churn_risk | next_order_days | basis
    C2040        | 0.72662  | 1.225994            | 24.658616            | 36.740732   | 0.27338    | 109.701081      | predicted
    ");
}

/// What plans compute is what the models say, of everybody.
#[tokio::test]
async fn plans_say_what_the_models_say() {
    let features = panel(1, |_| true);
    let customers: Vec<Vec<&str>> =
        features.lines().skip(1).map(|line| line.split('|').map(str::trim).collect()).collect();
    let number = |cell: &str| cell.parse::<f64>().unwrap_or(0.0);
    let mut counts = std::collections::BTreeMap::<_, u64>::new();
    for row in &customers {
        *counts.entry([1, 2, 3].map(|at| number(row[at]) as u32)).or_default() += 1;
    }
    let weeks = |days: u32| TimeUnit::Week.of(Days(f64::from(days)));
    let buyers: Vec<Buyers> = counts
        .into_iter()
        .map(|([days, span, observed], customers)| Buyers {
            repeats: days - 1,
            last: weeks(span),
            observed: weeks(observed),
            customers,
        })
        .collect();
    for variant in Variant::ALL {
        let model = Purchases::fit(variant, TimeUnit::Week, &buyers, 1).expect("fits").model;
        let settings = format!("model = \"{}\"\nhorizons_days = [90]", variant.name());
        let told = look(&settings, &features, &[("customer_value", "customer_key p_alive expected_orders_90")]).await;
        let told: std::collections::BTreeMap<&str, Vec<f64>> = told
            .lines()
            .skip(2)
            .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
            .map(|cells| (cells[0], cells[1..].iter().map(|cell| number(cell)).collect()))
            .collect();
        assert_eq!(told.len(), customers.len());
        for row in &customers {
            let [days, span, observed] = [1, 2, 3].map(|at| number(row[at]) as u32);
            let alive = model.alive(days - 1, weeks(span), weeks(observed));
            let orders = model.expected(days - 1, weeks(span), weeks(observed), weeks(90));
            let told = &told[row[0]];
            assert!(
                (told[0] - alive).abs() < 1e-6 && (told[1] - orders).abs() < 1e-6,
                "{row:?}: {told:?} {alive} {orders}"
            );
        }
    }
}

/// Twice the customers than there may be counts: in steps of two days the parameters are the same to a thousandth or so.
#[tokio::test]
async fn in_steps_they_are_nearly_the_same() {
    let all = look("model = \"bg_nbd\"", &panel(2, |_| true), &[("clv_model", "parameter value n")]).await;
    insta::assert_snapshot!(all, @r"
    clv_model
    parameter | value     | n
    a         | 0.792922  | 4714
    alpha     | 4.413653  | 4714
    b         | 2.425915  | 4714
    gamma     | 15.447748 | 1892
    p         | 6.248802  | 1892
    q         | 3.744588  | 1892
    r         | 0.242596  | 4714
    ");
}

/// Nobody came back: nothing is predicted, and what was spent stands in.
#[tokio::test]
async fn what_is_refused_says_so() {
    let features: Vec<String> = panel(1, |x| x == 0).lines().take(4).map(str::to_owned).collect();
    let value = ("customer_value", "customer_key p_alive expected_orders_90 expected_order_value clv basis");
    let all = look("", &features.join("\n"), &[MODEL, value]).await;
    insta::assert_snapshot!(all, @r"
    clv_model
    model       | parameter | value | std_error | n | time_unit | chosen | state            | told
    bg_nbd      |           |       |           |   | weeks     | false  | not_identifiable | fewer than 50 customers bought again
    gamma_gamma |           |       |           |   |           | false  | not_identifiable | fewer than 50 customers bought again
    mbg_nbd     |           |       |           |   | weeks     | false  | not_identifiable | fewer than 50 customers bought again

    customer_value
    customer_key | p_alive | expected_orders_90 | expected_order_value | clv       | basis
    C1           |         |                    | 20.000000            | 20.000000 | historical
    C2           |         |                    | 20.000000            | 20.000000 | historical
    C3           |         |                    | 20.000000            | 20.000000 | historical
    ");
}
