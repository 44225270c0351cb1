//! A change in words: nothing but what the rows of `kpi_changes` say.

use anyhow::{Context as _, Result};
use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use tessera_contract::Kpi;

use crate::show::in_unit;

/// A term of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    pub term: String,
    pub detail: Option<String>,
    pub contribution: f64,
}

/// The change of a KPI since an earlier night.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub kpi: String,
    pub unit: String,
    pub whose: String,
    pub since: String,
    pub from: f64,
    pub to: f64,
    pub terms: Vec<Term>,
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
    pub fn sentence(&self) -> String {
        let Self { kpi, unit, whose, since, from, to, terms } = self;
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

/// The changes of everybody's KPIs since the night before in sentences, the largest first, of rows of `kpi`, `term`, `detail`,
/// `contribution`, `from`, `to` and `versus_as_of` in the order of their steps.
pub fn told<'a>(batches: &[RecordBatch], catalogue: impl Iterator<Item = (&'a str, &'a Kpi)>) -> Result<Vec<String>> {
    let change = |(name, kpi): (&str, &Kpi)| Change {
        kpi: name.to_owned(),
        unit: kpi.unit.clone(),
        whose: "everybody".to_owned(),
        since: String::new(),
        from: 0.0,
        to: 0.0,
        terms: Vec::new(),
    };
    let mut changes: Vec<Change> = catalogue.map(change).collect();
    for batch in batches {
        let texts = |at: usize| cast(batch.column(at), &DataType::Utf8);
        let numbers = |at: usize| batch.column(at).as_primitive_opt::<Float64Type>().context("a column of numbers");
        let (kpis, terms, details, dates) = (texts(0)?, texts(1)?, texts(2)?, texts(6)?);
        let (contributions, from, to) = (numbers(3)?, numbers(4)?, numbers(5)?);
        let text = |column: &ArrayRef, row: usize| {
            let column = column.as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            let name = text(&kpis, row);
            let Some(change) = changes.iter_mut().find(|change| Some(&change.kpi) == name.as_ref()) else { continue };
            if change.terms.is_empty() {
                (change.from, change.since) = (from.value(row), text(&dates, row).unwrap_or_default());
            }
            change.to = to.value(row);
            change.terms.push(Term {
                term: text(&terms, row).unwrap_or_default(),
                detail: text(&details, row),
                contribution: contributions.value(row),
            });
        }
    }
    changes.retain(|change| change.from != change.to && !change.terms.is_empty());
    changes.sort_by(|a, b| b.size().total_cmp(&a.size()));
    Ok(changes.iter().map(Change::sentence).collect())
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
            whose: "segment 2".into(),
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
    fn a_change_in_a_sentence() {
        insta::assert_snapshot!(fall().sentence(), @r"The average order value of segment 2 fell by 5.00 (10.0 %) since 2026-10-01, most of it by customers known before: orders per active customer (−3.50) and customers who left (−2.00); against it, new customers (+1.25).");
        let share = Change {
            unit: "share".into(),
            kpi: "retention_rate".into(),
            from: 0.5,
            to: 0.512,
            terms: Vec::new(),
            ..fall()
        };
        insta::assert_snapshot!(share.sentence(), @r"The retention rate of segment 2 rose by 1.20 points since 2026-10-01.");
        insta::assert_snapshot!(Change { to: 50.0, terms: Vec::new(), ..fall() }.sentence(), @r"The average order value of segment 2 is what it was on 2026-10-01: 50.00.");
    }

    /// Every number of the sentence is one of the rows' or the change, and what rose is not said to have fallen.
    #[test]
    fn a_sentence_says_nothing_else() {
        let change = fall();
        let text = change.sentence();
        let numbers: Vec<f64> = text
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .filter_map(|word| word.trim_matches('.').parse().ok())
            .collect();
        let known = [5.0, 10.0, 3.5, 2.0, 1.25, 2026.0, 10.0, 1.0];
        assert!(numbers.iter().all(|n| known.contains(n)), "{numbers:?} {text}");
        assert!(text.contains("fell") && !text.contains("rose"), "{text}");
        let risen = Change { from: 45.0, to: 50.0, ..change };
        assert!(risen.sentence().contains("rose"), "{}", risen.sentence());
    }
}
