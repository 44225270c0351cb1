//! `days_between(earlier, later)`: fractional days of 86 400 s between two instants or dates.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Float64Array},
        compute::binary,
        datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
    },
    common::Result,
    logical_expr::ScalarUDF,
};

use super::{arity, cast, stateless};

const DAY: f64 = 86_400e6;

pub(super) fn udf() -> ScalarUDF {
    stateless("days_between", DataType::Float64, days_between)
}

fn days_between(args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("days_between", args, 2)?;
    let micros = |array| cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    let (from, to) = (micros(&args[0])?, micros(&args[1])?);
    let days: Float64Array = binary(
        from.as_primitive::<TimestampMicrosecondType>(),
        to.as_primitive::<TimestampMicrosecondType>(),
        |from, to| (to - from) as f64 / DAY,
    )?;
    Ok(Arc::new(days))
}
