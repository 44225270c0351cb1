//! `compare`: two projects over the same nights, side by side, each in a lake of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tessera_algo::agreement::adjusted_rand;
use tessera_engine::formula::text;

use super::{
    night::{self, Outcome},
    query::Tables,
};
use crate::{
    chain::{floats, texts},
    cli::Common,
    context::Context,
    errors::{Held, Usage, message},
    published,
    reader::Scope,
    runner::Ask,
    show,
};

/// Customers by whom it is said how far the segments of both agree: those of the first keys, which are random.
const AGREE: usize = 100_000;

/// What a figure says of a project.
enum Better {
    Higher,
    Lower,
    Neither,
}

/// A figure of each night; what is compared is its mean.
struct Figure {
    name: String,
    unit: &'static str,
    better: Better,
    /// One row a night.
    query: String,
}

/// A project with its lake and what became of the nights.
struct Side {
    file: PathBuf,
    context: Context,
    published: BTreeSet<String>,
    held: Vec<String>,
    seconds: f64,
}

/// Runs both and says how they differ.
pub async fn compare(common: &Common, files: [PathBuf; 2], nights: Nights<'_>, dir: &Path, json: bool) -> Result<()> {
    let mut sides = Vec::new();
    for (name, file) in ["a", "b"].into_iter().zip(files) {
        let lake = dir.join(name).display().to_string();
        let common = Common { project: file.clone(), lake: Some(lake), ..common.clone() };
        sides.push(Side::run(file, Context::open_for_night(&common)?, &nights).await?);
    }
    let [a, b] = [&sides[0], &sides[1]];
    let both: Vec<&str> = a.published.intersection(&b.published).map(String::as_str).collect();
    if both.is_empty() {
        return Err(Usage(format!(
            "there is no night that both projects published: {}",
            a.held.iter().chain(&b.held).cloned().collect::<Vec<_>>().join("; ")
        ))
        .into());
    }
    let tables = [a.tables().await?, b.tables().await?];
    let mut rows = Vec::new();
    for figure in figures(a, b, &both) {
        let mut values = [None, None];
        for (tables, value) in tables.iter().zip(&mut values) {
            *value = mean(tables, &figure.query).await?;
        }
        rows.push((figure, values));
    }
    let agree = agreement(&tables, both.last().copied().unwrap_or_default()).await?;
    match json {
        true => println!("{}", to_json(a, b, &both, &rows, agree)),
        false => print(a, b, &both, &rows, agree),
    }
    Ok(())
}

/// Which nights.
pub struct Nights<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub step: u16,
    pub future: bool,
}

impl Side {
    async fn run(file: PathBuf, context: Context, nights: &Nights<'_>) -> Result<Self> {
        let (mut published, mut held, mut seconds) = (BTreeSet::new(), Vec::new(), 0.0);
        for as_of in night::dates(&context, nights.from, nights.to, nights.step, nights.future)? {
            tracing::info!("{}: night of {as_of}", file.display());
            match night::night(&context, as_of, Ask::default()).await {
                Ok(Outcome::Published(record) | Outcome::Already(record)) => {
                    for stage in record.content.stages.keys() {
                        seconds += published::stage(&context, &record, stage).await?.seconds;
                    }
                    published.insert(as_of.to_string());
                }
                Err(error) if error.is::<Held>() => held.push(format!("{}: {}", file.display(), message(&error))),
                Err(error) => return Err(error.context(format!("{}: night of {as_of}", file.display()))),
            }
        }
        seconds /= published.len().max(1) as f64;
        Ok(Self { file, context, published, held, seconds })
    }

    async fn tables(&self) -> Result<Tables> {
        Tables::open(&self.context, &Scope::Everything, false).await
    }

    /// What people may call it: the name of the file, without what both have in common.
    fn name(&self, other: &Self) -> String {
        let name = |side: &Self| side.file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        match (name(self), name(other)) {
            (Some(own), Some(other)) if own != other => own,
            _ => self.file.display().to_string(),
        }
    }
}

/// What is compared: segments, how stable they are, how far KPIs differ between them.
fn figures(a: &Side, b: &Side, nights: &[&str]) -> Vec<Figure> {
    let dates: Vec<String> = nights.iter().map(|night| format!("DATE '{night}'")).collect();
    let of = format!("as_of IN ({})", dates.join(", "));
    let figure = |name: &str, unit, better, query: String| Figure { name: name.to_owned(), unit, better, query };
    let metric = |metric: &str, of_all: &str, scope: &str| {
        format!("SELECT {of_all}(value) FROM validation WHERE metric = '{metric}' AND {scope} AND {of} GROUP BY as_of")
    };
    let model = "scope = 'model'";
    let mut figures = vec![
        figure(
            "customers",
            "customers",
            Better::Neither,
            format!("SELECT count(*) FROM segments WHERE {of} GROUP BY as_of"),
        ),
        figure(
            "segments",
            "segments",
            Better::Neither,
            format!("SELECT count(DISTINCT segment_id) FROM segments WHERE {of} GROUP BY as_of"),
        ),
        figure("smallest segment", "share", Better::Neither, metric("share", "min", "TRUE")),
        figure("silhouette", "", Better::Higher, metric("silhouette", "max", model)),
        figure("variance between segments", "share", Better::Higher, metric("variance_between_share", "max", model)),
        figure("stability of the least stable segment", "", Better::Higher, metric("stability", "min", "TRUE")),
        figure(
            "customers who changed segments since the last night",
            "share",
            Better::Lower,
            format!(
                "SELECT sum(CASE WHEN m.cause IN ('data', 'refit', 'released') THEN 1.0 ELSE 0.0 END) / count(*) FROM segments AS s \
                 LEFT JOIN segment_moves AS m ON m.as_of = s.as_of AND m.customer_key = s.customer_key WHERE s.{of} GROUP BY s.as_of"
            ),
        ),
    ];
    let told_by_both = a.context.project.enabled_kpis().filter(|(name, kpi)| {
        let by = |side: &Side| side.context.project.headline(kpi);
        let other = b.context.project.kpis.get(*name).is_some_and(|other| other.denominator.is_some());
        kpi.denominator.is_some() && other && by(a)
    });
    figures.extend(told_by_both.map(|(name, _)| Figure {
        name: format!("spread of {}", name.replace('_', " ")),
        unit: "share",
        better: Better::Higher,
        query: format!(
            "SELECT sqrt(sum(c.value * power(k.value - t.value, 2)) / sum(c.value)) / abs(max(t.value)) FROM kpis AS k \
             JOIN kpis AS t ON t.as_of = k.as_of AND t.kpi = k.kpi AND t.segment_id IS NULL \
             JOIN kpis AS c ON c.as_of = k.as_of AND c.segment_id = k.segment_id AND c.kpi = 'customers' \
             WHERE k.segment_id IS NOT NULL AND k.kpi = {} AND k.value IS NOT NULL AND t.value <> 0 AND k.{of} GROUP BY k.as_of",
            text(name)
        ),
    }));
    figures
}

/// The mean over the nights.
async fn mean(tables: &Tables, query: &str) -> Result<Option<f64>> {
    let query = format!("SELECT avg(CAST(value AS DOUBLE)) FROM ({query}) AS t(value)");
    let batches = tables.collect(&query).await.with_context(|| format!("asking {query}"))?;
    Ok(batches.iter().map(|batch| floats(batch, 0)).collect::<Result<Vec<_>>>()?.into_iter().flatten().flatten().next())
}

/// How far the segments of the last night agree (adjusted Rand index), by customers whom both know: none if keys are made with another secret.
async fn agreement(tables: &[Tables; 2], night: &str) -> Result<Option<f64>> {
    let mut sides: Vec<BTreeMap<String, u32>> = Vec::new();
    for tables in tables {
        let query = format!(
            "SELECT customer_key, CAST(segment_id AS VARCHAR) FROM segments WHERE as_of = DATE '{night}' ORDER BY customer_key LIMIT {AGREE}"
        );
        let mut of = BTreeMap::new();
        for batch in tables.collect(&query).await? {
            for (key, segment) in texts(&batch, 0)?.into_iter().zip(texts(&batch, 1)?) {
                of.extend(key.zip(segment.and_then(|id| id.parse().ok())));
            }
        }
        sides.push(of);
    }
    let known = sides[0].iter().filter_map(|(key, a)| Some((*a, *sides[1].get(key)?)));
    let (a, b): (Vec<u32>, Vec<u32>) = known.unzip();
    Ok(adjusted_rand(&a, &b))
}

fn print(a: &Side, b: &Side, both: &[&str], rows: &[(Figure, [Option<f64>; 2])], agree: Option<f64>) {
    let (first, last) = (both.first().copied().unwrap_or_default(), both.last().copied().unwrap_or_default());
    println!("{} nights that both published, {first} to {last}; means over the nights", both.len());
    let mut table = show::plain();
    table.add_row([String::new(), a.name(b), b.name(a), String::new()]);
    for (figure, values) in rows {
        let told = |value: Option<f64>| match (value, figure.unit) {
            (None, _) => "not told".to_owned(),
            (Some(value), "share") => format!("{:.1} %", 100.0 * value),
            (Some(value), "") => format!("{value:.3}"),
            (Some(value), unit) => show::in_unit(value, unit),
        };
        let verdict = match (values, &figure.better) {
            ([Some(x), Some(y)], Better::Higher) if x != y => better(*x > *y, a, b),
            ([Some(x), Some(y)], Better::Lower) if x != y => better(*x < *y, a, b),
            _ => String::new(),
        };
        table.add_row([figure.name.clone(), told(values[0]), told(values[1]), verdict]);
    }
    let nights = |side: &Side| format!("{} of {}", side.published.len(), side.published.len() + side.held.len());
    table.add_row(["nights published".to_owned(), nights(a), nights(b), String::new()]);
    let seconds = |side: &Side| format!("{:.1} s", side.seconds);
    table.add_row(["time of a night".to_owned(), seconds(a), seconds(b), String::new()]);
    println!("{table}");
    match agree {
        Some(agree) => println!(
            "Who is with whom agrees by {agree:.3} on the night of {last} (adjusted Rand index: 1 the same, 0 by chance)."
        ),
        None => println!(
            "How far the segments agree cannot be told: the projects have no customer keys in common (is it one TESSERA_SECRET?)."
        ),
    }
    a.held.iter().chain(&b.held).for_each(|held| println!("held: {held}"));
}

fn better(first: bool, a: &Side, b: &Side) -> String {
    format!("{} is better", if first { a.name(b) } else { b.name(a) })
}

fn to_json(a: &Side, b: &Side, both: &[&str], rows: &[(Figure, [Option<f64>; 2])], agree: Option<f64>) -> Value {
    let side = |side: &Side| {
        json!({
            "project": side.file.display().to_string(),
            "published": side.published,
            "held": side.held,
            "seconds": side.seconds,
        })
    };
    let figures: Vec<Value> = rows
        .iter()
        .map(|(figure, [x, y])| {
            let better = match figure.better {
                Better::Higher => Some("higher"),
                Better::Lower => Some("lower"),
                Better::Neither => None,
            };
            json!({"figure": figure.name, "unit": figure.unit, "better": better, "a": x, "b": y})
        })
        .collect();
    json!({"nights": both, "a": side(a), "b": side(b), "figures": figures, "adjusted_rand": agree})
}
