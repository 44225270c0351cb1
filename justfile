# Recipes for people. Each is one command that also works without just.

# The main job, with nothing to set up.
demo:
    cargo run --release --locked -- demo

# Every test.
test:
    cargo test --release --locked

# What continuous integration runs.
ci:
    bash .ci/run

# Format and lint.
lint:
    cargo fmt --all --check
    cargo clippy --release --locked --workspace --all-targets -- -D warnings

# The data dictionary and the reference of the project file, from the contract.
dictionary:
    cargo run --release --locked -- tables > docs/tables.md
    cargo run --release --locked -- schema --markdown > docs/project-file.md

# The peers' job beside ours on the same files: `just bench S parquet 3`.
bench scale="S" input="parquet" runs="3":
    bash bench/run.sh {{scale}} {{input}} {{runs}}

# Persons among accounts, beside Splink on DuckDB.
bench-identity accounts="1000000":
    bash bench/identity.sh {{accounts}}

# A night of one day more beside a full one, and a shop night after night.
bench-nights scale="S":
    bash bench/chained.sh {{scale}}
    bash bench/nights.sh

# Executors killed at random moments of so many nights.
kill nights="20":
    bash tests/kill.sh target/release/tessera {{nights}}
