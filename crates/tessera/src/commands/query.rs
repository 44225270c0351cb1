//! `sql`, and the summary that ends a night.

use anyhow::{Context as _, Result};
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    common::ScalarValue,
    prelude::{DataFrame, lit},
};
use tessera_contract::{table::Table, tables};
use tessera_engine::{Engine, StoredFile, formula::Words};
use tessera_lake::{DataFile, SnapshotRecord};

use crate::{
    chain,
    cli::Rows,
    context::Context,
    errors::Usage,
    reader::{self, Found, Scope},
    runner::Run,
    secret, show, words,
};

/// Answers a query.
pub async fn sql(context: &Context, query: &str, scope: &Scope, restricted: bool, format: Rows) -> Result<()> {
    // Who may see persons may also ask for the key of one.
    let secret = if restricted { secret::existing(&context.folder)? } else { None };
    let engine = context.engine(secret.as_ref(), "_tessera/scratch").await?;
    let tables = reader::tables(context, scope).await?;
    let frames = frames(context, &engine, tables, restricted)?;
    let named: Vec<_> = frames.iter().map(|(name, frame)| (name.as_str(), frame)).collect();
    let frame = engine.sql(query, &named, &Words::none()).await.map_err(|error| {
        let hidden: Vec<_> =
            tables::all(&context.project).into_iter().filter(Table::restricted).map(|t| t.name).collect();
        let text = error.to_string();
        if text.contains(tessera_engine::session::ONLY_READS) {
            let what = text.rsplit_once(": ").map_or(text.as_str(), |(_, what)| what);
            return anyhow::Error::new(Usage(format!(
                "`tessera sql` only reads the tables of the lake, and does not do this: {what}; to keep an answer, send it \
                 to a file: --format parquet > answer.parquet"
            )));
        }
        match hidden.iter().find(|t| !restricted && text.contains(t.as_str())) {
            Some(table) => anyhow::Error::new(Usage(format!(
                "the table {table} holds personal data; ask for it with --restricted"
            ))),
            None => anyhow::Error::new(Usage(crate::errors::message(&error.into()))),
        }
    })?;
    show::rows(frame, format).await
}

/// Answers a query of ours over all tables, those with personal data among them.
pub async fn personal(context: &Context, query: &str, scope: &Scope, format: Rows) -> Result<()> {
    let tables = Tables::open(context, scope, true).await?;
    if !tables.has("quarantine") {
        let problem = "no night is published that set rows aside; of one that was held, name it: --snapshot ID, as `tessera snapshots list` has it";
        return Err(Usage(problem.to_owned()).into());
    }
    show::rows(tables.sql(query).await?, format).await
}

/// Tables, and an engine to ask them with.
pub struct Tables {
    engine: Engine,
    frames: Vec<(String, DataFrame)>,
}

impl Tables {
    /// Those of a scope; those with personal data among them, if they are `restricted` ones.
    pub async fn open(context: &Context, scope: &Scope, restricted: bool) -> Result<Self> {
        let engine = context.engine(None, "_tessera/scratch").await?;
        let frames = frames(context, &engine, reader::tables(context, scope).await?, restricted)?;
        Ok(Self { engine, frames })
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.frames.iter().any(|(found, _)| found == name)
    }

    /// Whether there is one that has such a column: tables of former programs have fewer.
    pub fn has_column(&self, name: &str, column: &str) -> bool {
        let has = |frame: &DataFrame| frame.schema().has_column_with_unqualified_name(column);
        self.frames.iter().any(|(found, frame)| found == name && has(frame))
    }

    /// A query of ours.
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        let named: Vec<_> = self.frames.iter().map(|(name, frame)| (name.as_str(), frame)).collect();
        Ok(self.engine.sql(query, &named, &Words::none()).await?)
    }

    /// Its rows.
    pub async fn collect(&self, query: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.sql(query).await?.collect().await?)
    }
}

/// The tables by name, as far as they may be seen.
fn frames(context: &Context, engine: &Engine, found: Vec<Found>, restricted: bool) -> Result<Vec<(String, DataFrame)>> {
    let known = tables::all(&context.project);
    let visible = |name: &str| restricted || !known.iter().any(|t| t.name == name && t.restricted());
    found
        .into_iter()
        .filter(|table| visible(&table.name))
        .map(|table| Ok((table.name.clone(), of_all(context, engine, &table.schema, &table.files)?)))
        .collect()
}

fn of_all(context: &Context, engine: &Engine, schema: &SchemaRef, files: &[DataFile]) -> Result<DataFrame> {
    let mut nights: std::collections::BTreeMap<Option<&str>, Vec<StoredFile>> = std::collections::BTreeMap::new();
    for file in files {
        let stored = context.stored(&file.path, file.bytes, file.rows);
        nights.entry(file.as_of.as_deref()).or_default().push(stored);
    }
    let mut all: Option<DataFrame> = None;
    for (night, files) in nights {
        let one = match night {
            Some(night) => of_night(context, engine, schema, night, files)?,
            None => read(context, engine, schema.clone(), files)?,
        };
        all = Some(match all {
            Some(all) => all.union(one)?,
            None => one,
        });
    }
    match all {
        Some(all) => Ok(all),
        None => read(context, engine, schema.clone(), Vec::new()),
    }
}

/// The files of a night with the column that stands in their path.
fn of_night(
    context: &Context,
    engine: &Engine,
    schema: &SchemaRef,
    night: &str,
    files: Vec<StoredFile>,
) -> Result<DataFrame> {
    let inner: Vec<Field> =
        schema.fields().iter().filter(|f| f.name() != "as_of").map(|f| f.as_ref().clone()).collect();
    let frame = read(context, engine, std::sync::Arc::new(Schema::new(inner.clone())), files)?;
    let date: jiff::civil::Date = night.parse().with_context(|| format!("{night} is no date"))?;
    let days = (date - jiff::civil::Date::constant(1970, 1, 1)).get_days();
    let mut columns = vec![lit(ScalarValue::Date32(Some(days))).alias("as_of")];
    columns.extend(inner.iter().map(|f| datafusion::logical_expr::ident(f.name())));
    Ok(frame.select(columns)?)
}

fn read(context: &Context, engine: &Engine, schema: SchemaRef, files: Vec<StoredFile>) -> Result<DataFrame> {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    debug_assert!(fields.iter().all(|f| f.data_type() != &DataType::Null));
    Ok(engine.read(std::sync::Arc::new(Schema::new(fields)), &context.store_url()?, files)?)
}

/// The ledger, segments, KPIs and gates of a snapshot, on standard output.
pub async fn summary(context: &Context, snapshot: &SnapshotRecord) -> Result<()> {
    println!("night of {} · snapshot {}", snapshot.content.as_of, snapshot.snapshot_id);
    sections(context, reader::of_snapshot(context, snapshot).await?).await
}

/// The same of what a run that ended early has done; nothing if it has done nothing.
pub async fn so_far(run: &Run<'_>) -> Result<()> {
    let documents = run.plan.iter().filter(|p| p.done.is_some()).map(|p| &p.path);
    let found = reader::of_records(run.context, documents).await?;
    if found.is_empty() {
        return Ok(());
    }
    println!("night of {} · run {}, not published", run.as_of, run.id);
    sections(run.context, found).await?;
    println!("\nMore of it: tessera sql --run {} \"SELECT * FROM ledger\"", run.id);
    Ok(())
}

/// So many changes are told.
const CHANGES: usize = 5;
/// So much of what emerges.
const EMERGING: usize = 3;

/// What the tables say that are there.
async fn sections(context: &Context, found: Vec<Found>) -> Result<()> {
    let engine = context.engine(None, "_tessera/scratch").await?;
    let frames = frames(context, &engine, found, false)?;
    let tables = Tables { engine, frames };
    let there = |name: &str| tables.has(name);
    let ask = async |query: &str| tables.collect(query).await;
    let currency = &context.project.project.currency;

    if there("ledger") {
        let batches =
            ask("SELECT source, rows_in, rows_clean, rows_repaired, rows_quarantined, rows_merged, rows_superseded, \
             rows_after_as_of, amount_clean FROM ledger WHERE step = 0 ORDER BY source")
            .await?;
        println!("\nRows, from the sources to the clean tables (they balance, in rows and in {currency})");
        let header =
            ["source", "in", "clean", "repaired", "quarantined", "merged", "superseded", "later", "clean amount"];
        println!("{}", show::table(&batches, &header)?);

        let batches = ask("SELECT source, rule, severity, taken, amount, share FROM ( \
               SELECT source, rule, severity, step, rows_quarantined + rows_merged + rows_superseded AS taken, \
                 amount_quarantined + amount_merged + amount_superseded AS amount, \
                 CAST(rows_quarantined + rows_merged + rows_superseded AS DOUBLE) \
                   / max(CASE WHEN step = 0 THEN rows_in END) OVER (PARTITION BY source) AS share FROM ledger) \
             WHERE step > 0 AND taken > 0 ORDER BY taken DESC, source, step LIMIT 6")
        .await?;
        println!("\nRules that took most");
        println!("{}", show::table(&batches, &["source", "rule", "severity", "rows", "amount", "of its rows"])?);
    }
    if there("quality") {
        let batches = ask(
            "SELECT \"check\", source, value, low, high, state, told FROM quality WHERE state = 'fail' ORDER BY gate DESC, 1, 2",
        )
        .await?;
        let count = ask("SELECT count(*), count(DISTINCT \"check\") FROM quality WHERE state = 'pass'").await?;
        let passed = count.first().map(|batch| chain::integers(batch, 0)).transpose()?;
        let passed = passed.and_then(|passed| passed.first().copied().flatten()).unwrap_or(0);
        println!("\nChecks of the rows as a whole: {passed} passed");
        if batches.iter().any(|batch| batch.num_rows() > 0) {
            println!(
                "{}",
                show::table(&batches, &["check", "source", "value", "at least", "at most", "state", "finding"])?
            );
        }
    }
    if there("segments") {
        let batches = ask(
            "SELECT segment_id, segment_name, count(*), CAST(count(*) AS DOUBLE) / sum(count(*)) OVER () FROM segments \
             GROUP BY 1, 2 ORDER BY 1",
        )
        .await?;
        println!("\nSegments");
        println!("{}", show::table(&batches, &["segment", "name", "customers", "share"])?);
    }
    if there("kpis") {
        let batches =
            ask("SELECT kpi, coalesce(CAST(segment_id AS VARCHAR), 'all') AS segment, value, state FROM kpis \
             ORDER BY segment_id NULLS LAST")
            .await?;
        let of = match context.project.project.objective {
            Some(objective) => format!("KPIs of {}", format!("{objective:?}").to_lowercase()),
            None => "KPIs".to_owned(),
        };
        println!("\n{of} per segment (amounts in {currency})");
        println!(
            "{}",
            show::kpis(&batches, context.project.enabled_kpis().filter(|(_, kpi)| context.project.headline(kpi)))?
        );
    }
    if there("kpi_changes") {
        let query = words::query("segment_id IS NULL AND versus = 'previous'");
        let headline =
            |of: &str| context.project.enabled_kpis().any(|(name, kpi)| name == of && context.project.headline(kpi));
        let mut changes = words::changes(&ask(&query).await?, &context.project)?;
        changes.retain(|change| headline(&change.kpi) && change.size() > 0.0);
        changes.sort_by(|a, b| b.size().total_cmp(&a.size()));
        if !changes.is_empty() {
            println!("\nWhat changed most, and by whom (`tessera explain kpi NAME --segment ID` shows all terms)");
            let first = "rank = 1 AND segment_id IS NULL AND versus = 'previous'";
            let places = match there("causes") {
                true => {
                    words::places(&ask(&words::places_query(first, tables.has_column("causes", "cause_id"))).await?)?
                }
                false => Vec::new(),
            };
            for change in changes.iter().take(CHANGES) {
                println!("  {}", change.sentence("everybody"));
                if let Some(place) = places.iter().find(|place| place.kpi == change.kpi) {
                    println!("    {}", place.sentence(&change.unit));
                }
            }
        }
        if there("causes") {
            let emerging = "finding = 'emerging' AND segment_id IS NULL";
            let mut places =
                words::places(&ask(&words::places_query(emerging, tables.has_column("causes", "cause_id"))).await?)?;
            places.sort_by(|a, b| b.size().total_cmp(&a.size()));
            for place in places.iter().filter(|place| headline(&place.kpi)).take(EMERGING) {
                let unit = context.project.kpis.get(&place.kpi).map(|kpi| kpi.unit.as_str()).unwrap_or_default();
                println!("  {}: {}", place.kpi.replace('_', " "), place.sentence(unit));
            }
        }
    }
    if there("kpi_breakdowns") {
        let percent = |column: &str| format!("round(100 * {column}, 1)");
        let query = format!(
            "SELECT item, {}, {}, {}, {}, {}, needed_n, state FROM kpi_breakdowns WHERE breakdown = 'uplift' \
             AND dimension = 'campaign' AND segment_id IS NULL ORDER BY item = 'other', item",
            percent("value"),
            percent("versus"),
            percent("difference"),
            percent("difference_low"),
            percent("difference_high")
        );
        let batches = ask(&query).await?;
        if batches.iter().any(|batch| batch.num_rows() > 0) {
            println!(
                "\nCampaigns: contacts that led to a conversion, in % (`needed`: people in each group to see such an uplift)"
            );
            let header = ["campaign", "contacted", "holdout", "uplift", "from", "to", "needed", "state"];
            println!("{}", show::table(&batches, &header)?);
        }
    }
    if there("validation") {
        let batches = ask(
            "SELECT metric, CASE WHEN scope = 'model' THEN 'all customers' ELSE 'segment ' || first_value(segment_id ORDER BY state, value) END \
             AS scope, first_value(value ORDER BY state, value) AS value, max(threshold) AS threshold, min(state) AS state \
             FROM validation WHERE gate <> 'none' GROUP BY metric, scope ORDER BY metric",
        )
        .await?;
        println!("\nGates (of those asked of every segment, the tightest)");
        println!("{}", show::table(&batches, &["gate", "of", "value", "threshold", "state"])?);
    }
    Ok(())
}

/// The KPIs of everybody, a column per published night.
pub async fn nights(context: &Context) -> Result<()> {
    let tables = Tables::open(context, &Scope::Everything, false).await?;
    let query =
        "SELECT kpi, CAST(as_of AS VARCHAR) AS night, value, state FROM kpis WHERE segment_id IS NULL ORDER BY as_of";
    let batches = tables.collect(query).await?;
    println!(
        "{}",
        show::kpis(&batches, context.project.enabled_kpis().filter(|(_, kpi)| context.project.headline(kpi)))?
    );
    Ok(())
}
