//! The frame of our aggregates: one small state per group, written to bytes between the phases.
//!
//! DataFusion asks for a vectorised accumulator over groups and for a plain one; both are this frame around a
//! [`State`]. A state must give the same result in whatever order rows and other states come.

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
        Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::AggregateOrderSensitivity,
    },
};

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

/// The aggregate function around a state.
pub(super) struct Aggregate<S> {
    signature: Signature,
    state: PhantomData<fn() -> S>,
}

impl<S: State> Aggregate<S> {
    pub(super) fn new() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable), state: PhantomData }
    }
}

impl<S> fmt::Debug for Aggregate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<S>())
    }
}

impl<S> PartialEq for Aggregate<S> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<S> Eq for Aggregate<S> {}

impl<S> Hash for Aggregate<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        type_name::<S>().hash(state);
    }
}

impl<S: State> AggregateUDFImpl for Aggregate<S> {
    fn name(&self) -> &str {
        S::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(S::returns())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[state]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single(S::default())))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::<S> { states: Vec::new(), heap: 0 }))
    }
}

#[derive(Debug)]
struct Single<S>(S);

impl<S: State> Accumulator for Single<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let input = S::open(values)?;
        (0..values[0].len()).try_for_each(|row| self.0.update(&input, row))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_binary::<i32>().iter().flatten().try_for_each(|bytes| self.0.merge(bytes))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        self.0.write(&mut bytes);
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&S::finish(vec![std::mem::take(&mut self.0)])?, 0)
    }

    fn size(&self) -> usize {
        size_of::<S>() + self.0.heap()
    }
}

struct Groups<S> {
    states: Vec<S>,
    heap: usize,
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
        let input = S::open(values)?;
        for (row, group) in group_indices.iter().enumerate() {
            if passes(opt_filter, row) {
                self.change(*group, |state| state.update(&input, row))?;
            }
        }
        Ok(())
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
        S::finish(self.take(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        written(self.take(emit_to).iter().map(Some))
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
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
        written(states.iter().map(Some))
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<S>() + self.heap
    }
}

fn written<'a, S: State>(states: impl Iterator<Item = Option<&'a S>>) -> Result<Vec<ArrayRef>> {
    let mut column = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for state in states {
        bytes.clear();
        if let Some(state) = state {
            state.write(&mut bytes);
        }
        column.append_value(&bytes);
    }
    Ok(vec![Arc::new(column.finish())])
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
