//! The frame of our aggregates, and of those that keep one small state per group, written to bytes between the phases.
//!
//! DataFusion asks for a vectorised accumulator over groups and for a plain one; both are this frame around a
//! [`State`], or around the entries of a [`Bag`](super::bags::Bag). A state must give the same result in whatever order rows and
//! other states come.
//!
//! Each aggregate comes in four forms, so that plain SQL can keep a state and go on from it: `f` gives the result of rows,
//! `f_state` their state as bytes, `f_fold` one state of many, and `f_merge` the result of many.

use std::{
    any::type_name,
    borrow::Cow,
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

    pub(super) fn takes_states(self) -> bool {
        matches!(self, Self::Fold | Self::Merge)
    }

    pub(super) fn gives_states(self) -> bool {
        matches!(self, Self::State | Self::Fold)
    }
}

/// A way to aggregate.
pub(super) trait Function: 'static {
    /// The name in SQL.
    const NAME: &'static str;
    /// The result type.
    fn returns() -> DataType;
    /// What takes the rows of one group in.
    fn single(form: Form) -> Box<dyn Accumulator>;
    /// What takes the rows of many groups in.
    fn groups(form: Form) -> Box<dyn GroupsAccumulator>;
}

/// The aggregate around a state.
pub(super) struct OfStates<S>(PhantomData<fn() -> S>);

impl<S: State> Function for OfStates<S> {
    const NAME: &'static str = S::NAME;

    fn returns() -> DataType {
        S::returns()
    }

    fn single(form: Form) -> Box<dyn Accumulator> {
        Box::new(Single { state: S::default(), form })
    }

    fn groups(form: Form) -> Box<dyn GroupsAccumulator> {
        Box::new(Groups::<S> { states: Vec::new(), heap: 0, form })
    }
}

/// The aggregate as the engine knows it.
struct Aggregate<F> {
    name: String,
    form: Form,
    signature: Signature,
    function: PhantomData<fn() -> F>,
}

/// All forms of an aggregate.
pub(super) fn forms<F: Function>() -> impl Iterator<Item = AggregateUDF> {
    Form::ALL.into_iter().map(|form| {
        let name = format!("{}{}", F::NAME, form.suffix());
        let signature = Signature::variadic_any(Volatility::Immutable);
        AggregateUDF::from(Aggregate::<F> { name, form, signature, function: PhantomData })
    })
}

/// The states of a batch.
pub(super) fn states(values: &[ArrayRef]) -> Result<ArrayRef> {
    arity("an aggregate of states", values, 1)?;
    cast(&values[0], &DataType::Binary)
}

impl<F> fmt::Debug for Aggregate<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<F>())
    }
}

impl<F> PartialEq for Aggregate<F> {
    fn eq(&self, other: &Self) -> bool {
        self.form == other.form
    }
}

impl<F> Eq for Aggregate<F> {}

impl<F> Hash for Aggregate<F> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        type_name::<F>().hash(state);
        self.form.hash(state);
    }
}

impl<F: Function> AggregateUDFImpl for Aggregate<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.form.gives_states() { DataType::Binary } else { F::returns() })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[state]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(F::single(self.form))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(F::groups(self.form))
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
        let state = std::mem::take(&mut self.state);
        if self.form.gives_states() {
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

pub(super) fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|f| f.is_valid(row) && f.value(row))
}

/// The arguments of the rows that pass the filter, and their groups: preparing a row costs more than leaving it out.
pub(super) fn passing<'a>(
    values: &[ArrayRef],
    groups: &'a [usize],
    filter: Option<&BooleanArray>,
) -> Result<(Vec<ArrayRef>, Cow<'a, [usize]>)> {
    let Some(filter) = filter else { return Ok((values.to_vec(), Cow::Borrowed(groups))) };
    let passing = groups.iter().enumerate().filter(|(row, _)| passes(Some(filter), *row)).map(|(_, group)| *group);
    let kept = values.iter().map(|v| Ok(arrow::compute::filter(v, filter)?)).collect::<Result<_>>()?;
    Ok((kept, passing.collect()))
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
        let (values, groups) = passing(values, group_indices, opt_filter)?;
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
        let states = self.take(emit_to);
        if self.form.gives_states() {
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
