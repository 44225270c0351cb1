//! `init`: a folder to start from.

mod from;

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{context::Context, errors::Usage};

const PROJECT: &str = include_str!("init/tessera.toml");
const README: &str = include_str!("init/README.md");

/// Writes a commented project file and a README; never over existing ones. With `files`, the project file maps these.
pub async fn init(context: &Context, dir: &Path, files: &[String]) -> Result<()> {
    let project = dir.join("tessera.toml");
    if project.exists() {
        return Err(Usage(format!("{} is there already; choose another folder", project.display())).into());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let name = std::path::absolute(dir)?.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let (text, told) = match files {
        [] => (PROJECT.to_owned(), Vec::new()),
        files => from::project(context, &name, files).await?,
    };
    std::fs::write(&project, text)?;
    std::fs::write(dir.join("README.md"), README)?;
    told.iter().for_each(|told| println!("{}", crate::show::printable(told)));
    let then = if files.is_empty() { "name your files in it" } else { "look at its guesses" };
    println!("wrote {}; {then}, then run `tessera check --project {0}`", project.display());
    Ok(())
}
