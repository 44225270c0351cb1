//! The one builder of sessions, and what stages ask of one. Where plans run is up to the planner of the state: that of a
//! cluster sends them away.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
};

use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    common::{Result, ScalarValue, internal_datafusion_err},
    execution::{
        SessionState, SessionStateBuilder,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, MemoryLimit, TrackConsumersPool},
        object_store::ObjectStoreUrl,
        runtime_env::RuntimeEnvBuilder,
    },
    logical_expr::{Extension, LogicalPlan, ident},
    prelude::{DataFrame, SQLOptions, SessionConfig, SessionContext},
};
use object_store::ObjectStore;
use url::Url;

use crate::{
    files::{self, StoredFile, StoredFiles},
    formula::{self, Words},
    functions,
    lookup::LookupNode,
    planner::query_planner,
    progress::Progress,
    secret::Secret,
    stores::Stores,
    write::{self, Lifetime, Route, WrittenFile},
};

/// The context of an error about a query that would do more than read.
pub const ONLY_READS: &str = "only reading is allowed";

/// Rows of a table that is held in memory to be looked up in.
const LOOKED_UP_IN: u64 = 2 << 20;

/// How the engine runs. Nothing here may change a result.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Parallel partitions.
    pub partitions: NonZeroUsize,
    /// Bytes for sorting, joining and aggregating before the engine spills.
    pub memory_limit: Option<usize>,
    /// Folder to spill to; absent, the system's.
    pub spill_dir: Option<PathBuf>,
}

/// Where an engine puts intermediate results: a folder of a store that it knows.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// The store, as registered.
    pub store: Url,
    /// Folder in the store, without slashes around it.
    pub folder: String,
}

/// The state of a session with our functions, whose plans run in this process. A process that only passes plans on needs no
/// secret.
///
/// # Errors
/// When the spill folder cannot be used.
pub fn state(settings: &Settings, secret: Option<&Secret>, stores: Arc<Stores>) -> Result<SessionState> {
    let mut runtime = RuntimeEnvBuilder::new().with_object_store_registry(stores);
    if let Some(bytes) = settings.memory_limit {
        let consumers = NonZeroUsize::MIN.saturating_add(4);
        runtime = runtime.with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(bytes), consumers)));
    }
    if let Some(folder) = &settings.spill_dir {
        let mode = DiskManagerMode::Directories(vec![folder.clone()]);
        runtime = runtime.with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode));
    }
    let mut config = SessionConfig::new()
        .with_target_partitions(settings.partitions.get())
        .with_information_schema(false)
        .with_parquet_pruning(true)
        .with_extension(Arc::new(Progress::default()));
    config.options_mut().execution.time_zone = Some("UTC".into());
    if let Some(bytes) = settings.memory_limit {
        // What every sort keeps aside for merging what it spilled, and how many rows go through at once (a wide row takes
        // half a kilobyte, a node holds a few batches): the engine's defaults are for larger limits.
        let share = bytes / settings.partitions.get();
        let aside = &mut config.options_mut().execution.sort_spill_reservation_bytes;
        *aside = (*aside).min(share / 8);
        let rows = config.batch_size().min((share >> 13).max(256));
        config = config.with_batch_size(rows);
    }
    // Tables in buckets are aggregated without a shuffle, however few partitions there are.
    config.options_mut().optimizer.subset_repartition_threshold = 1;
    // Joining a wide table with a narrow one of up to two million rows, the narrow one is held rather than both shuffled.
    config.options_mut().optimizer.hash_join_single_partition_threshold = 128 << 20;
    config.options_mut().optimizer.hash_join_single_partition_threshold_rows = 2 << 20;
    // The fields of our structs are results of aggregates and never columns of files. Pushing them down gains nothing, and above
    // a join the rule ends with two columns of one name (DataFusion 55.2).
    config.options_mut().optimizer.enable_leaf_expression_pushdown = false;
    // Names of sources keep their case.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let ctx = SessionContext::new_with_state(
        SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime.build()?))
            .with_default_features()
            .with_query_planner(query_planner())
            .build(),
    );
    for function in functions::scalars(secret) {
        ctx.register_udf(function);
    }
    for function in functions::aggregates() {
        ctx.register_udaf(function);
    }
    Ok(ctx.state())
}

/// A session with our functions, and the few things that stages ask of it.
#[derive(Clone)]
pub struct Engine {
    ctx: SessionContext,
    scratch: Scratch,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine whose plans run wherever the session's planner lets them.
    #[must_use]
    pub fn new(state: SessionState, scratch: Scratch) -> Self {
        Self { ctx: SessionContext::new_with_state(state), scratch }
    }

    /// How many partitions a plan has.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.ctx.state().config().target_partitions()
    }

    /// How far the session's work is.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Progress::of(&self.ctx.state())
    }

    /// Makes a store known under its URL.
    pub fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) {
        self.ctx.register_object_store(url, store);
    }

    /// The session itself.
    #[must_use]
    pub fn session(&self) -> &SessionContext {
        &self.ctx
    }

    /// No row.
    ///
    /// # Errors
    /// Never, as far as one can see.
    pub fn none(&self, schema: SchemaRef) -> Result<DataFrame> {
        self.read(schema, &self.scratch.store, Vec::new())
    }

    /// The rows of data files of a store. No file is no row.
    ///
    /// # Errors
    /// When the store is not known.
    pub fn read(&self, schema: SchemaRef, store: &Url, files: Vec<StoredFile>) -> Result<DataFrame> {
        self.ctx.read_table(Arc::new(StoredFiles::new(ObjectStoreUrl::parse(store)?, schema, files, false)))
    }

    /// The same of a table that may be kept in buckets: it then has the column [`BUCKET`](crate::buckets::BUCKET), and a plan
    /// that groups by it first has the groups of one bucket in memory at a time, without a shuffle. Rows that came after the
    /// buckets were made are a bucket of their own: what is grouped so are parts, to be merged. If even these are too many
    /// for the memory limit, it is the plain table, which can be aggregated by way of the disk.
    ///
    /// # Errors
    /// When the store is not known.
    pub fn read_buckets(&self, schema: SchemaRef, store: &Url, files: Vec<StoredFile>) -> Result<DataFrame> {
        let memory = match self.ctx.runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => Some(bytes),
            _ => None,
        };
        let buckets = files::largest_bucket(&files).is_some_and(|b| files::fits(b, self.partitions(), memory));
        self.ctx.read_table(Arc::new(StoredFiles::new(ObjectStoreUrl::parse(store)?, schema, files, buckets)))
    }

    /// The answer to a query over named frames. `words` replaces the words of the catalogue (see [`formula`]).
    ///
    /// # Errors
    /// When the query cannot be planned, or would do anything but read: then with [`ONLY_READS`].
    pub async fn sql(&self, query: &str, tables: &[(&str, &DataFrame)], words: &Words) -> Result<DataFrame> {
        // A session of its own for the names; functions, stores and settings are shared.
        let ctx = SessionContext::new_with_state(self.ctx.state());
        for (name, frame) in tables {
            ctx.deregister_table(*name)?;
            ctx.register_table(*name, (*frame).clone().into_view())?;
        }
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let query = formula::bind(query, words)?;
        let frame = async {
            let plan = ctx.state().create_logical_plan(&query).await?;
            reads.verify_plan(&plan).map_err(|e| e.context(ONLY_READS))?;
            ctx.execute_logical_plan(plan).await
        };
        let frame = frame.await;
        for (name, _) in tables {
            ctx.deregister_table(*name)?;
        }
        frame
    }

    /// The rows of a frame with the value that a table of two columns, a unique key and the value, has for a column of theirs; null
    /// where it has none. `count` says how many rows the table has: a small one is held in memory.
    ///
    /// # Errors
    /// When a column is not there.
    pub async fn look_up(
        &self,
        rows: DataFrame,
        key: &str,
        (table, count): (DataFrame, u64),
        name: &str,
    ) -> Result<DataFrame> {
        if count > LOOKED_UP_IN {
            let of = table.schema().fields();
            let (theirs, value) = (formula::quote(of[0].name()), formula::quote(of[1].name()));
            let query = format!(
                "SELECT r.*, t.{value} AS {} FROM t RIGHT JOIN r ON t.{theirs} = r.{}",
                formula::quote(name),
                formula::quote(key)
            );
            return self.sql(&query, &[("r", &rows), ("t", &table)], &Words::none()).await;
        }
        let (state, rows) = rows.into_parts();
        let node = LookupNode::new(rows, table.into_parts().1, ident(key), name.to_owned())?;
        Ok(DataFrame::new(state, LogicalPlan::Extension(Extension { node: Arc::new(node) })))
    }

    /// Writes an intermediate result once, so that several plans may read it. It holds for the life of the scratch folder.
    ///
    /// # Errors
    /// When the plan fails or the store refuses.
    pub async fn materialise(&self, frame: DataFrame, name: &str) -> Result<DataFrame> {
        let route = Route::whole(name, &frame, Lifetime::Scratch);
        let (_, mut frames) = self.write(frame, vec![route]).await?;
        frames.remove(name).ok_or_else(|| internal_datafusion_err!("nothing was written of {name}"))
    }

    /// Writes the rows of a frame in one pass: below the prefixes of their routes, those of routes that live for scratch only into
    /// the scratch folder. Gives the files that are kept, and the rows of every route by its name.
    ///
    /// # Errors
    /// When the plan fails or the store refuses.
    pub async fn write(
        &self,
        frame: DataFrame,
        mut routes: Vec<Route>,
    ) -> Result<(Vec<WrittenFile>, BTreeMap<String, DataFrame>)> {
        let mut found: BTreeMap<String, (SchemaRef, Lifetime, Vec<StoredFile>)> = BTreeMap::new();
        for route in &mut routes {
            if route.lifetime == Lifetime::Scratch {
                route.prefix = format!("{}/{}", self.scratch.folder, route.name);
            }
            let columns = frame.clone().select(route.columns.clone())?;
            let schema = Arc::new(columns.schema().as_arrow().clone());
            found.insert(route.name.clone(), (schema, route.lifetime, Vec::new()));
        }
        let mut kept = write::write(frame, &self.scratch.store, routes).await?;
        kept.retain(|file| match found.get_mut(&file.route) {
            Some((_, lifetime, files)) => {
                files.push(StoredFile { path: file.path.clone(), bytes: file.bytes, rows: file.rows });
                *lifetime != Lifetime::Scratch
            }
            None => true,
        });
        let frames = found
            .into_iter()
            .map(|(name, (schema, _, files))| Ok((name, self.read(schema, &self.scratch.store, files)?)))
            .collect::<Result<_>>()?;
        Ok((kept, frames))
    }
}

/// The first row of a result, by column name.
///
/// # Errors
/// When the result has no row.
pub fn first_row(batches: &[RecordBatch]) -> Result<HashMap<String, ScalarValue>> {
    let batch = batches.iter().find(|b| b.num_rows() > 0).ok_or_else(|| {
        datafusion::common::DataFusionError::Execution("a query that has to give a row gave none".into())
    })?;
    batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| Ok((field.name().clone(), ScalarValue::try_from_array(column, 0)?)))
        .collect()
}
