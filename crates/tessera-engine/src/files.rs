//! Data files of the lake as a table.
//!
//! What wrote them told their paths, sizes and rows, so that nothing is listed and no footer is read to plan: a scan sees
//! exactly the files that it is given.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    catalog::{Session, TableProvider},
    common::{Result, ScalarValue, SplitPoint, Statistics, project_schema, stats::Precision},
    datasource::{
        file_format::{FileFormat, parquet::ParquetFormat},
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder},
        table_schema::TableSchema,
    },
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_expr::{LexOrdering, Partitioning, PhysicalSortExpr, RangePartitioning, expressions::Column},
    physical_plan::{ExecutionPlan, empty::EmptyExec},
};

use crate::buckets::{BUCKET, bucket_of};

/// A Parquet file in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Path in the store.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
}

/// Memory that the groups of a bucket may take, in multiples of its files' size.
const GROUPS_PER_BYTE: u64 = 8;

/// The bucket of rows that came after the buckets were made: any customer may have some among them.
const LATER: i32 = -1;

/// The size of the largest bucket; none if no file stands in a bucket's folder.
pub(crate) fn largest_bucket(files: &[StoredFile]) -> Option<u64> {
    let mut sizes: BTreeMap<i32, u64> = BTreeMap::new();
    for file in files {
        *sizes.entry(bucket_of(&file.path).unwrap_or(LATER)).or_default() += file.bytes;
    }
    sizes.keys().any(|bucket| *bucket != LATER).then(|| sizes.into_values().max()).flatten()
}

/// Whether the groups of one bucket in each partition fit a half of the memory. An aggregation by bucket cannot spill, one
/// of the whole table can.
pub(crate) fn fits(bucket: u64, partitions: usize, memory: Option<usize>) -> bool {
    memory.is_none_or(|limit| bucket * GROUPS_PER_BYTE * partitions as u64 <= limit as u64 / 2)
}

/// Data files of one schema, with their buckets if they are kept in buckets.
#[derive(Debug, Clone)]
pub(crate) struct StoredFiles {
    store: ObjectStoreUrl,
    schema: SchemaRef,
    files: Vec<(StoredFile, i32)>,
    in_buckets: bool,
}

impl StoredFiles {
    /// The files as a table, which has the column [`BUCKET`] if so wanted. Files in no bucket's folder are a bucket of their
    /// own, so that a customer may be in two: whoever groups by it gets parts, to be merged.
    pub(crate) fn new(store: ObjectStoreUrl, schema: SchemaRef, files: Vec<StoredFile>, in_buckets: bool) -> Self {
        let bucket = |f: &StoredFile| bucket_of(&f.path).unwrap_or(LATER);
        let mut files: Vec<_> = files.into_iter().map(|f| (bucket(&f), f)).map(|(b, f)| (f, b)).collect();
        files.sort_by(|(a, x), (b, y)| (x, &a.path).cmp(&(y, &b.path)));
        Self { store, schema: for_reading(&schema), files, in_buckets }
    }

    fn partition_columns(&self) -> Vec<Arc<Field>> {
        let column = || Arc::new(Field::new(BUCKET, DataType::Int32, false));
        self.in_buckets.then(column).into_iter().collect()
    }

    /// The files in as many groups as there are partitions, a bucket whole and in order.
    fn groups(&self, partitions: usize) -> Vec<FileGroup> {
        let all: u64 = self.files.iter().map(|(f, _)| f.bytes).sum();
        let share = all.div_ceil(partitions.max(1) as u64).max(1);
        let mut groups: Vec<Vec<PartitionedFile>> = Vec::new();
        let (mut before, mut last) = (0, None);
        for (file, bucket) in &self.files {
            let next = groups.len() as u64 * share <= before;
            if groups.is_empty() || (next && (last != Some(*bucket) || !self.in_buckets)) {
                groups.push(Vec::new());
            }
            before += file.bytes;
            last = Some(*bucket);
            if let Some(group) = groups.last_mut() {
                group.push(self.partitioned(file, *bucket));
            }
        }
        groups.into_iter().map(FileGroup::new).collect()
    }

    fn partitioned(&self, file: &StoredFile, bucket: i32) -> PartitionedFile {
        let statistics = Statistics { num_rows: count(file.rows), ..Statistics::new_unknown(&self.schema) };
        let values = if self.in_buckets { vec![ScalarValue::Int32(Some(bucket))] } else { Vec::new() };
        PartitionedFile::new(file.path.clone(), file.bytes)
            .with_partition_values(values)
            .with_statistics(Arc::new(statistics))
    }
}

fn count(rows: u64) -> Precision<usize> {
    usize::try_from(rows).map_or(Precision::Absent, Precision::Exact)
}

/// The schema in which data files are read: text as views.
fn for_reading(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| match f.data_type() {
            DataType::Utf8 => Arc::new(f.as_ref().clone().with_data_type(DataType::Utf8View)),
            _ => Arc::clone(f),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

#[async_trait]
impl TableProvider for StoredFiles {
    fn schema(&self) -> SchemaRef {
        let fields = self.schema.fields().iter().cloned().chain(self.partition_columns());
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&TableProvider::schema(self), projection)?)));
        }
        let format = ParquetFormat::default().with_options(session.table_options().parquet.clone());
        let source = format.file_source(
            TableSchema::builder(Arc::clone(&self.schema)).with_table_partition_cols(self.partition_columns()).build(),
        );
        let groups = self.groups(session.config().target_partitions());
        let mut config = FileScanConfigBuilder::new(self.store.clone(), source)
            .with_statistics(self.statistics().unwrap_or_default())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        if self.in_buckets {
            let column = PhysicalSortExpr::new_default(Arc::new(Column::new(BUCKET, self.schema.fields().len())));
            let order = LexOrdering::from([column]);
            let first = |group: &FileGroup| group.files().first().map(|f| SplitPoint::new(f.partition_values.clone()));
            let ranges = RangePartitioning::try_new(order.clone(), groups.iter().skip(1).filter_map(first).collect())?;
            config =
                config.with_output_partitioning(Some(Partitioning::Range(ranges))).with_output_ordering(vec![order]);
        }
        format.create_physical_plan(session, config.with_file_groups(groups).build()).await
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(Statistics {
            num_rows: count(self.files.iter().map(|(f, _)| f.rows).sum()),
            ..Statistics::new_unknown(&TableProvider::schema(self))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64) -> StoredFile {
        StoredFile { path: path.to_owned(), bytes, rows: 1 }
    }

    #[test]
    fn buckets_are_whole_in_order_and_shared_out_by_size() {
        let files = vec![
            file("t/bucket-10/a", 30),
            file("t/bucket-2/b", 10),
            file("t/bucket-2/a", 20),
            file("t/bucket-0/a", 30),
        ];
        assert_eq!(largest_bucket(&files), Some(30));
        let table = |in_buckets| {
            let store = ObjectStoreUrl::parse("memory:///").expect("a URL");
            StoredFiles::new(store, Arc::new(Schema::empty()), files.clone(), in_buckets)
        };
        let paths = |groups: Vec<FileGroup>| -> Vec<Vec<String>> {
            let names = |g: &FileGroup| g.files().iter().map(|f| f.object_meta.location.to_string()).collect();
            groups.iter().map(names).collect()
        };
        assert_eq!(
            paths(table(true).groups(2)),
            [vec!["t/bucket-0/a", "t/bucket-2/a", "t/bucket-2/b"], vec!["t/bucket-10/a"]]
        );
        assert_eq!(paths(table(true).groups(9)).len(), 3);
        assert_eq!(paths(table(false).groups(9)).len(), 4);
    }

    #[test]
    fn what_does_not_fit_is_not_read_by_bucket() {
        assert!(fits(u64::MAX / 1000, 2, None));
        assert!(fits(100, 2, Some(3200)));
        assert!(!fits(101, 2, Some(3200)));
        assert_eq!(largest_bucket(&[file("t/a", 1), file("t/b", 1)]), None);
        assert_eq!(largest_bucket(&[file("t/bucket-1/a", 1), file("t/b", 1), file("t/c", 1)]), Some(2));
    }
}
