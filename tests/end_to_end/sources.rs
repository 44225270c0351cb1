//! Sources of several files, feeds and queries.

use crate::project::{Project, lines};

const NIGHT: [&str; 3] = ["run", "--as-of", "2026-01-01"];
const TUNING: &str = "[segmentation]\nmin_k = 2\nmax_k = 4\nk = 2\n";

/// The shop's lines as two files: the items, and the orders with who placed them and when.
fn orders_and_items() -> (String, String) {
    let (mut orders, mut items) =
        (String::from("no;who;at\n"), String::from("no;pos;quantity;unit_price;category;channel\n"));
    let mut last = String::new();
    for (at, line) in lines().lines().skip(1).enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        if cells[0] != last {
            last = cells[0].to_owned();
            orders.push_str(&format!("{};{};{}\n", cells[0], cells[1], cells[2]));
        }
        items.push_str(&format!("{};{at};{}\n", cells[0], cells[3..].join(";")));
    }
    (orders, items)
}

#[test]
fn a_query_over_files_is_a_source() {
    let (orders, items) = orders_and_items();
    let text = format!(
        "[files.orders]\nurl = \"orders/\"\n[files.items]\nurl = \"items.csv\"\n[sources.transactions]\n\
         query = \"SELECT i.*, o.who AS customer_id, o.at AS ordered_at FROM items AS i JOIN orders AS o ON i.no = o.no\"\n\
         columns = {{ order_id = \"no\", line_id = \"pos\" }}\n{TUNING}"
    );
    let project = Project::new(&text);
    project.write("orders/2025.csv", orders);
    project.write("items.csv", format!("{items}O9999;short\n"));
    let checked = project.ok(&["check"]);
    assert!(checked.contains("order_id") && checked.contains("every source opens"), "{checked}");
    project.ok(&NIGHT);

    let plain = Project::shop();
    plain.ok(&[&NIGHT[..], &["--set", "segmentation.k=2"]].concat());
    let sums = "SELECT count(*), sum(amount), count(DISTINCT order_id), min(ordered_at) FROM clean_transactions";
    assert_eq!(project.sql(sums), plain.sql(sums));
    let segments = |project: &Project| project.fingerprints("2026-01-01", &[])["segments"].clone();
    assert_eq!(segments(&project), segments(&plain));
    // A line that no query could read is set aside as what it is.
    let broken = project.sql("SELECT rule, defect, record FROM quarantine");
    assert!(broken.starts_with("malformed,ragged: 2 fields where the header has 6,"), "{broken}");
    let row = items.lines().count();
    assert!(
        broken.contains("items.csv")
            && broken.contains(&format!("\"\"source_row\"\":\"\"{row}\"\""))
            && broken.contains("O9999"),
        "{broken}"
    );
    let balance = "SELECT rows_in - rows_clean - rows_quarantined FROM ledger WHERE step = 0";
    assert_eq!(project.sql(balance).trim(), "0");

    // The same rows by other plans have the same numbers.
    let rows = |project: &Project| project.sql("SELECT file, \"row\", rule FROM quarantine");
    let before = (project.fingerprints("2026-01-01", &[]), rows(&project));
    project.ok(&[&NIGHT[..], &["--force", "--set", "engine.partitions=5"]].concat());
    assert_eq!((project.fingerprints("2026-01-01", &[]), rows(&project)), before);

    let done =
        project.tessera(&["run", "--as-of", "2026-01-02", "--set", "sources.transactions.query=SELECT * FROM itms"]);
    assert_eq!(done.code, 2);
    assert!(
        done.stderr.contains("sources.transactions.query: the query reads `itms`, but there is no [files.itms]; known are `orders`, `items`"),
        "{done:?}"
    );
}

/// Two feeds of orders, of which one has new files on the second night: chained, the answer is that of a full night.
#[test]
fn feeds_go_on_from_night_to_night() {
    let text = format!(
        "[sources.transactions.shop]\nurl = \"shop.csv\"\n[sources.transactions.web]\nurl = \"web/\"\n\
         columns = {{ order_id = \"nr\", country = \"country\" }}\n{TUNING}"
    );
    let project = Project::new(&text);
    let all = lines();
    let (header, body) = all.split_once('\n').expect("a header");
    let body: Vec<&str> = body.lines().collect();
    let (shop, web) = body.split_at(body.len() / 2);
    let (early, late) = web.split_at(web.len() / 2);
    let file = |header: &str, lines: &[&str]| format!("{header}\n{}\n", lines.join("\n"));
    let web_header = header.replace("order_id", "nr");
    project.write("shop.csv", file(header, shop));
    project.write("web/country=de/1.csv", file(&web_header, early));
    // One that waits for its day, and one of nobody.
    project.write(
        "web/country=fr/2.csv",
        file(&web_header, &["W1,C001,2026-01-01 10:00:00,1,5.00,toys,web", "W2,,2025-05-05,1,5.00,toys,web"]),
    );
    project.ok(&NIGHT);
    let by_feed = "SELECT feed, count(*), sum(rows) FROM inputs GROUP BY 1 ORDER BY 1";
    assert_eq!(project.sql(by_feed), format!("shop,1,{}\nweb,2,{}\n", shop.len(), early.len() + 2));
    assert_eq!(
        project.sql("SELECT source, feed, \"row\", rule FROM quarantine"),
        "transactions,web,2,missing_customer\n"
    );
    let countries = "SELECT country, count(*) FROM clean_transactions GROUP BY 1 ORDER BY 1 NULLS LAST";
    assert_eq!(project.sql(countries), format!("de,{}\n,{}\n", early.len(), shop.len()));

    project.write("web/country=de/3.csv", file(&web_header, late));
    let night = ["run", "--as-of", "2026-01-02"];
    let done = project.tessera(&night);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("transactions: 1 new of 4 files"), "{}", done.stderr);
    let chained = project.fingerprints("2026-01-02", &[]);
    assert_eq!(project.sql(countries), format!("de,{}\nfr,1\n,{}\n", web.len(), shop.len()));
    project.ok(&[&night[..], &["--full", "--force"]].concat());
    assert_eq!(project.fingerprints("2026-01-02", &[]), chained);
}

/// A messy German export, from its files to a published night: `init --from`, two edits, `check`, `run`.
#[test]
fn a_german_export_takes_two_edits_and_two_commands() {
    let latin = |text: &str| text.chars().map(|c| u8::try_from(c as u32).expect("Latin-1")).collect::<Vec<_>>();
    let project = Project::new("");
    std::fs::remove_file(project.path("tessera.toml")).expect("removes");
    let mut months = vec![String::from("Beleg-Nr;Kundennummer;Datum;Menge;Einzelpreis;Warengruppe;Kanal\r\n"); 13];
    for line in lines().lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let (date, _) = cells[2].split_once(' ').expect("a time");
        let parts: Vec<&str> = date.split('-').collect();
        let month: usize = parts[1].parse().expect("a month");
        let price = cells[4].replace('.', ",");
        months[month].push_str(&format!(
            "{};{};{}.{}.{};{};{price};{};{}\r\n",
            cells[0],
            cells[1],
            parts[2],
            parts[1],
            parts[0],
            cells[3],
            cells[5].replace("books", "Bücher"),
            cells[6]
        ));
    }
    (1..=12).for_each(|m| project.write(&format!("export/umsatz-{m:02}.csv"), latin(&months[m])));
    let mut people = String::from("Kundennr;Vorname;Mail-Adresse;PLZ;Geburtsdatum;Kunde seit\r\n");
    (0..60).for_each(|i| {
        people.push_str(&format!(
            "C{i:03};Jörg;kunde{i}@example.de;{};{:02}.03.19{};01.01.2024\r\n",
            50_000 + i,
            1 + i % 28,
            50 + i % 40
        ))
    });
    project.write("export/kunden.csv", latin(&people));
    project.write("export/anzeigen.csv", latin("Kosten für Anzeigen\r\nKonto 12; Währung: EUR\r\n\r\nTag;Plattform;Kosten\r\n01.12.2025;Suche;1.200,50\r\n02.12.2025;Soziale;3,00\r\n03.12.2025;Suche;8,00\r\n04.12.2025;Suche;8,00\r\n05.12.2025;Suche;8,00\r\n"));

    let told =
        project.ok(&["init", "shop", "--from", "export/umsatz-*.csv", "export/kunden.csv", "export/anzeigen.csv"]);
    for expect in [
        "umsatz-*.csv as transactions, 7 columns\n",
        "kunden.csv as customers, 6 columns\n",
        "anzeigen.csv as marketing_costs, 3 columns\n",
    ] {
        assert!(told.contains(expect), "{told}");
    }
    let text = std::fs::read_to_string(project.path("shop/tessera.toml")).expect("reads");
    assert!(text.matches("# guess").count() > 15, "{text}");
    // The two edits: the zone, and how many segments so small a shop may have.
    let edited =
        text.replace("timezone = \"UTC\"", "timezone = \"Europe/Berlin\"") + "[segmentation]\nmin_k = 2\nmax_k = 4\n";
    project.write("shop/tessera.toml", edited);
    let checked = project.ok(&["check", "--project", "shop/tessera.toml"]);
    assert!(
        checked.contains("the project file is valid and every source opens") && !checked.contains("look at"),
        "{checked}"
    );
    project.ok(&["run", "--as-of", "2026-01-01", "--project", "shop/tessera.toml"]);
    let sql =
        |query: &str| project.ok(&["sql", query, "--project", "shop/tessera.toml", "--format", "csv", "--restricted"]);
    let plain = Project::shop();
    plain.ok(&NIGHT);
    let sums = "SELECT count(*), sum(amount), count(DISTINCT order_id) FROM clean_transactions";
    assert_eq!(sql(sums).lines().nth(1), plain.sql(sums).lines().next());
    assert_eq!(sql("SELECT count(*) FROM quarantine").trim(), "count(*)\n0");
    assert_eq!(
        sql("SELECT count(*) FROM clean_transactions WHERE category = 'Bücher'").trim(),
        sql("SELECT count(*) FROM clean_transactions WHERE category LIKE 'B%'").trim()
    );
    assert_eq!(
        sql("SELECT sum(amount) FROM clean_marketing_costs").trim(),
        "sum(clean_marketing_costs.amount)\n1227.5000"
    );
    assert_eq!(
        sql("SELECT count(birth_date), min(signup_at) FROM clean_customers").lines().nth(1),
        Some("60,2023-12-31T23:00:00Z")
    );
}

/// What is not understood is told before a night is run, all at once, with what may help.
#[test]
fn check_looks_at_the_first_rows() {
    let text = format!(
        "[sources.transactions]\nurl = \"orders.csv\"\n[sources.transactions.columns]\nordered_at = \"day\"\nunit_price = \"price\"\n{TUNING}"
    );
    let project = Project::new(&text);
    project.write("orders.csv", "order_id;customer_id;day;quantity;price\nO1;C1;31.01.2025;1;1.234,50\nO2;C2;01.02.2025;2;2,50\nO3;C3;01.02.2035;2;3\n");
    let checked = project.ok(&["check"]);
    for expect in [
        "looked at 3 rows",
        "look at ordered_at: 3 of 3 values could not be read; set date_formats = [\"%d.%m.%Y\"]?",
        "look at unit_price: 2 of 3 values could not be read; set decimal = \",\", thousands = \".\"?",
    ] {
        assert!(checked.contains(expect), "{checked}");
    }
    let mended = text.replace(
        "[sources.transactions.columns]",
        "date_formats = [\"%d.%m.%Y\"]\ndecimal = \",\"\nthousands = \".\"\n[sources.transactions.columns]",
    );
    project.write("tessera.toml", mended.replace("\"price\"", "\"prize\"").replace("\"day\"", "\"dai\""));
    let done = project.tessera(&["check"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("has no column dai") && done.stderr.contains("has no column prize"), "{done:?}");
    project.write("tessera.toml", mended);
    let checked = project.ok(&["check"]);
    assert!(
        checked.contains("ordered_at: 1 rows are in the future") && checked.contains("2.5000 … 1234.5000"),
        "{checked}"
    );
}

/// People without a purchase are segmented, if they are the population.
#[test]
fn everybody_is_the_population() {
    let text = "[sources.customers]\nurl = \"people.csv\"\ncolumns = { visits = \"visits\" }\ntypes = { visits = \"integer\" }\n\
                [features.visits_a_month]\ncriterion = \"behavioural\"\nover = \"customers\"\nexpression = \"visits\"\nunit = \"visits\"\ndescription = \"Visits\"\n\
                [segmentation]\npopulation = \"customers\"\nfeatures = [\"visits_a_month\", \"age_years\"]\norder_by = \"visits_a_month\"\nmin_k = 2\nmax_k = 4\n";
    let project = Project::new(text);
    let mut people = String::from("customer_id,birth_date,visits\n");
    (0..60).for_each(|i| {
        people.push_str(&format!("P{i},19{}-05-05,{}\n", 50 + (i % 3) * 15 + i % 4, (i % 3) * 10 + i % 5))
    });
    project.write("people.csv", people);
    project.ok(&NIGHT);
    assert_eq!(project.sql("SELECT count(*), count(visits_a_month), count(frequency) FROM features"), "60,60,0\n");
    assert_eq!(
        project.sql("SELECT value, state FROM kpis WHERE kpi = 'customers' AND segment_id IS NULL"),
        "60.0,ok\n"
    );
    assert_eq!(project.sql("SELECT DISTINCT state FROM kpis WHERE kpi = 'revenue'"), "not_available\n");
}
