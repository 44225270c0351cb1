//! A change in words: nothing but what the rows of `kpi_changes` and `causes` say.

use anyhow::Result;
use datafusion::arrow::array::RecordBatch;
use tessera_contract::Project;

use crate::{
    chain::{floats, texts},
    show::{in_unit, printable},
};

/// A term of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    pub term: String,
    pub detail: Option<String>,
    pub contribution: f64,
}

/// The change of a KPI since an earlier night, taken apart by people.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub kpi: String,
    pub unit: String,
    pub since: String,
    pub from: f64,
    pub to: f64,
    pub terms: Vec<Term>,
}

/// The query of changes by people, of the rows of `kpi_changes` of which a condition is true.
pub fn query(condition: &str) -> String {
    format!(
        "SELECT kpi, CAST(versus_as_of AS VARCHAR) AS since, term, detail, contribution, \"from\", \"to\" FROM kpi_changes \
         WHERE split = 'people' AND {condition} ORDER BY kpi, since, step"
    )
}

/// The changes that it finds, if both values are known.
pub fn changes(batches: &[RecordBatch], project: &Project) -> Result<Vec<Change>> {
    let mut changes: Vec<Change> = Vec::new();
    for batch in batches {
        let (kpis, since, terms, details) = (texts(batch, 0)?, texts(batch, 1)?, texts(batch, 2)?, texts(batch, 3)?);
        let (contributions, from, to) = (floats(batch, 4)?, floats(batch, 5)?, floats(batch, 6)?);
        for row in 0..batch.num_rows() {
            let (Some(kpi), Some(since), Some(term)) = (&kpis[row], &since[row], &terms[row]) else { continue };
            let (Some(contribution), Some(from), Some(to)) = (contributions[row], from[row], to[row]) else { continue };
            let term = Term { term: term.clone(), detail: details[row].clone(), contribution };
            match changes.last_mut().filter(|change| change.kpi == *kpi && change.since == *since) {
                Some(change) => {
                    change.to = to;
                    change.terms.push(term);
                }
                None => {
                    let unit = project.kpis.get(kpi).map(|kpi| kpi.unit.clone()).unwrap_or_default();
                    let terms = vec![term];
                    changes.push(Change { kpi: kpi.clone(), unit, since: since.clone(), from, to, terms });
                }
            }
        }
    }
    Ok(changes)
}

/// What a term is, for people.
pub fn label(term: &str, detail: Option<&str>) -> String {
    let of = |text: &str| match detail {
        None => text.to_owned(),
        Some("data") => format!("{text}, whose data changed"),
        Some("refit") => format!("{text}, by the new model"),
        Some("released") => format!("{text}, no longer held by the old model"),
        Some(other) => format!("{text}: {}", other.replace('_', " ")),
    };
    match term {
        "restated" => "rows that came late or were restated".to_owned(),
        "identity" => "accounts that are part of another customer now".to_owned(),
        "new" => "new customers".to_owned(),
        "left" => "customers who left".to_owned(),
        "moved_in" => of("customers who came from other segments"),
        "moved_out" => of("customers who went to other segments"),
        "behaviour" => of("customers known before"),
        "withheld" => "what too few people are behind to tell by itself".to_owned(),
        other => of(other),
    }
}

/// A cause of a change, or a place where it happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub kpi: String,
    pub finding: String,
    pub dimensions: Vec<String>,
    pub contribution: f64,
    pub change: Option<f64>,
    pub recurrence: Option<f64>,
    /// The night since which it was found on every one, if it was not this one.
    pub since: Option<String>,
    /// How often it began in a quarter, if it began on this night.
    pub occurrences: Option<f64>,
    /// How the cause is called.
    pub id: Option<String>,
}

/// The query of the causes of changes, of the rows of `causes` of which a condition is true: what is found, then what is not found anywhere. `ids`: whether they have any.
pub fn places_query(condition: &str, ids: bool) -> String {
    let id = if ids { "cause_id" } else { "NULL AS cause_id" };
    format!(
        "SELECT kpi, finding, array_to_string(dimensions, '\u{1f}') AS dimensions, contribution, change, bootstrap_share, \
         CAST(CASE WHEN since < as_of THEN since END AS VARCHAR) AS since, CASE WHEN since = as_of THEN occurrences END AS occurrences, {id} FROM causes \
         WHERE contribution IS NOT NULL AND {condition} ORDER BY kpi, rank NULLS LAST, finding"
    )
}

/// The places that it finds.
pub fn places(batches: &[RecordBatch]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for batch in batches {
        let (kpis, findings, dimensions) = (texts(batch, 0)?, texts(batch, 1)?, texts(batch, 2)?);
        let (contributions, changes) = (floats(batch, 3)?, floats(batch, 4)?);
        let (recurrences, since, occurrences) = (floats(batch, 5)?, texts(batch, 6)?, floats(batch, 7)?);
        let ids = texts(batch, 8)?;
        for row in 0..batch.num_rows() {
            let (Some(kpi), Some(finding), Some(contribution)) = (&kpis[row], &findings[row], contributions[row])
            else {
                continue;
            };
            let conditions = dimensions[row].iter().flat_map(|all| all.split('\u{1f}'));
            places.push(Place {
                kpi: kpi.clone(),
                finding: finding.clone(),
                dimensions: conditions.filter(|one| !one.is_empty()).map(str::to_owned).collect(),
                contribution,
                change: changes[row],
                recurrence: recurrences[row],
                since: since[row].clone(),
                occurrences: occurrences[row],
                id: ids[row].clone(),
            });
        }
    }
    Ok(places)
}

impl Place {
    /// Its conditions, for people.
    pub fn conditions(&self) -> String {
        let told = |condition: &String| match condition.split_once('=') {
            Some((name, value)) => format!("{} {}", name.replace('_', " "), printable(value)),
            None => condition.clone(),
        };
        self.dimensions.iter().map(told).collect::<Vec<_>>().join(", ")
    }

    /// What it is, for people.
    pub fn label(&self) -> String {
        match self.finding.as_str() {
            "where" | "emerging" => self.conditions(),
            // What was missing lacks no longer where its day is out of the window.
            "missing" if self.contribution > 0.0 => format!("rows missing on {}, out of the window now", self.days()),
            "missing" => format!("rows missing on {}", self.days()),
            "restated" | "identity" => label(&self.finding, None),
            "refit" if self.dimensions.iter().any(|one| one == "moved=in") => {
                "customers whom the new model places here".to_owned()
            }
            "refit" => "customers whom the new model places elsewhere".to_owned(),
            "everywhere" => "what all have in common".to_owned(),
            "mix" => "other shares of what the ratio is to".to_owned(),
            "rest" => "further places, each of less".to_owned(),
            other => other.to_owned(),
        }
    }

    /// How large it is, as a share of what was to be expected.
    pub fn size(&self) -> f64 {
        self.change.unwrap_or(0.0).abs()
    }

    /// Whether it is something that was found.
    pub fn is_found(&self) -> bool {
        !["everywhere", "mix", "rest"].contains(&self.finding.as_str())
    }

    fn days(&self) -> String {
        let days = self.dimensions.iter().filter_map(|one| Some(one.split_once('=')?.1.replace('/', " to ")));
        days.collect::<Vec<_>>().join(", ")
    }

    /// Since when it is found, or how often.
    fn before(&self) -> String {
        match (&self.since, self.occurrences) {
            (Some(since), _) => format!("; found since {since}"),
            (None, Some(times)) if times > 1.0 => format!("; found {times:.0} times in a quarter"),
            _ => String::new(),
        }
    }

    /// What it is, in a sentence.
    pub fn sentence(&self, unit: &str) -> String {
        let amount = signed(self.contribution, unit);
        if !["where", "emerging"].contains(&self.finding.as_str()) {
            let label = self.label();
            let (first, more) = label.split_at(1);
            let share = match self.change {
                Some(change) if self.finding == "missing" => {
                    format!("; {:.0} % of what is usual is missing", 100.0 * -change)
                }
                _ => String::new(),
            };
            return format!("{}{more}: {amount}{share}{}.", first.to_uppercase(), self.before());
        }
        let share = self.change.map_or(String::new(), |change| {
            let more = if change < 0.0 { "less" } else { "more" };
            format!(", {:.1} % {more} than was to be expected there", 100.0 * change.abs())
        });
        let again = self.recurrence.map_or(String::new(), |share| {
            format!("; found again in {:.0} % of resamples of the customers", 100.0 * share)
        });
        let before = self.before();
        match self.dimensions.as_slice() {
            _ if self.finding == "emerging" => {
                format!("Emerging in four weeks, on no night by itself: {}, {amount}{share}{again}.", self.conditions())
            }
            [only] if only.starts_with("segment=") => {
                let who = self.conditions();
                format!(
                    "Otherwise than other segments did {who}, whoever came to it or left it: {amount}{share}{again}{before}."
                )
            }
            _ => format!("Most unlike the rest was {}: {amount}{share}{again}{before}.", self.conditions()),
        }
    }
}

/// A difference in a unit, with its sign: of shares, in points of a hundred.
pub fn signed(value: f64, unit: &str) -> String {
    let size = size(value, unit);
    let sign = match value < 0.0 && size.contains(|c: char| ('1'..='9').contains(&c)) {
        true => "−",
        false => "+",
    };
    format!("{sign}{size}")
}

fn size(value: f64, unit: &str) -> String {
    match unit {
        "share" => format!("{:.2} points", 100.0 * value.abs()),
        _ => in_unit(value.abs(), unit),
    }
}

impl Change {
    /// The share of the old value that it changed by; of a share, the difference.
    pub fn size(&self) -> f64 {
        let change = (self.to - self.from).abs();
        if self.unit == "share" || self.from == 0.0 { change } else { change / self.from.abs() }
    }

    /// What happened, in a sentence: how much, and the terms behind it that count most.
    pub fn sentence(&self, whose: &str) -> String {
        let Self { kpi, unit, since, from, to, terms } = self;
        let change = to - from;
        let name = kpi.replace('_', " ");
        if change == 0.0 {
            return format!("The {name} of {whose} is what it was on {since}: {}.", in_unit(*to, unit));
        }
        let verb = if change > 0.0 { "rose" } else { "fell" };
        let share = match unit.as_str() {
            "share" => String::new(),
            _ if *from == 0.0 => String::new(),
            _ => format!(" ({:.1} %)", 100.0 * (change / from).abs()),
        };
        let mut with: Vec<&Term> = terms.iter().filter(|term| term.contribution * change > 0.0).collect();
        let mut against: Vec<&Term> = terms.iter().filter(|term| term.contribution * change < 0.0).collect();
        for side in [&mut with, &mut against] {
            side.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
        }
        let told = |term: &Term| {
            format!("{} ({})", label(&term.term, term.detail.as_deref()), signed(term.contribution, unit))
        };
        let mut text = format!("The {name} of {whose} {verb} by {}{share} since {since}", size(change, unit));
        let all: f64 = with.iter().map(|term| term.contribution.abs()).sum();
        let first: f64 = with.iter().take(2).map(|term| term.contribution.abs()).sum();
        let most: Vec<String> = with.iter().take(2).map(|term| told(term)).collect();
        if !most.is_empty() {
            let by = if first > all / 2.0 { "most of it" } else { "mainly" };
            text.push_str(&format!(", {by} by {}", most.join(" and ")));
        }
        if let Some(term) = against.first() {
            text.push_str(&format!("; against it, {}", told(term)));
        }
        format!("{text}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fall() -> Change {
        let term = |term: &str, detail: Option<&str>, contribution| Term {
            term: term.to_owned(),
            detail: detail.map(str::to_owned),
            contribution,
        };
        Change {
            kpi: "average_order_value".into(),
            unit: "currency per order".into(),
            since: "2026-10-01".into(),
            from: 50.0,
            to: 45.0,
            terms: vec![
                term("new", None, 1.25),
                term("moved_out", Some("refit"), -0.75),
                term("behaviour", Some("orders_per_active_customer"), -3.5),
                term("left", None, -2.0),
            ],
        }
    }

    #[test]
    fn a_cause_in_a_sentence() {
        let place = |finding: &str, dimensions: &[&str], contribution: f64| Place {
            kpi: "revenue".into(),
            finding: finding.into(),
            dimensions: dimensions.iter().map(|one| (*one).to_owned()).collect(),
            contribution,
            change: (finding != "refit").then_some(-0.49),
            recurrence: ["where", "emerging"].contains(&finding).then_some(0.96),
            since: None,
            occurrences: Some(3.0),
            id: None,
        };
        let told = [
            place("missing", &["days=2025-12-24/2025-12-26"], -52_600.0),
            place("missing", &["day=2025-08-23"], 87_800.0),
            place("refit", &["moved=in"], 641.16),
            place("where", &["segment=2", "channel=app"], -1590.0),
            place("where", &["segment=2"], -1590.0),
            place("emerging", &["channel=app"], -1590.0),
        ];
        let told: Vec<String> = told.iter().map(|place| place.sentence("currency")).collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        Rows missing on 2025-12-24 to 2025-12-26: −52 600; 49 % of what is usual is missing; found 3 times in a quarter.
        Rows missing on 2025-08-23, out of the window now: +87 800; 49 % of what is usual is missing; found 3 times in a quarter.
        Customers whom the new model places here: +641.16; found 3 times in a quarter.
        Most unlike the rest was segment 2, channel app: −1 590.00, 49.0 % less than was to be expected there; found again in 96 % of resamples of the customers; found 3 times in a quarter.
        Otherwise than other segments did segment 2, whoever came to it or left it: −1 590.00, 49.0 % less than was to be expected there; found again in 96 % of resamples of the customers; found 3 times in a quarter.
        Emerging in four weeks, on no night by itself: channel app, −1 590.00, 49.0 % less than was to be expected there; found again in 96 % of resamples of the customers.
        ");
    }

    #[test]
    fn a_change_in_a_sentence() {
        insta::assert_snapshot!(fall().sentence("segment 2"), @r"The average order value of segment 2 fell by 5.00 (10.0 %) since 2026-10-01, most of it by customers known before: orders per active customer (−3.50) and customers who left (−2.00); against it, new customers (+1.25).");
        let share = Change {
            unit: "share".into(),
            kpi: "retention_rate".into(),
            from: 0.5,
            to: 0.512,
            terms: Vec::new(),
            ..fall()
        };
        insta::assert_snapshot!(share.sentence("segment 2"), @r"The retention rate of segment 2 rose by 1.20 points since 2026-10-01.");
        insta::assert_snapshot!(Change { to: 50.0, terms: Vec::new(), ..fall() }.sentence("segment 2"), @r"The average order value of segment 2 is what it was on 2026-10-01: 50.00.");
    }

    /// Every number of the sentence is one of the rows' or the change, and what rose is not said to have fallen.
    #[test]
    fn a_sentence_says_nothing_else() {
        let change = fall();
        let text = change.sentence("segment 2");
        let numbers: Vec<f64> = text
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .filter_map(|word| word.trim_matches('.').parse().ok())
            .collect();
        let known = [5.0, 10.0, 3.5, 2.0, 1.25, 2026.0, 10.0, 1.0];
        assert!(numbers.iter().all(|n| known.contains(n)), "{numbers:?} {text}");
        assert!(text.contains("fell") && !text.contains("rose"), "{text}");
        let risen = Change { from: 45.0, to: 50.0, ..change };
        assert!(risen.sentence("segment 2").contains("rose"), "{}", risen.sentence("segment 2"));
    }
}
