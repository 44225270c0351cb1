//! `demo` and `generate`: a shop that never was.

use std::path::Path;

use anyhow::{Context as _, Result};
use tessera_contract::AsOf;
use tessera_generator::{Format, Shop};

use crate::{
    cli::{Common, Files},
    commands::{night, query, report},
    context::Context,
    errors::Usage,
    progress::Phase,
    runner::Ask,
};

const PROJECT: &str = include_str!("demo/tessera.toml");
const SEED: u64 = 1;
const FIRST: &str = "2024-01-01";
/// The nights of the demo: month-ends, with a planted change before each.
const NIGHTS: [&str; 3] = ["2025-11-01", "2025-12-01", "2026-01-01"];

/// Makes a shop, runs the nights, shows the last one and how the KPIs went.
pub async fn demo(common: &Common, customers: u64, dir: &Path) -> Result<()> {
    let data = dir.join("data");
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let last = NIGHTS[NIGHTS.len() - 1];
    let shop = shop(customers, SEED, FIRST, last, last, Files::Parquet)?;
    generate_once(&shop, &data)?;
    let file = dir.join("tessera.toml");
    std::fs::write(&file, PROJECT)?;
    let common = Common { project: file.clone(), ..common.clone() };
    let context = Context::open(&common)?;
    let mut last = None;
    for date in NIGHTS {
        let as_of = AsOf::parse(date, &context.project.project.timezone)?;
        last = Some(match night::night(&context, as_of, Ask::default()).await? {
            night::Outcome::Published(snapshot) | night::Outcome::Already(snapshot) => snapshot,
        });
    }
    if let Some(snapshot) = &last {
        query::summary(&context, snapshot).await?;
    }
    println!("\nKPIs of everybody, night by night");
    query::nights(&context).await?;
    if let Some(snapshot) = &last {
        println!("\nThe report of the night, for the browser\n  {}", report::write(&context, snapshot).await?);
    }
    let tessera = program();
    let options = match &common.lake {
        Some(lake) => format!("--project {} --lake {lake}", file.display()),
        None => format!("--project {}", file.display()),
    };
    println!(
        "\nWhat next\n  every table and column   {tessera} tables\n  ask something            {tessera} sql \"SELECT * FROM segment_profiles \
         LIMIT 5\" {options}\n  the audit trail          {tessera} snapshots list {options}\n  your own data            {tessera} init my-shop"
    );
    Ok(())
}

/// How a person would start this program again.
fn program() -> String {
    let Ok(exe) = std::env::current_exe() else { return "tessera".into() };
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("tessera") == exe));
    match std::env::current_dir().ok().and_then(|here| exe.strip_prefix(here).ok().map(Path::to_owned)) {
        _ if found => "tessera".into(),
        Some(near) => near.display().to_string(),
        None => exe.display().to_string(),
    }
}

/// The shop of some flags.
pub fn shop(customers: u64, seed: u64, from: &str, to: &str, horizon: &str, format: Files) -> Result<Shop> {
    let date = |text: &str| AsOf::parse(text, "UTC").map(|d| d.date());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    Ok(Shop {
        start: date(from)?,
        end: date(to)?,
        format: match format {
            Files::Parquet => Format::Parquet,
            Files::Csv => Format::Csv,
        },
        threads,
        ..Shop::new(customers, seed, date(horizon)?)
    })
}

/// Writes the shop's files.
pub fn generate(shop: &Shop, out: &Path) -> Result<()> {
    let step = Phase::start("generate", &format!("makes a shop of {} customers", shop.customers));
    let summary = tessera_generator::generate(shop, out, &mut |at| {
        step.at(at.customers_done, at.customers, &format!("{} transactions", at.transactions));
    })?;
    let rows: u64 = summary.rows.iter().map(|(_, rows)| rows).sum();
    step.done(&format!("{rows} rows in {}", out.display()));
    Ok(())
}

/// The same for the demo, which may be run again: a finished shop with the same settings stays, an unfinished one is
/// made anew.
fn generate_once(shop: &Shop, data: &Path) -> Result<()> {
    let mark = data.join("shop.txt");
    let settings = format!("{:?}\n", Shop { threads: 0, ..shop.clone() });
    match std::fs::read_to_string(&mark) {
        Ok(found) if found == settings => return Ok(()),
        Ok(_) => {
            let problem = format!("{} holds another shop; remove it, or choose another --dir", data.display());
            return Err(Usage(problem).into());
        }
        Err(_) if data.exists() => {
            // Only what the generator writes is removed: the folder may be anybody's.
            for layout in tessera_generator::LAYOUT {
                let folder = data.join(layout.name);
                if folder.exists() {
                    std::fs::remove_dir_all(&folder)
                        .with_context(|| format!("{} cannot be removed", folder.display()))?;
                }
            }
        }
        Err(_) => {}
    }
    generate(shop, data)?;
    std::fs::write(&mark, settings).with_context(|| format!("{} cannot be written", mark.display()))
}
