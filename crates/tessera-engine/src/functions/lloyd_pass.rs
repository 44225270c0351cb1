//! `lloyd_pass(centroids, key, x1, …, xd)`: one pass of Lloyd's algorithm over all rows, exact at any partitioning.
//! `labelled_pass(centroids, label, x1, …, xd)`: the same of rows that have their clusters, whichever centroid is nearest.
//!
//! The centroids are a literal (see [`super::centroids_literal`]), so that the function carries no state to a cluster.
//! The result is the written [`Pass`]; read it with [`pass_from`].

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray},
        datatypes::{DataType, Field, FieldRef, Float64Type, Int32Type, Int64Type},
    },
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::AggregateOrderSensitivity,
    },
    physical_expr::expressions::Literal,
};
use tessera_algo::lloyd::{Centroids, Pass};

use super::{assign::centroids_from, wrong};

pub(super) fn udafs() -> [AggregateUDF; 2] {
    [Of::Key, Of::Label]
        .map(|of| AggregateUDF::from(LloydPass { of, signature: Signature::variadic_any(Volatility::Immutable) }))
}

/// What the second argument says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    /// A number that decides ties: the row is of the nearest centroid.
    Key,
    /// The centroid that it is of.
    Label,
}

/// Reads the result of the function.
///
/// # Errors
/// When the value is not one that it wrote.
pub fn pass_from(value: &ScalarValue) -> Result<Pass> {
    match value {
        ScalarValue::Binary(Some(bytes)) => read(bytes),
        other => Err(wrong(format!("{other:?} is not the result of lloyd_pass"))),
    }
}

fn read(bytes: &[u8]) -> Result<Pass> {
    Pass::from_bytes(bytes).map_err(|e| DataFusionError::External(Box::new(e)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LloydPass {
    of: Of,
    signature: Signature,
}

impl AggregateUDFImpl for LloydPass {
    fn name(&self) -> &str {
        match self.of {
            Of::Key => "lloyd_pass",
            Of::Label => "labelled_pass",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[pass]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let literal = args.exprs.first().and_then(|e| e.downcast_ref::<Literal>());
        let Some(literal) = literal else { return Err(wrong("the centroids must be a literal".into())) };
        let centroids = centroids_from(literal.value())?;
        Ok(Box::new(Passing { of: self.of, pass: Pass::new(&centroids), centroids }))
    }
}

struct Passing {
    of: Of,
    centroids: Centroids,
    pass: Pass,
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passing")
    }
}

impl Accumulator for Passing {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns = features(&values[2..])?;
        let passed = match self.of {
            Of::Key => {
                let keys: Vec<u64> =
                    values[1].as_primitive::<Int64Type>().values().iter().map(|key| *key as u64).collect();
                self.pass.update(&self.centroids, &columns, &keys)
            }
            Of::Label => {
                let labels = values[1].as_primitive::<Int32Type>();
                let labels: Vec<u32> = labels.iter().map(|l| l.map_or(u32::MAX, i32::cast_unsigned)).collect();
                self.pass.update_labelled(&self.centroids, &columns, &labels)
            }
        };
        passed.map_err(|e| DataFusionError::External(Box::new(e)))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in states[0].as_binary::<i32>().iter().flatten() {
            self.pass.merge(&read(bytes)?).map_err(|e| DataFusionError::External(Box::new(e)))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.pass.to_bytes())))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.pass.to_bytes().len()
    }
}

/// The features of a batch as slices. Nulls have no place on a scale: they are imputed before.
pub(super) fn features(columns: &[ArrayRef]) -> Result<Vec<&[f64]>> {
    columns
        .iter()
        .map(|c| match c.as_primitive_opt::<Float64Type>() {
            Some(values) if c.null_count() == 0 => Ok(values.values().as_ref()),
            _ => Err(wrong("features must be doubles without nulls".into())),
        })
        .collect()
}
