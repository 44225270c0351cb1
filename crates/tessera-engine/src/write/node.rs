//! The logical node, and how it is planned.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::{
    common::{DFSchema, DFSchemaRef, Result, plan_err},
    logical_expr::{
        Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_plan::ExecutionPlan,
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
    prelude::lit,
};
use url::Url;

use super::{
    Buckets, Route, RouteSpec,
    exec::{WriteExec, WriteExecSpec},
    manifest_schema,
};
use crate::functions;

/// Writes its input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WriteNode {
    input: LogicalPlan,
    store: String,
    routes: Vec<RouteSpec>,
    /// Of each route: the filter, if it has one, the columns, and the number of the bucket, if rows are brought together by it.
    expressions: Vec<Expr>,
    schema: DFSchemaRef,
}

impl PartialOrd for WriteNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match self.routes.partial_cmp(&other.routes) {
            Some(std::cmp::Ordering::Equal) => self.expressions.partial_cmp(&other.expressions),
            other => other,
        }
    }
}

impl WriteNode {
    pub(super) fn new(input: LogicalPlan, store: &Url, given: Vec<Route>) -> Result<Self> {
        let mut routes = Vec::new();
        let mut expressions = Vec::new();
        for Route { name, prefix, filter, columns, fingerprinted, buckets, lifetime, folder: _ } in given {
            let names = columns.iter().map(|c| c.schema_name().to_string()).collect();
            let bucket = match &buckets {
                Some(b) if b.together => Some(bucket_number(b, &columns)?),
                _ => None,
            };
            let filtered = filter.is_some();
            routes.push(RouteSpec { name, prefix, filtered, columns: names, fingerprinted, buckets, lifetime });
            expressions.extend(filter);
            expressions.extend(columns);
            expressions.extend(bucket);
        }
        // Types are coerced here: the analyser's rules know only the expressions of its own nodes.
        let input_schema = Arc::clone(input.schema());
        let context = datafusion::logical_expr::simplify::SimplifyContext::builder()
            .with_schema(Arc::clone(&input_schema))
            .build();
        let simplifier = datafusion::optimizer::simplify_expressions::ExprSimplifier::new(context);
        let expressions =
            expressions.into_iter().map(|e| simplifier.coerce(e, &input_schema)).collect::<Result<Vec<_>>>()?;
        let schema = Arc::new(DFSchema::try_from(manifest_schema().as_ref().clone())?);
        Ok(Self { input, store: store.to_string(), routes, expressions, schema })
    }
}

/// The number of a row's bucket, as an expression over the input.
fn bucket_number(buckets: &Buckets, columns: &[Expr]) -> Result<Expr> {
    let Some(key) = columns.iter().find(|c| c.schema_name().to_string() == buckets.column) else {
        return plan_err!("a table in buckets by {} has no such column", buckets.column);
    };
    Ok(functions::bucket::udf().call(vec![key.clone().unalias(), lit(i64::from(buckets.count))]))
}

impl UserDefinedLogicalNodeCore for WriteNode {
    fn name(&self) -> &str {
        "Write"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.expressions.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Write: {}", names(&self.routes))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(input), true) = (inputs.pop(), inputs.is_empty()) else { return plan_err!("a write has one input") };
        Ok(Self { input, expressions: exprs, ..self.clone() })
    }

    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let used: std::collections::BTreeSet<usize> = self
            .expressions
            .iter()
            .flat_map(Expr::column_refs)
            .filter_map(|column| schema.maybe_index_of_column(column))
            .collect();
        Some(vec![used.into_iter().collect()])
    }
}

fn names(routes: &[RouteSpec]) -> String {
    let show = |r: &RouteSpec| format!("{}{}", r.name, if r.filtered { " (filtered)" } else { "" });
    routes.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// Makes the physical node of a write.
pub(crate) struct WritePlanner;

#[async_trait]
impl ExtensionPlanner for WritePlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(write) = node.as_any().downcast_ref::<WriteNode>() else { return Ok(None) };
        let ([logical], [input]) = (logical_inputs, physical_inputs) else { return plan_err!("a write has one input") };
        let schema = logical.schema();
        let expressions = write
            .expressions
            .iter()
            .map(|e| planner.create_physical_expr(e, schema, session, context))
            .collect::<Result<Vec<_>>>()?;
        let spec = WriteExecSpec { store: write.store.clone(), routes: write.routes.clone() };
        Ok(Some(Arc::new(WriteExec::from_parts(Arc::clone(input), spec, expressions)?)))
    }
}
