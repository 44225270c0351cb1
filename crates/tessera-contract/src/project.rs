//! The project file: what a team says about its data and its segments, resolved once into plain structs.

mod load;
pub mod matching;
pub mod segmentation;
mod source;
pub mod value;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use load::{Override, ProjectError};
pub use segmentation::{Population, Segmentation};
pub use source::{ColumnType, Feed, Format, Source, TextEncoding};
pub use value::Value;

use crate::{Breakdown, Causes, Check, Dimension, Entity, Feature, Kind, Kpi, Objective, Rule, Scale, as_of};

/// A project, resolved: flag over project file over defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Name, time zone, currency.
    pub project: Identity,
    /// Where tables are kept.
    pub lake: LakeSettings,
    /// How the engine runs; never changes a result.
    pub engine: EngineSettings,
    /// Entity name, or `entity.feed` where it has several → source.
    #[schemars(with = "IndexMap<String, load::SourceOrFeeds>")]
    pub sources: IndexMap<String, Source>,
    /// Name → what queries of sources read.
    pub files: IndexMap<String, Source>,
    /// Rules over source rows.
    pub quality: Quality,
    /// When two accounts are one person.
    pub identity: matching::Matching,
    /// Name → feature, in column order.
    pub features: IndexMap<String, Feature>,
    /// Name → psychographic scale over survey items.
    pub scales: IndexMap<String, Scale>,
    /// What customers are going to be worth.
    pub value: Value,
    /// How segments are found.
    pub segmentation: Segmentation,
    /// When a candidate may be published.
    pub validation: Validation,
    /// Name → KPI.
    pub kpis: IndexMap<String, Kpi>,
    /// Name → figure per campaign, channel, cohort.
    pub breakdowns: IndexMap<String, Breakdown>,
    /// What KPIs are compared with.
    pub comparison: Comparison,
    /// Where their changes are searched.
    pub causes: Causes,
    /// Disclosure control.
    pub privacy: Privacy,
}

/// `[project]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// A name for people.
    pub name: String,
    /// IANA time zone in which nights begin.
    pub timezone: String,
    /// ISO 4217 code of the amounts.
    pub currency: String,
    /// What the business is after: summaries show the KPIs of it. Absent, all of them.
    #[serde(default)]
    pub objective: Option<Objective>,
}

/// `[lake]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LakeSettings {
    /// A folder (relative to the project file) or an object store URL.
    pub url: String,
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// Parallel partitions; 0 is one per core.
    pub partitions: usize,
    /// Memory limit such as "4GiB"; "0" is none.
    pub memory_limit: String,
    /// Folder to spill to; empty is the system's.
    pub spill_dir: String,
}

/// What becomes of events at or after the as-of instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterAsOf {
    /// Counted and not read into the night.
    SetAside,
    /// Kept in the clean tables.
    Keep,
}

/// `[quality]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// What becomes of events at or after the as-of instant.
    pub events_after_as_of: AfterAsOf,
    /// Name → rule over rows.
    pub rules: IndexMap<String, Rule>,
    /// Name → check of all rows of the night together.
    pub checks: IndexMap<String, Check>,
}

/// `[validation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Resamples for the stability of the segments (bootstrap); 0 measures none.
    pub resamples: usize,
    /// Metric → gate.
    pub gates: IndexMap<String, Gate>,
}

/// `[validation.gates.<metric>]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The smallest value that passes.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// The largest value that passes.
    #[serde(default)]
    pub at_most: Option<f64>,
    /// Whether failing it holds the run.
    pub required: bool,
    /// What is measured.
    #[serde(default)]
    pub description: String,
    /// What to do when it fails.
    #[serde(default)]
    pub advice: String,
}

/// `[comparison]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// A published night (`2025-01-01`) whose values stand beside those of every later one.
    #[serde(default)]
    pub baseline: Option<String>,
}

/// `[privacy]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// Fewest people behind a published aggregate.
    pub k: u64,
    /// Whether what changed between two published nights is held to the same.
    pub between_nights: bool,
}

impl Project {
    /// Reads a project: `text` is the project file (its name in `file` is for messages), `overrides` come from `--set`.
    ///
    /// # Errors
    /// [`ProjectError`] with the place: not TOML, an unknown key (naming the nearest known one), a value of the wrong
    /// type, or settings that contradict one another.
    pub fn load(file: &str, text: &str, overrides: &[Override]) -> Result<Self, ProjectError> {
        let mut project: Self = load::resolve(file, text, overrides)?;
        // Before the others, so that formulas may stand over them.
        let mut features: IndexMap<String, Feature> = IndexMap::new();
        for (name, scale) in &project.scales {
            for (feature, entry) in scale.features(name) {
                if project.features.contains_key(&feature) || features.insert(feature.clone(), entry).is_some() {
                    let problem = format!("there is a feature `{feature}` already; call the scale otherwise");
                    return Err(load::locate(file, text, &format!("scales.{name}"), problem));
                }
            }
        }
        features.extend(std::mem::take(&mut project.features));
        project.features = features;
        project.check().map_err(|(path, problem)| load::locate(file, text, &path, problem))?;
        Ok(project)
    }

    /// The JSON Schema of the project file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        load::schema()
    }

    /// Hash of what can change a result: SHA-256, hex, over everything but the engine, the lake and where sources lie.
    #[must_use]
    pub fn hash(&self) -> String {
        use sha2::{Digest, Sha256};
        let text = serde_json::to_string(&self.meaning()).unwrap_or_default();
        Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// One section of the project file, or one key of a section (`segmentation.population`), as text, as far as it can change a result.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<String> {
        let pointer = format!("/{}", name.replace('.', "/"));
        serde_json::to_value(self.meaning()).ok()?.pointer(&pointer).map(ToString::to_string)
    }

    fn meaning(&self) -> Self {
        let mut meaning = self.clone();
        meaning.engine = EngineSettings { partitions: 0, memory_limit: String::new(), spill_dir: String::new() };
        meaning.lake.url.clear();
        for source in meaning.sources.values_mut().chain(meaning.files.values_mut()) {
            source.url.clear();
        }
        meaning
    }

    /// The enabled rules of an entity in the order in which they act: repairs first, then by `order`.
    #[must_use]
    pub fn rules(&self, entity: Entity) -> Vec<(&str, &Rule)> {
        let mut rules: Vec<_> = self
            .quality
            .rules
            .iter()
            .filter(|(_, r)| r.enabled && r.entity == entity)
            .map(|(name, rule)| (name.as_str(), rule))
            .collect();
        rules.sort_by_key(|(_, r)| (r.severity != crate::Severity::Repair, r.order));
        rules
    }

    /// The enabled checks.
    pub fn checks(&self) -> impl Iterator<Item = (&str, &Check)> {
        self.quality.checks.iter().filter(|(_, c)| c.enabled).map(|(name, c)| (name.as_str(), c))
    }

    /// The enabled features in column order.
    pub fn enabled_features(&self) -> impl Iterator<Item = (&str, &Feature)> {
        self.features.iter().filter(|(_, f)| f.enabled).map(|(name, f)| (name.as_str(), f))
    }

    /// The enabled KPIs.
    pub fn enabled_kpis(&self) -> impl Iterator<Item = (&str, &Kpi)> {
        self.kpis.iter().filter(|(_, k)| k.enabled).map(|(name, k)| (name.as_str(), k))
    }

    /// Whether whoever is after the project's objective asks for a KPI.
    #[must_use]
    pub fn headline(&self, kpi: &Kpi) -> bool {
        kpi.objectives.is_empty() || self.project.objective.is_none_or(|objective| kpi.objectives.contains(&objective))
    }

    /// The enabled breakdowns.
    pub fn enabled_breakdowns(&self) -> impl Iterator<Item = (&str, &Breakdown)> {
        self.breakdowns.iter().filter(|(_, b)| b.enabled).map(|(name, b)| (name.as_str(), b))
    }

    /// The enabled dimensions in which the change of a KPI is searched.
    pub fn enabled_dimensions(&self) -> impl Iterator<Item = (&str, &Dimension)> {
        self.causes.dimensions.iter().filter(|(_, d)| d.enabled).map(|(name, d)| (name.as_str(), d))
    }

    /// What the types cannot say: the first contradiction with the path of its key.
    fn check(&self) -> Result<(), (String, String)> {
        let fail = |path: &str, problem: String| Err((path.to_owned(), problem));
        if let Err(error) = as_of::zone(&self.project.timezone) {
            return fail("project.timezone", error.to_string());
        }
        let urls = source::all(self).map(|(path, source)| (format!("{path}.url"), &source.url));
        for (path, url) in urls.chain([("lake.url".to_owned(), &self.lake.url)]) {
            if url::Url::parse(url).is_ok_and(|url| url.password().is_some()) {
                let problem = "the URL carries a password, which would stand in every snapshot; leave it out, and give the \
                               credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT_KEY …)";
                return fail(&path, problem.to_owned());
            }
        }
        source::check(self)?;
        if let Some((path, problem)) = self.identity.problem() {
            return fail(&path, problem);
        }
        for (name, feature) in &self.features {
            let known: Vec<_> =
                Entity::ALL.iter().filter(|e| e.has_customer()).map(|e| e.name()).chain(["features"]).collect();
            if !known.contains(&feature.over.as_str()) {
                return fail(&format!("features.{name}.over"), load::unknown(&feature.over, &known, "relation"));
            }
        }
        for (name, scale) in &self.scales {
            if let Some(problem) = scale.problem(name) {
                return fail(&format!("scales.{name}"), problem);
            }
        }
        for (name, feature) in &self.features {
            if let Some((key, problem)) = feature.problem() {
                return fail(&format!("features.{name}.{key}"), problem);
            }
            if let Some(item) = feature.items.iter().find(|item| !self.features.contains_key(*item)) {
                return fail(&format!("features.{name}.items"), format!("`{item}` is no feature"));
            }
            let canonical = Entity::Customers.columns().iter().map(|c| (c.name.to_owned(), c.kind));
            let further = self.further_columns(Entity::Customers).into_iter().map(|c| (c.name, c.kind));
            let words = canonical.chain(further).filter(|(_, kind)| *kind == Kind::Boolean);
            let columns: Vec<String> = words.map(|(name, _)| name).collect();
            if let Some(consent) = feature.consent.as_ref().filter(|consent| !columns.contains(consent)) {
                let known: Vec<_> = columns.iter().map(String::as_str).collect();
                return fail(
                    &format!("features.{name}.consent"),
                    load::unknown(consent, &known, "column of customers that is true or false"),
                );
            }
        }
        let names: Vec<_> = self.enabled_features().map(|(name, _)| name).collect();
        if let Some((path, problem)) = self.segmentation.problem(&names, |name| {
            self.features.get(name).is_some_and(|feature| feature.value_type != crate::ValueType::Text)
        }) {
            return fail(&path, problem);
        }
        if let Some((path, problem)) = self.value.problem() {
            return fail(&path, problem);
        }
        for (name, breakdown) in &self.breakdowns {
            if !Breakdown::OVER.contains(&breakdown.over.as_str()) {
                let problem = load::unknown(&breakdown.over, &Breakdown::OVER, "relation of breakdowns");
                return fail(&format!("breakdowns.{name}.over"), problem);
            }
            if let Some((key, problem)) = breakdown.problem() {
                return fail(&format!("breakdowns.{name}.{key}"), problem);
            }
        }
        for (name, kpi) in &self.kpis {
            if let Some((key, problem)) = kpi.problem() {
                return fail(&format!("kpis.{name}.{key}"), problem);
            }
        }
        if let Some((path, problem)) = self.causes.problem() {
            return fail(&path, problem);
        }
        for (name, gate) in &self.validation.gates {
            if gate.at_least.is_none() && gate.at_most.is_none() {
                return fail(&format!("validation.gates.{name}"), "a gate needs at_least or at_most".into());
            }
        }
        if let Some(night) = &self.comparison.baseline
            && let Err(error) = as_of::AsOf::parse(night, &self.project.timezone)
        {
            return fail("comparison.baseline", format!("`{night}` is no night: {error}; write 2025-01-01"));
        }
        for (name, rule) in &self.quality.rules {
            let path = format!("quality.rules.{name}");
            if rule.enabled
                && let Some(problem) = rule.problem()
            {
                return fail(&path, problem);
            }
        }
        for (name, check) in &self.quality.checks {
            let path = format!("quality.checks.{name}");
            if let Some(entity) = &check.entity
                && Entity::parse(entity).is_none()
            {
                let known: Vec<_> = Entity::ALL.iter().map(|e| e.name()).collect();
                return fail(&format!("{path}.entity"), load::unknown(entity, &known, "entity"));
            }
            if let Some(problem) = check.problem().filter(|_| check.enabled) {
                return fail(&path, problem);
            }
            if let Some(rule) = check.rule.as_ref().filter(|_| check.enabled) {
                let Some(of) = self.quality.rules.get(rule) else {
                    let known: Vec<_> = self.quality.rules.keys().map(String::as_str).collect();
                    return fail(&format!("{path}.rule"), load::unknown(rule, &known, "rule"));
                };
                if !of.enabled || of.severity == crate::Severity::Repair {
                    let problem = format!("no row fails the rule `{rule}`: it repairs, or is switched off");
                    return fail(&format!("{path}.rule"), problem);
                }
                if check.entity.as_ref().is_some_and(|entity| entity != of.entity.name()) {
                    return fail(&format!("{path}.entity"), format!("the rule `{rule}` is one of {}", of.entity));
                }
            }
        }
        if parse_bytes(&self.engine.memory_limit).is_none() {
            return fail(
                "engine.memory_limit",
                format!("`{}` is no size: write 512MiB or 4GiB", self.engine.memory_limit),
            );
        }
        Ok(())
    }
}

/// Reads a size such as `4GiB`, `512 MB` or `0`; bytes.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "kib" => 1024.0,
        "m" | "mb" => 1e6,
        "mib" => 1024.0 * 1024.0,
        "g" | "gb" => 1e9,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number * unit) as u64)
}

#[cfg(test)]
mod tests;
