//! Leaves that a cluster's tasks can be cut from.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{RecordBatch, RecordBatchOptions},
        datatypes::{Field, SchemaRef},
    },
    common::{
        Result, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    datasource::{memory::MemorySourceConfig, source::DataSourceExec},
    physical_plan::{ExecutionPlan, empty::EmptyExec, placeholder_row::PlaceholderRowExec},
};

/// The plan with leaves of no row or one as tables in memory. Of the tasks of a union, Ballista 55 gives those that do not read such
/// a part another leaf in its place, which reports metrics where the first reports none; the scheduler then drops
/// what the task says, and the job never ends.
pub(crate) fn alike(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let done = plan.transform_up(|plan| {
        let rows = match plan.properties().partitioning.partition_count() {
            1 if plan.is::<EmptyExec>() => Vec::new(),
            1 if plan.is::<PlaceholderRowExec>() => vec![one_row(&plan.schema())?],
            _ => return Ok(Transformed::no(plan)),
        };
        let rows = MemorySourceConfig::try_new(&[rows], plan.schema(), None)?;
        Ok(Transformed::yes(DataSourceExec::from_data_source(rows) as _))
    })?;
    Ok(done.data)
}

fn one_row(schema: &SchemaRef) -> Result<RecordBatch> {
    // Nobody looks at its values, but they have to be of their types.
    let value = |f: &Arc<Field>| ScalarValue::new_default(f.data_type())?.to_array_of_size(1);
    let columns = schema.fields().iter().map(value).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
