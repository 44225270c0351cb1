//! A project in a folder of its own, and the program started in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// A folder with a project file and whatever a test puts beside.
pub struct Project {
    folder: TempDir,
}

/// What the program left on its streams.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A small gift shop whose columns have the canonical names: `lines(n)` fills it. It closed at the end of 2025.
pub const SHOP: &str = "[sources.transactions]\nurl = \"orders.csv\"\n[quality.checks]\nfreshness.required = false\nrecent_rows.required = false\nrecent_revenue.required = false\n[segmentation]\nmin_k = 2\nmax_k = 4\n";
pub const HEADER: &str = "order_id,customer_id,ordered_at,quantity,unit_price,category,channel\n";

/// Order lines of 60 customers with habits of their own, made by arithmetic.
pub fn lines() -> String {
    let mut text = HEADER.to_owned();
    let mut order = 0;
    for customer in 0..60_u32 {
        let kind = customer % 3;
        for visit in 0..(2 + kind * 4 + customer % 4) {
            order += 1;
            let month = 1 + (visit * (5 - kind) + customer) % (4 * (kind + 1)).min(12);
            let day = 1 + (customer * 7 + visit * 11) % 28;
            for line in 0..=(visit % 2) {
                text.push_str(&format!(
                    "O{order:04},C{customer:03},2025-{month:02}-{day:02} {:02}:15:00,{},{}.{:02},{},{}\n",
                    8 + (customer + visit) % 12,
                    1 + (customer + line) % 4,
                    3 + (kind * 20 + visit) % 40,
                    (customer * 13 + line * 50) % 100,
                    ["toys", "books", "garden"][((customer + line) % 3) as usize],
                    ["web", "store"][(visit % 2) as usize],
                ));
            }
        }
    }
    text
}

impl Project {
    /// A project of this text.
    pub fn new(text: &str) -> Self {
        let mut folder = tempfile::tempdir().expect("a folder");
        // For whoever wants to look at what a test left.
        folder.disable_cleanup(std::env::var_os("TESSERA_KEEP").is_some());
        let project = Self { folder };
        project.write("tessera.toml", text);
        project
    }

    /// The small shop, ready to run.
    pub fn shop() -> Self {
        let project = Self::new(SHOP);
        project.write("orders.csv", lines());
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("writes");
    }

    /// The program, to be started in the folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
        command
            .current_dir(self.folder.path())
            .args(args)
            // Keys, and with them every choice by hash, are the same on every machine.
            .env("TESSERA_SECRET", "the tests keep no secrets")
            .env_remove("TESSERA_SECRET_FILE");
        command
    }

    pub fn tessera(&self, args: &[&str]) -> Done {
        let Output { status, stdout, stderr } = self.command(args).output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").replace(&self.shown(), "…");
        Done { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// How messages write the folder.
    fn shown(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// The same, which must succeed; its output.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.tessera(args);
        assert_eq!(done.code, 0, "tessera {args:?}\n{}\n{}", done.stdout, done.stderr);
        done.stdout
    }

    /// A query's answer as CSV without the header.
    pub fn sql(&self, query: &str) -> String {
        let text = self.ok(&["sql", query, "--format", "csv", "--restricted"]);
        text.split_once('\n').expect("a header").1.to_owned()
    }

    /// Content fingerprint of every table of a published night.
    pub fn fingerprints(&self, as_of: &str, further: &[&str]) -> BTreeMap<String, String> {
        let text = self.ok(&[&["snapshots", "show", "--as-of", as_of, "--json"], further].concat());
        let snapshot: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let tables = snapshot["tables"].as_object().expect("tables");
        tables.iter().map(|(name, t)| (name.clone(), t["fingerprint"].as_str().expect("a text").to_owned())).collect()
    }
}

/// The `error:` and `hint:` lines that end a message stream.
pub fn complaint(done: &Done) -> String {
    let at = if done.stderr.starts_with("error: ") { 0 } else { done.stderr.rfind("\nerror: ").map_or(0, |at| at + 1) };
    done.stderr[at..].trim_end().to_owned()
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
