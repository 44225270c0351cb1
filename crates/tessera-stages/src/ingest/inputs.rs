//! The manifest: what every file holds, counted apart from the cleaning, so that the ledger proves something.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, Date32Array, Int64Array, StringArray},
        record_batch::RecordBatch,
    },
    prelude::DataFrame,
};
use tessera_engine::{columns::conform, formula::text, source::SourceFile};

use crate::{Night, Source, StageError, rows};

/// Rows and money of every file that the night knows, before any rule: those read tonight, and those that the parent
/// night counted.
pub(super) async fn inputs(night: &Night<'_>, source: &Source, counts: RecordBatch) -> Result<DataFrame, StageError> {
    let entity = source.entity;
    let before = source.before.unwrap_or(0);
    let ids: Vec<i64> = (before..).take(source.files.len()).collect();
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
    // The reader numbers a file's rows from one.
    let (counted, last) = (rows::integers(&counts, "rows")?, rows::integers(&counts, "last")?);
    if let Some(i) = (0..counts.num_rows()).find(|i| files[*i] >= Some(before) && counted[*i] != last[*i]) {
        let number = usize::try_from(files[i].unwrap_or(0) - before).ok();
        return Err(StageError::Unbalanced {
            source_name: entity.name().to_owned(),
            what: format!(
                "{} has {} rows, of which {} were counted",
                number.and_then(|n| source.files.get(n)).map_or("a file", |f| &f.url),
                last[i].unwrap_or(0),
                counted[i].unwrap_or(0)
            ),
        });
    }
    let texts = |get: &dyn Fn(&SourceFile) -> Option<String>| -> ArrayRef {
        Arc::new(source.files.iter().map(get).collect::<StringArray>())
    };
    let tonight: Date32Array = ids.iter().map(|_| Some(night.as_of.days())).collect();
    let frame = rows::frame(
        night.engine,
        vec![
            ("source", texts(&|_| Some(entity.name().to_owned()))),
            ("file_id", Arc::new(ids.iter().copied().map(Some).collect::<Int64Array>())),
            ("file", texts(&|f| Some(f.url.clone()))),
            ("etag", texts(&|f| f.etag.clone())),
            ("bytes", Arc::new(source.files.iter().map(|f| i64::try_from(f.bytes).ok()).collect::<Int64Array>())),
            ("rows", integers("rows")?),
            ("amount", money("amount")?),
            ("rows_after_as_of", integers("rows_later")?),
            ("amount_after_as_of", money("amount_later")?),
            ("first_seen", Arc::new(tonight)),
        ],
    )?;
    let table = night.table("inputs")?;
    let frame = conform(frame, &table)?;
    let (Some(before), Some(previous)) = (source.before, night.previous.get("inputs")) else { return Ok(frame) };
    // What was after that night may be before this one.
    let query = format!(
        "SELECT p.source, p.file_id, p.file, p.etag, p.bytes, p.rows, p.amount, coalesce(c.rows_later, 0) AS \
         rows_after_as_of, coalesce(c.amount_later, 0) AS amount_after_as_of, p.first_seen \
         FROM previous AS p LEFT JOIN counts AS c ON p.file_id = c.file \
         WHERE p.source = {} AND p.file_id < {before}",
        text(entity.name())
    );
    let counts = night.engine.session().read_batch(counts)?;
    let known = night.over(&query, &[("previous", previous), ("counts", &counts)]).await?;
    let known = rows::collect(known).await?;
    let known = conform(night.engine.session().read_batch(known)?, &table)?;
    Ok(known.union(frame)?)
}
