//! What a person sees while a night runs: a spinner on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of one step.
pub struct Step {
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Begins a step.
    pub fn start(name: &str, purpose: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:10} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.set_message(purpose.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        tracing::debug!(stage = name, "{purpose}");
        Self { name: name.to_owned(), started: Instant::now(), bar }
    }

    /// How far it is.
    pub fn at(&self, done: u64, all: u64, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{:3.0} % · {what}", 100.0 * done as f64 / all.max(1) as f64));
        }
    }

    /// Ends it with what came of it.
    pub fn done(self, what: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        match self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("✓ {:10} {what} ({seconds:.1} s)", self.name);
            }
            None => tracing::info!(stage = self.name, seconds, "{} {what}", self.name),
        }
    }

    /// Seconds since it began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
