//! What the scheduler tells about executors and jobs over HTTP.

use serde::Deserialize;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobProgress {
    /// Stages that are done.
    pub stages_done: usize,
    /// Stages altogether.
    pub stages: usize,
    /// Tasks that are done, of the stages that have begun.
    pub tasks_done: usize,
    /// Tasks that have begun.
    pub tasks: usize,
    /// Rows that the stages' leaves gave so far.
    pub rows_read: usize,
    /// Rows that the stages handed on so far.
    pub rows_written: usize,
}

/// An executor, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Executor {
    pub id: String,
    pub specification: Specification,
}

/// Its size.
#[derive(Debug, Deserialize)]
pub(crate) struct Specification {
    pub vcores: usize,
}

/// A job in the scheduler's list.
#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    pub job_id: String,
    pub status: String,
}

/// The stages of a job.
#[derive(Debug, Deserialize)]
pub(crate) struct Stages {
    stages: Vec<Stage>,
}

#[derive(Debug, Deserialize)]
struct Stage {
    stage_id: String,
    stage_status: String,
    input_rows: usize,
    output_rows: usize,
    tasks: Vec<Option<Task>>,
}

#[derive(Debug, Deserialize)]
struct Task {
    status: TaskStatus,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
enum TaskStatus {
    Running,
    Successful,
    Failed { reason: String, error: String },
}

impl Stages {
    pub fn progress(&self) -> JobProgress {
        let tasks = || self.stages.iter().flat_map(|s| &s.tasks).flatten();
        JobProgress {
            stages_done: self.stages.iter().filter(|s| s.stage_status == "Successful").count(),
            stages: self.stages.len(),
            tasks_done: tasks().filter(|t| t.status == TaskStatus::Successful).count(),
            tasks: tasks().count(),
            rows_read: self.stages.iter().map(|s| s.input_rows).sum(),
            rows_written: self.stages.iter().map(|s| s.output_rows).sum(),
        }
    }

    /// Whether a task is being worked on.
    pub fn somebody_works(&self) -> bool {
        self.stages.iter().flat_map(|s| &s.tasks).flatten().any(|t| t.status == TaskStatus::Running)
    }

    /// The first task whose input or result was lost, in words.
    pub fn loss(&self) -> Option<String> {
        self.stages.iter().find_map(|stage| {
            stage.tasks.iter().flatten().find_map(|task| match &task.status {
                TaskStatus::Failed { reason, error } if !matches!(reason.as_str(), "ExecutionError" | "IoError") => {
                    Some(format!("a task of stage {}: {reason} {error}", stage.stage_id))
                }
                _ => None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"stages": [
        {"stage_id": "1", "stage_status": "Successful", "input_rows": 10, "output_rows": 4, "elapsed_compute": "1s",
         "tasks": [{"id": 0, "status": "Successful"}, {"id": 1, "status": {"Failed": {"reason": "ResultLost", "error": "gone"}}}]},
        {"stage_id": "2", "stage_status": "Running", "input_rows": 4, "output_rows": 0,
         "tasks": [{"id": 0, "status": "Running"}, null]}]}"#;

    #[test]
    fn progress_counts_and_a_loss_is_found() {
        let stages: Stages = serde_json::from_str(ANSWER).expect("the form that Ballista gives");
        let progress = stages.progress();
        assert_eq!((progress.stages_done, progress.stages, progress.tasks_done, progress.tasks), (1, 2, 1, 3));
        assert_eq!((progress.rows_read, progress.rows_written), (14, 4));
        assert_eq!(stages.loss().as_deref(), Some("a task of stage 1: ResultLost gone"));
    }
}
