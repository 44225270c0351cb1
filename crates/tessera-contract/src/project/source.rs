//! Where the data lies, and how it is written.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Project, load};
use crate::{
    Entity, as_of,
    table::{Column, Kind},
};

/// The file format of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Delimited text; gzip and zstd by extension.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// A spreadsheet: Excel (xlsx, xlsb, xls) or OpenDocument (ods).
    Spreadsheet,
}

/// The character encoding of a text source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum TextEncoding {
    /// UTF-8, or UTF-16 if the file begins as such.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1, read as Windows-1252 as browsers do.
    #[serde(rename = "latin-1")]
    Latin1,
}

/// `[sources.<entity>]`, or `[sources.<entity>.<feed>]` for each feed where an entity has several; and `[files.<name>]`, what a
/// source's query reads, which maps no columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A file, a folder or a glob (relative to the project file), or an object store URL of the same. Parts of the path of the form
    /// `key=value` are columns.
    #[serde(default)]
    pub url: String,
    /// SQL over `[files.<name>]`, in place of `url`: its rows are the source's.
    #[serde(default)]
    pub query: Option<String>,
    /// The format; absent, the extension decides.
    #[serde(default)]
    pub format: Option<Format>,
    /// The delimiter of a CSV file; absent, the header decides among `,` `;` tab and `|`. A blank stands for any number of blanks
    /// and tabs, those at the ends of a line left out.
    #[serde(default)]
    pub delimiter: Option<char>,
    /// The encoding of a text file.
    #[serde(default)]
    pub encoding: TextEncoding,
    /// Lines of a CSV file, or rows of a spreadsheet, before its header.
    #[serde(default)]
    pub skip_lines: usize,
    /// Whether a CSV file or spreadsheet begins with the names of its columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// Without a header: the names of the columns; absent, they are `column_1`, `column_2` …
    #[serde(default)]
    pub names: Vec<String>,
    /// The sheets of a spreadsheet that are read, a glob; absent, the first.
    #[serde(default)]
    pub sheet: Option<String>,
    /// Texts that stand for "no value", besides the empty text.
    #[serde(default)]
    pub null_values: Vec<String>,
    /// The sign before the decimals of numbers that are texts.
    #[serde(default = "point")]
    pub decimal: char,
    /// The sign between their thousands; absent, there is none.
    #[serde(default)]
    pub thousands: Option<char>,
    /// Words for true, besides `true`, `yes`, `1` and the like; capitals or not.
    #[serde(default)]
    pub true_values: Vec<String>,
    /// Words for false, likewise.
    #[serde(default)]
    pub false_values: Vec<String>,
    /// Formats in which dates and times may be written (strftime), tried in order, ISO 8601 always last.
    #[serde(default)]
    pub date_formats: Vec<String>,
    /// Zone of times that are written without one; absent, the project's.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Canonical column → source column, path into nested JSON such as `address.city`, or SQL over the source's columns, of which
    /// `_file` is the name of the file and `_row` the row's number in it, from 1. A source column that already has the canonical name needs no entry. Further names are
    /// columns of the project's own.
    #[serde(default)]
    pub columns: IndexMap<String, String>,
    /// Further column → its type; text, unless it is named here.
    #[serde(default)]
    pub types: IndexMap<String, ColumnType>,
}

fn yes() -> bool {
    true
}

fn point() -> char {
    '.'
}

/// The type of a column of the project's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A double.
    Float,
    /// An exact decimal with 4 digits after the point.
    Decimal,
    /// True or false.
    Boolean,
    /// A calendar date.
    Date,
    /// An instant.
    Instant,
}

impl ColumnType {
    /// The kind of the column.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Text => Kind::Text,
            Self::Integer => Kind::Integer,
            Self::Float => Kind::Float,
            Self::Decimal => Kind::Price,
            Self::Boolean => Kind::Boolean,
            Self::Date => Kind::Date,
            Self::Instant => Kind::Instant,
        }
    }
}

/// A source of an entity.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    /// Its name among those of the entity, if it is declared as one of several.
    pub name: Option<&'a str>,
    /// Its path in the project file, after `sources.`.
    pub path: &'a str,
    /// Its settings.
    pub source: &'a Source,
}

impl Project {
    /// The sources of an entity, in the order of the file.
    #[must_use]
    pub fn feeds(&self, entity: Entity) -> Vec<Feed<'_>> {
        let split = |path: &str| path.find('.').map_or(path.len(), |at| at);
        let of_entity = self.sources.iter().filter(|(path, _)| path[..split(path)] == *entity.name());
        of_entity.map(|(path, source)| Feed { name: path.get(split(path) + 1..), path, source }).collect()
    }

    /// Whether an entity has a source.
    #[must_use]
    pub fn gives(&self, entity: Entity) -> bool {
        !self.feeds(entity).is_empty()
    }

    /// The columns that the project maps to an entity beside the canonical ones, with their kinds.
    #[must_use]
    pub fn further_columns(&self, entity: Entity) -> Vec<Column> {
        let mut further: IndexMap<&str, Kind> = IndexMap::new();
        for Feed { source, .. } in self.feeds(entity) {
            for name in source.columns.keys().filter(|name| entity.column(name).is_none()) {
                let kind = source.types.get(name).map_or(Kind::Text, |t| t.kind());
                further.entry(name).or_insert(kind);
            }
        }
        further.into_iter().map(|(name, kind)| Column::new(name, kind, "Mapped by the project")).collect()
    }
}

/// All that names files, each with its path in the project file.
pub(super) fn all(project: &Project) -> impl Iterator<Item = (String, &Source)> {
    let sources = project.sources.iter().map(|(name, source)| (format!("sources.{name}"), source));
    sources.chain(project.files.iter().map(|(name, source)| (format!("files.{name}"), source)))
}

/// What the types cannot say of sources: the first contradiction with the path of its key.
pub(super) fn check(project: &Project) -> Result<(), (String, String)> {
    let fail = |path: &str, problem: String| Err((path.to_owned(), problem));
    for (name, source) in &project.sources {
        let path = format!("sources.{name}");
        let of = name.split('.').next().unwrap_or(name);
        let Some(entity) = Entity::parse(of) else {
            let known: Vec<_> = Entity::ALL.iter().map(|e| e.name()).collect();
            return fail(&format!("sources.{of}"), load::unknown(of, &known, "entity"));
        };
        for column in source.columns.keys().filter(|column| entity.column(column).is_none()) {
            let path = format!("{path}.columns.{column}");
            if let Some(near) = load::nearly(column, entity.columns().iter().map(|c| c.name)) {
                let problem = format!(
                    "unknown column `{column}`; did you mean `{near}`? A column of your own needs another name"
                );
                return fail(&path, problem);
            }
            if reserved(entity, column) {
                let problem = format!("the name `{column}` is taken by a column that Tessera makes; give it another");
                return fail(&path, problem);
            }
        }
        for column in source.types.keys() {
            let path = format!("{path}.types.{column}");
            if entity.column(column).is_some() {
                return fail(
                    &path,
                    format!("the type of `{column}` is given; only further columns have one to choose"),
                );
            }
            if !source.columns.contains_key(column) {
                let known: Vec<_> = source.columns.keys().map(String::as_str).collect();
                return fail(&path, load::unknown(column, &known, "column"));
            }
        }
        if source.query.is_some() != source.url.is_empty() {
            return fail(&path, "a source has a `url`, or a `query` over [files]: one of them".into());
        }
    }
    for entity in Entity::ALL {
        let mut kinds: IndexMap<&str, Kind> = IndexMap::new();
        for Feed { path, source, .. } in project.feeds(entity) {
            for name in source.columns.keys().filter(|name| entity.column(name).is_none()) {
                let kind = source.types.get(name).map_or(Kind::Text, |t| t.kind());
                if *kinds.entry(name).or_insert(kind) != kind {
                    let problem = format!("`{name}` has another type in another source of {entity}");
                    return fail(&format!("sources.{path}.columns.{name}"), problem);
                }
            }
        }
    }
    for (name, source) in &project.files {
        let path = format!("files.{name}");
        if source.url.is_empty() || source.query.is_some() {
            return fail(&path, "what a query reads has a `url`".into());
        }
        if !source.columns.is_empty() || !source.types.is_empty() {
            return fail(&path, "what a query reads maps no columns: the query does".into());
        }
    }
    for (path, source) in all(project) {
        if let Some(zone) = &source.timezone
            && let Err(error) = as_of::zone(zone)
        {
            return fail(&format!("{path}.timezone"), error.to_string());
        }
        if source.delimiter.is_some_and(|d| !d.is_ascii()) {
            return fail(&format!("{path}.delimiter"), "a delimiter is one ASCII character".into());
        }
        if source.header && !source.names.is_empty() {
            return fail(&format!("{path}.names"), "names are those of files with header = false".into());
        }
        if let Some((at, name)) =
            source.names.iter().enumerate().find(|(at, name)| name.is_empty() || source.names[..*at].contains(name))
        {
            return fail(
                &format!("{path}.names"),
                format!("the name `{name}` of column {} is empty or not the first", at + 1),
            );
        }
        if let Some(format) = source.date_formats.iter().find(|format| !format.contains('%')) {
            let problem = format!("`{format}` is no date format: write it as %d.%m.%Y");
            return fail(&format!("{path}.date_formats"), problem);
        }
        let read = source.format.is_some()
            || source.delimiter.is_some()
            || source.encoding != TextEncoding::Utf8
            || source.skip_lines > 0
            || !source.header
            || source.sheet.is_some()
            || !source.null_values.is_empty();
        if source.query.is_some() && read {
            return fail(&path, "how files are read is said of the [files] that the query names".into());
        }
        let written = source.decimal != '.'
            || source.thousands.is_some()
            || !source.true_values.is_empty()
            || !source.false_values.is_empty()
            || !source.date_formats.is_empty()
            || source.timezone.is_some();
        if path.starts_with("files.") && written {
            return fail(
                &path,
                "a query sees texts; how values are written is said of the source whose query it is".into(),
            );
        }
        if source.thousands == Some(source.decimal) {
            return fail(&format!("{path}.thousands"), "decimals and thousands have the same sign".into());
        }
        let known = |word: &&String| source.false_values.iter().any(|other| other.eq_ignore_ascii_case(word));
        if let Some(word) = source.true_values.iter().find(known) {
            return fail(&format!("{path}.true_values"), format!("`{word}` stands for true and for false"));
        }
    }
    Ok(())
}

/// Whether a clean table, or what rules see of a row, has a column of that name already.
fn reserved(entity: Entity, name: &str) -> bool {
    const TAKEN: [&str; 20] = [
        "account_key",
        "accounts",
        "customer_key",
        "repaired_by",
        "repaired_from",
        "warned_by",
        "repaired",
        "after",
        "later",
        "mask",
        "purchase",
        "offered_share",
        "customer_known",
        "waits",
        "leaving",
        "contested",
        "came",
        "rival",
        "as_of",
        "as_of_date",
    ];
    let prefixes = ["_", "unparsable_", "lossy_", "hash.", "rival.", "old ", "repaired "];
    TAKEN.contains(&name)
        || prefixes.iter().any(|prefix| name.starts_with(prefix))
        || entity.computed().iter().any(|c| c.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Project::load("tessera.toml", text, &[]).expect_err("must be refused").to_string()
    }

    #[test]
    fn an_entity_has_one_source_or_several_feeds() {
        let feeds = |text: &str| {
            let project = Project::load("tessera.toml", text, &[]).expect("valid");
            let feeds = project.feeds(Entity::Transactions);
            feeds.iter().map(|f| (f.name.map(str::to_owned), f.source.url.clone())).collect::<Vec<_>>()
        };
        assert_eq!(
            feeds("[sources.transactions]\nurl = \"x.csv\"\ncolumns.order_id = \"n\"\n"),
            [(None, "x.csv".to_owned())]
        );
        let two = "[sources.transactions.web]\nurl = \"w.csv\"\n[sources.transactions.shop]\nurl = \"s.csv\"\n";
        let (web, shop) = ((Some("web".to_owned()), "w.csv".to_owned()), (Some("shop".to_owned()), "s.csv".to_owned()));
        assert_eq!(feeds(two), [web, shop.clone()]);
        let flag = "sources.transactions.shop.url=t.csv".parse().expect("an override");
        let project = Project::load("t", two, &[flag]).expect("valid");
        assert_eq!(project.feeds(Entity::Transactions)[1].source.url, "t.csv");
        let both = format!("[sources.transactions]\nurl = \"x.csv\"\n{two}");
        let told = problem(&both);
        assert!(told.contains("`web`") && told.contains("several feeds"), "{told}");
        assert_eq!(
            problem("[sources.transactions.web]\nurl = \"w.csv\"\n[sources.transactions.\"a b\"]\nurl = \"s.csv\"\n"),
            "tessera.toml:3:23: the name of a feed is made of letters, digits and `_`, unlike `a b`"
        );
    }

    #[test]
    fn columns_of_the_projects_own_have_names_and_types_of_their_own() {
        let text = |more: &str| format!("[sources.transactions]\nurl = \"x.csv\"\n{more}");
        let project = Project::load(
            "t",
            &text("columns = { store = \"shop\", points = \"p\" }\ntypes = { points = \"integer\" }\n"),
            &[],
        );
        let further = project.expect("valid").further_columns(Entity::Transactions);
        let further: Vec<_> = further.iter().map(|c| (c.name.as_str(), c.kind)).collect();
        assert_eq!(further, [("store", Kind::Text), ("points", Kind::Integer)]);
        for (more, expect) in [
            ("columns = { mask = \"x\" }\n", "the name `mask` is taken"),
            ("columns = { _x = \"x\" }\n", "the name `_x` is taken"),
            ("columns = { gross = \"x\" }\n", "the name `gross` is taken"),
            ("columns = { shop = \"x\" }\ntypes = { stor = \"text\" }\n", "unknown column `stor`"),
            ("types = { quantity = \"text\" }\n", "the type of `quantity` is given"),
            ("thousands = \".\"\n", "the same sign"),
            ("names = [\"a\"]\n", "header = false"),
            ("true_values = [\"Ja\"]\nfalse_values = [\"ja\"]\n", "stands for true and for false"),
            ("query = \"SELECT 1\"\n", "one of them"),
        ] {
            let told = problem(&text(more));
            assert!(told.contains(expect), "{told}");
        }
    }
}
