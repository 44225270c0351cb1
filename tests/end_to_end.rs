//! Everything that needs the program as a whole: it is started as a user starts it, on files, and judged by what it prints,
//! returns and leaves.

#![expect(clippy::disallowed_methods, reason = "a test may ask which cargo runs it")]

#[path = "end_to_end/bad_input.rs"]
mod bad_input;
#[path = "end_to_end/causes.rs"]
mod causes;
#[path = "end_to_end/chain.rs"]
mod chain;
#[path = "end_to_end/cluster.rs"]
mod cluster;
#[path = "end_to_end/gates.rs"]
mod gates;
#[path = "end_to_end/house.rs"]
mod house;
#[path = "end_to_end/identity.rs"]
mod identity;
#[path = "end_to_end/kpis.rs"]
mod kpis;
#[path = "end_to_end/ledger.rs"]
mod ledger;
#[path = "end_to_end/night.rs"]
mod night;
#[path = "end_to_end/owner.rs"]
mod owner;
#[path = "end_to_end/project.rs"]
mod project;
#[path = "end_to_end/report.rs"]
mod report;
#[path = "end_to_end/retention.rs"]
mod retention;
#[path = "end_to_end/segments.rs"]
mod segments;
#[path = "end_to_end/sources.rs"]
mod sources;
#[path = "end_to_end/stories.rs"]
mod stories;
#[path = "end_to_end/value.rs"]
mod value;
