//! `explain`: what a name means, what a night found of it, and what to do.

mod kpi;

use anyhow::Result;
use tessera_contract::Project;
use tessera_lake::{GateRecord, SnapshotRecord};

use crate::{cli::Explain, context::Context, errors::Usage, show};

/// Does what was asked.
pub async fn run(context: &Context, command: Explain) -> Result<()> {
    match command {
        Explain::Gate { name, as_of, snapshot } => gate(context, &name, as_of, snapshot).await,
        Explain::Kpi { name, segment, as_of, snapshot } => {
            kpi::explain(context, &name, segment, snapshot_of(context, &as_of, &snapshot).await?.as_ref()).await
        }
    }
}

/// A gate, wherever in the project it stands.
struct Gate {
    place: String,
    description: String,
    advice: String,
    required: bool,
    asks: String,
}

/// The gate of that name.
fn find(project: &Project, name: &str) -> Option<Gate> {
    let asks = |least: Option<f64>, most: Option<f64>| {
        let parts = [least.map(|x| format!("at least {x}")), most.map(|x| format!("at most {x}"))];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    if let Some(gate) = project.validation.gates.get(name) {
        return Some(Gate {
            place: format!("validation.gates.{name}"),
            description: gate.description.clone(),
            advice: gate.advice.clone(),
            required: gate.required,
            asks: asks(gate.at_least, gate.at_most),
        });
    }
    if let Some((_, check)) = project.checks().find(|(check, _)| *check == name) {
        let change = |word: &str, by: Option<f64>| by.map(|by| format!("{word} by less than {by}"));
        let bounds = Some(asks(check.at_least, check.at_most)).filter(|asks| !asks.is_empty());
        let parts = [bounds, change("falls", check.falls), change("rises", check.rises)];
        return Some(Gate {
            place: format!("quality.checks.{name}"),
            description: check.description.clone(),
            advice: format!("look at the sources; where the check is too strict, change [quality.checks.{name}]"),
            required: check.required,
            asks: parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        });
    }
    let (_, kpi) = project.enabled_kpis().find(|(kpi, _)| *kpi == name)?;
    (kpi.at_least.is_some() || kpi.at_most.is_some()).then(|| Gate {
        place: format!("kpis.{name}"),
        description: kpi.description.clone(),
        advice: format!("look at the KPI by segment in the table kpis; where it is too strict, change [kpis.{name}]"),
        required: kpi.required,
        asks: asks(kpi.at_least, kpi.at_most),
    })
}

async fn gate(context: &Context, name: &str, as_of: Option<String>, snapshot: Option<String>) -> Result<()> {
    let project = &context.project;
    let Some(gate) = find(project, name) else {
        let bound = project.enabled_kpis().filter(|(_, kpi)| kpi.at_least.is_some() || kpi.at_most.is_some());
        let known: Vec<&str> = (project.validation.gates.keys().map(String::as_str))
            .chain(project.checks().map(|(name, _)| name))
            .chain(bound.map(|(name, _)| name))
            .collect();
        return Err(Usage(format!("there is no gate `{name}`; there are {}", known.join(", "))).into());
    };
    println!("{name}  {}", gate.description);
    let holds = if gate.required { "holds the night where it fails" } else { "is for information" };
    println!("asks for  {} ({}); it {holds}", gate.asks, gate.place);
    match snapshot_of(context, &as_of, &snapshot).await? {
        None => println!("no night is published yet"),
        Some(record) => {
            let found: Vec<&GateRecord> = record.content.gates.iter().filter(|g| g.metric == name).collect();
            println!("night     {} ({}, {})", record.content.as_of, record.snapshot_id, record.content.state);
            if found.is_empty() {
                println!("the night did not ask it");
            } else {
                println!("{}", table(&found));
            }
            found.iter().filter(|g| !g.told.is_empty()).for_each(|g| println!("{}", show::printable(&g.told)));
        }
    }
    if !gate.advice.is_empty() {
        println!("to do     {}", gate.advice);
    }
    Ok(())
}

/// The snapshot that is asked for; without any, the newest, if there is one.
async fn snapshot_of(
    context: &Context,
    as_of: &Option<String>,
    snapshot: &Option<String>,
) -> Result<Option<SnapshotRecord>> {
    let history = context.lake.registry().history().await?;
    let record = match (snapshot, as_of) {
        (Some(id), _) => history.get(id),
        (None, Some(date)) => history.of_night(&context.night(date)?.to_string()),
        (None, None) => history.newest(),
    };
    if record.is_none() && (snapshot.is_some() || as_of.is_some()) {
        let problem = "there is no such snapshot; `tessera snapshots list` shows which there are";
        return Err(Usage(problem.to_owned()).into());
    }
    Ok(record.cloned())
}

/// What a night found: the value, and how far it is from where the gate would turn.
fn table(found: &[&GateRecord]) -> comfy_table::Table {
    let mut table = show::plain();
    table.set_header(["scope", "value", "threshold", "apart", "state"]);
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
    for gate in found {
        let apart = gate.value.zip(gate.threshold).map(|(value, threshold)| value - threshold);
        let apart = apart.map_or(String::new(), |apart| format!("{apart:+.4}"));
        table.add_row([&gate.scope, &number(gate.value), &number(gate.threshold), &apart, &gate.state]);
    }
    table
}
