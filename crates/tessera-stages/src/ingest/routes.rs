//! Where judged rows go: the clean ones to their table, the others to the quarantine, in one pass.

use datafusion::{logical_expr::ident, prelude::DataFrame};
use tessera_contract::{Column, Entity, Severity, Table};
use tessera_engine::{
    buckets::Buckets,
    columns::as_column,
    formula::{quote, text},
    source::{RECORD, ROW_BITS, row_number},
    write::{Lifetime, Route},
};

use super::{
    Judge,
    arrivals::{keeps_waiting, reads_all, seen, waiting},
    judge::{FIRST, old},
    waterfall::{self, Compare, Step},
};
use crate::{Night, Source, StageError, rows};

/// Bytes of source for a bucket of the clean table: what is summed up of its customers is to fit the processor's caches.
const BUCKET_BYTES: u64 = 4 << 20;
/// The most files that are open for one table, of some megabytes each, where every partition has one for each bucket.
const MOST_OPEN: u64 = 128;
/// Buckets of a partition, where the rows of a bucket are brought together before.
const OPEN_EACH: u64 = 16;

/// The rows by which it is known whom clean rows name: `customer_id`, `account_key`.
pub(super) const NAMED: &str = "named";

/// The routes of judged rows: the clean ones to their table, the others to the quarantine; those that wait, and the hashes of
/// those that were there when repeats were looked for, are kept for the next night. If the rows are `naming` the customers, whom
/// clean ones name is told too.
pub(super) async fn routes(
    night: &Night<'_>,
    source: &Source,
    judge: &Judge,
    rows: &DataFrame,
    naming: bool,
) -> Result<Vec<Route>, StageError> {
    let entity = judge.entity;
    let clean = night.table(&entity.clean_table())?;
    let names = |which: &dyn Fn(&Step) -> bool| -> String {
        judge.steps.iter().map(|s| format!(", {}", text(if which(s) { &s.name } else { "" }))).collect()
    };
    let warned = waterfall::bits(&judge.steps, |s| s.severity == Severity::Warn);
    let repairs: String = judge.repairs.iter().map(|n| format!(", {}", text(n))).collect();
    let before: String = judge.repairs.iter().map(|name| format!(", {}", quote(&old(name)))).collect();
    let key = match naming || judge.asks {
        true => "account_key",
        false => "coalesce(account_key, customer_key(customer_id))",
    };
    let clean_columns = |c: &Column| match c.name.as_str() {
        "repaired_by" if judge.repairs.is_empty() => "NULL".to_owned(),
        "repaired_by" => format!("rule_names(repaired{repairs})"),
        "repaired_from" if judge.repairs.is_empty() => "NULL".to_owned(),
        "repaired_from" => format!("rule_names(repaired{before})"),
        "warned_by" if warned == 0 => "NULL".to_owned(),
        "warned_by" => format!("rule_names(mask & {warned}{})", names(&|s| s.severity == Severity::Warn)),
        "quantity" if entity == Entity::Transactions => "abs(quantity)".to_owned(),
        "account_key" => key.to_owned(),
        name if rows.schema().has_column_with_unqualified_name(name) => quote(name),
        _ => "NULL".to_owned(),
    };
    let (files, feeds) = file_names(night, source).await?;
    let record = judge.mapping.json();
    let everything = names(&|_| true);
    let merge = waterfall::bits(&judge.steps, |s| s.severity == Severity::Merge);
    let supersede = waterfall::bits(&judge.steps, |s| s.severity == Severity::Supersede);
    let quarantine_columns = |c: &Column| match c.name.as_str() {
        "source" => text(entity.name()),
        "feed" => feeds.clone(),
        "file" => files.clone(),
        "row" => row_number(),
        "disposition" => format!(
            "CASE WHEN {FIRST} & {merge} <> 0 THEN 'merged' WHEN {FIRST} & {supersede} <> 0 THEN 'superseded' \
             ELSE 'quarantined' END"
        ),
        "rule" => format!("array_element(rule_names({FIRST}{everything}), 1)"),
        "rules" => format!("rule_names(mask{everything})"),
        "defect" => "_defect".to_owned(),
        "record" => record.clone(),
        "since" => format!("DATE '{}'", night.as_of),
        _ => entity.amount().unwrap_or("NULL").to_owned(),
    };
    let parse = |sql: &str| night.engine.session().parse_sql_expr(sql, rows.schema());
    let route = |table: &Table, filter: &str, columns: &dyn Fn(&Column) -> String| -> Result<Route, StageError> {
        let columns = table.columns.iter().map(|c| Ok(as_column(parse(&columns(c))?, c)));
        let columns = columns.collect::<Result<Vec<_>, StageError>>()?;
        Ok(Route { filter: Some(parse(filter)?), columns, ..Route::all(&table.name, table) })
    };
    let mut kept = route(&clean, "NOT waits AND leaving = 0", &clean_columns)?;
    kept.buckets = buckets(night, source);
    let quarantine = night.table("quarantine")?;
    let for_good = route(&quarantine, "NOT waits AND leaving <> 0", &quarantine_columns)?;
    let for_now = route(&quarantine, "waits AND NOT later", &quarantine_columns)?;
    let mut all = vec![
        kept,
        Route { folder: entity.name().to_owned(), ..for_good },
        Route { folder: format!("{entity}/waiting"), ..for_now },
    ];
    if keeps_waiting(night.project, entity) {
        for feed in &judge.mapping.feeds {
            let column = feed.record_column();
            let columns = vec![ident("_locator"), ident("_defect"), ident(&column).alias(RECORD)];
            let filter = match &feed.feed {
                Some(_) => parse(&format!("waits AND {} IS NOT NULL", quote(&column)))?,
                None => parse("waits")?,
            };
            let route = Route::other(&waiting(entity, feed.feed.as_deref()), columns, Lifetime::Kept);
            all.push(Route { filter: Some(filter), ..route });
        }
    }
    if reads_all(night.project, entity).is_none()
        && let Some(repeats) = repeats(judge)?
    {
        let columns = vec![ident(&repeats.hash).alias("h"), ident(entity.event_time()).alias("at")];
        // Whatever was still there when repeats were looked for.
        let gone = waterfall::bits(&judge.steps[..=repeats.bit], Step::turns_away);
        let filter = Some(parse(&format!("NOT waits AND mask & {gone} = 0"))?);
        all.push(Route { filter, ..Route::other(&seen(entity), columns, Lifetime::Kept) });
    }
    if naming {
        let columns = vec![ident("customer_id"), parse(key)?.alias("account_key")];
        let filter = Some(parse("NOT waits AND leaving = 0 AND customer_id IS NOT NULL")?);
        all.push(Route { filter, ..Route::other(NAMED, columns, Lifetime::Scratch) });
    }
    Ok(all)
}

/// The step that merges rows which are the same in every column, if there is one.
pub(super) fn repeats(judge: &Judge) -> Result<Option<Compare<'_>>, StageError> {
    let whole = |c: &Compare<'_>| c.rule.severity == Severity::Merge && c.rule.by == ["*"];
    Ok(judge.compares()?.into_iter().find(whole))
}

/// Large tables of what customers did are kept by customer, for whoever aggregates them.
fn buckets(night: &Night<'_>, source: &Source) -> Option<Buckets> {
    // What is added to a table is little, and would be many small files.
    if !source.entity.has_customer() || source.entity == Entity::Customers || source.before.is_some() {
        return None;
    }
    let wanted = source.files().map(|(_, f)| f.bytes).sum::<u64>() / BUCKET_BYTES;
    let (count, together) = how_many(wanted, night.engine.partitions() as u64)?;
    Some(Buckets { column: "account_key".to_owned(), count: u32::try_from(count).ok()?, together })
}

/// A file by its number.
struct KnownFile {
    id: i64,
    url: String,
    feed: Option<String>,
}

/// SQL of the file in which a row stands, and of its feed: one of those that are read, or one in which a row has waited.
async fn file_names(night: &Night<'_>, source: &Source) -> Result<(String, String), StageError> {
    let before = source.before.unwrap_or(0);
    let mut known: Vec<KnownFile> = Vec::new();
    for (number, (feed, file)) in (before..).zip(source.files()) {
        known.push(KnownFile { id: number, url: file.url.clone(), feed: feed.name.clone() });
    }
    for feed in source.feeds.iter().filter(|_| source.before.is_some()) {
        let (Some(previous), Some(waiting)) =
            (night.previous.get("inputs"), night.kept.get(&waiting(source.entity, feed.name.as_deref())))
        else {
            continue;
        };
        let query = format!(
            "SELECT p.file_id, p.file FROM previous AS p JOIN \
             (SELECT DISTINCT _locator >> {ROW_BITS} AS file FROM waiting) AS w ON p.file_id = w.file \
             WHERE p.source = {} AND p.file_id < {before}",
            text(source.entity.name())
        );
        let found = night.over(&query, &[("previous", previous), ("waiting", &waiting.frame)]).await?;
        let found = rows::collect(found).await?;
        let urls = rows::texts(&found, "file")?.into_iter().map(Option::unwrap_or_default);
        let ids = rows::integers(&found, "file_id")?.into_iter().map(Option::unwrap_or_default);
        known.extend(ids.zip(urls).map(|(id, url)| KnownFile { id, url, feed: feed.name.clone() }));
    }
    let nothing = "arrow_cast(NULL, 'Utf8')";
    let case = |value: &dyn Fn(&KnownFile) -> String| match known.as_slice() {
        [] => nothing.to_owned(),
        [only] => value(only),
        all => {
            let cases: String = all.iter().map(|one| format!(" WHEN {} THEN {}", one.id, value(one))).collect();
            format!("CASE _locator >> {ROW_BITS}{cases} END")
        }
    };
    let feeds = match source.feeds.iter().any(|feed| feed.name.is_some()) {
        true => case(&|file| file.feed.as_deref().map_or(nothing.to_owned(), text)),
        false => nothing.to_owned(),
    };
    Ok((case(&|file| text(&file.url)), feeds))
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
