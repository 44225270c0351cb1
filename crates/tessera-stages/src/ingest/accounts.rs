//! Who there is: one account per source customer id, and to which customer it belongs.
//!
//! An account's key is a keyed hash of its id and never changes. To which customer an account belongs is a mapping of the
//! night; without rules that match accounts, each is a customer of its own.

use datafusion::prelude::DataFrame;
use tessera_contract::Entity;

use super::Cleaned;
use crate::{Night, Outcome, Output, StageError, rows};

/// The accounts of the night.
pub(super) struct People {
    /// `customer_id` and `account_key`, one row an account.
    pub frame: DataFrame,
    /// The accounts of the parent night that are not among them, if there are any.
    gone: Option<DataFrame>,
}

/// The people whom the clean rows of `naming` name; leaves `identity` and `accounts`, and where nobody gives customers,
/// `clean_customers` too.
pub(super) async fn people(
    night: &Night<'_>,
    naming: &Cleaned,
    customers: bool,
    outcome: &mut Outcome,
) -> Result<People, StageError> {
    let previous = night.previous.get("identity").filter(|_| night.sources.iter().any(|s| s.before.is_some()));
    let goes_on = night.sources.iter().any(|s| s.entity == naming.entity && s.before.is_some());
    let named = "SELECT DISTINCT customer_id FROM named WHERE NOT waits AND leaving = 0 AND customer_id IS NOT NULL";
    let named = night.over(named, &[("named", &naming.rows)]).await?;
    let tables = [("named", &named), ("previous", previous.unwrap_or(&named))];
    let keyed = "customer_id, customer_key(customer_id) AS account_key";
    let (all, born) = match previous {
        None => {
            let all = night.over(&format!("SELECT {keyed} FROM named"), &tables).await?;
            let all = night.engine.materialise(all, "people").await?;
            (all.clone(), all)
        }
        // Whoever was named by a row of before still is.
        Some(_) if goes_on => {
            let new =
                "(SELECT n.customer_id FROM named AS n LEFT ANTI JOIN previous AS p ON n.customer_id = p.customer_id)";
            let query = format!("SELECT {keyed} FROM {new}");
            let born = night.engine.materialise(night.over(&query, &tables).await?, "born").await?;
            let query =
                "SELECT customer_id, account_key FROM previous UNION ALL SELECT customer_id, account_key FROM born";
            let both = [("born", &born), ("previous", tables[1].1)];
            (night.over(query, &both).await?, born)
        }
        Some(previous) => {
            let query = "SELECT n.customer_id, coalesce(p.account_key, customer_key(n.customer_id)) AS account_key, \
                         p.account_key IS NULL AS born FROM named AS n LEFT JOIN previous AS p \
                         ON n.customer_id = p.customer_id";
            let all = night.engine.materialise(night.over(query, &tables).await?, "people").await?;
            let born =
                night.over("SELECT customer_id, account_key FROM people WHERE born", &[("people", &all)]).await?;
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
                return Ok(People { frame: all, gone: Some(gone) });
            }
            (all, born)
        }
    };
    leave(night, &born, previous.is_some(), customers, outcome).await?;
    Ok(People { frame: all, gone: None })
}

/// The accounts of the parent night, all of which stay.
pub(super) async fn those_of_the_parent(night: &Night<'_>, outcome: &mut Outcome) -> Result<People, StageError> {
    outcome.stays("identity", "");
    outcome.stays("accounts", "");
    let previous = night.previous.get("identity");
    let previous = previous.ok_or_else(|| StageError::Data("the parent night left no accounts".into()))?;
    let query = "SELECT customer_id, account_key FROM previous";
    Ok(People { frame: night.over(query, &[("previous", previous)]).await?, gone: None })
}

/// Leaves the accounts of `born`, beside those of the parent night where these `stay`.
async fn leave(
    night: &Night<'_>,
    born: &DataFrame,
    stay: bool,
    customers: bool,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let query = "SELECT customer_id, account_key, account_key AS customer_key, 'born' AS event, \
                 'declared id' AS evidence, CAST(NULL AS DOUBLE) AS weight FROM born";
    let frame = night.over(query, &[("born", born)]).await?;
    let mut outputs = vec![
        ("identity", Output::table(night, "identity", frame.clone())?),
        ("accounts", Output::table(night, "accounts", frame.clone())?),
    ];
    if !customers {
        // Nobody tells anything of them.
        outputs.push(("clean_customers", Output::partly(night, "clean_customers", frame)?));
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
    /// Clean rows of somebody who is nobody tonight are orphans, whose source rows nobody kept.
    ///
    /// # Errors
    /// [`StageError::ReadAll`] when there are such rows and a rule asks for them.
    pub(super) async fn gone_are_nobodys(&self, night: &Night<'_>, cleaned: &Cleaned) -> Result<(), StageError> {
        let Some(gone) = &self.gone else { return Ok(()) };
        let entity: Entity = cleaned.entity;
        let mut after = cleaned.steps.iter().skip_while(|s| !s.asks_known || s.skipped.is_some());
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
