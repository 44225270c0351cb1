//! Beside each row, the value that a small table has for its key.
//!
//! That is a join of which every row of one side stays and meets at most one of the other. DataFusion's joins copy all columns of all
//! rows into new batches; here the batches stay as they are and get a column. The table is held once in a process, and on a
//! cluster once in a task.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, make_comparator},
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
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::fingerprint::value_hashes;

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
///
/// Keys are found by open addressing (Knuth, The Art of Computer Programming, vol. 3, 6.4, algorithm L): a slot is the upper half of a key's
/// hash and, from one, the row where it stands; 0 where there is none. Of a large table no slot is in the processor's caches, so that
/// a look is as good as the loads that it waits for: a slot is small, and those of a batch are loaded at once.
struct Table {
    keys: ArrayRef,
    values: ArrayRef,
    slots: Vec<u64>,
    _memory: MemoryReservation,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Whether the key in a row of one column is that in a row of the other, neither of them null.
fn comparator(left: &ArrayRef, right: &ArrayRef) -> Result<impl Fn(usize, usize) -> bool + use<>> {
    let compare = make_comparator(left, right, SortOptions::default())?;
    Ok(move |a, b| compare(a, b).is_eq())
}

/// The upper half of a hash, as it stands in a slot.
fn tag(hash: u64) -> u64 {
    hash & !u64::from(u32::MAX)
}

impl Table {
    async fn load(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Self> {
        let memory = MemoryConsumer::new("Lookup").register(context.memory_pool());
        let schema: SchemaRef = plan.schema();
        let mut rows = plan.execute(0, context)?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            memory.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
        let all = concat_batches(&schema, &batches)?;
        let (keys, values) = (Arc::clone(all.column(0)), Arc::clone(all.column(1)));
        if keys.len() >= u32::MAX as usize {
            return exec_err!("a table of {} rows is too large to be looked up in", keys.len());
        }
        let slots = (2 * keys.len() + 2).next_power_of_two();
        memory.try_grow(slots * size_of::<u64>())?;
        let mut table = Self { keys, values, slots: vec![0; slots], _memory: memory };
        let same = comparator(&table.keys, &table.keys)?;
        for (row, hash) in value_hashes(&table.keys)?.into_iter().enumerate() {
            if table.keys.is_null(row) {
                continue;
            }
            let mut at = table.own(hash);
            while table.slots[at] != 0 {
                if tag(table.slots[at]) == tag(hash) && same(row, place(table.slots[at])) {
                    return internal_err!("a table that is looked up in has a key twice");
                }
                at = table.after(at);
            }
            table.slots[at] = tag(hash) | (row as u64 + 1);
        }
        Ok(table)
    }

    /// The slot in which a key of this hash would like to stand.
    fn own(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn values_of(&self, keys: &ArrayRef) -> Result<ArrayRef> {
        let rows = match (keys.as_string_view_opt(), self.keys.as_string_view_opt()) {
            (Some(asked), Some(known)) => self.rows_of(keys, |a, b| {
                let (left, right) = (asked.views()[a], known.views()[b]);
                // A view begins with the length and four bytes; of up to twelve bytes it holds all.
                match left as u32 <= 12 {
                    true => left == right,
                    false => left as u64 == right as u64 && asked.value(a) == known.value(b),
                }
            })?,
            _ => self.rows_of(keys, comparator(keys, &self.keys)?)?,
        };
        Ok(take(&self.values, &rows, None)?)
    }

    /// The row of each key.
    fn rows_of(&self, keys: &ArrayRef, same: impl Fn(usize, usize) -> bool) -> Result<UInt32Array> {
        let nulls = keys.logical_nulls();
        let hashes = value_hashes(keys)?;
        let first: Vec<u64> = hashes.iter().map(|hash| self.slots[self.own(*hash)]).collect();
        let found = hashes.into_iter().zip(first).enumerate().map(|(row, (hash, mut slot))| {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                return None;
            }
            let mut at = self.own(hash);
            while slot != 0 {
                if tag(slot) == tag(hash) && same(row, place(slot)) {
                    return Some(place(slot) as u32);
                }
                at = self.after(at);
                slot = self.slots[at];
            }
            None
        });
        Ok(found.collect())
    }
}

/// The row of a slot that is taken.
fn place(slot: u64) -> usize {
    slot as u32 as usize - 1
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::{
            array::{Int64Array, StringArray, StringViewArray},
            datatypes::Int64Type,
        },
        prelude::{SessionContext, col},
    };
    use proptest::prelude::*;

    use super::*;

    fn table(keys: ArrayRef) -> Result<Table> {
        let values: ArrayRef = Arc::new((0..keys.len() as i64).map(Some).collect::<Int64Array>());
        let rows = RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("v", values, true)])?;
        let context = SessionContext::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let plan = context.read_batch(rows)?.create_physical_plan().await?;
            Table::load(plan, context.task_ctx()).await
        })
    }

    fn views(keys: &[Option<&str>]) -> ArrayRef {
        Arc::new(keys.iter().copied().collect::<StringViewArray>())
    }

    proptest! {
        /// Keys of some letters, and longer ones that begin alike; as views and as plain text.
        #[test]
        fn as_looking_through_the_table(known in prop::collection::btree_set("(a customer )?[a-d]{0,3}", 0..20), asked in prop::collection::vec(prop::option::of("(a customer )?[a-d]{0,3}"), 0..40), plain: bool) {
            let column = |keys: &[Option<&str>]| match plain {
                true => Arc::new(keys.iter().copied().collect::<StringArray>()),
                false => views(keys),
            };
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let keys: Vec<Option<&str>> = std::iter::once(None).chain(known.iter().copied().map(Some)).collect();
            let asked_of = column(&asked.iter().map(Option::as_deref).collect::<Vec<_>>());
            let found = table(column(&keys)).and_then(|table| table.values_of(&asked_of)).expect("looks up");
            let expected: Vec<Option<i64>> = asked
                .iter()
                .map(|key| known.iter().position(|k| Some(*k) == key.as_deref()).map(|at| at as i64 + 1))
                .collect();
            prop_assert_eq!(found.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), expected);
        }
    }

    /// Of so many, hashes want the same slots, and keys stand after their own.
    #[test]
    fn many_keys_are_all_found() {
        let keys: Vec<String> = (0..10_000).map(|i| format!("C{i:06}")).collect();
        let keys = views(&keys.iter().map(|key| Some(key.as_str())).collect::<Vec<_>>());
        let found = table(Arc::clone(&keys)).and_then(|table| table.values_of(&keys)).expect("looks up");
        assert!(found.as_primitive::<Int64Type>().iter().eq((0..10_000).map(Some)));
    }

    #[test]
    fn a_key_is_there_once() {
        let told = table(views(&[Some("a"), Some("b"), Some("a")])).expect_err("twice").to_string();
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
