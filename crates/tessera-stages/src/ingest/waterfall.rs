//! The order in which rows leave: the steps of an entity's waterfall, each with a bit of the row's mask.

use tessera_contract::{Entity, Project, Rule, Severity};
use tessera_engine::formula;

use super::mapping::Mapping;
use crate::StageError;

/// The most steps of one entity: the bits of a signed integer.
const MOST: usize = 62;

/// A step of the waterfall.
#[derive(Debug, Clone)]
pub struct Step {
    /// The rule's name.
    pub name: String,
    /// What happens to a row that fails.
    pub severity: Severity,
    /// SQL that is true of a row that passes (checks), or the new value (repairs).
    pub expression: String,
    /// The rule, unless the step is one that every source has.
    pub rule: Option<Rule>,
    /// Why the step takes no part, if so.
    pub skipped: Option<String>,
    /// Whether it asks who the clean customers are.
    pub asks_known: bool,
}

impl Step {
    /// Whether the step compares rows with one another.
    #[must_use]
    pub fn compares(&self) -> bool {
        self.skipped.is_none() && matches!(self.severity, Severity::Merge | Severity::Supersede) && !self.checks()
    }

    /// Whether the step looks at a row by itself, or at whether its customer is known.
    #[must_use]
    pub fn checks(&self) -> bool {
        match self.severity {
            Severity::Quarantine | Severity::Fail | Severity::Warn => true,
            // What repeats another row may be told by the row itself.
            Severity::Merge => self.rule.as_ref().is_some_and(|rule| rule.by.is_empty()),
            Severity::Repair | Severity::Supersede => false,
        }
    }

    /// Whether the step changes a value.
    #[must_use]
    pub fn repairs(&self) -> bool {
        self.skipped.is_none() && self.severity == Severity::Repair
    }

    /// Whether rows leave at the step.
    #[must_use]
    pub fn turns_away(&self) -> bool {
        matches!(self.severity, Severity::Quarantine | Severity::Fail | Severity::Merge | Severity::Supersede)
    }
}

/// The name of the step, and of the column of judged rows, that says of a column's value that it could not be read.
pub(super) fn unparsable(column: &str) -> String {
    format!("unparsable_{column}")
}

/// The name of the step, and of the column of judged rows, that says of a column's value that it is not all of what the source says.
pub(super) fn lossy(column: &str) -> String {
    format!("lossy_{column}")
}

/// The waterfall of an entity: what every source has first (a line that cannot be read, a value that does not fit its
/// column, one that lost something on the way), then the project's rules in their order. What the row does without is only told: such
/// a value is null. Rules over columns that no source gives are skipped.
///
/// # Errors
/// When a rule is not SQL, or there are too many.
pub fn steps(project: &Project, entity: Entity, mapping: &Mapping, orphans: bool) -> Result<Vec<Step>, StageError> {
    let check = |name: &str, expression: &str| Step {
        name: name.to_owned(),
        severity: Severity::Quarantine,
        expression: expression.to_owned(),
        rule: None,
        skipped: None,
        asks_known: false,
    };
    let mut steps = vec![check("malformed", "_defect IS NULL")];
    for mapped in mapping.columns.iter().filter(|m| m.unparsable.is_some()) {
        let name = unparsable(&mapped.column.name);
        let essential = entity.column(&mapped.column.name).is_some_and(|c| c.essential);
        let severity = if essential { Severity::Quarantine } else { Severity::Warn };
        steps.push(Step { severity, ..check(&name, &format!("NOT {}", formula::quote(&name))) });
    }
    for mapped in mapping.columns.iter().filter(|m| m.lossy.is_some()) {
        let name = lossy(&mapped.column.name);
        let expression = format!("NOT {}", formula::quote(&name));
        steps.push(Step { severity: Severity::Warn, ..check(&name, &expression) });
    }
    if entity == Entity::Transactions {
        steps.push(check("amount_out_of_range", "quantity IS NULL OR unit_price IS NULL OR amount IS NOT NULL"));
    }
    for (name, rule) in project.rules(entity) {
        let place = || format!("quality.rules.{name}.expression");
        let names = formula::names(&rule.expression)
            .map_err(|e| StageError::Expression { place: place(), problem: e.to_string() })?;
        let absent = mapping.columns.iter().map(|m| &m.column.name).find(|c| names.contains(*c) && !mapping.has(c));
        let exact = mapping.columns.iter().filter(|m| m.lossy.is_none()).map(|m| &m.column.name);
        let exact = exact.into_iter().find(|c| names.contains(&lossy(c)));
        let skipped = match absent {
            None if exact.is_some() => Some("the source's values are taken as they are".to_owned()),
            Some(column) => Some(format!("the source gives no {column}")),
            None if names.contains("customer_known") && !orphans => Some("no customers are given".to_owned()),
            None => rule.column.as_ref().filter(|c| !mapping.has(c)).map(|c| format!("the source gives no {c}")),
        };
        steps.push(Step {
            name: name.to_owned(),
            severity: rule.severity,
            expression: rule.expression.clone(),
            rule: Some(rule.clone()),
            skipped,
            asks_known: names.contains("customer_known"),
        });
    }
    if steps.len() > MOST {
        let problem = format!("{} rules for {entity}, but at most {MOST} fit", steps.len());
        return Err(StageError::Expression { place: "quality.rules".into(), problem });
    }
    Ok(steps)
}

/// A step that compares rows with one another.
pub(crate) struct Compare<'a> {
    /// Its place among the steps.
    pub bit: usize,
    /// The step's name.
    pub name: &'a str,
    /// The step's rule.
    pub rule: &'a Rule,
    /// The column that holds the hash of what is compared.
    pub hash: String,
    /// What that hash is of, as SQL.
    pub hashed: Vec<String>,
    /// What rows agree in, as SQL over judged rows.
    pub by: Vec<String>,
}

/// The steps that compare rows.
///
/// # Errors
/// When one compares a column that the source does not give.
pub(crate) fn compares<'a>(steps: &'a [Step], mapping: &Mapping) -> Result<Vec<Compare<'a>>, StageError> {
    let mut found = Vec::new();
    for (bit, step) in steps.iter().enumerate().filter(|(_, s)| s.compares()) {
        let Some(rule) = &step.rule else { continue };
        let hash = format!("hash.{bit}");
        if rule.by.iter().any(|by| by == "*") {
            // A hash has the last word on nothing.
            let by = vec![formula::quote(&hash), mapping.json()];
            found.push(Compare { bit, name: &step.name, rule, hash, hashed: mapping.records(), by });
            continue;
        }
        if let Some(name) = rule.by.iter().find(|name| !mapping.has(name)) {
            return Err(StageError::Expression {
                place: format!("quality.rules.{}.by", step.name),
                problem: format!("the source gives no column `{name}`"),
            });
        }
        let by: Vec<_> = rule.by.iter().map(|name| formula::quote(name)).collect();
        found.push(Compare { bit, name: &step.name, rule, hash, hashed: by.clone(), by });
    }
    Ok(found)
}

/// The bits of the steps that `which` accepts.
pub(crate) fn bits(steps: &[Step], which: impl Fn(&Step) -> bool) -> i64 {
    steps.iter().enumerate().filter(|(_, s)| which(s)).map(|(bit, _)| 1_i64 << bit).sum()
}
