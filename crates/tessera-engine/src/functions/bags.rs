//! The frame of our aggregates that collect: the entries of all groups one after the other, brought in order when they are many.
//!
//! Of a state per group, each row has to wait for its group's from memory. Here a row is added at the end, with the number of
//! its group; from time to time entries are sorted by group (by counting), and those of each group [folded](Bag::fold).

use std::{fmt::Debug, marker::PhantomData, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray},
        datatypes::DataType,
    },
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
};

use super::grouped::{Form, Function, passes, passing, states};

/// Entries below this number are not brought in order before the end.
const FEW: usize = 1 << 18;

/// What an aggregate makes of the entries of a group. It must be the same in whatever order they come, and however often some of
/// them are folded before the others come.
pub(super) trait Bag: Debug + Send + Sync + 'static {
    /// The name in SQL.
    const NAME: &'static str;
    /// What is kept of a row.
    type Entry: Copy + Debug + Default + Send + Sync;
    /// The arguments of a batch, ready for access by row.
    type Input;

    /// The result type.
    fn returns() -> DataType;
    /// Prepares the arguments of a batch.
    fn open(values: &[ArrayRef]) -> Result<Self::Input>;
    /// The entry of a row, if it has one.
    fn entry(input: &Self::Input, row: usize) -> Option<Self::Entry>;
    /// Brings entries of one group into their order and puts those that say all in front; gives their number.
    fn fold(entries: &mut [Self::Entry]) -> usize;
    /// Appends the entry to `bytes`.
    fn write(entry: &Self::Entry, bytes: &mut Vec<u8>);
    /// Reads an entry off the front of `bytes`.
    fn read(bytes: &mut &[u8]) -> Result<Self::Entry>;
    /// The results of groups, each given by its folded entries.
    fn finish<'a>(groups: impl ExactSizeIterator<Item = &'a [Self::Entry]>) -> Result<ArrayRef>;
}

/// Folds entries that are in order and of which those in a row that are the `same` become one: `join` puts the second into the first.
pub(super) fn fold_equal<E: Copy>(entries: &mut [E], same: impl Fn(&E, &E) -> bool, join: impl Fn(&mut E, E)) -> usize {
    if entries.is_empty() {
        return 0;
    }
    let mut last = 0;
    for at in 1..entries.len() {
        let entry = entries[at];
        if same(&entries[last], &entry) {
            join(&mut entries[last], entry);
        } else {
            last += 1;
            entries[last] = entry;
        }
    }
    last + 1
}

/// The entries of all groups.
pub(super) struct Bags<B: Bag> {
    entries: Vec<B::Entry>,
    /// The group of each entry.
    groups: Vec<u32>,
    /// The number of groups.
    count: usize,
    /// At this many entries they are folded.
    limit: usize,
    form: Form,
}

impl<B: Bag> Debug for Bags<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} groups", B::NAME, self.count)
    }
}

impl<B: Bag> Bags<B> {
    fn new(form: Form) -> Self {
        Self { entries: Vec::new(), groups: Vec::new(), count: 0, limit: FEW, form }
    }

    fn push(&mut self, group: usize, entry: B::Entry) -> Result<()> {
        let group = u32::try_from(group);
        self.groups.push(group.map_err(|_| DataFusionError::ResourcesExhausted("more than 2³² groups".into()))?);
        self.entries.push(entry);
        Ok(())
    }

    fn push_state(&mut self, group: usize, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.push(group, B::read(&mut bytes)?)?;
        }
        Ok(())
    }

    fn push_states(&mut self, states: &BinaryArray, groups: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        for (row, group) in groups.iter().enumerate() {
            if states.is_valid(row) && passes(filter, row) {
                self.push_state(*group, states.value(row))?;
            }
        }
        self.fold_many();
        Ok(())
    }

    /// Folds the entries if they are many more than when they were folded before.
    fn fold_many(&mut self) {
        if self.entries.len() >= self.limit {
            self.fold();
            self.limit = FEW.max(self.entries.len() * 2);
        }
    }

    /// Sorts the entries by group and folds each group's. Gives where each group ends.
    fn fold(&mut self) -> Vec<usize> {
        let mut ends = vec![0_usize; self.count];
        self.groups.iter().for_each(|group| ends[*group as usize] += 1);
        let mut before = 0;
        // First where each begins; as its entries come, where the next one stands; in the end, where it ends.
        ends.iter_mut().for_each(|end| before += std::mem::replace(end, before));
        let mut sorted = vec![B::Entry::default(); self.entries.len()];
        for (entry, group) in self.entries.iter().zip(&self.groups) {
            let at = &mut ends[*group as usize];
            sorted[*at] = *entry;
            *at += 1;
        }
        self.groups.clear();
        let (mut start, mut kept) = (0, 0);
        for (group, end) in ends.iter_mut().enumerate() {
            let count = B::fold(&mut sorted[start..*end]);
            sorted.copy_within(start..start + count, kept);
            self.groups.resize(self.groups.len() + count, group as u32);
            kept += count;
            start = std::mem::replace(end, kept);
        }
        sorted.truncate(kept);
        self.entries = sorted;
        ends
    }

    /// What the first groups give, which are then forgotten.
    fn emit<T>(&mut self, emit_to: EmitTo, give: impl FnOnce(&[&[B::Entry]]) -> T) -> T {
        let ends = self.fold();
        let first = match emit_to {
            EmitTo::All => self.count,
            EmitTo::First(first) => first,
        };
        let mut start = 0;
        let groups: Vec<&[B::Entry]> =
            ends[..first].iter().map(|end| &self.entries[std::mem::replace(&mut start, *end)..*end]).collect();
        let given = give(&groups);
        self.count -= first;
        if self.count == 0 {
            (self.entries, self.groups, self.limit) = (Vec::new(), Vec::new(), FEW);
        } else {
            self.entries.drain(..start);
            self.groups.drain(..start);
            self.groups.iter_mut().for_each(|group| *group -= first as u32);
        }
        given
    }

    fn written(&mut self, emit_to: EmitTo) -> ArrayRef {
        self.emit(emit_to, |groups| {
            let (mut column, mut bytes) = (BinaryBuilder::with_capacity(groups.len(), 0), Vec::new());
            for entries in groups {
                bytes.clear();
                entries.iter().for_each(|entry| B::write(entry, &mut bytes));
                column.append_value(&bytes);
            }
            Arc::new(column.finish())
        })
    }
}

impl<B: Bag> GroupsAccumulator for Bags<B> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.count = total_num_groups;
        if self.form.takes_states() {
            return self.push_states(states(values)?.as_binary(), group_indices, opt_filter);
        }
        let (values, groups) = passing(values, group_indices, opt_filter)?;
        let input = B::open(&values)?;
        self.entries.reserve(groups.len());
        self.groups.reserve(groups.len());
        for (row, group) in groups.iter().enumerate() {
            if let Some(entry) = B::entry(&input, row) {
                self.push(*group, entry)?;
            }
        }
        self.fold_many();
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.count = total_num_groups;
        self.push_states(values[0].as_binary(), group_indices, None)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        match self.form.gives_states() {
            true => Ok(self.written(emit_to)),
            false => self.emit(emit_to, |groups| B::finish(groups.iter().copied())),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.written(emit_to)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows: Vec<usize> = (0..values[0].len()).collect();
        let mut each = Self::new(self.form);
        each.update_batch(values, &rows, opt_filter, rows.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.entries.capacity() * size_of::<B::Entry>() + self.groups.capacity() * size_of::<u32>()
    }
}

/// The same of one group.
#[derive(Debug)]
struct Single<B: Bag>(Bags<B>);

impl<B: Bag> Accumulator for Single<B> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values, &vec![0; values[0].len()], None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states, &vec![0; states[0].len()], 1)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.count = 1;
        Ok(vec![ScalarValue::try_from_array(&self.0.written(EmitTo::All), 0)?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.count = 1;
        ScalarValue::try_from_array(&self.0.evaluate(EmitTo::All)?, 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// The aggregate around a bag.
pub(super) struct OfBags<B>(PhantomData<fn() -> B>);

impl<B: Bag> Function for OfBags<B> {
    const NAME: &'static str = B::NAME;

    fn returns() -> DataType {
        B::returns()
    }

    fn single(form: Form) -> Box<dyn Accumulator> {
        Box::new(Single(Bags::<B>::new(form)))
    }

    fn groups(form: Form) -> Box<dyn GroupsAccumulator> {
        Box::new(Bags::<B>::new(form))
    }
}

/// The result of a group's entries, that is to say of some of them and the written state of the others, as tests ask for it.
#[cfg(test)]
pub(super) fn folded<B: Bag>(entries: &[B::Entry], others: &[B::Entry]) -> Vec<B::Entry> {
    let mut left = Bags::<B>::new(Form::Whole);
    let mut right = Bags::<B>::new(Form::Whole);
    entries.iter().for_each(|entry| left.push(0, *entry).expect("few groups"));
    others.iter().for_each(|entry| right.push(0, *entry).expect("few groups"));
    right.count = 1;
    left.count = 1;
    let state = right.written(EmitTo::All);
    left.merge_batch(&[state], &[0], 1).expect("written by us");
    left.fold();
    left.entries
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::arrow::{
        array::{Int64Array, ListArray},
        datatypes::Int64Type,
    };
    use proptest::prelude::*;

    use super::{super::repeated::Repeated, *};

    /// What is repeated in each group, by counting.
    fn naive(rows: &[(usize, Option<i64>)], groups: usize) -> Vec<Vec<i64>> {
        let mut counts = vec![BTreeMap::new(); groups];
        for (group, value) in rows {
            if let Some(value) = value {
                *counts[*group].entry(*value).or_insert(0) += 1;
            }
        }
        counts.into_iter().map(|c| c.into_iter().filter(|(_, n)| *n > 1).map(|(v, _)| v).collect()).collect()
    }

    fn lists(column: &ArrayRef) -> Vec<Vec<i64>> {
        let lists: &ListArray = column.as_list();
        lists.iter().flatten().map(|l| l.as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    proptest! {
        #[test]
        fn groups_are_told_apart_however_they_come_and_go(
            rows in prop::collection::vec((0_usize..5, prop::option::of(-3_i64..3)), 0..60),
            batch in 1_usize..9,
            limit in 1_usize..20,
            first in 1_usize..5,
            merged in any::<bool>(),
        ) {
            let mut bags = Bags::<Repeated>::new(Form::Whole);
            for rows in rows.chunks(batch) {
                bags.limit = limit;
                let values: Vec<ArrayRef> = vec![Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>())];
                let groups: Vec<_> = rows.iter().map(|r| r.0).collect();
                if merged {
                    let states = bags.convert_to_state(&values, None).expect("states");
                    bags.merge_batch(&states, &groups, 5).expect("states");
                } else {
                    bags.update_batch(&values, &groups, None, 5).expect("numbers");
                }
            }
            bags.count = 5;
            let mut found = lists(&bags.evaluate(EmitTo::First(first)).expect("lists"));
            found.extend(lists(&bags.evaluate(EmitTo::All).expect("lists")));
            prop_assert_eq!(found, naive(&rows, 5));
            prop_assert_eq!(bags.entries.len() + bags.groups.len() + bags.count, 0);
        }
    }
}
