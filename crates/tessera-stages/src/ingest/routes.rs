//! Where judged rows go: the clean ones to their table, the others to the quarantine, in one pass.

use datafusion::{logical_expr::ident, prelude::Expr};
use tessera_contract::{Column, Entity, Severity, Table};
use tessera_engine::{
    buckets::Buckets,
    formula::{quote, text},
    source::ROW_BITS,
    write::Route,
};

use super::{
    Cleaned,
    mapping::RAW,
    waterfall::{self, Step},
};
use crate::{Night, Outcome, Output, Source, StageError, rows};

/// Bytes of source for a bucket of the clean table.
const BUCKET_BYTES: u64 = 8 << 20;
/// The most files that are open for one table, of some megabytes each, where every partition has one for each bucket.
const MOST_OPEN: u64 = 128;
/// Buckets of a partition, where the rows of a bucket are brought together before.
const OPEN_EACH: u64 = 16;

impl Cleaned {
    /// Large tables of what customers did are kept by customer, for whoever aggregates them.
    fn buckets(&self, night: &Night<'_>) -> Option<Buckets> {
        let source = night.sources.iter().find(|s| s.entity == self.entity)?;
        // What is added to a table is little, and would be many small files.
        if !self.entity.has_customer() || self.entity == Entity::Customers || source.before.is_some() {
            return None;
        }
        let wanted = source.files.iter().map(|f| f.bytes).sum::<u64>() / BUCKET_BYTES;
        let (count, together) = how_many(wanted, night.engine.partitions() as u64)?;
        Some(Buckets { column: "account_key".to_owned(), count: u32::try_from(count).ok()?, together })
    }

    /// Where the rows go, and what stays of the parent night's, in one pass: the clean ones to their table, the others to the
    /// quarantine; those that wait, and the hashes of the clean ones, are kept for the next night.
    /// `known`: a row has a key only if its customer is a clean one.
    pub(super) async fn leave(
        &self,
        night: &Night<'_>,
        source: &Source,
        known: bool,
        outcome: &mut Outcome,
    ) -> Result<(), StageError> {
        let name = self.entity.name();
        let (waiting, seen) = (super::waiting(self.entity), super::seen(self.entity));
        let repeats = self.steps.iter().position(|s| s.compares() && s.rule.as_ref().is_some_and(|r| r.by == ["*"]));
        let merges = repeats.is_some();
        let goes_on = super::reads_all(night.project, self.entity).is_none();
        if source.before.is_some() {
            outcome.stays(&self.entity.clean_table(), "");
            outcome.stays("quarantine", name);
            if merges {
                outcome.stays(&seen, "");
            }
        }
        let clean = night.table(&self.entity.clean_table())?;
        let frame = self.rows.clone();
        let names = |which: &dyn Fn(&Step) -> bool| -> String {
            self.steps.iter().map(|s| format!(", {}", text(if which(s) { &s.name } else { "" }))).collect()
        };
        let warned = waterfall::bits(&self.steps, |s| s.severity == Severity::Warn);
        let repairs: String = self.repairs.iter().map(|n| format!(", {}", text(n))).collect();
        let clean_columns = |c: &Column| match c.name.as_str() {
            "repaired_by" => format!("rule_names(repaired{repairs})"),
            "warned_by" => format!("rule_names(mask & {warned}{})", names(&|s| s.severity == Severity::Warn)),
            "quantity" if self.entity == Entity::Transactions => "abs(quantity)".to_owned(),
            "account_key" if !known => "coalesce(account_key, customer_key(customer_id))".to_owned(),
            name => quote(name),
        };
        let files = self.file_names(night, source).await?;
        let everything = names(&|_| true);
        let first = "leaving & (0 - leaving)";
        let merge = waterfall::bits(&self.steps, |s| s.severity == Severity::Merge);
        let supersede = waterfall::bits(&self.steps, |s| s.severity == Severity::Supersede);
        let raw: Vec<String> = self
            .rows
            .schema()
            .fields()
            .iter()
            .filter_map(|f| f.name().strip_prefix(RAW).map(|n| format!("{}, {}", text(n), quote(f.name()))))
            .collect();
        let quarantine_columns = |c: &Column| match c.name.as_str() {
            "source" => text(self.entity.name()),
            "file" => files.clone(),
            "row" => format!("_locator & {}", (1_i64 << ROW_BITS) - 1),
            "disposition" => format!(
                "CASE WHEN ({first}) & {merge} <> 0 THEN 'merged' WHEN ({first}) & {supersede} <> 0 THEN 'superseded' \
                 ELSE 'quarantined' END"
            ),
            "rule" => format!("array_element(rule_names({first}{everything}), 1)"),
            "rules" => format!("rule_names(mask{everything})"),
            "defect" => "_defect".to_owned(),
            "record" => format!("row_json({})", raw.join(", ")),
            "since" => format!("DATE '{}'", night.as_of),
            _ => "money".to_owned(),
        };
        let route = |table: &Table, filter: &str, columns: &dyn Fn(&Column) -> String| -> Result<Route, StageError> {
            let schema = frame.schema();
            let parse = |sql: &str| night.engine.session().parse_sql_expr(sql, schema);
            let columns = table
                .columns
                .iter()
                .map(|c| Ok(tessera_engine::columns::as_column(parse(&columns(c))?, c)))
                .collect::<Result<Vec<_>, StageError>>()?;
            Ok(Route { filter: Some(parse(filter)?), columns, ..Route::all(&table.name, table) })
        };
        let mut kept = route(&clean, "NOT waits AND leaving = 0", &clean_columns)?;
        kept.buckets = self.buckets(night);
        let quarantine = night.table("quarantine")?;
        let for_good = route(&quarantine, "NOT waits AND leaving <> 0", &quarantine_columns)?;
        let for_now = route(&quarantine, "waits AND NOT later", &quarantine_columns)?;
        let mut routes = vec![
            kept,
            Route { folder: name.to_owned(), ..for_good },
            Route { folder: format!("{name}/waiting"), ..for_now },
        ];
        outcome.stamps.insert(super::verdicts(self.entity), self.stamp.clone());
        if goes_on {
            let columns = |columns: Vec<String>| -> Result<Vec<Expr>, StageError> {
                let schema = frame.schema();
                Ok(columns
                    .iter()
                    .map(|c| night.engine.session().parse_sql_expr(c, schema))
                    .collect::<Result<Vec<_>, _>>()?)
            };
            let state = |name: &str, filter: &str, columns: Vec<Expr>| -> Result<Route, StageError> {
                let filter = Some(night.engine.session().parse_sql_expr(filter, frame.schema())?);
                Ok(Route { filter, ..Route::state(name, columns) })
            };
            let own: Vec<_> = self.mapping.raw.iter().map(|r| quote(&format!("{RAW}{r}"))).collect();
            let mut raw = Vec::new();
            for (column, name) in columns(own.clone())?.into_iter().zip(&self.mapping.raw) {
                raw.push(column.alias(name));
            }
            raw.extend([ident("_locator"), ident("_defect")]);
            routes.push(state(&waiting, "waits", raw)?);
            outcome.stamps.insert(waiting, self.stamp.clone());
            if merges {
                let mut by = columns(vec![format!("row_hash({})", own.join(", ")), quote(self.entity.event_time())])?;
                let at = by.pop().map(|at| at.alias("at"));
                let hash = by.pop().map(|h| h.alias("h"));
                // Whatever was still there when repeats were looked for.
                let gone = waterfall::bits(&self.steps[..=repeats.unwrap_or(0)], Step::turns_away);
                let there = format!("NOT waits AND mask & {gone} = 0");
                routes.push(state(&seen, &there, hash.into_iter().chain(at).collect())?);
                outcome.stamps.insert(seen, self.stamp.clone());
            }
        }
        outcome.outputs.push(Output { frame, routes });
        Ok(())
    }

    /// SQL of the file in which a row stands: one of those that are read, or one in which a row has waited.
    async fn file_names(&self, night: &Night<'_>, source: &Source) -> Result<String, StageError> {
        let before = source.before.unwrap_or(0);
        let mut names: Vec<(i64, String)> = (before..).zip(source.files.iter().map(|f| f.url.clone())).collect();
        if let (Some(previous), Some(waiting)) = (
            night.previous.get("inputs").filter(|_| source.before.is_some()),
            night.kept.get(&super::waiting(self.entity)),
        ) {
            let query = format!(
                "SELECT p.file_id, p.file FROM previous AS p JOIN \
                 (SELECT DISTINCT _locator >> {ROW_BITS} AS file FROM waiting) AS w ON p.file_id = w.file \
                 WHERE p.source = {} AND p.file_id < {before}",
                text(self.entity.name())
            );
            let known = night.over(&query, &[("previous", previous), ("waiting", &waiting.frame)]).await?;
            let known = rows::collect(known).await?;
            let urls = rows::texts(&known, "file")?.into_iter().map(Option::unwrap_or_default);
            names.extend(rows::integers(&known, "file_id")?.into_iter().flatten().zip(urls));
        }
        Ok(match names.as_slice() {
            [] => "arrow_cast(NULL, 'Utf8')".to_owned(),
            [(_, only)] => text(only),
            _ => {
                let cases: String = names.iter().map(|(id, url)| format!(" WHEN {id} THEN {}", text(url))).collect();
                format!("CASE _locator >> {ROW_BITS}{cases} END")
            }
        })
    }
}

/// How many buckets a table has that would like so many, and whether its rows are brought together before they are written:
/// few partitions may have all buckets open each; of many, that would be too many files, and the rows are shuffled once. Fewer
/// buckets than partitions would leave some of these idle.
fn how_many(wanted: u64, partitions: u64) -> Option<(u64, bool)> {
    let apart = wanted.min(MOST_OPEN / partitions);
    if apart > 1 && apart >= partitions {
        return Some((apart, false));
    }
    (wanted > 1 && wanted >= partitions).then(|| (wanted.min(OPEN_EACH * partitions), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_no_fewer_than_partitions_and_no_more_than_files_may_be_open() {
        assert_eq!(how_many(1, 1), None);
        assert_eq!(how_many(3, 2), Some((3, false)));
        assert_eq!(how_many(1_000, 2), Some((64, false)));
        assert_eq!(how_many(3, 4), None);
        assert_eq!(how_many(1_000, 11), Some((11, false)));
        assert_eq!(how_many(1_000, 12), Some((192, true)));
        assert_eq!(how_many(15, 12), Some((15, true)));
        assert_eq!(how_many(100_000, 64), Some((1_024, true)));
        assert_eq!(how_many(63, 64), None);
    }
}
