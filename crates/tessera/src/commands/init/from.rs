//! `init --from`: looks at files and writes a first mapping of them, its guesses marked.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use anyhow::{Context as _, Result};
use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use tessera_contract::{
    Entity,
    project::{Format, TextEncoding},
};
use tessera_engine::source::{self, Names, Sniffed, SourceFormat};
use tessera_stages::ingest::{
    guess::{Guess, guess},
    looks,
};

use crate::{context::Context, errors::Usage, sources};

/// A file, or files of one kind, and what it is taken for.
struct Taken {
    url: String,
    format: SourceFormat,
    guess: Guess,
}

/// The text of a project file over the files, and what was made of them, for people.
pub async fn project(context: &Context, name: &str, urls: &[String]) -> Result<(String, Vec<String>)> {
    let engine = context.engine(None, "_tessera/scratch").await?;
    let mut taken = Vec::new();
    for url in urls {
        let url = match url.contains("://") {
            true => url.clone(),
            false => std::path::absolute(url).with_context(|| format!("{url} is no path"))?.display().to_string(),
        };
        let (store, base, files) = sources::listed(&url).await.with_context(|| format!("--from {url}"))?;
        let first = files.first().ok_or_else(|| Usage(format!("{url} has no file that can be read")))?;
        let kind = source::format_of(&first.location)
            .ok_or_else(|| Usage(format!("the extension of {} says no format that is read", first.url)))?;
        let mut format = SourceFormat::new(kind);
        if kind == Format::Csv {
            let Sniffed { encoding, skip_lines, header } = source::sniff(&store, first).await?;
            let names = if header { Names::Header } else { Names::Given(Vec::new()) };
            format = SourceFormat { encoding, skip_lines, names, ..format };
        }
        engine.register_store(&base, std::sync::Arc::clone(&store));
        let table = source::open(store, &base, format.clone(), files).await.with_context(|| format!("--from {url}"))?;
        let own = |name: &str| ![source::LOCATOR, source::DEFECT, source::RECORD].contains(&name);
        let schema = table.schema();
        let plain = schema
            .fields()
            .iter()
            .filter(|f| own(f.name()) && !matches!(f.data_type(), DataType::List(_) | DataType::Struct(_)));
        let columns: Vec<String> = plain.map(|f| f.name().clone()).collect();
        let frame = engine.session().read_table(std::sync::Arc::new(table))?;
        let looks = looks::looks(&engine, &frame, &columns).await?;
        match guess(&looks) {
            Some(guess) => taken.push(Taken { url, format, guess }),
            None => {
                return Err(Usage(format!("{url}: no column looks like one that Tessera knows; map it by hand")).into());
            }
        }
    }
    Ok(written(name, &taken))
}

fn written(name: &str, taken: &[Taken]) -> (String, Vec<String>) {
    let mut text = format!(
        "# A first mapping, made by looking at the first rows of the files. What was guessed says so: look at it, then run\n\
         # `tessera check`. `tessera schema` prints every key with its meaning, `tessera tables` the entities and their columns.\n\n\
         [project]\nname = {}\n# The night of date D begins at D 00:00 here (guess).\ntimezone = \"UTC\"\n# A label; amounts are not converted (guess).\ncurrency = \"EUR\"\n\n\
         [lake]\nurl = \"lake\"\n",
        quoted(name)
    );
    let mut told = Vec::new();
    let mut count: BTreeMap<Entity, usize> = BTreeMap::new();
    taken.iter().for_each(|t| *count.entry(t.guess.entity).or_insert(0) += 1);
    let mut feeds: Vec<String> = Vec::new();
    for one in taken {
        let Guess { entity, .. } = one.guess;
        let section = match count.get(&entity) {
            Some(1) => format!("sources.{entity}"),
            _ => {
                let mut feed = format!("{entity}.{}", feed_name(&one.url));
                while feeds.contains(&feed) {
                    feed.push('_');
                }
                feeds.push(feed.clone());
                format!("sources.{feed}")
            }
        };
        source_text(&mut text, &section, one);
        let missing = match one.guess.missing.as_slice() {
            [] => String::new(),
            missing => format!("; {} still to be mapped", missing.join(", ")),
        };
        told.push(format!("{} as {entity}, {} columns{missing}", one.url, one.guess.columns.len()));
    }
    if !count.contains_key(&Entity::Transactions) && count.contains_key(&Entity::Customers) {
        text.push_str("\n# Nothing looks like transactions: everybody whom the customers name is segmented (guess).\n[segmentation]\npopulation = \"customers\"\n");
    }
    (text, told)
}

fn source_text(text: &mut String, section: &str, Taken { url, format, guess }: &Taken) {
    let mut line = |words: String| {
        // A text takes what is written to it.
        let _ = writeln!(text, "{words}");
    };
    line(format!("\n[{section}]"));
    line(format!("url = {}", quoted(url)));
    if format.skip_lines > 0 {
        line(format!("skip_lines = {}  # guess: the header is line {}", format.skip_lines, format.skip_lines + 1));
    }
    if format.names != Names::Header {
        line("header = false  # guess: the first line looks like values; names = [\"…\"] says what they are".into());
    }
    if format.encoding == TextEncoding::Latin1 {
        line("encoding = \"latin-1\"  # guess: it is no UTF-8".into());
    }
    let (decimal, thousands) = guess.signs;
    if decimal != '.' {
        line(format!("decimal = \"{decimal}\"  # guess"));
    }
    if let Some(thousands) = thousands {
        line(format!("thousands = \"{thousands}\"  # guess"));
    }
    if !guess.dates.is_empty() {
        let formats: Vec<_> = guess.dates.iter().map(|(format, _)| quoted(format)).collect();
        let others: Vec<_> = guess.dates.iter().filter_map(|(_, other)| *other).collect();
        let or = if others.is_empty() { String::new() } else { format!("; {} fits too", others.join(", ")) };
        line(format!("date_formats = [{}]  # guess{or}", formats.join(", ")));
    }
    line(format!("[{section}.columns]"));
    for (name, from) in &guess.columns {
        line(format!("{name} = {}  # guess", quoted(from)));
    }
    for name in guess.misnamed.iter().filter(|name| !guess.columns.iter().any(|(column, _)| column == *name)) {
        line(format!("{name} = \"NULL\"  # guess: the file's values look like none"));
    }
    for name in &guess.missing {
        line(format!("# {name} = \"…\"  # needed: no column looks like it"));
    }
    if !guess.unused.is_empty() {
        line(format!(
            "# not used: {}",
            guess.unused.iter().map(|n| n.replace(['\n', '\r'], " ")).collect::<Vec<_>>().join(", ")
        ));
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The name of a feed from that of its file.
fn feed_name(url: &str) -> String {
    let stem = Path::new(url).file_stem().map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // Those are keys of a source.
    if ["", "columns", "types"].contains(&name.as_str()) { format!("{name}_") } else { name }
}
