//! `email_key(text)` and `phone_key(text, country, otherwise)`: addresses in the shape in which they are the same.
//!
//! An e-mail address in lower case, without the tag behind a plus; with Gmail, without dots, since these are one mailbox there. What is no
//! address is null. A telephone number as E.164, read as libphonenumber reads it; `country` (ISO 3166-1 alpha-2; where
//! it is none, `otherwise`) is for numbers that name none. Of a number whose country nobody knows, the digits behind a `?`; null for fewer than six digits, or digits that are all the same.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StringViewBuilder},
        datatypes::DataType,
    },
    common::Result,
    logical_expr::ScalarUDF,
};
use phonenumber::{Mode, country};

use super::{arity, cast, names::of_text, stateless};

pub(super) fn email_udf() -> ScalarUDF {
    of_text("email_key", email_key)
}

pub(super) fn phone_udf() -> ScalarUDF {
    stateless("phone_key", DataType::Utf8View, phones)
}

fn email_key(text: &str, out: &mut String) {
    let text = text.trim().to_lowercase();
    let Some((local, domain)) = text.rsplit_once('@') else { return };
    let local = local.split('+').next().unwrap_or(local);
    let odd = |part: &str| part.is_empty() || part.contains(['@', ' ', ',', ';']);
    if odd(local) || odd(domain) || !domain.contains('.') || domain.starts_with('.') || domain.ends_with('.') {
        return;
    }
    match domain {
        "gmail.com" | "googlemail.com" => {
            out.extend(local.chars().filter(|c| *c != '.'));
            out.push_str("@gmail.com");
        }
        domain => {
            out.push_str(local);
            out.push('@');
            out.push_str(domain);
        }
    }
}

fn phones(args: &[ArrayRef]) -> Result<ArrayRef> {
    arity("phone_key", args, 3)?;
    let (texts, countries) = (cast(&args[0], &DataType::Utf8View)?, cast(&args[1], &DataType::Utf8View)?);
    let otherwise = cast(&args[2], &DataType::Utf8View)?;
    let mut keys = StringViewBuilder::with_capacity(texts.len());
    let mut last: (String, Option<country::Id>) = Default::default();
    let countries = countries.as_string_view().iter().zip(otherwise.as_string_view());
    for (text, (country, otherwise)) in texts.as_string_view().iter().zip(countries) {
        let country = country.filter(|c| c.trim().len() == 2).or(otherwise).unwrap_or_default().trim();
        if last.0 != country {
            last = (country.to_owned(), country.to_ascii_uppercase().parse().ok());
        }
        match text.and_then(|text| phone_key(text, last.1)) {
            Some(key) => keys.append_value(key),
            None => keys.append_null(),
        }
    }
    Ok(Arc::new(keys.finish()))
}

/// Whether ISO 3166-1 has a country of that code, and it has telephone numbers.
#[must_use]
pub fn is_country(code: &str) -> bool {
    code.parse::<country::Id>().is_ok()
}

fn phone_key(text: &str, country: Option<country::Id>) -> Option<String> {
    // An extension is another telephone at the same number.
    let text = text.split(['x', 'X', ';', ',']).next().unwrap_or(text).replace("(0)", "");
    let digits: String = text.chars().filter(char::is_ascii_digit).take(24).collect();
    let first = digits.chars().next()?;
    if digits.len() < 6 || digits.chars().all(|c| c == first) {
        return None;
    }
    let international = match (text.trim_start().starts_with('+'), digits.strip_prefix("00")) {
        (true, _) => Some(digits.as_str()),
        (false, abroad) => abroad,
    };
    let parsed = match international {
        Some(digits) => phonenumber::parse(None, format!("+{digits}")).ok(),
        None => country.and_then(|country| phonenumber::parse(Some(country), &digits).ok()),
    };
    Some(match parsed {
        Some(number) => number.format().mode(Mode::E164).to_string(),
        None => format!("?{digits}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mailbox() {
        let key = |text: &str| {
            let mut out = String::new();
            email_key(text, &mut out);
            out
        };
        assert_eq!(key(" Anna.B+shop@Example.COM "), "anna.b@example.com");
        assert_eq!(key("a.n.n.a@googlemail.com"), "anna@gmail.com");
        for none in ["anna", "@example.com", "a b@example.com", "a@b", "a@.com", "+x@example.com"] {
            assert_eq!(key(none), "", "{none}");
        }
    }

    #[test]
    fn one_number() {
        let german = "DE".parse().ok();
        for text in
            ["0171/234 56-78", "+49 171 2345678", "0049 (0)171 2345678", "+49 (0) 171-2345678", "0171 2345678 x12"]
        {
            assert_eq!(phone_key(text, german).as_deref(), Some("+491712345678"), "{text}");
        }
        assert_eq!(phone_key("+1 (650) 253-0000", german).as_deref(), Some("+16502530000"));
        assert_eq!(phone_key("0171 2345678", None).as_deref(), Some("?01712345678"));
        for none in ["000000000", "12345", "", "none"] {
            assert_eq!(phone_key(none, german), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_there_is_read(text in "[+0-9 ()/x;,.-]{0,40}") {
            phone_key(&text, "US".parse().ok());
            phone_key(&text, None);
        }
    }
}
