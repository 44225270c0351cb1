//! What the columns of a source look like by its first rows: for whoever maps them, or wonders what was not understood.

use datafusion::{arrow::datatypes::DataType, prelude::DataFrame};
use tessera_engine::{
    Engine,
    formula::{Words, quote, text},
};

use crate::{StageError, rows};

/// Rows that are looked at.
pub const ROWS: usize = 1000;
/// Columns that are looked at.
const COLUMNS: usize = 200;
/// Values of which a format may leave one in so many unread, and still be theirs.
const STRAYS: i64 = 20;

/// Ways in which dates are written beside ISO 8601, the more usual ones first.
pub const DATES: [&str; 19] = [
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d/%m/%Y",
    "%d/%m/%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d-%m-%Y",
    "%d-%m-%Y %H:%M",
    "%d-%m-%Y %H:%M:%S",
    "%Y%m%d",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
    "%d.%m.%y",
    "%m/%d/%y",
    "%m/%d/%y %H:%M",
    "%d %b %Y",
];

/// Signs before decimals and between thousands with which numbers are written.
pub const SIGNS: [(char, Option<char>); 4] = [('.', None), (',', None), (',', Some('.')), ('.', Some(','))];

/// A column as its first rows show it.
#[derive(Debug, Clone)]
pub struct Look {
    /// Its name.
    pub name: String,
    /// Its type in the source.
    pub kind: DataType,
    /// How many of the rows have a value.
    pub known: i64,
    /// How many different ones there are.
    pub distinct: i64,
    /// The signs with which nearly all values are numbers, the plainest first.
    pub numbers: Vec<(char, Option<char>)>,
    /// The formats with which nearly all are dates; the empty one is ISO 8601.
    pub dates: Vec<&'static str>,
    /// Whether all numbers are whole.
    pub whole: bool,
    /// The largest number.
    pub most: Option<f64>,
    /// Whether any value is a JSON object or list.
    pub objects: bool,
    /// Whether most values are e-mail addresses.
    pub emails: bool,
}

impl Look {
    /// Whether the source gives texts.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    }

    /// Whether the values are, or can be read as, numbers.
    #[must_use]
    pub fn is_number(&self) -> bool {
        self.kind.is_numeric() || !self.numbers.is_empty()
    }

    /// Whether the values are, or can be read as, dates or times.
    #[must_use]
    pub fn is_date(&self) -> bool {
        matches!(self.kind, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)) || !self.dates.is_empty()
    }
}

/// What the named columns of a source look like.
///
/// # Errors
/// When the rows cannot be read.
pub async fn looks(engine: &Engine, source: &DataFrame, columns: &[String]) -> Result<Vec<Look>, StageError> {
    let columns: Vec<&String> = columns.iter().take(COLUMNS).collect();
    let mut asked = Vec::new();
    for (at, name) in columns.iter().enumerate() {
        let column = quote(name);
        let x = format!("nullif(btrim(CAST({column} AS VARCHAR)), '')");
        asked.push(format!("count({x}) AS known{at}, count(DISTINCT {x}) AS distinct{at}"));
        asked.push(format!("count(*) FILTER (WHERE {x} LIKE '%_@_%.__%') AS email{at}"));
        asked.push(format!("count(*) FILTER (WHERE {x} LIKE '{{%' OR {x} LIKE '[%') AS object{at}"));
        let mut numbers = Vec::new();
        for (i, (decimal, thousands)) in SIGNS.iter().enumerate() {
            let thousands = thousands.map(String::from).unwrap_or_default();
            let number =
                format!("TRY_CAST(number_text({x}, {}, {}) AS DOUBLE)", text(&decimal.to_string()), text(&thousands));
            asked.push(format!("count({number}) AS number{at}_{i}"));
            numbers.push(number);
        }
        let number = format!("coalesce({})", numbers.join(", "));
        asked.push(format!(
            "max({number}) AS most{at}, coalesce(bool_and({number} = floor({number})), false) AS whole{at}"
        ));
        for (i, format) in std::iter::once(&"").chain(&DATES).enumerate() {
            let format = if format.is_empty() { String::new() } else { format!(", {}", text(format)) };
            asked.push(format!("count(try_instant({x}, 'UTC'{format})) AS date{at}_{i}"));
        }
    }
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!("SELECT {} FROM (SELECT * FROM source LIMIT {ROWS})", asked.join(", "));
    let batch = rows::collect(engine.sql(&query, &[("source", source)], &Words::none()).await?).await?;
    let count =
        |name: String| Ok::<_, StageError>(rows::integers(&batch, &name)?.first().copied().flatten().unwrap_or(0));
    let mut found = Vec::new();
    for (at, name) in columns.into_iter().enumerate() {
        let known = count(format!("known{at}"))?;
        let fits = |n: i64| known > 0 && n >= known - known / STRAYS;
        let iso = count(format!("date{at}_0"))?;
        let (mut numbers, mut dates) = (Vec::new(), Vec::new());
        for (i, signs) in SIGNS.iter().enumerate() {
            if fits(count(format!("number{at}_{i}"))?) {
                numbers.push(*signs);
            }
        }
        for (i, format) in std::iter::once(&"").chain(&DATES).enumerate() {
            // A format that reads nothing which ISO 8601 does not is none of theirs.
            let read = count(format!("date{at}_{i}"))?;
            if fits(read) && (i == 0 || read > iso) {
                dates.push(*format);
            }
        }
        found.push(Look {
            name: name.clone(),
            kind: source.schema().field_with_unqualified_name(name)?.data_type().clone(),
            known,
            distinct: count(format!("distinct{at}"))?,
            numbers,
            dates,
            whole: count(format!("whole{at}"))? == 1,
            most: rows::floats(&batch, &format!("most{at}"))?.first().copied().flatten(),
            objects: count(format!("object{at}"))? > 0,
            emails: fits(count(format!("email{at}"))?),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn columns_look_like_what_they_are() {
        let text = "no;day;price;when;share;mail;note\n\
                    1;31.01.2025;1.234,50;2025-01-31 10:00:00;0.5;a@b.example;x\n\
                    2;01.02.2025;2,50;2025-01-31T10:00:00Z;1;c@d.example;\n\
                    3;02.02.2025;10;2025-01-31;0.25;e@f.example;12a\n";
        let (engine, frame) = testing::raw(text).await;
        let names = ["no", "day", "price", "when", "share", "mail", "note"].map(str::to_owned);
        let found = looks(&engine, &frame, &names).await.expect("looks");
        let shown: Vec<String> = found
            .iter()
            .map(|l| {
                format!("{} {}/{} {:?} {:?} {} {}", l.name, l.known, l.distinct, l.numbers, l.dates, l.whole, l.emails)
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        no 3/3 [('.', None), (',', None), (',', Some('.')), ('.', Some(','))] [] true false
        day 3/3 [] ["%d.%m.%Y"] false false
        price 3/3 [(',', Some('.'))] [] false false
        when 3/3 [] [""] false false
        share 3/3 [('.', None), ('.', Some(','))] [] false false
        mail 3/3 [] [] false true
        note 2/2 [] [] false false
        "#);
    }
}
