//! Whose figures they are: the customers of a night with their segments, and people without one.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::DataFrame;
use tessera_engine::formula::{self, quote};

use crate::{Night, StageError, rows};

/// In place of a segment's id, of people who have none.
pub(crate) const NOBODYS: i64 = -1;

/// A value of customers with a segment only.
pub(crate) fn of_customers(expression: &str) -> String {
    format!("CASE WHEN segment_id >= 0 THEN {expression} END")
}

/// What the figures of a night are made of.
pub(crate) struct People {
    features: DataFrame,
    segments: DataFrame,
    customers: DataFrame,
    value: DataFrame,
    /// Who is none of the customers, if anybody is.
    prospects: Option<DataFrame>,
    /// What everybody adds to the items of breakdowns, if there are any.
    pub(super) items: Option<DataFrame>,
}

impl People {
    /// Those of this night.
    pub(crate) async fn of_tonight(night: &Night<'_>) -> Result<Self, StageError> {
        let prospects = night.input("prospects")?;
        let some = rows::count(night, prospects).await? > 0;
        Ok(Self {
            features: night.input("features")?.clone(),
            segments: night.input("segments")?.clone(),
            customers: night.customers().await?,
            value: night.input("customer_value")?.clone(),
            prospects: some.then(|| prospects.clone()),
            items: None,
        })
    }

    /// Those of another night, by its tables; `value` is that of a night which predicted something.
    pub(crate) async fn of(
        night: &Night<'_>,
        tables: &BTreeMap<String, DataFrame>,
        tonight: &Self,
    ) -> Result<Self, StageError> {
        let table = |name: &str| {
            let missing = || StageError::Data(format!("a published night left no table {name}"));
            tables.get(name).ok_or_else(missing)
        };
        // Nights before there was one predicted nothing.
        let value = match tables.get("customer_value") {
            Some(value) => value.clone(),
            None => night.over("SELECT * FROM v WHERE false", &[("v", &tonight.value)]).await?,
        };
        let customers =
            night.customers_of(table("clean_customers")?, table("accounts")?, tables.get("golden_records")).await?;
        Ok(Self {
            features: table("features")?.clone(),
            segments: table("segments")?.clone(),
            customers,
            value,
            prospects: tables.get("prospects").cloned(),
            items: None,
        })
    }

    /// The same of other customers: their features, and their segments.
    pub(crate) fn of_others(&self, features: DataFrame, segments: DataFrame) -> Self {
        let (customers, value) = (self.customers.clone(), self.value.clone());
        Self { features, segments, customers, value, prospects: None, items: None }
    }

    /// Who is in which segment.
    pub(crate) fn segments(&self) -> &DataFrame {
        &self.segments
    }

    /// Whether there are people without a segment.
    pub(crate) fn has_prospects(&self) -> bool {
        self.prospects.is_some()
    }

    /// The tables of [`Self::joined`] and [`Self::everybody`].
    pub(crate) fn tables(&self) -> Vec<(&'static str, &DataFrame)> {
        let mut tables = vec![
            ("features", &self.features),
            ("segments", &self.segments),
            ("customers", &self.customers),
            ("value", &self.value),
        ];
        tables.extend(self.prospects.as_ref().map(|prospects| ("prospects", prospects)));
        tables.extend(self.items.as_ref().map(|items| ("items", items)));
        tables
    }

    /// The features of every customer with a segment, the segment, and what of their account the expressions name, as a relation.
    pub(crate) fn joined(&self, night: &Night<'_>, expressions: &[&str]) -> String {
        self.joined_where(night, expressions, "true")
    }

    /// The same of those only of whom SQL over `segment_id` and `key_hash` is true.
    fn joined_where(&self, night: &Night<'_>, expressions: &[&str], which: &str) -> String {
        let beside = self.beside(night, expressions);
        let columns: String = beside.iter().map(|(table, name)| format!(", {table}.{0} AS {0}", quote(name))).collect();
        let (joins, of) = (joins(&beside, "s"), with_hash("segments", "segment_id", which));
        // What is narrow is put together and held, and what is wide passes by.
        format!(
            "(SELECT f.*, m.* EXCEPT (customer_key) FROM (SELECT s.customer_key, s.segment_id{columns} FROM {of} AS s{joins}) AS m \
             JOIN features AS f ON m.customer_key = f.customer_key)"
        )
    }

    /// Of the same and of people without a segment, what the expressions name.
    pub(crate) fn everybody(&self, night: &Night<'_>, expressions: &[&str]) -> String {
        self.everybody_where(night, expressions, "true")
    }

    /// What everybody adds to the items of rows, with their segment.
    pub(crate) fn of_items(&self) -> Option<String> {
        self.items.as_ref()?;
        let of = |table: &str, segment: &str| {
            format!(
                "SELECT {segment} AS segment_id, i.* FROM {table} AS s JOIN items AS i ON s.customer_key = i.customer_key"
            )
        };
        let customers = of("segments", "s.segment_id");
        Some(match self.has_prospects() {
            true => format!("({customers} UNION ALL {})", of("prospects", &nobodys())),
            false => format!("({customers})"),
        })
    }

    /// The same as [`Self::everybody`] of those only of whom SQL over `segment_id` and `key_hash` is true.
    pub(super) fn everybody_where(&self, night: &Night<'_>, expressions: &[&str], which: &str) -> String {
        let joined = self.joined_where(night, expressions, which);
        let Some(prospects) = &self.prospects else { return joined };
        let words = words(expressions);
        let features = self.features.schema().fields().iter().map(|f| f.name());
        let features: Vec<&String> = features.filter(|name| *name != "customer_key" && named(&words, name)).collect();
        let beside = self.beside(night, expressions);
        let columns = features.iter().copied().chain(beside.iter().map(|(_, name)| name));
        let columns: String = columns.map(|name| format!(", {}", quote(name))).collect();
        let theirs = features.iter().map(|name| match prospects.schema().has_column_with_unqualified_name(name) {
            true => format!(", s.{0} AS {0}", quote(name)),
            false => format!(", NULL AS {}", quote(name)),
        });
        let of_account = beside.iter().map(|(table, name)| format!(", {table}.{0} AS {0}", quote(name)));
        let theirs: String = theirs.chain(of_account).collect();
        let (joins, of) = (joins(&beside, "s"), with_hash("prospects", &format!("*, {}", nobodys()), which));
        format!(
            "(SELECT customer_key, segment_id{columns} FROM {joined} UNION ALL \
             SELECT s.customer_key, {} AS segment_id{theirs} FROM {of} AS s{joins})",
            nobodys()
        )
    }

    /// What the expressions name that is no feature, each with the alias of the table that has it: what is predicted, then attributes, then
    /// items.
    fn beside(&self, night: &Night<'_>, expressions: &[&str]) -> Vec<(&'static str, String)> {
        let words = words(expressions);
        let mut taken: BTreeSet<String> = night.project.enabled_features().map(|(name, _)| name.to_owned()).collect();
        taken.insert("customer_key".to_owned());
        let mut found = Vec::new();
        let tables = [("v", Some(&self.value)), ("c", Some(&self.customers)), ("i", self.items.as_ref())];
        for (alias, table) in tables.into_iter().filter_map(|(alias, table)| Some((alias, table?))) {
            for field in table.schema().fields() {
                if taken.insert(field.name().clone()) && named(&words, field.name()) {
                    found.push((alias, field.name().clone()));
                }
            }
        }
        found
    }
}

/// SQL of the segment of who has none.
fn nobodys() -> String {
    format!("arrow_cast({NOBODYS}, 'Int32')")
}

/// A table of customers, or those of them only of whom a condition is true.
fn with_hash(table: &str, segment: &str, which: &str) -> String {
    match (which, table) {
        ("true", table) => table.to_owned(),
        (which, "segments") => format!(
            "(SELECT * FROM (SELECT customer_key, {segment}, row_hash(customer_key) AS key_hash FROM segments) WHERE {which})"
        ),
        (which, table) => {
            format!(
                "(SELECT * FROM (SELECT {segment} AS segment_id, row_hash(customer_key) AS key_hash FROM {table}) WHERE {which})"
            )
        }
    }
}

/// What expressions name.
fn words(expressions: &[&str]) -> BTreeSet<String> {
    expressions.iter().filter_map(|e| formula::names(e).ok()).flatten().map(|word| word.to_ascii_lowercase()).collect()
}

fn named(words: &BTreeSet<String>, name: &str) -> bool {
    words.contains(&name.to_ascii_lowercase())
}

/// The joins of the tables that have some columns, by the customer of a table.
fn joins(beside: &[(&str, String)], to: &str) -> String {
    [("c", "customers"), ("v", "value"), ("i", "items")]
        .into_iter()
        .filter(|(alias, _)| beside.iter().any(|(table, _)| table == alias))
        .map(|(alias, table)| format!(" LEFT JOIN {table} AS {alias} ON {to}.customer_key = {alias}.customer_key"))
        .collect()
}
