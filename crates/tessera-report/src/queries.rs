//! What the page asks of the tables. No customer's key is asked for, and every answer is bounded.

use crate::rows::{
    Backtest, Candidate, Cause, Check, Checks, Cohort, Drift, Gate, Input, Item, Kpi, Ledger, Lineage, Move, Name,
    NameBefore, Parameter, Past, Profile, Run, Term,
};

/// Which nights a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The tables of the night that is told of, and nothing else.
    Night,
    /// All published nights; the query itself looks at none after the one that is told of.
    Nights,
}

/// A question to the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Its name, under which its answer is handed over.
    pub name: &'static str,
    /// Which nights it sees.
    pub scope: Scope,
    /// The tables that it reads: where one is not there, it is not asked.
    pub tables: &'static [&'static str],
    /// The columns by which a row of the answer is found again, in the order of the address of a number.
    pub key: &'static [&'static str],
    /// The query; `{as_of}` stands for the night's date, `{k}` for the project's `privacy.k`.
    pub sql: &'static str,
}

impl Query {
    /// The query of a night.
    pub fn of(&self, as_of: &str, k: u32) -> String {
        self.sql.replace("{as_of}", as_of).replace("{k}", &k.to_string())
    }
}

macro_rules! query {
    ($row:ident, $scope:ident, [$($table:literal),*], $sql:literal) => {
        Query {
            name: <$row as crate::read::Row>::QUERY,
            scope: Scope::$scope,
            tables: &[$($table),*],
            key: $row::KEY,
            sql: $sql,
        }
    };
}

/// All that the page asks.
///
/// Most tables are of the class aggregate. Of those that are pseudonymous because a row of them may tell of a few
/// people, only this is read: names of segments, events of their lineage without shares, figures of samples and models
/// of `{k}` people at least, and findings on rows of files.
pub const QUERIES: &[Query] = &[
    query!(
        Kpi,
        Night,
        ["kpis"],
        "SELECT kpi, CAST(segment_id AS BIGINT) AS segment, value, CAST(numerator AS VARCHAR) AS exact, n, ci_low, \
         ci_high, previous, headline, target, threshold, verdict, gate, state FROM kpis \
         ORDER BY segment NULLS FIRST, kpi LIMIT 4000"
    ),
    query!(
        Term,
        Night,
        ["kpi_changes"],
        "SELECT CAST(step AS BIGINT) AS step, term, detail, CAST(versus_as_of AS VARCHAR) AS since, contribution, \
         CAST(numerator AS VARCHAR) AS exact, \"from\" AS before, \"to\" AS after, state FROM kpi_changes \
         WHERE kpi = 'revenue' AND segment_id IS NULL AND versus = 'previous' AND (split = 'people' OR split IS NULL) \
         ORDER BY step LIMIT 60"
    ),
    query!(
        Move,
        Night,
        ["kpi_changes"],
        "SELECT CAST(segment_id AS BIGINT) AS segment, term, detail, contribution, state FROM kpi_changes \
         WHERE kpi = 'customers' AND segment_id IS NOT NULL AND versus = 'previous' \
         AND (split = 'people' OR split IS NULL) ORDER BY segment, term, detail LIMIT 1000"
    ),
    query!(
        Cause,
        Night,
        ["causes"],
        "SELECT kpi, CAST(segment_id AS BIGINT) AS segment, CAST(rank AS BIGINT) AS rank, \
         CAST(versus_as_of AS VARCHAR) AS since, finding, array_to_string(dimensions, chr(31)) AS dimensions, \
         contribution, change, explanatory_power, bootstrap_share, \
         CAST(CASE WHEN since < as_of THEN since END AS VARCHAR) AS found_since, \
         CASE WHEN since = as_of THEN occurrences END AS occurrences, state FROM causes \
         WHERE finding = 'emerging' OR (versus = 'previous' AND (rank IS NOT NULL OR (segment_id IS NULL \
         AND (state <> 'ok' OR finding IN ('everywhere', 'mix', 'rest'))))) \
         ORDER BY segment NULLS FIRST, kpi, rank NULLS LAST, versus DESC, finding LIMIT 200"
    ),
    query!(
        Name,
        Night,
        ["model"],
        "SELECT CAST(segment_id AS BIGINT) AS segment, min(segment_name) AS name, \
         CAST(min(fitted_on) AS VARCHAR) AS fitted_on, count(DISTINCT feature) AS features FROM model \
         GROUP BY segment_id ORDER BY segment_id LIMIT 200"
    ),
    query!(
        NameBefore,
        Nights,
        ["model"],
        "SELECT CAST(segment_id AS BIGINT) AS segment, last_value(segment_name ORDER BY as_of) AS name FROM model \
         WHERE as_of <= DATE '{as_of}' AND as_of IN (SELECT DISTINCT as_of FROM model WHERE as_of <= DATE '{as_of}' \
         ORDER BY as_of DESC LIMIT 60) GROUP BY segment_id ORDER BY segment_id DESC LIMIT 400"
    ),
    query!(
        Profile,
        Night,
        ["segment_profiles"],
        "SELECT CAST(segment_id AS BIGINT) AS segment, feature, customers, mean, population_mean, effect_size \
         FROM segment_profiles WHERE feature IN (SELECT feature FROM segment_profiles GROUP BY feature \
         ORDER BY sum(customers * effect_size * effect_size) DESC NULLS LAST, feature LIMIT 12) \
         ORDER BY segment, feature LIMIT 2000"
    ),
    query!(
        Gate,
        Night,
        ["validation"],
        "SELECT metric, CAST(segment_id AS BIGINT) AS segment, value, threshold, state, gate FROM validation \
         WHERE threshold IS NOT NULL OR state = 'fail' ORDER BY metric, segment NULLS FIRST LIMIT 1000"
    ),
    query!(
        Drift,
        Night,
        ["drift"],
        "SELECT feature, clustered_on, psi, critical_value, CAST(reference_as_of AS VARCHAR) AS since, state \
         FROM drift WHERE n >= {k} AND (reference_n IS NULL OR reference_n >= {k}) \
         ORDER BY clustered_on DESC, psi DESC NULLS LAST, feature LIMIT 60"
    ),
    query!(
        Lineage,
        Night,
        ["segment_lineage"],
        "SELECT CAST(segment_id AS BIGINT) AS segment, CAST(parent_id AS BIGINT) AS parent, event, \
         CAST(born AS VARCHAR) AS born, CAST(ended AS VARCHAR) AS ended FROM segment_lineage \
         WHERE ended IS NULL OR ended = as_of ORDER BY segment, parent LIMIT 300"
    ),
    query!(
        Ledger,
        Night,
        ["ledger"],
        "SELECT source, CAST(step AS BIGINT) AS step, rule, severity, rows_failed AS failed, rows_in, \
         rows_clean AS clean, rows_quarantined AS quarantined, rows_merged AS merged, rows_superseded AS superseded, \
         rows_after_as_of AS later, rows_in_change AS came, CAST(amount_in AS VARCHAR) AS amount_in, \
         CAST(amount_clean AS VARCHAR) AS amount_clean FROM ledger \
         WHERE step = 0 OR rows_failed > 0 OR rows_quarantined + rows_merged + rows_superseded + rows_after_as_of > 0 \
         ORDER BY source, step LIMIT 120"
    ),
    query!(
        Check,
        Night,
        ["quality"],
        "SELECT \"check\" AS name, source, value, low, high, state, gate, told FROM quality \
         WHERE state = 'fail' OR \"check\" IN ('freshness', 'newest_day') ORDER BY state, source, name LIMIT 60"
    ),
    query!(
        Checks,
        Night,
        ["quality"],
        "SELECT state, gate, count(*) AS checks FROM quality GROUP BY state, gate ORDER BY state, gate LIMIT 20"
    ),
    query!(
        Input,
        Night,
        ["inputs"],
        "SELECT source, feed, count(*) AS files, sum(\"rows\") AS file_rows, CAST(sum(amount) AS VARCHAR) AS amount, \
         CAST(min(first_seen) AS VARCHAR) AS first_night, CAST(max(first_seen) AS VARCHAR) AS last_night, \
         sum(CASE WHEN first_seen = as_of THEN 1 ELSE 0 END) AS new_files, \
         sum(CASE WHEN lacks IS NOT NULL AND lacks <> '' THEN 1 ELSE 0 END) AS lacking \
         FROM inputs GROUP BY source, feed ORDER BY source, feed LIMIT 60"
    ),
    query!(
        Candidate,
        Night,
        ["model_candidates"],
        "SELECT CAST(row_number() OVER (ORDER BY chosen DESC, score DESC NULLS LAST, algorithm, k DESC, origin, \
         feature_set, seed) AS BIGINT) AS place, algorithm, feature_set, origin, k, silhouette, prediction_strength, \
         min_size, objective_spread, score, chosen, reason FROM model_candidates ORDER BY place LIMIT 24"
    ),
    query!(
        Parameter,
        Night,
        ["clv_model"],
        "SELECT model, parameter, value, std_error, n, time_unit, chosen, state, told FROM clv_model \
         WHERE n IS NULL OR n >= {k} ORDER BY chosen DESC, model, parameter LIMIT 40"
    ),
    query!(
        Backtest,
        Night,
        ["clv_backtest"],
        "SELECT CAST(horizon_days AS BIGINT) AS horizon, CAST(reference_as_of AS VARCHAR) AS since, \
         CAST(tenth AS BIGINT) AS tenth, customers, predicted, observed, std_error FROM clv_backtest \
         WHERE customers >= {k} ORDER BY horizon, tenth NULLS FIRST LIMIT 44"
    ),
    query!(
        Item,
        Night,
        ["kpi_breakdowns"],
        "SELECT CAST(row_number() OVER (ORDER BY breakdown, dimension NULLS FIRST, item NULLS FIRST) AS BIGINT) \
         AS place, breakdown, dimension, item, value, versus, difference, difference_low AS low, \
         difference_high AS high, needed_n, n, state FROM kpi_breakdowns \
         WHERE segment_id IS NULL AND step IS NULL ORDER BY place LIMIT 120"
    ),
    query!(
        Cohort,
        Night,
        ["kpi_breakdowns"],
        "SELECT breakdown, item, CAST(step AS BIGINT) AS step, value, n, state FROM kpi_breakdowns \
         WHERE segment_id IS NULL AND step BETWEEN 1 AND 13 ORDER BY breakdown, item DESC NULLS FIRST, step LIMIT 260"
    ),
    query!(
        Past,
        Nights,
        ["kpis"],
        "SELECT CAST(as_of AS VARCHAR) AS as_of, kpi, CAST(segment_id AS BIGINT) AS segment, value, state FROM kpis \
         WHERE as_of <= DATE '{as_of}' AND (segment_id IS NULL OR kpi IN ('customers', 'revenue')) \
         AND as_of IN (SELECT DISTINCT as_of FROM kpis WHERE as_of <= DATE '{as_of}' ORDER BY as_of DESC LIMIT 60) \
         ORDER BY kpi, segment NULLS FIRST, as_of LIMIT 12000"
    ),
    query!(
        Run,
        Nights,
        ["snapshots"],
        "SELECT CAST(as_of AS VARCHAR) AS as_of, snapshot_id, state FROM snapshots WHERE as_of <= DATE '{as_of}' \
         ORDER BY as_of DESC, sequence DESC LIMIT 60"
    ),
];
