//! The registry's rows as they are stored: scalar columns, and JSON text where a column holds a
//! structure, so that any reader of Parquet can use them and recompute the chain.
//!
//! A row's hash covers the stored text itself and not what is parsed from it: no reader can disagree
//! about how a number is written.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::commit::parse_date;
use crate::{AS_OF, LakeError, SnapshotContent, SnapshotRecord, SnapshotState};

/// Version of the row format; a change of columns or of the hash makes a new one.
const FORMAT: i32 = 3;

/// What stands before the first row of the chain.
pub(crate) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The columns of the table with their types and comments.
const COLUMNS: [(&str, DataType, &str); 24] = [
    (AS_OF, DataType::Date32, "the night"),
    ("snapshot_id", DataType::Utf8, "the night and 12 hex digits of the content's SHA-256"),
    ("state", DataType::Utf8, "published, held, retracted or expired"),
    ("run_id", DataType::Utf8, "the run that left this snapshot"),
    ("sequence", DataType::Int64, "place in the chain, from 0 without gaps"),
    (
        "parent",
        DataType::Utf8,
        "snapshot that the night went on from, or that is retracted or expired; empty for the first",
    ),
    (
        "tables",
        DataType::Utf8,
        "JSON object by table: version, fingerprint, rows, files, bytes, digest of the list of files",
    ),
    ("stages", DataType::Utf8, "JSON object by stage: the document that records it"),
    ("inputs", DataType::Utf8, "JSON array by entity: files, bytes, rows; the files stand in the table inputs"),
    ("sources", DataType::Utf8, "hash over the state of the source files: URL, size, entity tag"),
    ("project_hash", DataType::Utf8, "hash of the project file and definitions"),
    ("project", DataType::Utf8, "document with the resolved project, named by the SHA-256 of its text"),
    ("code_version", DataType::Utf8, "version of the program"),
    ("code_commit", DataType::Utf8, "commit that the program was built from, empty where unknown"),
    ("secret", DataType::Utf8, "identity of the secret under which keys were made"),
    ("seed", DataType::Int64, "seed of everything random"),
    ("gates", DataType::Utf8, "JSON array of gates: metric, scope, value, threshold, state, required"),
    ("evidence", DataType::Utf8, "JSON object of Delta commits and documents of the run by their path: SHA-256"),
    ("why", DataType::Utf8, "why a snapshot was retracted or expired"),
    ("recorded_by", DataType::Utf8, "user@host of the runner"),
    ("published_at", DataType::Utf8, "when the run finished, as the runner's clock said"),
    ("previous_hash", DataType::Utf8, "hash of the row before, 64 zeros for the first"),
    ("hash", DataType::Utf8, "SHA-256 of previous_hash, a line feed, and the other columns as JSON with sorted keys"),
    ("format", DataType::Int32, "version of this row's format"),
];

/// One stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Days since 1970-01-01.
    pub as_of: i32,
    pub sequence: i64,
    pub seed: i64,
    pub format: i32,
    /// The text columns, by name.
    text: BTreeMap<&'static str, String>,
}

impl Row {
    /// The row of a finished run at a place in the chain.
    pub(crate) fn new(content: &SnapshotContent, sequence: i64, previous_hash: &str) -> Result<Self, LakeError> {
        let text = BTreeMap::from([
            ("snapshot_id", String::new()),
            ("state", content.state.to_string()),
            ("run_id", content.run_id.clone()),
            ("parent", content.parent.clone()),
            ("tables", json_text("tables", &content.tables)?),
            ("stages", json_text("stages", &content.stages)?),
            ("inputs", json_text("inputs", &content.inputs)?),
            ("sources", content.sources.clone()),
            ("project_hash", content.project_hash.clone()),
            ("project", content.project.clone()),
            ("code_version", content.code_version.clone()),
            ("code_commit", content.code_commit.clone()),
            ("secret", content.secret.clone()),
            ("gates", json_text("gates", &content.gates)?),
            ("evidence", json_text("evidence", &content.evidence)?),
            ("why", content.why.clone()),
            ("recorded_by", content.recorded_by.clone()),
            ("published_at", content.published_at.clone()),
            ("previous_hash", previous_hash.to_owned()),
            ("hash", String::new()),
        ]);
        let mut row = Self { as_of: parse_date(&content.as_of)?, sequence, seed: content.seed, format: FORMAT, text };
        row.text.insert("snapshot_id", row.expected_id());
        row.text.insert("hash", row.expected_hash());
        Ok(row)
    }

    pub(crate) fn text(&self, column: &str) -> &str {
        self.text.get(column).map_or("", String::as_str)
    }

    /// The id that follows from the content.
    pub(crate) fn expected_id(&self) -> String {
        let place = ["snapshot_id", "sequence", "evidence", "recorded_by", "published_at", "previous_hash", "hash"];
        let digest = hex::encode(Sha256::digest(self.canonical(&place)));
        format!("{}-{}", self.night(), &digest[..12])
    }

    /// The hash that follows from the row and the hash before it.
    pub(crate) fn expected_hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.text("previous_hash"));
        hasher.update("\n");
        hasher.update(self.canonical(&["previous_hash", "hash"]));
        hex::encode(hasher.finalize())
    }

    /// The columns as one JSON object with sorted keys and without white space.
    fn canonical(&self, without: &[&str]) -> String {
        let mut columns: BTreeMap<&str, Value> =
            self.text.iter().map(|(name, text)| (*name, Value::from(text.as_str()))).collect();
        columns.insert(AS_OF, Value::from(self.night()));
        columns.insert("sequence", Value::from(self.sequence));
        columns.insert("seed", Value::from(self.seed));
        columns.insert("format", Value::from(self.format));
        let members: Vec<String> = columns
            .iter()
            .filter(|(name, _)| !without.contains(name))
            .map(|(name, value)| format!("{}:{value}", Value::from(*name)))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    fn night(&self) -> String {
        Date32Array::from(vec![self.as_of]).value_as_date(0).map(|date| date.to_string()).unwrap_or_default()
    }

    /// The row with its structures parsed.
    pub(crate) fn record(&self) -> Result<SnapshotRecord, LakeError> {
        let state = match self.text("state") {
            "published" => SnapshotState::Published,
            "held" => SnapshotState::Held,
            "retracted" => SnapshotState::Retracted,
            "expired" => SnapshotState::Expired,
            other => return Err(self.refuse("state", &format!("{other:?} is no state"))),
        };
        Ok(SnapshotRecord {
            snapshot_id: self.text("snapshot_id").to_owned(),
            sequence: self.sequence,
            content: SnapshotContent {
                run_id: self.text("run_id").to_owned(),
                as_of: self.night(),
                state,
                parent: self.text("parent").to_owned(),
                tables: self.parse("tables")?,
                stages: self.parse("stages")?,
                inputs: self.parse("inputs")?,
                sources: self.text("sources").to_owned(),
                project_hash: self.text("project_hash").to_owned(),
                project: self.text("project").to_owned(),
                code_version: self.text("code_version").to_owned(),
                code_commit: self.text("code_commit").to_owned(),
                secret: self.text("secret").to_owned(),
                seed: self.seed,
                gates: self.parse("gates")?,
                evidence: self.parse("evidence")?,
                why: self.text("why").to_owned(),
                recorded_by: self.text("recorded_by").to_owned(),
                published_at: self.text("published_at").to_owned(),
            },
            previous_hash: self.text("previous_hash").to_owned(),
            hash: self.text("hash").to_owned(),
        })
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, LakeError> {
        serde_json::from_str(self.text(column)).map_err(|e| self.refuse(column, &e.to_string()))
    }

    fn refuse(&self, column: &str, problem: &str) -> LakeError {
        LakeError::Registry { place: format!("row {}, column {column}", self.sequence), problem: problem.to_owned() }
    }
}

fn json_text(column: &str, value: &impl serde::Serialize) -> Result<String, LakeError> {
    serde_json::to_string(value)
        .map_err(|e| LakeError::Registry { place: format!("column {column}"), problem: e.to_string() })
}

/// The columns of the table, the night first.
pub(crate) fn schema() -> SchemaRef {
    let fields: Vec<Field> = COLUMNS
        .iter()
        .map(|(name, data_type, comment)| {
            Field::new(*name, data_type.clone(), false)
                .with_metadata([("comment".to_owned(), (*comment).to_owned())].into())
        })
        .collect();
    let description = "one row per run: what it left, from what, and its place in the hash chain";
    let metadata = [("description".to_owned(), description.to_owned())].into();
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// The names of the text columns.
fn text_columns() -> impl Iterator<Item = &'static str> {
    let texts = COLUMNS.iter().filter(|(_, data_type, _)| *data_type == DataType::Utf8);
    texts.map(|(name, _, _)| *name)
}

/// One Parquet file of rows.
pub(crate) fn encode(rows: &[Row]) -> Result<Bytes, LakeError> {
    let refuse = |e: &dyn std::error::Error| LakeError::Registry { place: "new file".into(), problem: e.to_string() };
    let columns: Vec<ArrayRef> = COLUMNS
        .iter()
        .map(|(name, _, _)| -> ArrayRef {
            match *name {
                AS_OF => Arc::new(Date32Array::from_iter_values(rows.iter().map(|r| r.as_of))),
                "sequence" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.sequence))),
                "seed" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.seed))),
                "format" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.format))),
                text => Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.text(text)))),
            }
        })
        .collect();
    let batch = RecordBatch::try_new(schema(), columns).map_err(|e| refuse(&e))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options).map_err(|e| refuse(&e))?;
    writer.write(&batch).map_err(|e| refuse(&e))?;
    let bytes = writer.into_inner().map_err(|e| refuse(&e))?;
    Ok(bytes.into())
}

/// The rows of one Parquet file.
pub(crate) fn decode(place: &str, bytes: Bytes) -> Result<Vec<Row>, LakeError> {
    // A damaged file can make the library panic.
    catch_unwind(AssertUnwindSafe(|| read(place, bytes))).unwrap_or_else(|_| {
        let problem = "its reader gave up: it is damaged".to_owned();
        Err(LakeError::Registry { place: place.to_owned(), problem })
    })
}

fn read(place: &str, bytes: Bytes) -> Result<Vec<Row>, LakeError> {
    let refuse = |problem: String| LakeError::Registry { place: place.to_owned(), problem };
    // Parquet's types say all that is needed.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let batches = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)
        .and_then(|builder| builder.build())
        .map_err(|e| refuse(e.to_string()))?;
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch.map_err(|e| refuse(e.to_string()))?;
        let format: &Int32Array = column(&batch, "format").map_err(refuse)?;
        if let Some(other) = format.iter().flatten().find(|f| *f != FORMAT) {
            return Err(refuse(format!(
                "its rows are of format {other}, this program knows {FORMAT} alone; a lake of another version is left as it \
                 is: name a new one, and let the sources give the same nights again (tessera backfill)"
            )));
        }
        let as_of: &Date32Array = column(&batch, AS_OF).map_err(refuse)?;
        let sequence: &Int64Array = column(&batch, "sequence").map_err(refuse)?;
        let seed: &Int64Array = column(&batch, "seed").map_err(refuse)?;
        let mut texts = Vec::new();
        for name in text_columns() {
            let values: &StringArray = column(&batch, name).map_err(refuse)?;
            texts.push((name, values));
        }
        for i in 0..batch.num_rows() {
            rows.push(Row {
                as_of: as_of.value(i),
                sequence: sequence.value(i),
                seed: seed.value(i),
                format: format.value(i),
                text: texts.iter().map(|(name, values)| (*name, values.value(i).to_owned())).collect(),
            });
        }
    }
    Ok(rows)
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A, String> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_any().downcast_ref::<A>())
        .ok_or_else(|| format!("column {name} is missing or of another type"))
}
