//! `init`: a folder to start from.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::errors::Usage;

const PROJECT: &str = include_str!("init/tessera.toml");
const README: &str = include_str!("init/README.md");

/// Writes a commented project file and a README; never over existing ones.
pub fn init(dir: &Path) -> Result<()> {
    let project = dir.join("tessera.toml");
    if project.exists() {
        return Err(Usage(format!("{} is there already; choose another folder", project.display())).into());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    std::fs::write(&project, PROJECT)?;
    std::fs::write(dir.join("README.md"), README)?;
    println!("wrote {}; name your files in it, then run `tessera check --project {0}`", project.display());
    Ok(())
}
