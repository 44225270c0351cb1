//! What is looked at before people are said to do otherwise: what the earlier night did not know, who is made of other accounts, and whom another model places
//! elsewhere. Their part of a change is exact, and told where `kpi_changes` tells it.

use super::table;

/// A cause that is no place: what it is called, what tells it from others, and what it adds to a KPI.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct First {
    pub finding: &'static str,
    pub dimensions: Vec<String>,
    pub contribution: f64,
    pub change: Option<f64>,
}

/// The causes that terms of a change say, of its rows by people.
pub(super) fn of_terms<'a>(changes: impl Iterator<Item = &'a table::Row>) -> Vec<First> {
    let mut found: Vec<First> = Vec::new();
    for row in changes.filter(|row| row.split == Some("people")) {
        let finding = match (row.term, row.detail.as_deref()) {
            (Some("restated"), _) => "restated",
            (Some("identity"), _) => "identity",
            (Some("moved_in" | "moved_out"), Some("refit" | "released")) => "refit",
            _ => continue,
        };
        let Some(contribution) = row.contribution else { continue };
        match found.iter_mut().find(|first| first.finding == finding) {
            Some(first) => first.contribution += contribution,
            None => found.push(First { finding, dimensions: Vec::new(), contribution, change: None }),
        }
    }
    found.retain(|first| first.contribution != 0.0);
    found
}
