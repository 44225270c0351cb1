//! Aggregates in parts: what the expressions of a catalogue ask of the rows of a relation, as states that can be kept from
//! night to night and merged.
//!
//! An expression is split into its aggregate calls and the formula over them. A call is worth as much of the past as it asks
//! for ([`Reach`]): one that does not name the night is a lifetime state, to which a night adds what is new; one whose filter
//! keeps event times from some instant on is computed from the rows of that window; anything else, and whatever cannot be
//! merged exactly, asks for all rows, and the reason is said. Of two nights, the windows of a customer differ only if a row came
//! into one of them or left it ([`Partial::moved`]). States are plain columns made by plain aggregates, so that any
//! engine can compute them and any reader can look at them.

mod calls;

use std::fmt;

use datafusion::{
    arrow::datatypes::DataType,
    common::{
        DFSchema, DataFusionError, JoinType, Result, plan_datafusion_err,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{LogicalPlanBuilder, cast, ident, lit, utils, when},
    prelude::{DataFrame, Expr, SessionContext},
    scalar::ScalarValue,
};
use xxhash_rust::xxh3::xxh3_64;

use self::calls::{Call, filters, folding, moved_since, understand};
use crate::{session, write};

/// Which rows a call needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Those that are new, beside the state of the others.
    Lifetime,
    /// Those from an instant on, in microseconds since 1970 (UTC).
    Since(i64),
    /// All of them, and why.
    Everything(String),
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifetime => f.write_str("the new rows and the kept state"),
            Self::Since(_) => f.write_str("the rows of its window"),
            Self::Everything(why) => write!(f, "all rows: {why}"),
        }
    }
}

/// An expression under its name, as it reads on this night and on others.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// SQL with the words of this night.
    pub tonight: String,
    /// The same with those of a night that never is: where they differ, the night is asked for.
    pub never: String,
    /// The same with those of the night before, if there is one.
    pub before: Option<String>,
}

/// The split of a list of expressions.
#[derive(Debug, Clone)]
pub struct Partial {
    calls: Vec<Call>,
    formulas: Vec<(String, Expr, Vec<usize>)>,
}

/// Of what the rows are grouped by, and what their groups are called.
pub struct Groups<'a> {
    /// Columns to group by.
    pub by: &'a [&'a str],
    /// Those of them that are kept.
    pub keep: &'a [&'a str],
}

impl Partial {
    /// Splits expressions over the rows of `schema`, whose event time stands in the column `event`. Columns named in `moving`
    /// may read differently on another night, though the row is the same.
    ///
    /// # Errors
    /// The name of the expression that cannot be understood, and why.
    pub fn split(
        session: &SessionContext,
        schema: &DFSchema,
        event: &str,
        moving: &[&str],
        entries: &[Entry],
    ) -> std::result::Result<Self, (String, DataFusionError)> {
        let mut split = Self { calls: Vec::new(), formulas: Vec::new() };
        // Columns by their names alone: the rows may come from other relations later.
        let schema = schema.clone().strip_qualifiers();
        for entry in entries {
            split.add(session, &schema, event, moving, entry).map_err(|e| (entry.name.clone(), e))?;
        }
        Ok(split)
    }

    fn add(
        &mut self,
        session: &SessionContext,
        schema: &DFSchema,
        event: &str,
        moving: &[&str],
        entry: &Entry,
    ) -> Result<()> {
        let tonight = session.parse_sql_expr(&entry.tonight, schema)?;
        let never = session.parse_sql_expr(&entry.never, schema)?;
        let before = entry.before.as_ref().map(|before| session.parse_sql_expr(before, schema)).transpose()?;
        let calls = utils::find_aggregate_exprs([&tonight]);
        let others = utils::find_aggregate_exprs([&never]);
        let befores = utils::find_aggregate_exprs(before.iter());
        let mut used = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            let at = match self.calls.iter().position(|known| known.whole == *call) {
                Some(at) => at,
                None => {
                    let moves = call.column_refs().iter().any(|c| moving.contains(&c.name.as_str()));
                    let other = others.get(number).unwrap_or(call);
                    let name = format!("a{:016x}", xxh3_64(other.to_string().as_bytes()));
                    let understood = understand(session, schema, event, call, name, other == call && !moves)?;
                    let follows =
                        matches!(understood.reach, Reach::Since(_)) && !moves && filters(call, other).is_some();
                    let moved = befores.get(number).filter(|_| follows);
                    let moved = moved.and_then(|before| moved_since(session, event, call, before));
                    self.calls.push(Call { follows, moved, ..understood });
                    self.calls.len() - 1
                }
            };
            used.push(at);
        }
        let known = &self.calls;
        let formula = tonight.transform_down(|e| {
            Ok(match known.iter().find(|call| call.whole == e) {
                Some(call) => Transformed::yes(ident(&call.name)),
                None => Transformed::no(e),
            })
        })?;
        self.formulas.push((entry.name.clone(), formula.data, used));
        Ok(())
    }

    /// What each expression needs, in the order in which they were given: the most that one of its calls asks for.
    pub fn needs(&self) -> impl Iterator<Item = (&str, &Reach)> {
        self.formulas.iter().map(|(name, _, used)| {
            let most = used.iter().map(|i| &self.calls[*i].reach).max_by_key(|r| match r {
                Reach::Lifetime => 0,
                Reach::Since(_) => 1,
                Reach::Everything(_) => 2,
            });
            (name.as_str(), most.unwrap_or(&Reach::Lifetime))
        })
    }

    /// The instant from which on rows are needed for windows; none where there is no window.
    #[must_use]
    pub fn since(&self) -> Option<i64> {
        let instants = self.calls.iter().filter_map(|c| match c.reach {
            Reach::Since(instant) => Some(instant),
            _ => None,
        });
        instants.min()
    }

    /// Whether nothing but the filters of windows depends on the night: then who has no row that moved has the same windows as before.
    #[must_use]
    pub fn windows_follow(&self) -> bool {
        self.calls.iter().all(|c| c.follows || !matches!(c.reach, Reach::Since(_)))
    }

    /// From which instant on rows can have moved into a window or out of one since the night before, and which have; none if that
    /// cannot be told of every window.
    #[must_use]
    pub fn moved(&self) -> Option<(i64, Expr)> {
        let mut all: Option<(i64, Expr)> = None;
        for call in self.calls.iter().filter(|c| matches!(c.reach, Reach::Since(_))) {
            let (since, moved) = call.moved.clone()?;
            all = Some(match all {
                Some((first, others)) => (first.min(since), others.or(moved)),
                None => (since, moved),
            });
        }
        all
    }

    /// The names of the columns in which lifetime states are kept.
    #[must_use]
    pub fn kept(&self) -> Vec<&str> {
        let lifetime = self.calls.iter().filter(|c| c.reach == Reach::Lifetime);
        lifetime.flat_map(|c| c.states.iter().map(|s| s.name.as_str())).collect()
    }

    /// Whether some call asks for all rows.
    #[must_use]
    pub fn asks_for_everything(&self) -> bool {
        self.calls.iter().any(|c| matches!(c.reach, Reach::Everything(_)))
    }

    /// The states of groups of rows: lifetime states, those of windows, or both.
    ///
    /// # Errors
    /// When the rows lack a column.
    pub fn states(&self, rows: DataFrame, groups: &Groups<'_>, lifetime: bool, windows: bool) -> Result<DataFrame> {
        let wanted = |call: &&Call| match call.reach {
            Reach::Lifetime => lifetime,
            Reach::Since(_) => windows,
            Reach::Everything(_) => false,
        };
        let states = self.calls.iter().filter(wanted).flat_map(|c| &c.states);
        let made = states.map(|s| s.make.clone().alias(&s.name)).collect();
        let frame = aggregate(rows, groups.by.iter().map(|c| ident(*c)).collect(), made)?;
        let names = self.calls.iter().filter(wanted).flat_map(|c| c.states.iter().map(|s| s.name.as_str()));
        frame.select(groups.keep.iter().copied().chain(names).map(ident).collect::<Vec<_>>())
    }

    /// One frame of several, of the states that any of them has: those that one lacks are null in it.
    ///
    /// # Errors
    /// When types contradict one another.
    pub fn together(&self, frames: Vec<DataFrame>, key: &str) -> Result<DataFrame> {
        let mut types: Vec<(String, DataType)> = Vec::new();
        for frame in &frames {
            for field in frame.schema().fields() {
                if !types.iter().any(|(name, _)| name == field.name()) {
                    types.push((field.name().clone(), field.data_type().clone()));
                }
            }
        }
        let there = |name: &str| types.iter().find(|(known, _)| known == name);
        let wanted: Vec<_> = std::iter::once(key).chain(self.state_names()).filter_map(there).collect();
        let mut all: Option<DataFrame> = None;
        for frame in frames {
            let columns: Vec<_> = wanted
                .iter()
                .map(|(name, kind)| {
                    let has = frame.schema().has_column_with_unqualified_name(name);
                    let value = if has { ident(name) } else { lit(ScalarValue::Null) };
                    cast(value, kind.clone()).alias(name)
                })
                .collect();
            let frame = frame.select(columns)?;
            all = Some(match all {
                Some(all) => all.union(frame)?,
                None => frame,
            });
        }
        all.ok_or_else(|| plan_datafusion_err!("there are no parts"))
    }

    fn state_names(&self) -> impl Iterator<Item = &str> {
        let states = self.calls.iter().filter(|c| !matches!(c.reach, Reach::Everything(_)));
        states.flat_map(|c| c.states.iter().map(|s| s.name.as_str()))
    }

    /// One state of many, per key: for keeping.
    ///
    /// # Errors
    /// When the frame lacks a state.
    pub fn fold(&self, session: &SessionContext, parts: DataFrame, key: &str) -> Result<DataFrame> {
        let lifetime = self.calls.iter().filter(|c| c.reach == Reach::Lifetime);
        let folded = lifetime
            .flat_map(|c| &c.states)
            .map(|s| Ok(folding(session, &s.merge)?.alias(&s.name)))
            .collect::<Result<Vec<_>>>()?;
        aggregate(parts, vec![ident(key)], folded)
    }

    /// The calls' values over merged states, per key: those of lifetime states, those of windows, or both.
    ///
    /// # Errors
    /// When the frame lacks a state.
    pub fn values(&self, parts: DataFrame, key: &str, lifetime: bool, windows: bool) -> Result<DataFrame> {
        let wanted = |call: &&Call| match call.reach {
            Reach::Lifetime => lifetime,
            Reach::Since(_) => windows,
            Reach::Everything(_) => false,
        };
        let calls = self.calls.iter().filter(wanted);
        let merges = calls.clone().flat_map(|c| &c.states).map(|s| s.merge.clone().alias(&s.name)).collect();
        let frame = aggregate(parts, vec![ident(key)], merges)?;
        let results = calls.map(|c| c.result.clone().alias(&c.name));
        frame.select(std::iter::once(ident(key)).chain(results).collect::<Vec<_>>())
    }

    /// The names of the columns of [`Partial::values`] that hold lifetime values.
    #[must_use]
    pub fn lifetime_values(&self) -> Vec<&str> {
        self.calls.iter().filter(|c| c.reach == Reach::Lifetime).map(|c| c.name.as_str()).collect()
    }

    /// The names of those columns of [`Partial::values`] that are worth keeping: of lifetime values, and of windows if they follow.
    #[must_use]
    pub fn kept_values(&self) -> Vec<&str> {
        let follow = self.windows_follow();
        let wanted = |c: &&Call| c.reach == Reach::Lifetime || (c.follows && follow);
        self.calls.iter().filter(wanted).map(|c| c.name.as_str()).collect()
    }

    /// Values of lifetime states with those of windows beside them. Who has no row in a window has the value of no rows.
    ///
    /// # Errors
    /// When a frame lacks a value, or what the calls say of no rows cannot be computed.
    pub async fn beside(&self, values: DataFrame, windows: DataFrame, rows: DataFrame, key: &str) -> Result<DataFrame> {
        let calls: Vec<_> = self.calls.iter().filter(|c| matches!(c.reach, Reach::Since(_))).collect();
        let nothing = rows.filter(lit(false))?;
        let calls_of_nothing = calls.iter().map(|c| c.whole.clone().alias(&c.name)).collect();
        let nothing = aggregate(nothing, Vec::new(), calls_of_nothing)?;
        let nothing = session::first_row(&write::run(nothing).await?)?;
        let lifetime = self.lifetime_values();
        let values =
            values.select(std::iter::once(key).chain(lifetime.iter().copied()).map(ident).collect::<Vec<_>>())?;
        let other = format!("{key} of windows");
        let windows = windows.with_column_renamed(key, &other)?;
        let joined = values.join(windows, JoinType::Left, &[key], &[other.as_str()], None)?;
        let windows = calls.iter().map(|c| {
            let value = ident(&c.name);
            Ok(match nothing.get(&c.name).filter(|nothing| !nothing.is_null()) {
                Some(nothing) => {
                    when(value.clone().is_not_null(), value).otherwise(lit(nothing.clone()))?.alias(&c.name)
                }
                None => value,
            })
        });
        let windows = windows.collect::<Result<Vec<_>>>()?;
        let known = std::iter::once(key).chain(lifetime).map(ident);
        joined.select(known.chain(windows).collect::<Vec<_>>())
    }

    /// The expressions over the values of their calls, per key. `everything` has the values of the calls that ask for all rows
    /// ([`Partial::everything`]), per key.
    ///
    /// # Errors
    /// When a frame lacks a value.
    pub fn finish(&self, values: DataFrame, key: &str, everything: Option<DataFrame>) -> Result<DataFrame> {
        let mut frame = values;
        if let Some(everything) = everything {
            let other = format!("{key} of everything");
            let everything = everything.with_column_renamed(key, &other)?;
            frame = frame.join(everything, JoinType::Left, &[key], &[other.as_str()], None)?;
        }
        let columns = self.formulas.iter().map(|(name, formula, _)| formula.clone().alias(name));
        frame.select(std::iter::once(ident(key)).chain(columns).collect::<Vec<_>>())
    }

    /// The values of the calls that ask for all rows, per key.
    ///
    /// # Errors
    /// When the rows lack a column.
    pub fn everything(&self, rows: DataFrame, key: &str) -> Result<DataFrame> {
        let calls = self.calls.iter().filter(|c| matches!(c.reach, Reach::Everything(_)));
        aggregate(rows, vec![ident(key)], calls.map(|c| c.whole.clone().alias(&c.name)).collect())
    }
}

/// Groups of rows. (Unlike a frame's own method, which adds the columns that follow from the group's.)
fn aggregate(frame: DataFrame, by: Vec<Expr>, calls: Vec<Expr>) -> Result<DataFrame> {
    let (state, plan) = frame.into_parts();
    Ok(DataFrame::new(state, LogicalPlanBuilder::from(plan).aggregate(by, calls)?.build()?))
}

#[cfg(test)]
mod tests;
