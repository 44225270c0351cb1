//! One aggregate call: what it asks of the past, and its states.

use std::sync::Arc;

use super::Reach;
use datafusion::{
    arrow::datatypes::{DataType, TimeUnit},
    common::{DFSchema, Result, plan_datafusion_err},
    logical_expr::{
        AggregateUDF, BinaryExpr, ExprSchemable, Operator, cast, expr::AggregateFunction, ident, lit,
        simplify::SimplifyContext, utils,
    },
    optimizer::simplify_expressions::ExprSimplifier,
    prelude::{Expr, SessionContext},
    scalar::ScalarValue,
};

/// A column of a call's state.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub name: String,
    pub make: Expr,
    pub merge: Expr,
}

/// An aggregate call of the catalogue.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The call as it was written.
    pub whole: Expr,
    /// Its name as a column: follows from its text, and is the same on every night.
    pub name: String,
    pub states: Vec<State>,
    /// The call's value over its merged states.
    pub result: Expr,
    pub reach: Reach,
    /// Of a window: whether nothing but its filter depends on the night.
    pub follows: bool,
    /// Of such a window: from when on rows can have moved since the night before, and which have.
    pub moved: Option<(i64, Expr)>,
}

/// The filters of two calls that differ in nothing else.
pub(super) fn filters<'a>(call: &'a Expr, other: &'a Expr) -> Option<(&'a Expr, &'a Expr)> {
    let (Expr::AggregateFunction(one), Expr::AggregateFunction(two)) = (call, other) else { return None };
    let mut like = one.clone();
    like.params.filter.clone_from(&two.params.filter);
    (like == *two).then_some((one.params.filter.as_deref()?, two.params.filter.as_deref()?))
}

/// From when on rows can have moved into the window of a call or out of it since the night before, on which it read otherwise, and
/// which have.
pub(super) fn moved_since(session: &SessionContext, event: &str, call: &Expr, before: &Expr) -> Option<(i64, Expr)> {
    let (now, then) = filters(call, before)?;
    let since = from(session, event, now)?.min(from(session, event, then)?);
    Some((since, now.clone().is_true().not_eq(then.clone().is_true())))
}

/// Splits a call. `same`: it reads the same on every night.
pub(super) fn understand(
    session: &SessionContext,
    schema: &DFSchema,
    event: &str,
    call: &Expr,
    name: String,
    same: bool,
) -> Result<Call> {
    let whole = call.clone();
    let all = |why: String| Call {
        whole: whole.clone(),
        name: name.clone(),
        states: Vec::new(),
        result: ident(&name),
        reach: Reach::Everything(why),
        follows: false,
        moved: None,
    };
    let Expr::AggregateFunction(aggregate) = call else {
        return Ok(all(format!("`{call}` is no aggregate")));
    };
    let reach = match (same, aggregate.params.filter.as_deref()) {
        (true, _) => Reach::Lifetime,
        (false, Some(filter)) => match from(session, event, filter) {
            Some(instant) => Reach::Since(instant),
            None => return Ok(all(format!("it depends on the night, and not by {event} from some instant on"))),
        },
        (false, None) => return Ok(all(format!("it depends on the night, and not by a filter of {event}"))),
    };
    match parts(session, schema, &name, aggregate, call.get_type(schema)?)? {
        Ok((states, result)) => Ok(Call { whole, name, states, result, reach, follows: false, moved: None }),
        Err(why) => Ok(all(why)),
    }
}

type Parts = (Vec<State>, Expr);

/// The states of an aggregate and its value over their merged columns; otherwise why there are none.
fn parts(
    session: &SessionContext,
    schema: &DFSchema,
    name: &str,
    aggregate: &AggregateFunction,
    kind: DataType,
) -> Result<std::result::Result<Parts, String>> {
    let params = &aggregate.params;
    let function = aggregate.func.name();
    let state = |number: usize, make: Expr, merge: &str| -> Result<State> {
        let column = format!("{name}_{number}");
        let merge = call_of(session, merge, vec![ident(&column)], None)?;
        Ok(State { name: column, make, merge })
    };
    let made = |function: &str| call_of(session, function, params.args.clone(), params.filter.clone());
    let column = |number: usize| ident(format!("{name}_{number}"));
    if !params.order_by.is_empty() || params.null_treatment.is_some() {
        return Ok(Err(format!("`{function}` in an order of rows has no state that could be kept")));
    }
    let floating = || -> Result<bool> {
        let kinds = params.args.iter().map(|a| a.get_type(schema)).collect::<Result<Vec<_>>>()?;
        Ok(kinds.iter().any(DataType::is_floating))
    };
    let ours = session.state().aggregate_functions().contains_key(&format!("{function}_merge"));
    Ok(Ok(match function {
        "count" if params.distinct && params.args.len() == 1 => {
            (vec![state(0, made("distinct_count_state")?, "distinct_count_merge")?], cast(column(0), kind))
        }
        _ if params.distinct => return Ok(Err(format!("`{function}(DISTINCT …)` has no state that could be kept"))),
        "count" => {
            let zero = lit(0_i64);
            let sum = datafusion::functions::expr_fn::coalesce(vec![cast(column(0), DataType::Int64), zero]);
            (vec![state(0, made("count")?, "sum")?], sum)
        }
        "sum" | "avg" if floating()? => {
            return Ok(Err(format!("`{function}` of floating-point numbers depends on the order of rows")));
        }
        "sum" => (vec![state(0, made("sum")?, "sum")?], cast(column(0), kind)),
        "avg" => {
            let count = cast(column(1), DataType::Int64);
            let by = |n: Expr| datafusion::functions::expr_fn::nullif(n, lit(0_i64));
            let mean = match kind {
                DataType::Float64 => cast(column(0), DataType::Float64) / cast(by(count), DataType::Float64),
                _ => cast(column(0), DataType::Decimal128(38, 10)) / cast(by(count), DataType::Decimal128(19, 0)),
            };
            (vec![state(0, made("sum")?, "sum")?, state(1, made("count")?, "sum")?], cast(mean, kind))
        }
        "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor" => {
            (vec![state(0, made(function)?, function)?], cast(column(0), kind))
        }
        _ if ours => (vec![state(0, made(&format!("{function}_state"))?, &format!("{function}_merge"))?], column(0)),
        _ => return Ok(Err(format!("`{function}` has no state that could be kept"))),
    }))
}

/// A merge of states for a result, as one for a state.
pub(super) fn folding(session: &SessionContext, merge: &Expr) -> Result<Expr> {
    match merge {
        Expr::AggregateFunction(a) => match a.func.name().strip_suffix("_merge") {
            Some(ours) => call_of(session, &format!("{ours}_fold"), a.params.args.clone(), None),
            None => Ok(merge.clone()),
        },
        other => Ok(other.clone()),
    }
}

fn call_of(session: &SessionContext, name: &str, args: Vec<Expr>, filter: Option<Box<Expr>>) -> Result<Expr> {
    let state = session.state();
    let function: &Arc<AggregateUDF> = state
        .aggregate_functions()
        .get(name)
        .ok_or_else(|| plan_datafusion_err!("there is no aggregate function {name}"))?;
    let call = AggregateFunction::new_udf(Arc::clone(function), args, false, filter, Vec::new(), None);
    Ok(Expr::AggregateFunction(call))
}

/// The instant from which on a filter keeps rows: the latest that it has as a lower bound of the event time.
fn from(session: &SessionContext, event: &str, filter: &Expr) -> Option<i64> {
    let is_event = |e: &Expr| matches!(e, Expr::Column(c) if c.name == event);
    let bounds = utils::split_conjunction(filter).into_iter().filter_map(|part| {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { return None };
        let bound = match op {
            Operator::GtEq | Operator::Gt if is_event(left) => right,
            Operator::LtEq | Operator::Lt if is_event(right) => left,
            _ => return None,
        };
        instant(session, bound)
    });
    bounds.max()
}

/// The value of an expression without columns as an instant.
fn instant(session: &SessionContext, expression: &Expr) -> Option<i64> {
    if !expression.column_refs().is_empty() {
        return None;
    }
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let nothing = Arc::new(DFSchema::empty());
    let options = Arc::clone(session.state().config_options());
    let context = SimplifyContext::builder().with_schema(Arc::clone(&nothing)).with_config_options(options).build();
    let simplifier = ExprSimplifier::new(context);
    let typed = simplifier.coerce(cast(expression.clone(), micros), &nothing).ok()?;
    match simplifier.simplify(typed).ok()? {
        Expr::Literal(ScalarValue::TimestampMicrosecond(instant, _), _) => instant,
        _ => None,
    }
}
