//! Stories that are planted, one by one: each is the first cause on its night, with its true size.

use std::collections::BTreeSet;

use crate::{
    causes::{cell, day},
    project::Project,
};

const FIRST: u32 = 300;
const NEXT: u32 = 330;

/// Three kinds of people, by what an order of theirs costs; and one of thirty orders on every day, as a rule the same every thirty days, so that what is
/// planted is most of what changes.
struct Order {
    who: u32,
    day: u32,
    category: u32,
    channel: u32,
    cents: u32,
}

impl Order {
    /// Of one in eight, other orders every month.
    fn all(people: u32) -> impl Iterator<Item = Self> {
        Self::of(people, 8, 30)
    }

    /// Of one in so many, other orders every month; of the others, the same after a period.
    fn of(people: u32, one_in: u32, period: u32) -> impl Iterator<Item = Self> {
        let chance = move |who: u32, day: u32| {
            let day = if who.is_multiple_of(one_in) { day } else { day % period };
            let mixed = who.wrapping_mul(2_654_435_761) ^ day.wrapping_mul(40_503).wrapping_mul(2_246_822_519);
            mixed.wrapping_mul(3_266_489_917) >> 8
        };
        let each = (0..people).flat_map(|who| (100..NEXT).map(move |day| (who, day)));
        let of = move |(who, day): (u32, u32)| {
            let chance = chance(who, day);
            let cents = [1000, 3000, 9000][who as usize % 3];
            let order = Self {
                who,
                day,
                category: chance / 30 % 5,
                channel: chance / 150 % 4,
                cents: cents + cents / 10 * (chance / 600 % 7) / 7,
            };
            (chance % 30 == 0).then_some(order)
        };
        each.filter_map(of)
    }

    fn amount(&self) -> f64 {
        f64::from(self.cents) / 100.0
    }

    fn file(orders: impl Iterator<Item = Self>) -> String {
        let mut text = String::from("order_id,customer_id,ordered_at,quantity,unit_price,category,channel\n");
        for Self { who, day, category, channel, cents } in orders {
            let (whole, rest, day) = (cents / 100, cents % 100, self::day(day));
            text.push_str(&format!("O{who}-{day},C{who},{day}T09:00:00Z,1,{whole}.{rest:02},g{category},c{channel}\n"));
        }
        text
    }
}

/// A shop with one night behind it; what has happened by the second one is what `changed` makes of each order.
fn shop(people: u32, further: &str, changed: impl Fn(Order) -> Option<Order>) -> Project {
    shop_of(people, Order::all(people).collect(), further, changed)
}

fn shop_of(people: u32, orders: Vec<Order>, further: &str, changed: impl Fn(Order) -> Option<Order>) -> Project {
    let project = Project::new(&format!(
        "[project]\ntimezone = \"Europe/Berlin\"\n[sources.transactions]\nurl = \"orders/*.csv\"\ncolumns = {{ line_id = \"order_id\" }}\n\
         [sources.customers]\nurl = \"customers.csv\"\n[segmentation]\nfeatures = [\"average_order_value\"]\n\
         [validation.gates.silhouette]\nrequired = false\n{further}"
    ));
    project.write("tessera.secret", "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0");
    project.write("customers.csv", customers(people, 0));
    let (before, after): (Vec<Order>, Vec<Order>) = orders.into_iter().partition(|order| order.day < FIRST);
    project.write("orders/1.csv", Order::file(before.into_iter()));
    project.write("orders/2.csv", Order::file(after.into_iter().filter_map(changed)));
    project
}

/// The customers' file; so many have the address of the person before them.
fn customers(people: u32, twice: u32) -> String {
    let mut text = String::from("customer_id,country,email\n");
    for who in 0..people {
        let mail = if who < 2 * twice { who / 2 * 2 } else { who };
        text.push_str(&format!(
            "C{who},{},person{mail}@example.org\n",
            ["DE", "FR", "AT"][((who / 2).wrapping_mul(2_654_435_761) >> 16) as usize % 3]
        ));
    }
    text
}

fn nights(project: &Project, second: &[&str]) {
    for (days, further) in [(FIRST, &["--set", "segmentation.k=3"][..]), (NEXT, second)] {
        project.ok(&[&["run", "--as-of", &day(days).to_string()][..], further].concat());
    }
}

/// The first cause of the change of a KPI since the last night: finding, place and contribution.
fn first(project: &Project, kpi: &str, segment: &str) -> (String, String, f64) {
    let query = format!(
        "SELECT finding, array_to_string(dimensions, ' '), contribution FROM causes \
         WHERE kpi = '{kpi}' AND segment_id {segment} AND versus = 'previous' AND rank = 1"
    );
    let told = cell(project, &query, &["--as-of", &day(NEXT).to_string()]);
    let cells: Vec<&str> = told.split(',').collect();
    assert_eq!(cells.len(), 3, "no cause: {told}");
    (cells[0].to_owned(), cells[1].to_owned(), cells[2].parse().expect("a contribution"))
}

fn near(is: f64, truth: f64) {
    assert!((is / truth - 1.0).abs() < 0.1, "{is} and not {truth}");
}

/// A category gets dearer for those who spend most, and one in ten of them leaves it: told with the segment and the category.
#[test]
fn a_price_rise_is_told_where_it_is() {
    let dearer = |order: &Order| order.who % 3 == 2 && order.category == 1;
    let leaves = |order: &Order| (order.who / 3).is_multiple_of(10);
    let project = shop(6000, "", |order| match dearer(&order) {
        true if leaves(&order) => None,
        true => Some(Order { cents: order.cents * 3 / 2, ..order }),
        false => Some(order),
    });
    nights(&project, &["--set", "segmentation.k=3"]);
    let brought = Order::all(6000).filter(|order| order.day >= FIRST && dearer(order));
    let brought: f64 = brought.map(|order| order.amount() * if leaves(&order) { -1.0 } else { 0.5 }).sum();
    let most = "SELECT segment_id FROM kpis WHERE kpi = 'average_order_value' AND segment_id IS NOT NULL ORDER BY value DESC LIMIT 1";
    let segment = cell(&project, most, &["--as-of", &day(NEXT).to_string()]);
    let (finding, place, contribution) = first(&project, "revenue", "IS NULL");
    assert_eq!((&*finding, &*place), ("where", &*format!("segment={segment} category=g1")));
    near(contribution, brought);
    // The segment itself says where it was too.
    let (finding, place, contribution) = first(&project, "revenue", &format!("= {segment}"));
    assert_eq!((&*finding, &*place), ("where", "category=g1"));
    near(contribution, brought);
}

/// A channel is down for ten days.
#[test]
fn an_outage_is_told_where_it_is() {
    let lost = |order: &Order| order.channel == 2 && (305..315).contains(&order.day) && !order.who.is_multiple_of(5);
    let all = || Order::of(6000, 30, 30);
    let project = shop_of(6000, all().collect(), "", |order| (!lost(&order)).then_some(order));
    nights(&project, &["--set", "segmentation.k=3"]);
    let (finding, place, contribution) = first(&project, "revenue", "IS NULL");
    assert_eq!((&*finding, &*place), ("where", "channel=c2"));
    near(
        contribution,
        -all().filter(|order| order.day >= FIRST && lost(order)).map(|order| order.amount()).sum::<f64>(),
    );
}

/// What eats into a channel is no finding from night to night, and is told within four weeks.
#[test]
fn what_emerges_is_told() {
    // Of the orders of a channel, one in eight is lost. Who orders when differs from week to week, and hardly from month to month.
    let (people, until) = (5000, FIRST + 28);
    let lost = |order: &Order| order.channel == 2 && order.day >= FIRST && (order.who * 7 + order.day * 13) % 100 < 12;
    let all = || Order::of(people, 8, 28);
    let project = shop_of(people, all().collect(), "", |order| (!lost(&order)).then_some(order));
    let run = |days: u32| project.ok(&["run", "--as-of", &day(days).to_string(), "--set", "segmentation.k=3"]);
    for days in [0, 7, 14, 21] {
        run(FIRST + days);
    }
    let told = run(until);
    let query = "SELECT finding, array_to_string(dimensions, ' '), contribution FROM causes \
         WHERE kpi = 'revenue' AND segment_id IS NULL AND versus = 'month_ago' AND rank = 1";
    let row = cell(&project, query, &["--as-of", &day(until).to_string()]);
    let cells: Vec<&str> = row.split(',').collect();
    assert_eq!(cells[..2], ["emerging", "channel=c2"], "{row}");
    let truth: f64 = all().filter(|order| order.day < until && lost(order)).map(|order| order.amount()).sum();
    // What would have been ordered by chance is not known.
    let share = cells[2].parse::<f64>().expect("a contribution") / -truth;
    assert!((0.5..1.5).contains(&share), "{share}");
    assert!(told.contains("Emerging in four weeks, on no night by itself: channel c2, −"), "{told}");
    assert!(project.ok(&["explain", "kpi", "revenue"]).contains("Emerging in four weeks"));
}

/// Of four campaigns, one leads to twice as many orders as it used to, in all segments.
#[test]
fn a_campaign_that_worked_is_told() {
    let project = shop(2400, "[sources.campaign_contacts]\nurl = \"contacts/*.csv\"\n", Some);
    let contacts = |from: u32, share: u32| {
        let mut text = String::from("campaign_id,customer_id,contacted_at,group,converted_at\n");
        for who in 0..2400 {
            for campaign in 0..4 {
                let at = from + (who + 7 * campaign) % 28;
                let chance = (who * 7 + campaign * 13 + at) % 100;
                let share = if campaign == 3 { share } else { 15 };
                let converted = if chance < share { format!("{}T12:00:00Z", day(at)) } else { String::new() };
                text.push_str(&format!("K{campaign},C{who},{}T08:00:00Z,treated,{converted}\n", day(at)));
            }
        }
        text
    };
    for (at, share) in [(240, 15), (270, 15), (300, 30)] {
        project.write(&format!("contacts/{at}.csv"), contacts(at, share));
    }
    nights(&project, &["--set", "segmentation.k=3"]);
    let (finding, place, contribution) = first(&project, "conversion_rate", "IS NULL");
    assert_eq!((&*finding, &*place), ("where", "campaign=K3"));
    // Of the contacts of the window, those of the campaign's last month convert twice as often.
    let query = "SELECT 1.0 * sum(CASE WHEN campaign_id = 'K3' AND contacted_at >= timestamp '2024-10-27' AND converted_at IS NOT NULL THEN 0.5 ELSE 0 END) \
         / sum(CASE WHEN contacted_at >= timestamp '2024-08-28' THEN 1 ELSE 0 END) FROM clean_campaign_contacts";
    near(contribution, cell(&project, query, &["--as-of", &day(NEXT).to_string()]).parse().expect("a share"));
}

/// Second accounts are found to be people who are known: there are fewer customers, and nobody left.
#[test]
fn people_who_are_one_are_told() {
    let orders = || Order::of(600, 1000, 30);
    let project = shop_of(600, orders().collect(), "", Some);
    project.ok(&["run", "--as-of", &day(FIRST).to_string(), "--set", "segmentation.k=3"]);
    project.write("customers.csv", customers(600, 40));
    project.ok(&["run", "--as-of", &day(NEXT).to_string(), "--set", "segmentation.k=3"]);
    let buyers: BTreeSet<u32> = orders().filter(|order| order.day < FIRST).map(|order| order.who).collect();
    let twice = (0..40).filter(|pair| [2 * pair, 2 * pair + 1].iter().all(|who| buyers.contains(who))).count();
    let (finding, _, contribution) = first(&project, "customers", "IS NULL");
    assert!(twice > 10 && finding == "identity" && contribution == -(twice as f64), "{finding} {contribution} {twice}");
}

/// Another model: whom it places elsewhere did nothing.
#[test]
fn another_model_is_told() {
    let project = shop(2400, "", Some);
    nights(&project, &["--set", "segmentation.k=5"]);
    let of = |query: &str| cell(&project, query, &["--as-of", &day(NEXT).to_string()]);
    let segment =
        of("SELECT from_segment_id FROM segment_moves WHERE cause = 'refit' GROUP BY 1 ORDER BY count(*) DESC LIMIT 1");
    let (finding, place, contribution) = first(&project, "revenue", &format!("= {segment}"));
    assert_eq!((&*finding, &*place), ("refit", "moved=out"));
    let moved = format!(
        "SELECT -sum(f.spend_last90) FROM segment_moves AS m JOIN features AS f USING (customer_key) \
         WHERE m.as_of = '{}' AND f.as_of = '{}' AND m.cause = 'refit' AND m.from_segment_id = {segment}",
        day(NEXT),
        day(FIRST)
    );
    near(contribution, cell(&project, &moved, &[]).parse().expect("an amount"));
}

/// What a broken channel says about the project file, and two projects side by side.
#[test]
fn a_project_is_tried_beside_another() {
    let lost = |order: &Order| order.channel == 2 && !order.who.is_multiple_of(5);
    let project = shop(800, "", |order| (!lost(&order)).then_some(order));
    nights(&project, &["--set", "segmentation.k=3"]);
    let proposed = project.tessera(&["causes", "propose"]);
    assert_eq!(proposed.code, 0, "{proposed:?}");
    let added = ["+[features.channel_c2_share]", "+over = \"transactions\"", "+  \"channel_c2_share\","];
    assert!(added.iter().all(|line| proposed.stdout.lines().any(|told| told == *line)), "{}", proposed.stdout);
    assert!(proposed.stderr.contains("channel=c2 was a cause on "), "{}", proposed.stderr);

    let text = std::fs::read_to_string(project.path("tessera.toml")).expect("the project file");
    for (file, k) in [("three.toml", 3), ("four.toml", 4)] {
        project.write(file, text.replace("[segmentation]", &format!("[segmentation]\nk = {k}")));
    }
    let (from, to) = (day(FIRST).to_string(), day(NEXT).to_string());
    let ask = ["compare", "three.toml", "four.toml", "--from", &from, "--to", &to, "--step", "30"];
    let told = project.ok(&ask);
    assert!(told.contains("2 nights that both published") && told.contains(" is better"), "{told}");
    let told: serde_json::Value =
        serde_json::from_str(&project.ok(&[&ask[..], &["--json"]].concat())).expect("one document");
    let figure = |name: &str| {
        let of = told["figures"].as_array().expect("figures").iter().find(|figure| figure["figure"] == name);
        of.map(|figure| [figure["a"].clone(), figure["b"].clone()]).expect("a figure")
    };
    assert_eq!(figure("segments"), [3.0, 4.0].map(serde_json::Value::from), "{told}");
    let [customers, same] = figure("customers");
    assert!(customers == same && customers.as_f64().is_some_and(|n| n > 400.0), "{told}");
    let of_lake = project.ok(&[
        "sql",
        "SELECT avg(value) FROM validation WHERE metric = 'silhouette' AND scope = 'model'",
        "--lake",
        "tessera-compare/b",
        "--format",
        "csv",
    ]);
    let of_lake: f64 = of_lake.lines().nth(1).and_then(|cell| cell.parse().ok()).expect("a silhouette");
    assert!((figure("silhouette")[1].as_f64().expect("a number") - of_lake).abs() < 1e-9, "{told}");
    let agree = told["adjusted_rand"].as_f64().expect("keys in common");
    assert!((0.3..1.0).contains(&agree), "{agree}");
    let wrong = project.tessera(&["compare", "three.toml", "five.toml", "--from", &from, "--to", &to]);
    assert!(wrong.code == 2 && wrong.stderr.contains("five.toml cannot be read"), "{}", wrong.stderr);
}
