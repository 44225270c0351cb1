//! One function a command.

mod check;
mod cluster;
mod demo;
mod describe;
mod init;
mod night;
mod query;
mod snapshots;
mod vacuum;

use anyhow::Result;

use crate::{
    cli::{Cli, Command},
    context::Context,
};

/// Does what was asked.
pub async fn run(cli: Cli) -> Result<()> {
    let common = &cli.common;
    match cli.command {
        Command::Demo { customers, dir } => demo::demo(common, customers, &dir).await,
        Command::Init { dir } => init::init(&dir),
        Command::Check => check::check(&Context::open(common)?).await,
        Command::Run { as_of, force } => night::run(&Context::open(common)?, &as_of, force).await,
        Command::Stage { name, as_of } => night::stage(&Context::open(common)?, &name, &as_of).await,
        Command::Backfill { from, to, step, force } => {
            night::backfill(&Context::open(common)?, &from, &to, step, force).await
        }
        Command::Plan { as_of, stages } => night::plan(&Context::open(common)?, &as_of, stages).await,
        Command::Sql { query, as_of, snapshot, restricted, format } => {
            let context = Context::open_or_default(common)?;
            let scope = match (as_of, snapshot) {
                (Some(as_of), _) => query::Scope::Night(context.night(&as_of)?.to_string()),
                (None, Some(id)) => query::Scope::Snapshot(id),
                (None, None) => query::Scope::Everything,
            };
            query::sql(&context, &query, &scope, restricted, format).await
        }
        Command::Snapshots { command } => snapshots::run(&Context::open_or_default(common)?, command).await,
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
        Command::Schema => describe::schema(),
        Command::Tables { name } => describe::tables(common, name.as_deref()),
    }
}
