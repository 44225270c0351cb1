//! The project's secret: from the environment, from a file that the environment names, or made once for a project whose
//! lake is a local folder.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tessera_engine::Secret;

use crate::errors::Usage;

const VARIABLE: &str = "TESSERA_SECRET";
const FILE_VARIABLE: &str = "TESSERA_SECRET_FILE";
/// Beside the project file; readable by its owner only.
const FILE: &str = "tessera.secret";

/// The secret that the environment holds or names.
pub fn given() -> Result<Option<Secret>> {
    if let Ok(secret) = std::env::var(VARIABLE) {
        return usable(secret.as_bytes(), VARIABLE).map(Some);
    }
    if let Ok(file) = std::env::var(FILE_VARIABLE) {
        let read = of_file(Path::new(&file));
        return read.with_context(|| format!("{FILE_VARIABLE} names {file}")).map(Some);
    }
    Ok(None)
}

/// The secret of a project in `folder`, if there is one.
pub fn existing(folder: &Path) -> Result<Option<Secret>> {
    let file = folder.join(FILE);
    match given()? {
        None if file.exists() => of_file(&file).map(Some),
        given => Ok(given),
    }
}

fn of_file(file: &Path) -> Result<Secret> {
    let shown = file.display();
    let secret = fs::read(file).with_context(|| format!("{shown} cannot be read"))?;
    #[cfg(unix)]
    if let Ok(about) = fs::metadata(file)
        && std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0
    {
        tracing::warn!("others than its owner can read the secret in {shown}: `chmod 600 {shown}`");
    }
    usable(&secret, &shown.to_string())
}

/// The secret of a project in `folder`. Only a local lake may have one made for it: on a shared one, two machines would
/// give the same customer two keys.
pub fn find(folder: &Path, local_lake: bool) -> Result<Secret> {
    if let Some(secret) = existing(folder)? {
        return Ok(secret);
    }
    let file = folder.join(FILE);
    if !local_lake {
        let remedy = format!(
            "no secret: set {VARIABLE} (for example to the output of `openssl rand -hex 32`) or {FILE_VARIABLE}"
        );
        return Err(Usage(remedy).into());
    }
    make(&file)
}

/// Makes a secret in a file that only its owner can read.
pub fn make(file: &PathBuf) -> Result<Secret> {
    let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(file).and_then(|mut f| f.write_all(secret.as_bytes()));
    if let Err(error) = made {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            // Another process was first.
            return of_file(file);
        }
        let remedy = format!(
            "no secret, and none can be kept in {}: {error}; set {VARIABLE} or {FILE_VARIABLE}",
            file.display()
        );
        return Err(Usage(remedy).into());
    }
    tracing::warn!("made a secret for this project's customer keys: {}; keep it, or set {VARIABLE}", file.display());
    Ok(Secret::new(secret.as_bytes()))
}

/// White space around a secret is none of it, wherever it comes from.
fn usable(secret: &[u8], from: &str) -> Result<Secret> {
    let secret = secret.trim_ascii();
    if secret.len() < 16 {
        return Err(
            Usage(format!("the secret in {from} is shorter than 16 characters; use `openssl rand -hex 32`")).into()
        );
    }
    Ok(Secret::new(secret))
}
