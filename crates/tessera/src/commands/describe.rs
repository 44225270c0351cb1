//! `schema` and `tables`: what the contract says of itself.

use anyhow::Result;
use tessera_contract::{Entity, Project, Severity, tables as contract};

mod reference;

use crate::{cli::Common, errors::Usage};

/// Prints the JSON Schema of the project file, or the reference that is made of it.
pub fn schema(markdown: bool) -> Result<()> {
    if markdown {
        print!("{}", reference::reference(&Project::schema(), &tessera_contract::DEFAULTS.parse()?));
        return Ok(());
    }
    println!("{}", serde_json::to_string_pretty(&Project::schema())?);
    Ok(())
}

/// Prints the data dictionary in Markdown: of the project, or of the defaults where there is none.
pub fn tables(common: &Common, name: Option<&str>) -> Result<()> {
    let text = match common.project.exists() {
        true => std::fs::read_to_string(&common.project)?,
        false => String::new(),
    };
    let project = Project::load(&common.project.display().to_string(), &text, &common.set)?;
    print!("{}", dictionary(&project, name)?);
    Ok(())
}

/// The data dictionary.
pub fn dictionary(project: &Project, name: Option<&str>) -> Result<String> {
    let mut text = String::new();
    let all = contract::all(project);
    if let Some(name) = name
        && !all.iter().any(|t| t.name == name)
    {
        let known: Vec<_> = all.iter().map(|t| t.name.as_str()).collect();
        return Err(Usage(format!("there is no table `{name}`; known are {}", known.join(", "))).into());
    }
    let mut line = |s: String| {
        text.push_str(&s);
        text.push('\n');
    };
    if name.is_none() {
        line("# Data dictionary\n".into());
        line("Made by `tessera tables` from the contract; do not edit.\n".into());
        line("## Entities\n\nWhat a source may be mapped to; required columns are marked with *.\n".into());
        for entity in Entity::ALL {
            line(format!("### {entity}\n\n| column | kind | meaning |\n|---|---|---|"));
            for c in entity.columns() {
                line(format!(
                    "| {}{} | {} | {} |",
                    c.name,
                    if c.required { "*" } else { "" },
                    c.kind.label(),
                    c.description
                ));
            }
            line(String::new());
        }
        line("## Tables\n\nEach is a Delta table at `<lake>/<name>/`. What a night says is partitioned by `as_of` (date), its first column;".into());
        line("what is known (clean rows, quarantine, accounts) has no such column: it grows, and a snapshot names its version.".into());
        line("Columns marked ° say where something was found, and are left out of the content fingerprint.\n".into());
    }
    for table in all.iter().filter(|t| name.is_none_or(|n| n == t.name)) {
        let class = table.class.describe();
        line(format!(
            "### {}\n\n{}. Class: {class}.\n\n| column | kind | meaning |\n|---|---|---|",
            table.name, table.description
        ));
        if !table.grows {
            line("| as_of | date | The night's date |".into());
        }
        for c in &table.columns {
            let mark = if c.circumstantial { "°" } else { "" };
            line(format!("| {}{mark} | {} | {} |", c.name, c.kind.label(), c.description.replace('|', "\\|")));
        }
        line(String::new());
    }
    if name.is_some() {
        return Ok(text);
    }
    line("### snapshots\n\nOne row per run that was published or held; the audit trail. Not partitioned.\n".into());
    line("## Features\n\n| feature | criterion | over | window | unit | scaling | meaning |\n|---|---|---|---|---|---|---|".into());
    for (name, f) in &project.features {
        let off = if f.enabled { "" } else { " (switched off)" };
        let criterion = format!("{:?}", f.criterion).to_lowercase();
        let scaling = format!("{:?}", f.scaling).to_lowercase();
        let window = match (&f.window, &f.lag) {
            (Some(window), Some(lag)) => format!("{window}, ending {lag} before"),
            (window, _) => window.clone().unwrap_or_default(),
        };
        line(format!(
            "| {name}{off} | {criterion} | {} | {window} | {} | {scaling} | {} |",
            f.over, f.unit, f.description
        ));
    }
    line("\n## KPIs\n\n| KPI | numerator | denominator | unit | meaning |\n|---|---|---|---|---|".into());
    for (name, k) in project.enabled_kpis() {
        let code = |e: &str| format!("`{}`", e.replace('|', "\\|"));
        line(format!(
            "| {name} | {} | {} | {} | {} |",
            code(&k.numerator),
            k.denominator.as_deref().map(code).unwrap_or_default(),
            k.unit,
            k.description
        ));
    }
    line(
        "\n## Quality rules\n\n| rule | entity | severity | order | expression | meaning |\n|---|---|---|---|---|---|"
            .into(),
    );
    for entity in Entity::ALL {
        for (name, r) in project.rules(entity) {
            let severity = format!("{:?}", r.severity).to_lowercase();
            let what = match r.severity {
                Severity::Merge | Severity::Supersede if !r.by.is_empty() => format!("by {}", r.by.join(", ")),
                _ => format!("`{}`", r.expression.replace('|', "\\|")),
            };
            line(format!("| {name} | {entity} | {severity} | {} | {what} | {} |", r.order, r.description));
        }
    }
    line("\n## Checks of the night's rows\n\n| check | of | what | passes | meaning |\n|---|---|---|---|---|".into());
    for (name, c) in project.checks() {
        let what = match (&c.expression, c.days, &c.rule) {
            (Some(sql), Some(days), _) => format!("`{}` of {days} days", sql.replace('|', "\\|")),
            (Some(sql), None, _) => format!("`{}`", sql.replace('|', "\\|")),
            (None, _, Some(rule)) => format!("share of rows that fail {rule}"),
            (None, ..) => "measured".to_owned(),
        };
        let share = |word: &str, bound: Option<f64>| bound.map(|b| format!("{word} {b}"));
        let bounds = [
            share("at least", c.at_least),
            share("at most", c.at_most),
            share("falls by less than", c.falls),
            share("rises by less than", c.rises),
        ];
        let bounds: Vec<_> = bounds.into_iter().flatten().collect();
        let of = c.entity.as_deref().unwrap_or("each entity");
        line(format!("| {name} | {of} | {what} | {} | {} |", bounds.join(", "), c.description));
    }
    Ok(text)
}
