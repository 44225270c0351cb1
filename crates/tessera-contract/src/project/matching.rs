//! `[identity]`: when two accounts are one person.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::{nearly, unknown};

/// `[identity]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matching {
    /// Whether accounts are matched; otherwise each is a customer of its own.
    pub enabled: bool,
    /// The country of telephone numbers that say none and whose account says none: ISO 3166-1 alpha-2, in expressions `default_country`.
    /// Empty for none.
    pub country: String,
    /// From this probability on two accounts are one person.
    pub match_probability: f64,
    /// From this probability on, and below `match_probability`, a pair is for people to look at.
    pub review_probability: f64,
    /// A block of more accounts than this is cut: its accounts are compared by other blocks alone. How many are stands in `identity_report`.
    pub largest_block: u32,
    /// A person of more accounts than this is held: each of its accounts keeps what it was.
    pub largest_person: u32,
    /// Values that identify nobody, as fields have them; one that ends in `@` stands for every e-mail that begins so.
    pub nobody: Vec<String>,
    /// A CSV file (`customer_id`, `other_customer_id`, `decision`: `same` or `different`) beside the project file: what people decided. None has to
    /// be there.
    pub decisions: String,
    /// When the weights are learned: `when_needed` (on the first night, when `[identity]` changes, and when there are twice as many accounts as
    /// they were learned of) or `always`.
    pub train: Train,
    /// Name → a value of an account in the shape in which it is compared.
    pub fields: IndexMap<String, Field>,
    /// Name → SQL over fields: accounts of an equal text are compared.
    pub blocks: IndexMap<String, Block>,
    /// Name → how two accounts are compared in one respect.
    pub comparisons: IndexMap<String, Comparison>,
    /// Name → what makes two accounts one person whatever they weigh, unless they contradict each other.
    pub rules: IndexMap<String, Sure>,
    /// Name → what two accounts of one person cannot be.
    pub contradictions: IndexMap<String, Contradiction>,
    /// Column of customers → SQL aggregate over the accounts of a person; what is not named is the last that is known, by `signup_at`.
    pub golden: IndexMap<String, String>,
    /// What people decided, by account key; read of the file `decisions`.
    #[serde(default, skip_deserializing)]
    #[schemars(skip)]
    pub decided: Vec<Decided>,
}

/// When the weights are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Train {
    /// On the first night, when `[identity]` changes, and when there are twice as many accounts as they were learned of.
    WhenNeeded,
    /// Every night.
    Always,
}

/// `[identity.fields.<name>]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// SQL over the columns of `customers`; null for unknown.
    pub expression: String,
    /// What it is.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// `[identity.blocks.<name>]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// SQL over fields, a text; null for in no block.
    pub expression: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// `[identity.comparisons.<name>]`: the fields of the two accounts are `l.<field>` and `r.<field>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// SQL of whether nothing can be said.
    pub unknown: String,
    /// Levels from the best on: a name and the SQL of whether it holds; whoever is at none of them is `different`. At most 13.
    pub levels: Vec<Level>,
    /// A field whose frequent values weigh less where they agree at the first level.
    #[serde(default)]
    pub terms: Option<String>,
    /// The smallest share of the first level among pairs of one person that is believed.
    #[serde(default)]
    pub exact_at_least: f64,
    /// The largest share of `different` among them.
    #[serde(default = "one")]
    pub different_at_most: f64,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A level of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// What it is called in evidence.
    pub name: String,
    /// SQL of whether two accounts are at it, if they are at none before it.
    pub when: String,
}

/// `[identity.rules.<name>]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sure {
    /// SQL over `l.<field>` and `r.<field>`. Two such accounts have to be in one block.
    pub when: String,
    /// What evidence calls it.
    pub description: String,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// `[identity.contradictions.<name>]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contradiction {
    /// SQL over `l.<field>` and `r.<field>`.
    pub when: String,
    /// What evidence calls it.
    pub description: String,
    /// A comparison that tells how often a value of one person is something else altogether …
    #[serde(default)]
    pub unless_replaced: Option<String>,
    /// … and from which share on that is so often that the contradiction proves nothing.
    #[serde(default)]
    pub replaced_share: f64,
    /// Whether it takes part.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// What people decided of two accounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Decided {
    /// The key of one account.
    pub one: String,
    /// The key of the other.
    pub other: String,
    /// Whether they are one person.
    pub same: bool,
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl Matching {
    /// What the types cannot say: the first contradiction with the path of its key.
    pub(super) fn problem(&self) -> Option<(String, String)> {
        let wrong = |path: String, problem: &str| Some((path, problem.to_owned()));
        let probability = |p: f64| p > 0.0 && p < 1.0;
        if !probability(self.match_probability) || !probability(self.review_probability) {
            return wrong("identity.match_probability".into(), "probabilities lie between 0 and 1, both excluded");
        }
        if self.review_probability > self.match_probability {
            return wrong(
                "identity.review_probability".into(),
                "what is looked at is less probable than what is a match: review_probability ≤ match_probability is needed",
            );
        }
        if self.largest_block < 2 || self.largest_person < 2 {
            return wrong("identity.largest_block".into(), "two accounts are the least that can be compared");
        }
        let country = &self.country;
        if !country.is_empty() && (country.len() != 2 || !country.bytes().all(|b| b.is_ascii_uppercase())) {
            return wrong("identity.country".into(), "a country is a code of two letters such as DE");
        }
        for name in self.fields.keys() {
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !plain || name.is_empty() || name.starts_with('_') || name == "account_key" {
                return wrong(
                    format!("identity.fields.{name}"),
                    "the name of a field is made of small letters, digits and `_`, does not begin with `_`, and is not `account_key`",
                );
            }
        }
        let comparisons = self.comparisons.iter().filter(|(_, c)| c.enabled);
        if comparisons.clone().count() > 15 {
            return wrong("identity.comparisons".into(), "at most 15 comparisons take part");
        }
        for (name, comparison) in comparisons {
            if comparison.levels.is_empty() || comparison.levels.len() > 13 {
                return wrong(format!("identity.comparisons.{name}.levels"), "a comparison has 1 to 13 levels");
            }
            let shares = [comparison.exact_at_least, comparison.different_at_most];
            if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || comparison.exact_at_least > 0.9 {
                let problem = "shares lie between 0 and 1, and no more than 0.9 is sure to be exact";
                return wrong(format!("identity.comparisons.{name}.exact_at_least"), problem);
            }
            let mut names: Vec<_> =
                comparison.levels.iter().map(|level| level.name.as_str()).chain(["different"]).collect();
            names.sort_unstable();
            if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
                let problem =
                    format!("two levels are called `{}`; `different` is the last one of every comparison", twice[0]);
                return Some((format!("identity.comparisons.{name}.levels"), problem));
            }
            if let Some(terms) = comparison.terms.as_ref().filter(|terms| !self.fields.contains_key(*terms)) {
                return Some((format!("identity.comparisons.{name}.terms"), format!("`{terms}` is no field")));
            }
        }
        for (name, contradiction) in self.contradictions.iter().filter(|(_, c)| c.enabled) {
            if let Some(of) = contradiction.unless_replaced.as_ref().filter(|of| !self.comparisons.contains_key(*of)) {
                let path = format!("identity.contradictions.{name}.unless_replaced");
                return Some((path, format!("`{of}` is no comparison")));
            }
        }
        self.unknown_field()
    }

    /// The first entry that names a field which is none, or none at all: it would never take part.
    fn unknown_field(&self) -> Option<(String, String)> {
        let fields: Vec<&str> = self.fields.keys().map(String::as_str).collect();
        for (name, block) in self.blocks.iter().filter(|(_, block)| block.enabled) {
            let words = words(&block.expression);
            if !words.iter().any(|(_, word)| fields.contains(&word.as_str())) {
                let near = words.iter().find_map(|(_, word)| nearly(word, fields.iter().copied()));
                let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                let problem = format!("`{}` names no field of [identity.fields]{near}", block.expression);
                return Some((format!("identity.blocks.{name}.expression"), problem));
            }
        }
        let comparisons = self.comparisons.iter().filter(|(_, c)| c.enabled).flat_map(|(name, c)| {
            let levels =
                c.levels.iter().map(move |level| (format!("identity.comparisons.{name}.levels"), &level.when, false));
            std::iter::once((format!("identity.comparisons.{name}.unknown"), &c.unknown, true)).chain(levels)
        });
        let rules = self.rules.iter().filter(|(_, r)| r.enabled);
        let rules = rules.map(|(name, rule)| (format!("identity.rules.{name}.when"), &rule.when, true));
        let against = self.contradictions.iter().filter(|(_, c)| c.enabled);
        let against = against.map(|(name, c)| (format!("identity.contradictions.{name}.when"), &c.when, true));
        for (path, text, has_to) in comparisons.chain(rules).chain(against) {
            let words = words(text);
            let mut named =
                words.iter().filter(|(of, _)| matches!(of.as_deref(), Some("l" | "r"))).map(|(_, word)| word.as_str());
            if let Some(name) = named.clone().find(|name| !fields.contains(name)) {
                return Some((path, unknown(name, &fields, "field")));
            }
            if has_to && named.next().is_none() {
                let problem = "names no field; those of the two accounts are written l.email and r.email";
                return Some((path, format!("`{text}` {problem}")));
            }
        }
        None
    }
}

/// The words of an expression outside its texts, in small letters, each with what stands before its dot.
fn words(sql: &str) -> Vec<(Option<String>, String)> {
    let mut words: Vec<(Option<String>, String)> = Vec::new();
    let (mut word, mut before, mut text) = (String::new(), None, false);
    for letter in sql.chars().chain([' ']) {
        match letter {
            '\'' => text = !text,
            _ if text => {}
            '"' => {}
            c if c.is_alphanumeric() || c == '_' => word.extend(c.to_lowercase()),
            c => {
                let word = std::mem::take(&mut word);
                if c == '.' {
                    before = Some(word);
                } else if !word.is_empty() {
                    words.push((before.take(), word));
                } else {
                    before = None;
                }
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use crate::Project;

    fn problem(text: &str) -> String {
        Project::load("t", text, &[]).expect_err("must be refused").to_string()
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        assert_eq!(
            problem("[identity]\nmatch_probability = 0.5\nreview_probability = 0.6\n"),
            "t:3:22: what is looked at is less probable than what is a match: review_probability ≤ match_probability is needed"
        );
        assert_eq!(problem("[identity]\ncountry = \"de\"\n"), "t:2:11: a country is a code of two letters such as DE");
        assert!(problem("[identity.comparisons.given_name]\nterms = \"x\"\n").ends_with("`x` is no field"));
        assert_eq!(
            problem("[identity.blocks]\nx = { expression = \"emial\" }\n"),
            "t:2:20: `emial` names no field of [identity.fields]; did you mean `email`?"
        );
        assert_eq!(
            problem("[identity.rules.email]\nwhen = \"l.email = r.emial\"\n"),
            "t:2:8: unknown field `emial`; did you mean `email`?"
        );
        assert!(
            problem("[identity.contradictions.given_name]\nwhen = \"'l.given' = r.\\\"Givn\\\"\"\n")
                .contains("did you mean `given`?")
        );
        assert!(
            problem("[identity.rules.email]\nwhen = \"email = email\"\n").ends_with("are written l.email and r.email")
        );
        assert!(problem("[identity]\ndecided = []\n").contains("unknown key `identity.decided`"));
    }
}
