//! Numbers, dates and names as people write them.

/// A blank that is narrow and does not break, between thousands and before a percent sign.
const THIN: char = '\u{202f}';

/// A value in its unit, with the digits that it deserves.
pub(crate) fn in_unit(value: f64, unit: &str, currency: &str) -> String {
    if unit == "share" {
        return format!("{}{THIN}%", grouped(100.0 * value, if value.abs() >= 10.0 { 0 } else { 1 }));
    }
    if is_money(unit) {
        return money(value, currency, value.abs() >= 1e6);
    }
    plain(value, unit)
}

/// The same without its unit, for a column whose head says it: with as many decimals as its largest number has.
pub(crate) fn bare(value: f64, unit: &str, largest: f64) -> String {
    match unit {
        "share" => grouped(100.0 * value, if largest >= 10.0 { 0 } else { 1 }),
        _ if is_money(unit) && largest >= 1e8 => format!("{}{THIN}M", grouped(value / 1e6, 2)),
        _ if is_money(unit) => grouped(value, if largest >= 300.0 { 0 } else { 2 }),
        "" => figure(value),
        _ if COUNTS.contains(&unit) && value.fract() == 0.0 => grouped(value, 0),
        _ if largest >= 300.0 => grouped(value, 0),
        _ if largest >= 30.0 => grouped(value, 1),
        _ => grouped(value, 2),
    }
}

/// What a column is in whose values stand bare.
pub(crate) fn head(unit: &str, currency: &str) -> String {
    match unit {
        "share" => "%".to_owned(),
        _ if is_money(unit) => unit.replacen("currency", symbol(currency).trim_end(), 1),
        other => other.to_owned(),
    }
}

/// A difference with its sign; of shares, in points of a hundred.
pub(crate) fn change(value: f64, unit: &str, currency: &str) -> String {
    let size = match unit {
        "share" => format!("{}{THIN}points", grouped(100.0 * value.abs(), if value.abs() < 0.001 { 2 } else { 1 })),
        _ => in_unit(value.abs(), unit, currency),
    };
    let zero = !size.contains(|c: char| ('1'..='9').contains(&c));
    let sign = if zero {
        "±"
    } else if value < 0.0 {
        "−"
    } else {
        "+"
    };
    format!("{sign}{size}")
}

/// Money with all its digits: to the hundredth, from millionths.
pub(crate) fn exact(micros: i128, currency: &str) -> String {
    let cents = (micros.abs() + 5_000) / 10_000;
    let sign = if micros < 0 && cents > 0 { "−" } else { "" };
    format!("{sign}{}{}.{:02}", symbol(currency), thousands(&(cents / 100).to_string()), cents % 100)
}

/// Money; in millions where that is asked for.
pub(crate) fn money(value: f64, currency: &str, millions: bool) -> String {
    let text = match value.abs() {
        _ if millions => format!("{}{THIN}M", grouped(value.abs() / 1e6, 2)),
        size if size >= 1e4 => grouped(size, 0),
        size => grouped(size, 2),
    };
    let sign = if value < 0.0 && text.contains(|c: char| ('1'..='9').contains(&c)) { "−" } else { "" };
    format!("{sign}{}{text}", symbol(currency))
}

/// A count.
pub(crate) fn count(value: f64) -> String {
    grouped(value, 0)
}

/// Three digits that count, or so.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => grouped(value, 0),
        size if size >= 100.0 => grouped(value, 1),
        size if size >= 1.0 => grouped(value, 2),
        size if size >= 0.01 => grouped(value, 3),
        size if size >= 0.0001 => grouped(value, 4),
        _ => grouped(value, 6),
    }
}

/// A number with this many decimals, a minus that is one, and a thin blank between thousands.
pub(crate) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let zero = !text.contains(|c: char| ('1'..='9').contains(&c));
    let sign = if value < 0.0 && !zero { "−" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", thousands(whole))
}

fn thousands(digits: &str) -> String {
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(THIN);
        }
        out.push(digit);
    }
    out
}

const COUNTS: &[&str] = &["customers", "orders", "categories", "interactions", "contacts", "answers", "e-mails"];

fn plain(value: f64, unit: &str) -> String {
    match value.abs() {
        size if size >= 1000.0 => grouped(value, 0),
        _ if COUNTS.contains(&unit) && value.fract() == 0.0 => grouped(value, 0),
        size if size >= 100.0 => grouped(value, 0),
        size if size >= 10.0 => grouped(value, 1),
        _ => grouped(value, 2),
    }
}

fn is_money(unit: &str) -> bool {
    unit.starts_with("currency")
}

fn symbol(currency: &str) -> String {
    match currency {
        "EUR" => "€".to_owned(),
        "GBP" => "£".to_owned(),
        "USD" => "$".to_owned(),
        "JPY" | "CNY" => "¥".to_owned(),
        "INR" => "₹".to_owned(),
        other => format!("{}\u{a0}", clean(other, 8)),
    }
}

/// A date as it is spoken: 1 January 2026.
pub(crate) fn date(iso: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let mut parts = iso.splitn(3, '-');
    let spoken = (|| {
        let (year, month, day) = (parts.next()?, parts.next()?.parse::<usize>().ok()?, parts.next()?);
        let day: u32 = day.get(..2)?.parse().ok()?;
        Some(format!("{day}\u{a0}{} {}", MONTHS.get(month.checked_sub(1)?)?, year.parse::<u32>().ok()?))
    })();
    spoken.unwrap_or_else(|| clean(iso, 24))
}

/// A name of the catalogue for people: average_order_value is Average order value, and clv is CLV.
pub(crate) fn title(name: &str) -> String {
    let text = words(name);
    let mut signs = text.chars();
    signs.next().map_or(String::new(), |first| first.to_uppercase().chain(signs).collect())
}

/// The same within a sentence.
pub(crate) fn words(name: &str) -> String {
    const SHORT: &[&str] = &["clv", "cac", "nps", "csat", "roi", "psi", "bg", "nbd", "mbg"];
    let text = clean(name, 60);
    let words = text.split('_').map(|word| match word {
        "last90" => "of the last 90 days".to_owned(),
        "prior90" => "of the 90 days before".to_owned(),
        "std" => "spread".to_owned(),
        _ if SHORT.contains(&word) => word.to_uppercase(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A text of the data, safe to be set: on one line, without signs that turn the writing direction, not longer than this.
pub(crate) fn clean(text: &str, longest: usize) -> String {
    let turns = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}');
    // Marks that pile up above a letter would reach into the lines around it.
    let piles = |c: char| matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}');
    let mut out = String::new();
    let (mut signs, mut piled) = (0, 0);
    for c in text.chars() {
        let c = if c.is_control() || c.is_whitespace() { ' ' } else { c };
        if turns(c) || (c == ' ' && (out.is_empty() || out.ends_with(' '))) {
            continue;
        }
        piled = if piles(c) { piled + 1 } else { 0 };
        if piled > 2 {
            continue;
        }
        if signs == longest {
            out.truncate(out.trim_end().len());
            out.push('…');
            return out;
        }
        signs += 1;
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_people_write_them() {
        assert_eq!(in_unit(6_262_237.673, "currency", "EUR"), "€6.26\u{202f}M");
        assert_eq!(in_unit(165.536, "currency per order", "CHF"), "CHF\u{a0}165.54");
        assert_eq!(in_unit(0.8683, "share", "EUR"), "86.8\u{202f}%");
        assert_eq!(in_unit(18497.0, "customers", "EUR"), "18\u{202f}497");
        assert_eq!(in_unit(-0.00001, "share", "EUR"), "0.0\u{202f}%");
        assert_eq!(change(0.0211, "share", "EUR"), "+2.1\u{202f}points");
        assert_eq!(change(-1256.0, "customers", "EUR"), "−1\u{202f}256");
        assert_eq!(change(0.0, "share", "EUR"), "±0.00\u{202f}points");
        assert_eq!(exact(-1_234_567_895_000, "EUR"), "−€1\u{202f}234\u{202f}567.90");
    }

    #[test]
    fn dates_and_names() {
        assert_eq!(date("2026-01-01"), "1\u{a0}January 2026");
        assert_eq!(date("2026-99-01"), "2026-99-01");
        assert_eq!(title("average_order_value"), "Average order value");
        assert_eq!(title("clv"), "CLV");
    }

    #[test]
    fn texts_are_tamed() {
        assert_eq!(clean(" a\n\u{202e}b\t c ", 20), "a b c");
        assert_eq!(clean(&"x".repeat(300), 5), "xxxxx…");
        assert_eq!(clean("e\u{301}\u{301}\u{301}\u{301}", 9), "e\u{301}\u{301}");
    }
}
