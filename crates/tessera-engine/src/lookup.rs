//! Beside each row, the value that a small table has for its key.
//!
//! That is a join of which every row of one side stays and meets at most one of the other. DataFusion's joins copy all columns of all
//! rows into new batches; here the batches stay as they are and get a column. The table is held once in a process, and on a
//! cluster once in a task.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, RecordBatch, UInt32Array, make_comparator},
        compute::{SortOptions, concat_batches, take},
        datatypes::{Field, Schema, SchemaRef},
    },
    catalog::Session,
    common::{
        DFSchema, DFSchemaRef, Result, Statistics, exec_err, internal_err, plan_err, tree_node::TreeNodeRecursion,
    },
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    logical_expr::{
        Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, PlanProperties,
        StatisticsArgs,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
};
use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::fingerprint::row_hashes;

/// Looks a key up in a table of two columns: the key, which is unique in it, and the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LookupNode {
    rows: LogicalPlan,
    table: LogicalPlan,
    key: Expr,
    name: String,
    schema: DFSchemaRef,
}

impl PartialOrd for LookupNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (&self.name, &self.key).partial_cmp(&(&other.name, &other.key))
    }
}

impl LookupNode {
    /// The node that adds the value under a name to the rows.
    ///
    /// # Errors
    /// When the table has not two columns, or the rows have a column of that name.
    pub(crate) fn new(rows: LogicalPlan, table: LogicalPlan, key: Expr, name: String) -> Result<Self> {
        let [_, value] = table.schema().fields().as_ref() else {
            return plan_err!("what is looked up is in a table of two columns");
        };
        let value = Arc::new(value.as_ref().clone().with_name(&name).with_nullable(true));
        let mut fields: Vec<_> = rows.schema().iter().map(|(of, field)| (of.cloned(), Arc::clone(field))).collect();
        fields.push((None, value));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, rows.schema().metadata().clone())?);
        Ok(Self { rows, table, key, name, schema })
    }
}

impl UserDefinedLogicalNodeCore for LookupNode {
    fn name(&self) -> &str {
        "Lookup"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.rows, &self.table]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.key.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Lookup: {} by {}", self.name, self.key)
    }

    fn with_exprs_and_inputs(&self, mut keys: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(table), Some(rows), Some(key), true) = (inputs.pop(), inputs.pop(), keys.pop(), inputs.is_empty())
        else {
            return plan_err!("a lookup has rows, a table and a key");
        };
        Self::new(rows, table, key, self.name.clone())
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.rows.schema();
        let key = self.key.column_refs().into_iter().filter_map(|column| schema.maybe_index_of_column(column));
        let mut rows: Vec<usize> = output.iter().copied().filter(|i| *i < schema.fields().len()).chain(key).collect();
        rows.sort_unstable();
        rows.dedup();
        Some(vec![rows, vec![0, 1]])
    }
}

/// Makes the physical node.
pub(crate) struct LookupPlanner;

#[async_trait]
impl ExtensionPlanner for LookupPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(lookup) = node.as_any().downcast_ref::<LookupNode>() else { return Ok(None) };
        let ([logical, _], [rows, table]) = (logical_inputs, physical_inputs) else {
            return plan_err!("a lookup has rows and a table");
        };
        let key = planner.create_physical_expr(&lookup.key, logical.schema(), session, context)?;
        let spec = LookupSpec { name: lookup.name.clone() };
        Ok(Some(Arc::new(LookupExec::new(Arc::clone(rows), Arc::clone(table), key, spec)?)))
    }
}

/// What a lookup is, its inputs and its key aside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LookupSpec {
    name: String,
}

/// The physical node.
#[derive(Debug)]
pub(crate) struct LookupExec {
    rows: Arc<dyn ExecutionPlan>,
    table: Arc<dyn ExecutionPlan>,
    key: Arc<dyn PhysicalExpr>,
    spec: LookupSpec,
    properties: Arc<PlanProperties>,
    held: Arc<OnceCell<Table>>,
    metrics: ExecutionPlanMetricsSet,
}

impl LookupExec {
    pub(crate) fn new(
        rows: Arc<dyn ExecutionPlan>,
        table: Arc<dyn ExecutionPlan>,
        key: Arc<dyn PhysicalExpr>,
        spec: LookupSpec,
    ) -> Result<Self> {
        let of = table.schema();
        let [_, value] = of.fields().as_ref() else {
            return internal_err!("what is looked up is in a table of two columns");
        };
        let value = Field::new(&spec.name, value.data_type().clone(), true);
        let fields = rows.schema().fields().iter().cloned().chain([Arc::new(value)]).collect::<Vec<_>>();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(Schema::new(fields))),
            rows.properties().partitioning.clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { rows, table, key, spec, properties: Arc::new(properties), held: Arc::default(), metrics })
    }

    /// What it is, and its key.
    pub(crate) fn parts(&self) -> (LookupSpec, Arc<dyn PhysicalExpr>) {
        (self.spec.clone(), Arc::clone(&self.key))
    }
}

impl DisplayAs for LookupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "LookupExec: {} by {}", self.spec.name, self.key)
    }
}

impl ExecutionPlan for LookupExec {
    fn name(&self) -> &str {
        "LookupExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows, &self.table]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(table), Some(rows), true) = (children.pop(), children.pop(), children.is_empty()) else {
            return internal_err!("a lookup has rows and a table");
        };
        Ok(Arc::new(Self::new(rows, table, Arc::clone(&self.key), self.spec.clone())?))
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::UnspecifiedDistribution, Distribution::SinglePartition])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(&self.key)
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let unknown = Statistics::new_unknown(&self.schema());
        Ok(Arc::new(match inputs.first() {
            Some(rows) => Statistics { num_rows: rows.num_rows, ..unknown },
            None => unknown,
        }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.rows.execute(partition, Arc::clone(&context))?;
        let (held, table) = (Arc::clone(&self.held), Arc::clone(&self.table));
        let (key, schema) = (Arc::clone(&self.key), self.schema());
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let looked_up = stream::once(async move {
            held.get_or_try_init(|| Table::load(table, context)).await?;
            let add = move |batch: RecordBatch| {
                let timer = metrics.elapsed_compute().timer();
                let Some(table) = held.get() else { return internal_err!("a lookup lost its table") };
                let keys = key.evaluate(&batch)?.into_array(batch.num_rows())?;
                let mut columns = batch.columns().to_vec();
                columns.push(table.values_of(&keys)?);
                timer.done();
                metrics.record_output(batch.num_rows());
                Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
            };
            Ok::<_, datafusion::common::DataFusionError>(rows.map(move |batch| batch.and_then(&add)))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), looked_up.boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A table in memory.
struct Table {
    keys: ArrayRef,
    values: ArrayRef,
    places: HashTable<(u64, u32)>,
    _memory: MemoryReservation,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.keys.len()).finish_non_exhaustive()
    }
}

fn hashes(keys: &ArrayRef) -> Result<impl Iterator<Item = u64>> {
    Ok(row_hashes(std::slice::from_ref(keys), &["key"])?.into_iter().map(|hash| hash as u64))
}

impl Table {
    async fn load(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Self> {
        let memory = MemoryConsumer::new("Lookup").register(context.memory_pool());
        let schema: SchemaRef = plan.schema();
        let mut rows = plan.execute(0, context)?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            memory.try_grow(batch.get_array_memory_size() + batch.num_rows() * size_of::<(u64, u32)>() * 2)?;
            batches.push(batch);
        }
        let all = concat_batches(&schema, &batches)?;
        let (keys, values) = (Arc::clone(all.column(0)), Arc::clone(all.column(1)));
        if u32::try_from(keys.len()).is_err() {
            return exec_err!("a table of {} rows is too large to be looked up in", keys.len());
        }
        let same = make_comparator(&keys, &keys, SortOptions::default())?;
        let mut places: HashTable<(u64, u32)> = HashTable::with_capacity(keys.len());
        for (row, hash) in hashes(&keys)?.enumerate() {
            if keys.is_null(row) {
                continue;
            }
            if places.find(hash, |(h, at)| *h == hash && same(row, *at as usize).is_eq()).is_some() {
                return internal_err!("a table that is looked up in has a key twice");
            }
            places.insert_unique(hash, (hash, row as u32), |(hash, _)| *hash);
        }
        Ok(Self { keys, values, places, _memory: memory })
    }

    fn values_of(&self, keys: &ArrayRef) -> Result<ArrayRef> {
        let same = make_comparator(keys, &self.keys, SortOptions::default())?;
        let nulls = keys.logical_nulls();
        let rows: UInt32Array = hashes(keys)?
            .enumerate()
            .map(|(row, hash)| {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    return None;
                }
                let found = self.places.find(hash, |(h, at)| *h == hash && same(row, *at as usize).is_eq());
                found.map(|(_, at)| *at)
            })
            .collect();
        Ok(take(&self.values, &rows, None)?)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::{
            array::{AsArray, Int64Array, StringViewArray},
            datatypes::Int64Type,
        },
        prelude::{SessionContext, col},
    };
    use proptest::prelude::*;

    use super::*;

    fn table(keys: &[Option<&str>]) -> Result<Table> {
        let keys: ArrayRef = Arc::new(keys.iter().copied().collect::<StringViewArray>());
        let values: ArrayRef = Arc::new((0..keys.len() as i64).map(Some).collect::<Int64Array>());
        let rows = RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("v", values, true)])?;
        let context = SessionContext::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let plan = context.read_batch(rows)?.create_physical_plan().await?;
            Table::load(plan, context.task_ctx()).await
        })
    }

    proptest! {
        #[test]
        fn as_looking_through_the_table(known in prop::collection::btree_set("[a-d]{0,3}", 0..20), asked in prop::collection::vec(prop::option::of("[a-d]{0,3}"), 0..40)) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let keys: Vec<Option<&str>> = std::iter::once(None).chain(known.iter().copied().map(Some)).collect();
            let asked_of: ArrayRef = Arc::new(asked.iter().map(Option::as_deref).collect::<StringViewArray>());
            let found = table(&keys).and_then(|table| table.values_of(&asked_of)).expect("looks up");
            let expected: Vec<Option<i64>> = asked
                .iter()
                .map(|key| known.iter().position(|k| Some(*k) == key.as_deref()).map(|at| at as i64 + 1))
                .collect();
            prop_assert_eq!(found.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_key_is_there_once() {
        let told = table(&[Some("a"), Some("b"), Some("a")]).expect_err("twice").to_string();
        assert!(told.contains("has a key twice"), "{told}");
    }

    #[test]
    fn only_what_is_asked_for_is_read() {
        let column = |name| col(name);
        let rows = SessionContext::new().read_empty().and_then(|frame| {
            frame.select(vec![
                datafusion::prelude::lit(1_i64).alias("a"),
                datafusion::prelude::lit(2_i64).alias("b"),
                datafusion::prelude::lit(3_i64).alias("c"),
            ])
        });
        let plan = rows.expect("a frame").into_parts().1;
        let table = SessionContext::new().read_empty().and_then(|frame| {
            frame.select(vec![datafusion::prelude::lit(1_i64).alias("k"), datafusion::prelude::lit(true).alias("v")])
        });
        let table = table.expect("a frame").into_parts().1;
        let node = LookupNode::new(plan, table, column("c"), "found".into()).expect("a node");
        let needs = UserDefinedLogicalNodeCore::necessary_children_exprs(&node, &[0, 3]);
        assert_eq!(needs, Some(vec![vec![0, 2], vec![0, 1]]));
        assert_eq!(node.schema.fields().len(), 4);
    }
}
