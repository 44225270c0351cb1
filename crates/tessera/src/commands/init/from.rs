//! `init --from`: looks at files and writes a first mapping of them, its guesses marked.

use std::{collections::BTreeMap, fmt::Write, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use arrow::datatypes::{DataType, Schema};
use datafusion::catalog::TableProvider;
use object_store::ObjectStore;
use tessera_contract::{
    Entity,
    project::{Format, TextEncoding},
};
use tessera_engine::source::{self, Names, Sniffed, SourceFile, SourceFormat};
use tessera_stages::ingest::{
    guess::{Guess, guess},
    looks,
};

use url::Url;

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
    let (mut taken, mut others) = (Vec::new(), Vec::new());
    for url in urls {
        let url = match url.contains("://") {
            true => url.clone(),
            false => std::path::absolute(url).with_context(|| format!("{url} is no path"))?.display().to_string(),
        };
        let (store, base, files) = sources::listed(&url).await.with_context(|| format!("--from {url}"))?;
        if files.is_empty() {
            return Err(Usage(format!("{url} has no file that can be read")).into());
        }
        engine.register_store(&base, Arc::clone(&store));
        for group in groups(&store, &base, &url, files).await.with_context(|| format!("--from {url}"))? {
            let Group { url, format, files, .. } = group;
            let table = source::open(Arc::clone(&store), &base, format.clone(), files);
            let table = table.await.with_context(|| format!("--from {url}"))?;
            let columns = columns_of(&table.schema());
            let frame = engine.session().read_table(Arc::new(table))?;
            let looks = looks::looks(&engine, &frame, &columns).await?;
            match guess(&looks) {
                Some(guess) => taken.push(Taken { url, format, guess }),
                None => others.push((url, format)),
            }
        }
    }
    if let (true, Some((url, _))) = (taken.is_empty(), others.first()) {
        return Err(Usage(format!("{url}: no column looks like one that Tessera knows; map it by hand")).into());
    }
    Ok(written(name, &taken, &others))
}

/// Files that are written alike and have the same columns.
struct Group {
    url: String,
    format: SourceFormat,
    columns: Vec<String>,
    files: Vec<SourceFile>,
}

/// Files of a folder that are looked at one by one; of more, nobody keeps different exports in one.
const MANY: usize = 300;

/// The owner's columns that are no lists or objects.
fn columns_of(schema: &Schema) -> Vec<String> {
    let own = |name: &str| ![source::LOCATOR, source::DEFECT, source::RECORD].contains(&name);
    let nested = |kind: &DataType| matches!(kind, DataType::List(_) | DataType::Struct(_));
    schema.fields().iter().filter(|f| own(f.name()) && !nested(f.data_type())).map(|f| f.name().clone()).collect()
}

/// The files of a URL by what they are: a folder may hold several exports.
async fn groups(store: &Arc<dyn ObjectStore>, base: &Url, url: &str, files: Vec<SourceFile>) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    let few = files.len() <= MANY;
    for file in files {
        let kind = source::format_of(&file.location)
            .ok_or_else(|| Usage(format!("the extension of {} says no format that is read", file.url)))?;
        if !few && let Some(group) = groups.iter_mut().find(|group| group.format.kind == kind) {
            group.files.push(file);
            continue;
        }
        let mut format = SourceFormat::new(kind);
        if kind == Format::Csv {
            let Sniffed { encoding, skip_lines, header } = source::sniff(store, &file).await?;
            let names = if header { Names::Header } else { Names::Given(Vec::new()) };
            format = SourceFormat { encoding, skip_lines, names, ..format };
        }
        let table = source::open(Arc::clone(store), base, format.clone(), vec![file.clone()]).await?;
        let columns = columns_of(&table.schema());
        // An export that was given a column one day is the same export.
        let alike = |group: &&mut Group| {
            let same = columns.iter().filter(|column| group.columns.contains(column)).count();
            // A character that no UTF-8 has may stand in the second file alone.
            let written = group.format.kind == format.kind
                && group.format.names == format.names
                && group.format.skip_lines == format.skip_lines;
            written && 2 * same > columns.len().max(group.columns.len())
        };
        match groups.iter_mut().find(alike) {
            Some(group) => {
                if format.encoding != TextEncoding::Utf8 {
                    group.format.encoding = format.encoding;
                }
                group.files.push(file);
            }
            None => groups.push(Group { url: String::new(), format, columns, files: vec![file] }),
        }
    }
    if let [only] = groups.as_mut_slice() {
        only.url = url.to_owned();
        return Ok(groups);
    }
    let all: Vec<String> = groups.iter().flat_map(|group| &group.files).map(|file| file.url.clone()).collect();
    let mut named = Vec::new();
    for group in groups {
        match pattern(&group.files, &all) {
            Some(pattern) => named.push(Group { url: pattern, ..group }),
            None => {
                let Group { format, columns, files, .. } = group;
                named.extend(files.into_iter().map(|file| {
                    let (format, columns) = (format.clone(), columns.clone());
                    Group { url: plain(&file.url), format, columns, files: vec![file] }
                }));
            }
        }
    }
    Ok(named)
}

/// What names these of all files and no other: the one of them, or a glob.
fn pattern(files: &[SourceFile], all: &[String]) -> Option<String> {
    let names: Vec<&str> = files.iter().map(|file| file.url.as_str()).collect();
    let (first, rest) = names.split_first()?;
    if rest.is_empty() {
        return Some(plain(first));
    }
    let common =
        |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect::<String>();
    let before = rest.iter().fold((*first).to_owned(), |before, name| common(&before, name));
    let turned = |name: &str| name.chars().rev().collect::<String>();
    let after = rest.iter().fold(turned(first), |after, name| common(&after, &turned(name)));
    let after = turned(&after);
    let middle = |name: &str| -> Option<bool> {
        let inner = name.strip_prefix(&before)?.strip_suffix(&after)?;
        Some(!inner.contains('/'))
    };
    let special = |text: &str| text.contains(['*', '?', '[', '%']);
    let mine = names.iter().all(|name| middle(name) == Some(true));
    let others = all.iter().filter(|name| !names.contains(&name.as_str())).any(|name| middle(name).is_some());
    (mine && !others && !special(&before) && !special(&after)).then(|| plain(&format!("{before}*{after}")))
}

/// A local file by its path, as people write it.
fn plain(url: &str) -> String {
    match url.strip_prefix("file://") {
        Some(path) if !path.contains('%') => path.to_owned(),
        _ => url.to_owned(),
    }
}

fn written(name: &str, taken: &[Taken], others: &[(String, SourceFormat)]) -> (String, Vec<String>) {
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
    let mut files: Vec<String> = Vec::new();
    for (url, format) in others {
        let mut name = feed_name(url);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            name.insert_str(0, "file_");
        }
        while files.contains(&name) {
            name.push('_');
        }
        let _ = writeln!(
            text,
            "\n# No column looks like one that Tessera knows; a query may read it: [sources.…] query = \"SELECT … FROM {name}\"\n[files.{name}]\nurl = {}",
            quoted(url)
        );
        how(&mut text, format);
        told.push(format!("{url} as [files.{name}], for queries: no column looks like one that Tessera knows"));
        files.push(name);
    }
    if !count.contains_key(&Entity::Transactions) && count.contains_key(&Entity::Customers) {
        text.push_str("\n# Nothing looks like transactions: everybody whom the customers name is segmented (guess).\n[segmentation]\npopulation = \"customers\"\n");
    }
    (text, told)
}

/// How the files are written.
fn how(text: &mut String, format: &SourceFormat) {
    if format.skip_lines > 0 {
        let header = format.skip_lines + 1;
        let _ = writeln!(text, "skip_lines = {}  # guess: the header is line {header}", format.skip_lines);
    }
    if format.names != Names::Header {
        text.push_str(
            "header = false  # guess: the first line looks like values; names = [\"…\"] says what they are\n",
        );
    }
    if format.encoding == TextEncoding::Latin1 {
        text.push_str("encoding = \"latin-1\"  # guess: it is no UTF-8\n");
    }
}

fn source_text(text: &mut String, section: &str, Taken { url, format, guess }: &Taken) {
    let _ = writeln!(text, "\n[{section}]\nurl = {}", quoted(url));
    how(text, format);
    let mut line = |words: String| {
        // A text takes what is written to it.
        let _ = writeln!(text, "{words}");
    };
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
