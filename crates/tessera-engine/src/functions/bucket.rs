//! `bucket(value, count)`: the number of the bucket, from 0, in which a table of so many keeps the rows of a value (see
//! [`crate::buckets::Buckets`]). No value is a value like any other.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{AsArray, Int64Array},
        datatypes::{DataType, Int64Type},
    },
    common::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};

use super::{cast, wrong};
use crate::buckets::buckets_of;

pub(crate) fn udf() -> ScalarUDF {
    ScalarUDF::from(Bucket { signature: Signature::any(2, Volatility::Immutable) })
}

/// A type of its own, so that two of it are equal: a plan is asked whether its rows are brought together already.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bucket {
    signature: Signature,
}

impl ScalarUDFImpl for Bucket {
    fn name(&self) -> &str {
        "bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        let count = cast(&args.args[1].to_array(1)?, &DataType::Int64)?;
        let count = count.as_primitive::<Int64Type>().iter().next().flatten().and_then(|n| usize::try_from(n).ok());
        let Some(count) = count.filter(|n| *n > 0) else {
            return Err(wrong("bucket takes a count of 1 and more".into()));
        };
        let buckets = buckets_of(&values, count)?;
        Ok(ColumnarValue::Array(Arc::new(buckets.into_iter().map(|b| Some(b as i64)).collect::<Int64Array>())))
    }
}
