//! From an Arrow schema to what the Delta log says about a table, and how that may change later.
//!
//! A table's columns are matched by name. What is there keeps its place and its type; new columns
//! come last and are nullable, because older nights don't have them; a nullable column that a night
//! no longer brings stays and reads as null for that night. Anything else is an error that names the
//! column.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{
    Action, EagerSnapshot, MetadataExt, Protocol, StructField, StructType, contains_timestampntz,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{AS_OF, Lake, LakeError};

/// Commits between two checkpoints of a log.
const CHECKPOINT_INTERVAL: u64 = 10;

/// Whether a checkpoint is made of a version.
pub(crate) fn is_checkpointed(version: i64) -> bool {
    (version.cast_unsigned() + 1).is_multiple_of(CHECKPOINT_INTERVAL)
}

/// How a table is laid out: every table of the pipeline by night, the registry not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partitioning {
    AsOf,
    None,
}

impl Partitioning {
    pub(crate) fn columns(self) -> Vec<String> {
        match self {
            Self::AsOf => vec![AS_OF.to_owned()],
            Self::None => Vec::new(),
        }
    }
}

/// What a writer says about its table.
#[derive(Clone, Debug)]
pub(crate) struct TableShape {
    table: String,
    description: Option<String>,
    columns: StructType,
    partitioning: Partitioning,
}

impl TableShape {
    /// Checks that the columns can be stored and that a partitioned table begins with `as_of`.
    pub(crate) fn new(table: &str, schema: &Schema, partitioning: Partitioning) -> Result<Self, LakeError> {
        if partitioning == Partitioning::AsOf {
            let first = schema.fields().first();
            if !first.is_some_and(|f| f.name() == AS_OF && *f.data_type() == DataType::Date32) {
                return Err(column_error(table, AS_OF, "it must be the first column, a Date32"));
            }
        }
        let fields = schema.fields().iter().map(|field| to_delta(table, field)).collect::<Result<Vec<_>, _>>()?;
        let columns = StructType::try_new(fields).map_err(|e| column_error(table, "*", &e.to_string()))?;
        Ok(Self {
            table: table.to_owned(),
            description: schema.metadata().get("description").cloned(),
            columns,
            partitioning,
        })
    }

    /// The protocol and metadata actions that a commit on top of `current` needs: all of them for a
    /// new table, those that changed for an existing one, mostly none. `created` is in milliseconds
    /// since the epoch.
    pub(crate) fn actions(
        &self,
        lake: &Lake,
        current: Option<&EagerSnapshot>,
        created: i64,
    ) -> Result<Vec<Action>, LakeError> {
        let Some(current) = current else {
            let metadata = json!({
                "id": table_id(lake, &self.table),
                "name": self.table,
                "description": self.description,
                "format": { "provider": "parquet", "options": {} },
                "schemaString": self.json(lake, &self.columns)?,
                "partitionColumns": self.partitioning.columns(),
                "configuration": configuration(),
                "createdTime": created,
            });
            let metadata = serde_json::from_value(metadata)
                .map_err(|json_err| self.log_error(lake, DeltaTableError::SerializeLogJson { json_err }))?;
            return Ok(vec![Action::Protocol(self.protocol(lake, &self.columns)?), Action::Metadata(metadata)]);
        };

        let stored = current.schema();
        let merged = merge(&self.table, &stored, &self.columns)?;
        let described = current.metadata().description();
        let redescribed = self.description.as_deref().filter(|new| Some(*new) != described);
        let mut actions = Vec::new();
        if contains_timestampntz(merged.fields()) && !contains_timestampntz(stored.fields()) {
            actions.push(Action::Protocol(self.protocol(lake, &merged)?));
        }
        if merged != *stored || redescribed.is_some() {
            let mut metadata = current.metadata().clone();
            if let Some(description) = redescribed {
                metadata =
                    metadata.with_description(description.to_owned()).map_err(|e| self.log_error(lake, e.into()))?;
            }
            let metadata = metadata.with_schema(&merged).map_err(|e| self.log_error(lake, e.into()))?;
            actions.push(Action::Metadata(metadata));
        }
        Ok(actions)
    }

    pub(crate) fn partitioning(&self) -> Partitioning {
        self.partitioning
    }

    /// The oldest protocol that can express the columns, so that every reader can read them.
    fn protocol(&self, lake: &Lake, columns: &StructType) -> Result<Protocol, LakeError> {
        let protocol = if contains_timestampntz(columns.fields()) {
            json!({
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["timestampNtz"],
                "writerFeatures": ["appendOnly", "timestampNtz"],
            })
        } else {
            json!({ "minReaderVersion": 1, "minWriterVersion": 2 })
        };
        serde_json::from_value(protocol)
            .map_err(|json_err| self.log_error(lake, DeltaTableError::SerializeLogJson { json_err }))
    }

    fn json(&self, lake: &Lake, columns: &StructType) -> Result<String, LakeError> {
        serde_json::to_string(columns)
            .map_err(|json_err| self.log_error(lake, DeltaTableError::SerializeLogJson { json_err }))
    }

    fn log_error(&self, lake: &Lake, source: DeltaTableError) -> LakeError {
        lake.delta_error("describe", &self.table, source)
    }
}

/// Old versions must stay readable for as long as a snapshot names them, so that neither this crate
/// nor another Delta writer may tidy them away: `tessera vacuum` alone knows what is still needed. Twenty years keep any
/// file that there is; removals without a time count as of 1970, and are older.
fn configuration() -> serde_json::Value {
    json!({
        "delta.checkpointInterval": CHECKPOINT_INTERVAL.to_string(),
        "delta.deletedFileRetentionDuration": "interval 7300 days",
        "delta.enableExpiredLogCleanup": "false",
        "delta.logRetentionDuration": "interval 36500 days",
    })
}

/// The same table of the same lake always has the same id, so that racing creators agree.
fn table_id(lake: &Lake, table: &str) -> String {
    let digest = Sha256::digest(lake.place(&format!("{table}/")).as_str());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn to_delta(table: &str, field: &Arc<Field>) -> Result<StructField, LakeError> {
    if let Some(problem) = unsupported(field.data_type()) {
        return Err(column_error(table, field.name(), problem));
    }
    let mut plain = field.as_ref().clone();
    plain.set_metadata(
        field
            .metadata()
            .get_key_value("comment")
            .map(|(key, comment)| (key.clone(), comment.clone()))
            .into_iter()
            .collect(),
    );
    (&plain).try_into_kernel().map_err(|e| column_error(table, field.name(), &e.to_string()))
}

/// Types that the Delta library would accept although other readers of the files trip over them.
fn unsupported(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            Some("Delta has no unsigned integers; cast it to a signed one")
        }
        DataType::Timestamp(unit, _) if *unit != TimeUnit::Microsecond => {
            Some("Delta timestamps are in microseconds; cast it")
        }
        DataType::Date64 => Some("Delta dates are days; cast it to Date32"),
        DataType::Null => Some("it has no type; cast it"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            unsupported(item.data_type())
        }
        DataType::Map(entries, _) => unsupported(entries.data_type()),
        DataType::Struct(fields) => fields.iter().find_map(|f| unsupported(f.data_type())),
        _ => None,
    }
}

fn merge(table: &str, stored: &StructType, incoming: &StructType) -> Result<StructType, LakeError> {
    let kept = stored.fields().map(|old| {
        let Some(new) = incoming.field(old.name()) else {
            return match old.is_nullable() {
                true => Ok(old.clone()),
                false => {
                    Err(column_error(table, old.name(), "it is required by the table but missing from this night"))
                }
            };
        };
        if new.data_type() != old.data_type() {
            let problem = format!("the table has {}, this night {}", old.data_type(), new.data_type());
            return Err(column_error(table, old.name(), &problem));
        }
        let mut merged = old.clone();
        merged.nullable |= new.nullable;
        merged.metadata.extend(new.metadata.clone());
        Ok(merged)
    });
    let added = incoming.fields().filter(|new| stored.field(new.name()).is_none()).map(|new| {
        let mut added = new.clone();
        added.nullable = true;
        Ok(added)
    });
    let fields = kept.chain(added).collect::<Result<Vec<_>, _>>()?;
    StructType::try_new(fields).map_err(|e| column_error(table, "*", &e.to_string()))
}

fn column_error(table: &str, column: &str, problem: &str) -> LakeError {
    LakeError::Column { table: table.to_owned(), column: column.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(fields: Vec<Field>) -> StructType {
        let schema = Schema::new(fields);
        TableShape::new("t", &schema, Partitioning::None).unwrap().columns
    }

    fn merged(stored: Vec<Field>, incoming: Vec<Field>) -> Result<Vec<String>, String> {
        merge("t", &columns(stored), &columns(incoming))
            .map(|merged| {
                let describe = |f: &StructField| format!("{}{}", f.name(), if f.nullable { "?" } else { "" });
                merged.fields().map(describe).collect()
            })
            .map_err(|e| e.to_string())
    }

    #[test]
    fn columns_are_matched_by_name_and_only_ever_widen() {
        let int = |name, nullable| Field::new(name, DataType::Int64, nullable);
        let text = |name| Field::new(name, DataType::Utf8, true);
        let stored = || vec![int("a", false), text("b")];
        assert_eq!(merged(stored(), stored()).unwrap(), ["a", "b?"]);
        let wider = vec![int("c", false), text("b"), int("a", true)];
        assert_eq!(merged(stored(), wider).unwrap(), ["a?", "b?", "c?"]);
        assert_eq!(merged(stored(), vec![int("a", false)]).unwrap(), ["a", "b?"]);
        assert_eq!(
            merged(stored(), vec![text("b")]).unwrap_err(),
            "column a of table t: it is required by the table but missing from this night"
        );
        assert_eq!(
            merged(stored(), vec![text("a"), text("b")]).unwrap_err(),
            "column a of table t: the table has long, this night string"
        );
    }

    #[test]
    fn types_that_other_readers_trip_over_are_refused() {
        let check = |data_type| {
            let schema = Schema::new(vec![Field::new("x", data_type, true)]);
            TableShape::new("t", &schema, Partitioning::None).map(drop)
        };
        assert!(check(DataType::UInt64).is_err());
        assert!(check(DataType::new_list(DataType::UInt8, true)).is_err());
        assert!(check(DataType::Timestamp(TimeUnit::Nanosecond, None)).is_err());
        assert!(check(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))).is_ok());
        assert!(check(DataType::Decimal128(18, 2)).is_ok());
    }

    #[test]
    fn the_night_comes_first() {
        let schema = Schema::new(vec![Field::new("x", DataType::Int64, true)]);
        assert!(TableShape::new("t", &schema, Partitioning::AsOf).is_err());
    }
}
