//! The kinds of rows that the page is written from: one for each query, column by column.

use crate::read::{FactsError, KeyPart, Number, Reader, Row};

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident = $query:literal [$($key:ident),*] { $($field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq)]
            pub(crate) struct $name { $(pub $field: $kind),* }

            impl $name {
                /// The columns by which a row is found again.
                pub const KEY: &'static [&'static str] = &[$(stringify!($key)),*];
            }

            impl Row for $name {
                const QUERY: &'static str = $query;
                fn read(reader: &Reader<'_>) -> Result<Self, FactsError> {
                    reader.finish(&[$(stringify!($field)),*])?;
                    Ok(Self { $($field: reader.take(stringify!($field))?),* })
                }
                fn at(&self, column: &str) -> String {
                    let key: Vec<String> = vec![$(self.$key.part()),*];
                    format!("{}/{}/{column}", $query, key.join(","))
                }
            }
        )*
    };
}

rows! {
    /// A KPI of a segment, or of everybody.
    Kpi = "kpis" [kpi, segment] {
        kpi: String, segment: Option<i64>, value: Option<Number>, exact: Option<Number>, n: Option<Number>,
        ci_low: Option<Number>, ci_high: Option<Number>, previous: Option<Number>, headline: Option<bool>,
        target: Option<Number>, threshold: Option<Number>, verdict: Option<String>, gate: Option<String>,
        state: String,
    }
    /// A term of the change of revenue.
    Term = "waterfall" [step] {
        step: Option<i64>, term: Option<String>, detail: Option<String>, since: Option<String>,
        contribution: Option<Number>, exact: Option<Number>, before: Option<Number>, after: Option<Number>,
        state: String,
    }
    /// Who came to a segment and who left it.
    Move = "moves" [segment, term, detail] {
        segment: i64, term: Option<String>, detail: Option<String>, contribution: Option<Number>, state: String,
    }
    /// A finding: why a KPI changed, and where.
    Cause = "causes" [kpi, segment, rank, finding] {
        kpi: String, segment: Option<i64>, rank: Option<i64>, since: Option<String>, finding: Option<String>,
        dimensions: Option<String>, contribution: Option<Number>, change: Option<Number>,
        explanatory_power: Option<Number>, bootstrap_share: Option<Number>, found_since: Option<String>,
        occurrences: Option<Number>, state: String,
    }
    /// The name of a segment.
    Name = "names" [segment] {
        segment: i64, name: Option<String>, fitted_on: Option<String>, features: Option<Number>,
    }
    /// The last name that a segment had, on whatever night.
    NameBefore = "names_before" [segment] { segment: i64, name: Option<String> }
    /// A feature of the members of a segment.
    Profile = "profiles" [segment, feature] {
        segment: i64, feature: String, customers: Option<Number>, mean: Option<Number>,
        population_mean: Option<Number>, effect_size: Option<Number>,
    }
    /// A check of the model or of a segment.
    Gate = "gates" [metric, segment] {
        metric: String, segment: Option<i64>, value: Option<Number>, threshold: Option<Number>, state: String,
        gate: Option<String>,
    }
    /// How far a feature has gone.
    Drift = "drift" [feature] {
        feature: String, clustered_on: Option<bool>, psi: Option<Number>, critical_value: Option<Number>,
        since: Option<String>, state: String,
    }
    /// What a segment is of.
    Lineage = "lineage" [segment, parent] {
        segment: i64, parent: Option<i64>, event: String, born: Option<String>, ended: Option<String>,
    }
    /// A rule of the waterfall of rows, or the total of a source.
    Ledger = "ledger" [source, step] {
        source: String, step: i64, rule: String, severity: Option<String>, failed: Option<Number>,
        rows_in: Option<Number>, clean: Option<Number>, quarantined: Option<Number>, merged: Option<Number>,
        superseded: Option<Number>, later: Option<Number>, came: Option<Number>, amount_in: Option<Number>,
        amount_clean: Option<Number>,
    }
    /// A check of the rows that failed, or that says how fresh they are.
    Check = "quality" [name, source] {
        name: String, source: String, value: Option<Number>, low: Option<Number>, high: Option<Number>,
        state: String, gate: Option<String>, told: Option<String>,
    }
    /// How many checks there are by state and weight.
    Checks = "quality_states" [state, gate] { state: String, gate: Option<String>, checks: Number }
    /// The files of a source.
    Input = "inputs" [source, feed] {
        source: String, feed: Option<String>, files: Number, file_rows: Option<Number>, amount: Option<Number>,
        first_night: Option<String>, last_night: Option<String>, new_files: Option<Number>,
        lacking: Option<Number>,
    }
    /// A model that was tried.
    Candidate = "candidates" [place] {
        place: i64, algorithm: Option<String>, feature_set: Option<String>, origin: Option<String>,
        k: Option<Number>, silhouette: Option<Number>, prediction_strength: Option<Number>,
        min_size: Option<Number>, objective_spread: Option<Number>, score: Option<Number>, chosen: Option<bool>,
        reason: Option<String>,
    }
    /// A parameter of a model of value.
    Parameter = "value_model" [model, parameter] {
        model: String, parameter: Option<String>, value: Option<Number>, std_error: Option<Number>,
        n: Option<Number>, time_unit: Option<String>, chosen: Option<bool>, state: String, told: Option<String>,
    }
    /// What was predicted, beside what came.
    Backtest = "backtest" [horizon, since, tenth] {
        horizon: i64, since: String, tenth: Option<i64>, customers: Option<Number>, predicted: Option<Number>,
        observed: Option<Number>, std_error: Option<Number>,
    }
    /// An item of a breakdown, of everybody.
    Item = "breakdowns" [place] {
        place: i64, breakdown: String, dimension: Option<String>, item: Option<String>, value: Option<Number>,
        versus: Option<Number>, difference: Option<Number>, low: Option<Number>, high: Option<Number>,
        needed_n: Option<Number>, n: Option<Number>, state: String,
    }
    /// The share of a cohort that came back.
    Cohort = "cohorts" [breakdown, item, step] {
        breakdown: String, item: Option<String>, step: i64, value: Option<Number>, n: Option<Number>,
        state: String,
    }
    /// A KPI on a night.
    Past = "history" [kpi, segment, as_of] {
        as_of: String, kpi: String, segment: Option<i64>, value: Option<Number>, state: String,
    }
    /// A night.
    Run = "nights" [as_of, snapshot_id] { as_of: String, snapshot_id: Option<String>, state: Option<String> }
}
