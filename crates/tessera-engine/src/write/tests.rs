use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray},
        util::pretty::pretty_format_batches,
    },
    physical_plan::displayable,
    prelude::{DataFrame, col, lit},
};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use sha2::{Digest, Sha256};
use url::Url;

use super::*;
use crate::{Engine, Secret, Settings, StoredFile, Stores, session, session::Scratch};

fn store_url() -> Url {
    Url::parse("memory:///").expect("a URL")
}

fn engine(partitions: usize, store: &Arc<dyn ObjectStore>) -> Engine {
    let settings = Settings { partitions: partitions.try_into().expect("some"), memory_limit: None, spill_dir: None };
    let scratch = Scratch { store: store_url(), folder: "scratch".into() };
    let stores = Arc::new(Stores::new(Box::new(|url| Ok(object_store::parse_url(url)?.0.into()))));
    let state = session::state(&settings, Some(&Secret::new(b"secret")), stores).expect("a state");
    let engine = Engine::new(state, scratch);
    engine.register_store(&store_url(), Arc::clone(store));
    engine
}

fn frame(engine: &Engine, rows: i64) -> DataFrame {
    let ids: ArrayRef = Arc::new((0..rows).collect::<Int64Array>());
    let names: ArrayRef = Arc::new((0..rows).map(|i| (i % 3 > 0).then(|| format!("n{i}"))).collect::<StringArray>());
    let money = (0..rows).map(|i| Some(i128::from(i) * 1_010_000)).collect::<Decimal128Array>();
    let money: ArrayRef = Arc::new(money.with_precision_and_scale(38, 6).expect("fits"));
    let batch = RecordBatch::try_from_iter([("id", ids), ("name", names), ("amount", money)]).expect("a batch");
    let frame = engine.session().read_batch(batch).expect("a frame");
    frame.repartition(datafusion::logical_expr::Partitioning::RoundRobinBatch(engine.partitions())).expect("partitions")
}

fn routes() -> Vec<Route> {
    let columns = vec![col("id"), col("name"), (col("amount") * lit(2)).alias("double")];
    let small = Route {
        name: "small".into(),
        folder: String::new(),
        prefix: "small".into(),
        filter: Some(col("id").lt(lit(10_i64))),
        columns: columns.clone(),
        fingerprinted: vec!["id".into(), "name".into()],
        buckets: None,
        lifetime: Lifetime::Kept,
    };
    let large = Route {
        name: "large".into(),
        prefix: "large".into(),
        filter: Some(col("id").gt_eq(lit(10_i64))),
        ..small.clone()
    };
    vec![small, large]
}

#[tokio::test]
async fn every_row_goes_one_way_and_the_manifest_is_true() {
    let mut fingerprints = Vec::new();
    for partitions in [1, 2, 7] {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let engine = engine(partitions, &store);
        let files = write(frame(&engine, 20_000), &store_url(), routes()).await.expect("writes");
        for file in &files {
            let bytes = store.get(&Path::from(file.path.as_str())).await.expect("there").bytes().await.expect("reads");
            assert_eq!(bytes.len() as u64, file.bytes);
            assert_eq!(hex(&Sha256::digest(&bytes)), file.sha256);
        }
        let of = |route: &str| files.iter().filter(|f| f.route == route).collect::<Vec<_>>();
        assert_eq!(of("small").iter().map(|f| f.rows).sum::<u64>(), 10);
        assert_eq!(of("large").iter().map(|f| f.rows).sum::<u64>(), 19_990);
        let sum = |route: &str| of(route).iter().fold(Fingerprint::default(), |sum, f| sum + f.fingerprint);
        fingerprints.push((sum("small"), sum("large")));

        let stored = |f: &&WrittenFile| StoredFile { path: f.path.clone(), bytes: f.bytes, rows: f.rows };
        let small = of("small").iter().map(stored).collect();
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("double", DataType::Decimal128(38, 6), true),
        ]));
        let read = engine
            .read(schema, &store_url(), small)
            .expect("reads")
            .sort(vec![col("id").sort(true, true)])
            .expect("sorts");
        let text = pretty_format_batches(&read.limit(0, Some(3)).expect("limits").collect().await.expect("reads"))
            .expect("prints");
        insta::allow_duplicates! {
        insta::assert_snapshot!(text, @r"
        +----+------+----------+
        | id | name | double   |
        +----+------+----------+
        | 0  |      | 0.000000 |
        | 1  | n1   | 2.020000 |
        | 2  | n2   | 4.040000 |
        +----+------+----------+
        ");
        }
    }
    assert_eq!(fingerprints[0], fingerprints[1]);
    assert_eq!(fingerprints[0], fingerprints[2]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn a_plan_that_fails_names_no_file() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let engine = engine(2, &store);
    let failing = frame(&engine, 1000);
    let query = "SELECT id, CAST('x' || id AS BIGINT) AS name, amount FROM t";
    let boom = engine.sql(query, &[("t", &failing)], &crate::formula::Words::none()).await.expect("plans");
    let error = write(boom, &store_url(), routes()).await.expect_err("`x0` is no number");
    assert!(error.to_string().contains("x0") || error.to_string().contains('x'), "{error}");
}

#[tokio::test]
async fn only_the_columns_that_are_written_are_read() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let engine = engine(2, &store);
    let stored = engine.materialise(frame(&engine, 100), "all").await.expect("writes");
    let ids = Route::other("ids", vec![col("id").alias("id")], Lifetime::Kept);
    let route = Route { prefix: "ids".into(), filter: Some(col("amount").gt(lit(5))), ..ids };
    let plan =
        write_plan(stored, &store_url(), vec![route]).expect("plans").create_physical_plan().await.expect("plans");
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("WriteExec: tables=[ids (Kept)]"), "{text}");
    assert!(text.contains("projection=[id, amount]"), "{text}");
}

#[tokio::test]
async fn rows_of_one_value_are_in_one_bucket_and_are_grouped_without_a_shuffle() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let engine = engine(2, &store);
    let rows = frame(&engine, 30_000);
    let keyed = "SELECT 'k' || (id % 700) AS key, id FROM t";
    let keyed = engine.sql(keyed, &[("t", &rows)], &crate::formula::Words::none()).await.expect("plans");
    let columns = vec![col("key").alias("key"), col("id").alias("id")];
    let route = Route {
        prefix: "keyed".into(),
        fingerprinted: vec!["key".into(), "id".into()],
        buckets: Some(Buckets { column: "key".into(), count: 5, together: false }),
        ..Route::other("keyed", columns, Lifetime::Kept)
    };
    // Brought together before, a bucket is in one file.
    let together = Buckets { together: true, ..route.buckets.clone().expect("some") };
    let together = Route { prefix: "together".into(), buckets: Some(together), ..route.clone() };
    let plan = write_plan(keyed.clone(), &store_url(), vec![together.clone()]).expect("plans");
    let plan = plan.create_physical_plan().await.expect("plans");
    let plan = displayable(plan.as_ref()).indent(false).to_string();
    assert!(plan.contains("RepartitionExec: partitioning=Hash([bucket("), "{plan}");
    let files = write(keyed.clone(), &store_url(), vec![together]).await.expect("writes");
    assert_eq!((files.iter().map(|f| f.rows).sum::<u64>(), files.len()), (30_000, 5), "{files:?}");

    let files = write(keyed, &store_url(), vec![route]).await.expect("writes");
    assert_eq!((files.iter().map(|f| f.rows).sum::<u64>(), files.len()), (30_000, 10), "{files:?}");
    let folders: std::collections::BTreeSet<_> =
        files.iter().filter_map(|f| f.path.split('/').nth(1).map(str::to_owned)).collect();
    assert_eq!(folders.into_iter().collect::<Vec<_>>(), ["bucket-0", "bucket-1", "bucket-2", "bucket-3", "bucket-4"]);

    let schema =
        Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, true), Field::new("id", DataType::Int64, true)]));
    let stored: Vec<_> =
        files.iter().map(|f| StoredFile { path: f.path.clone(), bytes: f.bytes, rows: f.rows }).collect();
    let read = engine.read_buckets(schema.clone(), &store_url(), stored.clone()).expect("reads");
    let ask = async |frame: &DataFrame, query: String| {
        let answer = engine.sql(&query, &[("t", frame)], &crate::formula::Words::none()).await.expect("plans");
        let plan = answer.clone().create_physical_plan().await.expect("plans");
        let rows = pretty_format_batches(&answer.collect().await.expect("runs")).expect("prints").to_string();
        (displayable(plan.as_ref()).indent(false).to_string(), rows)
    };
    let twice = "SELECT key FROM (SELECT DISTINCT key, bucket FROM t) GROUP BY key HAVING count(*) > 1";
    let (_, split) = ask(&read, format!("SELECT 'split', count(*) FROM ({twice})")).await;
    assert!(split.contains("| split         | 0        |"), "{split}");

    let grouped = "SELECT sum(n), count(*), max(n) FROM (SELECT key, count(*) AS n FROM t GROUP BY bucket, key)";
    let (plan, in_buckets) = ask(&read, grouped.to_owned()).await;
    assert!(plan.contains("mode=SinglePartitioned, gby=[bucket@1 as bucket, key@0 as key]"), "{plan}");
    assert!(plan.contains("ordering_mode=PartiallySorted([0])"), "{plan}");
    assert!(!plan.contains("RepartitionExec"), "{plan}");
    let whole = engine.read(schema, &store_url(), stored).expect("reads");
    let (_, at_once) = ask(&whole, grouped.replace("bucket, ", "")).await;
    assert_eq!(in_buckets, at_once);
}

#[tokio::test]
async fn a_plan_travels() {
    use datafusion_proto::{
        physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec},
        protobuf::PhysicalPlanNode,
    };
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let engine = engine(2, &store);
    let stored = engine.materialise(frame(&engine, 100), "all").await.expect("writes");
    let keyed = "SELECT id, customer_key(name) AS name, amount FROM t";
    let keyed = engine.sql(keyed, &[("t", &stored)], &crate::formula::Words::none()).await.expect("plans");
    let plan = write_plan(keyed.clone(), &store_url(), routes()).expect("plans");
    let plan = plan.create_physical_plan().await.expect("plans");

    let codec =
        |secret: Option<&[u8]>| crate::Codec::new(secret.map(Secret::new), Arc::new(DefaultPhysicalExtensionCodec {}));
    let sent = PhysicalPlanNode::try_from_physical_plan(Arc::clone(&plan), &codec(Some(b"secret"))).expect("encodes");
    let context = engine.session().task_ctx();
    let arrive = |secret: Option<&[u8]>| sent.try_into_physical_plan(&context, &codec(secret));
    let show = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
    let arrived = arrive(Some(b"secret")).expect("decodes");
    assert_eq!(show(&arrived), show(&plan));
    let written = |plan| async { collect(plan, engine.session().task_ctx()).await };
    let rows = |batches: Vec<RecordBatch>| -> u64 {
        let counts = batches.iter().flat_map(|b| b.column(2).as_primitive::<UInt64Type>().values().to_vec());
        counts.sum()
    };
    let there = rows(written(arrived).await.expect("writes"));
    assert_eq!(there, rows(written(plan).await.expect("writes")));
    assert_eq!(there, 100);

    // Whoever has no secret may pass a plan on, not run it; whoever has another one may do neither.
    let passed = arrive(None).expect("decodes");
    let again = PhysicalPlanNode::try_from_physical_plan(Arc::clone(&passed), &codec(None)).expect("encodes");
    assert_eq!(again, sent);
    let error = written(passed).await.expect_err("no secret").to_string();
    assert!(error.contains("this process has no secret"), "{error}");
    let error = arrive(Some(b"another")).expect_err("another secret").to_string();
    assert!(error.contains("give all of them the same TESSERA_SECRET"), "{error}");
}
