//! What a command works with: the project, the lake and the engine.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use datafusion::prelude::DataFrame;
use tessera_cluster::{Cluster, Guards, InProcess, Vocabulary};
use tessera_contract::{
    AsOf, Entity, Project,
    project::{Population, parse_bytes},
    table::Class,
    tables,
};
use tessera_engine::{
    Codec, Engine, Secret, Settings, Stores,
    session::{self, Scratch},
};
use tessera_lake::{DataFile, Lake};
use tokio::sync::OnceCell;
use url::Url;

use crate::{
    cli::{Common, Place},
    commands::identity,
    errors::Usage,
    progress::Job,
    secret, store,
};

/// The project and its lake.
pub struct Context {
    /// The resolved project.
    pub project: Project,
    /// The project file's folder: where relative paths start.
    pub folder: PathBuf,
    /// The lake.
    pub lake: Lake,
    place: Place,
    in_process: OnceCell<InProcess>,
    /// The job that a cluster works on, to be watched.
    pub job: Arc<Job>,
}

impl Context {
    /// Reads the project file and opens the lake.
    pub fn open(common: &Common) -> Result<Self> {
        let file = common.project.display().to_string();
        let text = std::fs::read_to_string(&common.project).map_err(|e| {
            Usage(format!("the project file {file} cannot be read: {e}; name another with --project, or make one with `tessera init`"))
        })?;
        let folder = common.project.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        Self::new(common, &file, &text, folder, true)
    }

    /// The same with what people decided of accounts, for what runs or plans a night.
    pub fn open_for_night(common: &Common) -> Result<Self> {
        Self::open(common)?.with_decisions()
    }

    /// The same for commands that do not need a project: without a file, the defaults.
    pub fn open_or_default(common: &Common) -> Result<Self> {
        if common.project.exists() || common.lake.is_none() {
            return Self::open(common);
        }
        Self::without_project(common)
    }

    /// The same where there is no project yet.
    pub fn without_project(common: &Common) -> Result<Self> {
        Self::new(common, "defaults", "", PathBuf::from("."), false)
    }

    fn new(common: &Common, file: &str, text: &str, folder: PathBuf, needs_sources: bool) -> Result<Self> {
        let project = Project::load(file, text, &common.set)?;
        let buyers = project.segmentation.population == Population::Buyers;
        let needed = if buyers { Entity::Transactions } else { Entity::Customers };
        if needs_sources && !project.sources.is_empty() && !project.gives(needed) {
            let why = match buyers {
                true => "it is the one source that every project needs, unless segmentation.population = \"customers\"",
                false => "with segmentation.population = \"customers\" it is the one source that is needed",
            };
            return Err(Usage(format!("{file}: [sources.{needed}] is missing; {why}")).into());
        }
        let lake = match &common.lake {
            Some(url) => Lake::open_with(url, store::open),
            None => Lake::open_with(&resolve(&folder, &project.lake.url), store::open),
        }?;
        Ok(Self {
            project,
            folder,
            lake,
            place: common.engine.clone(),
            in_process: OnceCell::new(),
            job: Arc::default(),
        })
    }

    /// With what people decided of accounts, if there is a file of it.
    fn with_decisions(mut self) -> Result<Self> {
        let file = &self.project.identity.decisions;
        if file.is_empty() {
            return Ok(self);
        }
        if Path::new(&resolve(&self.folder, file)).exists() {
            self.project.identity.decided = identity::decisions(&self.folder, file, &self.secret()?)?;
        } else if Project::load("", "", &[]).is_ok_and(|usual| usual.identity.decisions != *file) {
            tracing::warn!("there is no file {file} (identity.decisions): nobody has decided anything");
        }
        Ok(self)
    }

    /// The night of a date that was typed.
    pub fn night(&self, date: &str) -> Result<AsOf> {
        Ok(AsOf::parse(date, &self.project.project.timezone)?)
    }

    /// Whether the lake is a folder of this machine.
    pub fn local_lake(&self) -> bool {
        self.lake.url().scheme() == "file"
    }

    /// Makes the folders of tables with rows of single people, and that of runs, for this user alone; those that are there already are their
    /// owner's to open. In an object store, who reads what is the bucket's to say.
    pub fn keep_private(&self) -> Result<()> {
        let lake = self.lake.url().to_file_path();
        let Some(lake) = lake.ok().filter(|_| self.local_lake()) else { return Ok(()) };
        let tables = tables::all(&self.project).into_iter().filter(|t| t.class != Class::Aggregate).map(|t| t.name);
        std::fs::create_dir_all(&lake).with_context(|| format!("the folder {} cannot be made", lake.display()))?;
        for folder in tables.chain(["_tessera".to_owned()]).map(|name| lake.join(name)) {
            let mut builder = std::fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            match builder.create(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("the folder {} cannot be made", folder.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The secret.
    pub fn secret(&self) -> Result<Secret> {
        secret::find(&self.folder, self.local_lake())
    }

    /// The store's URL without a path: what the engine knows it by.
    pub fn store_url(&self) -> Result<Url> {
        let mut url = self.lake.url().clone();
        url.set_path("/");
        url.set_query(None);
        Ok(url)
    }

    /// A data file of the lake for the engine.
    pub fn stored(&self, path: &str, bytes: u64, rows: u64) -> tessera_engine::StoredFile {
        tessera_engine::StoredFile { path: self.lake.path(path).to_string(), bytes, rows }
    }

    /// The rows of data files of the lake, by bucket where they are kept in buckets and that is wanted.
    pub fn frame(
        &self,
        engine: &Engine,
        schema: arrow::datatypes::SchemaRef,
        files: &[DataFile],
        buckets: bool,
    ) -> Result<DataFrame> {
        let files = files.iter().map(|f| self.stored(&f.path, f.bytes, f.rows)).collect();
        let store = self.store_url()?;
        Ok(if buckets { engine.read_buckets(schema, &store, files)? } else { engine.read(schema, &store, files)? })
    }

    /// An engine whose intermediate results go to `scratch` of the lake. Without the secret it makes no keys of customers.
    pub async fn engine(&self, secret: Option<&Secret>, scratch: &str) -> Result<Engine> {
        let settings = &self.project.engine;
        let cluster = match &self.place {
            Place::Local => None,
            Place::Cluster(address) => Some(Cluster::connect(address, PATIENCE).await?),
            Place::InProcess => {
                let inside = self.in_process.get_or_try_init(async || in_process(secret)).await?;
                Some(Cluster::connect(&inside.address(), PATIENCE).await?)
            }
        };
        let cores = match &cluster {
            None => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            Some(cluster) => NonZeroUsize::new(cluster.vcores()).unwrap_or(NonZeroUsize::MIN),
        };
        let settings = Settings {
            partitions: NonZeroUsize::new(settings.partitions).unwrap_or(cores),
            memory_limit: parse_bytes(&settings.memory_limit).and_then(|b| usize::try_from(b).ok()).filter(|b| *b > 0),
            spill_dir: (!settings.spill_dir.is_empty()).then(|| PathBuf::from(&settings.spill_dir)),
        };
        let vocabulary = vocabulary(&settings, secret).context("the engine could not be started")?;
        let state = match cluster {
            None => vocabulary.state,
            Some(cluster) => {
                let job = Arc::clone(&self.job);
                cluster.session(&vocabulary, Arc::new(move |progress| job.note(progress)))
            }
        };
        let store = self.store_url()?;
        let folder = self.lake.path(scratch).to_string();
        let engine = Engine::new(state, Scratch { store: store.clone(), folder });
        engine.register_store(&store, self.lake.store());
        Ok(engine)
    }
}

/// How long a cluster may be silent, or without an executor, before the night gives up for now.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a plan may contain, for sessions and for the roles of a cluster.
pub fn vocabulary(settings: &Settings, secret: Option<&Secret>) -> Result<Vocabulary> {
    let state = session::state(settings, secret, Arc::new(Stores::new(Box::new(store::open))))?;
    let secret = secret.cloned();
    Ok(Vocabulary { state, codec: Arc::new(move |others| Arc::new(Codec::new(secret.clone(), others))) })
}

/// A scheduler and two executors in this process.
fn in_process(secret: Option<&Secret>) -> Result<InProcess> {
    let settings = Settings { partitions: NonZeroUsize::MIN, memory_limit: None, spill_dir: None };
    let folder = std::env::temp_dir().join(format!("tessera-cluster-{}", uuid::Uuid::new_v4().simple()));
    let mut inside = InProcess::start(vocabulary(&settings, secret)?, folder, Guards::default())?;
    for _ in 0..2 {
        inside.add_executor(1)?;
    }
    Ok(inside)
}

/// A path or URL of the project file, seen from where the command runs.
pub fn resolve(folder: &Path, url: &str) -> String {
    if url.contains("://") || Path::new(url).is_absolute() {
        return url.to_owned();
    }
    folder.join(url).display().to_string()
}
