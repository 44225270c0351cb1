//! What the mapping makes of the first rows of a source, before a night is run over all of them.

use datafusion::prelude::DataFrame;
use tessera_contract::{Entity, project::Source as Settings, table::Kind};
use tessera_engine::formula::{quote, text};

use super::{
    Judge, Mapping,
    arrivals::arrivals,
    looks::{DATES, ROWS, SIGNS},
    mapping::FeedMapping,
    waterfall::unparsable,
};
use crate::{Night, Source, StageError, rows};

/// What is understood of a feed.
pub struct Preview {
    /// The rows that were looked at.
    pub rows: i64,
    /// By column that the source gives.
    pub columns: Vec<Understood>,
    /// What looks wrong, and what may help.
    pub remarks: Vec<String>,
}

/// What is understood of a column.
pub struct Understood {
    /// Its canonical name.
    pub name: String,
    /// How many rows have a value that was understood.
    pub known: i64,
    /// How many have one that was not.
    pub unread: i64,
    /// The least and the largest value, unless they tell of persons.
    pub example: Option<String>,
}

/// What the mapping makes of the first rows of each feed.
///
/// # Errors
/// When they cannot be read.
pub async fn preview(night: &Night<'_>, source: &Source) -> Result<Vec<Preview>, StageError> {
    let judge = Judge::of(night, source).await?;
    let mut found = Vec::new();
    let feeds = night.project.feeds(source.entity);
    for ((at, feed), declared) in judge.mapping.feeds.iter().enumerate().zip(feeds) {
        let one = Source {
            entity: source.entity,
            feeds: source
                .feeds
                .iter()
                .enumerate()
                .map(|(i, f)| f.limited(if i == at { ROWS } else { 0 }))
                .collect::<Result<_, _>>()?,
            before: None,
            unchanged: false,
        };
        let arrivals = arrivals(night, &one, &judge.mapping).await?;
        let typed = judge.typed(night, &arrivals).await?;
        found.push(of(night, source.entity, &judge.mapping, (feed, declared.source), &typed, &arrivals[at]).await?);
    }
    Ok(found)
}

async fn of(
    night: &Night<'_>,
    entity: Entity,
    mapping: &Mapping,
    (feed, settings): (&FeedMapping, &Settings),
    typed: &DataFrame,
    raw: &DataFrame,
) -> Result<Preview, StageError> {
    let given: Vec<_> = feed.columns.iter().filter(|m| m.available && m.absent.is_none()).collect();
    let mut asked = vec!["count(*) AS rows, count(_defect) AS broken".to_owned()];
    for (at, m) in given.iter().enumerate() {
        let name = quote(&m.column.name);
        let flag = mapping.columns.iter().find(|any| any.column.name == m.column.name && any.unparsable.is_some());
        let unread = flag
            .map_or("0".to_owned(), |any| format!("count(*) FILTER (WHERE {})", quote(&unparsable(&any.column.name))));
        asked.push(format!(
            "count({name}) AS known{at}, {unread} AS unread{at}, arrow_cast(min({name}), 'Utf8') AS least{at}, \
             arrow_cast(max({name}), 'Utf8') AS most{at}"
        ));
    }
    let event = entity.event_time();
    asked.push(format!("count(*) FILTER (WHERE {event} > as_of + INTERVAL '1 day') AS later"));
    if entity == Entity::Customers {
        asked.push("count(customer_id) - count(DISTINCT customer_id) AS again".to_owned());
    }
    if entity == Entity::Transactions {
        asked.push("bool_and(unit_price = floor(unit_price)) AND min(unit_price) >= 50 AS cents".to_owned());
    }
    let query = format!("SELECT {} FROM rows", asked.join(", "));
    let batch = rows::collect(night.over(&query, &[("rows", typed)]).await?).await?;
    let one = |name: &str| Ok::<_, StageError>(rows::integers(&batch, name)?.first().copied().flatten().unwrap_or(0));
    let word = |name: &str| Ok::<_, StageError>(rows::texts(&batch, name)?.pop().flatten());
    let mut preview = Preview { rows: one("rows")?, columns: Vec::new(), remarks: Vec::new() };
    for (at, m) in given.iter().enumerate() {
        let name = &m.column.name;
        // What a column of the project's own tells, nobody knows.
        let personal = name == "customer_id"
            || entity.column(name).is_none()
            || (entity.is_personal()
                && !matches!(name.as_str(), "country" | "signup_at" | "answered_at" | "instrument"));
        let example = match (word(&format!("least{at}"))?, word(&format!("most{at}"))?) {
            (Some(least), Some(most)) if !personal => {
                Some(if least == most { least } else { format!("{least} … {most}") })
            }
            _ => None,
        };
        let (known, unread) = (one(&format!("known{at}"))?, one(&format!("unread{at}"))?);
        if unread > 0 {
            let advice = advice(night, settings, name, m.column.kind, raw).await?;
            preview.remarks.push(format!("{name}: {unread} of {} values could not be read{advice}", known + unread));
        } else if known == 0 && preview.rows > 0 {
            preview.remarks.push(format!("{name}: no row has a value"));
        }
        preview.columns.push(Understood { name: name.clone(), known, unread, example });
    }
    let broken = one("broken")?;
    if broken > 0 {
        let query = "SELECT first_value(_defect ORDER BY _locator) AS d FROM rows WHERE _defect IS NOT NULL";
        let first = rows::texts(&rows::collect(night.over(query, &[("rows", typed)]).await?).await?, "d")?;
        let first = first.into_iter().flatten().next().unwrap_or_default();
        let advice = if first.contains("invalid UTF-8") { "; set encoding = \"latin-1\"?" } else { "" };
        preview.remarks.push(format!("{broken} lines are faulty, the first one: {first}{advice}"));
    }
    let later = one("later")?;
    if later > 0 {
        preview.remarks.push(format!("{event}: {later} rows are in the future"));
    }
    if entity == Entity::Customers && one("again")? > 0 {
        preview
            .remarks
            .push(format!("customer_id: {} rows repeat an id; superseded_customer keeps one of each", one("again")?));
    }
    if entity == Entity::Transactions && one("cents")? == 1 {
        preview.remarks.push(
            "unit_price: all prices are whole and none is small; if they are cents, map them divided by 100".into(),
        );
    }
    Ok(preview)
}

/// What would read more of the values of a column.
async fn advice(
    night: &Night<'_>,
    settings: &Settings,
    name: &str,
    kind: Kind,
    raw: &DataFrame,
) -> Result<String, StageError> {
    let from = settings.columns.get(name).map_or(name, String::as_str);
    if !raw.schema().has_column_with_unqualified_name(from) {
        return Ok(String::new());
    }
    let x = format!("nullif(btrim(CAST({} AS VARCHAR)), '')", quote(from));
    let candidates: Vec<(String, String)> = match kind {
        Kind::Date | Kind::Instant => DATES
            .iter()
            .map(|format| {
                (format!("date_formats = [\"{format}\"]"), format!("try_instant({x}, 'UTC', {})", text(format)))
            })
            .collect(),
        Kind::Boolean | Kind::Text | Kind::TextList => Vec::new(),
        _ => SIGNS
            .iter()
            .map(|(decimal, thousands)| {
                let set = thousands.map_or(String::new(), |t| format!(", thousands = \"{t}\""));
                let thousands = thousands.map(String::from).unwrap_or_default();
                let sql = format!("TRY_CAST(number_text({x}, '{decimal}', {}) AS DOUBLE)", text(&thousands));
                (format!("decimal = \"{decimal}\"{set}"), sql)
            })
            .collect(),
    };
    if candidates.is_empty() {
        return Ok(String::new());
    }
    let asked: Vec<_> = candidates.iter().enumerate().map(|(i, (_, sql))| format!("count({sql}) AS n{i}")).collect();
    let query = format!("SELECT count({x}) AS known, {} FROM rows", asked.join(", "));
    let batch = rows::collect(night.over(&query, &[("rows", raw)]).await?).await?;
    let one = |name: &str| Ok::<_, StageError>(rows::integers(&batch, name)?.first().copied().flatten().unwrap_or(0));
    let mut best: Vec<(i64, &str)> = Vec::new();
    for (i, (set, _)) in candidates.iter().enumerate() {
        best.push((one(&format!("n{i}"))?, set));
    }
    let most = best.iter().map(|(n, _)| *n).max().unwrap_or(0);
    let known = one("known")?;
    let which: Vec<&str> = best.iter().filter(|(n, _)| *n == most).map(|(_, set)| *set).take(2).collect();
    Ok(match most * 10 >= known * 9 && most > 0 {
        true => format!("; set {}?", which.join(" or ")),
        false => String::new(),
    })
}
