"""Nights on an S3 server: held against the night on local files."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import boto3

from faults import FAULTS, Proxy

work, tessera, project = sys.argv[1:4]
work = pathlib.Path(work)
NIGHT = "2026-01-01"
ENTITIES = ["customers", "transactions", "interactions", "campaign_contacts", "survey_responses", "marketing_costs"]
KEYS = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret"}
checks = 0


def check(condition, message):
    global checks
    assert condition, message
    checks += 1


def environment(endpoint):
    return {**os.environ, **KEYS, "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", "NO_PROXY": "*"}


def run(*args, endpoint=None, code=0):
    env = environment(endpoint) if endpoint else None
    done = subprocess.run([tessera, *args, "--project", str(work / "tessera.toml")], env=env, capture_output=True, text=True)
    if code is not None:
        assert done.returncode == code, (args, done.returncode, done.stderr[-3000:])
    return done


def fingerprints(lake, endpoint=None):
    shown = json.loads(run("snapshots", "show", "--as-of", NIGHT, "--json", "--lake", lake, endpoint=endpoint).stdout)
    return {name: table["fingerprint"] for name, table in shown["tables"].items()}


def snapshots(lake, endpoint):
    return json.loads(run("snapshots", "list", "--json", "--lake", lake, endpoint=endpoint).stdout)


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def process(*command, env=None):
    with open(work / f"{os.path.basename(command[0])}-{time.monotonic_ns()}.log", "w") as log:
        running = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def wait_for(what, ready):
    for _ in range(300):
        with contextlib.suppress(Exception):
            if ready():
                return
        time.sleep(0.1)
    raise AssertionError(f"{what} is not there")


def listens(at):
    with socket.create_connection(("127.0.0.1", at), timeout=1):
        return True


@contextlib.contextmanager
def cluster(executors, endpoint):
    at, env = port(), environment(endpoint)
    with contextlib.ExitStack() as roles:
        roles.enter_context(process(tessera, "scheduler", "--bind-port", str(at)))
        wait_for("the scheduler", lambda: listens(at))
        for number in range(executors):
            roles.enter_context(
                process(tessera, "executor", "--scheduler", f"127.0.0.1:{at}", "--bind-port", str(port()), "--cores", "1",
                        "--memory", "1GiB", "--work-dir", str(work / f"work-{at}-{number}"), env=env))
        yield f"ballista://127.0.0.1:{at}"


# Local files first.
(work / "tessera.toml").write_text(pathlib.Path(project).read_text())
run("generate", "--customers", "1500", "--out", str(work / "data"))
run("run", "--as-of", NIGHT, "--lake", str(work / "lake"))
expect = fingerprints(str(work / "lake"))

weed = ["weed", "mini", f"-dir={work}/weed", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false", "-master.telemetry=false",
        "-webdav=false", "-bucket=lake"]
(work / "weed").mkdir()
with process(*weed, env={**os.environ, **KEYS}):
    server = "http://127.0.0.1:8333"
    s3 = boto3.client("s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                      aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"])
    wait_for("the bucket", lambda: s3.head_bucket(Bucket="lake"))
    for file in sorted((work / "data").rglob("*.parquet")):
        s3.upload_file(str(file), "lake", f"raw/{file.relative_to(work / 'data')}")
    sources = [arg for e in ENTITIES for arg in ("--set", f"sources.{e}.url=s3://lake/raw/{e}/")]

    run("run", "--as-of", NIGHT, "--lake", "s3://lake/one", *sources, endpoint=server)
    check(fingerprints("s3://lake/one", server) == expect, "one process on S3")
    run("snapshots", "verify", "--lake", "s3://lake/one", endpoint=server)

    with cluster(2, server) as engine:
        run("run", "--as-of", NIGHT, "--lake", "s3://lake/two", "--engine", engine, *sources, endpoint=server)
    check(fingerprints("s3://lake/two", server) == expect, "two executors on S3")

    # A network that fails: done, or to be done again; never half there.
    def through(proxy, lake, *further):
        for attempt in range(1, 8):
            done = run("run", "--as-of", NIGHT, "--lake", lake, *further, *sources, endpoint=proxy.url, code=None)
            check(done.returncode in (0, 75), done.stderr[-3000:])
            if done.returncode == 0:
                break
            print(f"{lake}, attempt {attempt}: {done.stderr.strip().splitlines()[-1][:300]}")
            check(snapshots(lake, server) == [], f"half a night is visible: {done.stderr[-2000:]}")
        check(done.returncode == 0, f"{lake} after {attempt} attempts: {done.stderr[-2000:]}")
        check(fingerprints(lake, server) == expect, f"{lake} after {attempt} attempts")
        missing = [fault for fault in FAULTS if not proxy.hit[fault]]
        check(not missing, f"{missing} never happened: {proxy.hit}")
        print(f"{lake}: {sum(proxy.hit.values())} faults in {proxy.requests} requests, {attempt} attempts")

    proxy = Proxy(("127.0.0.1", 8333), 9)
    through(proxy, "s3://lake/faulty")
    proxy = Proxy(("127.0.0.1", 8333), 9)
    with cluster(2, proxy.url) as engine:
        through(proxy, "s3://lake/faulty-cluster", "--engine", engine)

    # An outage in the middle of a night.
    proxy = Proxy(("127.0.0.1", 8333), 10**9)
    night = subprocess.Popen([tessera, "run", "--as-of", NIGHT, "--lake", "s3://lake/outage", *sources, "--project",
                              str(work / "tessera.toml")], env=environment(proxy.url), stderr=subprocess.PIPE, text=True,
                             stdout=subprocess.DEVNULL)
    wait_for("the night", lambda: proxy.requests > 60)
    proxy.down, began = True, time.monotonic()
    complaint = night.communicate(timeout=300)[1]
    check(night.returncode == 75, complaint[-3000:])
    check(snapshots("s3://lake/outage", server) == [], "half a night is visible")
    said = complaint[complaint.index("error: "):][:200]
    print(f"an outage is reported after {time.monotonic() - began:.0f} s: {said}")
    proxy.down = False
    run("run", "--as-of", NIGHT, "--lake", "s3://lake/outage", *sources, endpoint=proxy.url)
    check(fingerprints("s3://lake/outage", server) == expect, "after the outage")

    wrong = {**environment(server), "AWS_SECRET_ACCESS_KEY": "wrong"}
    refused = subprocess.run([tessera, "run", "--as-of", NIGHT, "--lake", "s3://lake/wrong", "--project", str(work / "tessera.toml")],
                             env=wrong, capture_output=True, text=True)
    check(refused.returncode == 1, (refused.returncode, refused.stderr))

# A store that overwrites where it was asked to create: rclone answers 200 to both.
(work / "rclone" / "lake").mkdir(parents=True)
at = port()
with process("rclone", "serve", "s3", "--addr", f"127.0.0.1:{at}", "--auth-key", "testkey,testsecret", str(work / "rclone")):
    wait_for("rclone", lambda: listens(at))
    careless = run("run", "--as-of", NIGHT, "--lake", "s3://lake/one", endpoint=f"http://127.0.0.1:{at}", code=1)
    check("conditional" in careless.stderr.lower() or "overwrite" in careless.stderr.lower(), careless.stderr)
    print(careless.stderr[careless.stderr.index("error: "):].strip())

print(f"s3: {checks} passed, 0 failed")
