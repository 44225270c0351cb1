//! `row_hash(value…)`: 64 bits of the values, the same for equal values whatever their physical type. One struct counts as its
//! fields, a packed record as its bytes.
//!
//! Used to sample customers by their key and to find rows that may repeat one another; never the last word on equality.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Int64Array, StructArray},
        datatypes::DataType,
    },
    common::Result,
    logical_expr::ScalarUDF,
};

use super::{arity, stateless};
use crate::fingerprint::row_hashes;

pub(super) fn udf() -> ScalarUDF {
    stateless("row_hash", DataType::Int64, row_hash)
}

fn row_hash(args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("row_hash", args, 1)?;
    let args = match args {
        [record] => record.as_struct_opt().map_or(args, StructArray::columns),
        _ => args,
    };
    let names: Vec<_> = (0..args.len()).map(|i| i.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let hashes = row_hashes(args, &names)?;
    Ok(Arc::new(hashes.into_iter().map(|h| Some(h as u64 as i64)).collect::<Int64Array>()))
}
