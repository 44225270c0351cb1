//! What happened, in sentences: nothing but what the rows say. A sentence keeps the numbers that it is made of, so that
//! the page can say where each was found.

use crate::{
    Facts,
    facts::EntryKind,
    number::{change, clean, count, date, grouped, in_unit, title, words},
    read::{Number, Row},
    rows::{Cause, Kpi, Term},
};

/// A piece of a sentence: plain words, or a number of a table with its address.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Words(String),
    Fact { shown: String, raw: String, at: String },
}

/// A sentence.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sentence(pub Vec<Piece>);

impl Sentence {
    pub fn of(text: impl Into<String>) -> Self {
        Self(vec![Piece::Words(text.into())])
    }

    pub fn say(&mut self, text: impl Into<String>) -> &mut Self {
        self.0.push(Piece::Words(text.into()));
        self
    }

    pub fn fact(&mut self, number: &Number, shown: String, at: String) -> &mut Self {
        self.0.push(Piece::Fact { shown, raw: number.raw.clone(), at });
        self
    }

    pub fn text(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Words(text) => text.clone(),
            Piece::Fact { shown, .. } => shown.clone(),
        };
        self.0.iter().map(piece).collect()
    }
}

/// A state for people, where there is no value.
pub(crate) fn untold(state: &str, k: u32) -> String {
    match state {
        "suppressed" => format!("not told (fewer than {k} people)"),
        "versus_suppressed" => "what it is compared with is not told".to_owned(),
        "not_available" => "not available".to_owned(),
        "not_identifiable" => "cannot be identified from these data".to_owned(),
        "cannot_tell" => "cannot tell".to_owned(),
        "redefined" => "defined otherwise on the earlier night".to_owned(),
        "rows_differ" => "the rows do not add up to the sums".to_owned(),
        "low_n" => "too few people to tell".to_owned(),
        _ => "not known".to_owned(),
    }
}

/// The same for a narrow cell.
pub(crate) fn untold_short(state: &str) -> &'static str {
    match state {
        "suppressed" | "versus_suppressed" => "not told",
        "not_available" => "not available",
        "not_identifiable" => "not identifiable",
        "low_n" => "too few",
        "redefined" => "redefined",
        _ => "not known",
    }
}

/// A segment by its number and name.
pub(crate) fn segment(facts: &Facts, id: i64) -> String {
    match segment_name(facts, id) {
        Some(name) => format!("segment {id} ({name})"),
        None => format!("segment {id}"),
    }
}

/// The name of a segment, tonight's or its last one.
pub(crate) fn segment_name(facts: &Facts, id: i64) -> Option<String> {
    let tonight = facts.names.iter().find(|row| row.segment == id).and_then(|row| row.name.as_deref());
    let before = facts.names_before.iter().find(|row| row.segment == id).and_then(|row| row.name.as_deref());
    tonight.or(before).map(|name| clean(name, 70)).filter(|name| !name.is_empty())
}

/// A term of a change.
pub(crate) fn term(term: &str, detail: Option<&str>) -> String {
    let of = |text: &str| match detail {
        None => text.to_owned(),
        Some("data") => format!("{text}, by their data"),
        Some("refit") => format!("{text}, by the new model"),
        Some("released") => format!("{text}, no longer held by the old model"),
        Some(other) => format!("{text}: {}", words(other)),
    };
    match term {
        "restated" => "rows that came late or were restated".to_owned(),
        "identity" => "accounts that are part of another customer now".to_owned(),
        "new" => "new customers".to_owned(),
        "left" => "customers who left".to_owned(),
        "moved_in" => of("customers from other segments"),
        "moved_out" => of("customers to other segments"),
        "behaviour" => of("customers known before"),
        "withheld" => "of too few people to be told by itself".to_owned(),
        other => of(&words(other)),
    }
}

/// How a KPI changed since the previous night, if both values are told.
pub(crate) fn moved(kpi: &Kpi, unit: &str, currency: &str) -> Option<String> {
    let (value, previous) = (kpi.value.as_ref()?.value, kpi.previous.as_ref()?.value);
    let difference = value - previous;
    if unit == "share" || previous == 0.0 || unit == "points" {
        return Some(change(difference, unit, currency));
    }
    Some(relative(difference / previous.abs()))
}

/// A change as a share of what was.
pub(crate) fn relative(share: f64) -> String {
    let text = grouped(100.0 * share.abs(), if share.abs() >= 10.0 { 0 } else { 1 });
    let zero = !text.contains(|c: char| ('1'..='9').contains(&c));
    format!(
        "{}{text}\u{202f}%",
        if zero {
            "±"
        } else if share < 0.0 {
            "−"
        } else {
            "+"
        }
    )
}

/// The KPIs that the page begins with: those of what the business is after, six at most.
pub(crate) fn headlines(facts: &Facts) -> Vec<&Kpi> {
    let all = facts.of_everybody();
    let mut chosen: Vec<&Kpi> = all.iter().copied().filter(|row| row.headline == Some(true)).collect();
    if chosen.is_empty() {
        chosen = all;
    }
    chosen.sort_by_key(|row| row.kpi != "revenue");
    let mut kept: Vec<&Kpi> = Vec::new();
    for row in chosen {
        // Of two that are 1 together, such as retention and churn, one says it all.
        let value = |row: &Kpi| row.value.as_ref().map(|number| number.value);
        let is_share = |row: &Kpi| facts.unit(EntryKind::Kpi, &row.kpi) == "share";
        let mirrors = |other: &&Kpi| {
            is_share(other)
                && is_share(row)
                && value(other).zip(value(row)).is_some_and(|(a, b)| (a + b - 1.0).abs() < 1e-12)
        };
        if !kept.iter().any(mirrors) {
            kept.push(row);
        }
    }
    kept.truncate(6);
    kept
}

/// The verdict: what the first KPI did and why, whether the gates hold, whether the rows do.
pub(crate) fn verdict(facts: &Facts) -> Vec<Sentence> {
    let mut all: Vec<Sentence> = headlines(facts).first().map(|kpi| lead(facts, kpi)).into_iter().collect();
    if all.is_empty() {
        all.push(Sentence::of("No KPI is told tonight."));
    }
    all.extend(gates(facts));
    let failing = facts.checks.iter().filter(|check| check.state == "fail").count();
    let checked = !facts.check_states.is_empty();
    if failing > 0 {
        let noun = if failing == 1 { "check of the rows fails" } else { "checks of the rows fail" };
        all.push(Sentence::of(format!("{failing} {noun}.")));
    } else if checked {
        all.push(Sentence::of("No check of the rows fails."));
    }
    all
}

fn lead(facts: &Facts, kpi: &Kpi) -> Sentence {
    let unit = facts.unit(EntryKind::Kpi, &kpi.kpi);
    let currency = &facts.night.currency;
    let name = title(&kpi.kpi);
    let Some(value) = &kpi.value else {
        return Sentence::of(format!("{name} is {}.", untold(&kpi.state, facts.night.k)));
    };
    let shown = in_unit(value.value, unit, currency);
    let (Some(previous), Some(moved)) = (&kpi.previous, moved(kpi, unit, currency)) else {
        let mut sentence = Sentence::of(format!("{name} is "));
        sentence.fact(value, shown, kpi.at("value")).say("; there is no earlier night to hold it against.");
        return sentence;
    };
    let difference = value.value - previous.value;
    let since = facts.since().map(|since| format!(" since {}", date(since))).unwrap_or_default();
    let mut sentence = Sentence::default();
    if difference == 0.0 {
        sentence.say(format!("{name} is what it was, ")).fact(value, shown, kpi.at("value")).say(".");
        return sentence;
    }
    let verb = if difference > 0.0 { "rose" } else { "fell" };
    let by = moved.trim_start_matches(['+', '−', '±']);
    sentence.say(format!("{name} {verb} by {by} to ")).fact(value, shown, kpi.at("value")).say(since);
    if kpi.kpi == "revenue" {
        because(facts, difference, &mut sentence);
    }
    sentence.say(".");
    sentence
}

/// The term that counts most for the change of revenue.
fn because(facts: &Facts, difference: f64, sentence: &mut Sentence) {
    let size = |row: &&Term| row.contribution.as_ref().map_or(0.0, |number| number.value * difference.signum());
    let with: f64 = facts.waterfall.iter().map(|row| size(&row).max(0.0)).sum();
    let most = facts.waterfall.iter().filter(|row| size(row) > 0.0).max_by(|a, b| size(a).total_cmp(&size(b)));
    if let Some((row, name, contribution)) =
        most.and_then(|row| Some((row, row.term.as_deref()?, row.contribution.as_ref()?)))
    {
        let by = if size(&row) > with / 2.0 { "most of it" } else { "mainly" };
        sentence.say(format!(", {by} by {} (", term(name, row.detail.as_deref())));
        let shown = change(contribution.value, "currency", &facts.night.currency);
        sentence.fact(contribution, shown, row.at("contribution")).say(")");
    }
}

fn gates(facts: &Facts) -> Option<Sentence> {
    let asked = facts.gates.len();
    if asked == 0 {
        return None;
    }
    let failing: Vec<_> = facts.gates.iter().filter(|gate| gate.state == "fail").collect();
    let required = failing.iter().filter(|gate| gate.gate.as_deref() == Some("required")).count();
    let mut metrics: Vec<String> = failing.iter().map(|gate| words(&gate.metric)).collect();
    metrics.dedup();
    metrics.truncate(3);
    Some(Sentence::of(match (failing.len(), required) {
        (0, _) => format!("All {} gates hold.", count(asked as f64)),
        (n, 0) => format!("{n} of {asked} gates fail ({}), none of them required.", metrics.join(", ")),
        (n, r) => format!("{n} of {asked} gates fail ({}), {r} of them required.", metrics.join(", ")),
    }))
}

/// Where a cause is, for people.
fn place(facts: &Facts, cause: &Cause) -> String {
    let all = cause.dimensions.as_deref().unwrap_or_default();
    let told = all.split('\u{1f}').filter(|one| !one.trim().is_empty()).map(|one| match one.split_once('=') {
        Some(("segment", id)) => {
            id.parse().map_or_else(|_| format!("segment {}", clean(id, 40)), |id| segment(facts, id))
        }
        Some(("day" | "days", days)) => days.split('/').map(date).collect::<Vec<_>>().join(" to "),
        Some((name, value)) => format!("{} {}", words(name), clean(value, 60)),
        None => clean(one, 60),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A cause of a change.
pub(crate) fn cause(facts: &Facts, cause: &Cause) -> Sentence {
    let unit = facts.unit(EntryKind::Kpi, &cause.kpi);
    let Some(contribution) = &cause.contribution else {
        return Sentence::of(format!("Why it changed is {}.", untold(&cause.state, facts.night.k)));
    };
    let place = place(facts, cause);
    let what = match cause.finding.as_deref().unwrap_or_default() {
        "where" => {
            let mut signs = place.chars();
            signs.next().map_or(String::new(), |first| first.to_uppercase().chain(signs).collect())
        }
        "everywhere" => "What all share".to_owned(),
        "mix" => "Other shares of what the ratio is to".to_owned(),
        "rest" => "Further places, each of less".to_owned(),
        "missing" if contribution.value > 0.0 => format!("Rows missing on {place}, out of the window now"),
        "missing" => format!("Rows missing on {place}"),
        "restated" => "Rows that came late or were restated".to_owned(),
        "identity" => "Accounts that are part of another customer now".to_owned(),
        "refit" if place.contains("moved in") => "Customers whom the new model places here".to_owned(),
        "refit" => "Customers whom the new model places elsewhere".to_owned(),
        "emerging" => format!("Emerging in four weeks, on no night by itself: {place}"),
        other => format!("{} {place}", title(other)),
    };
    let mut sentence = Sentence::of(format!("{}: ", what.trim_end()));
    sentence.fact(contribution, change(contribution.value, unit, &facts.night.currency), cause.at("contribution"));
    if let Some(part) = &cause.change {
        let more = if part.value < 0.0 { "less" } else { "more" };
        let shown = format!("{}\u{202f}%", grouped(100.0 * part.value.abs(), 1));
        sentence.say(", ").fact(part, shown, cause.at("change")).say(format!(" {more} than was to be expected there"));
    }
    if let Some(share) = &cause.bootstrap_share {
        let shown = format!("{}\u{202f}%", grouped(100.0 * share.value, 0));
        sentence
            .say("; found again in ")
            .fact(share, shown, cause.at("bootstrap_share"))
            .say(" of resamples of the customers");
    }
    if let Some(since) = &cause.found_since {
        sentence.say(format!("; found since {}", date(since)));
    }
    if let Some(times) = cause.occurrences.as_ref().filter(|times| times.value > 1.0) {
        sentence.say("; for the ").fact(times, ordinal(times.value), cause.at("occurrences")).say(" time in a quarter");
    }
    sentence.say(".");
    sentence
}

fn ordinal(value: f64) -> String {
    let ending = match (value % 10.0, (value % 100.0 / 10.0).floor()) {
        (_, 1.0) => "th",
        (1.0, _) => "st",
        (2.0, _) => "nd",
        (3.0, _) => "rd",
        _ => "th",
    };
    format!("{}{ending}", count(value))
}

/// How fresh the night is.
pub(crate) fn freshness(facts: &Facts) -> Sentence {
    let mut sentence = Sentence::default();
    let check = |name: &str| facts.checks.iter().find(|check| check.name == name);
    let newest = check("newest_day").and_then(|check| Some((check, check.value.as_ref()?)));
    match newest {
        Some((_, days)) if days.value == 0.0 => sentence.say("The newest order is of the day before the night. "),
        Some((check, days)) => {
            sentence.say("Orders end ").fact(days, count(days.value), check.at("value"));
            let noun = if days.value == 1.0 { "day" } else { "days" };
            sentence.say(format!(" {noun} before the night's last day. "))
        }
        None => sentence.say("How old the newest order is, is not known. "),
    };
    if !facts.inputs.is_empty() {
        let files: f64 = facts.inputs.iter().map(|row| row.files.value).sum();
        let rows: f64 = facts.inputs.iter().filter_map(|row| Some(row.file_rows.as_ref()?.value)).sum();
        let new: f64 = facts.inputs.iter().filter_map(|row| Some(row.new_files.as_ref()?.value)).sum();
        let new = if new > 0.0 { format!("{} new tonight", count(new)) } else { "none of them new".to_owned() };
        sentence.say(format!("{} rows in {} files, {new}. ", count(rows), count(files)));
    }
    sentence
}
