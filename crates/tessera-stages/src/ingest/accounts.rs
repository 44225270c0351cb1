//! Who there is: one account per source customer id. Its key is a keyed hash of the id and never changes; whose it is, the stage `identity`
//! finds out.

use datafusion::prelude::DataFrame;
use tessera_contract::Entity;

use super::Judge;
use crate::{Night, Outcome, Output, StageError, rows};

/// The accounts of the night.
pub(super) struct People {
    /// `customer_id` and `account_key`, one row an account.
    pub frame: DataFrame,
    /// How many there are.
    pub count: u64,
    /// The accounts of the parent night that are not among them, if there are any.
    gone: Option<DataFrame>,
}

/// The people whom the clean rows of a source name (`named`: `customer_id`, `account_key`), beside those of the parent night where
/// the source `goes_on`; leaves `account_ids`, and where nobody gives customers, `clean_customers` too.
///
/// # Errors
/// When two clean rows of customers are of one id.
pub(super) async fn people(
    night: &Night<'_>,
    naming: Entity,
    named: Option<DataFrame>,
    goes_on: bool,
    outcome: &mut Outcome,
) -> Result<People, StageError> {
    let customers = naming == Entity::Customers;
    let chained = goes_on || night.sources.iter().any(|s| s.before.is_some());
    let previous = night.previous.get("account_ids").filter(|_| chained);
    if goes_on && previous.is_none() {
        let why = "the parent night left no list of accounts";
        return Err(StageError::ReadAll { entity: naming, why: why.into() });
    }
    let rows = named.ok_or_else(|| StageError::Data(format!("{naming} name nobody")))?;
    let named = night.over("SELECT DISTINCT customer_id, account_key FROM named", &[("named", &rows)]).await?;
    let named = night.engine.materialise(named, "people").await?;
    if customers {
        one_row_each(night, &rows, &named).await?;
    }
    let tables = [("named", &named), ("previous", previous.unwrap_or(&named))];
    let (all, born) = match previous {
        None => (named.clone(), named.clone()),
        // Whoever was named by a row of before still is.
        Some(_) if goes_on => {
            let query = "SELECT n.customer_id, n.account_key FROM named AS n \
                         LEFT ANTI JOIN previous AS p ON n.customer_id = p.customer_id";
            let born = night.engine.materialise(night.over(query, &tables).await?, "born").await?;
            let query =
                "SELECT customer_id, account_key FROM previous UNION ALL SELECT customer_id, account_key FROM born";
            let both = [("born", &born), ("previous", tables[1].1)];
            (night.over(query, &both).await?, born)
        }
        Some(previous) => {
            let query = "SELECT n.customer_id, n.account_key FROM named AS n \
                         LEFT ANTI JOIN previous AS p ON n.customer_id = p.customer_id";
            let born = night.engine.materialise(night.over(query, &tables).await?, "born").await?;
            let all = named.clone();
            let (before, now, new) = (
                rows::count(night, previous).await?,
                rows::count(night, &all).await?,
                rows::count(night, &born).await?,
            );
            if before > now - new {
                let query = "SELECT p.account_key FROM previous AS p LEFT ANTI JOIN people AS n ON p.customer_id = n.customer_id";
                let gone = night.over(query, &[("people", &all), ("previous", previous)]).await?;
                let gone = night.engine.materialise(gone, "gone").await?;
                leave(night, &all, false, customers, outcome).await?;
                return Ok(People { gone: Some(gone), ..People::of(night, all).await? });
            }
            (all, born)
        }
    };
    leave(night, &born, previous.is_some(), customers, outcome).await?;
    People::of(night, all).await
}

/// Two rows of one customer would count all that the customer did twice.
async fn one_row_each(night: &Night<'_>, rows: &DataFrame, named: &DataFrame) -> Result<(), StageError> {
    if rows::count(night, rows).await? == rows::count(night, named).await? {
        return Ok(());
    }
    let query = "SELECT count(*) AS customers, sum(n) AS rows FROM \
                 (SELECT count(*) AS n FROM rows GROUP BY customer_id HAVING count(*) > 1)";
    let batch = rows::collect(night.over(query, &[("rows", rows)]).await?).await?;
    let one = |name: &str| Ok::<_, StageError>(rows::integers(&batch, name)?.first().copied().flatten().unwrap_or(0));
    Err(StageError::Expression {
        place: "quality.rules".into(),
        problem: format!(
            "{} customers have {} clean rows, and no rule says which of them counts; a rule of severity \"supersede\" with \
             by = [\"customer_id\"] does (superseded_customer, unless it was switched off)",
            one("customers")?,
            one("rows")?
        ),
    })
}

/// The accounts of the parent night, all of which stay.
pub(super) async fn those_of_the_parent(night: &Night<'_>, outcome: &mut Outcome) -> Result<People, StageError> {
    outcome.stays("account_ids", "");
    let previous = night.previous.get("account_ids");
    let previous = previous.ok_or_else(|| StageError::Data("the parent night left no accounts".into()))?;
    let query = "SELECT customer_id, account_key FROM previous";
    People::of(night, night.over(query, &[("previous", previous)]).await?).await
}

/// Leaves the accounts of `born`, beside those of the parent night where these `stay`.
async fn leave(
    night: &Night<'_>,
    born: &DataFrame,
    stay: bool,
    customers: bool,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let mut outputs = vec![("account_ids", Output::table(night, "account_ids", born.clone())?)];
    if !customers {
        // Nobody tells anything of them.
        outputs.push(("clean_customers", Output::partly(night, "clean_customers", born.clone())?));
    }
    for (table, output) in outputs {
        if stay {
            outcome.stays(table, "");
        }
        outcome.outputs.push(output);
    }
    Ok(())
}

impl People {
    /// The accounts of a frame with `customer_id` and `account_key`.
    pub(super) async fn of(night: &Night<'_>, frame: DataFrame) -> Result<Self, StageError> {
        let count = rows::count(night, &frame).await?;
        Ok(Self { frame, count, gone: None })
    }

    /// Clean rows of somebody who is nobody tonight are orphans, whose source rows nobody kept.
    ///
    /// # Errors
    /// [`StageError::ReadAll`] when there are such rows and a rule asks for them.
    pub(super) async fn gone_are_nobodys(&self, night: &Night<'_>, judge: &Judge) -> Result<(), StageError> {
        let Some(gone) = &self.gone else { return Ok(()) };
        let entity = judge.entity;
        let mut after = judge.steps.iter().skip_while(|s| !s.asks_known || s.skipped.is_some());
        let asked = after.next().is_some();
        if after.any(|s| s.turns_away() && !s.asks_known && s.skipped.is_none()) {
            let why = "customers are gone, and rows of theirs may have left at a rule after the one that asks for them";
            return Err(StageError::ReadAll { entity, why: why.into() });
        }
        let Some(clean) = night.previous.get(&entity.clean_table()).filter(|_| asked) else { return Ok(()) };
        let query = "SELECT count(*) AS rows, count(DISTINCT c.account_key) AS accounts \
                     FROM gone AS g JOIN clean AS c ON g.account_key = c.account_key";
        let batch = rows::collect(night.over(query, &[("clean", clean), ("gone", gone)]).await?).await?;
        let one =
            |name: &str| Ok::<_, StageError>(rows::integers(&batch, name)?.first().copied().flatten().unwrap_or(0));
        match (one("rows")?, one("accounts")?) {
            (0, _) => Ok(()),
            (rows, accounts) => Err(StageError::ReadAll {
                entity,
                why: format!("{accounts} customers of {rows} clean rows are no longer among the customers"),
            }),
        }
    }
}
