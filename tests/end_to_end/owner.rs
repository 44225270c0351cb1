//! The owner of a shop's files, who does to them from night to night what owners do: adds, repeats, restates, removes.

use std::collections::BTreeMap;

use crate::project::Project;

/// Numbers that are the same on every machine (SplitMix64).
pub struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// All kinds of features over four sources, and gates that let every night pass.
pub const PROJECT: &str = r#"
[project]
timezone = "Europe/Berlin"
[sources.customers]
url = "customers/"
[sources.transactions]
url = "orders/"
[sources.interactions]
url = "visits/"
[sources.campaign_contacts]
url = "contacts/"
[quality.checks]
files_gone.required = false
quarantined_share.required = false
quarantined_share_of_new.required = false
quarantined_share_of_file.required = false
rows_kept.required = false
amount_kept.required = false
freshness.required = false
recent_rows.required = false
recent_revenue.required = false
[segmentation]
k = 2
features = ["recency_days", "frequency", "monetary", "order_gap_mean_days", "last_channel", "country", "toys_before"]
[validation.gates]
silhouette = { at_least = -1.0, required = false }
variance_between_share = { at_least = 0.0, required = false }
share = { at_least = 0.0, required = false }
customers = { at_least = 0, required = false }
[features.largest_line]
criterion = "behavioural"
over = "transactions"
expression = "max(amount) FILTER (WHERE purchase)"
type = "money"
unit = "currency"
description = "Most expensive line"
[features.mean_line]
criterion = "behavioural"
over = "transactions"
expression = "avg(amount) FILTER (WHERE purchase)"
type = "money"
unit = "currency"
description = "Mean line"
[features.products]
criterion = "behavioural"
over = "transactions"
expression = "count(DISTINCT product_id) FILTER (WHERE purchase AND ordered_at >= as_of - INTERVAL '40 days')"
type = "integer"
unit = "products"
description = "Different products of the last 40 days"
[features.last_channel]
criterion = "behavioural"
over = "transactions"
expression = "first_value(channel ORDER BY ordered_at DESC, order_id, product_id, quantity, unit_price)"
type = "text"
unit = "channel"
description = "Channel of the last line: needs all rows"
[features.country]
enabled = true
[features.toys_before]
criterion = "behavioural"
over = "transactions"
expression = "CAST(sum(amount) FILTER (WHERE purchase AND category = 'toys') AS DOUBLE) / nullif(count(*), 0)"
window = "5 weeks"
lag = "10 days"
unit = "currency per line"
winsorise = 0.05
impute = "median"
description = "Toys of the five weeks that ended ten days before the night, per line"
[features.visits_lately]
criterion = "behavioural"
over = "interactions"
expression = "count(*)"
window = "21 days"
type = "integer"
unit = "visits"
consent = "consent_profiling"
description = "Visits of three weeks"
[features.visits]
criterion = "behavioural"
over = "interactions"
expression = "count(*)"
type = "integer"
unit = "visits"
missing = "0"
description = "Visits ever"
[features.responses]
criterion = "behavioural"
over = "campaign_contacts"
expression = "count(responded_at)"
type = "integer"
unit = "responses"
missing = "0"
description = "Responses ever"
"#;

/// The folder of sources, as its owner changes it from night to night.
pub struct Owner<'a> {
    project: &'a Project,
    chance: Chance,
    /// The day, counted from 2025-01-01.
    pub day: u64,
    /// Customer number → rows of the customers' dump.
    pub customers: BTreeMap<u64, String>,
    /// Lines of order files that were written, to be repeated.
    lines: Vec<String>,
    pub files: Vec<String>,
    written: usize,
    orders: u64,
    pub log: Vec<String>,
}

/// The date of a day, counted from 2025-01-01.
pub fn date(day: u64) -> String {
    let days = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let (mut month, mut rest) = (0, day);
    while rest >= days[month] {
        rest -= days[month];
        month += 1;
    }
    format!("2025-{:02}-{:02}", month + 1, rest + 1)
}

impl<'a> Owner<'a> {
    pub fn new(project: &'a Project, seed: u64) -> Self {
        let mut owner = Self {
            project,
            chance: Chance(seed),
            day: 100,
            customers: BTreeMap::new(),
            lines: Vec::new(),
            files: Vec::new(),
            written: 0,
            orders: 0,
            log: Vec::new(),
        };
        for number in 0..40 {
            owner.sign_up(number);
        }
        owner.orders(100, 160, "");
        owner.others(40);
        owner.dump();
        owner
    }

    pub fn sign_up(&mut self, number: u64) {
        // Some in the days to come, and some more than once: written anew since, or on a day to come.
        let mut rows = Vec::new();
        let times = if self.chance.one_in(4) { 2 + self.chance.below(2) } else { 1 };
        for place in 0..times {
            let at = self.chance.below(self.day + 4);
            let written = match self.chance.below(3) {
                0 => String::new(),
                1 => date(at),
                _ => date(self.day.saturating_sub(2) + self.chance.below(14)),
            };
            let consent = !self.chance.one_in(12);
            let at = date(at);
            rows.push(format!("c{number:03},c{number}.{place}@example.com,DE,{at},{written},{consent}"));
        }
        self.customers.insert(number, rows.join("\n"));
    }

    /// One file with lines of the last `span` days and, now and then, of days to come.
    pub fn orders(&mut self, span: u64, count: u64, note: &str) {
        let mut lines: Vec<String> = Vec::new();
        for _ in 0..count {
            if !self.lines.is_empty() && self.chance.one_in(15) {
                // The same line again, from any earlier file.
                let at = self.chance.below(self.lines.len() as u64) as usize;
                lines.push(self.lines[at].clone());
                continue;
            }
            self.orders += u64::from(!self.chance.one_in(3));
            let ahead = if self.chance.one_in(12) { self.chance.below(12) } else { 0 };
            let day = (self.day + ahead).saturating_sub(self.chance.below(span));
            // One in ten belongs to somebody who is not there yet, or never will be.
            let customer = match self.chance.one_in(10) {
                true => 40 + self.chance.below(20),
                false => self.chance.below(40),
            };
            let quantity = if self.chance.one_in(9) { -1 } else { 1 + self.chance.below(4) as i64 };
            let price = if self.chance.one_in(20) { 0 } else { 100 + self.chance.below(9_000) };
            // More digits than a price keeps: only told, of clean rows and of others.
            let further = if self.chance.one_in(10) { "004" } else { "" };
            let id = if self.chance.one_in(30) { String::new() } else { format!("c{customer:03}") };
            lines.push(format!(
                "O{:05},{id},{} {:02}:{:02}:00,P{},{},{quantity},{}.{:02}{further},{}\n",
                self.orders,
                date(day),
                self.chance.below(24),
                self.chance.below(60),
                self.chance.below(9),
                ["toys", "books", "garden"][self.chance.below(3) as usize],
                price / 100,
                price % 100,
                ["web", "store"][self.chance.below(2) as usize],
            ));
        }
        let twice = lines.first().cloned();
        lines.extend(twice);
        self.written += 1;
        let name = format!("orders/f{:03}{note}.csv", self.written);
        self.write_orders(&name, &lines);
        self.files.push(name);
        self.lines.extend(lines);
    }

    fn write_orders(&self, name: &str, lines: &[String]) {
        let header = "order_id,customer_id,ordered_at,product_id,category,quantity,unit_price,channel\n";
        self.project.write(name, header.to_owned() + &lines.concat());
    }

    /// Visits and contacts, some of whose answers are still to come.
    pub fn others(&mut self, count: u64) {
        self.written += 1;
        let mut visits = "customer_id,occurred_at,kind\n".to_owned();
        let mut contacts = "campaign_id,customer_id,contacted_at,responded_at,cost\n".to_owned();
        for _ in 0..count {
            let (customer, day) = (self.chance.below(45), self.day.saturating_sub(self.chance.below(20)));
            visits.push_str(&format!("c{customer:03},{} 10:00:00,visit\n", date(day)));
            let answer = date(day + self.chance.below(15));
            contacts.push_str(&format!("M1,c{customer:03},{} 09:00:00,{answer} 12:00:00,0.5\n", date(day)));
        }
        self.project.write(&format!("visits/v{:03}.csv", self.written), visits);
        self.project.write(&format!("contacts/k{:03}.csv", self.written), contacts);
    }

    pub fn dump(&self) {
        let mut text = "customer_id,email,country,signup_at,updated_at,consent_profiling\n".to_owned();
        self.customers.values().for_each(|row| text.push_str(&format!("{row}\n")));
        self.project.write("customers/dump.csv", text);
    }

    /// A day or more, and what happens in it.
    pub fn passes(&mut self) {
        self.day += 1 + self.chance.below(9);
        self.log.clear();
        for _ in 0..1 + self.chance.below(3) {
            let what = self.chance.below(10);
            match what {
                0 => {
                    self.log.push("a late file".into());
                    self.orders(60, 10, "-late");
                }
                1 => {
                    // Some of its lines are others now.
                    let at = self.chance.below(self.files.len() as u64) as usize;
                    let name = self.files[at].clone();
                    let text = std::fs::read_to_string(self.project.path(&name)).expect("a file");
                    let mut lines: Vec<String> = text.lines().skip(1).map(|l| format!("{l}\n")).collect();
                    lines.pop();
                    self.write_orders(&name, &lines);
                    self.log.push(format!("{name} restated"));
                }
                2 if self.files.len() > 2 => {
                    let at = self.chance.below(self.files.len() as u64) as usize;
                    let name = self.files.remove(at);
                    std::fs::remove_file(self.project.path(&name)).expect("removes");
                    self.log.push(format!("{name} vanished"));
                }
                3 => {
                    let number = 40 + self.chance.below(20);
                    self.sign_up(number);
                    self.log.push(format!("c{number:03} becomes known"));
                }
                4 => {
                    let number = self.chance.below(40);
                    if let Some(row) = self.customers.get_mut(&number) {
                        *row = row.replace(",true", ",false");
                        self.log.push(format!("c{number:03} withdraws consent"));
                    }
                }
                5 if self.customers.len() > 30 => {
                    let number = self.chance.below(60);
                    self.customers.remove(&number);
                    self.log.push(format!("c{number:03} is gone"));
                }
                6 => {
                    // A second row of somebody, written later.
                    let number = self.chance.below(40);
                    if let Some(row) = self.customers.get(&number).cloned() {
                        let other = row.replace(",DE,", ",AT,");
                        self.customers.insert(number + 1_000, other);
                        self.log.push(format!("c{number:03} has a second row"));
                    }
                }
                7 => self.log.push("nothing".into()),
                _ => {
                    self.log.push("new orders".into());
                    self.orders(5, 20, "");
                    self.others(6);
                }
            }
        }
        self.dump();
    }
}
