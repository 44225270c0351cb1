//! `check`: everything that can be known before a night runs.

use anyhow::Result;
use tessera_contract::{AsOf, Entity};
use tessera_stages::{Night, ingest};

use crate::{chain, context::Context, errors::Usage, show, sources};

/// Opens every source and plans every expression; prints the mapping and what will not be available.
pub async fn check(context: &Context) -> Result<()> {
    let project = &context.project;
    let engine = context.engine(None, "_tessera/scratch").await?;
    let found = sources::find(context).await?;
    let readings: Vec<_> = found.iter().map(|f| chain::reading(project, f, None, true)).collect();
    let sources = sources::open(&engine, found, &readings).await?;
    let today = jiff::Zoned::now().with_time_zone(tessera_contract::as_of::zone(&project.project.timezone)?).date();
    let as_of = AsOf::new(today, &project.project.timezone)?;
    let night = Night { sources: &sources, ..sources::nothing(context, &engine, as_of) };
    println!("project {} ({}, {})", project.project.name, project.project.timezone, project.project.currency);
    println!("lake    {}", context.lake.url());
    let mut unread = Vec::new();
    for source in &sources {
        let entity = source.entity;
        let rows: Vec<_> = source.feeds.iter().filter_map(|feed| feed.rows.clone()).collect();
        let mapping = ingest::map(&night, entity, &rows).await?;
        let previews = ingest::preview(&night, source).await?;
        for (at, feed) in source.feeds.iter().enumerate() {
            let called = feed.name.as_ref().map_or(entity.to_string(), |name| format!("{entity}.{name}"));
            let bytes: u64 = feed.files.iter().map(|f| f.bytes).sum();
            println!("\n{called}: {} files, {bytes} bytes", feed.files.len());
            let preview = previews.get(at);
            let mut table = show::plain();
            table.set_header(["column", "from", "read", "of the first rows"]);
            let mut missing = Vec::new();
            for (name, from) in mapping.describe(project, at) {
                let Some(from) = from else {
                    missing.push(name);
                    continue;
                };
                let understood = preview.and_then(|p| p.columns.iter().find(|c| c.name == name));
                let essential = entity.column(&name).is_some_and(|column| column.essential);
                if essential && understood.is_some_and(|u| 4 * u.unread > u.known + u.unread) {
                    unread.push(format!("{called}.{name}"));
                }
                let read = understood.map_or(String::new(), |u| u.known.to_string());
                let example = understood.and_then(|u| u.example.clone()).unwrap_or_default();
                table.add_row([name.as_str(), &show::printable(&from), &read, &show::printable(&example)]);
            }
            println!("{table}");
            if let Some(preview) = preview {
                println!("looked at {} rows", preview.rows);
                preview.remarks.iter().for_each(|remark| println!("look at {}", show::printable(remark)));
            }
            if !missing.is_empty() {
                println!("not mapped: {}", missing.join(", "));
            }
        }
        for step in ingest::steps(project, entity, &mapping, ingest::asks_who_is_known(&sources, entity))? {
            if let Some(reason) = step.skipped {
                println!("rule {} takes no part: {reason}", step.name);
            }
        }
    }
    let given = tessera_stages::preflight(&night).await?;
    let missing = given.missing_features(project)?;
    let out: Vec<_> = missing.iter().map(|(name, why)| format!("feature {name} ({why})")).collect();
    println!("\nnot available: {}", if out.is_empty() { "nothing is missing".to_owned() } else { out.join("; ") });
    for entity in sources.iter().map(|s| s.entity).filter(|e| *e != Entity::Customers) {
        if let Some(why) = ingest::reads_all(project, entity) {
            println!("{entity} are read as a whole every night: {why}");
        }
    }
    super::night::whole_scans(context, as_of).await?;
    if !unread.is_empty() {
        let problem = format!(
            "of {} more than a quarter of the values of the first rows could not be read, and a night would set these rows aside: see \
             what was looked at above",
            unread.join(", ")
        );
        return Err(Usage(problem).into());
    }
    println!("the project file is valid and every source opens");
    Ok(())
}
