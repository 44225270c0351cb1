//! What a published night predicted, beside what came: by tenth of the customers, from few orders predicted to many.

use datafusion::prelude::DataFrame;
use jiff::civil::Date;
use tessera_contract::{AsOf, Project};
use tessera_engine::formula::quote;

use super::{DAYS, OBSERVED};
use crate::{Night, StageError};

/// The nights whose predictions end tonight, with the column of what they predicted and its days.
fn ending(project: &Project, as_of: AsOf) -> impl Iterator<Item = (Date, String, u32)> {
    project.value.horizons().filter_map(move |(column, days)| {
        let night = as_of.date().checked_sub(jiff::Span::new().days(i64::from(days))).ok()?;
        Some((night, column, days))
    })
}

/// The nights that tonight's value looks back on.
#[must_use]
pub fn looked_back(project: &Project, as_of: AsOf) -> Vec<Date> {
    ending(project, as_of).map(|(night, ..)| night).collect()
}

/// The table: of each horizon whose night is published, ten rows and one of everybody.
pub(super) async fn backtest(night: &Night<'_>) -> Result<DataFrame, StageError> {
    let mut all = night.engine.none(night.table("clv_backtest")?.file_schema())?;
    for (then, column, days) in ending(night.project, night.as_of) {
        let tables = night.history.iter().find(|(date, _)| *date == then).map(|(_, tables)| tables);
        let Some((value, features)) = tables.and_then(|t| t.get("customer_value").zip(t.get("features"))) else {
            continue;
        };
        let has = |frame: &DataFrame, name: &str| frame.schema().has_column_with_unqualified_name(name);
        if !has(value, &column) || !has(features, DAYS) || !has(features, OBSERVED) {
            continue;
        }
        let predicted = quote(&column);
        // Who has been known since another day by now is somebody with other accounts.
        let query = format!(
            "SELECT CAST({days} AS BIGINT) AS horizon_days, DATE '{then}' AS reference_as_of, arrow_cast(tenth, 'Int32') AS tenth, \
             m['n'] AS customers, m['mean_x'] AS predicted, m['mean_y'] AS observed, sqrt(m['var_y'] / nullif(m['n'] - 1, 0)) AS std_error \
             FROM (SELECT tenth, moments(predicted, came) AS m \
               FROM (SELECT predicted, came, ntile(10) OVER (ORDER BY predicted, customer_key) AS tenth FROM \
                 (SELECT v.customer_key, v.{predicted} AS predicted, n.{DAYS} - t.{DAYS} AS came \
                  FROM value AS v JOIN past AS t ON v.customer_key = t.customer_key JOIN features AS n ON v.customer_key = n.customer_key \
                  WHERE v.{predicted} IS NOT NULL AND n.{OBSERVED} - t.{OBSERVED} = {days} AND n.{DAYS} >= t.{DAYS})) \
               GROUP BY GROUPING SETS ((tenth), ())) WHERE m['n'] > 0"
        );
        let tables = [("value", value), ("past", features), ("features", night.input("features")?)];
        all = all.union(night.over(&query, &tables).await?)?;
    }
    Ok(all)
}
