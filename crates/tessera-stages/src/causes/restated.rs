//! What is known now of an earlier night, and was not: rows that came late, or that a restated file has otherwise.

use std::collections::BTreeMap;

use datafusion::prelude::DataFrame;
use tessera_contract::{AsOf, Entity};
use tessera_engine::formula::quote;

use crate::{
    Input, Night, StageError, features,
    figures::{self, People},
    rows,
};

/// What the customers add to sums on the earlier night by what is known of it now, of whom rows from before it are others than it knew; none, if
/// there are none. Who is made of other accounts is left out: identity explains them.
pub(super) async fn restated(
    night: &Night<'_>,
    as_of: AsOf,
    tables: &BTreeMap<String, DataFrame>,
    (then, now): (&People, &People),
    sums: &[&str],
    resolved: &DataFrame,
) -> Result<Option<DataFrame>, StageError> {
    let asked = night.over_tables(as_of, BTreeMap::new());
    let mut found: Option<DataFrame> = None;
    for entity in features::RELATIONS {
        let Some(accounts) = touched(night, &asked, entity, tables).await? else { continue };
        found = Some(match found {
            Some(others) => others.union(accounts)?,
            None => accounts,
        });
    }
    let Some(accounts) = found else { return Ok(None) };
    let query = "SELECT c.customer_key FROM (SELECT DISTINCT n.customer_key FROM touched AS t JOIN accounts AS n ON t.account_key = n.account_key) AS c \
                 LEFT ANTI JOIN resolved AS r ON c.customer_key = r.customer_key";
    let given = [("touched", &accounts), ("accounts", night.input("accounts")?), ("resolved", resolved)];
    let customers = night.materialised(night.over(query, &given).await?, "restated").await?;
    let count = rows::count(night, &customers).await?;
    if count == 0 {
        return Ok(None);
    }
    tracing::debug!("rows from before {as_of} of {count} customers are others than that night knew");

    let query = "SELECT a.* FROM accounts AS a JOIN customers AS c ON a.customer_key = c.customer_key";
    let theirs = night.over(query, &[("accounts", night.input("accounts")?), ("customers", &customers)]).await?;
    let theirs = night.materialised(theirs, "accounts_restated").await?;
    let mut given = BTreeMap::new();
    for name in features::STAGE.reads {
        let whole = night.input(name)?;
        let frame = match *name {
            "accounts" => theirs.clone(),
            "golden_records" => whole.clone(),
            _ => {
                let query = "SELECT w.* FROM whole AS w LEFT SEMI JOIN theirs AS t ON w.account_key = t.account_key";
                night.over(query, &[("whole", whole), ("theirs", &theirs)]).await?
            }
        };
        given.insert((*name).to_owned(), Input { frame, added: None });
    }
    // The earlier night again, over what is known now.
    let outcome = (features::STAGE.run)(&night.over_tables(as_of, given)).await?;
    let of = |name: &str| outcome.outputs.iter().find(|output| output.routes.iter().any(|route| route.name == name));
    let features = of("features").ok_or_else(|| StageError::Data("there are no features".into()))?.frame.clone();
    let features = night.materialised(features, "features_restated").await?;
    // Where they were; who was nowhere yet, where they are.
    let query = "SELECT c.customer_key, CASE WHEN t.segment_id IS NULL THEN n.segment_id ELSE t.segment_id END AS segment_id FROM customers AS c \
                 LEFT JOIN t ON c.customer_key = t.customer_key LEFT JOIN n ON c.customer_key = n.customer_key \
                 LEFT JOIN f ON c.customer_key = f.customer_key \
                 WHERE t.segment_id IS NOT NULL OR n.segment_id IS NOT NULL AND f.customer_key IS NOT NULL";
    let places = [("customers", &customers), ("t", then.segments()), ("n", now.segments()), ("f", &features)];
    let segments = night.over(query, &places).await?;
    let segments = night.materialised(segments, "segments_restated").await?;
    let people = then.of_others(features, segments.clone());
    let query = format!("SELECT customer_key{} FROM {}", figures::columns(sums), people.joined(night, sums));
    let values = night.over(&query, &people.tables()).await?;
    let values = night.materialised(values, "values_restated").await?;
    let zeros: String = (0..sums.len()).map(|at| format!(", coalesce(v.v{at}, 0) AS v{at}")).collect();
    let query = format!(
        "SELECT s.customer_key, s.segment_id{zeros} FROM segments AS s LEFT JOIN \"values\" AS v ON s.customer_key = v.customer_key"
    );
    Ok(Some(night.over(&query, &[("segments", &segments), ("values", &values)]).await?))
}

/// The accounts of whom rows of an entity from before the earlier night are others than it knew; none, if its rows are nobody's.
async fn touched(
    night: &Night<'_>,
    earlier: &Night<'_>,
    entity: Entity,
    tables: &BTreeMap<String, DataFrame>,
) -> Result<Option<DataFrame>, StageError> {
    if night.availability.of(entity).is_none() {
        return Ok(None);
    }
    let name = entity.clean_table();
    let input = night.given(&name)?;
    let known = format!("{} < as_of AND account_key IS NOT NULL", entity.event_time());
    if let (Some(added), true) =
        (&input.added, night.parent.is_some_and(|parent| parent.date() == earlier.as_of.date()))
    {
        let query = format!("SELECT DISTINCT account_key FROM added WHERE {known}");
        return Ok(Some(earlier.over(&query, &[("added", added)]).await?));
    }
    let Some(then) = tables.get(&name) else { return Ok(None) };
    // All rows were read again: accounts are told apart by what the night knew of their rows.
    let told = entity.columns().iter().filter(|column| {
        [&input.frame, then].iter().all(|frame| frame.schema().has_column_with_unqualified_name(column.name))
    });
    let columns: Vec<String> = told.map(|column| quote(column.name)).collect();
    let columns = columns.join(", ");
    let by_account = async |clean: &DataFrame| {
        let query = format!(
            "SELECT account_key, count(*) AS n, sum(h % 4294967296) AS h FROM \
             (SELECT account_key, row_hash({columns}) AS h FROM ({})) GROUP BY account_key",
            features::rows_of(entity, clean)
        );
        earlier.over(&query, &[("clean", clean)]).await
    };
    let query = "SELECT coalesce(a.account_key, b.account_key) AS account_key FROM a FULL JOIN b ON a.account_key = b.account_key \
                 WHERE (a.n IS DISTINCT FROM b.n) OR (a.h IS DISTINCT FROM b.h)";
    let (then, now) = (by_account(then).await?, by_account(&input.frame).await?);
    Ok(Some(earlier.over(query, &[("a", &then), ("b", &now)]).await?))
}
