//! From the owner's columns to the canonical ones, without losing what could not be read.
//!
//! Every canonical column becomes an expression of its kind that is null where the source's value does not fit; a
//! second expression says where that happened, so that the row can be set aside with its reason.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, Field, Schema},
    logical_expr::Expr,
    prelude::DataFrame,
    sql::sqlparser::{
        ast::{CastKind, Expr as Expression, visit_expressions},
        dialect::GenericDialect,
        parser::Parser,
    },
};
use tessera_contract::{
    Entity, Project,
    project::{Feed, Source as Settings},
    table::{Column, Kind},
};
use tessera_engine::{
    formula::{self, quote, text},
    record,
    source::{LOCATOR, RECORD, ROW, row_number},
};

use crate::{Night, StageError};

/// How one canonical column is made.
#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    /// The column.
    pub column: Column,
    /// SQL over the source's columns, typed; `NULL` of the type where nothing is mapped.
    pub expression: String,
    /// SQL that is true where a value is there but does not fit the kind; absent where that cannot be.
    pub unparsable: Option<String>,
    /// SQL that is true where the value is not all that the source says: digits that the kind does not keep, or what a `TRY_CAST` of the
    /// mapping gave up; absent where that cannot be.
    pub lossy: Option<String>,
    /// SQL over the canonical columns where the source has nothing for it, but its absence says something.
    pub absent: Option<String>,
    /// Whether it has values: the source gives it, or its absence says something.
    pub available: bool,
}

/// The mapping of the sources of an entity.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// What any of them gives.
    pub(crate) columns: Vec<Mapped>,
    /// That of each.
    pub(crate) feeds: Vec<FeedMapping>,
}

/// The mapping of one source.
#[derive(Debug, Clone)]
pub(crate) struct FeedMapping {
    /// Its name among those of its entity, if it has one.
    pub feed: Option<String>,
    /// Its path in the project file.
    path: String,
    /// The columns, in the order of all feeds.
    pub columns: Vec<Mapped>,
    /// The type of the owner's records, which says their columns.
    pub record: DataType,
    /// The names of those that expressions compute with.
    pub used: BTreeSet<String>,
}

impl FeedMapping {
    /// The name of the column of the feed's records, where rows of several feeds stand together.
    pub(crate) fn record_column(&self) -> String {
        match &self.feed {
            Some(feed) => format!("{RECORD}.{feed}"),
            None => RECORD.to_owned(),
        }
    }
}

impl Mapping {
    /// Whether the column has values.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|m| m.column.name == name && m.available)
    }

    /// The columns of records, one a feed, of which a row has its own.
    pub(crate) fn records(&self) -> Vec<String> {
        self.feeds.iter().map(|feed| quote(&feed.record_column())).collect()
    }

    /// SQL of a row's record as JSON.
    pub(crate) fn json(&self) -> String {
        let each: Vec<_> = self.records().iter().map(|record| format!("row_json({record})")).collect();
        match each.as_slice() {
            [one] => one.clone(),
            each => format!("coalesce({})", each.join(", ")),
        }
    }

    /// Of a feed: canonical name, what it is made of (absent: not available), for people.
    #[must_use]
    pub fn describe(&self, project: &Project, feed: usize) -> Vec<(String, Option<String>)> {
        let Some(feed) = self.feeds.get(feed) else { return Vec::new() };
        let given = project.sources.get(&feed.path).map(|s| &s.columns);
        feed.columns
            .iter()
            .map(|m| {
                let name = &m.column.name;
                let from = given.and_then(|c| c.get(name)).unwrap_or(name);
                (name.clone(), m.available.then(|| m.absent.clone().unwrap_or_else(|| from.clone())))
            })
            .collect()
    }
}

/// The mapping of the columns of an entity's rows; `rows` are those of each feed.
///
/// # Errors
/// When a required column is missing or an expression does not fit the source's columns.
pub async fn map(night: &Night<'_>, entity: Entity, rows: &[DataFrame]) -> Result<Mapping, StageError> {
    let declared = night.project.feeds(entity);
    if declared.len() != rows.len() {
        return Err(StageError::Data(format!("{} of {} sources of {entity} were opened", rows.len(), declared.len())));
    }
    let mut feeds = Vec::new();
    for (feed, rows) in declared.into_iter().zip(rows) {
        feeds.push(map_feed(night, entity, feed, rows).await?);
    }
    let mut columns: Vec<Mapped> = Vec::new();
    for mapped in feeds.iter().flat_map(|feed| &feed.columns) {
        match columns.iter_mut().find(|known| known.column.name == mapped.column.name) {
            None => columns.push(mapped.clone()),
            Some(known) => {
                known.available |= mapped.available;
                known.unparsable = known.unparsable.take().or_else(|| mapped.unparsable.clone());
                known.lossy = known.lossy.take().or_else(|| mapped.lossy.clone());
                known.absent = known.absent.take().or_else(|| mapped.absent.clone());
            }
        }
    }
    Ok(Mapping { columns, feeds })
}

async fn map_feed(
    night: &Night<'_>,
    entity: Entity,
    Feed { name, path, source: settings }: Feed<'_>,
    rows: &DataFrame,
) -> Result<FeedMapping, StageError> {
    let record = rows.schema().field_with_unqualified_name(RECORD)?.data_type().clone();
    let owners = record::columns(&record);
    let owners = owners.ok_or_else(|| StageError::Data(format!("the rows of {entity} have no records")))?;
    let owners = Arc::new(Schema::new(owners));
    let raw: Vec<String> = owners.fields().iter().map(|f| f.name().clone()).collect();
    // To ask what an expression gives, no row is needed.
    let source = night.engine.none(Arc::clone(&owners))?;
    let fields = owners.fields().iter().cloned().chain([Arc::new(Field::new(LOCATOR, DataType::Int64, false))]);
    let numbered = night.engine.none(Arc::new(Schema::new(fields.collect::<Vec<_>>())))?;

    let mut wanted: Vec<Column> = entity.columns().iter().map(|c| Column::new(c.name, c.kind, c.description)).collect();
    wanted.extend(night.project.further_columns(entity));
    let given = |name: &str| -> Option<String> {
        match settings.columns.get(name) {
            Some(from) if raw.contains(from) => Some(quote(from)),
            Some(from) => Some(inside_json(from, &owners).unwrap_or_else(|| from.clone())),
            None if raw.contains(&name.to_owned()) => Some(quote(name)),
            None => None,
        }
    };

    let words = Writing::of(settings, &night.project.project.timezone);
    let mut columns = Vec::new();
    let mut used = BTreeSet::new();
    // Whoever mends one mistake wants to know of the others.
    let mut wrong: Vec<(String, String)> = Vec::new();
    for column in wanted {
        let place = format!("sources.{path}.columns.{}", column.name);
        let known = entity.column(&column.name);
        let Some(from) = given(&column.name) else {
            let stands_in = known.and_then(|c| c.instead).filter(|name| given(name).is_some());
            if known.is_some_and(|c| c.required) && stands_in.is_none() {
                wrong.push((place, missing(&column.name, &raw)));
                continue;
            }
            let kind = text(&column.kind.arrow().to_string());
            let absent = known.filter(|c| c.instead.is_none() || stands_in.is_some()).and_then(|c| c.absent);
            let absent = absent.map(|value| format!("arrow_cast({value}, {kind})"));
            let (expression, available) = (format!("arrow_cast(NULL, {kind})"), absent.is_some());
            columns.push(Mapped { column, expression, unparsable: None, lossy: None, absent, available });
            continue;
        };
        let counts = formula::names(&from).is_ok_and(|names| names.contains(ROW));
        if counts && settings.query.is_some() {
            wrong.push((place, format!("the rows of a query have no {ROW} in a file")));
            continue;
        }
        let from = if counts { formula::with_word(&from, ROW, &row_number())? } else { from };
        let rows = if counts { &numbered } else { &source };
        let probe = night.over(&format!("SELECT ({from}) AS x FROM source"), &[("source", rows)]).await;
        let kind = match probe {
            Ok(frame) => {
                let names = frame.logical_plan().expressions();
                let names = names.iter().flat_map(Expr::column_refs).map(|c| c.name.clone());
                used.extend(names.filter(|name| name != LOCATOR));
                frame.schema().field(0).data_type().clone()
            }
            Err(error) => {
                let problem = match is_name(&from) {
                    true => format!("the source has no column {from}; it has {}", list(&raw)),
                    false => {
                        format!("`{from}` does not fit the source: {}; its columns are {}", inner(&error), list(&raw))
                    }
                };
                wrong.push((place, problem));
                continue;
            }
        };
        let blank = known.and_then(|c| c.blank);
        let mut mapped = typed(column, &from, &kind, &words);
        if let Some(value) = blank {
            mapped.expression = format!("coalesce({}, {value})", mapped.expression);
        }
        columns.push(mapped);
    }
    if let Some((place, problem)) = wrong.first() {
        let others = wrong[1..].iter().map(|(place, problem)| format!("\n  {place}: {problem}"));
        return Err(StageError::Expression {
            place: place.clone(),
            problem: problem.clone() + &others.collect::<String>(),
        });
    }
    Ok(FeedMapping { feed: name.map(str::to_owned), path: path.to_owned(), columns, record, used })
}

/// SQL of a value inside a column of JSON texts, if `from` is a path into one: `address.city`, `tags[0]`.
fn inside_json(from: &str, owners: &Schema) -> Option<String> {
    let end = from.find(['.', '['])?;
    let (column, path) = (&from[..end], from[end..].trim_start_matches('.'));
    let kind = owners.field_with_name(column).ok()?.data_type();
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '-');
    let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    (is_text && path.chars().all(word)).then(|| format!("json_text({}, {})", quote(column), text(path)))
}

/// How a source writes what is no text.
struct Writing {
    zone: String,
    /// As further arguments of a function.
    date_formats: String,
    /// Signs of numbers, if they are not those of SQL.
    signs: Option<(char, Option<char>)>,
    /// Words for true and for false, lower case, besides those of SQL.
    truth: Vec<(String, bool)>,
}

impl Writing {
    fn of(source: &Settings, zone: &str) -> Self {
        let words = |words: &[String], truth| -> Vec<(String, bool)> {
            words.iter().map(|word| (word.trim().to_lowercase(), truth)).collect()
        };
        Self {
            zone: source.timezone.as_deref().unwrap_or(zone).to_owned(),
            date_formats: source.date_formats.iter().map(|f| format!(", {}", text(f))).collect(),
            signs: (source.decimal != '.' || source.thousands.is_some()).then_some((source.decimal, source.thousands)),
            truth: [words(&source.true_values, true), words(&source.false_values, false)].concat(),
        }
    }

    /// SQL of a number as SQL writes it, from one that the source wrote.
    fn number(&self, x: &str) -> String {
        match self.signs {
            None => format!("btrim({x})"),
            Some((decimal, thousands)) => {
                let thousands = thousands.map(String::from).unwrap_or_default();
                format!("number_text({x}, {}, {})", text(&decimal.to_string()), text(&thousands))
            }
        }
    }

    /// SQL of a truth that the source wrote.
    fn truth(&self, x: &str) -> String {
        let plain = format!("TRY_CAST(btrim({x}) AS BOOLEAN)");
        if self.truth.is_empty() {
            return plain;
        }
        let cases: String =
            self.truth.iter().map(|(word, truth)| format!(" WHEN {} THEN {truth}", text(word))).collect();
        format!("CASE lower(btrim({x})){cases} ELSE {plain} END")
    }
}

fn is_name(from: &str) -> bool {
    from.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ' ' | '"' | '-' | '/' | '.' | '#'))
}

/// What the engine says, without its list of columns: that may be a line of somebody's data.
fn inner(error: &StageError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let end = ["Valid fields are", "Did you mean"].iter().filter_map(|word| line.find(word)).min();
    line[..end.unwrap_or(line.len())].trim_end().trim_end_matches('.').to_owned()
}

/// Columns by their names; not if one looks like a value, since the first line of a file without a header is somebody's data.
fn list(names: &[String]) -> String {
    let digits = |name: &str| name.chars().filter(char::is_ascii_digit).count();
    let value = |name: &String| name.contains('@') || name.len() > 64 || digits(name) * 2 > name.chars().count();
    match names.iter().any(value) {
        true => format!(
            "{} that are not shown, because they look like values; does the file begin with a header?",
            names.len()
        ),
        false => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

fn missing(name: &str, raw: &[String]) -> String {
    format!("`{name}` is required, but nothing is mapped to it; the source's columns are {}", list(raw))
}

/// The expression of the column's kind over a value of the source's type.
fn typed(column: Column, from: &str, kind: &DataType, words: &Writing) -> Mapped {
    let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let x = format!("({from})");
    let (zone_text, formats) = (text(&words.zone), &words.date_formats);
    let target = column.kind.arrow();
    let arrow = |t: &str| format!("arrow_cast({x}, '{t}')");
    let mut number = x.clone();
    let expression = match column.kind {
        Kind::Text | Kind::TextList => match is_text {
            true => format!("nullif({x}, '')"),
            false => format!("CAST({x} AS VARCHAR)"),
        },
        Kind::Instant => match kind {
            _ if is_text => format!("try_instant({x}, {zone_text}{formats})"),
            DataType::Timestamp(_, Some(_)) => arrow("Timestamp(µs, \"UTC\")"),
            DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => {
                format!("try_instant({x}, {zone_text})")
            }
            _ => format!("try_instant(CAST({x} AS VARCHAR), {zone_text}{formats})"),
        },
        Kind::Date => match kind {
            DataType::Timestamp(_, Some(_)) => format!("try_date({x}, {zone_text})"),
            DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => arrow("Date32"),
            _ => format!("try_date(CAST({x} AS VARCHAR), {zone_text}{formats})"),
        },
        Kind::Boolean if is_text => words.truth(&x),
        Kind::Boolean
        | Kind::Integer
        | Kind::Small
        | Kind::Float
        | Kind::Money
        | Kind::Price
        | Kind::Quantity
        | Kind::Fraction => {
            if is_text {
                number = words.number(&x);
            }
            match kind == &target {
                true => number.clone(),
                false => format!("TRY_CAST({number} AS {})", sql_type(column.kind)),
            }
        }
    };
    let exact =
        kind == &target || column.kind == Kind::Text || matches!(kind, DataType::Timestamp(_, _) | DataType::Date32);
    let unparsable = (!exact).then(|| match is_text {
        true => format!("btrim({x}) <> '' AND ({expression}) IS NULL"),
        false => format!("{x} IS NOT NULL AND ({expression}) IS NULL"),
    });
    // Blanks around a number are no digits.
    let written = if words.signs.is_some() { &number } else { &x };
    let lossy = [digits_lost(column.kind, written, kind, &expression), given_up(from)];
    let lossy: Vec<_> = lossy.into_iter().flatten().collect();
    let lossy = (!lossy.is_empty()).then(|| lossy.join(" OR "));
    Mapped { column, expression, unparsable, lossy, absent: None, available: true }
}

/// SQL that is true where a number of the source has digits that the kind does not keep, if there can be such.
fn digits_lost(kind: Kind, x: &str, from: &DataType, typed: &str) -> Option<String> {
    let scale = match kind.arrow() {
        DataType::Decimal128(_, scale) => scale,
        DataType::Int64 | DataType::Int32 => 0,
        _ => return None,
    };
    match from {
        // What is no whole number is unparsable as one.
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            (scale > 0).then(|| format!("loses_digits({x}, {scale})"))
        }
        // The last digits of a binary fraction are nobody's.
        DataType::Float16 | DataType::Float32 => Some(format!("abs(CAST({typed} AS DOUBLE) - {x}) > 1e-6 * abs({x})")),
        DataType::Float64 => Some(format!("abs(CAST({typed} AS DOUBLE) - {x}) > 1e-12 * abs({x})")),
        DataType::Decimal32(_, s)
        | DataType::Decimal64(_, s)
        | DataType::Decimal128(_, s)
        | DataType::Decimal256(_, s)
            if *s > scale =>
        {
            Some(format!("{x} <> {typed}"))
        }
        _ => None,
    }
}

/// SQL that is true where a `TRY_CAST` of an expression gave up a value.
fn given_up(expression: &str) -> Option<String> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(expression).ok()?;
    let parsed = parser.parse_expr().ok()?;
    let mut found = Vec::new();
    let _: ControlFlow<()> = visit_expressions(&parsed, |e| {
        if let Expression::Cast { kind: CastKind::TryCast, expr, .. } = e {
            let lost = format!("{expr} IS NOT NULL AND btrim(CAST({expr} AS VARCHAR)) <> '' AND {e} IS NULL");
            found.push(lost);
        }
        ControlFlow::Continue(())
    });
    (!found.is_empty()).then(|| found.join(" OR "))
}

fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "BOOLEAN",
        Kind::Integer => "BIGINT",
        Kind::Small => "INT",
        Kind::Float => "DOUBLE",
        Kind::Money => "DECIMAL(38,6)",
        Kind::Price => "DECIMAL(18,4)",
        Kind::Quantity => "DECIMAL(15,3)",
        Kind::Fraction => "DECIMAL(9,6)",
        Kind::Date => "DATE",
        Kind::Text | Kind::TextList | Kind::Instant => "VARCHAR",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_data_is_shown_as_names() {
        let list = |names: &[&str]| list(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(list(&["cust_no", "e-mail 2"]), "`cust_no`, `e-mail 2`");
        for value in ["ann@example.com", "2025-01-02", "00123"] {
            assert!(!list(&["Ann", value]).contains("Ann"), "{value}");
        }
        let error = StageError::Data("No field named x. Valid fields are source.\"ann@example.com\".".into());
        assert_eq!(inner(&error), "No field named x");
    }

    #[test]
    fn what_a_cast_gives_up_is_found() {
        assert_eq!(given_up("cust_no"), None);
        assert_eq!(given_up("CAST(a AS DOUBLE)"), None);
        assert_eq!(
            given_up("TRY_CAST(pct AS DOUBLE) / 100").as_deref(),
            Some("pct IS NOT NULL AND btrim(CAST(pct AS VARCHAR)) <> '' AND TRY_CAST(pct AS DOUBLE) IS NULL")
        );
    }
}
