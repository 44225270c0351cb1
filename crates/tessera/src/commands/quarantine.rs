//! `quarantine`: what was set aside, for whoever mends the rules or the sources.

use anyhow::Result;
use tessera_contract::Entity;
use tessera_engine::formula::text;

use super::query;
use crate::{cli::Rows, context::Context, errors::Usage, reader::Scope};

/// Which rows are asked for.
pub struct Wanted {
    pub source: Option<String>,
    pub rule: Option<String>,
    pub file: Option<String>,
    pub all: bool,
    pub restricted: bool,
    pub rows: usize,
}

/// Prints how many rows were set aside, by rule and file, or the rows.
pub async fn quarantine(context: &Context, wanted: &Wanted, scope: &Scope, format: Rows) -> Result<()> {
    if let Some(source) = &wanted.source
        && Entity::parse(source).is_none()
    {
        let known: Vec<_> = Entity::ALL.iter().map(|entity| entity.name()).collect();
        return Err(Usage(format!("`{source}` is no entity; known are {}", known.join(", "))).into());
    }
    if let Some(rule) = &wanted.rule {
        let rules = &context.project.quality.rules;
        let built_in = ["malformed", "amount_out_of_range"].contains(&rule.as_str())
            || ["unparsable_", "lossy_"].iter().any(|prefix| rule.starts_with(prefix));
        if !built_in && !rules.contains_key(rule) {
            let known: Vec<_> = rules.keys().map(String::as_str).collect();
            return Err(Usage(format!("there is no rule `{rule}`; the project has {}", known.join(", "))).into());
        }
    }
    query::personal(context, &select(wanted), scope, format).await
}

/// SQL of them.
fn select(wanted: &Wanted) -> String {
    let mut conditions = Vec::new();
    if !wanted.all {
        conditions.push("disposition = 'quarantined'".to_owned());
    }
    conditions.extend(wanted.source.as_ref().map(|source| format!("source = {}", text(source))));
    conditions.extend(wanted.rule.as_ref().map(|rule| format!("(rule = {0} OR array_has(rules, {0}))", text(rule))));
    conditions.extend(wanted.file.as_ref().map(|file| format!("strpos(file, {}) > 0", text(file))));
    let which = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    let limit = match wanted.rows {
        0 => String::new(),
        rows => format!(" LIMIT {rows}"),
    };
    match wanted.restricted {
        true => format!(
            "SELECT source, file, row, disposition, array_to_string(rules, ', ') AS rules, defect, amount, record FROM quarantine{which} \
             ORDER BY source, file, row{limit}"
        ),
        false => format!(
            "SELECT source, rule, disposition, file, count(*) AS rows, sum(amount) AS amount, min(row) AS first_row FROM quarantine{which} \
             GROUP BY 1, 2, 3, 4 ORDER BY rows DESC, source, rule, file{limit}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_texts_whatever_they_contain() {
        let wanted = |restricted, rows| Wanted {
            source: Some("transactions".into()),
            rule: Some("it's".into()),
            file: None,
            all: false,
            restricted,
            rows,
        };
        insta::assert_snapshot!(select(&wanted(true, 0)), @"SELECT source, file, row, disposition, array_to_string(rules, ', ') AS rules, defect, amount, record FROM quarantine WHERE disposition = 'quarantined' AND source = 'transactions' AND (rule = 'it''s' OR array_has(rules, 'it''s')) ORDER BY source, file, row");
        assert!(select(&wanted(false, 7)).ends_with(" LIMIT 7"));
    }
}
