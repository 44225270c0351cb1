//! `causes`: what was found on nights, what people noted of it, and the search over cells that somebody gives.

pub mod notes;
mod propose;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};
use tessera_algo::localise::{Cube, Located, Settings, Sums, locate};

use crate::{
    cli::{Causes, Common},
    context::Context,
    errors::Usage,
    show,
};

/// Does what was asked.
pub async fn run(common: &Common, command: Causes) -> Result<()> {
    match command {
        Causes::Locate { files, before, after, part, json } => {
            search(&files, &Columns { before: &before, after: &after, part: part.as_deref() }, json)
        }
        Causes::Propose => propose::propose(common).await,
        Causes::List { json } => notes::list(&Context::open_or_default(common)?, json).await,
        Causes::Annotate { cause, note, by } => {
            notes::annotate(&Context::open_or_default(common)?, &cause, &note, by).await
        }
    }
}

/// Searches the cells of files.
fn search(files: &[PathBuf], columns: &Columns<'_>, json: bool) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found = tessera_algo::parallel::map(files, threads, |file| {
        let cells = Cells::read(file, columns)?;
        // Each file is a search of its own.
        let located = locate(std::slice::from_ref(&cells.cube), &Settings::default(), 1);
        Ok::<_, anyhow::Error>((cells, located))
    });
    for (file, found) in files.iter().zip(found) {
        let (cells, located) = found?;
        let Some(located) = located.first() else { continue };
        match json {
            true => println!("{}", cells.to_json(file, located)),
            false => cells.print(file, located),
        }
    }
    Ok(())
}

/// Dimensions that are searched at most.
const DIMENSIONS: usize = 16;

/// The columns that are no dimensions.
struct Columns<'a> {
    before: &'a str,
    after: &'a str,
    part: Option<&'a str>,
}

/// The cells of a file.
struct Cells {
    dimensions: Vec<String>,
    /// By dimension, its values in order.
    values: Vec<Vec<String>>,
    cube: Cube,
}

impl Cells {
    /// Reads a file; cells that are there more than once add up.
    fn read(file: &Path, columns: &Columns<'_>) -> Result<Self> {
        let wrong = |problem: String| Usage(format!("{}: {problem}", file.display()));
        let mut reader = csv::Reader::from_path(file).map_err(|e| wrong(e.to_string()))?;
        let header: Vec<String> =
            reader.headers().map_err(|e| wrong(e.to_string()))?.iter().map(str::to_owned).collect();
        let place = |name: &str| header.iter().position(|column| column == name);
        let needed = |name: &str| {
            place(name).ok_or_else(|| wrong(format!("there is no column `{name}`; there are {}", header.join(", "))))
        };
        let (before, after) = (needed(columns.before)?, needed(columns.after)?);
        let of = [columns.before, columns.after].map(|name| place(&format!("{name}_of")));
        let of = match of {
            [Some(before), Some(after)] => vec![before, after],
            [None, None] => Vec::new(),
            _ => {
                let [x, y] = [columns.before, columns.after];
                return Err(wrong(format!("a ratio has both columns, `{x}_of` and `{y}_of`")).into());
            }
        };
        let numbers: Vec<usize> = [before, after].into_iter().chain(of).collect();
        let part = columns.part.map(needed).transpose()?;
        let dimensions: Vec<usize> =
            (0..header.len()).filter(|at| !numbers.contains(at) && Some(*at) != part).collect();
        if dimensions.len() > DIMENSIONS {
            return Err(wrong(format!(
                "{} columns beside the numbers: at most {DIMENSIONS} dimensions are searched",
                dimensions.len()
            ))
            .into());
        }
        if dimensions.is_empty() {
            return Err(
                wrong("there is no column beside the numbers: it is dimensions that are searched".into()).into()
            );
        }
        let (mut rows, mut parts) = (BTreeMap::new(), BTreeMap::new());
        for record in reader.records() {
            let record = record.map_err(|e| wrong(e.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |at: &usize| record.get(*at).unwrap_or_default().to_owned();
            let number = |at: &usize| {
                let text = field(at);
                text.trim()
                    .parse::<f64>()
                    .ok()
                    .filter(|number| number.is_finite())
                    .ok_or_else(|| wrong(format!("line {line}, column `{}`: `{text}` is no number", header[*at])))
            };
            let key: Vec<String> = dimensions.iter().map(field).collect();
            let part = part.as_ref().map(field).unwrap_or_default();
            let known = parts.len();
            let part = *parts.entry(part).or_insert(known);
            let sums =
                rows.entry(key).or_insert_with(BTreeMap::new).entry(part).or_insert_with(|| vec![0.0; numbers.len()]);
            for (sum, at) in sums.iter_mut().zip(&numbers) {
                *sum += number(at)?;
            }
        }
        let values: Vec<Vec<String>> = (0..dimensions.len())
            .map(|at| {
                let mut values: Vec<String> = rows.keys().map(|key| key[at].clone()).collect();
                values.sort_unstable();
                values.dedup();
                values
            })
            .collect();
        let parts = parts.len().max(1);
        let mut sums = vec![vec![0.0; rows.len() * parts]; numbers.len()];
        let mut codes = vec![Vec::with_capacity(rows.len()); dimensions.len()];
        for (cell, (key, of)) in rows.into_iter().enumerate() {
            for ((codes, values), value) in codes.iter_mut().zip(&values).zip(key) {
                codes.push(values.binary_search(&value).unwrap_or_default() as u32);
            }
            for (part, found) in of {
                found.into_iter().zip(&mut sums).for_each(|(number, sums)| sums[cell * parts + part] = number);
            }
        }
        let mut sums = sums.into_iter();
        let mut next = || sums.next().unwrap_or_default();
        let (x, u) = (next(), next());
        let sums = match numbers.len() {
            2 => Sums::Sum([x, u]),
            _ => {
                let (y, v) = (next(), next());
                Sums::Ratio([[x, y], [u, v]])
            }
        };
        let unnamed = vec![Vec::new(); dimensions.len()];
        Ok(Self {
            dimensions: dimensions.iter().map(|at| header[*at].clone()).collect(),
            values,
            cube: Cube { dimensions: codes, parts, sums, unnamed, strata: None },
        })
    }

    /// The conditions of a finding.
    fn named<'a>(&'a self, pattern: &'a [(usize, u32)]) -> impl Iterator<Item = (&'a str, &'a str)> {
        pattern.iter().map(|(at, value)| (self.dimensions[*at].as_str(), self.values[*at][*value as usize].as_str()))
    }

    fn to_json(&self, file: &Path, located: &Located) -> Value {
        let findings = located.findings.iter().map(|finding| {
            let dimensions: BTreeMap<&str, &str> = self.named(&finding.pattern).collect();
            json!({
                "dimensions": dimensions,
                "contribution": finding.contribution(),
                "expected": finding.expected,
                "actual": finding.actual,
                "p_value": finding.p_value,
                "q_value": finding.q_value,
                "bootstrap_share": finding.recurrence,
            })
        });
        json!({
            "file": file.display().to_string(),
            "level": located.level,
            "expected": located.expected,
            "actual": located.actual,
            "looked_at": located.looked_at,
            "findings": findings.collect::<Vec<_>>(),
        })
    }

    fn print(&self, file: &Path, located: &Located) {
        println!("{}", file.display());
        println!(
            "  {:.6} was expected, {:.6} came; what most cells share is a factor of {:.4}",
            located.expected, located.actual, located.level
        );
        if located.findings.is_empty() {
            println!(
                "  no cells changed otherwise than the rest ({} were looked at, together and apart)",
                located.looked_at
            );
            return;
        }
        let mut table = show::plain();
        table.add_row(["where", "contribution", "of what was expected", "q", "found again"]);
        for finding in &located.findings {
            let conditions: Vec<String> =
                self.named(&finding.pattern).map(|(name, value)| format!("{name}={value}")).collect();
            table.add_row([
                show::printable(&conditions.join(" ")).into_owned(),
                format!("{:+.6}", finding.contribution()),
                match finding.expected {
                    0.0 => "none was expected".to_owned(),
                    expected => format!("{:+.1} %", 100.0 * finding.contribution() / expected.abs()),
                },
                format!("{:.2e}", finding.q_value),
                format!("{:.0} %", 100.0 * finding.recurrence),
            ]);
        }
        println!("{table}");
    }
}
