//! The report of a night: facts in, a page or a plain text out.
//!
//! Nothing here knows a query engine, the lake or a clock. The caller asks [`QUERIES`] of the tables, hands the rows over
//! as JSON objects ([`Facts::new`]), and gets one HTML document ([`html`]) and one text for mail and chat ([`text`]).
//!
//! Every number of a table stands on the page as
//! `<data value="6262237.673000" data-fact="kpis/revenue,/exact">€6 262 237.67</data>`: the value as the table has it, and
//! its address, that is the name of the query, the values of [`Query::key`] in their order (joined by commas, nothing
//! for null, all but letters, digits, `_`, `-` and `.` written as `%XX` of its UTF-8), and the column of the answer. What
//! the page computes of several numbers has no address.

mod chart;
mod facts;
mod number;
mod page;
mod queries;
mod read;
mod rows;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub use facts::{Answers, Entry, EntryKind, Facts, Night};
pub use page::html;
pub use queries::{QUERIES, Query, Scope};
pub use read::FactsError;
pub use text::text;
