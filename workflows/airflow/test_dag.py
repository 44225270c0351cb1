"""The DAG is whole: it loads, lists the program's stages in their order, and tries again what may succeed later."""

import os
import subprocess
import sys

sys.path.insert(0, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])

import tessera_nightly as nightly  # noqa: E402

plan = subprocess.run(
    [os.environ["TESSERA_BIN"], "plan", "--stages", "--as-of", "2026-01-01", "--project", os.environ["TESSERA_PROJECT"]],
    check=True, capture_output=True, text=True,
)
assert plan.stdout.split() == nightly.STAGES, (plan.stdout, nightly.STAGES)

tasks = nightly.dag.topological_sort()
assert [t.task_id for t in tasks] == nightly.STAGES
for first, second in zip(tasks, tasks[1:]):
    assert second.task_id in first.downstream_task_ids

policy = nightly.ByExitCode()
for code, action in {75: "default", 137: "default", -9: "default", 1: "fail", 2: "fail", 3: "fail"}.items():
    decision = policy.evaluate(Exception(f"Bash command failed. The command returned a non-zero exit code {code}."), 1, 3)
    assert decision.action.value == action, (code, decision)
print("dag: whole")
