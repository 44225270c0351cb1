//! What everybody adds to the items of rows: a column of a customer for each sum over an item's rows.

use std::collections::BTreeMap;

use datafusion::prelude::DataFrame;
use tessera_contract::{AsOf, Entity};
use tessera_engine::formula::{Words, quote};

use super::{OTHER, is_item};
use crate::{
    Night, StageError,
    features::{rows_of, within},
    figures::exact,
};

/// The sums over rows that breakdowns are made of.
#[derive(Default)]
pub(crate) struct Items(Vec<Item>);

#[derive(PartialEq)]
struct Item {
    entity: Entity,
    window: Option<String>,
    which: String,
    place: Place,
    expression: String,
}

/// Rows of which item a sum is over.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    All,
    /// Of a dimension by this expression, one item.
    One(String, String),
    /// The items that are not told by themselves.
    Others(Others),
}

/// What is not told by itself of a dimension.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Others {
    pub breakdown: String,
    pub dimension: String,
    pub by: String,
    /// The items that are told tonight.
    pub told: Vec<String>,
}

impl Others {
    /// Those of a dimension of which these items are told.
    pub(super) fn of(breakdown: &str, dimension: &str, by: &str, told: Vec<String>) -> Self {
        Self { breakdown: breakdown.to_owned(), dimension: dimension.to_owned(), by: by.to_owned(), told }
    }

    /// SQL that is true of their rows, where a night told these items.
    pub(crate) fn condition(&self, told: Option<&[String]>) -> String {
        is_item(&self.by, OTHER, told.unwrap_or(&self.told))
    }
}

/// The items that another night told, by breakdown and dimension.
pub(crate) type ToldItems = BTreeMap<(String, String), Vec<String>>;

impl Place {
    fn condition(&self, then: &ToldItems) -> String {
        match self {
            Self::All => "true".to_owned(),
            Self::One(by, item) => is_item(by, item, &[]),
            Self::Others(others) => {
                let key = (others.breakdown.clone(), others.dimension.clone());
                others.condition(then.get(&key).map(Vec::as_slice))
            }
        }
    }
}

/// The name of a column.
fn name(at: usize) -> String {
    format!("item {at}")
}

impl Items {
    /// The column of a sum over the rows of a window that meet a condition.
    pub(super) fn add(
        &mut self,
        (entity, window): (Entity, Option<&str>),
        which: &str,
        place: &Place,
        expression: &str,
    ) -> String {
        let item = Item {
            entity,
            window: window.map(str::to_owned),
            which: which.to_owned(),
            place: place.clone(),
            expression: expression.to_owned(),
        };
        let at = self.0.iter().position(|known| *known == item).unwrap_or_else(|| {
            self.0.push(item);
            self.0.len() - 1
        });
        name(at)
    }

    /// The columns of everybody who has such rows, as of a night, by its clean tables and accounts; `then` is what it told, if that was
    /// not tonight's.
    pub(crate) async fn of_customers<'t>(
        &self,
        night: &Night<'_>,
        as_of: AsOf,
        clean: impl Fn(&str) -> Option<&'t DataFrame>,
        accounts: &DataFrame,
        then: &ToldItems,
    ) -> Result<Option<DataFrame>, StageError> {
        let words = Words::new(as_of, &night.project.project.timezone);
        let mut all: Option<DataFrame> = None;
        for entity in Entity::ALL {
            let ours = |item: &Item| item.entity == entity;
            let Some(clean) = clean(&entity.clean_table()).filter(|_| self.0.iter().any(ours)) else { continue };
            let rows = night.engine.sql(&rows_of(entity, clean), &[("clean", clean)], &words).await?;
            let mut columns = String::new();
            for (at, item) in self.0.iter().enumerate() {
                let column = match ours(item) {
                    true => {
                        let window = match &item.window {
                            Some(window) => within(night, entity, window, None, as_of).map_err(StageError::Data)?,
                            None => "true".to_owned(),
                        };
                        let (which, place) = (&item.which, item.place.condition(then));
                        format!(
                            "sum(CASE WHEN {window} AND ({which}) AND {place} THEN {} END)",
                            exact(&item.expression)
                        )
                    }
                    false => "sum(arrow_cast(NULL, 'Decimal128(38, 6)'))".to_owned(),
                };
                columns.push_str(&format!(", {column} AS {}", quote(&name(at))));
            }
            let query = format!(
                "SELECT customer_key{columns} FROM (SELECT r.*, a.customer_key FROM accounts AS a JOIN rows AS r \
                 ON a.account_key = r.account_key) GROUP BY customer_key"
            );
            let one = night.engine.sql(&query, &[("rows", &rows), ("accounts", accounts)], &words).await?;
            all = Some(match all {
                Some(all) => all.union(one)?,
                None => one,
            });
        }
        let Some(all) = all else { return Ok(None) };
        let sums: String = (0..self.0.len()).map(|at| format!(", sum({0}) AS {0}", quote(&name(at)))).collect();
        let query = format!("SELECT customer_key{sums} FROM items GROUP BY customer_key");
        let all = night.over(&query, &[("items", &all)]).await?;
        Ok(Some(night.materialised(all, &format!("items_{}", as_of.date())).await?))
    }
}
