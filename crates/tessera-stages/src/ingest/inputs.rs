//! The manifest: what every file holds, counted apart from the cleaning, so that the ledger proves something.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, Date32Array, Int64Array, StringArray},
        record_batch::RecordBatch,
    },
    prelude::DataFrame,
};
use serde_json::Value as Json;
use tessera_contract::Entity;
use tessera_engine::{
    columns::conform,
    formula::text,
    record,
    source::{ROW_BITS, SourceFile},
};

use super::Mapping;
use crate::{Feed, Night, Source, StageError, rows};

/// Rows and money of every file that the night knows, before any rule: those read tonight, and those that the parent
/// night counted.
pub(super) async fn inputs(
    night: &Night<'_>,
    source: &Source,
    mapping: &Mapping,
    counts: RecordBatch,
) -> Result<DataFrame, StageError> {
    let entity = source.entity;
    let before = source.before.unwrap_or(0);
    let read: Vec<_> = source.files().collect();
    let footers: Vec<_> = source.feeds.iter().flat_map(|feed| &feed.footers).copied().collect();
    let ids: Vec<i64> = (before..).take(read.len()).collect();
    let files = rows::integers(&counts, "file")?;
    let at: Vec<Option<usize>> = ids.iter().map(|id| files.iter().position(|f| *f == Some(*id))).collect();
    let integers = |name: &str| -> Result<ArrayRef, StageError> {
        let values = rows::integers(&counts, name)?;
        Ok(Arc::new(at.iter().map(|i| Some(i.and_then(|i| values[i]).unwrap_or(0))).collect::<Int64Array>()))
    };
    let money = |name: &str| -> Result<ArrayRef, StageError> {
        let values = rows::money(&counts, name)?;
        rows::money_array(at.iter().map(|i| Some(i.and_then(|i| values[i]).unwrap_or(0))).collect())
    };
    let (counted, last) = (rows::integers(&counts, "rows")?, rows::integers(&counts, "last")?);
    for (number, (_, file)) in read.iter().enumerate() {
        let of = |values: &[Option<i64>]| at[number].and_then(|i| values[i]).unwrap_or(0);
        let footer = footers.get(number).copied().flatten();
        if let Some(has) = uncounted(of(&counted), of(&last), footer) {
            let what = format!("{} has {has} rows, of which {} were counted", file.url, of(&counted));
            return Err(StageError::Unbalanced { source_name: entity.name().to_owned(), what });
        }
    }
    let texts = |get: &dyn Fn(&Feed, &SourceFile) -> Option<String>| -> ArrayRef {
        Arc::new(read.iter().map(|(feed, file)| get(feed, file)).collect::<StringArray>())
    };
    let lacks: StringArray = source
        .feeds
        .iter()
        .zip(&mapping.feeds)
        .flat_map(|(feed, mapped)| feed.lacks.iter().map(|lacks| lacks.iter().filter(|c| mapped.used.contains(*c))))
        .map(|lacks| lacks.cloned().collect::<Vec<_>>().join(", "))
        .map(|lacks| (!lacks.is_empty()).then_some(lacks))
        .collect();
    let columns: StringArray = (source.feeds.iter().zip(&mapping.feeds))
        .flat_map(|(feed, mapped)| {
            let owners = record::columns(&mapped.record).unwrap_or_default();
            feed.lacks.iter().map(move |lacks| {
                let names = owners.iter().map(|field| field.name()).filter(|name| !lacks.contains(*name));
                Some(Json::from_iter(names.map(String::as_str)).to_string())
            })
        })
        .collect();
    let tonight: Date32Array = ids.iter().map(|_| Some(night.as_of.days())).collect();
    let frame = rows::frame(
        night.engine,
        vec![
            ("source", texts(&|_, _| Some(entity.name().to_owned()))),
            ("feed", texts(&|feed, _| feed.name.clone())),
            ("file_id", Arc::new(ids.iter().copied().map(Some).collect::<Int64Array>())),
            ("file", texts(&|_, f| Some(f.url.clone()))),
            ("etag", texts(&|_, f| f.etag.clone())),
            ("bytes", Arc::new(read.iter().map(|(_, f)| i64::try_from(f.bytes).ok()).collect::<Int64Array>())),
            ("rows", integers("rows")?),
            ("amount", money("amount")?),
            ("rows_after_as_of", integers("rows_later")?),
            ("amount_after_as_of", money("amount_later")?),
            ("columns", Arc::new(columns)),
            ("lacks", Arc::new(lacks)),
            ("first_seen", Arc::new(tonight)),
        ],
    )?;
    let frame = conform(frame, &night.table("inputs")?)?;
    let (Some(before), Some(previous)) = (source.before, night.previous.get("inputs")) else { return Ok(frame) };
    let counts = night.engine.session().read_batch(counts)?;
    Ok(known(night, entity, previous, Some(before), counts).await?.union(frame)?)
}

/// The rows of a file, if those that were counted are not all: the reader numbers them from one, and a footer says how many it has.
fn uncounted(counted: i64, last: i64, footer: Option<u64>) -> Option<i64> {
    let footer = footer.map_or(last, |rows| i64::try_from(rows).unwrap_or(i64::MAX));
    [last, footer].into_iter().find(|has| *has != counted)
}

/// The files of a source that the parent night counted, those of its inputs (`previous`) below an id. What was after that night
/// may be before this one: what is not stands in `counts` (`file`, `rows_later`, `amount_later`).
pub(super) async fn known(
    night: &Night<'_>,
    entity: Entity,
    previous: &DataFrame,
    below: Option<i64>,
    counts: DataFrame,
) -> Result<DataFrame, StageError> {
    let below = below.map_or(String::new(), |id| format!(" AND p.file_id < {id}"));
    let query = format!(
        "SELECT p.source, p.feed, p.file_id, p.file, p.etag, p.bytes, p.rows, p.amount, coalesce(c.rows_later, 0) AS \
         rows_after_as_of, coalesce(c.amount_later, 0) AS amount_after_as_of, p.columns, p.lacks, p.first_seen \
         FROM previous AS p LEFT JOIN counts AS c ON p.file_id = c.file WHERE p.source = {}{below}",
        text(entity.name())
    );
    let known = rows::collect(night.over(&query, &[("previous", previous), ("counts", &counts)]).await?).await?;
    Ok(conform(night.engine.session().read_batch(known)?, &night.table("inputs")?)?)
}

/// Rows and money of judged rows that are not before the night's instant, by file.
pub(super) async fn later(night: &Night<'_>, entity: Entity, judged: &DataFrame) -> Result<DataFrame, StageError> {
    let query = format!(
        "SELECT _locator >> {ROW_BITS} AS file, count(*) AS rows_later, coalesce(sum({}), 0) AS amount_later \
         FROM rows WHERE later GROUP BY 1",
        entity.amount().unwrap_or("arrow_cast(0, 'Decimal128(38, 6)')")
    );
    night.over(&query, &[("rows", judged)]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_counted_by_its_reader_and_by_its_footer() {
        assert_eq!(uncounted(3, 3, None), None);
        assert_eq!(uncounted(3, 3, Some(3)), None);
        assert_eq!(uncounted(0, 0, Some(0)), None);
        assert_eq!(uncounted(2, 3, None), Some(3));
        assert_eq!(uncounted(3, 3, Some(4)), Some(4), "a row group that nobody read");
        assert_eq!(uncounted(0, 0, Some(4)), Some(4));
        assert_eq!(uncounted(2, 3, Some(2)), Some(3));
    }
}
