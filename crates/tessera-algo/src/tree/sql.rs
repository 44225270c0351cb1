//! A tree as SQL that DuckDB, Spark, Snowflake and DataFusion read alike (Spark with `spark.sql.ansi.doubleQuotedIdentifiers`).
//!
//! Every leaf is a case of its own that says of a null whether it is in it: no comparison with a null decides, and no row falls through.

use super::{Condition, Rule, Tree};

/// What a column of a tree is in the table that is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// A number.
    Number {
        /// Its name.
        name: String,
        /// Whether it is no double, and is compared as one.
        cast: bool,
    },
    /// 1 of who has this value of a text, 0 of who has another.
    Category {
        /// The text's name.
        name: String,
        /// The value.
        value: String,
    },
    /// 1 of who has none of these values of a text, 0 of who has one.
    Other {
        /// The text's name.
        name: String,
        /// The values.
        values: Vec<String>,
    },
}

/// Where a tree places a row, as an expression that gives the segment. `columns` are those of the tree; one that lacks is an error of the
/// caller, and is called by its number.
#[must_use]
pub fn case(tree: &Tree, columns: &[Column]) -> String {
    let rules = tree.rules();
    if let [only] = rules.as_slice() {
        return only.segment.to_string();
    }
    let cases = rules.iter().map(|rule| format!(" WHEN {} THEN {}", conjunction(rule, columns, true), rule.segment));
    format!("CASE{} END", cases.collect::<String>())
}

/// A rule as people read it: nulls are left out where nobody lacked the column.
#[must_use]
pub fn rule(rule: &Rule, columns: &[Column]) -> String {
    conjunction(rule, columns, false)
}

fn conjunction(rule: &Rule, columns: &[Column], nulls: bool) -> String {
    let all: Vec<String> = rule.conditions.iter().filter_map(|one| condition(one, columns, nulls)).collect();
    if all.is_empty() { "TRUE".to_owned() } else { all.join(" AND ") }
}

/// A condition; none where it says nothing.
fn condition(of: &Condition, columns: &[Column], nulls: bool) -> Option<String> {
    let unnamed = Column::Number { name: of.column.to_string(), cast: false };
    let column = columns.get(of.column).unwrap_or(&unnamed);
    let (Column::Number { name, .. } | Column::Category { name, .. } | Column::Other { name, .. }) = column;
    let name = format!("\"{}\"", name.replace('"', "\"\""));
    let null = format!("{name} IS NULL");
    let Some(known) = of.known else { return Some(null) };
    let bounds = bounds(column, &name, known);
    match (bounds.as_slice(), of.missing, nulls || of.gaps) {
        ([], true, _) | ([], false, false) => None,
        ([], false, true) => Some(format!("{name} IS NOT NULL")),
        (bounds, true, true) => Some(format!("({} OR {null})", bounds.join(" AND "))),
        (bounds, ..) => Some(bounds.join(" AND ")),
    }
}

/// What has to hold of a value that is known.
fn bounds(column: &Column, name: &str, (low, high): (Option<f64>, Option<f64>)) -> Vec<String> {
    let text = |value: &String| format!("'{}'", value.replace('\'', "''"));
    // Of 0 and 1, one is cut off.
    let (below, above) = (high.is_some_and(|t| t < 1.0), low.is_some_and(|t| t >= 0.0));
    match column {
        Column::Number { cast, .. } => {
            let x = if *cast { format!("CAST({name} AS DOUBLE)") } else { name.to_owned() };
            let low = low.map(|t| format!("{x} > {}", number(t)));
            low.into_iter().chain(high.map(|t| format!("{x} <= {}", number(t)))).collect()
        }
        Column::Category { value, .. } => {
            let is = above.then(|| format!("{name} = {}", text(value)));
            is.into_iter().chain(below.then(|| format!("{name} <> {}", text(value)))).collect()
        }
        Column::Other { values, .. } => {
            let all = values.iter().map(text).collect::<Vec<_>>().join(", ");
            let is = above.then(|| format!("{name} NOT IN ({all})"));
            is.into_iter().chain(below.then(|| format!("{name} IN ({all})"))).collect()
        }
    }
}

/// A double as a literal that reads back to the same bits: up to fifteen digits as a decimal, which is exact as a quotient of whole numbers;
/// beyond, with an exponent, by which it is a double from the start.
fn number(x: f64) -> String {
    let plain = format!("{}", x + 0.0);
    let digits = plain.bytes().filter(u8::is_ascii_digit).count();
    if digits <= 15 { plain } else { format!("{x:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        for (x, expect) in [
            (3.0, "3"),
            (-0.0, "0"),
            (2.5, "2.5"),
            (0.1, "0.1"),
            (-1e14, "-100000000000000"),
            (1e20, "1e20"),
            (0.1 + 0.2, "3.0000000000000004e-1"),
            (1e-20, "1e-20"),
        ] {
            assert_eq!(number(x), expect);
            assert_eq!(number(x).parse(), Ok(x));
        }
    }

    #[test]
    fn conditions_are_words_of_sql() {
        let columns = [
            Column::Number { name: "a \"b\"".into(), cast: true },
            Column::Category { name: "country".into(), value: "Côte d'Ivoire".into() },
            Column::Other { name: "country".into(), values: vec!["DE".into(), "FR".into()] },
        ];
        let check = |column: usize, known, missing: bool, gaps: bool, read: &str, asked: &str| {
            let rule = Rule { leaf: 0, segment: 1, conditions: vec![Condition { column, known, missing, gaps }] };
            assert_eq!(super::rule(&rule, &columns), read);
            assert_eq!(conjunction(&rule, &columns, true), asked);
        };
        let (a, null) = ("CAST(\"a \"\"b\"\"\" AS DOUBLE)", "\"a \"\"b\"\"\" IS NULL");
        let both = format!("{a} > 1 AND {a} <= 2.5");
        check(0, Some((Some(1.0), Some(2.5))), false, true, &both, &both);
        check(0, Some((Some(1.0), Some(2.5))), true, false, &both, &format!("({both} OR {null})"));
        check(
            0,
            Some((Some(1.0), Some(2.5))),
            true,
            true,
            &format!("({both} OR {null})"),
            &format!("({both} OR {null})"),
        );
        check(0, Some((None, None)), false, true, &null.replace("NULL", "NOT NULL"), &null.replace("NULL", "NOT NULL"));
        check(0, None, true, true, null, null);
        check(0, Some((None, None)), true, true, "TRUE", "TRUE");
        check(
            1,
            Some((Some(0.0), None)),
            false,
            false,
            "\"country\" = 'Côte d''Ivoire'",
            "\"country\" = 'Côte d''Ivoire'",
        );
        check(
            1,
            Some((None, Some(0.0))),
            false,
            false,
            "\"country\" <> 'Côte d''Ivoire'",
            "\"country\" <> 'Côte d''Ivoire'",
        );
        check(
            2,
            Some((Some(0.0), None)),
            false,
            false,
            "\"country\" NOT IN ('DE', 'FR')",
            "\"country\" NOT IN ('DE', 'FR')",
        );
        check(2, Some((None, Some(0.0))), false, false, "\"country\" IN ('DE', 'FR')", "\"country\" IN ('DE', 'FR')");
    }
}
