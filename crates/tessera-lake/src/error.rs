//! What can go wrong in the lake, always with the place where it did.

use std::error::Error;

use deltalake_core::DeltaTableError;
use object_store::client::{HttpError, HttpErrorKind};

/// An error of the lake. The text names the place; the cause is the [`Error::source`].
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The URL cannot be the root of a lake.
    #[error("{url} cannot be used as a lake: {problem}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it, and what is accepted.
        problem: String,
    },
    /// The object store refused or failed an operation.
    #[error("could not {action} {place}")]
    Store {
        /// What was attempted: `read`, `write`, `list`, `delete`, `open`.
        action: &'static str,
        /// The URL of the object or folder.
        place: String,
        /// The store's answer.
        source: object_store::Error,
    },
    /// The store overwrites where it was asked to create, so that two writers could lose each
    /// other's commits.
    #[error(
        "the store of {url} does not honour conditional writes (If-None-Match); use a store that does, \
         or switch them on"
    )]
    NoConditionalPut {
        /// The lake.
        url: String,
    },
    /// A Delta log could not be read or written.
    #[error("could not {action} the Delta table {table} at {url}")]
    Delta {
        /// What was attempted: `read`, `commit to`, with the version where one was asked for.
        action: String,
        /// Name of the table.
        table: String,
        /// Where it lives.
        url: String,
        /// The Delta library's answer.
        source: Box<DeltaTableError>,
    },
    /// There is no table of this name.
    #[error("there is no table {table} in the lake at {url}")]
    NoTable {
        /// Name of the table.
        table: String,
        /// The lake.
        url: String,
    },
    /// A table's name is not a plain lower-case word.
    #[error("{table:?} is no table name: use lower-case letters, digits and underscores, a letter first")]
    TableName {
        /// As given.
        table: String,
    },
    /// A column cannot be stored, or does not fit what the table already holds.
    #[error("column {column} of table {table}: {problem}")]
    Column {
        /// Name of the table.
        table: String,
        /// Name of the column.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// A data file is not what the commit says it is.
    #[error("data file {path}: {problem}")]
    File {
        /// Relative to the lake's root.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Not a calendar date.
    #[error("{as_of:?} is no date of the form YYYY-MM-DD")]
    Date {
        /// As given.
        as_of: String,
    },
    /// The Delta log of a table is not what a snapshot published.
    #[error("the Delta log of {table} is not what the snapshot {snapshot} published: {problem}")]
    Log {
        /// Name of the table.
        table: String,
        /// The snapshot.
        snapshot: String,
        /// What the two say.
        problem: String,
    },
    /// Other writers won every attempt.
    #[error("gave up committing to table {table} after {attempts} attempts: other writers were always faster")]
    Contended {
        /// Name of the table.
        table: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The registry holds something that is no snapshot, or was given one.
    #[error("snapshot registry, {place}: {problem}")]
    Registry {
        /// The file, row or field.
        place: String,
        /// What is wrong.
        problem: String,
    },
}

impl LakeError {
    /// Whether the same call may succeed later without anything being changed: time-outs, refused
    /// or lost connections, throttling and server errors of the store, and lost commit races.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Store { source, .. } => is_temporary(source),
            Self::Delta { source, .. } => is_temporary(source.as_ref()),
            Self::Contended { .. } => true,
            _ => false,
        }
    }
}

/// The same for any error that came from a store, however it was wrapped on its way: every cause is looked at, down to the
/// last. The store's own retry error and its HTTP status are private types, and deltalake and Ballista flatten some causes to
/// text, so that beside the types the text of the last cause decides.
pub fn is_temporary(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if says_temporary(error) {
            return true;
        }
        cause = cause_of(error);
    }
    false
}

/// What an error wraps. Of an `io::Error` that is the error inside, which [`Error::source`] passes over.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inside) => Some(inside),
        None => error.source(),
    }
}

/// Whether the error by itself, its cause aside, is one that passes.
fn says_temporary(error: &(dyn Error + 'static)) -> bool {
    if let Some(http) = error.downcast_ref::<HttpError>() {
        // The kind of a connection that was closed in the middle is not always told.
        let lost = matches!(
            http.kind(),
            HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Timeout | HttpErrorKind::Interrupted
        );
        return lost || closed(&format!("{http} {http:?}"));
    }
    if let Some(io) = error.downcast_ref::<std::io::Error>() {
        use std::io::ErrorKind as Kind;
        let passes = matches!(
            io.kind(),
            Kind::TimedOut
                | Kind::Interrupted
                | Kind::ConnectionRefused
                | Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::NotConnected
                | Kind::BrokenPipe
                | Kind::HostUnreachable
                | Kind::NetworkUnreachable
                | Kind::NetworkDown
                // Somebody makes room.
                | Kind::StorageFull
                | Kind::QuotaExceeded
        );
        return passes || (io.get_ref().is_none() && closed(&io.to_string()));
    }
    if let Some(object_store::Error::Generic { source, .. }) = error.downcast_ref::<object_store::Error>() {
        let text = format!("{source:?}");
        // Only what may pass is tried again.
        if source.to_string().contains("retries, max_retries") {
            return true;
        }
        if ["status: 5", "status: 429", "status: 408"].iter().any(|status| text.contains(status)) {
            return true;
        }
    }
    if cause_of(error).is_some() {
        return false;
    }
    let text = error.to_string();
    let signs = ["status code: 5", "status code: 429", "retries, max_retries", "error sending request"];
    closed(&text) || signs.iter().any(|sign| text.contains(sign))
}

/// A connection that did not last, by its words.
fn closed(text: &str) -> bool {
    cut_short(text)
        || ["connection closed before message completed", "IncompleteMessage"].iter().any(|sign| text.contains(sign))
}

/// Whether an answer of a store began and did not end: the same question may be asked again at once.
pub fn was_cut_short(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if cut_short(&error.to_string()) {
            return true;
        }
        cause = cause_of(error);
    }
    false
}

/// The same by its words.
fn cut_short(text: &str) -> bool {
    ["request or response body error", "kind: Body", "before message length reached", "UnexpectedEof"]
        .iter()
        .any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(source: impl Into<Box<dyn Error + Send + Sync>>) -> LakeError {
        LakeError::Store {
            action: "read",
            place: "s3://lake/x".into(),
            source: object_store::Error::Generic { store: "S3", source: source.into() },
        }
    }

    #[test]
    fn lost_connections_and_server_errors_are_temporary() {
        let io = |kind| store(std::io::Error::new(kind, "x"));
        assert!(io(std::io::ErrorKind::ConnectionReset).is_temporary());
        assert!(io(std::io::ErrorKind::TimedOut).is_temporary());
        assert!(!io(std::io::ErrorKind::PermissionDenied).is_temporary());
        let http = |kind| store(HttpError::new(kind, std::fmt::Error));
        assert!(http(HttpErrorKind::Connect).is_temporary());
        assert!(!http(HttpErrorKind::Decode).is_temporary());
        let body = HttpError::new(HttpErrorKind::Unknown, std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        assert!(store(body).is_temporary());
        let closed =
            HttpError::new(HttpErrorKind::Unknown, std::io::Error::other("connection closed before message completed"));
        assert!(store(closed).is_temporary());
        assert!(
            store("Error performing PUT x in 2s, after 10 retries, max_retries: 10 - HTTP error: ?").is_temporary()
        );
        assert!(store("HTTP error: request or response body error").is_temporary());
        assert!(store("Server returned non-2xx status code: 503 Service Unavailable: ").is_temporary());
        assert!(!store("Server returned non-2xx status code: 400 Bad Request: ").is_temporary());
        assert!(io(std::io::ErrorKind::StorageFull).is_temporary());
    }

    /// A buffered writer hands the store's error on as an `io::Error` of no kind, Parquet wraps that once more.
    #[test]
    fn causes_are_found_inside_what_writers_make_of_them() {
        let refused = |status: u16| object_store::Error::Generic {
            store: "S3",
            source: format!("Server returned non-2xx status code: {status}: ").into(),
        };
        let wrapped = |inner: object_store::Error| {
            let io = std::io::Error::other(inner);
            parquet::errors::ParquetError::External(Box::new(io))
        };
        assert!(is_temporary(&wrapped(refused(503))));
        assert!(!is_temporary(&wrapped(refused(403))));
        let lost = HttpError::new(HttpErrorKind::Connect, std::fmt::Error);
        let lost = object_store::Error::Generic { store: "S3", source: Box::new(lost) };
        assert!(is_temporary(&wrapped(lost)));
        let gone = object_store::Error::NotFound { path: "x".into(), source: "gone".into() };
        assert!(!is_temporary(&wrapped(gone)));
        assert!(is_temporary(&std::io::Error::other(std::io::Error::from(std::io::ErrorKind::TimedOut))));
    }

    #[test]
    fn causes_are_found_inside_delta_errors() {
        let delta = |source| LakeError::Delta {
            action: "read".into(),
            table: "features".into(),
            url: "s3://lake/features/".into(),
            source: Box::new(source),
        };
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "x");
        assert!(
            delta(DeltaTableError::ObjectStore {
                source: object_store::Error::Generic { store: "S3", source: Box::new(io) }
            })
            .is_temporary()
        );
        assert!(!delta(DeltaTableError::NoSchema).is_temporary());
    }
}
