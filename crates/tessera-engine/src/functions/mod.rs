//! Our SQL functions: a file each, and one line in the lists below.

mod assign;
mod bags;
pub(crate) mod bucket;
mod contact;
pub(crate) mod customer_key;
mod day_stats;
mod days_between;
mod distinct_count;
mod failed;
mod grouped;
mod is_weekend;
mod json_text;
mod line_amount;
mod lloyd_pass;
mod loses_digits;
mod match_weight;
mod moments;
mod names;
mod number_text;
mod order_stats;
mod record_text;
mod repeated;
mod row_hash;
mod row_json;
mod rule_names;
mod share_stats;
mod similarity;
mod tally;
mod try_instant;

use std::sync::Arc;

use datafusion::{
    arrow::{array::ArrayRef, datatypes::DataType},
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{AggregateUDF, ColumnarValue, ScalarUDF},
};

use self::{bags::OfBags, grouped::OfStates};
use crate::secret::Secret;

pub use assign::centroids_literal;
pub use contact::is_country;
pub use lloyd_pass::pass_from;

/// The functions of a row. The secret is part of the deployment, not of a query: it never stands in a plan.
#[must_use]
pub fn scalars(secret: Option<&Secret>) -> Vec<ScalarUDF> {
    let mut all = vec![
        assign::udf(),
        bucket::udf(),
        customer_key::udf(secret, secret.map(Secret::identity).unwrap_or_default()),
        contact::email_udf(),
        contact::phone_udf(),
        days_between::udf(),
        failed::udf(),
        is_weekend::udf(),
        json_text::udf(),
        json_text::list_udf(),
        line_amount::udf(line_amount::Part::Gross),
        line_amount::udf(line_amount::Part::Net),
        loses_digits::udf(),
        match_weight::level_udf(),
        match_weight::udf(),
        number_text::udf(),
        record_text::udf(),
        row_hash::udf(),
        row_json::udf(),
        rule_names::udf(),
        similarity::edits_within_udf(),
        similarity::jaro_winkler_udf(),
        try_instant::udf(try_instant::Target::Instant),
        try_instant::udf(try_instant::Target::Date),
    ];
    all.extend(names::udfs());
    all
}

/// The functions of many rows; none depends on their order.
#[must_use]
pub fn aggregates() -> Vec<AggregateUDF> {
    let ours = grouped::forms::<OfBags<distinct_count::DistinctCount>>()
        .chain(grouped::forms::<OfStates<moments::Moments>>())
        .chain(grouped::forms::<OfBags<order_stats::OrderStats>>())
        .chain(grouped::forms::<OfBags<day_stats::DayStats>>())
        .chain(grouped::forms::<OfBags<repeated::Repeated>>())
        .chain(grouped::forms::<OfBags<share_stats::ShareStats>>())
        .chain(grouped::forms::<OfStates<tally::Tally>>());
    lloyd_pass::udafs().into_iter().chain(ours).collect()
}

/// A scalar function without state from a name, a result type and what it does to whole columns.
fn stateless(
    name: &'static str,
    returns: DataType,
    eval: impl Fn(&[ArrayRef]) -> Result<ArrayRef> + Send + Sync + 'static,
) -> ScalarUDF {
    with_words(name, usize::MAX, returns, eval)
}

/// The same of a function whose arguments from the `first` on are words: literals, columns of one row instead of the same in every row.
fn with_words(
    name: &'static str,
    first: usize,
    returns: DataType,
    eval: impl Fn(&[ArrayRef]) -> Result<ArrayRef> + Send + Sync + 'static,
) -> ScalarUDF {
    use datafusion::logical_expr::{Signature, Volatility, expr_fn::SimpleScalarUDF};
    ScalarUDF::from(SimpleScalarUDF::new_with_signature(
        name,
        Signature::variadic_any(Volatility::Immutable),
        returns,
        Arc::new(move |args: &[ColumnarValue]| {
            let (columns, words) = args.split_at(first.min(args.len()));
            let scalar = columns.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
            let mut columns = ColumnarValue::values_to_arrays(columns)?;
            for word in words {
                columns.push(word.to_array(1)?);
            }
            let result = eval(&columns)?;
            if scalar {
                return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
            }
            Ok(ColumnarValue::Array(result))
        }),
    ))
}

/// The column in the type that the function works on.
fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    Ok(arrow::compute::cast(array, to)?)
}

/// The single text of an argument that has to be a literal.
fn literal_text(array: &ArrayRef, what: &str) -> Result<String> {
    let word = if array.len() == 1 { Some(ScalarValue::try_from_array(array, 0)?) } else { None };
    match word.as_ref().and_then(|word| word.try_as_str().flatten()) {
        Some(text) => Ok(text.to_owned()),
        None => Err(wrong(format!("{what} must be a text literal"))),
    }
}

fn arity(name: &str, args: &[ArrayRef], least: usize) -> Result<()> {
    if args.len() < least {
        return Err(wrong(format!("{name} takes at least {least} arguments, not {}", args.len())));
    }
    Ok(())
}

fn wrong(problem: String) -> DataFusionError {
    DataFusionError::Plan(problem)
}
