//! The night on a cluster of separate processes: the same answer, whoever dies.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    night::generated,
    owner::{self, Owner, date},
    project::{Project, complaint},
};

const NIGHT: &str = "2026-01-01";

/// A scheduler and executors. They end with it.
struct Cluster<'a> {
    project: &'a Project,
    port: u16,
    scheduler: Child,
    executors: Vec<Child>,
    started: usize,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

impl<'a> Cluster<'a> {
    fn of(project: &'a Project, executors: usize, cores: usize) -> Self {
        let port = free_port();
        let mut scheduler = project.command(&["scheduler", "--bind-port", &port.to_string()]);
        let scheduler = quiet(&mut scheduler, project.path(&format!("scheduler-{port}.log")));
        let mut cluster = Self { project, port, scheduler, executors: Vec::new(), started: 0 };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the scheduler listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        for _ in 0..executors {
            cluster.add_executor(cores);
        }
        cluster
    }

    fn add_executor(&mut self, cores: usize) {
        self.started += 1;
        let number = self.started;
        let mut command = self.project.command(&["executor", "--scheduler", &self.address(), "--bind-port", "0"]);
        command.args(["--cores", &cores.to_string(), "--memory", "1GiB", "--work-dir", &format!("work-{number}")]);
        self.executors.push(quiet(&mut command, self.project.path(&format!("executor-{number}.log"))));
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn engine(&self) -> String {
        format!("ballista://{}", self.address())
    }

    fn run(&self, lake: &str) -> BTreeMap<String, String> {
        self.project.ok(&["run", "--as-of", NIGHT, "--lake", lake, "--engine", &self.engine()]);
        self.project.fingerprints(NIGHT, &["--lake", lake])
    }

    /// Without a chance to say good-bye.
    fn kill_executor(&mut self) {
        let mut executor = self.executors.remove(0);
        executor.kill().expect("killed");
        executor.wait().expect("ends");
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for process in self.executors.iter_mut().chain([&mut self.scheduler]) {
            // It may be gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn quiet(command: &mut Command, log: PathBuf) -> Child {
    let log = File::create(log).expect("a log");
    command.stdout(Stdio::null()).stderr(log).spawn().expect("the program starts")
}

/// Starts a run and waits until `stage` has begun.
fn started(cluster: &Cluster<'_>, lake: &str, stage: &str) -> (Child, std::thread::JoinHandle<Vec<String>>) {
    let mut command =
        cluster.project.command(&["run", "--as-of", NIGHT, "--lake", lake, "--engine", &cluster.engine()]);
    let mut child = command
        .args(["--log", "json", "-v"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let mark = format!("\"stage\":\"{stage}\"");
    assert!(lines.any(|line| line.contains(&mark)), "{stage} begins");
    (child, std::thread::spawn(move || lines.collect()))
}

#[test]
fn one_two_and_four_executors_give_the_same_night() {
    let project = generated(1_500, &["--format", "csv"]);
    project.ok(&["run", "--as-of", NIGHT, "--lake", "local"]);
    let expect = project.fingerprints(NIGHT, &["--lake", "local"]);
    assert_eq!(expect.len(), 39, "{expect:?}");
    project.ok(&["run", "--as-of", NIGHT, "--lake", "inside", "--engine", "in-process"]);
    assert_eq!(project.fingerprints(NIGHT, &["--lake", "inside"]), expect);
    let mut cluster = Cluster::of(&project, 1, 2);
    assert_eq!(cluster.run("one"), expect);
    cluster.add_executor(1);
    assert_eq!(cluster.run("two"), expect);
    cluster.add_executor(1);
    cluster.add_executor(1);
    assert_eq!(cluster.run("four"), expect);
    // The other commands work there too.
    let query = "SELECT count(*) AS n FROM segments";
    let answer = |engine: &str| project.ok(&["sql", query, "--lake", "four", "--format", "csv", "--engine", engine]);
    assert_eq!(answer(&cluster.engine()), answer("local"));
}

#[test]
fn a_night_outlives_its_executors() {
    let project = generated(1_500, &[]);
    project.ok(&["run", "--as-of", NIGHT, "--lake", "local"]);
    let expect = project.fingerprints(NIGHT, &["--lake", "local"]);
    let mut cluster = Cluster::of(&project, 3, 1);
    for stage in ["ingest", "segment"] {
        let (mut run, rest) = started(&cluster, stage, stage);
        std::thread::sleep(Duration::from_millis(300));
        cluster.kill_executor();
        let status = run.wait().expect("ends");
        let log = rest.join().expect("read").join("\n");
        if !status.success() {
            assert_eq!(status.code(), Some(75), "{log}");
            project.ok(&["run", "--as-of", NIGHT, "--lake", stage, "--engine", &cluster.engine()]);
        }
        assert_eq!(project.fingerprints(NIGHT, &["--lake", stage]), expect, "{stage}");
        project.ok(&["snapshots", "verify", "--lake", stage]);
        cluster.add_executor(1);
    }
    // Nor does it need its driver.
    for stage in ["ingest", "features", "segment", "kpis"] {
        let (mut run, _) = started(&cluster, "driver", stage);
        run.kill().expect("killed");
        run.wait().expect("ends");
        assert_eq!(project.ok(&["snapshots", "list", "--lake", "driver", "--json"]).trim(), "[]");
    }
    assert_eq!(cluster.run("driver"), expect);
}

/// Nights that go on from one another give there what they give in one process, also when an executor or the driver dies.
#[test]
fn a_chain_of_nights_is_the_same_on_a_cluster() {
    let project = Project::new(owner::PROJECT);
    let mut owner = Owner::new(&project, 11);
    let mut cluster = Cluster::of(&project, 2, 1);
    for night in 0..5 {
        let as_of = date(owner.day + 1);
        project.ok(&["run", "--as-of", &as_of, "--lake", "local"]);
        let there = ["run", "--as-of", &as_of, "--lake", "there", "--engine", &cluster.engine()];
        if night == 2 || night == 3 {
            let mut run = project.command(&there).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
            std::thread::sleep(Duration::from_millis(if night == 2 { 700 } else { 1_500 }));
            if night == 2 {
                run.kill().expect("killed");
            } else {
                cluster.kill_executor();
                cluster.add_executor(1);
            }
            run.wait().expect("ends");
        }
        project.ok(&there);
        let of = |lake: &str| project.fingerprints(&as_of, &["--lake", lake]);
        let apart = crate::chain::differing(&of("there"), &of("local"), &[]);
        let rows = crate::chain::rows_apart(&project, &as_of, ["there", "local"], &apart);
        assert!(apart.is_empty(), "night {night} after {:?}: {apart:?}\n{rows}", owner.log);
        owner.passes();
    }
    project.ok(&["snapshots", "verify", "--lake", "there"]);
}

#[test]
fn a_scheduler_that_dies_is_noticed_in_time() {
    let project = generated(1_500, &[]);
    let mut cluster = Cluster::of(&project, 1, 2);
    let (mut run, rest) = started(&cluster, "lake", "ingest");
    cluster.scheduler.kill().expect("killed");
    let began = Instant::now();
    let status = run.wait().expect("ends");
    let log = rest.join().expect("read").join("\n");
    assert_eq!(status.code(), Some(75), "{log}");
    assert!(began.elapsed() < Duration::from_secs(150), "{:?}", began.elapsed());
    assert!(log.contains("cannot be reached"), "{log}");
    // Nothing of it is visible, and the night can be done elsewhere.
    assert_eq!(project.ok(&["snapshots", "list", "--lake", "lake", "--json"]).trim(), "[]");
    project.ok(&["run", "--as-of", NIGHT, "--lake", "lake"]);
}

#[test]
fn of_two_drivers_of_one_night_one_publishes() {
    let project = generated(600, &[]);
    let cluster = Cluster::of(&project, 2, 1);
    let drive = || {
        let mut command = project.command(&["run", "--as-of", NIGHT, "--engine", &cluster.engine()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    };
    let (first, second) = (drive(), drive());
    let done = [first, second].map(|d| d.wait_with_output().expect("ends"));
    let mut second = 0;
    for one in &done {
        let (out, log) = (String::from_utf8_lossy(&one.stdout), String::from_utf8_lossy(&one.stderr));
        assert!(one.status.success(), "{log}");
        second += usize::from(out.contains("is published as") || log.contains("another process published"));
    }
    assert_eq!(second, 1, "{done:?}");
    let list: serde_json::Value = serde_json::from_str(&project.ok(&["snapshots", "list", "--json"])).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    let customers = project.sql("SELECT count(*) = count(DISTINCT customer_key) FROM segments");
    assert_eq!(customers.trim(), "true");
    project.ok(&["snapshots", "verify"]);
}

#[test]
fn what_is_missing_for_a_cluster_is_said() {
    let project = Project::shop();
    let port = free_port();
    let done = project.tessera(&["run", "--as-of", NIGHT, "--engine", "spark://x"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("ballista://HOST:PORT"), "{}", done.stderr);

    let mut cluster = Cluster::of(&project, 0, 1);
    cluster.executors.push({
        let mut command = project.command(&["executor", "--scheduler", &cluster.address(), "--bind-port", "0"]);
        command.env("TESSERA_SECRET", "another secret than that of the run");
        quiet(&mut command, project.path("executor.log"))
    });
    let done = project.tessera(&["run", "--as-of", NIGHT, "--engine", &cluster.engine()]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(complaint(&done).contains("give all of them the same TESSERA_SECRET"), "{}", done.stderr);

    let nobody = format!("127.0.0.1:{port}");
    let alone = ["executor", "--scheduler", &nobody, "--bind-port", "0", "--patience", "1"];
    let done = project.tessera(&alone);
    assert_eq!(done.code, 75, "{}", done.stderr);
    // A folder is one executor's.
    cluster.add_executor(1);
    let taken = format!("work-{}", cluster.started);
    let began = Instant::now();
    while !project.path(&taken).join("results").exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "the executor works");
        std::thread::sleep(Duration::from_millis(20));
    }
    let done = project.tessera(&[&alone, ["--work-dir", &taken].as_slice()].concat());
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(complaint(&done).contains("another executor works in it"), "{}", done.stderr);
    let done = project.tessera(&["executor", "--scheduler", "nowhere", "--bind-port", "0", "--patience", "1"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
}
