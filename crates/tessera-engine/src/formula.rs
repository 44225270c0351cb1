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
        ast::{BinaryOperator, Expr, ObjectName, Query, Statement, Visit, Visitor, visit_expressions_mut},
        dialect::GenericDialect,
        parser::{Parser, ParserError},
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

/// The text with an unquoted word replaced.
///
/// # Errors
/// When the text is not made of SQL tokens.
pub fn with_word(text: &str, word: &str, value: &str) -> Result<String> {
    let is_word = |token: &Token| matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value == word);
    Ok(tokens(text)?.iter().map(|token| if is_word(token) { value.to_owned() } else { token.to_string() }).collect())
}

/// The expression with a condition on the rows of each of its aggregates, whose names `is_aggregate` knows; none, if it has no
/// aggregate.
///
/// # Errors
/// When one of them is no SQL expression.
pub fn filtered(text: &str, condition: &str, is_aggregate: impl Fn(&str) -> bool) -> Result<Option<String>> {
    let parse = |text: &str| -> Result<Expr> {
        let wrong = |e: ParserError| DataFusionError::SQL(Box::new(e), None);
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).map_err(wrong)?;
        let parsed = parser.parse_expr().map_err(wrong)?;
        parser.expect_token(&Token::EOF).map_err(wrong)?;
        Ok(parsed)
    };
    let (mut parsed, condition) = (parse(text)?, parse(condition)?);
    let mut found = false;
    let done = visit_expressions_mut(&mut parsed, |expression| {
        if let Expr::Function(function) = expression
            && is_aggregate(&function.name.to_string().to_lowercase())
        {
            found = true;
            let filter = match function.filter.take() {
                None => condition.clone(),
                Some(own) => Expr::BinaryOp {
                    left: Box::new(Expr::Nested(own)),
                    op: BinaryOperator::And,
                    right: Box::new(condition.clone()),
                },
            };
            function.filter = Some(Box::new(filter));
        }
        ControlFlow::<()>::Continue(())
    });
    debug_assert!(done.is_continue(), "nothing breaks");
    Ok(found.then(|| parsed.to_string()))
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
    fn a_condition_stands_in_every_aggregate() {
        let aggregate = |name: &str| matches!(name, "sum" | "count" | "order_stats");
        let found = |text| filtered(text, "at >= as_of - INTERVAL '90 days'", aggregate).expect("SQL");
        assert_eq!(
            found("CAST(sum(amount) AS DOUBLE) / nullif(count(*) FILTER (WHERE a OR b), 0)").as_deref(),
            Some(
                "CAST(sum(amount) FILTER (WHERE at >= as_of - INTERVAL '90 days') AS DOUBLE) / \
                 nullif(count(*) FILTER (WHERE (a OR b) AND at >= as_of - INTERVAL '90 days'), 0)"
            )
        );
        assert_eq!(
            found("get_field(order_stats(id, at), 'orders')").as_deref(),
            Some("get_field(order_stats(id, at) FILTER (WHERE at >= as_of - INTERVAL '90 days'), 'orders')")
        );
        assert_eq!(found("abs(amount)"), None);
        assert!(filtered("sum(", "true", aggregate).is_err() && filtered("sum(x) y", "true", aggregate).is_err());
    }

    #[test]
    fn a_word_is_replaced_where_it_is_one() {
        assert_eq!(
            with_word("_row + \"_row\" + a_row || '_row'", "_row", "(7)").expect("SQL"),
            "(7) + \"_row\" + a_row || '_row'"
        );
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
