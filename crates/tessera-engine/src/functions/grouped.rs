//! The frame of our aggregates: one small state per group, written to bytes between the phases.
//!
//! DataFusion asks for a vectorised accumulator over groups and for a plain one; both are this frame around a
//! [`State`]. A state must give the same result in whatever order rows and other states come.
//!
//! Each aggregate comes in four forms, so that plain SQL can keep a state and go on from it: `f` gives the result of rows,
//! `f_state` their state as bytes, `f_fold` one state of many, and `f_merge` the result of many.

use std::{
    any::type_name,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray},
        datatypes::{DataType, Field, FieldRef},
    },
    common::{DataFusionError, Result, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::AggregateOrderSensitivity,
    },
};

use super::{arity, cast};

/// What an aggregate keeps of one group.
pub(super) trait State: fmt::Debug + Default + Send + Sync + 'static {
    /// The name in SQL.
    const NAME: &'static str;
    /// The arguments of a batch, ready for access by row.
    type Input;

    /// The result type.
    fn returns() -> DataType;
    /// Prepares the arguments of a batch.
    fn open(values: &[ArrayRef]) -> Result<Self::Input>;
    /// Takes a row in.
    fn update(&mut self, input: &Self::Input, row: usize) -> Result<()>;
    /// Appends the state to `bytes`.
    fn write(&self, bytes: &mut Vec<u8>);
    /// Takes another state in.
    fn merge(&mut self, bytes: &[u8]) -> Result<()>;
    /// The results of many groups.
    fn finish(states: Vec<Self>) -> Result<ArrayRef>;
    /// Bytes held outside the struct itself.
    fn heap(&self) -> usize;
    /// Makes the state as short as it can be, before it is kept.
    fn shorten(&mut self) {}
}

/// What a form of an aggregate is given, and what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Rows, for their result.
    Whole,
    /// Rows, for their state.
    State,
    /// States, for one state.
    Fold,
    /// States, for their result.
    Merge,
}

impl Form {
    pub(super) const ALL: [Self; 4] = [Self::Whole, Self::State, Self::Fold, Self::Merge];

    /// What the form adds to the name.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::State => "_state",
            Self::Fold => "_fold",
            Self::Merge => "_merge",
        }
    }

    fn takes_states(self) -> bool {
        matches!(self, Self::Fold | Self::Merge)
    }

    fn gives_states(self) -> bool {
        matches!(self, Self::State | Self::Fold)
    }
}

/// The aggregate function around a state.
pub(super) struct Aggregate<S> {
    name: String,
    form: Form,
    signature: Signature,
    state: PhantomData<fn() -> S>,
}

impl<S: State> Aggregate<S> {
    pub(super) fn new(form: Form) -> Self {
        let name = format!("{}{}", S::NAME, form.suffix());
        Self { name, form, signature: Signature::variadic_any(Volatility::Immutable), state: PhantomData }
    }
}

/// All forms of an aggregate.
pub(super) fn forms<S: State>() -> impl Iterator<Item = AggregateUDF> {
    Form::ALL.into_iter().map(|form| AggregateUDF::from(Aggregate::<S>::new(form)))
}

/// The states of a batch.
fn states(values: &[ArrayRef]) -> Result<ArrayRef> {
    arity("an aggregate of states", values, 1)?;
    cast(&values[0], &DataType::Binary)
}

impl<S> fmt::Debug for Aggregate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<S>())
    }
}

impl<S> PartialEq for Aggregate<S> {
    fn eq(&self, other: &Self) -> bool {
        self.form == other.form
    }
}

impl<S> Eq for Aggregate<S> {}

impl<S> Hash for Aggregate<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        type_name::<S>().hash(state);
        self.form.hash(state);
    }
}

impl<S: State> AggregateUDFImpl for Aggregate<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.form.gives_states() { DataType::Binary } else { S::returns() })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[state]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single { state: S::default(), form: self.form }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::<S> { states: Vec::new(), heap: 0, form: self.form }))
    }
}

#[derive(Debug)]
struct Single<S> {
    state: S,
    form: Form,
}

impl<S: State> Accumulator for Single<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if self.form.takes_states() {
            return self.merge_batch(&[states(values)?]);
        }
        let input = S::open(values)?;
        (0..values[0].len()).try_for_each(|row| self.state.update(&input, row))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_binary::<i32>().iter().flatten().try_for_each(|bytes| self.state.merge(bytes))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.state.write(&mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut state = std::mem::take(&mut self.state);
        if self.form.gives_states() {
            state.shorten();
            let mut bytes = Vec::new();
            state.write(&mut bytes);
            return Ok(ScalarValue::Binary(Some(bytes)));
        }
        ScalarValue::try_from_array(&S::finish(vec![state])?, 0)
    }

    fn size(&self) -> usize {
        size_of::<S>() + self.state.heap()
    }
}

struct Groups<S> {
    states: Vec<S>,
    heap: usize,
    form: Form,
}

impl<S: State> Groups<S> {
    fn change(&mut self, group: usize, change: impl FnOnce(&mut S) -> Result<()>) -> Result<()> {
        let state = &mut self.states[group];
        let before = state.heap();
        change(state)?;
        self.heap = self.heap + state.heap() - before;
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<S> {
        let taken = emit_to.take_needed(&mut self.states);
        self.heap -= taken.iter().map(State::heap).sum::<usize>();
        taken
    }
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|f| f.is_valid(row) && f.value(row))
}

impl<S: State> GroupsAccumulator for Groups<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.states.resize_with(total_num_groups, S::default);
        if self.form.takes_states() {
            let states = states(values)?;
            let states = states.as_binary::<i32>();
            for (row, group) in group_indices.iter().enumerate() {
                if states.is_valid(row) && passes(opt_filter, row) {
                    self.change(*group, |state| state.merge(states.value(row)))?;
                }
            }
            return Ok(());
        }
        // Preparing a row costs more than leaving it out.
        let passing: Vec<usize>;
        let (values, groups) = match opt_filter {
            None => (values.to_vec(), group_indices),
            Some(filter) => {
                let rows = group_indices.iter().enumerate().filter(|(row, _)| passes(opt_filter, *row));
                passing = rows.map(|(_, group)| *group).collect();
                let kept = values.iter().map(|v| Ok(arrow::compute::filter(v, filter)?)).collect::<Result<Vec<_>>>()?;
                (kept, passing.as_slice())
            }
        };
        let input = S::open(&values)?;
        groups.iter().enumerate().try_for_each(|(row, group)| self.change(*group, |state| state.update(&input, row)))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.states.resize_with(total_num_groups, S::default);
        let states = values[0].as_binary::<i32>();
        for (row, group) in group_indices.iter().enumerate() {
            if states.is_valid(row) {
                self.change(*group, |state| state.merge(states.value(row)))?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut states = self.take(emit_to);
        if self.form.gives_states() {
            states.iter_mut().for_each(S::shorten);
            return written(states.iter());
        }
        S::finish(states)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![written(self.take(emit_to).iter())?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        if self.form.takes_states() {
            let states = states(values)?;
            return Ok(vec![match opt_filter {
                None => states,
                Some(filter) => arrow::compute::nullif(&states, &arrow::compute::not(filter)?)?,
            }]);
        }
        let input = S::open(values)?;
        let states = (0..values[0].len())
            .map(|row| {
                let mut state = S::default();
                if passes(opt_filter, row) {
                    state.update(&input, row)?;
                }
                Ok(state)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(vec![written(states.iter())?])
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<S>() + self.heap
    }
}

fn written<'a, S: State>(states: impl Iterator<Item = &'a S>) -> Result<ArrayRef> {
    let mut column = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for state in states {
        bytes.clear();
        state.write(&mut bytes);
        column.append_value(&bytes);
    }
    Ok(Arc::new(column.finish()))
}

/// Reads `N` bytes off the front of a written state.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    match bytes.split_first_chunk::<N>() {
        Some((head, tail)) => {
            *bytes = tail;
            Ok(*head)
        }
        None => Err(DataFusionError::Internal("the state of an aggregate is cut short".into())),
    }
}
