//! A real scheduler and real executors on the loopback.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::{DataType, Int64Type},
    },
    common::Result,
    dataframe::DataFrameWriteOptions,
    datasource::empty::EmptyTable,
    execution::{SessionState, SessionStateBuilder},
    logical_expr::{ColumnarValue, Volatility, create_udf},
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{Cluster, ClusterError, Guards, InProcess, JobProgress, Vocabulary};

const ROWS: i64 = 400_000;
const GROUPS: i64 = 40_000;

/// A session that knows `slow(x)`, which takes most of a second a batch.
fn state() -> SessionState {
    let config = SessionConfig::new().with_target_partitions(2).with_batch_size(4096);
    let ctx =
        SessionContext::new_with_state(SessionStateBuilder::new().with_config(config).with_default_features().build());
    ctx.register_udf(create_udf(
        "slow",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Volatile,
        Arc::new(|args: &[ColumnarValue]| {
            std::thread::sleep(Duration::from_millis(800));
            Ok(args[0].clone())
        }),
    ));
    ctx.state()
}

fn vocabulary() -> Vocabulary {
    Vocabulary { state: state(), codec: Arc::new(|others| others) }
}

/// Four files of numbers.
async fn numbers() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let ctx = SessionContext::new();
    for part in 0..4 {
        let (from, to) = (ROWS / 4 * part, ROWS / 4 * (part + 1) - 1);
        let query = format!("SELECT value AS v, value % {GROUPS} AS k FROM generate_series({from}, {to})");
        let path = folder.path().join(format!("{part}.parquet"));
        let options = DataFrameWriteOptions::new().with_single_file_output(true);
        let frame = ctx.sql(&query).await.expect("a plan");
        frame.write_parquet(&path.display().to_string(), options, None).await.expect("writes");
    }
    folder
}

async fn ask(state: SessionState, numbers: &TempDir, query: &str) -> Result<Vec<RecordBatch>> {
    let ctx = SessionContext::new_with_state(state);
    ctx.register_parquet("numbers", numbers.path().display().to_string(), ParquetReadOptions::default()).await?;
    let schema = ctx.table("numbers").await?.schema().as_arrow().clone();
    ctx.register_table("nothing", Arc::new(EmptyTable::new(Arc::new(schema))))?;
    ctx.sql(query).await?.collect().await
}

fn first_row(batches: &[RecordBatch]) -> Vec<i64> {
    let batch = batches.iter().find(|b| b.num_rows() > 0).expect("a row");
    batch.columns().iter().map(|c| c.as_primitive::<Int64Type>().value(0)).collect()
}

/// The last stage but one makes sums out of shuffled rows, slowly.
const SUMS: &str = "SELECT count(*) AS groups, sum(n) AS n, sum(s) AS s FROM \
                    (SELECT k, count(*) AS n, slow(sum(v)) AS s FROM numbers GROUP BY k) AS t";

#[tokio::test(flavor = "multi_thread")]
async fn queries_give_what_one_process_gives() {
    let numbers = numbers().await;
    let mut processes = InProcess::start(vocabulary(), numbers.path().join("work"), Guards::default()).expect("starts");
    for _ in 0..2 {
        processes.add_executor(1).expect("starts");
    }
    let cluster = Cluster::connect(&processes.address(), Duration::from_secs(30)).await.expect("connects");
    // A row of a held side must not be given once by every task, nor a row that nothing matches be lost.
    for query in [
        "SELECT k, count(*), sum(v) FROM numbers GROUP BY k ORDER BY k LIMIT 10",
        "SELECT count(*), sum(a.v) FROM numbers AS a JOIN (SELECT k, max(v) AS m FROM numbers GROUP BY k) AS b ON a.v = b.m",
        "SELECT count(*), count(a.v) FROM (VALUES (1), (2), (-3)) AS x(k) LEFT JOIN numbers AS a ON a.v = x.k",
        "SELECT count(*), count(x.k) FROM numbers AS a LEFT JOIN (VALUES (1), (2), (-3)) AS x(k) ON a.v = x.k",
        "SELECT count(*) FROM (VALUES (1), (2), (-3)) AS x(k) FULL JOIN numbers AS a ON a.v = x.k",
        "SELECT count(*) FROM numbers AS a WHERE EXISTS (SELECT 1 FROM numbers AS b WHERE b.k = a.v)",
        "SELECT count(*) FROM (SELECT DISTINCT k FROM numbers WHERE v < 7) AS a WHERE k NOT IN (SELECT v FROM numbers WHERE v > 3)",
        "SELECT count(*) FROM numbers AS a, (SELECT max(v) AS m FROM numbers) AS b WHERE a.v + 10 > b.m",
        "SELECT v FROM numbers WHERE v < 0",
        "SELECT k, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS place FROM numbers WHERE v % 9973 = 0 ORDER BY 1, 2",
        "SELECT count(*) FROM (SELECT k FROM numbers UNION ALL SELECT v FROM numbers) AS u",
        "SELECT count(DISTINCT k) FROM (SELECT k FROM numbers UNION ALL SELECT k FROM nothing) AS u",
        "SELECT count(DISTINCT k) FROM (SELECT k FROM numbers UNION ALL SELECT -1) AS u",
    ] {
        let there = cluster.clone().session(&vocabulary(), Arc::new(|_| {}));
        let far = ask(there, &numbers, query).await.expect(query);
        let near = ask(state(), &numbers, query).await.expect(query);
        let show = |batches: &[RecordBatch]| {
            datafusion::arrow::util::pretty::pretty_format_batches(batches).map(|t| t.to_string())
        };
        assert_eq!(show(&far).expect("shown"), show(&near).expect("shown"), "{query}");
    }
}

/// What comes of the sums when an executor is lost while they are made, and how often the work was begun.
async fn lose_one(guards: Guards) -> (std::result::Result<Vec<i64>, String>, usize) {
    let numbers = numbers().await;
    let mut processes = InProcess::start(vocabulary(), numbers.path().join("work"), guards).expect("starts");
    let doomed = processes.add_executor(1).expect("starts");
    let cluster = loop {
        let cluster = Cluster::connect(&processes.address(), Duration::from_secs(30)).await.expect("connects");
        match cluster.vcores() {
            2 => break cluster.with_guards(guards),
            _ if processes.executors() < 2 => {
                processes.add_executor(1).expect("starts");
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let seen = Arc::new(Mutex::new(JobProgress::default()));
    let begun = Arc::new(AtomicUsize::new(0));
    let state = cluster.session(&vocabulary(), {
        let (seen, begun) = (Arc::clone(&seen), Arc::clone(&begun));
        Arc::new(move |progress: JobProgress| {
            let mut last = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if progress.tasks_done < last.tasks_done || begun.load(Relaxed) == 0 {
                begun.fetch_add(1, Relaxed);
            }
            *last = progress;
        })
    });
    let asking = tokio::spawn(async move { ask(state, &numbers, SUMS).await });
    let began = Instant::now();
    // The rows are shuffled, and the sums are being made.
    while seen.lock().unwrap_or_else(PoisonError::into_inner).stages_done == 0 {
        assert!(began.elapsed() < Duration::from_secs(60) && !asking.is_finished(), "the sums begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    processes.lose_executor(doomed);
    let sums = tokio::time::timeout(Duration::from_secs(240), asking).await;
    let sums = match sums {
        Ok(joined) => joined.expect("no panic").map(|b| first_row(&b)).map_err(|e| e.to_string()),
        Err(_) => Err("it never ends".into()),
    };
    (sums, begun.load(Relaxed))
}

fn right() -> Vec<i64> {
    vec![GROUPS, ROWS, ROWS * (ROWS - 1) / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_an_executor_among_shuffled_rows_is_made_good() {
    let (sums, begun) = lose_one(Guards::default()).await;
    assert_eq!(sums.expect("a result"), right());
    assert!(begun > 1, "the work was begun again");
}

/// What the guards are for. If this fails, Ballista has learned it, and they may go.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_guards_it_is_not() {
    let none = Guards { fail_on_lost_input: false, cancel_on_loss: false, verify: false };
    let (sums, _) = lose_one(none).await;
    println!("without the guards: {sums:?}, with them {:?}", right());
    assert_ne!(sums, Ok(right()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_executors_is_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let processes = InProcess::start(vocabulary(), folder.path().join("work"), Guards::default()).expect("starts");
    let alone = Cluster::connect(&processes.address(), Duration::from_secs(1)).await.expect_err("nobody works");
    assert!(matches!(alone, ClusterError::NoExecutor { .. }) && alone.is_temporary(), "{alone}");
    drop(processes);
    let gone = Cluster::connect("127.0.0.1:1", Duration::from_millis(300)).await.expect_err("nobody is there");
    assert!(matches!(gone, ClusterError::Unreachable { .. }) && gone.is_temporary(), "{gone}");
}
