//! Figures of campaigns, channels and cohorts, from raw files; of people who bought nothing too.

use crate::project::Project;

const SHOP: &str = "[project]\ntimezone = \"Europe/Berlin\"\n[sources.transactions]\nurl = \"orders/*.csv\"\n\
    columns = { line_id = \"order_id\" }\n[sources.customers]\nurl = \"customers.csv\"\n[sources.campaign_contacts]\nurl = \"contacts/*.csv\"\n\
    [sources.survey_responses]\nurl = \"answers.csv\"\n[sources.marketing_costs]\nurl = \"costs.csv\"\n\
    [segmentation]\nfeatures = [\"monetary\", \"recency_days\", \"frequency\"]\nk = 2\n\
    [validation.gates.silhouette]\nrequired = false\n[privacy]\nk = 3\n";

const PEOPLE: u32 = 300;

fn day(days: u32) -> jiff::civil::Date {
    jiff::civil::date(2024, 1, 1).checked_add(jiff::Span::new().days(days)).expect("a date")
}

/// Whether somebody has bought by a day, who buys every so many days from a day of their own on; every sixth person never does.
fn orders(from: u32, until: u32) -> String {
    let mut text = String::from("order_id,customer_id,ordered_at,quantity,unit_price\n");
    for who in (0..PEOPLE).filter(|who| who % 6 != 0) {
        let days = (who * 7 % 200..).step_by(11 + (who % 50) as usize).take_while(|d| *d < until.min(330));
        for d in days.filter(|d| *d >= from) {
            text.push_str(&format!("O{who}-{d},C{who},{}T09:00:00Z,1,{}.50\n", day(d), 10 + who % 7));
        }
    }
    text
}

/// Two campaigns, of which a fifth hears nothing; some answer, and some buy, later.
fn contacts(campaign: u32, at: u32) -> String {
    let mut text = String::from(
        "campaign_id,customer_id,contacted_at,channel,group,cost,responded_at,converted_at,converted_amount\n",
    );
    for who in (0..PEOPLE).filter(|who| !(who + campaign).is_multiple_of(3)) {
        let (holdout, channel) = (who % 5 == 0, if who % 2 == 0 { "email" } else { "post" });
        let bought = if holdout { who % 10 == 0 } else { who % 4 != 3 };
        let answers = who % 4 == 1 && !holdout;
        let responded = if answers { format!("{}T08:00:00Z", day(at + 1)) } else { String::new() };
        let (converted, amount) = match bought {
            true => (format!("{}T20:00:00Z", day(at + 2 + who % 30)), format!("{}.25", who % 40)),
            false => (String::new(), String::new()),
        };
        let (group, cost) = if holdout { ("holdout", "") } else { ("treated", "0.50") };
        text.push_str(&format!(
            "K{campaign},C{who},{}T08:00:00Z,{channel},{group},{cost},{responded},{converted},{amount}\n",
            day(at)
        ));
    }
    text
}

#[test]
fn campaigns_channels_and_cohorts() {
    let project = Project::new(SHOP);
    let mut people = String::from("customer_id,acquisition_channel\n");
    let mut answers = String::from("customer_id,answered_at,instrument,score\n");
    for who in 0..PEOPLE {
        people.push_str(&format!("C{who},{}\n", ["Search", "search ", "shop"][who as usize % 3]));
        answers.push_str(&format!("C{who},{}T12:00:00Z,nps,{}\n", day(300), who % 11));
    }
    let costs: String = (200..340).map(|d| format!("{},search,2.50\n{},tv,1\n", day(d), day(d))).collect();
    project.write("customers.csv", people);
    project.write("answers.csv", answers);
    project.write("costs.csv", format!("spent_on,channel,amount\n{costs}"));
    project.write("orders/1.csv", orders(0, 320));
    project.write("contacts/1.csv", contacts(1, 290));
    let (first, second) = (day(320).to_string(), day(321).to_string());
    project.ok(&["run", "--as-of", &first]);
    project.write("orders/2.csv", orders(320, 321));
    project.write("contacts/2.csv", contacts(2, 318));
    for lake in ["cluster", "full"] {
        let copied =
            std::process::Command::new("cp").arg("-r").arg(project.path("lake")).arg(project.path(lake)).status();
        assert!(copied.expect("cp starts").success());
    }
    project.ok(&["run", "--as-of", &second]);
    project.ok(&["run", "--as-of", &second, "--lake", "cluster", "--engine", "in-process"]);
    project.ok(&["run", "--as-of", &second, "--lake", "full", "--full", "--set", "engine.partitions=5"]);
    let expect = project.fingerprints(&second, &[]);
    for lake in ["cluster", "full"] {
        assert_eq!(project.fingerprints(&second, &["--lake", lake]), expect, "{lake}");
    }

    let of = |query: &str| project.ok(&["sql", query, "--as-of", &first, "--format", "csv"]);
    // What a campaign did, counted by hand: who was contacted and who was not, whether or not they ever bought.
    let contacted: Vec<u32> = (0..PEOPLE).filter(|who| (who + 1) % 3 != 0).collect();
    let count = |which: &dyn Fn(u32) -> bool| contacted.iter().filter(|who| which(**who)).count();
    let in_time = |who: u32| 292 + who % 30 < 320;
    let (treated, held) = (count(&|who| who % 5 != 0), count(&|who| who % 5 == 0));
    let bought = count(&|who| who % 5 != 0 && who % 4 != 3 && in_time(who));
    let without = count(&|who| who % 5 == 0 && who % 10 == 0 && in_time(who));
    let told = of(
        "SELECT CAST(numerator AS INT) AS a, CAST(denominator AS INT) AS b, CAST(versus_numerator AS INT) AS c, CAST(versus_denominator AS INT) AS d, \
         difference_low < difference AND difference < difference_high AS within, needed_n > 0 AS needed FROM kpi_breakdowns \
         WHERE breakdown = 'uplift' AND dimension = 'campaign' AND segment_id IS NULL",
    );
    assert_eq!(told, format!("a,b,c,d,within,needed\n{bought},{treated},{without},{held},true,true\n"));
    // Segments, and those without one, make up what is told of everybody: 50 of 300 people never bought.
    let rest = "SELECT max(denominator) FILTER (WHERE segment_id IS NULL) - sum(denominator) FILTER (WHERE segment_id IS NOT NULL) AS rest \
                FROM kpi_breakdowns WHERE breakdown = 'response_rate' AND dimension IS NULL";
    let nobodys = count(&|who| who % 5 != 0 && who % 6 == 0);
    assert_eq!(of(rest), format!("rest\n{nobodys}.000000\n"));
    assert_eq!(
        of(
            "SELECT kpi, CAST(denominator AS INT) AS n FROM kpis WHERE segment_id IS NULL AND kpi IN ('nps', 'customers', 'response_rate') ORDER BY kpi"
        ),
        format!("kpi,n\ncustomers,\nnps,300\nresponse_rate,{treated}\n")
    );
    assert_eq!(
        of("SELECT CAST(value AS INT) AS n FROM kpis WHERE segment_id IS NULL AND kpi = 'customers'"),
        "n\n250\n"
    );
    assert_eq!(of("SELECT count(*) AS n FROM prospects"), "n\n50\n");
    // 90 days of search; of television nobody came.
    let new = (0..PEOPLE).filter(|who| who % 6 != 0 && who % 3 != 2 && (230..320).contains(&(who * 7 % 200))).count();
    assert_eq!(new, 0, "nobody is new after day 200");
    assert_eq!(
        of(
            "SELECT item, CAST(numerator AS DOUBLE) AS spent, denominator IS NULL OR denominator = 0 AS nobody FROM kpi_breakdowns WHERE breakdown = 'cac' ORDER BY item"
        ),
        "item,spent,nobody\nsearch,225.0,true\ntv,90.0,true\n,315.0,true\n"
    );
    // A cohort's curve stays as it was told.
    let curve = "SELECT item, step, value, numerator, denominator FROM kpi_breakdowns WHERE breakdown = 'retention_curve' AND dimension = 'cohort' AND item < '2024-05' ORDER BY 1, 2";
    let later = project.ok(&["sql", curve, "--as-of", &second, "--format", "csv"]);
    let before = of(curve);
    assert!(before.lines().count() > 15, "{before}");
    assert!(before.lines().all(|line| later.contains(line)), "{before}\n{later}");
}
