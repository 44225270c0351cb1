//! `run`, `stage`, `backfill` and `plan`.

use anyhow::{Result, bail};
use jiff::ToSpan;
use tessera_contract::AsOf;
use tessera_lake::{SnapshotRecord, SnapshotState};
use tessera_stages::{PUBLISH, STAGES};

use crate::{
    commands::query::summary,
    context::Context,
    errors::{Held, Usage},
    publish::publish,
    runner::Run,
    show,
};

/// The whole night.
pub async fn run(context: &Context, date: &str, force: bool) -> Result<()> {
    let as_of = context.night(date)?;
    match night(context, as_of, force).await? {
        Outcome::Published(snapshot) => {
            summary(context, &snapshot).await?;
        }
        Outcome::Already(snapshot) => {
            println!(
                "the night of {as_of} is published as {} over the same sources; --force runs it again",
                snapshot.snapshot_id
            );
        }
    }
    Ok(())
}

/// What became of a night.
pub enum Outcome {
    /// It was published now.
    Published(SnapshotRecord),
    /// The same run was published before.
    Already(SnapshotRecord),
}

/// Runs and publishes a night.
pub async fn night(context: &Context, as_of: AsOf, force: bool) -> Result<Outcome> {
    let registry = context.lake.registry();
    let run = Run::new(context, as_of, None).await?;
    let done: Vec<_> = registry.list().await?.into_iter().filter(|r| r.content.as_of == as_of.to_string()).collect();
    let same = done.iter().rfind(|r| r.content.run_id == run.id);
    let run = match same {
        Some(record) if !force => {
            if record.content.state == SnapshotState::Published {
                return Ok(Outcome::Already(record.clone()));
            }
            let failing: Vec<_> = record
                .content
                .gates
                .iter()
                .filter(|g| g.state == "fail")
                .map(|g| format!("{} of {}", g.metric, g.scope))
                .collect();
            return Err(Held {
                as_of: as_of.to_string(),
                gates: failing.join("; "),
                snapshot_id: record.snapshot_id.clone(),
            }
            .into());
        }
        Some(_) => Run::new(context, as_of, Some(&format!("attempt {}", done.len() + 1))).await?,
        None => run,
    };
    tracing::info!(run = run.id, "night of {as_of}");
    run.stages().await?;
    Ok(Outcome::Published(publish(&run).await?))
}

/// One stage.
pub async fn stage(context: &Context, name: &str, date: &str) -> Result<()> {
    let run = Run::new(context, context.night(date)?, None).await?;
    if name == PUBLISH {
        let snapshot = publish(&run).await?;
        println!("{}", snapshot.snapshot_id);
        return Ok(());
    }
    run.stage_named(name).await?;
    println!("{}", run.id);
    Ok(())
}

/// Night after night. A held night does not stop the next ones; it decides the exit code.
pub async fn backfill(context: &Context, from: &str, to: &str, step: u16, force: bool) -> Result<()> {
    let (first, last) = (context.night(from)?, context.night(to)?);
    if last < first {
        return Err(Usage(format!("--to {to} is before --from {from}")).into());
    }
    let mut date = first.date();
    let mut held = None;
    while date <= last.date() {
        let as_of = AsOf::new(date, &context.project.project.timezone)?;
        match night(context, as_of, force).await {
            Ok(Outcome::Published(snapshot)) => println!("{as_of} published {}", snapshot.snapshot_id),
            Ok(Outcome::Already(snapshot)) => println!("{as_of} already    {}", snapshot.snapshot_id),
            Err(error) if error.is::<Held>() => {
                println!("{as_of} held       {}", crate::errors::message(&error));
                held = Some(error);
            }
            Err(error) => return Err(error.context(format!("night of {as_of}"))),
        }
        let Ok(next) = date.checked_add(i64::from(step).days()) else { bail!("the calendar ends at {date}") };
        date = next;
    }
    held.map_or(Ok(()), Err)
}

/// The stages and what would be done.
pub async fn plan(context: &Context, date: &str, names_only: bool) -> Result<()> {
    if names_only {
        for name in STAGES.iter().map(|s| s.name).chain([PUBLISH]) {
            println!("{name}");
        }
        return Ok(());
    }
    let run = Run::new(context, context.night(date)?, None).await?;
    let mut table = show::plain();
    table.set_header(["stage", "reads", "writes", "state"]);
    for stage in STAGES {
        let state = match run.record(stage.name).await? {
            Some(record) => format!("done in {:.1} s", record.seconds),
            None => "to do".to_owned(),
        };
        let sources = if stage.sources { vec!["sources"] } else { Vec::new() };
        let reads: Vec<_> = sources.into_iter().chain(stage.reads.iter().copied()).collect();
        table.add_row([stage.name, &reads.join("\n"), &stage.writes.join("\n"), &state]);
    }
    let published = context.lake.registry().list().await?.into_iter().any(|r| r.content.run_id == run.id);
    table.add_row([PUBLISH, "every table of the run", "snapshots", if published { "done" } else { "to do" }]);
    println!("run {}", run.id);
    println!("{table}");
    Ok(())
}
