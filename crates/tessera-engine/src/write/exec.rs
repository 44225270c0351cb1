//! The physical node: each partition writes its own files and reports them.

use std::{collections::BTreeSet, fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch, StringArray, UInt64Array},
        compute::filter_record_batch,
        datatypes::{Field, Schema, SchemaRef},
    },
    common::{Result, internal_datafusion_err, internal_err, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext, object_store::ObjectStoreUrl},
    physical_expr::{
        EquivalenceProperties, PhysicalExpr,
        utils::{collect_columns, reassign_expr_columns},
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
        PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use serde::{Deserialize, Serialize};

use super::{
    RouteSpec, WrittenFile,
    bucket::Split,
    file::{OpenFile, Store},
    manifest_schema,
};
use crate::{buckets::folder, progress::Progress};

/// Bytes of a file that are held before they go to a folder.
const LOCAL_PART: usize = 1 << 20;
/// The same for a store over the network: S3 takes parts of 5 MiB and more, and at most 10,000 of them.
const REMOTE_PART: usize = 8 << 20;

/// Batches of rows that are split into buckets at once.
const BATCHES_AT_ONCE: usize = 8;

/// A route with its expressions over the input's columns.
#[derive(Debug, Clone)]
struct PhysicalRoute {
    spec: RouteSpec,
    filter: Option<Arc<dyn PhysicalExpr>>,
    columns: Vec<Arc<dyn PhysicalExpr>>,
    /// Which of the input's columns these need, and themselves over those alone.
    needs: Vec<usize>,
    narrow: Vec<Arc<dyn PhysicalExpr>>,
    /// By which rows are brought together before they come here.
    bucket: Option<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl PhysicalRoute {
    fn new(
        spec: RouteSpec,
        filter: Option<Arc<dyn PhysicalExpr>>,
        columns: Vec<Arc<dyn PhysicalExpr>>,
        bucket: Option<Arc<dyn PhysicalExpr>>,
        input: &SchemaRef,
    ) -> Result<Self> {
        let fields = columns
            .iter()
            .zip(&spec.columns)
            .map(|(c, name)| Ok(Field::new(name, c.data_type(input)?, true)))
            .collect::<Result<Vec<_>>>()?;
        let needs: BTreeSet<usize> = columns.iter().flat_map(collect_columns).map(|c| c.index()).collect();
        let needs: Vec<usize> = needs.into_iter().collect();
        let needed = input.project(&needs)?;
        let narrow =
            columns.iter().map(|c| reassign_expr_columns(Arc::clone(c), &needed)).collect::<Result<Vec<_>>>()?;
        Ok(Self { spec, filter, columns, needs, narrow, bucket, schema: Arc::new(Schema::new(fields)) })
    }

    /// The rows of a batch that go this way, as they are written.
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let needed = batch.project(&self.needs)?;
        let passing = match &self.filter {
            Some(filter) => {
                let keep = filter.evaluate(batch)?.into_array(batch.num_rows())?;
                filter_record_batch(&needed, keep.as_boolean())?
            }
            None => needed,
        };
        if passing.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let columns = self
            .narrow
            .iter()
            .map(|c| c.evaluate(&passing)?.into_array(passing.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// What a writing node is, its input and expressions aside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WriteExecSpec {
    pub(super) store: String,
    pub(super) routes: Vec<RouteSpec>,
}

/// Writes the partitions of its input; its rows are the files.
#[derive(Debug)]
pub(crate) struct WriteExec {
    input: Arc<dyn ExecutionPlan>,
    store: String,
    routes: Vec<PhysicalRoute>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl WriteExec {
    fn new(input: Arc<dyn ExecutionPlan>, store: String, routes: Vec<PhysicalRoute>) -> Self {
        let partitions = input.properties().partitioning.partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(manifest_schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, store, routes, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    fn expressions(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        self.routes.iter().flat_map(|r| r.filter.iter().chain(&r.columns).chain(&r.bucket))
    }

    /// What it is, and the expressions of its routes, one route after the other.
    pub(crate) fn parts(&self) -> (WriteExecSpec, Vec<Arc<dyn PhysicalExpr>>) {
        let routes = self.routes.iter().map(|r| r.spec.clone()).collect();
        let expressions = self.expressions().cloned().collect();
        (WriteExecSpec { store: self.store.clone(), routes }, expressions)
    }

    /// The same from its parts.
    pub(crate) fn from_parts(
        input: Arc<dyn ExecutionPlan>,
        spec: WriteExecSpec,
        expressions: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Self> {
        let mut expressions = expressions.into_iter();
        let mut routes = Vec::new();
        for route in spec.routes {
            let mut next = || expressions.next().ok_or_else(|| internal_datafusion_err!("a write lacks expressions"));
            let filter = route.filtered.then(&mut next).transpose()?;
            let columns = route.columns.iter().map(|_| next()).collect::<Result<Vec<_>>>()?;
            let bucket = route.buckets.as_ref().is_some_and(|b| b.together).then(&mut next).transpose()?;
            routes.push(PhysicalRoute::new(route, filter, columns, bucket, &input.schema())?);
        }
        Ok(Self::new(input, spec.store, routes))
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<_> = self.routes.iter().map(|r| format!("{} ({:?})", r.spec.name, r.spec.lifetime)).collect();
        write!(f, "WriteExec: tables=[{}]", names.join(", "))
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
        Ok(Arc::new(Self::new(input, self.store.clone(), self.routes.clone())))
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        // Rows can be brought together in one way only.
        let bucket = self.routes.iter().find_map(|r| r.bucket.clone());
        InputDistributionRequirements::new(vec![match bucket {
            Some(bucket) => Distribution::KeyPartitioned(vec![bucket]),
            None => Distribution::UnspecifiedDistribution,
        }])
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expression in self.expressions() {
            if f(expression)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let store = context.runtime_env().object_store(ObjectStoreUrl::parse(&self.store)?)?;
        let store = Store { store, part: if self.store.starts_with("file:") { LOCAL_PART } else { REMOTE_PART } };
        let progress = context.session_config().get_extension::<Progress>().unwrap_or_default();
        let at_once = BATCHES_AT_ONCE * context.session_config().batch_size();
        let input = self.input.execute(partition, context)?;
        let input = input.inspect_ok(move |batch| progress.add_written(batch.num_rows())).boxed();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let work = write_partition(input, store, self.routes.clone(), at_once, metrics);
        let schema = manifest_schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(work).boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

async fn write_partition(
    mut input: BoxStream<'static, Result<RecordBatch>>,
    store: Store,
    routes: Vec<PhysicalRoute>,
    at_once: usize,
    metrics: BaselineMetrics,
) -> Result<RecordBatch> {
    let mut ways = routes.into_iter().map(|r| Way::new(r, &store, at_once)).collect::<Result<Vec<_>>>()?;
    while let Some(batch) = input.try_next().await? {
        let timer = metrics.elapsed_compute().timer();
        for way in &mut ways {
            way.take(&batch).await?;
        }
        timer.done();
    }
    let mut done: Vec<WrittenFile> = Vec::new();
    for way in ways {
        done.extend(way.finish().await?);
    }
    metrics.record_output(done.len());
    manifest(&done)
}

/// A route with its open files: one, or one per bucket.
struct Way<'a> {
    route: PhysicalRoute,
    split: Option<Split>,
    open: Vec<Option<OpenFile>>,
    done: Vec<WrittenFile>,
    store: &'a Store,
}

impl<'a> Way<'a> {
    fn new(route: PhysicalRoute, store: &'a Store, at_once: usize) -> Result<Self> {
        let split = route.spec.buckets.as_ref().map(|b| Split::new(b, &route.schema, at_once)).transpose()?;
        let files = route.spec.buckets.as_ref().map_or(1, |b| b.count.max(1));
        Ok(Self { route, split, open: (0..files).map(|_| None).collect(), done: Vec::new(), store })
    }

    async fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = self.route.apply(batch)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let Some(split) = &mut self.split else { return self.write(0, &rows).await };
        for (bucket, rows) in split.push(rows)? {
            self.write(bucket, &rows).await?;
        }
        Ok(())
    }

    async fn write(&mut self, number: usize, rows: &RecordBatch) -> Result<()> {
        let slot = &mut self.open[number];
        let file = match slot {
            Some(file) => file,
            None => {
                let spec = &self.route.spec;
                let folder = match &spec.buckets {
                    Some(_) => folder(&spec.prefix, number),
                    None => spec.prefix.clone(),
                };
                slot.insert(OpenFile::create(self.store, &folder, spec, rows)?)
            }
        };
        file.write(rows).await?;
        if file.is_full()
            && let Some(full) = slot.take()
        {
            self.done.push(full.finish().await?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        let left = self.split.as_mut().map(Split::finish).transpose()?;
        for (bucket, rows) in left.into_iter().flatten() {
            self.write(bucket, &rows).await?;
        }
        for file in self.open.into_iter().flatten() {
            self.done.push(file.finish().await?);
        }
        Ok(self.done)
    }
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
