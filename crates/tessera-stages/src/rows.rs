//! Small results as Rust values, and Rust values as small frames.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, Date32Array, Float64Array, Int32Array, ListBuilder, RecordBatch, StringArray,
            StringBuilder, StructArray,
        },
        compute::{cast, concat_batches},
        datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type},
    },
    error::DataFusionError,
    prelude::DataFrame,
};
use tessera_contract::table::{Kind, MONEY};
use tessera_engine::{Engine, write};
use tracing::Instrument;

use crate::{Night, StageError};

/// The rows of a small result in one batch.
pub(crate) async fn collect(frame: DataFrame) -> Result<RecordBatch, StageError> {
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let columns = schema.fields().len();
    let batches = write::run(frame).instrument(tracing::debug_span!("collect", columns)).await?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &batches)?)
}

/// How many rows a frame has.
pub(crate) async fn count(night: &Night<'_>, frame: &DataFrame) -> Result<u64, StageError> {
    let batch = collect(night.over("SELECT count(*) AS n FROM x", &[("x", frame)]).await?).await?;
    Ok(integers(&batch, "n")?.first().copied().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

fn column(batch: &RecordBatch, name: &str, kind: &DataType) -> Result<ArrayRef, StageError> {
    let column = batch
        .column_by_name(name)
        .ok_or_else(|| DataFusionError::Internal(format!("the result has no column {name}")))?;
    Ok(cast(column, kind)?)
}

/// A column of texts.
pub(crate) fn texts(batch: &RecordBatch, name: &str) -> Result<Vec<Option<String>>, StageError> {
    let column = column(batch, name, &DataType::Utf8)?;
    Ok(column.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect())
}

/// A column of whole numbers.
pub(crate) fn integers(batch: &RecordBatch, name: &str) -> Result<Vec<Option<i64>>, StageError> {
    let column = column(batch, name, &DataType::Int64)?;
    Ok(column.as_primitive::<Int64Type>().iter().collect())
}

/// A column of doubles.
pub(crate) fn floats(batch: &RecordBatch, name: &str) -> Result<Vec<Option<f64>>, StageError> {
    let column = column(batch, name, &DataType::Float64)?;
    Ok(column.as_primitive::<Float64Type>().iter().collect())
}

/// A column of money, in units of its last digit.
pub(crate) fn money(batch: &RecordBatch, name: &str) -> Result<Vec<Option<i128>>, StageError> {
    let column = column(batch, name, &Kind::Money.arrow())?;
    Ok(column.as_primitive::<Decimal128Type>().iter().collect())
}

/// A column of structs, as a batch of their fields.
pub(crate) fn fields(batch: &RecordBatch, name: &str) -> Result<RecordBatch, StageError> {
    let column = batch
        .column_by_name(name)
        .and_then(|c| c.as_any().downcast_ref::<StructArray>())
        .ok_or_else(|| DataFusionError::Internal(format!("the result has no struct {name}")))?;
    Ok(RecordBatch::from(column))
}

/// Money as an array.
pub(crate) fn money_array(values: Vec<Option<i128>>) -> Result<ArrayRef, StageError> {
    let array: arrow::array::Decimal128Array = values.into_iter().collect();
    Ok(Arc::new(array.with_precision_and_scale(MONEY.0, MONEY.1)?))
}

/// Columns of a few rows, each by what a row has in it.
pub(crate) struct Columns<'a, R>(pub &'a [R]);

impl<R> Columns<'_, R> {
    pub(crate) fn texts(&self, get: impl Fn(&R) -> Option<&str>) -> ArrayRef {
        Arc::new(self.0.iter().map(get).collect::<StringArray>())
    }

    pub(crate) fn floats(&self, get: impl Fn(&R) -> Option<f64>) -> ArrayRef {
        Arc::new(self.0.iter().map(get).collect::<Float64Array>())
    }

    /// Ids and ordinals.
    pub(crate) fn small(&self, get: impl Fn(&R) -> Option<i32>) -> ArrayRef {
        Arc::new(self.0.iter().map(get).collect::<Int32Array>())
    }

    /// Days since 1970-01-01.
    pub(crate) fn dates(&self, get: impl Fn(&R) -> Option<i32>) -> ArrayRef {
        Arc::new(self.0.iter().map(get).collect::<Date32Array>())
    }

    pub(crate) fn money(&self, get: impl Fn(&R) -> Option<i128>) -> Result<ArrayRef, StageError> {
        money_array(self.0.iter().map(get).collect())
    }

    pub(crate) fn lists(&self, get: impl Fn(&R) -> &[String]) -> ArrayRef {
        let element = Arc::new(Field::new("element", DataType::Utf8, true));
        let mut lists = ListBuilder::new(StringBuilder::new()).with_field(element);
        for row in self.0 {
            get(row).iter().for_each(|text| lists.values().append_value(text));
            lists.append(true);
        }
        Arc::new(lists.finish())
    }
}

/// A frame of a few rows.
pub(crate) fn frame(engine: &Engine, columns: Vec<(&str, ArrayRef)>) -> Result<DataFrame, StageError> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))?;
    Ok(engine.session().read_batch(batch)?)
}

/// Money for people: exact, without trailing zeros beyond the cent.
pub(crate) fn show_money(value: i128) -> String {
    let unit = 10_i128.pow(MONEY.1 as u32);
    let (sign, value) = (if value < 0 { "-" } else { "" }, value.abs());
    let fraction = format!("{:06}", value % unit);
    let fraction = fraction.trim_end_matches('0');
    format!("{sign}{}.{fraction:0<2}", value / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_as_money() {
        assert_eq!(show_money(17_743_429_180_000), "17743429.18");
        assert_eq!(show_money(-1_500_001), "-1.500001");
        assert_eq!(show_money(0), "0.00");
    }
}
