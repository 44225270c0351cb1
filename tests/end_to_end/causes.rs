//! Why a KPI is another one: the terms of every change add up, from raw files, whatever came late.

use crate::project::Project;

const SHOP: &str = "[project]\ntimezone = \"Europe/Berlin\"\n[sources.transactions]\nurl = \"orders/*.csv\"\n\
    columns = { line_id = \"order_id\" }\n[sources.customers]\nurl = \"customers.csv\"\n\
    [segmentation]\nfeatures = [\"monetary\", \"recency_days\", \"frequency\"]\nk = 3\n\
    [validation.gates.silhouette]\nrequired = false\n[privacy]\nk = 3\n\
    [kpis.redefined]\nnumerator = \"frequency\"\nunit = \"orders\"\ndescription = \"Orders ever\"\n";

const PEOPLE: u32 = 300;

pub fn day(days: u32) -> jiff::civil::Date {
    jiff::civil::date(2024, 1, 1).checked_add(jiff::Span::new().days(days)).expect("a date")
}

/// What some people order between two days, each every so many days from a day of their own on.
fn orders(people: impl Iterator<Item = u32>, from: u32, until: u32) -> String {
    let mut text = String::from("order_id,customer_id,ordered_at,quantity,unit_price\n");
    for who in people {
        for d in (who * 7 % 230..until).step_by(9 + (who % 60) as usize).filter(|d| *d >= from) {
            text.push_str(&format!("O{who}-{d},C{who},{}T09:00:00Z,1,{}.50\n", day(d), 10 + who % 7));
        }
    }
    text
}

/// The one value of an answer.
pub fn cell(project: &Project, query: &str, further: &[&str]) -> String {
    let answer = project.ok(&[&["sql", query, "--format", "csv"], further].concat());
    answer.lines().nth(1).unwrap_or_default().to_owned()
}

const CLOSES: &str = "WITH c AS (SELECT as_of, versus_as_of, coalesce(segment_id, -1) AS s, kpi, sum(numerator) AS x, sum(denominator) AS y, \
    sum(contribution) AS v FROM kpi_changes WHERE split = 'people' GROUP BY 1, 2, 3, 4), \
    k AS (SELECT as_of, coalesce(segment_id, -1) AS s, kpi, numerator, denominator, value FROM kpis) \
    SELECT count(*) AS n, count(DISTINCT c.s) AS segments, count(DISTINCT c.kpi) AS kpis, \
    sum(CASE WHEN c.x <> n.numerator - t.numerator OR c.y <> n.denominator - t.denominator THEN 1 ELSE 0 END) AS inexact, \
    max(abs(c.v - (n.value - t.value)) / (1 + abs(n.value))) < 1e-9 AS closes FROM c \
    JOIN k AS n ON n.as_of = c.as_of AND n.s = c.s AND n.kpi = c.kpi \
    JOIN k AS t ON t.as_of = c.versus_as_of AND t.s = c.s AND t.kpi = c.kpi";

const PLACES: &str = "WITH c AS (SELECT as_of, versus_as_of, coalesce(segment_id, -1) AS s, kpi, sum(contribution) AS v, \
    sum(CASE WHEN finding IN ('everywhere', 'mix', 'rest') AND rank IS NOT NULL OR finding = 'where' AND (q_value > 0.05 OR bootstrap_share < 0.5) THEN 1 ELSE 0 END) AS amiss \
    FROM causes WHERE state = 'ok' GROUP BY 1, 2, 3, 4), \
    k AS (SELECT as_of, coalesce(segment_id, -1) AS s, kpi, value FROM kpis) \
    SELECT count(*) AS n, max(abs(c.v - (n.value - t.value)) / (1 + abs(n.value))) < 1e-9 AS closes, sum(c.amiss) AS amiss FROM c \
    JOIN k AS n ON n.as_of = c.as_of AND n.s = c.s AND n.kpi = c.kpi \
    JOIN k AS t ON t.as_of = c.versus_as_of AND t.s = c.s AND t.kpi = c.kpi";

#[test]
fn terms_add_up_and_what_came_late_is_told() {
    let project = Project::new(SHOP);
    let mut people = String::from("customer_id,country\n");
    (0..PEOPLE).for_each(|who| people.push_str(&format!("C{who},{}\n", ["DE", "FR"][who as usize % 2])));
    project.write("customers.csv", &people);
    project.write("orders/1.csv", orders(20..PEOPLE, 0, 240));
    let (first, second) = (day(240).to_string(), day(270).to_string());
    project.ok(&["run", "--as-of", &first]);
    assert_eq!(cell(&project, "SELECT count(*) FROM kpi_changes", &["--as-of", &first]), "0");

    // The orders of nine people from before the first night come after it, and two hundred are new.
    project.write("orders/2.csv", orders(11..20, 0, 240));
    project.write("orders/3.csv", orders(0..PEOPLE, 240, 270));
    let redefined = ["--set", "kpis.redefined.numerator=\"monetary\""];
    project.ok(&[&["run", "--as-of", &second], &redefined[..]].concat());
    let closes = project.ok(&["sql", CLOSES, "--format", "csv"]);
    let cells: Vec<&str> = closes.lines().nth(1).expect("a row").split(',').collect();
    assert_eq!(cells[3..], ["0", "true"], "{closes}");
    assert!(cells[1] == "4" && cells[2].parse::<u32>().expect("a count") > 8, "{closes}");

    // Of the 90 days before the first night, what the nine ordered.
    let since = 240 - 90;
    let theirs: f64 = (11..20)
        .flat_map(|who| (who * 7 % 230..240).step_by(9 + (who % 60) as usize).map(move |d| (who, d)))
        .filter(|(_, d)| *d >= since)
        .map(|(who, _)| 10.5 + f64::from(who % 7))
        .sum();
    let query = "SELECT sum(contribution) FROM kpi_changes WHERE kpi = 'revenue' AND segment_id IS NULL AND split = 'people' AND term = ";
    let of = |term: &str| -> f64 {
        let cell = cell(&project, &format!("{query}'{term}'"), &["--as-of", &second]);
        cell.parse().unwrap_or(0.0)
    };
    assert!((of("restated") - theirs).abs() < 1e-9, "{} {theirs}", of("restated"));
    let query =
        "SELECT state FROM kpi_changes WHERE kpi = 'redefined' AND segment_id IS NULL AND \"from\" IS NOT NULL LIMIT 1";
    assert_eq!(cell(&project, query, &["--as-of", &second]), "redefined");
    let factors = project.ok(&[
        "sql",
        "SELECT DISTINCT detail FROM kpi_changes WHERE kpi = 'revenue' AND term = 'behaviour' AND segment_id IS NULL AND split = 'people' ORDER BY 1",
        "--as-of",
        &second,
        "--format",
        "csv",
    ]);
    assert_eq!(factors, "detail\nactive_customers\norders_per_active_customer\nrevenue_per_order\n");

    // Where it happened and the rest add up too.
    let closes = project.ok(&["sql", PLACES, "--format", "csv"]);
    let cells: Vec<&str> = closes.lines().nth(1).expect("a row").split(',').collect();
    assert!(cells[0].parse::<u32>().expect("a count") > 20 && cells[1..] == ["true", "0"], "{closes}");

    let told = project.ok(&["explain", "kpi", "revenue", "--as-of", &second]);
    assert!(told.contains("Causes, and where it happened"), "{told}");
    assert!(told.contains(&format!("Since {first}, the night before")), "{told}");
    assert!(told.contains("The revenue of everybody"), "{told}");
    assert!(told.contains("rows that came late or were restated"), "{told}");
    let told = project.ok(&["explain", "kpi", "average_order_value", "--segment", "1"]);
    assert!(told.contains("of        segment 1"), "{told}");
    let wrong = project.tessera(&["explain", "kpi", "revenues"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("there is no KPI `revenues`"), "{}", wrong.stderr);

    // Reading everything again says the same of what came late.
    let rows = |lake: &str| {
        let terms = "SELECT segment_id, kpi, term, detail, numerator, denominator FROM kpi_changes WHERE split = 'people' ORDER BY 2, 1, 3, 4";
        let places = "SELECT segment_id, kpi, finding, array_to_string(dimensions, ' '), contribution, q_value FROM causes ORDER BY 2, 1, 3, rank";
        [terms, places].map(|query| project.ok(&["sql", query, "--as-of", &second, "--lake", lake, "--format", "csv"]))
    };
    let only = "sources.transactions.url=\"orders/1.csv\"";
    project.ok(&["run", "--as-of", &first, "--lake", "again", "--set", only]);
    project.ok(&[&["run", "--as-of", &second, "--lake", "again", "--full"], &redefined[..]].concat());
    assert_eq!(rows("again"), rows("lake"));
}

/// Cells of one's own are searched without a project, and what is wrong with a file is said with its place.
#[test]
fn cells_of_ones_own_are_searched() {
    let project = Project::new("");
    let mut cells = String::from("channel,product,forecast,orders\n");
    for cell in 0..120 {
        let (channel, product, size) = (cell % 4, cell / 4, 200 + cell * 37 % 300);
        let came = if channel == 2 { size / 2 } else { size + cell * 7 % 11 - 5 };
        cells.push_str(&format!("c{channel},p{product},{size},{came}\n"));
    }
    project.write("cells.csv", &cells);
    let ask = ["causes", "locate", "cells.csv", "--before", "forecast", "--after", "orders"];
    let told = project.ok(&[&ask[..], &["--json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&told).expect("one document");
    assert_eq!(told["findings"].as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(told["findings"][0]["dimensions"], serde_json::json!({"channel": "c2"}));
    assert!(project.ok(&ask).contains("channel=c2"));
    project.write("cells.csv", cells.replace("c3,p29,", "c3,p29,some"));
    let wrong = project.tessera(&ask);
    assert!(wrong.code == 2 && wrong.stderr.contains("line 121, column `forecast`: `some"), "{}", wrong.stderr);
    let wrong = project.tessera(&["causes", "locate", "cells.csv"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("there is no column `before`"), "{}", wrong.stderr);
}

/// What somebody orders on a day.
struct Order {
    who: u32,
    day: u32,
    channel: u32,
    units: u32,
    /// Whether a broken channel loses it.
    lost: bool,
}

impl Order {
    fn amount(&self) -> f64 {
        f64::from(self.units) + 0.5
    }

    /// Of people, one of thirty orders on every day; channel 2 loses nine of ten from a day on.
    fn all(people: u32, days: std::ops::Range<u32>, broken: u32) -> Vec<Self> {
        let chance = |who: u32, day: u32| {
            let mixed = who.wrapping_mul(2_654_435_761) ^ day.wrapping_mul(40_503).wrapping_mul(2_246_822_519);
            mixed.wrapping_mul(3_266_489_917) >> 8
        };
        let each = (0..people).flat_map(|who| days.clone().map(move |day| (who, day, chance(who, day))));
        let of = |(who, day, chance): (u32, u32, u32)| {
            let channel = chance / 30 % 5;
            let lost = channel == 2 && day >= broken && chance / 150 % 10 < 9;
            Self { who, day, channel, units: 10 + who % 7, lost }
        };
        each.filter(|(_, _, chance)| chance % 30 == 0).map(of).collect()
    }

    fn file<'a>(orders: impl Iterator<Item = &'a Self>) -> String {
        let mut text = String::from("order_id,customer_id,ordered_at,quantity,unit_price,channel\n");
        for Self { who, day, channel, units, .. } in orders {
            text.push_str(&format!("O{who}-{day},C{who},{}T09:00:00Z,1,{units}.50,c{channel}\n", self::day(*day)));
        }
        text
    }
}

/// A shop whose segments follow from something that the tests leave alone. Into which parts people fall follows from their keys, and these from the
/// secret.
fn shop(people: u32) -> Project {
    let features = "[\"monetary\", \"recency_days\", \"frequency\"]";
    let project = Project::new(&SHOP.replace(features, "[\"average_order_value\"]"));
    project.write("tessera.secret", "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0");
    let mut customers = String::from("customer_id,country\n");
    let country = |who: u32| if who < 2000 { ["DE", "FR", "AT"][who as usize % 3] } else { "CH" };
    (0..people).for_each(|who| customers.push_str(&format!("C{who},{}\n", country(who))));
    project.write("customers.csv", &customers);
    project
}

/// What is told of everybody's revenue since the last night: findings, their places, contributions and ids, in the order of their ranks.
fn told(project: &Project) -> Vec<(String, String, f64, String)> {
    let query = "SELECT finding, array_to_string(dimensions, ' ') AS place, contribution, cause_id FROM causes \
         WHERE kpi = 'revenue' AND segment_id IS NULL AND versus = 'previous' ORDER BY rank NULLS LAST, finding";
    let rows = project.ok(&["sql", query, "--format", "csv"]);
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        (cells[0].to_owned(), cells[1].to_owned(), cells[2].parse().expect("a contribution"), cells[3].to_owned())
    };
    rows.lines().skip(1).map(row).collect()
}

/// Those who buy by a channel that breaks for a month buy mostly nothing, and the file of a day in it is lost. Both are told, with what they cost; the day
/// is not blamed on people, and what is noted of a cause is told with it.
#[test]
fn a_broken_channel_and_a_lost_day_are_told_apart() {
    let (from, until, lost_day) = (300, 330, 316);
    let project = shop(2500);
    let all = Order::all(2500, 100..until, from);
    let orders = |days: std::ops::Range<u32>| {
        Order::file(all.iter().filter(|order| days.contains(&order.day) && !order.lost && order.day != lost_day))
    };
    project.write("orders/1.csv", orders(0..from));
    project.ok(&["run", "--as-of", &day(from).to_string()]);
    project.write("orders/2.csv", orders(from..until));
    project.ok(&["run", "--as-of", &day(until).to_string()]);
    let found = told(&project);
    let amount = |of: fn(&Order) -> bool| -> f64 { all.iter().filter(|order| of(order)).map(Order::amount).sum() };
    let channel = amount(|order| order.lost && order.day != 316);
    // On the lost day, what a day of the month brings as a rule.
    let of_day = amount(|order| !order.lost && order.day >= 300 && order.day != 316) / 29.0;
    let missing = format!("day={}", day(lost_day));
    // Of the channel some five hundred orders a month come or not, and eight days like the lost one have some seventy each.
    for (row, finding, place, lost, near) in
        [(&found[0], "where", "channel=c2", channel, 0.1), (&found[1], "missing", &missing, of_day, 0.15)]
    {
        assert!(row.0 == finding && row.1 == place, "{found:?}");
        assert!((row.2 / lost + 1.0).abs() < near, "{} and not {lost}: {found:?}", row.2);
    }
    assert!(found[2].0 == "everywhere" && found[2].2.abs() < of_day, "{found:?}");
    // What a day lacks is everybody's and of segments too, and these add up to it.
    let query = "SELECT round(sum(CASE WHEN segment_id IS NULL THEN contribution ELSE -contribution END)) FROM causes \
         WHERE kpi = 'revenue' AND finding = 'missing'";
    let apart: f64 = cell(&project, query, &[]).parse().expect("a difference");
    assert!(apart.abs() <= 0.02 * of_day, "{apart}");

    let id = &found[0].3;
    project.ok(&["causes", "annotate", id, "--note", "payment was broken, mended on the 30th", "--by", "ops"]);
    assert!(project.ok(&["causes", "list"]).contains("ops: payment was broken, mended on the 30th"));
    let listed = project.ok(&["causes", "list", "--json"]);
    let listed = listed.lines().find(|line| line.contains(id.as_str())).expect("the cause");
    let listed: serde_json::Value = serde_json::from_str(listed).expect("an object");
    assert_eq!((&listed["finding"], &listed["notes"][0]["by"]), (&"where".into(), &"ops".into()), "{listed}");
    let told = project.ok(&["explain", "kpi", "revenue"]);
    assert!(
        told.contains("channel c2, noted ") && told.contains(&format!("rows missing on {}", day(lost_day))),
        "{told}"
    );
    let wrong = project.tessera(&["causes", "annotate", "nothing", "--note", "x"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("no cause `nothing`"), "{}", wrong.stderr);
}

/// The orders of a country come a day late, of people who had bought nothing as far as was known: they are told as what came late, and nobody did otherwise.
#[test]
fn what_came_late_is_nobodys_deed() {
    let project = shop(2500);
    let all = Order::all(2500, 100..301, 1000);
    let late = |order: &&Order| order.who >= 2000;
    project.write("orders/1.csv", Order::file(all.iter().filter(|order| order.day < 300 && !late(order))));
    project.ok(&["run", "--as-of", &day(300).to_string()]);
    project.write("orders/2.csv", Order::file(all.iter().filter(|order| order.day < 300 && late(order))));
    project.write("orders/3.csv", Order::file(all.iter().filter(|order| order.day == 300)));
    project.ok(&["run", "--as-of", &day(301).to_string()]);
    let came: f64 = all.iter().filter(|order| late(order) && (210..300).contains(&order.day)).map(Order::amount).sum();
    let found = told(&project);
    assert!(found[0].0 == "restated" && (found[0].2 / came - 1.0).abs() < 1e-9, "{came}: {found:?}");
    let others = found.iter().skip(1).map(|row| row.2.abs()).sum::<f64>();
    assert!(others < 0.03 * came, "{came}: {found:?}");
}

/// Where nothing tells people apart but their segment, the change of a segment is all that it has.
#[test]
fn a_segment_without_dimensions_is_told_as_a_whole() {
    let project = Project::new(&SHOP.replace("\n[sources.customers]\nurl = \"customers.csv\"", ""));
    project.write("orders/1.csv", orders(0..PEOPLE, 0, 240));
    project.ok(&["run", "--as-of", &day(240).to_string()]);
    project.write("orders/2.csv", orders(0..PEOPLE, 240, 250));
    project.ok(&["run", "--as-of", &day(250).to_string()]);
    let query = "SELECT count(*) AS n, sum(CASE WHEN abs(c.contribution - (k.value - p.value)) > 1e-9 * (1 + abs(k.value)) THEN 1 ELSE 0 END) AS amiss \
         FROM causes AS c JOIN kpis AS k ON k.as_of = c.as_of AND k.kpi = c.kpi AND k.segment_id = c.segment_id \
         JOIN kpis AS p ON p.as_of = c.versus_as_of AND p.kpi = c.kpi AND p.segment_id = c.segment_id \
         WHERE c.kpi = 'active_customers' AND c.finding = 'everywhere' AND c.state = 'ok'";
    let told = project.ok(&["sql", query, "--format", "csv"]);
    let cells: Vec<&str> = told.lines().nth(1).expect("a row").split(',').collect();
    assert!(cells[0] != "0" && cells[1] == "0", "{told}");
}
