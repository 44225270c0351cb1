//! Value: what every customer is going to buy.
//!
//! Reads `features`. Writes `clv_model` and `customer_value`, and in `clv_backtest` what earlier nights predicted beside what came. Customers who are alike in their days with an order are counted together by the
//! engine, and the models are fitted on the counts ([`tessera_algo::value`]), so that the work here does not grow with the customers;
//! where counts would be too many, days are counted in larger steps. What depends on the number of days and on how long somebody has been
//! known alone is computed once for each pair of them, and joined to all customers by the engine. Where a model is refused, what is known of
//! the past stands in, and `basis` says so.

mod backtest;

use std::sync::Arc;

use datafusion::{
    arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray},
    prelude::DataFrame,
};
use futures::FutureExt;
use tessera_algo::value::{
    Buyers, Days, Estimate, Fit, Money, Purchases, Refused, Spend, Spenders, TimeUnit, Variant, discounted,
};
use tessera_contract::{
    Feature,
    project::value::{self as settings, PurchaseModel},
};
use tessera_engine::formula::quote;

pub use self::backtest::looked_back;
use crate::{Night, Outcome, Output, Stage, StageError, StageFuture, rows, scaled::literal};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "value",
    purpose: "predicts what every customer is going to buy",
    sources: false,
    reads: &["features"],
    reads_previous: &[],
    reads_neighbours: &[],
    reads_history: &["features", "customer_value"],
    writes: &["customer_value", "clv_model", "clv_backtest"],
    settings: &["value"],
    decides: None,
    run,
};

/// Counts of customers who are alike that a model is fitted on at most.
const COUNTS: usize = if cfg!(test) { 3_000 } else { 1 << 17 };
/// Steps in which values of orders are counted together where these are many: so many to a factor of e.
const STEPS: f64 = 64.0;

/// Days beyond which nobody is told when they order again.
const CENTURY: u32 = 36_525;

/// The features that the models are made of.
const DAYS: &str = "purchase_days";
const SPAN: &str = "purchase_span_days";
const OBSERVED: &str = "observed_days";
const VALUE: &str = "repeat_value";
/// What stands in for predictions.
const PAST: [&str; 2] = ["average_order_value", "monetary"];

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    value(night).boxed()
}

async fn value(night: &Night<'_>) -> Result<Outcome, StageError> {
    let settings = &night.project.value;
    let threads = night.engine.partitions();
    let has = |name: &str| night.project.features.get(name).is_some_and(|feature: &Feature| feature.enabled);
    let lacks: Vec<&str> = [DAYS, SPAN, OBSERVED, VALUE].into_iter().filter(|name| !has(name)).collect();
    if !settings.enabled || !lacks.is_empty() {
        if settings.enabled {
            tracing::warn!("no value is predicted: the features {} are switched off", lacks.join(", "));
        }
        let none = |name| Output::table(night, name, night.engine.none(night.table(name)?.file_schema())?);
        return Ok(vec![none("customer_value")?, none("clv_model")?, none("clv_backtest")?].into());
    }

    let buyers = buyers(night).await?;
    let wanted: Vec<Variant> = match settings.model {
        PurchaseModel::Best => Variant::ALL.to_vec(),
        PurchaseModel::BgNbd => vec![Variant::BgNbd],
        PurchaseModel::MbgNbd => vec![Variant::MbgNbd],
    };
    let unit = unit(settings);
    let fits: Vec<(Variant, Result<Fit<Purchases>, Refused>)> =
        wanted.into_iter().map(|variant| (variant, Purchases::fit(variant, unit, &buyers, threads))).collect();
    let best = fits.iter().filter_map(|(_, fit)| fit.as_ref().ok());
    // Of equal ones the first.
    let best = best.reduce(|best, next| if next.log_likelihood > best.log_likelihood { next } else { best });
    let best = best.map(|fit| fit.model);
    let again = buyers.iter().filter(|group| group.repeats > 0).map(|group| group.customers).sum();
    let spenders = spenders(night, again).await?;
    let spend = Spend::fit(&spenders, threads);
    for refused in fits.iter().filter_map(|(_, fit)| fit.as_ref().err()).chain(spend.as_ref().err()) {
        tracing::warn!("a model of customer value is refused: {refused}");
    }
    let together = correlation(&spenders);
    let table = models(night, unit, &fits, best, &spend, together)?;
    let scored = customers(night, best, spend.ok().map(|fit| fit.model)).await?;
    let backtest = backtest::backtest(night).await?;
    Ok(vec![
        Output::table(night, "customer_value", scored)?,
        Output::table(night, "clv_model", table)?,
        Output::table(night, "clv_backtest", backtest)?,
    ]
    .into())
}

fn unit(settings: &settings::Value) -> TimeUnit {
    match settings.time_unit {
        settings::TimeUnit::Days => TimeUnit::Day,
        settings::TimeUnit::Weeks => TimeUnit::Week,
        settings::TimeUnit::Months => TimeUnit::Month,
    }
}

/// Customers by days with an order, days from the first to the last, and days that they have been known: in steps of as few days as leave
/// few counts. Of a step, the days are their mean.
async fn buyers(night: &Night<'_>) -> Result<Vec<Buyers>, StageError> {
    let unit = unit(&night.project.value);
    let counted = rows::collect(night.sql("SELECT count(*) AS n FROM features").await?).await?;
    let customers = rows::integers(&counted, "n")?.first().copied().flatten().unwrap_or(0);
    let mut step = ((customers as f64 / COUNTS as f64).sqrt().ceil() as u64).max(1);
    loop {
        let query = format!(
            "SELECT {DAYS} - 1 AS x, {SPAN} / {step} AS a, {OBSERVED} / {step} AS b, sum({SPAN}) AS span, sum({OBSERVED}) AS observed, \
             count(*) AS n FROM features WHERE {DAYS} > 0 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        );
        let batch = rows::collect(night.sql(&query).await?).await?;
        if batch.num_rows() > COUNTS {
            step *= 2;
            continue;
        }
        let column = |name: &str| rows::integers(&batch, name);
        let (repeats, spans, observed, counts) = (column("x")?, column("span")?, column("observed")?, column("n")?);
        let mean = |sum: Option<i64>, n: i64| unit.of(Days(sum.unwrap_or(0) as f64 / n.max(1) as f64));
        let of = |row: usize| {
            let n = counts[row].unwrap_or(0);
            Buyers {
                repeats: repeats[row].and_then(|x| u32::try_from(x).ok()).unwrap_or(0),
                last: mean(spans[row], n),
                observed: mean(observed[row], n),
                customers: n.unsigned_abs(),
            }
        };
        return Ok((0..batch.num_rows()).map(of).collect());
    }
}

/// Customers with a second day, who are `again`, by the number of such days and their mean value; where they are many, in steps of the value.
async fn spenders(night: &Night<'_>, again: u64) -> Result<Vec<Spenders>, StageError> {
    let step = match again <= COUNTS as u64 {
        true => VALUE.to_owned(),
        false => format!("floor(ln(CAST({VALUE} AS DOUBLE)) * {STEPS:?})"),
    };
    let query = format!(
        "SELECT {DAYS} - 1 AS x, {step} AS step, sum({VALUE}) AS value, count(*) AS n FROM features \
         WHERE {VALUE} > 0 GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let (days, values, counts) =
        (rows::integers(&batch, "x")?, rows::floats(&batch, "value")?, rows::integers(&batch, "n")?);
    let of = |row: usize| {
        let n = counts[row].unwrap_or(0).unsigned_abs();
        Spenders {
            purchases: days[row].and_then(|x| u32::try_from(x).ok()).unwrap_or(0),
            mean: Money(values[row].unwrap_or(0.0) / n.max(1) as f64),
            customers: n,
        }
    };
    Ok((0..batch.num_rows()).map(of).filter(|group| group.purchases > 0).collect())
}

/// Pearson's correlation of how often and for how much, which Gamma-Gamma takes to be none.
fn correlation(groups: &[Spenders]) -> Option<f64> {
    let n: f64 = groups.iter().map(|g| g.customers as f64).sum();
    let mean = |get: &dyn Fn(&Spenders) -> f64| groups.iter().map(|g| g.customers as f64 * get(g)).sum::<f64>() / n;
    let (x, m) = (mean(&|g| f64::from(g.purchases)), mean(&|g| g.mean.0));
    let of = |a: &dyn Fn(&Spenders) -> f64, b: &dyn Fn(&Spenders) -> f64| mean(&|g| a(g) * b(g));
    let (dx, dm) = (|g: &Spenders| f64::from(g.purchases) - x, |g: &Spenders| g.mean.0 - m);
    let spread = (of(&dx, &dx) * of(&dm, &dm)).sqrt();
    (spread > 0.0).then(|| of(&dx, &dm) / spread)
}

/// Beyond this, the models' assumption is told to be off.
const TOGETHER: f64 = 0.3;

/// The table `clv_model`.
fn models(
    night: &Night<'_>,
    unit: TimeUnit,
    purchases: &[(Variant, Result<Fit<Purchases>, Refused>)],
    best: Option<Purchases>,
    spend: &Result<Fit<Spend>, Refused>,
    together: Option<f64>,
) -> Result<DataFrame, StageError> {
    struct Row {
        model: &'static str,
        estimate: Option<Estimate>,
        log_likelihood: Option<f64>,
        n: Option<i64>,
        unit: Option<&'static str>,
        chosen: bool,
        told: Option<String>,
    }
    let name = match unit {
        TimeUnit::Day => "days",
        TimeUnit::Week => "weeks",
        TimeUnit::Month => "months",
    };
    let mut table: Vec<Row> = Vec::new();
    let mut add = |model, unit, chosen, told: Option<String>, fit: Result<(&[Estimate], f64, u64), &Refused>| match fit
    {
        Ok((estimates, log_likelihood, n)) => table.extend(estimates.iter().map(|estimate| Row {
            model,
            estimate: Some(estimate.clone()),
            log_likelihood: Some(log_likelihood),
            n: i64::try_from(n).ok(),
            unit,
            chosen,
            told: told.clone(),
        })),
        Err(refused) => {
            let told = Some(refused.to_string());
            table.push(Row { model, estimate: None, log_likelihood: None, n: None, unit, chosen: false, told });
        }
    };
    for (variant, fit) in purchases {
        let fit = fit.as_ref().map(|fit| (fit.estimates.as_slice(), fit.log_likelihood, fit.customers));
        add(variant.name(), Some(name), best.is_some_and(|best| best.variant == *variant), None, fit);
    }
    let told = together.filter(|r| r.abs() > TOGETHER).map(|r| {
        format!("how much a customer spends goes with how often (correlation {r:.2}), and the model takes it to have nothing to do with it")
    });
    let fit = spend.as_ref().map(|fit| (fit.estimates.as_slice(), fit.log_likelihood, fit.customers));
    add("gamma_gamma", None, true, told, fit);
    let floats =
        |get: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(table.iter().map(get).collect::<Float64Array>()) };
    let texts =
        |get: &dyn Fn(&Row) -> Option<String>| -> ArrayRef { Arc::new(table.iter().map(get).collect::<StringArray>()) };
    rows::frame(
        night.engine,
        vec![
            ("model", texts(&|r| Some(r.model.to_owned()))),
            ("parameter", texts(&|r| r.estimate.as_ref().map(|e| e.name.to_owned()))),
            ("value", floats(&|r| r.estimate.as_ref().map(|e| e.value))),
            ("std_error", floats(&|r| r.estimate.as_ref().map(|e| e.std_error))),
            ("log_likelihood", floats(&|r| r.log_likelihood)),
            ("n", Arc::new(table.iter().map(|r| r.n).collect::<Int64Array>())),
            ("time_unit", texts(&|r| r.unit.map(str::to_owned))),
            ("chosen", Arc::new(table.iter().map(|r| Some(r.chosen)).collect::<BooleanArray>())),
            ("state", texts(&|r| Some(if r.estimate.is_some() { "ok" } else { "not_identifiable" }.to_owned()))),
            ("told", texts(&|r| r.told.clone())),
        ],
    )
}

/// What is to be expected of customers with so many days with an order who have been known for so many days, if they have not been lost:
/// orders until each horizon, and discounted orders of the months.
async fn expectations(night: &Night<'_>, model: &Purchases) -> Result<DataFrame, StageError> {
    let settings = &night.project.value;
    let query = format!(
        "SELECT {DAYS} AS days, {OBSERVED} AS observed FROM features WHERE {DAYS} > 0 GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let (days, observed) = (rows::integers(&batch, "days")?, rows::integers(&batch, "observed")?);
    let pairs: Vec<(i64, i64)> =
        days.into_iter().zip(observed).map(|(d, o)| (d.unwrap_or(1), o.unwrap_or(0))).collect();
    let found = tessera_algo::parallel::map(&pairs, night.engine.partitions(), |(days, observed)| {
        let repeats = u32::try_from(days - 1).unwrap_or(0);
        let known = model.unit.of(Days(*observed as f64));
        let expected = |ahead| model.expected_if_alive(repeats, known, ahead);
        let mut all: Vec<f64> =
            settings.horizons().map(|(_, days)| expected(model.unit.of(Days(f64::from(days))))).collect();
        all.push(discounted(settings.months, settings.discount_rate, expected, model.unit));
        all
    });
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("days".to_owned(), Arc::new(pairs.iter().map(|(days, _)| Some(*days)).collect::<Int64Array>())),
        ("observed".to_owned(), Arc::new(pairs.iter().map(|(_, observed)| Some(*observed)).collect::<Int64Array>())),
    ];
    let names = settings.horizons().map(|(name, _)| name).chain(["discounted".to_owned()]);
    for (at, name) in names.enumerate() {
        columns.push((name, Arc::new(found.iter().map(|all| Some(all[at])).collect::<Float64Array>())));
    }
    let columns = columns.iter().map(|(name, column)| (name.as_str(), Arc::clone(column))).collect();
    night.materialised(rows::frame(night.engine, columns)?, "expected").await
}

/// The table `customer_value`.
async fn customers(
    night: &Night<'_>,
    purchases: Option<Purchases>,
    spend: Option<Spend>,
) -> Result<DataFrame, StageError> {
    let settings = &night.project.value;
    let past = |name: &str| match night.project.features.get(name).is_some_and(|feature| feature.enabled) {
        true => quote(name),
        false => "arrow_cast(NULL, 'Float64')".to_owned(),
    };
    let [mean, total] = PAST.map(past);
    let money = |sql: &str| format!("CAST({sql} AS DECIMAL(38, 6))");
    let spent = match spend {
        Some(spend) => {
            let [p, q, gamma] = spend.parameters().map(literal);
            let x = format!("CASE WHEN {VALUE} > 0 THEN CAST({DAYS} - 1 AS DOUBLE) ELSE 0 END");
            let known = format!("CASE WHEN {VALUE} > 0 THEN CAST({VALUE} AS DOUBLE) ELSE 0 END");
            format!("{p} * ({gamma} + ({x}) * ({known})) / ({p} * ({x}) + {q} - 1)")
        }
        None => format!("CAST({mean} AS DOUBLE)"),
    };
    let Some(model) = purchases else {
        let nothing: String =
            settings.horizons().map(|(name, _)| format!("arrow_cast(NULL, 'Float64') AS {name}, ")).collect();
        let query = format!(
            "SELECT customer_key, arrow_cast(NULL, 'Float64') AS p_alive, {nothing}{} AS expected_order_value, {} AS clv, \
             arrow_cast(NULL, 'Float64') AS churn_risk, arrow_cast(NULL, 'Float64') AS next_order_days, 'historical' AS basis \
             FROM features WHERE {DAYS} > 0",
            money(&spent),
            money(&total)
        );
        return night.sql(&query).await;
    };
    let expected = expectations(night, &model).await?;
    let [r, alpha, a, b] = model.parameters().map(literal);
    let unit = literal(model.unit.days());
    let x = format!("CAST({DAYS} - 1 AS DOUBLE)");
    let until = format!("({alpha} + CAST({OBSERVED} AS DOUBLE) / {unit})");
    let since = format!("({alpha} + CAST({SPAN} AS DOUBLE) / {unit})");
    // As `Purchases::alive` has it.
    let odds = |chances: &str| {
        format!("1 / (1 + {a} / ({b} + {x} + {chances} - 1) * exp(({r} + {x}) * ln({until} / {since})))")
    };
    let alive = match model.variant {
        Variant::BgNbd => format!("CASE WHEN {DAYS} = 1 THEN arrow_cast(1, 'Float64') ELSE {} END", odds("0")),
        Variant::MbgNbd => odds("1"),
    };
    let next = format!("{unit} * {until} * (exp(ln(arrow_cast(2, 'Float64')) / ({r} + {x})) - 1)");
    let next = format!("CASE WHEN {next} <= {CENTURY} THEN {next} END");
    let scored = format!(
        "SELECT customer_key, {DAYS} AS days, {OBSERVED} AS observed, {alive} AS p_alive, {next} AS next_order_days, {spent} AS spent \
         FROM features WHERE {DAYS} > 0"
    );
    let orders: String =
        settings.horizons().map(|(name, _)| format!("f.p_alive * e.{0} AS {0}, ", quote(&name))).collect();
    let basis = if spend.is_some() { "predicted" } else { "historical_spend" };
    let query = format!(
        "SELECT f.customer_key, f.p_alive, {orders}{} AS expected_order_value, {} AS clv, 1 - f.p_alive AS churn_risk, f.next_order_days, \
         '{basis}' AS basis FROM e JOIN ({scored}) AS f ON e.days = f.days AND e.observed = f.observed",
        money("f.spent"),
        money(&format!("f.p_alive * e.discounted * f.spent * {}", literal(settings.margin))),
    );
    let features = night.input("features")?;
    night.over(&query, &[("e", &expected), ("features", features)]).await
}

#[cfg(test)]
mod tests;
