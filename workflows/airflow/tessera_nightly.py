"""One Tessera night as an Airflow DAG: a task per stage, over the command line.

The as-of date is the day of the run in the project's time zone: the run at 02:00 on D is the night D, which knows the
events before D 00:00. A manual run names another one: `airflow dags test tessera_nightly --conf '{"as_of": "2026-11-01"}'`.

Exit codes decide what happens next: 0 goes on; 75 (temporary) and a killed process are tried again; everything else fails
at once, since trying again would fail again. 3 is a night that a gate held: the last published snapshot stays current, and a
person looks. A task that is tried again goes on where the run stopped.

Environment: TESSERA_BIN (default `tessera`), TESSERA_PROJECT (the project file), TESSERA_ARGS (further options, such as
`--lake s3://…`), and TESSERA_SECRET or TESSERA_SECRET_FILE.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronPartitionTimetable, Param, RetryDecision, RetryPolicy

# The list of `tessera plan`; a test holds it against the program's own.
STAGES = ["ingest", "reconcile", "quality", "identity", "features", "value", "segment", "validate", "kpis", "causes", "publish"]

TIMEZONE = os.environ.get("TESSERA_TIMEZONE", "UTC")
AS_OF = "{{ params.as_of or partition_key or dag_run.run_after.strftime('%Y-%m-%d') }}"


class ByExitCode(RetryPolicy):
    """Tries again what may succeed later, and nothing else."""

    TEMPORARY = 75

    def evaluate(self, exception, try_number, max_tries, context=None):
        found = re.search(r"exit code (-?\d+)", str(exception))
        code = int(found.group(1)) if found else None
        if code is None or code == self.TEMPORARY or code < 0 or code > 128:
            return RetryDecision.default()
        return RetryDecision.fail(reason=f"tessera ended with {code}, which the same command would do again")

    def serialize(self):
        return {}

    @classmethod
    def deserialize(cls, data):
        return cls()


with DAG(
    dag_id="tessera_nightly",
    description="Nightly customer segmentation",
    schedule=CronPartitionTimetable("0 2 * * *", timezone=TIMEZONE, run_offset=0, key_format="%Y-%m-%d"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # Two nights at once would only wait for each other's memory.
    max_active_runs=1,
    params={"as_of": Param(None, type=["null", "string"], format="date", description="another night than the schedule's")},
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "retry_policy": ByExitCode(),
        "execution_timeout": timedelta(hours=4),
    },
    tags=["tessera"],
) as dag:
    previous = None
    for stage in STAGES:
        task = BashOperator(
            task_id=stage,
            # `exec`: the program itself gets the signal when the task is stopped.
            bash_command=f'exec "${{TESSERA_BIN:-tessera}}" stage {stage} --as-of "{AS_OF}"'
            ' --project "${TESSERA_PROJECT:-tessera.toml}" ${TESSERA_ARGS:-}',
            append_env=True,
            # Its last line is the run's or the snapshot's id.
            do_xcom_push=True,
        )
        if previous is not None:
            previous >> task
        previous = task
