//! `snapshots list`, `show` and `verify`.

use anyhow::{Result, bail};

use crate::{cli::Snapshots, context::Context, errors::Usage, show};

/// Does what was asked of the audit trail.
pub async fn run(context: &Context, command: Snapshots) -> Result<()> {
    let registry = context.lake.registry();
    match command {
        Snapshots::List { json } => {
            let records = registry.list().await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&records)?);
                return Ok(());
            }
            let mut table = show::plain();
            table.set_header(["snapshot", "as of", "state", "published at", "customers", "hash"]);
            for r in &records {
                let customers = r.content.tables.get("segments").map_or(0, |t| t.rows).to_string();
                table.add_row([
                    &r.snapshot_id,
                    &r.content.as_of,
                    r.content.state.as_str(),
                    &r.content.published_at,
                    &customers,
                    &r.hash[..12],
                ]);
            }
            println!("{table}");
        }
        Snapshots::Show { id, as_of, json } => {
            let found = match (&id, &as_of) {
                (Some(id), _) => registry.get(id).await?,
                (None, date) => registry.latest_published(date.as_deref()).await?,
            };
            let Some(record) = found else {
                return Err(
                    Usage("there is no such snapshot; `tessera snapshots list` shows which there are".into()).into()
                );
            };
            if json {
                println!("{}", serde_json::to_string_pretty(&record)?);
                return Ok(());
            }
            let c = &record.content;
            println!(
                "snapshot     {}\nas of        {}\nstate        {}\nrun          {}",
                record.snapshot_id, c.as_of, c.state, c.run_id
            );
            println!(
                "project      {}\ncode         {}\nseed         {}\nrecorded at  {}",
                c.project_hash, c.code_version, c.seed, c.published_at
            );
            println!("previous     {}\nhash         {}", record.previous_hash, record.hash);
            let mut table = show::plain();
            table.set_header(["table", "version", "rows", "files", "fingerprint"]);
            for (name, t) in &c.tables {
                let version = if t.version < 0 { "not committed".to_owned() } else { t.version.to_string() };
                table.add_row([name, &version, &t.rows.to_string(), &t.files.len().to_string(), &t.fingerprint]);
            }
            println!("{table}");
            let mut table = show::plain();
            table.set_header(["gate", "scope", "value", "threshold", "state"]);
            let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.4}"));
            for g in &c.gates {
                table.add_row([&g.metric, &g.scope, &number(g.value), &number(g.threshold), &g.state]);
            }
            println!("{table}");
            let mut table = show::plain();
            table.set_header(["input", "file", "bytes", "rows"]);
            for i in &c.inputs {
                table.add_row([&i.entity, &i.path, &i.bytes.to_string(), &i.rows.to_string()]);
            }
            println!("{table}");
        }
        Snapshots::Verify => {
            let mut findings: Vec<String> =
                registry.verify_chain().await?.into_iter().map(|f| format!("{}: {}", f.place, f.problem)).collect();
            let records = registry.list().await?;
            for record in &records {
                for finding in context.lake.verify_files(record).await? {
                    findings.push(format!("{} {}: {}", record.snapshot_id, finding.path, finding.problem));
                }
            }
            if !findings.is_empty() {
                bail!("{} findings in {} snapshots:\n{}", findings.len(), records.len(), findings.join("\n"));
            }
            println!("{} snapshots: the chain holds, and every file is what was recorded", records.len());
        }
    }
    Ok(())
}
