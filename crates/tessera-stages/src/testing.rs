//! A stage by itself: tables in, tables out, as text.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, RecordBatch, StringArray},
        compute::{cast, concat_batches},
        datatypes::{DataType, SchemaRef},
        util::display::{ArrayFormatter, FormatOptions},
    },
    prelude::DataFrame,
};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use tessera_contract::{
    AsOf, Entity, Project,
    project::{self, Format},
    tables,
};
use tessera_engine::{Engine, Secret, Settings, StoredFile, Stores, session, source, write::WrittenFile};
use url::Url;

use crate::{Availability, Feed, Folders, Input, Neighbours, Night, Outcome, Source, Stage, StageError, ingest};

/// What a stage is given, and what is wanted of what it leaves.
pub(crate) struct Given<'a> {
    /// The project file.
    pub project: &'a str,
    /// The night.
    pub as_of: &'a str,
    /// The files of sources, as CSV, by entity.
    pub sources: &'a [(&'a str, &'a str)],
    /// The tables it reads, by name: a header and a row a line, cells between bars. What is not named is null, and a table
    /// that is not named is empty.
    pub tables: &'a [(&'a str, &'a str)],
    /// The same of the parent night. If its features are among them, and the stage reads other published nights, it is one.
    pub previous: &'a [(&'a str, &'a str)],
    /// The tables that are looked at; of each the columns, or all that are not null.
    pub looks_at: &'a [(&'a str, &'a str)],
}

/// Runs a stage and gives the tables that are looked at, or what it complains of.
pub(crate) async fn check(stage: &Stage, given: Given<'_>) -> String {
    match run(stage, &given).await {
        Ok(text) => text,
        Err(error) => format!("error: {error}"),
    }
}

async fn run(stage: &Stage, given: &Given<'_>) -> Result<String, StageError> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let base = Url::parse("memory:///").expect("a URL");
    let engine = engine(&base, &store);
    let project = Project::load("tessera.toml", given.project, &[]).expect("a project");
    let mut sources = Vec::new();
    for (name, text) in given.sources {
        let (of, feed) = name.split_once('.').map_or((*name, None), |(of, feed)| (of, Some(feed)));
        let entity = Entity::ALL.into_iter().find(|e| e.name() == of).expect("an entity");
        let settings = &project.feeds(entity).into_iter().find(|f| f.name == feed).expect("a source").source;
        let feed = opened(&engine, &base, &store, (name, feed), settings, text).await;
        match sources.iter_mut().find(|s: &&mut Source| s.entity == entity) {
            Some(source) => source.feeds.push(feed),
            None => sources.push(Source { entity, feeds: vec![feed], before: None, unchanged: false }),
        }
    }
    let frame = |name: &str, given: &[(&str, &str)]| {
        let schema = tables::find(&project, name).expect("a table").file_schema();
        match given.iter().find(|(given, _)| *given == name) {
            Some((_, text)) => engine.session().read_batch(batch(&schema, text)).expect("a frame"),
            None => engine.none(schema).expect("a frame"),
        }
    };
    let reads = stage.reads.iter();
    let inputs =
        reads.map(|name| ((*name).to_owned(), Input { frame: frame(name, given.tables), added: None })).collect();
    let previous: BTreeMap<_, _> =
        given.previous.iter().map(|(name, _)| ((*name).to_owned(), frame(name, given.previous))).collect();
    let as_of = AsOf::parse(given.as_of, &project.project.timezone).expect("a night");
    let published = stage.reads_neighbours.contains(&"features") && previous.contains_key("features");
    let before = published.then(|| (as_of.date().yesterday().expect("a day"), previous.clone()));
    let neighbours = Neighbours { before: before.into_iter().collect(), ..Neighbours::default() };
    let known = stage.reads_history.contains(&"features") && previous.contains_key("features");
    let history = known.then(|| (as_of.date().yesterday().expect("a day"), previous.clone()));
    let mut night = Night {
        project: &project,
        as_of,
        engine: &engine,
        sources: &sources,
        tables: inputs,
        parent: None,
        previous,
        neighbours,
        history: history.into_iter().collect(),
        kept: BTreeMap::new(),
        availability: Availability::default(),
        folders: Some(Folders {
            tables: stage.writes.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect(),
            kept: "kept".to_owned(),
        }),
    };
    if !sources.is_empty() {
        night.availability = ingest::plan(&night).await?;
    }
    let outcome = (stage.run)(&night).await?;
    let mut text = String::new();
    for (name, columns) in given.looks_at {
        let rows = table(&engine, &base, &outcome, &project, name).await;
        if !text.is_empty() {
            text.push('\n');
        }
        writeln!(text, "{name}").expect("writes");
        text.push_str(&shown(&rows, &columns.split_whitespace().collect::<Vec<_>>()));
    }
    Ok(text)
}

/// A CSV file as it is read.
pub(crate) async fn raw(text: &str) -> (Engine, DataFrame) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let base = Url::parse("memory:///").expect("a URL");
    let engine = engine(&base, &store);
    let project = Project::load("t", "[sources.transactions]\nurl = \"x.csv\"\n", &[]).expect("a project");
    let settings = &project.sources["transactions"];
    let feed = opened(&engine, &base, &store, ("x", None), settings, text).await;
    (engine, feed.rows.expect("rows"))
}

fn engine(base: &Url, store: &Arc<dyn ObjectStore>) -> Engine {
    let settings = Settings { partitions: 2.try_into().expect("some"), memory_limit: None, spill_dir: None };
    let stores = Arc::new(Stores::new(Box::new(|url| Ok(object_store::parse_url(url)?.0.into()))));
    let state = session::state(&settings, Some(&Secret::new(b"secret")), stores).expect("a state");
    let engine = Engine::new(state, session::Scratch { store: base.clone(), folder: "scratch".into() });
    engine.register_store(base, Arc::clone(store));
    engine
}

async fn opened(
    engine: &Engine,
    base: &Url,
    store: &Arc<dyn ObjectStore>,
    (name, feed): (&str, Option<&str>),
    settings: &project::Source,
    text: &str,
) -> Feed {
    let location = format!("{name}.csv");
    store.put(&location.as_str().into(), text.to_owned().into()).await.expect("writes");
    let files = source::list(store, base, &location, None).await.expect("lists").files;
    let format = source::SourceFormat::of(Format::Csv, settings);
    let table = source::open(Arc::clone(store), base, format, files).await.expect("opens");
    let (files, footers, lacks) = (table.files().to_vec(), table.footers().to_vec(), table.lacks().to_vec());
    let rows = Some(engine.session().read_table(Arc::new(table)).expect("a frame"));
    Feed { name: feed.map(str::to_owned), rows, computed: false, files, footers, lacks }
}

/// The rows of a table in the columns of its contract.
fn batch(schema: &SchemaRef, text: &str) -> RecordBatch {
    let mut lines = text
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|l| l.len() > 1 || !l[0].is_empty());
    let header = lines.next().expect("a header");
    for name in &header {
        assert!(schema.field_with_name(name).is_ok(), "the table has no column {name}");
    }
    let rows: Vec<Vec<&str>> = lines.collect();
    let columns = schema.fields().iter().map(|field| {
        let at = header.iter().position(|name| name == field.name());
        let cell = |row: &Vec<&'_ str>| at.map(|at| row[at].to_owned()).filter(|cell| !cell.is_empty());
        let texts: ArrayRef = Arc::new(rows.iter().map(cell).collect::<StringArray>());
        match field.data_type() {
            DataType::List(_) => arrow::array::new_null_array(field.data_type(), rows.len()),
            kind => cast(&texts, kind).expect("casts"),
        }
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).expect("a batch")
}

/// All rows that go to a table.
async fn table(engine: &Engine, base: &Url, outcome: &Outcome, project: &Project, name: &str) -> RecordBatch {
    let schema = tables::find(project, name).expect("a table").file_schema();
    let mut batches = Vec::new();
    for written in outcome.written.iter().filter(|w| w.name == name) {
        let stored = |f: &WrittenFile| StoredFile { path: f.path.clone(), bytes: f.bytes, rows: f.rows };
        let files = written.files.iter().map(stored).collect();
        let frame = engine.read(Arc::clone(&schema), base, files).expect("reads");
        for batch in frame.collect().await.expect("runs") {
            let columns = batch.columns().iter().zip(schema.fields()).map(|(c, f)| cast(c, f.data_type()));
            let columns = columns.collect::<Result<_, _>>().expect("casts");
            batches.push(RecordBatch::try_new(Arc::clone(&schema), columns).expect("a batch"));
        }
    }
    for output in &outcome.outputs {
        for route in output.routes.iter().filter(|r| r.name == name) {
            let mut frame: DataFrame = output.frame.clone();
            if let Some(filter) = &route.filter {
                frame = frame.filter(filter.clone()).expect("filters");
            }
            let frame = frame.select(route.columns.clone()).expect("selects");
            for batch in frame.collect().await.expect("runs") {
                let columns = batch.columns().iter().zip(schema.fields()).map(|(c, f)| cast(c, f.data_type()));
                let columns = columns.collect::<Result<_, _>>().expect("casts");
                batches.push(RecordBatch::try_new(Arc::clone(&schema), columns).expect("a batch"));
            }
        }
    }
    concat_batches(&schema, &batches).expect("one batch")
}

/// Aligned columns of some of the columns; the rows in their order as text.
fn shown(batch: &RecordBatch, columns: &[&str]) -> String {
    let options = FormatOptions::default();
    let wanted: Vec<(String, Vec<String>)> = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .filter(
            |(f, c)| if columns.is_empty() { c.null_count() < c.len() } else { columns.contains(&f.name().as_str()) },
        )
        .map(|(field, column)| {
            let formatter = ArrayFormatter::try_new(column, &options).expect("formats");
            let cells = (0..column.len()).map(|row| match column.is_null(row) {
                true => String::new(),
                false if column.data_type() == &DataType::Float64 => short(&formatter.value(row).to_string()),
                false => formatter.value(row).to_string(),
            });
            (field.name().clone(), cells.collect())
        })
        .collect();
    let widths: Vec<usize> = wanted
        .iter()
        .map(|(name, cells)| cells.iter().chain([name]).map(|c| c.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect();
        format!("{}\n", padded.join(" | ").trim_end())
    };
    let mut rows: Vec<String> =
        (0..batch.num_rows()).map(|row| line(wanted.iter().map(|(_, cells)| cells[row].as_str()).collect())).collect();
    rows.sort();
    rows.insert(0, line(wanted.iter().map(|(name, _)| name.as_str()).collect()));
    rows.concat()
}

/// Six digits are enough to read.
fn short(number: &str) -> String {
    let value: f64 = number.parse().expect("a number");
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
