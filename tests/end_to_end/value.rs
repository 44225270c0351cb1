//! What customers are worth, from raw files; and what KPIs are compared with.

use crate::project::{Project, complaint};

const SHOP: &str = "[project]\ntimezone = \"Europe/Berlin\"\n[sources.transactions]\nurl = \"orders/*.csv\"\n\
    columns = { line_id = \"line\" }\n[segmentation]\nfeatures = [\"monetary\", \"recency_days\", \"frequency\"]\nk = 2\n\
    [validation.gates.silhouette]\nrequired = false\n[privacy]\nbetween_nights = false\n[comparison]\nbaseline = \"2024-07-01\"\n\
    [kpis.revenue]\ntarget = 5000\nbenchmark = 4000\n[value]\nhorizons_days = [30, 184]\n";

/// The days on which a customer buys: the odd ones come back at their own pace until they are lost, the even ones buy once.
fn visits(customer: u32) -> Vec<u32> {
    let (pace, lost, first) = (9 + customer * 7 % 61, 60 + customer * 31 % 500, customer * 13 % 150);
    let next = |day: &u32| Some(day + pace + day * customer % 11);
    let all = std::iter::successors(Some(first), next).take_while(|day| *day <= first + lost && *day < 600);
    all.take(if customer.is_multiple_of(2) { 1 } else { usize::MAX }).collect()
}

/// Their orders, of some days: two each day, the later at 22:30 UTC, which in the shop's time zone is the day after in summer.
fn orders(from: u32, until: u32) -> String {
    let mut text = String::from("line,order_id,customer_id,ordered_at,quantity,unit_price\n");
    let begin = jiff::civil::date(2024, 1, 1);
    for customer in 0..400_u32 {
        for day in visits(customer).into_iter().filter(|day| (from..until).contains(day)) {
            let date = begin.checked_add(jiff::Span::new().days(day)).expect("a date");
            for (hour, price) in [("22:30", 10 + customer % 17 + (day * 7 + customer) % 13), ("21:10", 3)] {
                let line = format!("{customer}-{day}-{hour}");
                text.push_str(&format!("{line},O{line},C{customer},{date}T{hour}:00Z,1,{price}.00\n"));
            }
        }
    }
    text
}

#[test]
fn every_customer_has_a_value_and_kpis_are_compared() {
    let project = Project::new(SHOP);
    project.write("orders/1.csv", orders(0, 182));
    project.ok(&["run", "--as-of", "2024-07-01"]);
    project.write("orders/2.csv", orders(182, 366));
    for lake in ["cluster", "full"] {
        let copied =
            std::process::Command::new("cp").arg("-r").arg(project.path("lake")).arg(project.path(lake)).status();
        assert!(copied.expect("cp starts").success());
    }
    project.ok(&["run", "--as-of", "2025-01-01"]);
    project.ok(&["run", "--as-of", "2025-01-01", "--lake", "cluster", "--engine", "in-process"]);
    project.ok(&["run", "--as-of", "2025-01-01", "--lake", "full", "--full", "--set", "engine.partitions=5"]);
    let expect = project.fingerprints("2025-01-01", &[]);
    for lake in ["cluster", "full"] {
        assert_eq!(project.fingerprints("2025-01-01", &["--lake", lake]), expect, "{lake}");
    }
    let of = |query: &str| project.ok(&["sql", query, "--as-of", "2025-01-01", "--format", "csv"]);

    // A day is one of the shop's time zone: summer began on day 90.
    let once = (0..400).map(visits).filter(|days| days.len() == 1);
    let summer = once.filter(|days| days[0] >= 90).count();
    let two = "SELECT count(*) AS n FROM features WHERE frequency = 2 AND purchase_days = 2 AND purchase_span_days = 1";
    assert!(summer > 50);
    assert_eq!(of(two), format!("n\n{summer}\n"));
    // One chosen model of purchases and its parameters; everybody has a value.
    assert_eq!(
        of(
            "SELECT model <> 'gamma_gamma' AS purchases, count(*) AS parameters, bool_and(std_error > 0) AS sure FROM clv_model WHERE chosen GROUP BY 1 ORDER BY 1"
        ),
        "purchases,parameters,sure\nfalse,3,true\ntrue,4,true\n"
    );
    assert_eq!(
        of(
            "SELECT count(*) AS n, count(clv) AS known, min(basis) AS basis, bool_and(p_alive BETWEEN 0 AND 1 AND expected_orders_30 <= expected_orders_184) AS sane FROM customer_value"
        ),
        "n,known,basis,sane\n400,400,predicted,true\n"
    );
    // What was predicted half a year ago is near to what came: in tenths that rise, and of everybody within a tenth.
    assert_eq!(
        of("SELECT count(*) AS n, count(DISTINCT tenth) AS tenths, min(reference_as_of) AS night, \
             bool_and(abs(predicted - observed) < 0.1 * observed + 4 * std_error) FILTER (WHERE tenth IS NULL) AS near, \
             bool_and(customers = 40) FILTER (WHERE tenth > 1) AS even FROM clv_backtest WHERE horizon_days = 184"),
        "n,tenths,night,near,even\n11,10,2024-07-01,true,true\n"
    );
    assert_eq!(of("SELECT count(*) AS n FROM clv_backtest WHERE horizon_days = 30"), "n\n0\n");
    // The KPI is the mean of the customers', in each segment too.
    let same = "SELECT count(*) AS apart FROM kpis AS k JOIN (SELECT s.segment_id, sum(clv) AS clv, count(*) AS n FROM customer_value AS v \
                JOIN segments AS s ON s.customer_key = v.customer_key GROUP BY 1) AS v ON k.segment_id = v.segment_id \
                WHERE k.kpi = 'clv' AND (k.numerator <> v.clv OR k.denominator <> v.n)";
    assert_eq!(of(same), "apart\n0\n");
    // Beside the value stand that of the declared night, what it is to be and what it is elsewhere; a year ago there was none.
    let then = project.ok(&[
        "sql",
        "SELECT value FROM kpis WHERE kpi = 'revenue' AND segment_id IS NULL",
        "--as-of",
        "2024-07-01",
        "--format",
        "csv",
    ]);
    let now = of("SELECT baseline AS value FROM kpis WHERE kpi = 'revenue' AND segment_id IS NULL");
    assert_eq!(now, then);
    assert_eq!(
        of(
            "SELECT previous = baseline AS same, year_ago, target, benchmark FROM kpis WHERE kpi = 'revenue' AND segment_id IS NULL"
        ),
        "same,year_ago,target,benchmark\ntrue,,5000.0,4000.0\n"
    );

    // A year later the night of that date is the one before.
    project.write("orders/3.csv", orders(366, 600));
    project.ok(&["run", "--as-of", "2025-07-01"]);
    let later = "SELECT year_ago = baseline AS same, previous <> baseline AS moved FROM kpis WHERE kpi = 'revenue' AND segment_id IS NULL";
    assert_eq!(project.ok(&["sql", later, "--as-of", "2025-07-01", "--format", "csv"]), "same,moved\ntrue,true\n");
}

#[test]
fn what_cannot_be_predicted_is_said() {
    let once = SHOP.replace("orders/*.csv", "orders/once.csv");
    let project = Project::new(&once);
    let all = orders(0, 600);
    let few = all.lines().take(1).chain(all.lines().filter(|line| line.contains(",C2,") || line.contains(",C4,")));
    project.write("orders/once.csv", few.collect::<Vec<_>>().join("\n") + "\n");
    let done = project.tessera(&["run", "--as-of", "2025-01-01", "--set", "privacy.k=1"]);
    assert!(done.stderr.contains("a model of customer value is refused: "), "{done:?}");

    for (set, wrong) in [
        ("value.discount_rate=10", "10 is no discount a year"),
        ("value.margin=35", "35 is no share of an order's value"),
        ("value.months=365", "365 months"),
        ("value.time_unit=fortnights", "fortnights"),
        ("comparison.baseline=yesterday", "`yesterday` is no night"),
    ] {
        let done = project.tessera(&["run", "--as-of", "2025-01-01", "--set", set]);
        assert!(done.code == 2 && complaint(&done).contains(wrong), "{set}: {done:?}");
    }
}
