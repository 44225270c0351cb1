//! The scan of a source.

use std::{collections::HashMap, fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{
            ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StructArray, new_null_array,
        },
        datatypes::{DataType, Field, Fields, Schema, SchemaRef},
    },
    common::{DataFusionError, Result, Statistics, internal_err, stats::Precision, tree_node::TreeNodeRecursion},
    datasource::memory::MemorySourceConfig,
    execution::{SendableRecordBatchStream, TaskContext, object_store::ObjectStoreUrl},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, StatisticsArgs,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use super::{
    DEFECT, Format, LOCATOR, RECORD, SourceError, SourceFile, SourceFormat, locator, parquet,
    stream::Chunks,
    text::{Records, Rows, Workbook},
};
use crate::{progress::Progress, record};

/// A piece of work: a text file, or a row group of a Parquet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Place of the file among the source's.
    pub file: usize,
    /// The row group.
    pub group: usize,
    /// Rows of the file before it.
    pub first: u64,
    /// Its rows, where they are known.
    pub rows: Option<u64>,
    /// Its size, by which work is balanced.
    pub bytes: u64,
    /// The delimiter of a CSV file.
    pub delimiter: u8,
}

/// A unit with its file, as it stands in the rows of the scan's input.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Work {
    file: SourceFile,
    number: usize,
    group: usize,
    first: u64,
    delimiter: u8,
}

/// What a scan is, its input aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceScanSpec {
    store: String,
    format: SourceFormat,
    rows: Option<u64>,
}

/// Reads a source. Its input are the pieces of work, a row each: so who splits a plan among machines splits the input, as
/// that of any other node. It holds names and numbers only, so that it can be made anew wherever the store is known.
#[derive(Debug)]
pub(crate) struct SourceScanExec {
    input: Arc<dyn ExecutionPlan>,
    store: ObjectStoreUrl,
    spec: SourceScanSpec,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SourceScanExec {
    /// The scan of the units of files.
    pub(super) fn of(
        store: &ObjectStoreUrl,
        format: SourceFormat,
        files: &[SourceFile],
        units: &[Unit],
        schema: SchemaRef,
        target: usize,
    ) -> Result<Self> {
        let spec =
            SourceScanSpec { store: store.as_str().to_owned(), format, rows: units.iter().map(|u| u.rows).sum() };
        Self::new(spec, schema, work(files, units, target)?)
    }

    pub(crate) fn new(spec: SourceScanSpec, schema: SchemaRef, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let partitions = input.properties().partitioning.partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let store = ObjectStoreUrl::parse(&spec.store)?;
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { input, store, spec, schema, properties: Arc::new(properties), metrics })
    }

    pub(crate) fn spec(&self) -> &SourceScanSpec {
        &self.spec
    }
}

/// The pieces of work as a table: a column of JSON, the partitions those of the scan.
fn work(files: &[SourceFile], units: &[Unit], target: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(Schema::new(vec![Field::new("work", DataType::Utf8, false)]));
    let partitions = pack(units, target)
        .into_iter()
        .map(|units| {
            let rows = units
                .into_iter()
                .map(|unit| {
                    let Unit { file: number, group, first, delimiter, .. } = unit;
                    let file = files[number].clone();
                    serde_json::to_string(&Work { file, number, group, first, delimiter })
                        .map_err(|e| DataFusionError::External(Box::new(e)))
                })
                .collect::<Result<Vec<String>>>()?;
            let column: ArrayRef = Arc::new(StringArray::from(rows));
            Ok(vec![RecordBatch::try_new(Arc::clone(&schema), vec![column])?])
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(MemorySourceConfig::try_new_exec(&partitions, schema, None)?)
}

fn work_of(batch: &RecordBatch) -> Result<Vec<Work>> {
    let texts = batch.column(0).as_string::<i32>();
    texts
        .iter()
        .flatten()
        .map(|text| serde_json::from_str(text).map_err(|e| DataFusionError::External(Box::new(e))))
        .collect()
}

/// Spreads work over partitions, the largest piece first, each to the partition with the least so far.
fn pack(units: &[Unit], target: usize) -> Vec<Vec<Unit>> {
    let count = target.min(units.len()).max(1);
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(units[*i].bytes), *i));
    let mut partitions: Vec<(u64, Vec<usize>)> = vec![(0, Vec::new()); count];
    for i in order {
        if let Some(least) = partitions.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            least.0 += units[i].bytes;
            least.1.push(i);
        }
    }
    partitions
        .into_iter()
        .map(|(_, mut work)| {
            work.sort_unstable();
            work.into_iter().map(|i| units[i].clone()).collect()
        })
        .collect()
}

impl DisplayAs for SourceScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<_> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        write!(f, "SourceScanExec: format={:?}, projection=[{}]", self.spec.format.kind, names.join(", "))
    }
}

impl ExecutionPlan for SourceScanExec {
    fn name(&self) -> &str {
        "SourceScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("a source's scan has one input");
        };
        Ok(Arc::new(Self::new(self.spec.clone(), Arc::clone(&self.schema), input)?))
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let rows = self.spec.rows.filter(|_| args.partition().is_none());
        let num_rows = rows.and_then(|r| usize::try_from(r).ok()).map_or(Precision::Absent, Precision::Exact);
        Ok(Arc::new(Statistics { num_rows, ..Statistics::new_unknown(&self.schema) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let store = context.runtime_env().object_store(&self.store)?;
        let batch_size = context.session_config().batch_size();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let progress = context.session_config().get_extension::<Progress>().unwrap_or_default();
        let (format, schema) = (self.spec.format.clone(), Arc::clone(&self.schema));
        let rows = self
            .input
            .execute(partition, context)?
            .map(|batch| {
                Ok::<_, DataFusionError>(stream::iter(work_of(&batch?)?.into_iter().map(Ok::<_, DataFusionError>)))
            })
            .try_flatten()
            .and_then(move |work| {
                let (store, format, schema) = (Arc::clone(&store), format.clone(), Arc::clone(&schema));
                async move {
                    let rows = match format.kind {
                        Format::Parquet => parquet_rows(store, work, schema, batch_size).await,
                        Format::Spreadsheet => sheet_rows(store, work, format, schema, batch_size).await,
                        _ => text_rows(store, work, format, schema, batch_size).await,
                    };
                    Ok(rows.map_err(outside)?.map_err(outside))
                }
            })
            .try_flatten()
            .inspect_ok(move |batch| {
                metrics.record_output(batch.num_rows());
                progress.add_read(batch.num_rows());
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows.boxed())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn outside(error: SourceError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

type Batches = stream::BoxStream<'static, std::result::Result<RecordBatch, SourceError>>;

/// What a scan gives, and what it reads for that.
#[derive(Clone)]
struct Shape {
    schema: SchemaRef,
    /// The columns of the owner that are read: all of them, where records are wanted.
    read: SchemaRef,
    /// The places among these of those that stand by themselves, in the order of the scan's columns.
    own: Vec<usize>,
    /// The type of the records, where they are wanted.
    record: Option<DataType>,
}

impl Shape {
    fn of(schema: SchemaRef) -> Self {
        let own = schema.fields().iter().filter(|f| ![LOCATOR, DEFECT, RECORD].contains(&f.name().as_str()));
        let record = schema.field_with_name(RECORD).ok().map(|f| f.data_type().clone());
        let read: Fields = match record.as_ref().and_then(record::columns) {
            Some(all) => all,
            None => own.clone().cloned().collect(),
        };
        let places: HashMap<&str, usize> = read.iter().enumerate().map(|(i, f)| (f.name().as_str(), i)).collect();
        let own = own.filter_map(|f| places.get(f.name().as_str()).copied()).collect();
        Self { read: Arc::new(Schema::new(read)), own, record, schema }
    }

    /// The names of the columns that are read.
    fn wanted(&self) -> Vec<String> {
        self.read.fields().iter().map(|f| f.name().clone()).collect()
    }

    /// What takes rows of a file of texts in.
    fn rows(&self, file: &SourceFile) -> Rows {
        let constant =
            |name: &String| file.constants.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Rows::new(self.wanted().iter().map(constant).collect(), &self.own, self.record.is_some())
    }

    /// The batch of the rows that were taken in.
    fn batch_of(&self, rows: &mut Rows) -> std::result::Result<RecordBatch, SourceError> {
        let record = rows.records.as_mut().zip(self.record.as_ref()).map(|(packer, kind)| packer.finish(kind));
        let (columns, locators, defects, count) = rows.finish();
        self.batch(columns, record.transpose(), &locators, &defects, count)
    }

    /// The batch of the columns that stand by themselves, and of those that every source has.
    fn batch(
        &self,
        own: Vec<ArrayRef>,
        record: Result<Option<ArrayRef>>,
        locators: &ArrayRef,
        defects: &ArrayRef,
        rows: usize,
    ) -> std::result::Result<RecordBatch, SourceError> {
        let (options, mut own) = (RecordBatchOptions::new().with_row_count(Some(rows)), own.into_iter());
        let batch = record.and_then(|record| {
            let columns = self.schema.fields().iter().filter_map(|f| match f.name().as_str() {
                LOCATOR => Some(Arc::clone(locators)),
                DEFECT => Some(Arc::clone(defects)),
                RECORD => record.clone(),
                _ => own.next(),
            });
            Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &options)?)
        });
        batch.map_err(|e| SourceError::Parquet { file: "a batch".into(), problem: e.to_string() })
    }
}

async fn parquet_rows(
    store: Arc<dyn ObjectStore>,
    work: Work,
    schema: SchemaRef,
    batch_size: usize,
) -> std::result::Result<Batches, SourceError> {
    let shape = Shape::of(schema);
    let rows = parquet::rows(&store, &work.file, work.group, Arc::clone(&shape.read), batch_size).await?;
    let mut next = work.first + 1;
    Ok(rows
        .and_then(move |batch| {
            let count = batch.num_rows();
            let locators =
                Int64Array::from_iter_values((next..next + count as u64).map(|row| locator(work.number, row)));
            next += count as u64;
            let defects = new_null_array(&DataType::Utf8View, count);
            let locators: ArrayRef = Arc::new(locators);
            let own = shape.own.iter().map(|at| Arc::clone(batch.column(*at))).collect();
            let record = shape.record.is_some().then(|| Arc::new(StructArray::from(batch)) as ArrayRef);
            futures::future::ready(shape.batch(own, Ok(record), &locators, &defects, count))
        })
        .boxed())
}

async fn text_rows(
    store: Arc<dyn ObjectStore>,
    work: Work,
    format: SourceFormat,
    schema: SchemaRef,
    batch_size: usize,
) -> std::result::Result<Batches, SourceError> {
    let chunks = Chunks::open(&store, &work.file).await?;
    let shape = Shape::of(schema);
    let rows = shape.rows(&work.file);
    let records = Records::new(&format, &work.file, work.number, shape.wanted(), work.delimiter);
    let state = (chunks, records, rows, false);
    let batches = stream::try_unfold(state, move |(mut chunks, mut records, mut rows, mut ended)| {
        let shape = shape.clone();
        async move {
            while !ended && rows.len < batch_size {
                match chunks.next(records.row()).await? {
                    // Small steps keep batches near their size.
                    Some(chunk) => chunk.chunks(1 << 20).try_for_each(|piece| records.feed(piece, &mut rows))?,
                    None => {
                        records.finish(&mut rows)?;
                        ended = true;
                    }
                }
            }
            if rows.len == 0 {
                return Ok(None);
            }
            let batch = shape.batch_of(&mut rows)?;
            Ok(Some((batch, (chunks, records, rows, ended))))
        }
    });
    // A chunk of input may hold many batches' worth of rows.
    Ok(batches.map_ok(move |batch| stream::iter(pieces(&batch, batch_size).into_iter().map(Ok))).try_flatten().boxed())
}

async fn sheet_rows(
    store: Arc<dyn ObjectStore>,
    work: Work,
    format: SourceFormat,
    schema: SchemaRef,
    batch_size: usize,
) -> std::result::Result<Batches, SourceError> {
    let workbook = Workbook::open(&store, &work.file, &format).await?;
    let shape = Shape::of(schema);
    let mut rows = shape.rows(&work.file);
    workbook.rows(&format, work.number, &shape.wanted(), &mut rows);
    let batch = shape.batch_of(&mut rows)?;
    Ok(stream::iter(pieces(&batch, batch_size).into_iter().map(Ok)).boxed())
}

/// A batch in batches of the usual size.
fn pieces(batch: &RecordBatch, size: usize) -> Vec<RecordBatch> {
    let starts = (0..batch.num_rows()).step_by(size);
    starts.map(|at| batch.slice(at, size.min(batch.num_rows() - at))).collect()
}
