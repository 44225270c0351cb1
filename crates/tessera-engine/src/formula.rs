//! From the catalogue's text to SQL.
//!
//! Catalogue expressions may use three words that stand for the night: `as_of`, `as_of_date` and `timezone`. They are
//! replaced by literals token by token, so that a text or a quoted name that contains them stays what it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use datafusion::{
    common::{DataFusionError, Result},
    sql::sqlparser::{
        ast::{ObjectName, Query, Statement, Visit, Visitor},
        dialect::GenericDialect,
        parser::Parser,
        tokenizer::{Token, Tokenizer},
    },
};
use tessera_contract::AsOf;

/// What the words stand for.
#[derive(Debug, Clone)]
pub struct Words {
    /// The night; absent, a query that uses its words is an error.
    pub as_of: Option<AsOf>,
    /// The project's time zone.
    pub timezone: String,
}

impl Words {
    /// The words of a night.
    #[must_use]
    pub fn new(as_of: AsOf, timezone: &str) -> Self {
        Self { as_of: Some(as_of), timezone: timezone.to_owned() }
    }

    /// No words: every token stays.
    #[must_use]
    pub fn none() -> Self {
        Self { as_of: None, timezone: String::new() }
    }
}

/// The text with the words replaced.
///
/// # Errors
/// When the text is not made of SQL tokens.
pub fn bind(text: &str, words: &Words) -> Result<String> {
    let Some(as_of) = words.as_of else { return Ok(text.to_owned()) };
    Ok(tokens(text)?
        .into_iter()
        .map(|token| match &token {
            Token::Word(word) if word.quote_style.is_none() => match word.value.as_str() {
                "as_of" => format!("arrow_cast({}, 'Timestamp(µs, \"UTC\")')", as_of.micros()),
                "as_of_date" => format!("DATE '{}'", as_of.date()),
                "timezone" => format!("'{}'", words.timezone.replace('\'', "''")),
                _ => token.to_string(),
            },
            _ => token.to_string(),
        })
        .collect())
}

/// The unquoted and double-quoted names in an expression: columns and keywords alike, but no functions.
///
/// # Errors
/// When the text is not made of SQL tokens.
pub fn names(text: &str) -> Result<BTreeSet<String>> {
    let tokens: Vec<Token> = tokens(text)?.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).collect();
    let called = |at: usize| tokens.get(at + 1) == Some(&Token::LParen);
    let names = tokens.iter().enumerate().filter_map(|(at, token)| match token {
        Token::Word(word) if word.quote_style.is_some() || !called(at) => Some(word.value.clone()),
        _ => None,
    });
    Ok(names.collect())
}

/// The names of the tables that a query reads, each with whether it makes one of that name itself.
///
/// # Errors
/// When the text is not one query.
pub fn tables(query: &str) -> Result<BTreeMap<String, bool>> {
    let wrong = |problem: String| DataFusionError::Plan(problem);
    let parsed = Parser::parse_sql(&GenericDialect {}, query).map_err(|e| wrong(e.to_string()))?;
    let [statement @ Statement::Query(_)] = parsed.as_slice() else {
        return Err(wrong("a query is one SELECT".into()));
    };
    let mut found = Tables::default();
    let _: ControlFlow<()> = statement.visit(&mut found);
    let made = found.made;
    Ok(found.read.into_iter().map(|name| (made.contains(&name), name)).map(|(made, name)| (name, made)).collect())
}

/// A short hash of a text: equal stamps are of equal texts.
#[must_use]
pub fn stamp(text: &str) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

/// A name as SQL writes it.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it.
#[must_use]
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// The tables that a query names, and those that it makes by `WITH`.
#[derive(Default)]
struct Tables {
    read: BTreeSet<String>,
    made: BTreeSet<String>,
}

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let made = query.with.iter().flat_map(|with| &with.cte_tables);
        self.made.extend(made.map(|table| table.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let ident = name.0.last().and_then(|part| part.as_ident());
        self.read.extend(ident.map(|ident| ident.value.clone()));
        ControlFlow::Continue(())
    }
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    Tokenizer::new(&GenericDialect {}, text)
        .with_unescape(false)
        .tokenize()
        .map_err(|e| DataFusionError::Plan(format!("`{text}` is not SQL: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced_and_texts_are_not() {
        let words = Words::new(AsOf::parse("2026-11-01", "Europe/Berlin").expect("valid"), "Europe/Berlin");
        let bound =
            bind("x < as_of_date AND y = 'as_of' AND \"timezone\" = timezone AND z < as_of", &words).expect("SQL");
        assert_eq!(
            bound,
            "x < DATE '2026-11-01' AND y = 'as_of' AND \"timezone\" = 'Europe/Berlin' AND z < \
             arrow_cast(1793487600000000, 'Timestamp(µs, \"UTC\")')"
        );
        assert_eq!(bind("as_of", &Words::none()).expect("SQL"), "as_of");
        assert!(bind("'open", &words).is_err());
    }

    #[test]
    fn functions_are_no_columns() {
        let found = names("count (*) FILTER (WHERE kind = 'count') + max(\"sum\")").expect("SQL");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["WHERE", "kind", "sum"]);
        assert!(names("sum(count)").expect("SQL").contains("count"));
    }

    #[test]
    fn escaped_quotes_survive() {
        let words = Words::new(AsOf::parse("2026-11-01", "UTC").expect("valid"), "UTC");
        assert_eq!(bind("x = 'it''s'", &words).expect("SQL"), "x = 'it''s'");
    }
}
