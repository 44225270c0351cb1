//! `tessera`: the command line.
//!
//! The only place that knows flags, the environment, the clock and the terminal. Everything else is told.

#![expect(clippy::disallowed_methods, reason = "this is where the clock and the environment are read")]

mod chain;
mod cli;
mod commands;
mod context;
mod errors;
mod lease;
mod neighbours;
mod panics;
mod progress;
mod publish;
mod published;
mod reader;
mod record;
mod retention;
mod runner;
mod secret;
mod show;
mod sources;
mod store;
mod upkeep;
mod words;

use std::process::ExitCode;

use clap::Parser;

/// Batches are allocated and freed all the time, mostly by another thread: this takes less time for that than the system's allocator, and
/// gives memory back.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    panics::install();
    let cli = cli::Cli::parse();
    cli.common.start_telemetry();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to work with: {error}");
            return ExitCode::from(errors::TEMPORARY);
        }
    };
    // On a worker's deep stack: planning recurses over the whole query.
    let done = runtime.block_on(async move { tokio::spawn(commands::run(cli)).await });
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => errors::report(&error),
        Err(error) if error.is_panic() && panics::reader_gave_up().is_some() => errors::report(&anyhow::Error::new(
            errors::Damaged(panics::reader_gave_up().unwrap_or_default().to_owned()),
        )),
        Err(error) => {
            eprintln!("error: a bug in tessera: {error}\n  hint: please report it with the command and the log (-v)");
            ExitCode::FAILURE
        }
    }
}
