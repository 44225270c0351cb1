//! Joins that Ballista's cutting into stages takes as they are.
//!
//! In one process a join may hold one side once for all partitions. On a cluster every task holds its own copy, which is right
//! only for kinds of joins that give no row on behalf of the held side alone; and Ballista decides anew, by an estimate of its
//! own, whether a side is small enough to be sent to everybody. Where it decides against, what it makes of the plan may never
//! finish (a stage whose number of partitions changes after it was counted). So the decision is made here, by the same
//! measure, and nothing is left for it to change.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::DataType,
    common::{
        JoinType, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    physical_optimizer::{PhysicalOptimizerRule, ensure_requirements::EnsureRequirements},
    physical_plan::{
        ExecutionPlan, Partitioning, StatisticsArgs,
        coalesce_partitions::CoalescePartitionsExec,
        joins::{HashJoinExec, PartitionMode},
        projection::ProjectionExec,
        repartition::RepartitionExec,
        replace_children_if_necessary,
        statistics::StatisticsContext,
    },
};

/// Bytes up to which a side of a join may be sent to every task.
const SENT_TO_ALL: usize = 256 << 20;
/// Bytes up to which it is sent whatever the other side is.
const SMALL: usize = 4 << 20;

/// The plan with each join either one whose held side may be sent to everybody, or one of which both sides are shuffled; and
/// the size, to be told to Ballista, below which sides are sent.
pub(crate) fn settled(
    plan: Arc<dyn ExecutionPlan>,
    options: &ConfigOptions,
) -> Result<(Arc<dyn ExecutionPlan>, usize)> {
    let partitions = options.execution.target_partitions;
    let (mut largest, mut moved) = (0, false);
    let settled = plan.transform_up(|node| {
        let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
        if *join.partition_mode() != PartitionMode::CollectLeft || join.null_aware {
            return Ok(Transformed::no(node));
        }
        let kind = *join.join_type();
        if probe_driven(kind)
            && let Some(bytes) = worth_sending(join.left(), join.right())
        {
            largest = largest.max(bytes);
            return Ok(Transformed::no(node));
        }
        if kind.supports_swap()
            && probe_driven(kind.swap())
            && let Some(bytes) = worth_sending(join.right(), &spread(join.left()))
        {
            (largest, moved) = (largest.max(bytes), true);
            return Ok(Transformed::yes(swapped(join)?));
        }
        moved = true;
        Ok(Transformed::yes(shuffled(join, partitions)?))
    })?;
    // Rows of a join that is shuffled, or whose other side is held, come in other partitions than before. What stands above and
    // relied on those (an aggregation in one step, say) is given what it needs again.
    let plan = if moved { EnsureRequirements::new().optimize(settled.data, options)? } else { settled.data };
    Ok((plan, if largest == 0 { 0 } else { largest + 1 }))
}

/// The size of a side if sending it to every task of the other moves and builds no more than shuffling both would.
fn worth_sending(side: &Arc<dyn ExecutionPlan>, other: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let bytes = size(side.as_ref()).filter(|bytes| *bytes < SENT_TO_ALL)?;
    let tasks = other.properties().partitioning.partition_count();
    let cheap = bytes <= SMALL
        || size(other.as_ref()).is_none_or(|other| bytes.saturating_mul(tasks) <= bytes.saturating_add(other));
    cheap.then_some(bytes)
}

/// Whether each row of the result belongs to one row of the right side.
fn probe_driven(kind: JoinType) -> bool {
    use JoinType as J;
    matches!(kind, J::Inner | J::Right | J::RightSemi | J::RightAnti | J::RightMark)
}

/// The size of a result as Ballista estimates it.
fn size(plan: &dyn ExecutionPlan) -> Option<usize> {
    let statistics = StatisticsContext::new().compute(plan, &StatisticsArgs::new()).ok()?;
    if let Some(bytes) = statistics.total_byte_size.get_value().filter(|bytes| **bytes != 0) {
        return Some(*bytes);
    }
    let rows = statistics.num_rows.get_value().filter(|rows| **rows != 0)?;
    let width = |kind: &DataType| match kind {
        DataType::Boolean | DataType::Int8 | DataType::UInt8 => 1,
        DataType::Int16 | DataType::UInt16 => 2,
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 => 4,
        DataType::Int64 | DataType::UInt64 | DataType::Float64 | DataType::Date64 => 8,
        DataType::Decimal128(..) => 16,
        _ => 32,
    };
    let row: usize = plan.schema().fields().iter().map(|f| width(f.data_type())).sum();
    Some(rows * row.max(8))
}

/// The join with its sides exchanged, the new left one held.
fn swapped(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    // The side that was held comes as one partition; as the other it may have several.
    let spread = join.builder().with_new_children(vec![spread(join.left()), Arc::clone(join.right())])?.build()?;
    let swapped = spread.swap_inputs(PartitionMode::CollectLeft)?;
    let (join, projection) = match swapped.downcast_ref::<ProjectionExec>() {
        Some(projection) => (Arc::clone(projection.input()), Some(Arc::clone(&swapped))),
        None => (Arc::clone(&swapped), None),
    };
    let sides = join.children().into_iter().cloned().collect::<Vec<_>>();
    let [held, other] = sides.as_slice() else { return Ok(swapped) };
    let held = match held.properties().partitioning.partition_count() {
        1 => Arc::clone(held),
        _ => Arc::new(CoalescePartitionsExec::new(Arc::clone(held))),
    };
    let join = replace_children_if_necessary(Arc::clone(&join), vec![held, Arc::clone(other)])?;
    match projection {
        Some(projection) => replace_children_if_necessary(projection, vec![join]),
        None => Ok(join),
    }
}

/// The join with rows of equal keys brought together first.
fn shuffled(join: &HashJoinExec, partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let (left, right): (Vec<_>, Vec<_>) = join.on().iter().map(|(l, r)| (Arc::clone(l), Arc::clone(r))).unzip();
    let by = |side: Arc<dyn ExecutionPlan>, keys| -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(RepartitionExec::try_new(side, Partitioning::Hash(keys, partitions))?))
    };
    join.builder()
        .with_partition_mode(PartitionMode::Partitioned)
        .with_new_children(vec![by(spread(join.left()), left)?, by(Arc::clone(join.right()), right)?])?
        .build_exec()
}

fn spread(side: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match side.downcast_ref::<CoalescePartitionsExec>() {
        Some(one) => Arc::clone(one.input()),
        None => Arc::clone(side),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::{
            array::{Int64Array, RecordBatch},
            datatypes::{Field, Schema},
        },
        datasource::{MemTable, empty::EmptyTable},
        physical_optimizer::sanity_checker::SanityCheckPlan,
        physical_plan::displayable,
        prelude::{SessionConfig, SessionContext},
    };

    use super::*;

    /// Three parts of rows are held beside one of others: the semi join gives one part. Once the other side is held, it gives three.
    #[tokio::test]
    async fn what_stands_above_a_join_whose_other_side_is_held_gets_its_groups_whole() {
        let config = SessionConfig::new().with_target_partitions(4);
        let config = config.set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
        let config = config.with_round_robin_repartition(false).with_repartition_aggregations(false);
        let ctx = SessionContext::new_with_config(config);
        let table = |parts: std::ops::Range<i64>, rows: i64| {
            let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
            let part = |_| RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new((0..rows).collect::<Int64Array>())]);
            let parts = parts.map(|at| vec![part(at).expect("a batch")]).collect();
            Arc::new(MemTable::try_new(Arc::clone(&schema), parts).expect("a table"))
        };
        ctx.register_table("few", table(0..3, 10)).expect("new");
        ctx.register_table("many", table(0..1, 100)).expect("new");
        let query = "SELECT DISTINCT v % 7 FROM (SELECT v FROM few LEFT SEMI JOIN many ON few.v = many.v)";
        let plan = ctx.sql(query).await.expect("SQL").create_physical_plan().await.expect("a plan");
        let text = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
        assert!(text(&plan).contains("join_type=LeftSemi"), "{}", text(&plan));
        let state = ctx.state();
        let (plan, _) = settled(plan, state.config_options()).expect("settled");
        assert!(text(&plan).contains("join_type=RightSemi"), "{}", text(&plan));
        SanityCheckPlan::new().optimize(plan, state.config_options()).expect("groups are whole");
    }

    /// Beside one partition of rows, an aggregation in one step is right; beside several, rows of a group must come together.
    #[tokio::test]
    async fn what_stands_above_a_join_that_is_shuffled_gets_its_groups_whole() {
        let mut config = SessionConfig::new().with_target_partitions(4);
        config.options_mut().optimizer.enable_round_robin_repartition = false;
        let ctx = SessionContext::new_with_config(config);
        let schema =
            |names: [&str; 2]| Arc::new(Schema::new(names.map(|n| Field::new(n, DataType::Int64, true)).to_vec()));
        let column = || Arc::new((0..100).collect::<Int64Array>());
        let rows = schema(["at", "customer"]);
        let batch = RecordBatch::try_new(Arc::clone(&rows), vec![column(), column()]).expect("a batch");
        let rows = MemTable::try_new(rows, vec![vec![batch]]).expect("a table");
        // Of no rows nobody can say how large they are.
        ctx.register_table("lost", Arc::new(EmptyTable::new(schema(["locator", "bit"])))).expect("new");
        ctx.register_table("rows", Arc::new(rows)).expect("new");
        let query = "SELECT DISTINCT customer, bit FROM (SELECT r.customer, l.bit FROM lost AS l RIGHT JOIN rows AS r \
                     ON l.locator = r.at)";
        let plan = ctx.sql(query).await.expect("SQL").create_physical_plan().await.expect("a plan");
        let state = ctx.state();
        let (plan, _) = settled(plan, state.config_options()).expect("settled");
        let text = displayable(plan.as_ref()).indent(false).to_string();
        assert!(text.contains("mode=Partitioned"), "{text}");
        SanityCheckPlan::new().optimize(plan, state.config_options()).expect("groups are whole");
    }
}
