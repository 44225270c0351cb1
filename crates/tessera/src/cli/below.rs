//! The commands below `causes`, `explain`, `identity` and `snapshots`.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Subcommand, ValueEnum};

use super::Rows;

/// What people decide of two accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verdict {
    /// They are one person.
    Same,
    /// They are two.
    Different,
}

/// `tessera causes …`
#[derive(Debug, Subcommand)]
pub enum Causes {
    /// What was found on nights in a row, within 400 days of the newest, with what people noted of it.
    #[command(after_help = "Example: tessera causes list --json")]
    List {
        /// One object a line.
        #[arg(long)]
        json: bool,
    },
    /// Notes what was done about a cause, or is known of it. It is told wherever the cause is, and changes no night.
    #[command(
        after_help = "Example: tessera causes annotate 9f86d081884c --note \"payment in the app was broken; mended on the 18th\""
    )]
    Annotate {
        /// The cause, as `causes list` has it.
        #[arg(value_name = "CAUSE")]
        cause: String,
        /// What was done.
        #[arg(long, value_name = "TEXT")]
        note: String,
        /// Who says so: user@host, unless it is said.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Proposes changes of the project file: features that would tell whom recurring causes concern, features that say what another one does, and more
    /// segments where a part of one goes its own way. Prints a diff, and changes nothing.
    #[command(after_help = "Example: tessera causes propose > proposal.diff")]
    Propose,
    /// Finds where a change happened in CSV files of your own: the search of the stage `causes`, over cells that you give.
    ///
    /// Every line is a cell: what two columns say before (or as forecast) and after, and all other columns are its dimensions. Columns of the same
    /// names with `_of` at their end make a ratio of it. Needs no project.
    #[command(after_help = "Example: tessera causes locate orders.csv --before forecast --after orders")]
    Locate {
        /// CSV files with a header, each by itself.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The column of what was before, or was to be expected.
        #[arg(long, default_value = "before", value_name = "COLUMN")]
        before: String,
        /// The column of what came.
        #[arg(long, default_value = "after", value_name = "COLUMN")]
        after: String,
        /// The column of an independent part (a shard of the customers): how sure a finding is then follows from how much parts differ.
        #[arg(long, value_name = "COLUMN")]
        part: Option<String>,
        /// One JSON document per file and line.
        #[arg(long)]
        json: bool,
    },
}

/// How rules are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RulesAs {
    /// A query over the columns of `features` that gives everybody a segment.
    Sql,
    /// A line a rule, for people.
    Rules,
    /// One JSON document.
    Json,
}

/// `tessera segments …`
#[derive(Debug, Subcommand)]
pub enum Segments {
    /// Who is in which segment, in people's units: a small tree that stands for the model, and says whom it places elsewhere.
    #[command(after_help = "Example: tessera segments export --as sql > segments.sql")]
    Export {
        /// The form.
        #[arg(long = "as", value_enum, default_value_t = RulesAs::Sql)]
        form: RulesAs,
        /// As on the published night of this date, instead of the newest one.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// As in this snapshot, published or held.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
    },
}

/// `tessera explain …`
#[derive(Debug, Subcommand)]
pub enum Explain {
    /// A gate: what it measures, what it asks for, whether it held and by how much, and what to do where it does not.
    #[command(after_help = "Example: tessera explain gate stability --as-of 2026-11-01")]
    Gate {
        /// Its name: an entry of [validation.gates] or [quality.checks], or a KPI with at_least or at_most.
        name: String,
        /// As on the published night of this date, instead of the newest one.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// As in this snapshot, published or held.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
    },
    /// A KPI: what it adds up, and why it is another one than on earlier nights.
    #[command(after_help = "Example: tessera explain kpi revenue --segment 2 --as-of 2026-11-01")]
    Kpi {
        /// Its name: an entry of [kpis].
        name: String,
        /// Of this segment, instead of everybody.
        #[arg(long, value_name = "ID")]
        segment: Option<i32>,
        /// As on the published night of this date, instead of the newest one.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// As in this snapshot, published or held.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
    },
}

/// `tessera identity …`
#[derive(Debug, Subcommand)]
pub enum Identity {
    /// Shows which accounts are one person with that of an id, why, who nearly is, and what they say together.
    #[command(after_help = "Example: tessera identity explain C1042")]
    Explain {
        /// A customer_id of the sources, an account_key or a customer_key.
        id: String,
        /// As the published night of this date knew it.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// As this snapshot, published or held, knew it.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
    },
    /// Lists pairs of accounts that are alike, but not enough, or that something speaks against.
    #[command(after_help = "Example: tessera identity review --rows 50")]
    Review {
        /// As the published night of this date knew it.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// As this snapshot, published or held, knew it.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// So many at most; 0, all.
        #[arg(long, default_value_t = 20, value_name = "N")]
        rows: usize,
        /// How they are printed.
        #[arg(long, value_enum, default_value_t = Rows::Table)]
        format: Rows,
    },
    /// Writes into the project's file of decisions that two accounts are one person, or are not; the next night honours it.
    #[command(after_help = "Example: tessera identity decide C1042 C2077 different")]
    Decide {
        /// A customer_id of the sources.
        id: String,
        /// Another.
        other: String,
        /// What they are.
        #[arg(value_enum)]
        verdict: Verdict,
    },
    /// How well accounts were resolved, in figures.
    Report {
        /// Of the published night of this date.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// Of this snapshot, published or held.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// How the figures are printed.
        #[arg(long, value_enum, default_value_t = Rows::Table)]
        format: Rows,
    },
    /// Holds the persons against a CSV file that knows them: precision, recall and F1 over pairs of accounts.
    ///
    /// The file has the columns customer_id and person, in any order and among others. Accounts whose person is empty, or that
    /// the file does not have, take no part.
    #[command(after_help = "Example: tessera identity evaluate --truth truth.csv")]
    Evaluate {
        /// The file.
        #[arg(long, value_name = "FILE")]
        truth: PathBuf,
        /// Of the published night of this date.
        #[arg(long, value_name = "DATE", conflicts_with = "snapshot")]
        as_of: Option<String>,
        /// Of this snapshot, published or held.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// How the figures are printed.
        #[arg(long, value_enum, default_value_t = Rows::Table)]
        format: Rows,
    },
}

/// `tessera snapshots …`
#[derive(Debug, Subcommand)]
pub enum Snapshots {
    /// Lists the runs that were published or held.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows one: tables with versions and fingerprints, inputs, gates.
    Show {
        /// The snapshot; absent, the current one.
        id: Option<String>,
        /// The night's date instead of an id.
        #[arg(long, value_name = "DATE", conflicts_with = "id")]
        as_of: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Checks the chain of the registry, and of every snapshot the Delta logs, the checksum of every file and the stage records.
    Verify {
        /// Also that the registry has a row of this hash, as an earlier `verify` printed it: a cut tail passes for whole otherwise.
        #[arg(long, value_name = "HASH")]
        expect: Option<String>,
    },
    /// Says which nights are retained: all others expire, and `vacuum` removes what only they need.
    #[command(after_help = "Example: tessera snapshots expire --keep 35 --keep-months 24")]
    Expire {
        /// So many of the newest published nights.
        #[arg(long, value_name = "NIGHTS")]
        keep: NonZeroUsize,
        /// And of so many of the newest months the last published night.
        #[arg(long, value_name = "MONTHS", default_value_t = 0)]
        keep_months: usize,
        /// Lists what would expire only.
        #[arg(long)]
        dry_run: bool,
    },
    /// Takes a published night back, without removing it: it is no longer current, and no later night goes on from it.
    Retract {
        /// The snapshot.
        id: String,
        /// Why: it stands in the registry.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}
