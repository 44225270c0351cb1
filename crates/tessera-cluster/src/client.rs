//! The client's side: jobs are handed in, watched, checked and fetched.

use std::{collections::BTreeSet, fmt, future::Future, sync::Arc, time::Duration};

use ballista_core::{
    client::BallistaClient,
    serde::protobuf::{
        CancelJobParams, ExecuteQueryParams, GetJobStatusParams, KeyValuePair, PartitionLocation,
        execute_query_params::Query, execute_query_result, job_status::Status,
        scheduler_grpc_client::SchedulerGrpcClient,
    },
    version::insert_version_header,
};
use datafusion::{
    common::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder},
    physical_plan::{ExecutionPlan, stream::RecordBatchStreamAdapter},
    prelude::SessionConfig,
};
use datafusion_proto::{
    physical_plan::{AsExecutionPlan, PhysicalExtensionCodec},
    protobuf::PhysicalPlanNode,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::{
    ClusterError, Guards, LARGEST_MESSAGE, Vocabulary,
    error::check_address,
    job::{Executor, JobProgress, Listed, Stages},
    plan::ClusterPlanner,
};

/// How often a job is handed in before its losses are too many.
const ATTEMPTS: usize = 3;
/// How long one question to the scheduler may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(25);
/// Between two looks at its stages and at the executors.
const CLOSER_LOOK: Duration = Duration::from_secs(1);
/// How much longer a job waits for somebody to work on it while others are worked on.
const TURNS: u32 = 60;

/// Is told how far a job is.
pub type Watch = Arc<dyn Fn(JobProgress) + Send + Sync>;

/// A cluster that answers.
#[derive(Debug, Clone)]
pub struct Cluster {
    address: String,
    patience: Duration,
    guards: Guards,
    http: reqwest::Client,
    scheduler: SchedulerGrpcClient<Channel>,
    vcores: usize,
}

impl Cluster {
    /// Connects to the scheduler at `HOST:PORT`, and waits for it and for one executor at most as long as `patience`; that is
    /// also how long it may stay silent later.
    ///
    /// # Errors
    /// When nobody answers, or there is no executor.
    pub async fn connect(address: &str, patience: Duration) -> std::result::Result<Self, ClusterError> {
        check_address(address)?;
        let unreachable = |problem: &dyn fmt::Display| ClusterError::Unreachable {
            address: address.to_owned(),
            problem: problem.to_string(),
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| ClusterError::Address(address.to_owned()))?
            .connect_timeout(ANSWER.min(patience))
            .tcp_keepalive(Some(ANSWER))
            .http2_keep_alive_interval(ANSWER)
            .keep_alive_while_idle(true);
        let scheduler = SchedulerGrpcClient::new(endpoint.connect_lazy())
            .max_encoding_message_size(LARGEST_MESSAGE)
            .max_decoding_message_size(LARGEST_MESSAGE);
        // The scheduler is inside: whatever proxy leads out of here does not lead to it.
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build().map_err(|e| unreachable(&e))?;
        let mut cluster =
            Self { address: address.to_owned(), patience, guards: Guards::default(), http, scheduler, vcores: 0 };
        let began = Instant::now();
        loop {
            let answer = cluster.executors().await;
            if let Ok(executors) = &answer
                && !executors.is_empty()
            {
                cluster.vcores = executors.iter().map(|e| e.specification.vcores).sum();
                return Ok(cluster);
            }
            if began.elapsed() >= patience {
                return Err(match answer {
                    Ok(_) => ClusterError::NoExecutor { address: address.to_owned(), seconds: patience.as_secs() },
                    Err(error) => error,
                });
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Without some of the guards; for tests of what they are for.
    #[must_use]
    pub fn with_guards(self, guards: Guards) -> Self {
        Self { guards, ..self }
    }

    /// How many partitions the executors work on at once.
    #[must_use]
    pub fn vcores(&self) -> usize {
        self.vcores
    }

    /// The session, with its plans run here.
    #[must_use]
    pub fn session(self, vocabulary: &Vocabulary, watch: Watch) -> SessionState {
        let planner = Arc::clone(vocabulary.state.query_planner());
        let session =
            Session { id: vocabulary.state.session_id().to_owned(), cluster: self, codec: vocabulary.codec(), watch };
        let config = vocabulary.state.config().clone();
        // These live in the memory that nodes of one process share.
        let mut config = config.set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
        // Ballista leaves them out, and then counts partitions that are not there.
        config.options_mut().optimizer.enable_round_robin_repartition = false;
        SessionStateBuilder::new_from_existing(vocabulary.state.clone())
            .with_config(config)
            .with_query_planner(Arc::new(ClusterPlanner { planner, session }))
            .build()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> std::result::Result<T, ClusterError> {
        let answer = self.http.get(format!("http://{}{path}", self.address)).send().await;
        let text = match answer.and_then(reqwest::Response::error_for_status) {
            Ok(answer) => answer.text().await,
            Err(error) => Err(error),
        };
        let text = text.map_err(|e| self.unreachable(&chain(&e)))?;
        serde_json::from_str(&text)
            .map_err(|e| ClusterError::Failed(format!("{path} of {} is not understood: {e}", self.address)))
    }

    async fn executors(&self) -> std::result::Result<Vec<Executor>, ClusterError> {
        self.get("/api/executors").await
    }

    fn unreachable(&self, problem: &dyn fmt::Display) -> ClusterError {
        ClusterError::Unreachable { address: self.address.clone(), problem: problem.to_string() }
    }

    /// Asks the scheduler something, and again while it cannot be reached, as long as patience lasts.
    async fn ask<T, F: Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>>(
        &self,
        question: impl Fn(SchedulerGrpcClient<Channel>) -> F,
    ) -> std::result::Result<T, ClusterError> {
        let began = Instant::now();
        loop {
            let problem = match tokio::time::timeout(ANSWER, question(self.scheduler.clone())).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status))
                    if matches!(
                        status.code(),
                        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown
                    ) =>
                {
                    status.message().to_owned()
                }
                Ok(Err(status)) => return Err(ClusterError::of_job(status.message())),
                Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
            };
            if began.elapsed() >= self.patience {
                return Err(self.unreachable(&problem));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// A session's connection with its cluster.
#[derive(Clone)]
pub(crate) struct Session {
    id: String,
    cluster: Cluster,
    codec: Arc<dyn PhysicalExtensionCodec>,
    watch: Watch,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn address(&self) -> &str {
        &self.cluster.address
    }

    /// Runs a plan of one partition, anew if something was lost.
    pub(crate) async fn run(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        sent_below: usize,
        config: &SessionConfig,
    ) -> Result<SendableRecordBatchStream> {
        let mut message = Vec::new();
        PhysicalPlanNode::try_from_physical_plan(Arc::clone(&plan), self.codec.as_ref())?.try_encode(&mut message)?;
        let settings = settings(config, sent_below);
        let mut attempt = 1;
        loop {
            match self.attempt(&message, &settings).await {
                Ok(rows) => return Ok(Box::pin(RecordBatchStreamAdapter::new(plan.schema(), rows))),
                Err(error) if error.may_pass() && attempt < ATTEMPTS => {
                    tracing::warn!("{error}; it is done again");
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn attempt(
        &self,
        plan: &[u8],
        settings: &[KeyValuePair],
    ) -> std::result::Result<
        impl Stream<Item = Result<datafusion::arrow::array::RecordBatch>> + Send + use<>,
        ClusterError,
    > {
        let cluster = &self.cluster;
        let present = |executors: Vec<Executor>| executors.into_iter().map(|e| e.id).collect::<BTreeSet<_>>();
        let before = present(cluster.executors().await?);
        let answer = cluster
            .ask(|mut scheduler| {
                let mut request = tonic::Request::new(ExecuteQueryParams {
                    session_id: self.id.clone(),
                    settings: settings.to_vec(),
                    operation_id: String::new(),
                    query: Some(Query::PhysicalPlan(plan.to_vec())),
                });
                insert_version_header(request.metadata_mut());
                async move { scheduler.execute_query(request).await }
            })
            .await?;
        let job = match answer.result {
            Some(execute_query_result::Result::Success(accepted)) => accepted.job_id,
            Some(execute_query_result::Result::Failure(refused)) => {
                return Err(ClusterError::of_job(&format!("{refused:?}")));
            }
            None => return Err(ClusterError::Failed("the scheduler gave an empty answer".into())),
        };
        let job = Job { id: job, cluster: cluster.clone(), ended: false };
        let (job, locations) = job.finish(&self.watch).await?;
        if cluster.guards.verify {
            let stages: Stages = cluster.get(&format!("/api/job/{}/stages", job.id)).await?;
            if let Some(loss) = stages.loss() {
                return Err(ClusterError::Lost(loss));
            }
            if let Some(gone) = before.difference(&present(cluster.executors().await?)).next() {
                return Err(ClusterError::Lost(format!("executor {gone} is gone")));
            }
        }
        // The first rows show that the result can be fetched.
        let mut rows = stream::iter(locations).then(fetch).try_flatten().boxed();
        let first = match rows.next().await {
            Some(Ok(first)) => Some(Ok(first)),
            Some(Err(error)) => return Err(ClusterError::Lost(format!("the result cannot be fetched: {error}"))),
            None => None,
        };
        let rest = rows.map_err(|e| ClusterError::Lost(format!("the result cannot be fetched: {e}")).into());
        Ok(stream::iter(first).chain(rest))
    }
}

/// The settings of a session as they travel, with the size below which a side of a join is sent to every task.
fn settings(config: &SessionConfig, sent_below: usize) -> Vec<KeyValuePair> {
    let own = config.options().entries().into_iter().map(|entry| KeyValuePair { key: entry.key, value: entry.value });
    let cutting = KeyValuePair {
        key: ballista_core::config::BALLISTA_BROADCAST_JOIN_THRESHOLD_BYTES.to_owned(),
        value: Some(sent_below.to_string()),
    };
    own.chain([cutting]).collect()
}

/// A job of the cluster. Whoever stops waiting for it cancels it.
struct Job {
    id: String,
    cluster: Cluster,
    ended: bool,
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (job_id, mut scheduler) = (std::mem::take(&mut self.id), self.cluster.scheduler.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Nobody waits for the answer; a scheduler that is gone has no job either.
                let _ = tokio::time::timeout(ANSWER, scheduler.cancel_job(CancelJobParams { job_id })).await;
            });
        }
    }
}

impl Job {
    /// Waits for the end; where the result is.
    async fn finish(mut self, watch: &Watch) -> std::result::Result<(Self, Vec<PartitionLocation>), ClusterError> {
        let (mut known, mut looked) = (false, Instant::now());
        let (mut alone, mut idle): (Option<Instant>, Option<Instant>) = (None, None);
        let began = Instant::now();
        loop {
            let job_id = self.id.clone();
            let answer = self
                .cluster
                .ask(|mut scheduler| {
                    let request = GetJobStatusParams { job_id: job_id.clone() };
                    async move { scheduler.get_job_status(request).await }
                })
                .await?;
            match answer.status.and_then(|s| s.status) {
                Some(Status::Successful(done)) => {
                    self.ended = true;
                    return Ok((self, done.partition_location));
                }
                Some(Status::Failed(failed)) => {
                    self.ended = true;
                    return Err(ClusterError::of_job(&failed.error));
                }
                Some(Status::Queued(_) | Status::Running(_)) => known = true,
                // A scheduler that was started anew knows nothing of it.
                None if known || began.elapsed() > self.cluster.patience => {
                    self.ended = true;
                    return Err(ClusterError::Lost(format!("the scheduler no longer knows job {}", self.id)));
                }
                None => {}
            }
            tokio::time::sleep(LOOK).await;
            if looked.elapsed() < CLOSER_LOOK {
                continue;
            }
            looked = Instant::now();
            // Not being told how far it is is no reason to give up.
            if let Ok(stages) = self.cluster.get::<Stages>(&format!("/api/job/{}/stages", self.id)).await {
                watch(stages.progress());
                idle = if stages.somebody_works() { None } else { idle.or(Some(looked)) };
            }
            // Its turn may not have come, if others are at work.
            if let Some(since) = idle {
                let others = if self.alone().await { 1 } else { TURNS };
                if since.elapsed() > self.cluster.patience * others {
                    return Err(ClusterError::Lost(format!("nobody works on job {} any more", self.id)));
                }
            }
            alone = match self.cluster.executors().await {
                Ok(executors) if executors.is_empty() => alone.or(Some(looked)),
                _ => None,
            };
            if alone.is_some_and(|since| since.elapsed() > self.cluster.patience) {
                let seconds = self.cluster.patience.as_secs();
                return Err(ClusterError::NoExecutor { address: self.cluster.address.clone(), seconds });
            }
        }
    }
}

impl Job {
    /// Whether no other job runs.
    async fn alone(&self) -> bool {
        let jobs: Vec<Listed> = self.cluster.get("/api/jobs").await.unwrap_or_default();
        !jobs.iter().any(|job| job.job_id != self.id && job.status == "Running")
    }
}

/// The rows of a partition of a result, from the executor that has it.
async fn fetch(location: PartitionLocation) -> Result<SendableRecordBatchStream> {
    let missing = |what: &str| DataFusionError::Internal(format!("the place of a result has no {what}"));
    let layout = location.layout();
    let executor = location.executor_meta.ok_or_else(|| missing("executor"))?;
    let partition = location.partition_id.ok_or_else(|| missing("partition"))?;
    let port = u16::try_from(executor.port).map_err(|_| missing("port"))?;
    let mut client = BallistaClient::try_new(&executor.host, port, LARGEST_MESSAGE, false, None, 3, 250, 0, 0)
        .await
        .map_err(|e| DataFusionError::External(Box::new(e)))?;
    client
        .fetch_partition(&executor.id, &partition.into(), location.file_id, layout, true)
        .await
        .map_err(|e| DataFusionError::External(Box::new(e)))
}
