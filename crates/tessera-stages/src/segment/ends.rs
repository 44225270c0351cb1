//! How long the parent night's model stays.

use tessera_contract::{Feature, Project, ValueType, project::segmentation::FeatureSet};
use tessera_engine::formula::stamp;

use super::{Model, drift::Drift};
use crate::{
    Night, StageError, rows,
    scaled::{Known, Part},
};

/// Why a model does not just stay.
#[derive(Clone)]
pub(super) enum Ends {
    /// It is held against others.
    Tried(String),
    /// It is of another definition, or of features that are no longer there.
    Over(String),
}

/// What a model is looked for with: the settings, and the features that it may be made of.
pub(super) fn definition(project: &Project) -> String {
    let settings = &project.segmentation;
    let scored = settings.rules.values().filter(|rules| rules.enabled).flat_map(|rules| rules.scores.values());
    let features = settings.features.iter().map(String::as_str).chain([settings.objective_feature()]);
    let features = features.chain(scored.map(|score| score.feature.as_str()));
    let features: Vec<_> = features.map(|name| (name, project.features.get(name))).collect();
    stamp(&format!("{} {features:?}", settings.definition()))
}

/// The model of the parent night, if there is one to go on from.
pub(super) async fn in_use(night: &Night<'_>) -> Result<Option<Model>, StageError> {
    let previous = |name: &str| night.previous.get(name);
    let known = previous("model").filter(|_| previous("segments").is_some() && night.project.segmentation.reuse);
    let Some(table) = known else { return Ok(None) };
    match rows::count(night, table).await? {
        0 => Ok(None),
        _ => Model::read(night, table).await.map(Some),
    }
}

/// Why others are looked for beside the model in use; none as long as it stays.
pub(super) fn ends(
    night: &Night<'_>,
    model: &Model,
    wanted: &[(&str, &Feature)],
    known: &Known,
    drift: &Drift<'_>,
    definition: &str,
) -> Option<Ends> {
    let settings = &night.project.segmentation;
    let features = model.features();
    let set = FeatureSet::named(&model.feature_set);
    let in_set = |feature: &Feature| set.is_some_and(|set| set.holds(feature.criterion));
    let mut there: Vec<&str> = match settings.rule_set(&model.algorithm).filter(|_| model.rules.is_some()) {
        Some(rules) => rules.features().into_iter().filter(|name| known.has(name)).collect(),
        None => {
            let ours = wanted.iter().filter(|(name, feature)| known.has(name) && in_set(feature));
            ours.map(|(name, _)| *name).collect()
        }
    };
    let mut made_of = features.clone();
    there.sort_unstable();
    made_of.sort_unstable();
    let age = night.as_of.days() - model.tried_on;
    if model.definition != definition {
        Some(Ends::Over("[segmentation], or a feature, is defined otherwise than for the model in use".to_owned()))
    } else if there != made_of {
        let apart =
            |a: &[&str], b: &[&str]| a.iter().filter(|name| !b.contains(name)).copied().collect::<Vec<_>>().join(", ");
        let (new, gone) = (apart(&there, &made_of), apart(&made_of, &there));
        let told = [("new", new), ("gone", gone)].map(|(what, names)| match names.is_empty() {
            true => String::new(),
            false => format!(" {what}: {names}"),
        });
        Some(Ends::Over(format!("it would be made of other features ({})", told.concat().trim())))
    } else if age >= i32::try_from(settings.refit_days).unwrap_or(i32::MAX) {
        Some(Ends::Tried(format!("the last one was looked for {age} days ago, on {}", day(model.tried_on))))
    } else {
        let shifted = drift.shifted(&features);
        let told: Vec<_> = shifted.iter().map(|(name, psi)| format!("{name} ({psi:.2})")).collect();
        (!told.is_empty()).then(|| {
            Ends::Tried(format!(
                "customers have changed in {}: population stability index since {}",
                told.join(", "),
                day(model.tried_on)
            ))
        })
    }
}

pub(super) fn day(days: i32) -> jiff::civil::Date {
    jiff::civil::date(1970, 1, 1).saturating_add(jiff::Span::new().days(days))
}

/// Whether the night's features are such as a model asks for.
pub(super) fn fits(night: &Night<'_>, model: &Model) -> bool {
    model.axes.iter().all(|axis| {
        let feature = night.project.features.get(&axis.feature).filter(|feature| feature.enabled);
        feature.is_some_and(|f| (f.value_type == ValueType::Text) != matches!(axis.part, Part::Number(_)))
    })
}
