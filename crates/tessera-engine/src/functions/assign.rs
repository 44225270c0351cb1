//! `assign(centroids, x1, …, xd)`: the nearest centroid of a row, ties to the lower id.
//!
//! The result is a struct of `segment_id`, `distance` (Euclidean), `margin` ((d2 − d1) / d2), and of the second nearest `second_id` and
//! `second_distance`.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, Int32Array, StructArray},
        datatypes::{DataType, Field, Fields},
    },
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
    prelude::lit,
};
use tessera_algo::{lloyd::Centroids, nearest::assign_block};

use super::{lloyd_pass::features, wrong};

pub(super) fn udf() -> ScalarUDF {
    ScalarUDF::from(Assign { signature: Signature::variadic_any(Volatility::Immutable) })
}

/// The centroids as an argument of `assign` and `lloyd_pass`: k and d, then the coordinates, little-endian.
#[must_use]
pub fn centroids_literal(centroids: &Centroids) -> Expr {
    let mut bytes = Vec::with_capacity(8 + 8 * centroids.k() * centroids.dims());
    for n in [centroids.k(), centroids.dims()] {
        bytes.extend_from_slice(&u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
    }
    for cluster in 0..centroids.k() {
        for x in centroids.row(cluster) {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
    }
    lit(ScalarValue::Binary(Some(bytes)))
}

pub(super) fn centroids_from(value: &ScalarValue) -> Result<Centroids> {
    let malformed = || wrong("the centroids are not written as centroids".into());
    let ScalarValue::Binary(Some(bytes)) = value else { return Err(malformed()) };
    let (head, rest) = bytes.split_at_checked(8).ok_or_else(malformed)?;
    let number = |at: usize| head[at..at + 4].iter().rev().fold(0_usize, |n, b| n << 8 | usize::from(*b));
    let (k, dims) = (number(0), number(4));
    let coordinates: Vec<f64> = rest
        .chunks_exact(8)
        .map(|eight| f64::from_bits(eight.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b))))
        .collect();
    if coordinates.len() != k * dims || rest.len() != 8 * k * dims {
        return Err(malformed());
    }
    Centroids::new(k, dims, coordinates).map_err(|e| DataFusionError::External(Box::new(e)))
}

fn fields() -> Fields {
    Fields::from(vec![
        Field::new("segment_id", DataType::Int32, false),
        Field::new("distance", DataType::Float64, false),
        Field::new("margin", DataType::Float64, false),
        Field::new("second_id", DataType::Int32, false),
        Field::new("second_distance", DataType::Float64, false),
    ])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Assign {
    signature: Signature,
}

impl ScalarUDFImpl for Assign {
    fn name(&self) -> &str {
        "assign"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(ColumnarValue::Scalar(centroids)) = args.args.first() else {
            return Err(wrong("the centroids must be a literal".into()));
        };
        let centroids = centroids_from(centroids)?;
        let columns = args.args[1..].iter().map(|a| a.to_array(args.number_rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let assigned =
            assign_block(&features(&columns)?, &centroids).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let ids = |ids: &[u32]| -> ArrayRef { Arc::new(ids.iter().map(|id| Some(*id as i32)).collect::<Int32Array>()) };
        Ok(ColumnarValue::Array(Arc::new(StructArray::new(
            fields(),
            vec![
                ids(&assigned.ids),
                Arc::new(Float64Array::from(assigned.distances)),
                Arc::new(Float64Array::from(assigned.margins)),
                ids(&assigned.seconds),
                Arc::new(Float64Array::from(assigned.second_distances)),
            ],
            None,
        ))))
    }
}
