//! What is measured of an entity, beside what SQL can say of its clean rows: of its files, its ledger and its quarantine.

use datafusion::prelude::DataFrame;
use tessera_contract::{Entity, Measure};
use tessera_engine::formula::text;

use super::{
    FEW, Found,
    days::{self, Weeks},
    first, short,
};
use crate::{Night, StageError, rows};

/// Names in a sentence.
const SHOWN: usize = 3;

/// What a measure finds of an entity, where there is something to measure. `weeks` are its newest ones, if a measure is of them;
/// `lags` is what [`Measure::NewestDay`] found on published nights.
pub(super) async fn measured(
    night: &Night<'_>,
    entity: Entity,
    measure: Measure,
    weeks: Option<&Weeks>,
    lags: &[f64],
) -> Result<Option<Found>, StageError> {
    match measure {
        Measure::FilesGone => files_gone(night, entity).await,
        Measure::ColumnsGone => columns_gone(night, entity).await,
        Measure::ColumnsNew => columns_new(night, entity).await,
        Measure::QuarantinedShare => quarantined(night, entity, false).await,
        Measure::QuarantinedShareOfNew => quarantined(night, entity, true).await,
        Measure::QuarantinedShareOfFile => quarantined_of_file(night, entity).await,
        Measure::RowsKept => kept(night, entity, "rows").await,
        Measure::AmountKept => kept(night, entity, "amount").await,
        _ => match weeks {
            Some(weeks) => days::measured(night, entity, measure, weeks, lags).await,
            None => Ok(None),
        },
    }
}

async fn files_gone(night: &Night<'_>, entity: Entity) -> Result<Option<Found>, StageError> {
    let Some(previous) = night.previous.get("inputs") else { return Ok(None) };
    let source = text(entity.name());
    let tables = [("previous", previous), ("inputs", night.input("inputs")?)];
    let files = async |these: &str, those: &str| {
        let of = |table| {
            format!("SELECT coalesce(feed, '') AS feed, file, bytes, rows FROM {table} WHERE source = {source}")
        };
        let query = format!(
            "SELECT a.file, a.bytes, a.rows FROM ({}) AS a LEFT ANTI JOIN ({}) AS b ON a.feed = b.feed AND a.file = b.file ORDER BY a.file",
            of(these),
            of(those)
        );
        let batch = rows::collect(night.over(&query, &tables).await?).await?;
        let names = rows::texts(&batch, "file")?.into_iter().map(Option::unwrap_or_default);
        let (bytes, count) = (rows::integers(&batch, "bytes")?, rows::integers(&batch, "rows")?);
        Ok::<_, StageError>(
            names
                .zip(bytes)
                .zip(count)
                .map(|((name, bytes), rows)| (name, bytes, rows.unwrap_or(0)))
                .collect::<Vec<_>>(),
        )
    };
    let query = format!(
        "SELECT i.file, p.rows - i.rows AS lost FROM previous AS p JOIN inputs AS i \
         ON coalesce(p.feed, '') = coalesce(i.feed, '') AND p.file = i.file AND p.source = i.source \
         WHERE p.source = {source} AND i.rows * 2 < p.rows ORDER BY i.file"
    );
    let emptied = rows::collect(night.over(&query, &tables).await?).await?;
    let lost: i64 = rows::integers(&emptied, "lost")?.into_iter().flatten().sum();
    let emptied: Vec<String> = rows::texts(&emptied, "file")?.into_iter().flatten().collect();
    let (mut gone, mut new) = (files("previous", "inputs").await?, files("inputs", "previous").await?);
    let known = night.over(&format!("SELECT 1 FROM previous WHERE source = {source}"), &tables).await?;
    if gone.len() as u64 == rows::count(night, &known).await? && !new.is_empty() {
        // Every night brings all of it under another name; whether it is all of it, the rows say.
        gone.clear();
    }
    let sum = |files: &[(String, Option<i64>, i64)]| files.iter().map(|(.., rows)| rows).sum::<i64>();
    // A file that only changed its name is as large as it was.
    gone.retain(|(_, bytes, _)| match new.iter().position(|(_, other, _)| bytes.is_some() && other == bytes) {
        Some(at) => {
            new.swap_remove(at);
            false
        }
        None => true,
    });
    let value = gone.len() + emptied.len();
    let names: Vec<_> = gone.iter().map(|(name, ..)| name.clone()).collect();
    let mut found = Vec::new();
    if !gone.is_empty() {
        found.push(format!(
            "{} files of {entity} that the last published night had are gone, and {} rows with them: {}",
            gone.len(),
            sum(&gone),
            listed(&names)
        ));
    }
    if !emptied.is_empty() {
        found.push(format!(
            "{} files of {entity} have less than half of the rows that the last published night found there, {lost} fewer: {}",
            emptied.len(),
            listed(&emptied)
        ));
    }
    let told = found.join("; ");
    Ok(Some(Found { value: value as f64, told }))
}

async fn columns_gone(night: &Night<'_>, entity: Entity) -> Result<Option<Found>, StageError> {
    let query = format!(
        "SELECT coalesce(feed, '') AS feed, file, rows, lacks FROM inputs WHERE source = {} ORDER BY feed, file",
        text(entity.name())
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let (feeds, files) = (rows::texts(&batch, "feed")?, rows::texts(&batch, "file")?);
    let (lacks, rows) = (rows::texts(&batch, "lacks")?, rows::integers(&batch, "rows")?);
    let lacking = |row: usize| lacks[row].as_deref().unwrap_or_default().split(", ").filter(|c| !c.is_empty());
    let mut found = Vec::new();
    for row in 0..files.len() {
        // A column that begins with a later file was never gone before it; an empty file has none.
        let before = |column: &str, other: usize| feeds[other] == feeds[row] && !lacking(other).any(|c| c == column);
        let had = |column: &str| (0..row).any(|other| rows[other] > Some(0) && before(column, other));
        let gone: Vec<_> = lacking(row).filter(|column| had(column)).collect();
        if !gone.is_empty() {
            found.push(format!("{} lacks {}", files[row].as_deref().unwrap_or_default(), gone.join(", ")));
        }
    }
    let told = match found.is_empty() {
        true => String::new(),
        false => format!("{}, which files of {entity} before it have", listed(&found)),
    };
    Ok(Some(Found { value: found.len() as f64, told }))
}

async fn columns_new(night: &Night<'_>, entity: Entity) -> Result<Option<Found>, StageError> {
    let Some(previous) = night.previous.get("inputs") else { return Ok(None) };
    let query = |table: &str| {
        format!(
            "SELECT coalesce(feed, '') AS feed, file, columns FROM {table} WHERE source = {} AND columns IS NOT NULL ORDER BY feed, file",
            text(entity.name())
        )
    };
    let read = async |table: &str, frame: &DataFrame| {
        let batch = rows::collect(night.over(&query(table), &[(table, frame)]).await?).await?;
        let mut all: Vec<(String, String, Vec<String>)> = Vec::new();
        let (feeds, files) = (rows::texts(&batch, "feed")?, rows::texts(&batch, "file")?);
        for ((feed, file), columns) in feeds.into_iter().zip(files).zip(rows::texts(&batch, "columns")?) {
            let columns = serde_json::from_str(&columns.unwrap_or_default()).unwrap_or_default();
            all.push((feed.unwrap_or_default(), file.unwrap_or_default(), columns));
        }
        Ok::<_, StageError>(all)
    };
    let (before, now) = (read("previous", previous).await?, read("inputs", night.input("inputs")?).await?);
    let mut found: Vec<(String, String)> = Vec::new();
    for (feed, file, columns) in &now {
        let mut of_feed = before.iter().filter(|(other, ..)| other == feed).peekable();
        if of_feed.peek().is_none() {
            continue;
        }
        let known: Vec<&String> = of_feed.flat_map(|(.., columns)| columns).collect();
        for column in columns.iter().filter(|column| !known.contains(column)) {
            if !found.iter().any(|(other, _)| other == column) {
                found.push((column.clone(), file.clone()));
            }
        }
    }
    let names: Vec<String> = found.iter().map(|(column, file)| format!("{column} ({file})")).collect();
    let told = match found.is_empty() {
        true => String::new(),
        false => format!("{entity} begin with the night of {} to have the columns {}", night.as_of, listed(&names)),
    };
    Ok(Some(Found { value: found.len() as f64, told }))
}

async fn quarantined(night: &Night<'_>, entity: Entity, new: bool) -> Result<Option<Found>, StageError> {
    if new && night.parent.is_none() {
        return Ok(None);
    }
    let suffix = if new { "_change" } else { "" };
    let query = format!(
        "SELECT rule, step, rows_in{suffix} AS n, rows_quarantined{suffix} AS taken FROM ledger WHERE source = {} \
         ORDER BY step = 0 DESC, rows_quarantined{suffix} DESC, step",
        text(entity.name())
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let (rules, taken) = (rows::texts(&batch, "rule")?, rows::integers(&batch, "taken")?);
    let (all, taken_in_all) = (first(&batch, "n")?, first(&batch, "taken")?);
    // Where rows of before are judged otherwise tonight, more are taken than came: what came is not known apart.
    if all < FEW || taken_in_all > all {
        return Ok(None);
    }
    let value = taken_in_all as f64 / all as f64;
    let which = if new { "the new rows" } else { "the rows" };
    let most = match (rules.get(1), taken.get(1).copied().flatten()) {
        (Some(Some(rule)), Some(rows)) if rows > 0 => format!(", most of them by {rule} ({rows} of {all})"),
        _ => String::new(),
    };
    Ok(Some(Found { value, told: format!("{} of {which} of {entity} are quarantined{most}", percent(value)) }))
}

async fn quarantined_of_file(night: &Night<'_>, entity: Entity) -> Result<Option<Found>, StageError> {
    let source = text(entity.name());
    let query = format!(
        "SELECT q.file, q.rule, q.most, CAST(q.n AS DOUBLE) / i.rows AS share FROM \
         (SELECT feed, file, sum(n) AS n, max(n) AS most, first_value(rule ORDER BY n DESC, rule) AS rule FROM \
         (SELECT coalesce(feed, '') AS feed, file, rule, count(*) AS n FROM quarantine \
         WHERE source = {source} AND disposition = 'quarantined' GROUP BY 1, 2, 3) \
         GROUP BY 1, 2) AS q JOIN (SELECT coalesce(feed, '') AS feed, file, rows FROM inputs WHERE source = {source} AND rows >= {FEW}) AS i \
         ON q.feed = i.feed AND q.file = i.file ORDER BY share DESC, q.file LIMIT 1"
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let Some(share) = rows::floats(&batch, "share")?.first().copied().flatten() else { return Ok(None) };
    let word = |name: &str| Ok::<_, StageError>(rows::texts(&batch, name)?.pop().flatten().unwrap_or_default());
    let (file, rule, most) = (word("file")?, word("rule")?, first(&batch, "most")?);
    let told = format!("{} of the rows of {file} are quarantined, most of them by {rule} ({most})", percent(share));
    Ok(Some(Found { value: share, told }))
}

/// The share of the rows that fail a rule, whether or not they left at an earlier one.
pub(super) async fn failing(night: &Night<'_>, entity: Entity, rule: &str) -> Result<Option<Found>, StageError> {
    let query = format!(
        "SELECT r.rows_failed AS failed, t.rows_in - t.rows_after_as_of AS n FROM ledger AS r JOIN ledger AS t ON r.source = t.source \
         WHERE r.source = {} AND r.rule = {} AND t.step = 0",
        text(entity.name()),
        text(rule)
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let (failed, all) = (first(&batch, "failed")?, first(&batch, "n")?);
    let value = failed as f64 / all as f64;
    let told = format!("{} of the rows of {entity} fail {rule} ({failed} of {all})", percent(value));
    Ok((all > 0).then_some(Found { value, told }))
}

async fn kept(night: &Night<'_>, entity: Entity, what: &str) -> Result<Option<Found>, StageError> {
    if night.parent.is_none() || (what == "amount" && entity.amount().is_none()) {
        return Ok(None);
    }
    let query = format!(
        "SELECT CAST({what}_clean AS DOUBLE) AS now, CAST({what}_clean - {what}_clean_change AS DOUBLE) AS before \
         FROM ledger WHERE source = {} AND step = 0",
        text(entity.name())
    );
    let batch = rows::collect(night.sql(&query).await?).await?;
    let one = |name: &str| Ok::<_, StageError>(rows::floats(&batch, name)?.first().copied().flatten().unwrap_or(0.0));
    let (now, before) = (one("now")?, one("before")?);
    if before <= 0.0 {
        return Ok(None);
    }
    let value = now / before;
    let unit = if what == "rows" { "rows" } else { "the amount" };
    let told = format!(
        "{entity} have {} of {unit} of the last published night: {} of {}",
        percent(value),
        short(now),
        short(before)
    );
    Ok(Some(Found { value, told }))
}

pub(super) fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

pub(super) fn listed(names: &[String]) -> String {
    let more = if names.len() > SHOWN { " …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}
