//! Where judged rows go: the clean ones to their table, the others to the quarantine, in one pass.

use tessera_contract::{Column, Entity, Severity, Table};
use tessera_engine::{
    formula::{quote, text},
    source::ROW_BITS,
    write::{Buckets, Route},
};

use super::{
    Cleaned,
    mapping::RAW,
    waterfall::{self, Step},
};
use crate::{Night, Output, StageError};

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
        if !self.entity.has_customer() || self.entity == Entity::Customers {
            return None;
        }
        let wanted = source.files.iter().map(|f| f.bytes).sum::<u64>() / BUCKET_BYTES;
        let (count, together) = how_many(wanted, night.engine.partitions() as u64)?;
        Some(Buckets { column: "customer_key".to_owned(), count: u32::try_from(count).ok()?, together })
    }

    /// The clean rows to their table, the others to the quarantine, in one pass.
    /// `known`: a customer has a key only if the customer is a clean one.
    pub(super) async fn output(&self, night: &Night<'_>, known: bool) -> Result<Output, StageError> {
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
            "customer_key" if !known => "coalesce(customer_key, customer_key(customer_id))".to_owned(),
            name => quote(name),
        };
        let files: String = {
            let source = night.sources.iter().find(|s| s.entity == self.entity);
            let urls = source.map(|s| s.files.as_slice()).unwrap_or_default();
            match urls.len() {
                1 => text(&urls[0].url),
                _ => {
                    let cases: String =
                        urls.iter().enumerate().map(|(i, f)| format!(" WHEN {i} THEN {}", text(&f.url))).collect();
                    format!("CASE _locator >> {ROW_BITS}{cases} END")
                }
            }
        };
        let everything = names(&|_| true);
        // The lowest bit. DataFusion's simplifier takes a minus for a bitwise not, and makes `x & -x` a 0.
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
            _ => "money".to_owned(),
        };
        let route = |table: &Table, filter: &str, columns: &dyn Fn(&Column) -> String| -> Result<Route, StageError> {
            let schema = frame.schema();
            let parse = |sql: &str| night.engine.session().parse_sql_expr(sql, schema);
            let columns = table
                .columns
                .iter()
                .map(|c| Ok(tessera_engine::session::as_column(parse(&columns(c))?, c)))
                .collect::<Result<Vec<_>, StageError>>()?;
            Ok(Route { filter: Some(parse(filter)?), columns, ..Route::all(&table.name, table) })
        };
        let mut kept = route(&clean, "leaving = 0", &clean_columns)?;
        kept.buckets = self.buckets(night);
        let routes = vec![kept, route(&night.table("quarantine")?, "leaving <> 0", &quarantine_columns)?];
        Ok(Output { frame, routes })
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
