//! The values of a relation's calls per customer: from all rows, or from what the parent night kept and what came or moved since.

use datafusion::{
    logical_expr::ident,
    prelude::{DataFrame, Expr},
};
use tessera_contract::{AsOf, Entity, project::AfterAsOf};
use tessera_engine::{
    buckets::BUCKET,
    formula::quote,
    partial::{Groups, Partial},
};

use super::rows_of;
use crate::{Input, Kept, Night, Outcome, StageError, rows};

/// A relation of the night, and what its features need of it.
pub(super) struct Relation<'a> {
    pub night: &'a Night<'a>,
    pub entity: Entity,
    /// The rows that the night knows.
    pub rows: DataFrame,
    pub partial: Partial,
}

const ACCOUNT: &str = "account_key";
pub(super) const CUSTOMER: &str = "customer_key";
const MINE: &str = "tessera.mine";

/// What is kept is of this version of the code alone, and of the states' bytes.
const STAMP: &str = concat!(env!("CARGO_PKG_VERSION"), "-4");

impl<'a> Relation<'a> {
    /// The name under which the lifetime states of accounts are kept.
    fn states_name(&self) -> String {
        format!("states_{}", self.entity)
    }

    /// The name under which their values per customer are kept.
    fn values_name(&self) -> String {
        format!("values_{}", self.entity)
    }

    /// The name under which newer values are kept, of the customers that were touched since.
    fn newer_name(&self) -> String {
        format!("newer_{}", self.entity)
    }

    /// Whether later rows are in the clean table. They would have to be added on the night that knows them, so that nothing is
    /// kept for it.
    fn holds_later_rows(&self) -> bool {
        self.night.project.quality.events_after_as_of == AfterAsOf::Keep
    }

    /// What the parent night kept, and the rows that were added since, if all that is needed is there.
    pub fn goes_on(&self) -> Option<(&'a Kept, &'a Kept, &'a DataFrame)> {
        if self.holds_later_rows() {
            return None;
        }
        let added = self.night.given(&self.entity.clean_table()).ok()?.added.as_ref()?;
        let accounts = self.night.given("accounts").ok()?;
        if accounts.added.is_none() && !self.night.previous.contains_key("accounts") {
            return None;
        }
        let kept = |name: &str, columns: Vec<&str>| {
            let has = |column: &&str, kept: &Kept| kept.frame.schema().has_column_with_unqualified_name(column);
            let kept = self.night.kept.get(name)?;
            let ours = kept.stamp.split(' ').next() == Some(STAMP);
            (ours && columns.iter().all(|c| has(c, kept))).then_some(kept)
        };
        let states = kept(&self.states_name(), self.partial.kept())?;
        let values = kept(&self.values_name(), self.partial.lifetime_values())?;
        if self.night.kept.contains_key(&self.newer_name()) {
            kept(&self.newer_name(), self.partial.lifetime_values())?;
        }
        Some((states, values, added))
    }

    /// What values of windows are kept under: those of another night than the parent are none to go on from.
    fn stamp_of_values(&self, night: AsOf) -> String {
        match self.partial.since().is_some() && self.partial.windows_follow() {
            true => format!("{STAMP} {night}"),
            false => STAMP.to_owned(),
        }
    }

    /// Whether the windows of the parent night are known: from which instant on rows moved since, and which did.
    fn windows_go_on(&self, values: &Kept) -> Option<(i64, Expr)> {
        let moved = self.partial.moved()?;
        let stamp = self.stamp_of_values(self.night.parent?);
        let has = |kept: &Kept| {
            let columns = self.partial.kept_values();
            kept.stamp == stamp && columns.iter().all(|c| kept.frame.schema().has_column_with_unqualified_name(c))
        };
        let newer = self.night.kept.get(&self.newer_name());
        (has(values) && newer.is_none_or(has)).then_some(moved)
    }

    /// The groups of rows whose states are made in one go. Of a table in buckets, one bucket's accounts are in memory at a time.
    fn groups(&self) -> Groups<'static> {
        let in_buckets = self.rows.schema().has_column_with_unqualified_name(BUCKET);
        Groups { by: if in_buckets { &[BUCKET, ACCOUNT] } else { &[ACCOUNT] }, keep: &[ACCOUNT] }
    }

    pub async fn to_customers(&self, frame: DataFrame) -> Result<DataFrame, StageError> {
        let query = "SELECT p.*, a.customer_key FROM accounts AS a JOIN parts AS p ON a.account_key = p.account_key";
        self.night.over(query, &[("accounts", self.night.input("accounts")?), ("parts", &frame)]).await
    }

    /// The calls' values per customer from all rows; lifetime states and values are kept.
    pub async fn whole(&self, outcome: &mut Outcome) -> Result<DataFrame, StageError> {
        let states = self.partial.states(self.rows.clone(), &self.groups(), true, true)?;
        let states = self.keep(outcome, self.states_name(), STAMP.to_owned(), states).await?;
        let parts = self.to_customers(states).await?;
        let values = self.partial.values(parts, CUSTOMER, true, true)?;
        self.keep(outcome, self.values_name(), self.stamp_of_values(self.night.as_of), values).await
    }

    async fn keep(
        &self,
        outcome: &mut Outcome,
        name: String,
        stamp: String,
        frame: DataFrame,
    ) -> Result<DataFrame, StageError> {
        if self.holds_later_rows() {
            return Ok(frame);
        }
        outcome.stamps.insert(name.clone(), stamp);
        self.night.keep(outcome, &name, frame).await
    }

    /// The values of all customers, those of `touched` being `anew`. They are put among the newer values until these are many.
    async fn replaced(
        &self,
        values: &Kept,
        touched: &DataFrame,
        anew: DataFrame,
        outcome: &mut Outcome,
    ) -> Result<DataFrame, StageError> {
        let night = self.night;
        let columns: String = self.partial.kept_values().iter().map(|c| format!(", {}", quote(c))).collect();
        let (all, newer) = self.merged(values, touched, &anew, &columns).await?;
        let stamp = self.stamp_of_values(night.as_of);
        if rows::count(night, &newer).await? > values.rows / 4 + 10_000 {
            return self.keep(outcome, self.values_name(), stamp, all).await;
        }
        outcome.stamps.insert(self.values_name(), stamp.clone());
        outcome.stays(&self.values_name(), "");
        self.keep(outcome, self.newer_name(), stamp, newer).await?;
        Ok(all)
    }

    /// The kept values of all customers but the `touched`, and those of these `anew`; and those of them that are not in the table of the
    /// older ones.
    async fn merged(
        &self,
        values: &Kept,
        touched: &DataFrame,
        anew: &DataFrame,
        columns: &str,
    ) -> Result<(DataFrame, DataFrame), StageError> {
        let night = self.night;
        // Who has nothing any more, since somebody else has it, has a row of nulls that hides the older one.
        let query = format!("SELECT t.customer_key{columns} FROM t LEFT JOIN n ON t.customer_key = n.customer_key");
        let anew = &night.over(&query, &[("t", touched), ("n", anew)]).await?;
        let without = format!(
            "SELECT v.customer_key{columns} FROM v LEFT ANTI JOIN t ON v.customer_key = t.customer_key \
             UNION ALL SELECT customer_key{columns} FROM n"
        );
        let newer = match night.kept.get(&self.newer_name()) {
            Some(newer) => night.over(&without, &[("v", &newer.frame), ("t", touched), ("n", anew)]).await?,
            None => night.over(&format!("SELECT customer_key{columns} FROM n"), &[("n", anew)]).await?,
        };
        let newer = night.engine.materialise(newer, &self.newer_name()).await?;
        let all = night.over(&without, &[("v", &values.frame), ("t", &newer), ("n", &newer)]).await?;
        Ok((all, newer))
    }

    /// The same from what the parent night kept: only customers of added rows are summed anew, from the states of their
    /// accounts, and with those of rows that moved their windows from the rows of these.
    pub async fn chained(
        &self,
        states: &Kept,
        values: &Kept,
        added: &DataFrame,
        outcome: &mut Outcome,
    ) -> Result<DataFrame, StageError> {
        let night = self.night;
        let partial = &self.partial;
        let rows = night.over(&rows_of(self.entity, added), &[("clean", added)]).await?;
        let new = partial.states(rows, &Groups { by: &[ACCOUNT], keep: &[ACCOUNT] }, true, false)?;
        let people = rows::count(night, night.input("accounts")?).await?;
        let new = match states.rows > people / 2 * 3 + 10_000 {
            // Many states of the same accounts become one each.
            true => {
                let new = night.engine.materialise(new, &self.states_name()).await?;
                let all = partial.together(vec![states.frame.clone(), new.clone()], ACCOUNT)?;
                let folded = partial.fold(night.engine.session(), all, ACCOUNT)?;
                self.keep(outcome, self.states_name(), STAMP.to_owned(), folded).await?;
                new
            }
            false => {
                outcome.stays(&self.states_name(), "");
                self.keep(outcome, self.states_name(), STAMP.to_owned(), new).await?
            }
        };

        // Of an account that is born tonight, rows may have come before it was one; one that is somebody else's changes two customers.
        let accounts = night.given("accounts")?;
        let others = self.other_customers(accounts).await?;
        let query = "SELECT a.customer_key FROM new AS n JOIN accounts AS a ON n.account_key = a.account_key \
                     UNION SELECT customer_key FROM others";
        let touched = night.over(query, &[("new", &new), ("accounts", &accounts.frame), ("others", &others)]).await?;
        let touched = night.engine.materialise(touched, &format!("{}_touched", self.entity)).await?;
        let mut moved = None;
        if let Some((since, which)) = self.windows_go_on(values) {
            let rows = self.since(since).await?.filter(which)?;
            let query = "SELECT a.customer_key FROM (SELECT DISTINCT account_key FROM rows) AS r \
                         JOIN accounts AS a ON r.account_key = a.account_key UNION SELECT customer_key FROM touched";
            let tables = [("rows", &rows), ("accounts", &accounts.frame), ("touched", &touched)];
            let all =
                night.engine.materialise(night.over(query, &tables).await?, &format!("{}_moved", self.entity)).await?;
            // Of so many, all rows of the windows are read sooner than theirs are found.
            moved = (rows::count(night, &all).await? < people / 3).then_some(all);
        }
        let anew = moved.as_ref().unwrap_or(&touched);
        let mine = "SELECT a.account_key FROM touched AS t JOIN accounts AS a ON t.customer_key = a.customer_key";
        let mine = night.over(mine, &[("touched", anew), ("accounts", &accounts.frame)]).await?;
        let theirs = "SELECT s.* FROM mine JOIN states AS s ON mine.account_key = s.account_key";
        let theirs = night.over(theirs, &[("mine", &mine), ("states", &states.frame)]).await?;
        let parts = self.to_customers(partial.together(vec![theirs, new], ACCOUNT)?).await?;
        let lifetime = partial.values(parts, CUSTOMER, true, false)?;

        let Some(since) = partial.since() else { return self.replaced(values, &touched, lifetime, outcome).await };
        let window = self.since(since).await?;
        if let Some(moved) = &moved {
            let mine = night.over("SELECT account_key, true AS mine FROM mine", &[("mine", &mine)]).await?;
            let mine = night.engine.materialise(mine, &format!("{}_mine", self.entity)).await?;
            let count = rows::count(night, &mine).await?;
            let window = night.engine.look_up(window, ACCOUNT, (mine, count), MINE).await?;
            let window = window.filter(ident(MINE).is_not_null())?;
            let parts = self.to_customers(partial.states(window, &self.groups(), false, true)?).await?;
            let windows = partial.values(parts, CUSTOMER, false, true)?;
            let values_anew = partial.beside(lifetime, windows, self.rows.clone(), CUSTOMER).await?;
            return self.replaced(values, moved, values_anew, outcome).await;
        }
        let parts = self.to_customers(partial.states(window, &self.groups(), false, true)?).await?;
        let windows = partial.values(parts, CUSTOMER, false, true)?;
        if !partial.windows_follow() {
            let lifetime = self.replaced(values, &touched, lifetime, outcome).await?;
            return Ok(partial.beside(lifetime, windows, self.rows.clone(), CUSTOMER).await?);
        }
        let columns: String = partial.lifetime_values().iter().map(|c| format!(", {}", quote(c))).collect();
        let (lifetime, _) = self.merged(values, &touched, &lifetime, &columns).await?;
        let all = partial.beside(lifetime, windows, self.rows.clone(), CUSTOMER).await?;
        self.keep(outcome, self.values_name(), self.stamp_of_values(night.as_of), all).await
    }

    /// The customers that have other accounts than on the parent night, then or now.
    async fn other_customers(&self, accounts: &Input) -> Result<DataFrame, StageError> {
        let night = self.night;
        if let Some(born) = &accounts.added {
            return night.over("SELECT customer_key FROM born", &[("born", born)]).await;
        }
        let before = night.previous.get("accounts").unwrap_or(&accounts.frame);
        let query = "SELECT n.customer_key AS now, b.customer_key AS \"then\" FROM accounts AS n FULL JOIN before AS b \
                     ON n.account_key = b.account_key WHERE n.customer_key IS DISTINCT FROM b.customer_key";
        let differ = night.over(query, &[("accounts", &accounts.frame), ("before", before)]).await?;
        let differ = night.engine.materialise(differ, &format!("{}_other", self.entity)).await?;
        let query = "SELECT now AS customer_key FROM differ WHERE now IS NOT NULL \
                     UNION SELECT \"then\" FROM differ WHERE \"then\" IS NOT NULL";
        night.over(query, &[("differ", &differ)]).await
    }

    /// The rows from an instant on.
    async fn since(&self, instant: i64) -> Result<DataFrame, StageError> {
        let from = format!("arrow_cast({instant}, 'Timestamp(µs, \"UTC\")')");
        let query = format!("SELECT * FROM rows WHERE {} >= {from}", self.entity.event_time());
        self.night.over(&query, &[("rows", &self.rows)]).await
    }
}
