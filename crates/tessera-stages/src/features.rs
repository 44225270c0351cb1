//! Features: one row per customer with at least one purchase before the night, one column per catalogue entry.
//!
//! Reads the clean tables. Writes `features`. Every relation is aggregated once, however many features stand over it;
//! formulas over features follow in the order of the catalogue. Customers who object to profiling are left out.
//!
//! To add a feature, add an entry under `[features]`.

use datafusion::prelude::DataFrame;
use futures::FutureExt;
use tessera_contract::{Entity, Feature, table::Kind};
use tessera_engine::{
    formula::{self, quote},
    write::BUCKET,
};

use crate::{Night, Output, Stage, StageError, StageFuture, blame, ingest};

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

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
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
    let tables = [("base", &base), ("clean_customers", clean_customers)];
    let mut steps = Vec::new();
    for (name, feature) in all.iter().filter(|(_, f)| f.over == "customers" || f.over == "features") {
        query = format!(
            "SELECT *, {} AS {} FROM ({query})",
            typed(feature, &value(feature, true, &feature.expression)),
            quote(name)
        );
        steps.push((*name, feature.expression.as_str(), query.clone()));
    }
    let frame = match night.over(&query, &tables).await {
        Ok(frame) => frame,
        Err(error) => {
            // A formula stands over those before it: the first that cannot be planned is to blame.
            for (name, expression, query) in steps {
                let entry = (format!("features.{name}.expression"), expression.to_owned());
                if let Some(error) = blame(night, vec![entry], |_| query.clone(), &tables).await {
                    return Err(error);
                }
            }
            return Err(error);
        }
    };
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
    // Of a table in buckets, one bucket's customers are in memory at a time.
    let in_buckets = night.input(&entity.clean_table())?.schema().has_column_with_unqualified_name(BUCKET);
    let group = if in_buckets { format!("{BUCKET}, customer_key") } else { "customer_key".to_owned() };
    let mut columns = vec!["customer_key".to_owned()];
    for (name, feature) in over {
        let names = formula::names(&feature.expression).map_err(|e| StageError::Expression {
            place: format!("features.{name}.expression"),
            problem: e.to_string(),
        })?;
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
    let rows = format!(
        "(SELECT *{extra} FROM {} WHERE {} < as_of AND customer_key IS NOT NULL)",
        entity.clean_table(),
        entity.event_time()
    );
    match night.sql(&format!("SELECT {} FROM {rows} GROUP BY {group} {having}", columns.join(", "))).await {
        Ok(frame) => Ok(frame),
        Err(error) => {
            let mut entries = Vec::new();
            for (name, f) in over {
                entries.push((format!("features.{name}.expression"), f.expression.clone()));
            }
            let alone = |expression: &str| format!("SELECT ({expression}) FROM {rows} GROUP BY customer_key");
            let table = entity.clean_table();
            Err(blame(night, entries, alone, &[(table.as_str(), night.input(&table)?)]).await.unwrap_or(error))
        }
    }
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
