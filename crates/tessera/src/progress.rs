//! What a person sees while a night runs: a spinner with rows on a terminal, plain lines elsewhere.

use std::{
    fmt::Write,
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use tessera_cluster::JobProgress;
use tessera_engine::Progress;

/// How far a job of a cluster is.
#[derive(Default)]
pub struct Job(Mutex<Option<JobProgress>>);

impl Job {
    /// Notes it, and tells the log.
    pub fn note(&self, progress: JobProgress) {
        let JobProgress { stages_done, stages, tasks_done, tasks, rows_read, rows_written } = progress;
        tracing::debug!(stages_done, stages, tasks_done, tasks, rows_read, rows_written, "the cluster works");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    fn last(&self) -> Option<JobProgress> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The progress of one step.
pub struct Phase {
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Phase {
    /// Begins a step.
    pub fn start(name: &str, purpose: &str) -> Self {
        Self::watched(name, purpose, Arc::default(), Arc::default())
    }

    /// Begins a step that an engine or a cluster does, whose rows are shown as they pass.
    pub fn watched(name: &str, purpose: &str, progress: Arc<Progress>, job: Arc<Job>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let rows = move |_: &ProgressState, line: &mut dyn Write| {
                if let Some(job) = job.last() {
                    // A line that cannot be written is not shown.
                    let _ = write!(
                        line,
                        "stage {}/{} · task {}/{} · {} rows read · ",
                        (job.stages_done + 1).min(job.stages),
                        job.stages,
                        job.tasks_done,
                        job.tasks,
                        HumanCount(job.rows_read as u64)
                    );
                }
                let (read, written) = (progress.read(), progress.written());
                let shown = [(read, "read"), (written, "written")].into_iter().filter(|(rows, _)| *rows > 0);
                for (rows, what) in shown {
                    let _ = write!(line, "{} rows {what} · ", HumanCount(rows));
                }
            };
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:10} {rows}{wide_msg} {elapsed}") {
                bar.set_style(style.with_key("rows", rows));
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
