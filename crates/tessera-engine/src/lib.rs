//! The DataFusion vocabulary of Tessera.
//!
//! One builder of sessions, the source scan in which no row is lost, the writing node, our functions, and the way from
//! a catalogue's text to SQL. The engine is only ever a [`session::Engine`]: whoever makes the session decides where
//! the work runs. Nothing here knows a stage or a Delta table.

pub mod buckets;
mod codec;
pub mod columns;
mod files;
pub mod fingerprint;
pub mod formula;
pub mod functions;
mod lookup;
pub mod partial;
mod planner;
mod progress;
pub mod record;
mod secret;
pub mod session;
pub mod source;
mod stores;
pub mod write;

pub use codec::Codec;
pub use files::StoredFile;
pub use progress::Progress;
pub use secret::Secret;
pub use session::{Engine, Settings};
pub use stores::Stores;
