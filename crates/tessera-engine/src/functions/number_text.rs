//! `number_text(text, decimal, thousands)`: a number as SQL writes it, from one with other signs before its decimals and between its
//! thousands (none, if that is empty). Null where the signs do not stand as in a number.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, StringViewBuilder},
        datatypes::DataType,
    },
    common::Result,
    logical_expr::ScalarUDF,
};

use super::{cast, literal_text, with_words, wrong};

pub(super) fn udf() -> ScalarUDF {
    with_words("number_text", 1, DataType::Utf8View, number_text)
}

fn number_text(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, decimal, thousands] = args else {
        return Err(wrong("number_text takes a text and two signs".into()));
    };
    let decimal = literal_text(decimal, "the sign before decimals")?.chars().next().unwrap_or('.');
    let thousands = literal_text(thousands, "the sign between thousands")?.chars().next();
    let texts = cast(texts, &DataType::Utf8View)?;
    let mut numbers = StringViewBuilder::with_capacity(texts.len());
    for text in texts.as_string_view() {
        numbers.append_option(text.and_then(|text| number(text, decimal, thousands)));
    }
    Ok(Arc::new(numbers.finish()))
}

fn number(text: &str, decimal: char, thousands: Option<char>) -> Option<String> {
    let blank = thousands.is_some_and(char::is_whitespace);
    // One blank is as good as another: programs write no-break ones.
    let separates = |c: char| Some(c) == thousands || (blank && c.is_whitespace());
    let text = text.trim();
    let end = text.find(['e', 'E']).unwrap_or(text.len());
    let (mantissa, power) = text.split_at(end);
    let (whole, fraction) = match mantissa.split_once(decimal) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let (sign, whole) = match whole.strip_prefix(['-', '+']) {
        Some(rest) => (&whole[..1], rest.trim_start()),
        None => ("", whole),
    };
    let mut groups = whole.split(separates);
    let first = groups.next()?;
    let mut number = format!("{sign}{first}");
    let mut several = false;
    for group in groups {
        // 1.5 is no number of thousands.
        if group.len() != 3 || first.is_empty() || first.len() > 3 {
            return None;
        }
        several = true;
        number.push_str(group);
    }
    let body = number.trim_start_matches(['-', '+']);
    if !digits(body) || (several && body.is_empty()) || fraction.is_some_and(|f| !digits(f)) {
        return None;
    }
    if let Some(fraction) = fraction {
        number.push('.');
        number.push_str(fraction);
    }
    number.push_str(power);
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_stand_as_in_a_number_or_it_is_none() {
        for (text, decimal, thousands, expect) in [
            ("1.234,50", ',', Some('.'), Some("1234.50")),
            (" -12,5 ", ',', Some('.'), Some("-12.5")),
            ("1.234.567", ',', Some('.'), Some("1234567")),
            ("1.5", ',', Some('.'), None),
            ("1234.567", ',', Some('.'), None),
            ("1.234", ',', None, None),
            ("12,5", ',', None, Some("12.5")),
            ("1,234.5", '.', Some(','), Some("1234.5")),
            ("12,5", '.', Some(','), None),
            ("1\u{202f}234,5", ',', Some(' '), Some("1234.5")),
            ("1'234.50", '.', Some('\''), Some("1234.50")),
            ("1,2,3", ',', None, None),
            ("1,5e3", ',', None, Some("1.5e3")),
            ("abc", ',', None, None),
            ("12 EUR", ',', None, None),
            (",5", ',', None, Some(".5")),
        ] {
            assert_eq!(number(text, decimal, thousands).as_deref(), expect, "{text}");
        }
    }
}
