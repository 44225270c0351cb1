//! The planted changes made ready for look-up by day, channel, category and kind of customer.
//!
//! A planted change never draws from a customer's stream of random numbers: what a customer would have done without it is generated
//! in any case, and the change then adds, alters or removes. Where several meet they act one after the other: campaign and new kind
//! add, the price rise alters, the outage removes, the gap hides.

use std::ops::Range;

use crate::GeneratorError;
use crate::archetype::{ARCHETYPE, CATEGORY, CHANNEL, NEWCOMER};
use crate::calendar::epoch_day;
use crate::planted::Planted;

/// A channel that fails; `plant` here and below is the position in the shop's list.
pub(crate) struct Outage {
    pub plant: usize,
    channel: usize,
    days: Range<i32>,
    pub lost: f64,
}

/// A category that gets dearer.
pub(crate) struct Rise {
    pub plant: usize,
    category: usize,
    archetype: usize,
    from: i32,
    rise: f64,
    pub volume_lost: f64,
}

impl Rise {
    /// The new price for an old one, in cents.
    pub(crate) fn price(&self, cents: i64) -> i64 {
        (cents as f64 * (1.0 + self.rise)).round() as i64
    }
}

/// A campaign that works.
pub(crate) struct Push {
    pub plant: usize,
    pub on: i32,
    pub archetypes: Vec<usize>,
    pub lift: f64,
}

struct Newcomers {
    plant: usize,
    from: i32,
    share: f64,
}

/// The planted changes of a shop, made ready for look-up.
#[derive(Default)]
pub(crate) struct Story {
    outages: Vec<Outage>,
    rises: Vec<Rise>,
    pub pushes: Vec<Push>,
    gaps: Vec<(usize, i32)>,
    newcomers: Option<Newcomers>,
}

fn look_up<'a>(
    what: &'static str,
    name: &str,
    mut known: impl Iterator<Item = &'a str> + Clone,
) -> Result<usize, GeneratorError> {
    let names = known.clone();
    known.position(|k| k == name).ok_or_else(|| GeneratorError::Unknown {
        what,
        name: name.to_owned(),
        known: names.collect::<Vec<_>>().join(", "),
    })
}

impl Story {
    pub(crate) fn new(planted: &[Planted]) -> Result<Self, GeneratorError> {
        let kind = |name: &str| look_up("archetype", name, ARCHETYPE.iter().map(|kind| kind.name));
        let mut story = Self::default();
        for (plant, change) in planted.iter().enumerate() {
            match change {
                Planted::DataGap { on } => story.gaps.push((plant, epoch_day(*on))),
                Planted::Campaign { on, archetypes, lift } => story.pushes.push(Push {
                    plant,
                    on: epoch_day(*on),
                    archetypes: archetypes.iter().map(|name| kind(name)).collect::<Result<_, _>>()?,
                    lift: *lift,
                }),
                Planted::ChannelOutage { channel, from, days, lost } => {
                    let first = epoch_day(*from);
                    story.outages.push(Outage {
                        plant,
                        channel: look_up("channel", channel, CHANNEL.iter().copied())?,
                        days: first..first + i32::from(*days),
                        lost: *lost,
                    });
                }
                Planted::PriceRise { category, archetype, from, rise, volume_lost } => story.rises.push(Rise {
                    plant,
                    category: look_up("category", category, CATEGORY.iter().map(|c| c.0))?,
                    archetype: kind(archetype)?,
                    from: epoch_day(*from),
                    rise: *rise,
                    volume_lost: *volume_lost,
                }),
                Planted::NewArchetype { from, share } => {
                    if story.newcomers.is_some() {
                        return Err(GeneratorError::Invalid {
                            field: "planted",
                            reason: "only one new archetype".into(),
                        });
                    }
                    story.newcomers = Some(Newcomers { plant, from: epoch_day(*from), share: *share });
                }
            }
        }
        Ok(story)
    }

    /// First sign-up day of the new kind, when the customer at `u` in [0, 1) belongs to it.
    pub(crate) fn newcomer_from(&self, u: f64) -> Option<i32> {
        self.newcomers.as_ref().filter(|new| u < new.share).map(|new| new.from)
    }

    /// The planted change that brought a kind of customer in.
    pub(crate) fn origin(&self, archetype: usize) -> Option<usize> {
        self.newcomers.as_ref().filter(|_| archetype == NEWCOMER).map(|new| new.plant)
    }

    pub(crate) fn outage(&self, channel: usize, day: i32) -> Option<&Outage> {
        self.outages.iter().find(|o| o.channel == channel && o.days.contains(&day))
    }

    pub(crate) fn rise(&self, category: usize, archetype: usize, day: i32) -> Option<&Rise> {
        self.rises.iter().find(|r| r.category == category && r.archetype == archetype && day >= r.from)
    }

    pub(crate) fn gap(&self, day: i32) -> Option<usize> {
        self.gaps.iter().find(|gap| gap.1 == day).map(|gap| gap.0)
    }
}
