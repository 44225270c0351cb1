//! The physical node: each partition writes its own files and reports them.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch, StringArray, UInt64Array},
        compute::filter_record_batch,
        datatypes::{Field, Schema, SchemaRef},
    },
    common::{Result, internal_err, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext, object_store::ObjectStoreUrl},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;

use super::{Encoding, RouteSpec, WrittenFile, file::OpenFile, manifest_schema};

/// A route with its expressions over the input's columns.
#[derive(Debug, Clone)]
pub struct PhysicalRoute {
    spec: RouteSpec,
    filter: Option<Arc<dyn PhysicalExpr>>,
    columns: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl PhysicalRoute {
    pub(super) fn new(
        spec: RouteSpec,
        filter: Option<Arc<dyn PhysicalExpr>>,
        columns: Vec<Arc<dyn PhysicalExpr>>,
        input: &SchemaRef,
    ) -> Result<Self> {
        let fields = columns
            .iter()
            .zip(spec.columns())
            .map(|(c, name)| Ok(Field::new(name, c.data_type(input)?, true)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { spec, filter, columns, schema: Arc::new(Schema::new(fields)) })
    }

    /// The rows of a batch that go this way, as they are written.
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let passing = match &self.filter {
            Some(filter) => {
                let keep = filter.evaluate(batch)?.into_array(batch.num_rows())?;
                filter_record_batch(batch, keep.as_boolean())?
            }
            None => batch.clone(),
        };
        if passing.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let columns = self
            .columns
            .iter()
            .map(|c| c.evaluate(&passing)?.into_array(passing.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Writes the partitions of its input; its rows are the files.
#[derive(Debug)]
pub struct WriteExec {
    input: Arc<dyn ExecutionPlan>,
    store: String,
    encoding: Encoding,
    routes: Vec<PhysicalRoute>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl WriteExec {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        store: String,
        encoding: Encoding,
        routes: Vec<PhysicalRoute>,
    ) -> Self {
        let partitions = input.properties().partitioning.partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(manifest_schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            input,
            store,
            encoding,
            routes,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<_> = self.routes.iter().map(|r| r.spec.name()).collect();
        write!(f, "WriteExec: tables=[{}], encoding={:?}", names.join(", "), self.encoding)
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &str {
        "WriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("a write has one input");
        };
        Ok(Arc::new(Self::new(input, self.store.clone(), self.encoding, self.routes.clone())))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expression in self.routes.iter().flat_map(|r| r.filter.iter().chain(&r.columns)) {
            if f(expression)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let store = context.runtime_env().object_store(ObjectStoreUrl::parse(&self.store)?)?;
        let input = self.input.execute(partition, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let work = write_partition(input, store, self.routes.clone(), self.encoding, metrics);
        let schema = manifest_schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(work).boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

async fn write_partition(
    mut input: SendableRecordBatchStream,
    store: Arc<dyn ObjectStore>,
    routes: Vec<PhysicalRoute>,
    encoding: Encoding,
    metrics: BaselineMetrics,
) -> Result<RecordBatch> {
    let mut open: Vec<Option<OpenFile>> = routes.iter().map(|_| None).collect();
    let mut done: Vec<WrittenFile> = Vec::new();
    while let Some(batch) = input.try_next().await? {
        let timer = metrics.elapsed_compute().timer();
        for (route, slot) in routes.iter().zip(&mut open) {
            let rows = route.apply(&batch)?;
            if rows.num_rows() == 0 {
                continue;
            }
            let file = match slot {
                Some(file) => file,
                None => slot.insert(OpenFile::create(&store, &route.spec, Arc::clone(&route.schema), encoding)?),
            };
            file.write(&rows).await?;
            if file.is_full()
                && let Some(full) = slot.take()
            {
                done.push(full.finish().await?);
            }
        }
        timer.done();
    }
    for file in open.into_iter().flatten() {
        done.push(file.finish().await?);
    }
    metrics.record_output(done.len());
    manifest(&done)
}

fn manifest(files: &[WrittenFile]) -> Result<RecordBatch> {
    let text =
        |get: &dyn Fn(&WrittenFile) -> String| Arc::new(files.iter().map(|f| Some(get(f))).collect::<StringArray>());
    let number =
        |get: &dyn Fn(&WrittenFile) -> u64| Arc::new(files.iter().map(|f| Some(get(f))).collect::<UInt64Array>());
    Ok(RecordBatch::try_new(
        manifest_schema(),
        vec![
            text(&|f| f.route.clone()),
            text(&|f| f.path.clone()),
            number(&|f| f.rows),
            number(&|f| f.bytes),
            text(&|f| f.sha256.clone()),
            text(&|f| f.fingerprint.to_string()),
        ],
    )?)
}
