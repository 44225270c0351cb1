//! `snapshots list`, `show`, `retract`, `expire` and `verify`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use tessera_contract::tables;
use tessera_lake::{SnapshotContent, SnapshotRecord, SnapshotState};

use crate::{cli::Snapshots, context::Context, errors::Usage, publish, retention::Keep, show};

/// Does what was asked of the audit trail.
pub async fn run(context: &Context, command: Snapshots) -> Result<()> {
    let registry = context.lake.registry();
    match command {
        Snapshots::List { json } => {
            let history = registry.history().await?;
            if json {
                println!("{}", serde_json::to_string_pretty(history.records())?);
                return Ok(());
            }
            let mut table = show::plain();
            table.set_header(["snapshot", "as of", "state", "published at", "customers", "hash"]);
            for r in history.records() {
                let customers = r.content.tables.get("segments").map_or(0, |t| t.rows).to_string();
                let of = if r.content.stages.is_empty() { format!(" {}", r.content.parent) } else { String::new() };
                let then = history.withdrawn(&r.snapshot_id).map(|w| format!(", {}", w.content.state));
                table.add_row([
                    &r.snapshot_id,
                    &r.content.as_of,
                    &format!("{}{}", r.content.state, then.unwrap_or(of)),
                    &r.content.published_at,
                    &customers,
                    &r.hash[..12],
                ]);
            }
            println!("{table}");
        }
        Snapshots::Show { id, as_of, json } => {
            let history = registry.history().await?;
            let found = match (&id, &as_of) {
                (Some(id), _) => history.get(id),
                (None, Some(date)) => history.of_night(date),
                (None, None) => history.newest(),
            };
            let Some(record) = found else {
                return Err(
                    Usage("there is no such snapshot; `tessera snapshots list` shows which there are".into()).into()
                );
            };
            if json {
                println!("{}", serde_json::to_string_pretty(record)?);
                return Ok(());
            }
            let c = &record.content;
            println!(
                "snapshot     {}\nas of        {}\nstate        {}\nrun          {}\nparent       {}",
                record.snapshot_id, c.as_of, c.state, c.run_id, c.parent
            );
            println!(
                "project      {} ({})\ncode         {} {}\nsecret       {}\nseed         {}\nrecorded     {} by {}",
                c.project_hash,
                c.project,
                c.code_version,
                c.code_commit,
                c.secret,
                c.seed,
                c.published_at,
                c.recorded_by
            );
            if !c.why.is_empty() {
                println!("why          {}", c.why);
            }
            if let Some(w) = history.withdrawn(&record.snapshot_id) {
                let (state, at, by) = (w.content.state, &w.content.published_at, &w.content.recorded_by);
                println!("{state:<12} {at} by {by}: {}", w.content.why);
            }
            println!("previous     {}\nhash         {}", record.previous_hash, record.hash);
            let mut table = show::plain();
            table.set_header(["table", "version", "rows", "files", "fingerprint"]);
            for (name, t) in &c.tables {
                let version = t.version.map_or("not committed".to_owned(), |v| v.to_string());
                table.add_row([name, &version, &t.rows.to_string(), &t.files.to_string(), &t.fingerprint]);
            }
            println!("{table}");
            let mut table = show::plain();
            table.set_header(["gate", "scope", "value", "threshold", "apart", "state", "required"]);
            let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.4}"));
            for g in &c.gates {
                let required = if g.required { "yes" } else { "no" };
                table.add_row([
                    g.metric.as_str(),
                    &g.scope,
                    &number(g.value),
                    &number(g.threshold),
                    &g.value.zip(g.threshold).map_or(String::new(), |(v, t)| format!("{:+.4}", v - t)),
                    &g.state,
                    required,
                ]);
            }
            println!("{table}");
            for told in c.gates.iter().map(|g| &g.told).filter(|told| !told.is_empty()) {
                println!("{}", show::printable(told));
            }
            let mut table = show::plain();
            table.set_header(["input", "files", "bytes", "rows"]);
            for i in &c.inputs {
                table.add_row([&i.entity, &i.files.to_string(), &i.bytes.to_string(), &i.rows.to_string()]);
            }
            println!("{table}");
        }
        Snapshots::Retract { id, why } => {
            let history = registry.history().await?;
            let published = |r: &&SnapshotRecord| r.content.state == SnapshotState::Published;
            let found = history.get(&id).filter(published).filter(|_| history.expired(&id).is_none());
            let Some(record) = found else {
                return Err(Usage(format!(
                    "there is no published snapshot {id}; `tessera snapshots list` shows which there are"
                ))
                .into());
            };
            let content = withdrawal(record, SnapshotState::Retracted, &why);
            registry.append(&content).await?;
            publish::put_back(context, &content.as_of, &content.run_id).await?;
            println!("{id} is taken back; what is current for {} is what it had replaced, if anything", content.as_of);
        }
        Snapshots::Expire { keep, keep_months, dry_run } => {
            expire(context, Keep { nights: keep.get(), months: keep_months }, dry_run).await?;
        }
        Snapshots::Verify { expect } => super::verify::verify(context, expect.as_deref()).await?,
    }
    Ok(())
}

/// The row that withdraws a snapshot.
fn withdrawal(of: &SnapshotRecord, state: SnapshotState, why: &str) -> SnapshotContent {
    let verb = if state == SnapshotState::Expired { "expire" } else { "retract" };
    SnapshotContent {
        run_id: format!("{verb}-{}", of.snapshot_id),
        state,
        parent: of.snapshot_id.clone(),
        tables: BTreeMap::new(),
        stages: BTreeMap::new(),
        inputs: Vec::new(),
        gates: Vec::new(),
        evidence: BTreeMap::new(),
        why: why.to_owned(),
        recorded_by: publish::recorded_by(),
        published_at: jiff::Timestamp::now().to_string(),
        ..of.content.clone()
    }
}

/// Says which snapshots are no longer retained, and takes their nights out of the tables. Doing it again finishes what was
/// stopped.
async fn expire(context: &Context, keep: Keep, dry_run: bool) -> Result<()> {
    let lake = &context.lake;
    let history = lake.registry().history().await?;
    let expire = keep.expire(&history);
    for snapshot in &expire {
        println!("{} {}", snapshot.snapshot_id, snapshot.content.state);
    }
    if dry_run {
        println!("{} snapshots would expire", expire.len());
        return Ok(());
    }
    let why = format!("retained are {} nights and {} months", keep.nights, keep.months);
    let rows: Vec<_> = expire.iter().map(|r| withdrawal(r, SnapshotState::Expired, &why)).collect();
    lake.registry().append_all(&rows).await?;

    let history = lake.registry().history().await?;
    let expired = history.records().iter().filter(|r| r.content.state == SnapshotState::Expired);
    let gone: Vec<_> = expired.filter(|r| history.of_night(&r.content.as_of).is_none()).collect();
    // Once more is no harm: what is gone already is not there to be taken out.
    let id = format!("expire-{}", uuid::Uuid::new_v4().simple());
    let nights: BTreeSet<String> = gone.into_iter().map(|r| r.content.as_of.clone()).collect();
    let tables = lake.tables().await?.into_iter().filter_map(|name| tables::find(&context.project, &name));
    for table in tables.filter(|t| !t.grows) {
        lake.drop_nights(&table.name, &publish::described(&table), &nights, &id).await?;
    }
    println!("{} snapshots expired; `tessera vacuum` removes their files", rows.len());
    Ok(())
}
