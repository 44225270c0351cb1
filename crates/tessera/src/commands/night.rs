//! `run`, `stage`, `backfill` and `plan`.

use anyhow::{Result, bail};
use jiff::ToSpan;
use tessera_contract::AsOf;
use tessera_lake::{SnapshotRecord, SnapshotState};
use tessera_stages::{PUBLISH, features};

use crate::{
    chain,
    commands::query::{self, summary},
    context::Context,
    errors::{Held, Usage},
    publish::{failing, publish},
    runner::{Ask, Run},
    show, sources,
};

/// The whole night.
pub async fn run(context: &Context, date: &str, ask: Ask, future: bool) -> Result<()> {
    let as_of = tonight(context, date, future)?;
    match night(context, as_of, ask).await? {
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

/// A date that is not still to come, unless that is wanted: what would be published then says less than it claims.
fn tonight(context: &Context, date: &str, future: bool) -> Result<AsOf> {
    let as_of = context.night(date)?;
    let zone = tessera_contract::as_of::zone(&context.project.project.timezone)?;
    let today = jiff::Zoned::now().with_time_zone(zone).date();
    if as_of.date() > today && !future {
        return Err(Usage(format!(
            "the night of {as_of} is still to come, today is {today}; --future runs it all the same, over what is known by now"
        ))
        .into());
    }
    Ok(as_of)
}

/// What became of a night.
pub enum Outcome {
    /// It was published now.
    Published(SnapshotRecord),
    /// The same run was published before.
    Already(SnapshotRecord),
}

/// Runs and publishes a night.
pub async fn night(context: &Context, as_of: AsOf, ask: Ask) -> Result<Outcome> {
    let mut run = Run::begin(context, as_of, ask).await?;
    let done = finish(&mut run).await;
    if done.is_err() {
        // Whoever asked wants to see what there is, and why it went no further.
        if let Err(error) = query::so_far(&run).await {
            tracing::warn!("what was done so far cannot be shown: {error:#}");
        }
    }
    run.end().await;
    done
}

async fn finish(run: &mut Run<'_>) -> Result<Outcome> {
    let as_of = run.as_of;
    if let Some(record) = run.recorded.take() {
        if record.content.state == SnapshotState::Published {
            return Ok(Outcome::Already(record));
        }
        let failing = failing(&record.content.gates);
        return Err(Held {
            as_of: as_of.to_string(),
            gates: failing.join("; "),
            snapshot_id: record.snapshot_id.clone(),
        }
        .into());
    }
    let parent = run.parent.as_ref().map_or("no night before it", |p| p.snapshot.snapshot_id.as_str());
    tracing::info!(run = run.id, "night of {as_of}, which goes on from {parent}");
    run.stages().await?;
    Ok(Outcome::Published(publish(run).await?))
}

/// One stage.
pub async fn stage(context: &Context, name: &str, date: &str, future: bool) -> Result<()> {
    let mut run = Run::begin(context, tonight(context, date, future)?, Ask::default()).await?;
    let done = match name {
        PUBLISH => publish(&run).await.map(|snapshot| snapshot.snapshot_id),
        _ => run.stage_named(name).await.map(|()| run.id.clone()),
    };
    run.end().await;
    println!("{}", done?);
    Ok(())
}

/// Night after night, each going on from the one before. A held night does not stop the next ones; it decides the exit code.
pub async fn backfill(context: &Context, from: &str, to: &str, step: u16, ask: Ask, future: bool) -> Result<()> {
    let mut held = None;
    for as_of in dates(context, from, to, step, future)? {
        match night(context, as_of, ask).await {
            Ok(Outcome::Published(snapshot)) => println!("{as_of} published {}", snapshot.snapshot_id),
            Ok(Outcome::Already(snapshot)) => println!("{as_of} already    {}", snapshot.snapshot_id),
            Err(error) if error.is::<Held>() => {
                println!("{as_of} held       {}", crate::errors::message(&error));
                held = Some(error);
            }
            Err(error) => return Err(error.context(format!("night of {as_of}"))),
        }
    }
    held.map_or(Ok(()), Err)
}

/// The nights from one date to another.
pub fn dates(context: &Context, from: &str, to: &str, step: u16, future: bool) -> Result<Vec<AsOf>> {
    let (first, last) = (context.night(from)?, tonight(context, to, future)?);
    if last < first {
        return Err(Usage(format!("--to {to} is before --from {from}")).into());
    }
    let mut nights = vec![first];
    let mut date = first.date();
    loop {
        let Ok(next) = date.checked_add(i64::from(step).days()) else { bail!("the calendar ends at {date}") };
        if next > last.date() {
            return Ok(nights);
        }
        nights.push(AsOf::new(next, &context.project.project.timezone)?);
        date = next;
    }
}

/// The stages and what would be done.
pub async fn plan(context: &Context, date: &str, names_only: bool, full: bool) -> Result<()> {
    if names_only {
        for name in tessera_stages::STAGES.iter().map(|s| s.name).chain([PUBLISH]) {
            println!("{name}");
        }
        return Ok(());
    }
    let run = Run::new(context, context.night(date)?, Ask { force: false, full }).await?;
    println!("run {}", run.id);
    match &run.parent {
        Some(parent) => println!("goes on from {}", parent.snapshot.snapshot_id),
        None => println!("goes on from nothing: no night before it is published"),
    }
    let mut table = show::plain();
    table.set_header(["stage", "reads", "writes", "state"]);
    for planned in &run.plan {
        let stage = planned.stage;
        let state = match &planned.done {
            Some(record) if record.run == run.id => format!("done in {:.1} s", record.seconds),
            Some(record) => format!("done in {:.1} s by {}", record.seconds, record.run),
            None => "to do".to_owned(),
        };
        let sources = if stage.sources { vec!["sources".to_owned()] } else { Vec::new() };
        let previous = stage.reads_previous.iter().filter(|_| run.parent.is_some()).map(|t| format!("{t} (parent)"));
        let reads: Vec<_> =
            sources.into_iter().chain(stage.reads.iter().map(|t| (*t).to_owned())).chain(previous).collect();
        table.add_row([stage.name, &reads.join("\n"), &stage.writes.join("\n"), &state]);
    }
    let published = if run.recorded.is_some() { "done" } else { "to do" };
    table.add_row([PUBLISH, "every table of the run", "snapshots", published]);
    println!("{table}");
    for (found, reading) in run.found.iter().zip(&run.readings) {
        println!("{}", chain::describe(found.entity, reading, found.files.len()));
    }
    whole_scans(context, run.as_of).await
}

/// The features for which a night reads all rows, and why.
pub async fn whole_scans(context: &Context, as_of: AsOf) -> Result<()> {
    let engine = context.engine(None, "_tessera/scratch").await?;
    let night = sources::nothing(context, &engine, as_of);
    for (name, entity, reach) in features::needs(&night).await? {
        if let tessera_engine::partial::Reach::Everything(why) = reach {
            println!("feature {name} reads all {entity} every night: {why}");
        }
    }
    Ok(())
}
