//! One function a command.

mod causes;
mod check;
mod cluster;
mod compare;
mod demo;
mod describe;
mod explain;
pub mod identity;
mod init;
mod night;
mod quarantine;
mod query;
mod report;
mod segments;
mod snapshots;
mod vacuum;
mod verify;

use anyhow::Result;

use crate::{
    cli::{Cli, Command, Segments},
    context::Context,
    errors::Usage,
    reader::Scope,
    runner::Ask,
};

/// Does what was asked.
pub async fn run(cli: Cli) -> Result<()> {
    let common = &cli.common;
    match cli.command {
        Command::Demo { customers, dir } => demo::demo(common, customers, &dir).await,
        Command::Init { dir, from } => init::init(&Context::without_project(common)?, &dir, &from).await,
        Command::Check => check::check(&Context::open_for_night(common)?).await,
        Command::Run { as_of, force, full, future } => {
            night::run(&Context::open_for_night(common)?, &as_of, Ask { force, full }, future).await
        }
        Command::Stage { name, as_of, future } => {
            night::stage(&Context::open_for_night(common)?, &name, &as_of, future).await
        }
        Command::Backfill { from, to, step, force, full, future } => {
            night::backfill(&Context::open_for_night(common)?, &from, &to, step, Ask { force, full }, future).await
        }
        Command::Compare { projects, from, to, step, dir, json, future } => {
            let [a, b] = projects.as_slice() else { return Err(Usage("two project files are compared".into()).into()) };
            let nights = compare::Nights { from: &from, to: &to, step, future };
            compare::compare(common, [a.clone(), b.clone()], nights, &dir, json).await
        }
        Command::Plan { as_of, stages, full } => {
            night::plan(&Context::open_for_night(common)?, &as_of, stages, full).await
        }
        Command::Sql { query, as_of, snapshot, run, restricted, format } => {
            let context = Context::open_or_default(common)?;
            let scope = match (as_of, snapshot, run) {
                (Some(as_of), ..) => Scope::Night(context.night(&as_of)?.to_string()),
                (None, Some(id), _) => Scope::Snapshot(id),
                (None, None, Some(id)) => Scope::Run(id),
                (None, None, None) => Scope::Everything,
            };
            query::sql(&context, &query, &scope, restricted, format).await
        }
        Command::Quarantine { source, rule, file, all, as_of, snapshot, restricted, rows, format } => {
            let context = Context::open_or_default(common)?;
            let scope = match (as_of, snapshot) {
                (Some(as_of), _) => Scope::Night(context.night(&as_of)?.to_string()),
                (None, Some(id)) => Scope::Snapshot(id),
                (None, None) => Scope::Everything,
            };
            let wanted = quarantine::Wanted { source, rule, file, all, restricted, rows };
            quarantine::quarantine(&context, &wanted, &scope, format).await
        }
        Command::Identity { command } => identity::run(&Context::open_or_default(common)?, command).await,
        Command::Causes { command } => causes::run(common, command).await,
        Command::Report { as_of, snapshot, text, out, open } => {
            let wanted = report::Wanted { as_of, snapshot, text, out, open };
            report::report(&Context::open_or_default(common)?, &wanted).await
        }
        Command::Segments { command: Segments::Export { form, as_of, snapshot } } => {
            segments::export(&Context::open_or_default(common)?, form, as_of, snapshot).await
        }
        Command::Snapshots { command } => snapshots::run(&Context::open_or_default(common)?, command).await,
        Command::Explain { command } => explain::run(&Context::open_or_default(common)?, command).await,
        Command::Vacuum { older_than, dry_run } => {
            vacuum::vacuum(&Context::open_or_default(common)?, older_than, dry_run).await
        }
        Command::Scheduler { bind_host, bind_port, executor_timeout } => {
            cluster::scheduler(bind_host, bind_port, executor_timeout).await
        }
        Command::Executor { scheduler, bind_host, bind_port, external_host, work_dir, cores, memory, patience } => {
            let (bind, port) = (bind_host, bind_port);
            cluster::executor(cluster::Executor {
                scheduler,
                bind,
                port,
                external_host,
                work_dir,
                cores,
                memory,
                patience,
            })
            .await
        }
        Command::Generate { customers, out, seed, from, to, horizon, format } => {
            demo::generate(&demo::shop(customers, seed, &from, &to, &horizon, format)?, &out)
        }
        Command::Schema { markdown } => describe::schema(markdown),
        Command::Tables { name } => describe::tables(common, name.as_deref()),
    }
}
