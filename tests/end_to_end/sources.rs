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
    let done = project.tessera(&["check"]);
    assert!(
        done.code == 2
            && done
                .stderr
                .contains("of transactions.ordered_at, transactions.unit_price more than a quarter of the values"),
        "{done:?}"
    );
    let checked = done.stdout;
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
                [segmentation]\npopulation = \"customers\"\nfeatures = [\"visits_a_month\", \"age_years\"]\nobjectives.value = \"visits_a_month\"\nmin_k = 2\nmax_k = 4\n";
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

/// Orders that carry their lines, as shops' interfaces write them, are lines by a query; an export in another currency is converted by
/// a table of rates.
#[test]
fn lists_become_lines_and_rates_convert() {
    let text = format!(
        "[files.orders]\nurl = \"orders.ndjson\"\n[files.rates]\nurl = \"rates.csv\"\n[sources.transactions]\nquery = \"\"\"\n\
         SELECT o.id, o.customer_id, o.day, json_text(o.item, 'sku') AS sku, json_text(o.item, 'qty') AS quantity,\n\
         CAST(json_text(o.item, 'price') AS DECIMAL(18, 4)) * CAST(r.rate AS DECIMAL(18, 8)) AS unit_price\n\
         FROM (SELECT id, json_text(who, 'no') AS customer_id, day, currency, unnest(json_list(lines, 'items')) AS item FROM orders) AS o\n\
         LEFT JOIN rates AS r ON o.currency = r.currency\"\"\"\n\
         columns = {{ order_id = \"id\", ordered_at = \"day\", product_id = \"sku\" }}\n{TUNING}"
    );
    let project = Project::new(&text);
    let mut orders = String::new();
    for i in 0..40 {
        let currency = if i % 2 == 0 { "EUR" } else { "SEK" };
        let second = if i % 4 == 0 { String::new() } else { r#", {"sku": "B", "qty": 2, "price": "3.50"}"#.to_owned() };
        orders.push_str(&format!(
            "{{\"id\": {i}, \"who\": {{\"no\": \"C{}\"}}, \"day\": \"2025-0{}-11\", \"currency\": \"{currency}\", \"lines\": {{\"items\": [{{\"sku\": \"A\", \"qty\": 1, \"price\": 10}}{second}]}}}}\n",
            i % 10,
            1 + i % 9
        ));
    }
    orders.push_str("{\"id\": 99, \"who\": {\"no\": \"C1\"}, \"day\": \"2025-03-01\", \"currency\": \"EUR\", \"lines\": {\"items\": []}}\n");
    project.write("orders.ndjson", orders);
    project.write("rates.csv", "currency,rate\nEUR,1\nSEK,0.1\n");
    project.ok(&[&NIGHT[..], &["--set", "validation.gates.customers.required=false"]].concat());
    // 20 orders in either currency; 30 of the 40 have a second line, all 20 in crowns and 10 of the others.
    assert_eq!(
        project.sql("SELECT count(*), sum(amount), count(DISTINCT order_id) FROM clean_transactions"),
        "70,304.000000,40\n"
    );
}

/// A folder of different exports becomes a source each; what looks like nothing is there for queries.
#[test]
fn a_folder_of_different_exports_is_told_apart() {
    let project = Project::new("");
    project
        .write("export/orders_1.csv", "order_id,customer_id,ordered_at,quantity,unit_price\nO1,C1,2025-01-01,1,2.50\n");
    project
        .write("export/orders_2.csv", "order_id,customer_id,ordered_at,quantity,unit_price\nO2,C1,2025-02-01,1,2.50\n");
    project.write("export/clients.csv", "customer_id,email,birth_date\nC1,a@example.com,1980-01-01\n");
    project.write("export/weather.csv", "station;pressure\nX;1013\n");
    let told = project.ok(&["init", "made", "--from", "export"]);
    let made = std::fs::read_to_string(project.path("made/tessera.toml")).expect("a project");
    assert!(made.contains("[sources.transactions]") && made.contains("/export/orders_*.csv"), "{told}{made}");
    assert!(made.contains("[sources.customers]") && made.contains("/export/clients.csv"), "{made}");
    assert!(made.contains("[files.weather]") && told.contains("weather.csv"), "{told}{made}");
    project.ok(&["check", "--project", "made/tessera.toml"]);
}
