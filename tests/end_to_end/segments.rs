//! Segments from night to night: how long a model stays, and what a bad night does.

use crate::{
    night::generated,
    project::{Project, complaint},
};

const CLOUDS: &str = "[sources.customers]\nurl = \"people.csv\"\ncolumns = { x = \"x\", y = \"y\" }\ntypes = { x = \"float\", y = \"float\" }\n\
    [features.x]\ncriterion = \"behavioural\"\nover = \"customers\"\nexpression = \"x\"\nunit = \"u\"\ndescription = \"X\"\nactionable = true\n\
    [features.y]\ncriterion = \"behavioural\"\nover = \"customers\"\nexpression = \"y\"\nunit = \"u\"\ndescription = \"Y\"\n\
    [segmentation]\npopulation = \"customers\"\nfeatures = [\"x\", \"y\"]\nobjectives.value = \"x\"\nmin_k = 2\nmax_k = 6\n";

/// Customers around places, sixty around each.
fn people(places: &[(f64, f64)]) -> String {
    let mut text = String::from("customer_id,x,y\n");
    for (cloud, (x, y)) in places.iter().enumerate() {
        for i in 0..60_u32 {
            let spread = |by: u32| f64::from(i * by % 13) / 13.0 - 0.5;
            text.push_str(&format!("P{cloud}-{i},{:.3},{:.3}\n", x + spread(5), y + spread(7)));
        }
    }
    text
}

const THREE: [(f64, f64); 3] = [(0.0, 0.0), (10.0, 0.0), (0.0, 10.0)];

#[test]
fn a_model_stays_until_there_is_a_reason() {
    let project = Project::new(CLOUDS);
    project.write("people.csv", people(&THREE));
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let of = |query: &str, night: &str| project.ok(&["sql", query, "--as-of", night, "--format", "csv"]);
    let model =
        "SELECT DISTINCT k, m.fitted_on, m.tried_on, origin FROM model AS m JOIN model_candidates AS c ON c.chosen";
    assert_eq!(of(model, "2026-01-01"), "k,fitted_on,tried_on,origin\n3,2026-01-01,2026-01-01,fresh\n");

    // Nothing happened: nobody moves, whatever the number of customers of each.
    let done = project.tessera(&["run", "--as-of", "2026-01-02"]);
    assert!(done.code == 0 && done.stderr.contains("the model of 2026-01-01 stays"), "{done:?}");
    assert_eq!(of(model, "2026-01-02"), "k,fitted_on,tried_on,origin\n3,2026-01-01,2026-01-01,parent\n");
    assert_eq!(of("SELECT count(*) AS n FROM segment_moves", "2026-01-02"), "n\n0\n");
    assert_eq!(of("SELECT count(*) AS n FROM drift WHERE clustered_on AND psi = 0", "2026-01-02"), "n\n3\n");

    // A cloud that nobody knew: it is born, the others go on. The same on a cluster, and from everything.
    project.write("people.csv", people(&[THREE.as_slice(), &[(12.0, 12.0)]].concat()));
    for (lake, further) in [("cluster", ["--engine", "in-process"].as_slice()), ("full", &["--full"])] {
        let copied =
            std::process::Command::new("cp").arg("-r").arg(project.path("lake")).arg(project.path(lake)).status();
        assert!(copied.expect("cp starts").success());
        project.ok(&[&["run", "--as-of", "2026-01-03", "--lake", lake], further].concat());
    }
    let done = project.tessera(&["run", "--as-of", "2026-01-03"]);
    assert!(done.code == 0 && done.stderr.contains("a model is looked for: customers have changed in "), "{done:?}");
    let expect = project.fingerprints("2026-01-03", &[]);
    for lake in ["cluster", "full"] {
        assert_eq!(project.fingerprints("2026-01-03", &["--lake", lake]), expect, "{lake}");
    }
    assert_eq!(
        of("SELECT event, count(*) AS n FROM segment_lineage GROUP BY event ORDER BY event", "2026-01-03"),
        "event,n\nborn,1\ncarried,3\n"
    );
    assert_eq!(of("SELECT cause, count(*) AS n FROM segment_moves GROUP BY cause", "2026-01-03"), "cause,n\nnew,60\n");

    // What is looked for is another; what follows from that is said.
    let done = project.tessera(&["run", "--as-of", "2026-01-04", "--set", "segmentation.approach=rfm"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        complaint(&done).contains("no approach that the project allows finds segments: nobody has a value"),
        "{done:?}"
    );
    let done = project.tessera(&["run", "--as-of", "2026-01-04", "--set", "segmentation.seed=7"]);
    assert!(done.code == 0 && done.stderr.contains("is defined otherwise than for the model in use"), "{done:?}");
    let done = project.tessera(&["run", "--as-of", "2026-01-05", "--set", "segmentation.approaches=[\"kmean\"]"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(
        complaint(&done).contains("`kmean` is neither an algorithm nor enabled rules; known are kmeans, "),
        "{done:?}"
    );

    // What a gate means, and how far it is.
    let told = project.ok(&["explain", "gate", "share", "--as-of", "2026-01-02"]);
    assert!(
        told.contains("asks for  at least 0.01 (validation.gates.share); it holds the night") && told.contains("+0.3"),
        "{told}"
    );
    assert!(project.ok(&["explain", "gate", "rows_kept"]).contains("(quality.checks.rows_kept)"));
    let unknown = project.tessera(&["explain", "gate", "shares"]);
    assert!(
        unknown.code == 2 && complaint(&unknown).contains("there is no gate `shares`; there are silhouette"),
        "{unknown:?}"
    );
    project.ok(&["snapshots", "verify"]);
}

/// 120 orders on each of some days, three channels.
fn day(day: u32, line: impl Fn(u32) -> Option<(&'static str, u32, u32)>) -> String {
    let mut text = String::from("order_id,customer_id,ordered_at,quantity,unit_price,channel\n");
    for i in 0..120 {
        let Some((channel, quantity, price)) = line(i) else { continue };
        text.push_str(&format!(
            "O{day}-{i},C{},2025-12-{day:02} 10:00:00,{quantity},{price}.50,{channel}\n",
            (i * 7 + day) % 50
        ));
    }
    text
}

fn usual(i: u32) -> Option<(&'static str, u32, u32)> {
    Some((["web", "store", "app"][(i % 3) as usize], 1 + i % 3, 5 + i % 9))
}

/// One bad file of one day: the night is held and says why, what was published stays, and the next good night is published.
#[test]
fn a_poisoned_night_is_held_and_the_next_good_one_is_not() {
    type Poison = fn(u32) -> Option<(&'static str, u32, u32)>;
    let poisons: [(&str, Poison); 5] = [
        ("transactions have 60 rows on 2025-12-30, where 120 are usual", |i| usual(i).filter(|_| i % 2 == 0)),
        ("the middle row of transactions has an amount of ", |i| usual(i).map(|(c, q, p)| (c, 100 * q, p))),
        ("channel \"app\" has 0 rows on 2025-12-30, where ", |i| usual(i).map(|(_, q, p)| ("web", q, p))),
        ("unit_price is the same in all 120 rows of 2025-12-30", |i| usual(i).map(|(c, q, _)| (c, q, 7))),
        ("channel \"app\" has 0 rows on 2025-12-30, where ", |i| {
            usual(i).map(|(c, q, p)| (if c == "app" { "web" } else { c }, q, p))
        }),
    ];
    let project = Project::new(
        "[sources.transactions]\nurl = \"orders/\"\n[segmentation]\nmin_k = 2\nmax_k = 4\n[validation.gates.silhouette]\nat_least = -1.0\n[validation.gates.variance_between_share]\nat_least = 0.0\n",
    );
    (1..30).for_each(|d| project.write(&format!("orders/{d:02}.csv"), day(d, usual)));
    project.ok(&["run", "--as-of", "2025-12-30"]);
    let current = "SELECT count(*) AS n FROM segments WHERE as_of = '2025-12-30'";
    let published = project.sql(current);
    for (told, poison) in poisons {
        project.write("orders/30.csv", day(30, poison));
        let done = project.tessera(&["run", "--as-of", "2025-12-31"]);
        assert!(done.code == 3 && complaint(&done).contains(told), "{told}: {done:?}");
        assert_eq!(project.sql(current), published);
    }
    project.write("orders/30.csv", day(30, usual));
    project.ok(&["run", "--as-of", "2025-12-31"]);
    project.write("orders/31.csv", day(31, usual));
    project.ok(&["run", "--as-of", "2026-01-01"]);
    project.ok(&["snapshots", "verify"]);
}

/// The rules are SQL that places everybody, as many elsewhere as is said, and nobody of few is a rule.
#[test]
fn rules_say_who_is_where_and_what_that_costs() {
    let project = generated(1500, &[]);
    project.ok(&["run", "--as-of", "2026-01-01"]);
    let one = |query: &str| -> Vec<f64> {
        let answer = project.ok(&["sql", query, "--as-of", "2026-01-01", "--format", "csv"]);
        let cells = answer.lines().nth(1).unwrap_or_default().split(',');
        cells.map(|cell| cell.parse().expect("a number")).collect()
    };
    let rules = project.ok(&["segments", "export", "--as", "sql"]);
    let query = rules.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let placed = one(&format!(
        "SELECT count(*), sum(CASE WHEN p.segment_id = s.segment_id THEN 0 ELSE 1 END), sum(CASE WHEN p.segment_id IS NULL THEN 1 ELSE 0 END) \
         FROM ({query}) AS p JOIN segments AS s ON s.customer_key = p.customer_key"
    ));
    let said = one(
        "SELECT sum(customers), sum(customers - members), max(elsewhere), min(elsewhere), min(customers), count(*) FROM segment_rules",
    );
    let everybody = one("SELECT count(*), count(DISTINCT segment_id) FROM segments");
    assert_eq!([placed[0], placed[1], placed[2]], [said[0], said[1], 0.0], "{query}");
    assert!(said[0] == everybody[0] && said[4] >= 5.0 && said[5] <= 2.0 * everybody[1], "{said:?} {everybody:?}");
    assert!((said[2] - said[1] / said[0]).abs() < 1e-12 && said[2] == said[3] && said[2] < 0.3, "{said:?}");
    let told = project.ok(&["segments", "export", "--as", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("one document");
    assert_eq!(told["rules"].as_array().map(|rules| rules.len() as f64), Some(said[5]), "{told}");
    assert!(project.ok(&["segments", "export", "--as", "rules"]).contains("% of the customers elsewhere"));
}
