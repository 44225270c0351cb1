//! Features: one row per customer with at least one purchase before the night, one column per catalogue entry.
//!
//! Reads the clean tables. Writes `features`. Every relation is aggregated once, however many features stand over it;
//! formulas over features follow in the order of the catalogue. Customers who object to profiling are left out.
//!
//! To add a feature, add an entry under `[features]`.

use datafusion::prelude::DataFrame;
use futures::{FutureExt, future::BoxFuture};
use tessera_contract::{Entity, Feature, table::Kind};
use tessera_engine::formula::{self, quote};

use crate::{Night, Output, Stage, StageError, ingest};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "features",
    purpose: "computes the catalogue's features of every customer as of the night",
    // Only to know which columns they give: a feature over a column that nobody maps is not available, and never zero.
    sources: true,
    reads: &[
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
    ],
    writes: &["features"],
    run,
};

fn run<'a>(night: &'a Night<'a>) -> BoxFuture<'a, Result<Vec<Output>, StageError>> {
    features(night).boxed()
}

async fn features(night: &Night<'_>) -> Result<Vec<Output>, StageError> {
    let all: Vec<(&str, &Feature)> = night.project.enabled_features().collect();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let clean_customers = night.input("clean_customers")?;

    let mut frame: Option<DataFrame> = None;
    // Transactions first: they make the population.
    let relations = [Entity::Transactions, Entity::Interactions, Entity::CampaignContacts, Entity::SurveyResponses];
    for entity in relations {
        let over: Vec<_> = all.iter().filter(|(_, f)| f.over == entity.name()).collect();
        if over.is_empty() && frame.is_some() {
            continue;
        }
        let given = night.sources.iter().any(|s| s.entity == entity);
        let aggregated = aggregate(night, entity, &over).await?;
        frame = Some(match frame {
            None => aggregated,
            Some(base) => {
                let columns: Vec<_> = over
                    .iter()
                    .map(|(name, f)| format!("{} AS {}", value(f, given, &format!("r.{}", quote(name))), quote(name)))
                    .collect();
                let query = format!(
                    "SELECT base.*, {} FROM relation AS r RIGHT JOIN base ON r.customer_key = base.customer_key",
                    columns.join(", ")
                );
                night.over(&query, &[("base", &base), ("relation", &aggregated)]).await?
            }
        });
    }
    let base = frame.ok_or_else(|| StageError::Data("there is no relation to compute features from".into()))?;

    let attributes: Vec<_> = clean_customers
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .filter(|n| n != "customer_key" && !names.contains(&n.as_str()))
        .collect();
    let mut columns: Vec<_> = vec!["base.*".to_owned()];
    columns.extend(attributes.iter().map(|n| format!("c.{} AS {}", quote(n), quote(n))));
    let mut query = format!(
        "SELECT {} FROM clean_customers AS c RIGHT JOIN base ON c.customer_key = base.customer_key \
         WHERE c.consent_profiling IS DISTINCT FROM false",
        columns.join(", ")
    );
    for (name, feature) in all.iter().filter(|(_, f)| f.over == "customers" || f.over == "features") {
        query = format!(
            "SELECT *, {} AS {} FROM ({query})",
            typed(feature, &value(feature, true, &feature.expression)),
            quote(name)
        );
    }
    let last = all.last().map_or("", |(name, _)| *name);
    let frame = night
        .over(&query, &[("base", &base), ("clean_customers", clean_customers)])
        .await
        .map_err(|e| in_catalogue(e, &all, last))?;
    Ok(vec![Output::table(night, "features", frame)?])
}

/// The canonical columns of an entity that its source does not give.
pub(crate) async fn absent(night: &Night<'_>, entity: Entity) -> Result<Vec<String>, StageError> {
    let Some(source) = night.sources.iter().find(|s| s.entity == entity) else {
        return Ok(entity.columns().iter().map(|c| c.name.to_owned()).collect());
    };
    let mapping = ingest::map(night, source).await?;
    Ok(entity
        .columns()
        .iter()
        .map(|c| c.name.to_owned())
        // The engine derives returns from the quantity's sign.
        .filter(|name| name != "is_return" && !mapping.has(name))
        .collect())
}

/// The features over one relation, per customer.
async fn aggregate(night: &Night<'_>, entity: Entity, over: &[&(&str, &Feature)]) -> Result<DataFrame, StageError> {
    let absent = absent(night, entity).await?;
    let mut columns = vec!["customer_key".to_owned()];
    for (name, feature) in over {
        let names = formula::names(&feature.expression)?;
        let value = match absent.iter().any(|column| names.contains(column)) {
            true => "NULL".to_owned(),
            false => value(feature, true, &format!("({})", feature.expression)),
        };
        columns.push(format!("{} AS {}", typed(feature, &value), quote(name)));
    }
    let (extra, having) = match entity {
        Entity::Transactions => (", NOT is_return AS purchase", "HAVING count(*) FILTER (WHERE purchase) > 0"),
        _ => ("", ""),
    };
    let query = format!(
        "SELECT {} FROM (SELECT *{extra} FROM {} WHERE {} < as_of AND customer_key IS NOT NULL) GROUP BY customer_key {having}",
        columns.join(", "),
        entity.clean_table(),
        entity.event_time()
    );
    let named: Vec<_> = over.iter().map(|f| **f).collect();
    night.sql(&query).await.map_err(|e| in_catalogue(e, &named, "features"))
}

/// The expression with its declared value where it is null, unless the relation is absent: absent is never zero.
fn value(feature: &Feature, given: bool, expression: &str) -> String {
    match (&feature.missing, given) {
        (Some(missing), true) => format!("coalesce({expression}, {missing})"),
        _ => format!("({expression})"),
    }
}

fn typed(feature: &Feature, expression: &str) -> String {
    match feature.value_type.kind() {
        Kind::Money => format!("CAST({expression} AS DECIMAL(38,6))"),
        Kind::Integer => format!("CAST({expression} AS BIGINT)"),
        Kind::Float => format!("CAST({expression} AS DOUBLE)"),
        _ => format!("CAST({expression} AS VARCHAR)"),
    }
}

/// An expression that cannot be planned belongs to an entry of the catalogue: name it, as well as the message allows.
fn in_catalogue(error: StageError, entries: &[(&str, &Feature)], otherwise: &str) -> StageError {
    let message = error.to_string();
    let guilty = entries.iter().find(|(_, f)| {
        let names = formula::names(&f.expression).unwrap_or_default();
        names.iter().any(|n| message.contains(&format!("'{n}'")) || message.contains(&format!("named {n}")))
    });
    let (place, expression) = match guilty {
        Some((name, feature)) => (format!("features.{name}.expression"), feature.expression.as_str()),
        None => (format!("features ({otherwise} or earlier)"), ""),
    };
    StageError::Expression { place, problem: format!("`{expression}`: {}", message.lines().next().unwrap_or_default()) }
}
