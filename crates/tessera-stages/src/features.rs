//! Features: one row per customer of the population (with at least one purchase before the night, unless the project says
//! otherwise), one column per catalogue entry.
//!
//! Reads the clean tables. Writes `features`, and `prospects`: who bought nothing yet. Every relation is aggregated once, however many features stand over it;
//! formulas over features follow in the order of the catalogue. Customers who object to profiling are left out.
//!
//! What an aggregate needs of the past follows from its expression ([`tessera_engine::partial`]). The lifetime states of every
//! account are kept from night to night, and so are the values of every customer: the states of added rows are put beside the
//! others, and only the customers of such rows, and of rows that came into a window or left it, are computed anew. Where
//! something that was kept is missing, as on the first night or after a new expression, all rows are read, and the answer is
//! the same.
//!
//! To add a feature, add an entry under `[features]`.

mod relation;

use datafusion::{
    common::{
        DFSchema, DataFusionError,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    prelude::{DataFrame, Expr, lit},
};
use futures::FutureExt;
use tessera_contract::{AsOf, Entity, Feature, Length, project::Population, table::Kind};
use tessera_engine::{
    formula::{self, Words, quote},
    partial::{Entry, Partial, Reach},
};

use self::relation::{CUSTOMER, Relation};
use crate::{Night, Outcome, Output, Stage, StageError, StageFuture, blame};

/// The entry of the list of stages.
pub const STAGE: Stage = Stage {
    name: "features",
    purpose: "computes the catalogue's features of every customer as of the night",
    sources: false,
    reads: &[
        "clean_customers",
        "clean_transactions",
        "clean_interactions",
        "clean_campaign_contacts",
        "clean_survey_responses",
        "accounts",
        "golden_records",
    ],
    reads_previous: &["accounts"],
    reads_neighbours: &[],
    reads_history: &[],
    writes: &["features", "prospects"],
    settings: &["features", "segmentation.population"],
    decides: None,
    run,
};

/// The entities that features are aggregated over; transactions first, since they make the population.
pub(crate) const RELATIONS: [Entity; 4] =
    [Entity::Transactions, Entity::Interactions, Entity::CampaignContacts, Entity::SurveyResponses];

/// A night that never is.
const NEVER: jiff::civil::Date = jiff::civil::Date::constant(1900, 1, 1);

/// The column of transactions, where a feature asks for it, of the share of the purchase lines of the same category and month (UTC)
/// that went at a discount.
pub(crate) const OFFERED: &str = "offered_share";

/// Groups of contacts that were not made.
const HELD_OUT: &str = "'holdout', 'control'";

/// How many lines a customer has: who has none is not in the relation.
const LINES: &str = "tessera.lines";

fn run<'a>(night: &'a Night<'a>) -> StageFuture<'a> {
    features(night).boxed()
}

async fn features(night: &Night<'_>) -> Result<Outcome, StageError> {
    let mut outcome = Outcome::default();
    let all: Vec<(&str, &Feature)> = night.project.enabled_features().collect();

    let mut base = match night.project.segmentation.population {
        Population::Buyers => None,
        Population::Customers => Some(night.sql("SELECT DISTINCT customer_key FROM accounts").await?),
    };
    let mut relations = Vec::new();
    for entity in RELATIONS {
        let over: Vec<_> = all.iter().filter(|(_, f)| f.over == entity.name()).copied().collect();
        // Who are prospects does not depend on what is told of them.
        let tells = entity.tells_of_prospects() && night.availability.of(entity).is_some();
        if over.is_empty() && base.is_some() && !tells {
            continue;
        }
        let values = aggregate(night, entity, &over, &mut outcome).await?;
        match base {
            None => base = Some(values),
            Some(_) => relations.push(Aggregated { entity, over, values }),
        }
    }
    let buyers = base.ok_or_else(|| StageError::Data("there is no relation to compute features from".into()))?;
    let base = beside(night, buyers.clone(), &relations).await?;

    let customers = night.customers().await?;
    let related: Vec<_> = all.iter().filter(|(_, f)| !is_formula(f)).copied().collect();
    let names: Vec<&str> = related.iter().map(|(name, _)| *name).collect();
    let attributes: Vec<_> = customers
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .filter(|n| n != "customer_key" && !names.contains(&n.as_str()))
        .collect();
    let mut columns = vec!["base.customer_key".to_owned()];
    columns.extend(related.iter().map(|(name, feature)| {
        let value = agreed(feature, "c.", &format!("base.{}", quote(name)));
        format!("{value} AS {}", quote(name))
    }));
    columns.extend(attributes.iter().map(|n| format!("c.{} AS {}", quote(n), quote(n))));
    let mut query = format!(
        "SELECT {} FROM customers AS c RIGHT JOIN base ON c.customer_key = base.customer_key \
         WHERE c.consent_profiling IS DISTINCT FROM false",
        columns.join(", ")
    );
    let tables = [("base", &base), ("customers", &customers)];
    let mut steps = Vec::new();
    for (name, feature) in all.iter().filter(|(_, f)| is_formula(f)) {
        // A feature may have the name of the attribute that it is made of.
        let others = match attributes.iter().any(|attribute| attribute == name) {
            true => format!("* EXCEPT ({})", quote(name)),
            false => "*".to_owned(),
        };
        let value = typed(feature, &value(feature, true, &feature.expression));
        query = format!("SELECT {others}, {} AS {} FROM ({query})", agreed(feature, "", &value), quote(name));
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
    outcome.outputs.push(Output::table(night, "features", frame)?);
    let prospects = prospects(night, &buyers, &relations, &customers).await?;
    outcome.outputs.push(Output::table(night, "prospects", prospects)?);
    Ok(outcome)
}

/// The features over one relation, by customer.
struct Aggregated<'a> {
    entity: Entity,
    over: Vec<(&'a str, &'a Feature)>,
    values: DataFrame,
}

/// The rows of a frame with the features over relations beside them.
async fn beside<'a>(
    night: &Night<'_>,
    mut base: DataFrame,
    relations: impl IntoIterator<Item = &'a Aggregated<'a>>,
) -> Result<DataFrame, StageError> {
    for Aggregated { entity, over, values } in relations {
        if over.is_empty() {
            continue;
        }
        let given = night.availability.of(*entity).is_some();
        let columns = over
            .iter()
            .map(|(name, f)| format!(", {} AS {}", value(f, given, &format!("r.{}", quote(name))), quote(name)));
        let query = format!(
            "SELECT base.*{} FROM relation AS r RIGHT JOIN base ON r.customer_key = base.customer_key",
            columns.collect::<String>()
        );
        base = night.over(&query, &[("base", &base), ("relation", values)]).await?;
    }
    Ok(base)
}

/// Who is none of the population, and did something, was contacted or asked.
async fn prospects(
    night: &Night<'_>,
    population: &DataFrame,
    relations: &[Aggregated<'_>],
    customers: &DataFrame,
) -> Result<DataFrame, StageError> {
    let given = |r: &&Aggregated<'_>| r.entity.tells_of_prospects() && night.availability.of(r.entity).is_some();
    let names: Vec<String> = relations.iter().filter(given).map(|r| format!("r{}", r.entity)).collect();
    let mut tables: Vec<(&str, &DataFrame)> =
        names.iter().map(String::as_str).zip(relations.iter().filter(given).map(|r| &r.values)).collect();
    if tables.is_empty() {
        return Ok(night.engine.none(night.table("prospects")?.file_schema())?);
    }
    let named: Vec<String> = names.iter().map(|name| format!("SELECT customer_key FROM {name}")).collect();
    tables.extend([("population", population), ("customers", customers)]);
    let query = format!(
        "SELECT n.customer_key FROM (SELECT n.customer_key FROM ({}) AS n \
         LEFT ANTI JOIN population AS p ON n.customer_key = p.customer_key) AS n \
         LEFT JOIN customers AS c ON n.customer_key = c.customer_key WHERE c.consent_profiling IS DISTINCT FROM false",
        named.join(" UNION ")
    );
    let base = night.materialised(night.over(&query, &tables).await?, "prospects").await?;
    let over = |r: &&Aggregated<'_>| r.entity.tells_of_prospects();
    let known: Vec<_> = relations.iter().filter(over).collect();
    let columns: String = known
        .iter()
        .flat_map(|r| &r.over)
        .map(|(name, f)| format!(", {} AS {}", agreed(f, "c.", &format!("base.{}", quote(name))), quote(name)))
        .collect();
    let base = beside(night, base, known).await?;
    let query = format!(
        "SELECT base.customer_key{columns} FROM customers AS c RIGHT JOIN base ON c.customer_key = base.customer_key"
    );
    night.over(&query, &[("base", &base), ("customers", customers)]).await
}

/// Whether a feature is made of the customer's attributes and other features, and not of rows.
fn is_formula(feature: &Feature) -> bool {
    feature.over == "customers" || feature.over == "features"
}

/// A value, unless the customer does not agree to its use; `of` qualifies the columns of customers.
fn agreed(feature: &Feature, of: &str, value: &str) -> String {
    match &feature.consent {
        Some(consent) => format!("CASE WHEN {of}{} IS DISTINCT FROM false THEN {value} END", quote(consent)),
        None => value.to_owned(),
    }
}

/// The column that says when a column's value came to be, where that is later than the row.
fn later(entity: Entity, column: &str) -> Option<&str> {
    match (entity, column) {
        (_, name) if entity.later_times().contains(&name) => Some(name),
        (Entity::CampaignContacts, "converted_amount") => Some("converted_at"),
        _ => None,
    }
}

/// Whether a feature asks for what was offered at a discount.
fn asks(feature: &Feature) -> bool {
    formula::names(&feature.expression).is_ok_and(|names| names.contains(OFFERED))
}

/// The rows of a relation that the night knows, with what the expressions ask for beside.
async fn relation_of(
    night: &Night<'_>,
    entity: Entity,
    clean: &DataFrame,
    over: &[(&str, &Feature)],
) -> Result<DataFrame, StageError> {
    let rows = night.over(&rows_of(entity, clean), &[("clean", clean)]).await?;
    if entity != Entity::Transactions || !over.iter().any(|(_, feature)| asks(feature)) {
        return Ok(rows);
    }
    let place = "coalesce(category, '') AS _place, date_trunc('month', ordered_at) AS _month";
    let query = format!(
        "SELECT r.* EXCEPT (_place, _month), o.{OFFERED} FROM (SELECT *, {place} FROM rows) AS r LEFT JOIN \
         (SELECT _place, _month, CAST(count(*) FILTER (WHERE discount > 0) AS DECIMAL(20, 6)) / count(*) AS {OFFERED} \
         FROM (SELECT {place}, discount FROM rows WHERE purchase) GROUP BY _place, _month) AS o \
         ON r._place = o._place AND r._month = o._month"
    );
    night.over(&query, &[("rows", &rows)]).await
}

/// SQL that is true of the rows of a window before a night, which ends a lag before it.
pub(crate) fn within(
    night: &Night<'_>,
    entity: Entity,
    window: &str,
    lag: Option<&str>,
    as_of: AsOf,
) -> Result<String, String> {
    let length = |text: &str| Length::parse(text).ok_or_else(|| format!("`{text}` is no length of time"));
    let event = entity.event_time();
    let at = |lengths: &[Length]| {
        let micros = as_of.before(lengths, &night.project.project.timezone).map_err(|e| e.to_string())?;
        Ok::<_, String>(format!("arrow_cast({micros}, 'Timestamp(µs, \"UTC\")')"))
    };
    let window = length(window)?;
    Ok(match lag {
        None => format!("{event} >= {}", at(&[window])?),
        Some(lag) => {
            let lag = length(lag)?;
            format!("{event} >= {} AND {event} < {}", at(&[lag, window])?, at(&[lag])?)
        }
    })
}

/// The expression of a feature over rows as a night reads it, its window included.
fn expression(night: &Night<'_>, entity: Entity, feature: &Feature, as_of: AsOf) -> Result<String, String> {
    let Some(window) = &feature.window else { return Ok(feature.expression.clone()) };
    let condition = within(night, entity, window, feature.lag.as_deref(), as_of)?;
    let state = night.engine.session().state();
    let known = |name: &str| state.aggregate_functions().contains_key(name);
    let filtered = formula::filtered(&feature.expression, &condition, known).map_err(|e| crate::in_short(&e))?;
    filtered.ok_or_else(|| "a window is of aggregates, and the expression has none".to_owned())
}

/// SQL of the rows of a relation that the night knows. What happens to a row later is not known yet.
pub(crate) fn rows_of(entity: Entity, frame: &DataFrame) -> String {
    let masked = |name: &str| {
        let later = later(entity, name);
        let name = quote(name);
        later.map_or(name.clone(), |time| format!("CASE WHEN {time} < as_of THEN {name} END AS {name}"))
    };
    let mut columns: Vec<_> = frame.schema().fields().iter().map(|f| masked(f.name())).collect();
    if entity == Entity::Transactions {
        columns.push("NOT is_return AS purchase".to_owned());
    }
    if entity == Entity::CampaignContacts {
        columns.push(format!("coalesce(lower(trim(\"group\")) NOT IN ({HELD_OUT}), true) AS treated"));
    }
    let event = entity.event_time();
    format!("SELECT {} FROM clean WHERE {event} < as_of AND account_key IS NOT NULL", columns.join(", "))
}

/// The expressions over one relation in parts, and how they are called in messages.
fn split(
    night: &Night<'_>,
    entity: Entity,
    over: &[(&str, &Feature)],
    absent: &[&str],
    schema: &DFSchema,
) -> Result<Partial, StageError> {
    let (project, engine, as_of, parent) = (night.project, night.engine, night.as_of, night.parent);
    let place = |name: &str| format!("features.{name}.expression");
    let bound = |text: &str, as_of: AsOf| formula::bind(text, &Words::new(as_of, &project.project.timezone));
    let never = AsOf::new(NEVER, &project.project.timezone).map_err(|e| StageError::Data(e.to_string()))?;
    let mut entries = Vec::new();
    let purchases = if entity == Entity::Transactions { "count(*) FILTER (WHERE purchase)" } else { "count(*)" };
    entries.push(Entry {
        name: LINES.to_owned(),
        tonight: purchases.to_owned(),
        never: purchases.to_owned(),
        before: parent.map(|_| purchases.to_owned()),
    });
    for (name, feature) in over {
        let wrong = |e: &dyn std::fmt::Display| StageError::Expression {
            place: place(name),
            problem: format!("`{}`: {}", feature.expression, crate::in_short(e)),
        };
        let reads = |as_of| expression(night, entity, feature, as_of).map_err(|e| wrong(&e));
        let tonight = bound(&reads(as_of)?, as_of).map_err(|e| wrong(&e))?;
        let parsed = engine.session().parse_sql_expr(&tonight, schema).map_err(|e| wrong(&e))?;
        if let Some(column) = loose(&parsed).map_err(|e| wrong(&e))? {
            return Err(wrong(&format!(
                "a customer has many rows of {entity}: `{column}` stands in no aggregate, such as sum({column}) or max({column})"
            )));
        }
        let asked = |name: &str| match name {
            OFFERED => ["category", "discount"].iter().any(|column| absent.contains(column)),
            name => absent.contains(&name),
        };
        let is_absent = parsed.column_refs().iter().any(|column| asked(&column.name));
        let text = |as_of| {
            let whole = match is_absent {
                true => typed(feature, "NULL"),
                false => typed(feature, &value(feature, true, &format!("({})", reads(as_of)?))),
            };
            bound(&whole, as_of).map_err(|e| wrong(&e))
        };
        entries.push(Entry {
            name: (*name).to_owned(),
            tonight: text(as_of)?,
            never: text(never)?,
            before: parent.map(text).transpose()?,
        });
    }
    let columns = entity.columns().iter().map(|c| c.name);
    let moving: Vec<_> = columns.filter(|name| later(entity, name).is_some()).chain([OFFERED]).collect();
    Partial::split(engine.session(), schema, entity.event_time(), &moving, &entries)
        .map_err(|(name, error)| StageError::Expression { place: place(&name), problem: crate::in_short(&error) })
}

/// A column of an expression that is no argument of an aggregate.
fn loose(expression: &Expr) -> Result<Option<String>, DataFusionError> {
    let without = expression.clone().transform_down(|e| {
        Ok(match e {
            Expr::AggregateFunction(_) => Transformed::new(lit(0), true, TreeNodeRecursion::Jump),
            other => Transformed::no(other),
        })
    })?;
    let names = without.data.column_refs().into_iter().map(|column| column.name.clone());
    Ok(names.min())
}

/// The features over one relation, per customer.
async fn aggregate(
    night: &Night<'_>,
    entity: Entity,
    over: &[(&str, &Feature)],
    outcome: &mut Outcome,
) -> Result<DataFrame, StageError> {
    let clean = night.input(&entity.clean_table())?;
    let joined = relation_of(night, entity, clean, over).await?;
    let absent = night.availability.absent(entity);
    let partial = split(night, entity, over, &absent, joined.schema())?;
    // What nobody asks for beside the rows is not joined to all of them.
    let beside = |(name, reach): (&str, &Reach)| {
        matches!(reach, Reach::Since(_)) && over.iter().any(|(n, f)| *n == name && asks(f))
    };
    let rows = match partial.needs().any(beside) {
        true => joined.clone(),
        false => night.over(&rows_of(entity, clean), &[("clean", clean)]).await?,
    };
    let relation = Relation { night, entity, rows, partial };
    let values = match relation.goes_on() {
        Some((states, values, added)) => relation.chained(states, values, added, outcome).await?,
        None => relation.whole(outcome).await?,
    };
    let everything = match relation.partial.asks_for_everything() {
        true => {
            let rows = relation.to_customers(joined).await?;
            Some(relation.partial.everything(rows, CUSTOMER)?)
        }
        false => None,
    };
    let features = relation.partial.finish(values, CUSTOMER, everything)?;
    let names: String = over.iter().map(|(name, _)| format!(", {}", quote(name))).collect();
    let query = format!("SELECT customer_key{names} FROM customers WHERE {} > 0", quote(LINES));
    night.over(&query, &[("customers", &features)]).await
}

/// What each aggregated feature asks of the past, for people: its name, its relation, and what is read for it.
///
/// # Errors
/// When an expression cannot be understood.
pub async fn needs(night: &Night<'_>) -> Result<Vec<(String, Entity, Reach)>, StageError> {
    let mut all = Vec::new();
    for entity in RELATIONS {
        let over: Vec<_> = night.project.enabled_features().filter(|(_, f)| f.over == entity.name()).collect();
        let Some(table) = tessera_contract::tables::find(night.project, &entity.clean_table()) else { continue };
        let clean = night.engine.none(table.file_schema())?;
        let rows = relation_of(night, entity, &clean, &over).await?;
        let partial = split(night, entity, &over, &[], rows.schema())?;
        let needs = partial.needs().filter(|(name, _)| *name != LINES);
        all.extend(needs.map(|(name, reach)| (name.to_owned(), entity, reach.clone())));
    }
    Ok(all)
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

#[cfg(test)]
mod tests;
