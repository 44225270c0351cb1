//! What is looked at before people are said to do otherwise: what the earlier night did not know, who is made of other accounts, and whom another model places
//! elsewhere. Their part of a change is exact, and told where `kpi_changes` tells it. And what the night's rows fail as a whole.

use super::table;
use crate::{Night, StageError, rows};

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
            (Some("restated"), _) => ("restated", None),
            (Some("identity"), _) => ("identity", None),
            // Either side may be withheld, and the other is not all that the model moved.
            (Some("moved_in"), Some("refit" | "released")) => ("refit", Some("moved=in")),
            (Some("moved_out"), Some("refit" | "released")) => ("refit", Some("moved=out")),
            _ => continue,
        };
        let Some(contribution) = row.contribution else { continue };
        let (finding, dimensions) = (finding.0, finding.1.map(str::to_owned).into_iter().collect::<Vec<_>>());
        match found.iter_mut().find(|first| first.finding == finding && first.dimensions == dimensions) {
            Some(first) => first.contribution += contribution,
            None => found.push(First { finding, dimensions, contribution, change: None }),
        }
    }
    found.retain(|first| first.contribution != 0.0);
    found
}

/// The checks that the night's rows fail as a whole, and of which source.
pub(super) async fn doubts(night: &Night<'_>) -> Result<Vec<Vec<String>>, StageError> {
    let query = "SELECT \"check\", source FROM quality WHERE state = 'fail' ORDER BY source, \"check\"";
    let batch = rows::collect(night.over(query, &[("quality", night.input("quality")?)]).await?).await?;
    let (checks, sources) = (rows::texts(&batch, "check")?, rows::texts(&batch, "source")?);
    let named = |(check, source): (Option<String>, Option<String>)| {
        vec![format!("check={}", check.unwrap_or_default()), format!("source={}", source.unwrap_or_default())]
    };
    Ok(checks.into_iter().zip(sources).map(named).collect())
}
