//! The flags.

mod below;

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tessera_contract::project::Override;
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

pub use self::below::{Causes, Explain, Identity, RulesAs, Segments, Snapshots, Verdict};

/// Nightly customer segmentation as a batch job.
#[derive(Debug, Parser)]
#[command(name = "tessera", version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The project file.
    #[arg(long, global = true, default_value = "tessera.toml", value_name = "FILE")]
    pub project: PathBuf,
    /// The lake: a folder or a URL; beats `lake.url` of the project file.
    #[arg(long, global = true, value_name = "URL")]
    pub lake: Option<String>,
    /// Where the work runs: in this process, on a cluster, or on one inside this process, to try a cluster's ways.
    #[arg(
        long,
        global = true,
        default_value = "local",
        value_name = "local|ballista://HOST:PORT|in-process",
        env = "TESSERA_ENGINE"
    )]
    pub engine: Place,
    /// Overrides a key of the project file, such as `--set segmentation.k=6`; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<Override>,
    /// Log lines as text or JSON.
    #[arg(long, global = true, value_enum, default_value_t = Log::Text)]
    pub log: Log,
    /// More log lines: how long every plan took; twice, the plans too; three times, everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Where the work runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Local,
    /// On the cluster whose scheduler is at HOST:PORT.
    Cluster(String),
    /// On a scheduler and two executors that are threads of this process.
    InProcess,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => return Ok(Self::Local),
            "in-process" => return Ok(Self::InProcess),
            _ => {}
        }
        match text.strip_prefix("ballista://").map(|address| address.trim_end_matches('/')) {
            Some("") | None => Err("it is `local`, `in-process`, or reads ballista://HOST:PORT".into()),
            Some(address) if address.contains(':') => Ok(Self::Cluster(address.to_owned())),
            Some(host) => Ok(Self::Cluster(format!("{host}:{SCHEDULER_PORT}"))),
        }
    }
}

/// Where a scheduler listens unless told otherwise.
pub const SCHEDULER_PORT: u16 = 50050;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// Aligned columns.
    Table,
    /// Comma-separated, with a header; texts as they are, whatever they contain.
    Csv,
    /// The same with an apostrophe before texts that a spreadsheet would compute.
    Spreadsheet,
    /// One object a line.
    Json,
    /// A Parquet file on standard output.
    Parquet,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a dirty shop, runs several nights over it and shows segments and KPIs. Nothing to set up.
    #[command(after_help = "Example: tessera demo --customers 20000")]
    Demo {
        /// Customers of the shop.
        #[arg(long, default_value_t = 20_000)]
        customers: u64,
        /// Folder for data, project file and lake.
        #[arg(long, default_value = "tessera-demo")]
        dir: PathBuf,
    },
    /// Writes a commented project file and a README into a folder.
    #[command(after_help = "Example: tessera init my-shop --from exports/orders.csv exports/customers.csv")]
    Init {
        /// The folder.
        dir: PathBuf,
        /// Files, folders or globs to look at: the project file maps them, with its guesses marked.
        #[arg(long, num_args = 1.., value_name = "FILE")]
        from: Vec<String>,
    },
    /// Checks the project file, opens every source, prints the mapping and what will not be available.
    #[command(after_help = "Example: tessera check --project my-shop/tessera.toml")]
    Check,
    /// Runs the whole night; a run that was stopped goes on after its last finished stage.
    #[command(after_help = "Example: tessera run --as-of 2026-11-01")]
    Run {
        /// The night's date: only events before it count.
        #[arg(long, value_name = "DATE")]
        as_of: String,
        /// Runs again even if the same run was published.
        #[arg(long)]
        force: bool,
        /// Reads all files of every source, whatever the parent night knows: the answer is the same.
        #[arg(long)]
        full: bool,
        /// Even if the date is still to come.
        #[arg(long)]
        future: bool,
    },
    /// Runs one stage, for a workflow scheduler.
    #[command(after_help = "Example: tessera stage ingest --as-of 2026-11-01")]
    Stage {
        /// ingest, reconcile, quality, identity, features, value, segment, validate, kpis, causes or publish.
        name: String,
        /// The night's date.
        #[arg(long, value_name = "DATE")]
        as_of: String,
        /// Even if the date is still to come.
        #[arg(long)]
        future: bool,
    },
    /// Runs night after night, skipping those that are published.
    #[command(after_help = "Example: tessera backfill --from 2026-10-01 --to 2026-10-31")]
    Backfill {
        /// The first night.
        #[arg(long, value_name = "DATE")]
        from: String,
        /// The last night.
        #[arg(long, value_name = "DATE")]
        to: String,
        /// Days from one night to the next.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        step: u16,
        /// Also those that are published: everything from the first night on is made anew.
        #[arg(long)]
        force: bool,
        /// Reads all files of every source, whatever the parent night knows: the answer is the same.
        #[arg(long)]
        full: bool,
        /// Even if the date is still to come.
        #[arg(long)]
        future: bool,
    },
    /// Runs two projects over the same nights, each in a lake of its own, and sets their segments, stability, KPIs and time side by side.
    #[command(
        after_help = "Example: tessera compare tessera.toml trial.toml --from 2026-10-01 --to 2026-11-01 --step 7\n\nCustomers are told to be the same by their keys: both projects need one secret (the same folder, or TESSERA_SECRET)."
    )]
    Compare {
        /// The two project files.
        #[arg(num_args = 2, required = true, value_names = ["A.toml", "B.toml"])]
        projects: Vec<PathBuf>,
        /// The first night.
        #[arg(long, value_name = "DATE")]
        from: String,
        /// The last night.
        #[arg(long, value_name = "DATE")]
        to: String,
        /// Days from one night to the next.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        step: u16,
        /// Where the two lakes are made; nights that they have are not made again.
        #[arg(long, default_value = "tessera-compare", value_name = "DIR")]
        dir: PathBuf,
        /// One JSON document.
        #[arg(long)]
        json: bool,
        /// Even if a date is still to come.
        #[arg(long)]
        future: bool,
    },
    /// Shows the stages of a night, what they read and write, and which are done. Runs nothing.
    #[command(after_help = "Example: tessera plan --as-of 2026-11-01")]
    Plan {
        /// The night's date.
        #[arg(long, value_name = "DATE")]
        as_of: String,
        /// Only the names of the stages, for scripts.
        #[arg(long)]
        stages: bool,
        /// Reads all files of every source, whatever the parent night knows: the answer is the same.
        #[arg(long)]
        full: bool,
    },
    /// Queries the tables of the lake.
    #[command(after_help = "Example: tessera sql \"SELECT segment_id, kpi, value FROM kpis\" --as-of 2026-11-01")]
    Sql {
        /// The query.
        query: String,
        /// Only the published night of this date.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// Only this snapshot, published or held.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// Only what the stages of this run have written, also if it failed or was held.
        #[arg(long, value_name = "ID", conflicts_with_all = ["as_of", "snapshot"])]
        run: Option<String>,
        /// Also tables with personal data.
        #[arg(long)]
        restricted: bool,
        /// How the rows are printed.
        #[arg(long, value_enum, default_value_t = Rows::Table)]
        format: Rows,
    },
    /// Shows what was set aside: how many rows by which rule and file, and with --restricted the rows themselves.
    #[command(
        after_help = "Example: tessera quarantine --rule bad_price --restricted\n\nA rule that is mended, switched off or lets a \
                            row pass by its expression releases what it held: the next night judges all rows of its entity again."
    )]
    Quarantine {
        /// Only rows of this entity.
        #[arg(long, value_name = "ENTITY")]
        source: Option<String>,
        /// Only rows that fail this rule, whether or not they left at an earlier one.
        #[arg(long, value_name = "RULE")]
        rule: Option<String>,
        /// Only rows of files whose name contains this.
        #[arg(long, value_name = "TEXT")]
        file: Option<String>,
        /// Also rows that repeat another or were superseded.
        #[arg(long)]
        all: bool,
        /// As the published night of this date knew it.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// As this snapshot, published or held, knew it.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// The rows themselves, which are personal.
        #[arg(long)]
        restricted: bool,
        /// So many rows at most; 0, all.
        #[arg(long, default_value_t = 20, value_name = "N")]
        rows: usize,
        /// How they are printed.
        #[arg(long, value_enum, default_value_t = Rows::Table)]
        format: Rows,
    },
    /// Who is who: which accounts are one person and why, whom people should look at, and what they decide. All of it is personal.
    Identity {
        #[command(subcommand)]
        command: Identity,
    },
    /// Why KPIs change: what was found, what was done about it, and the search in tables of your own.
    Causes {
        #[command(subcommand)]
        command: Causes,
    },
    /// Writes the page of a night beside it in the lake: one HTML file that needs nothing else, and holds no personal data. Prints where it is.
    #[command(after_help = "Example: tessera report --as-of 2026-11-01 --open")]
    Report {
        /// The published night of this date, instead of the newest one.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// This snapshot, published or held.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// Prints it as plain text for mail and chat, and writes nothing.
        #[arg(long, conflicts_with_all = ["out", "open"])]
        text: bool,
        /// Writes it to this file instead.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Opens it in the browser.
        #[arg(long)]
        open: bool,
    },
    /// Segments for use elsewhere.
    Segments {
        #[command(subcommand)]
        command: Segments,
    },
    /// The audit trail.
    Snapshots {
        #[command(subcommand)]
        command: Snapshots,
    },
    /// What a name means, what a night found of it, and what to do.
    Explain {
        #[command(subcommand)]
        command: Explain,
    },
    /// Removes files that no retained snapshot and no run that is at work or may go on needs.
    #[command(after_help = "Example: tessera vacuum --dry-run")]
    Vacuum {
        /// Leaves alone what is younger than this many hours: so long a run that was stopped can go on, and an expired
        /// snapshot be read to the end.
        #[arg(long, default_value_t = 48, value_name = "HOURS")]
        older_than: u32,
        /// Lists them only.
        #[arg(long)]
        dry_run: bool,
    },
    /// Runs a cluster's scheduler until it is stopped. It plans nothing and keeps nothing on disk; it needs no secret.
    #[command(after_help = "Example: tessera scheduler --bind-host 0.0.0.0")]
    Scheduler {
        /// Address to listen at. There is no authentication: keep it inside.
        #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
        bind_host: IpAddr,
        /// Port to listen at.
        #[arg(long, default_value_t = SCHEDULER_PORT)]
        bind_port: u16,
        /// Seconds without a sign of life after which an executor counts as lost.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(10..))]
        executor_timeout: u64,
    },
    /// Runs a cluster's executor until it is stopped. It needs the project's secret and access to the stores.
    #[command(after_help = "Example: tessera executor --scheduler scheduler:50050 --bind-host 0.0.0.0")]
    Executor {
        /// The scheduler.
        #[arg(long, value_name = "HOST:PORT")]
        scheduler: String,
        /// Address to listen at for those who fetch results. There is no authentication: keep it inside.
        #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
        bind_host: IpAddr,
        /// Port to listen at.
        #[arg(long, default_value_t = 50051)]
        bind_port: u16,
        /// The name under which the others reach it; absent, the address from which the scheduler sees it come.
        #[arg(long, value_name = "HOST")]
        external_host: Option<String>,
        /// Folder for intermediate results; absent, one of the system's for temporary files, removed at the end.
        #[arg(long, value_name = "DIR")]
        work_dir: Option<PathBuf>,
        /// Partitions worked on at once; absent, one a core.
        #[arg(long)]
        cores: Option<NonZeroUsize>,
        /// Memory for sorting, joining and aggregating, such as 4GiB; absent, 70 % of the machine's or the container's.
        #[arg(long, value_name = "SIZE")]
        memory: Option<String>,
        /// Seconds to wait for the scheduler at the start.
        #[arg(long, default_value_t = 60)]
        patience: u64,
    },
    /// Generates the files of a realistic, dirty shop.
    #[command(after_help = "Example: tessera generate --customers 100000 --out shop")]
    Generate {
        /// Customers.
        #[arg(long)]
        customers: u64,
        /// The folder to write to.
        #[arg(long)]
        out: PathBuf,
        /// Seed: the same one gives the same bytes.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// First day of the data.
        #[arg(long, default_value = "2024-01-01", value_name = "DATE")]
        from: String,
        /// The day after the last one; more days never change earlier ones.
        #[arg(long, default_value = "2026-01-01", value_name = "DATE")]
        to: String,
        /// The day that sign-ups, churn and planted changes refer to: keep it when moving --to.
        #[arg(long, default_value = "2026-01-01", value_name = "DATE")]
        horizon: String,
        /// File format.
        #[arg(long, value_enum, default_value_t = Files::Parquet)]
        format: Files,
    },
    /// Prints the JSON Schema of the project file.
    Schema {
        /// As a reference for people, in Markdown: every key with its type, default and meaning.
        #[arg(long)]
        markdown: bool,
    },
    /// Prints the data dictionary: entities, tables, columns, features, KPIs and rules.
    Tables {
        /// Only this table.
        name: Option<String>,
    },
}

/// File formats of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Files {
    /// Apache Parquet.
    Parquet,
    /// CSV with a header.
    Csv,
}

impl Common {
    /// Log lines go to standard error.
    pub fn start_telemetry(&self) {
        let level = match self.verbose {
            // A task of a cluster scans a part of what a scan declared, which is no reason to warn.
            0 => "warn,datafusion_datasource::file_scan_config=error,tessera=info,tessera_cluster=info",
            1 => {
                "warn,tessera=debug,tessera_cluster=debug,tessera_engine=debug,tessera_lake=debug,tessera_stages=debug"
            }
            2 => {
                "info,tessera=trace,tessera_cluster=trace,tessera_engine=trace,tessera_lake=trace,tessera_stages=trace"
            }
            _ => "debug",
        };
        let filter = EnvFilter::try_from_env("TESSERA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        // With -v, how long every plan took.
        let spans = if self.verbose > 0 { FmtSpan::CLOSE } else { FmtSpan::NONE };
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_span_events(spans)
            .with_writer(std::io::stderr)
            .with_ansi(terminal);
        match self.log {
            Log::Text => lines.with_target(false).compact().init(),
            Log::Json => lines.json().flatten_event(true).init(),
        }
    }
}
