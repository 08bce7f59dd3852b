//! Compiled programs, loaded on a device.

use std::{fmt, sync::Arc};

use crate::{
    buffer::Buffer,
    error::Error,
    memory::MemoryStats,
    run::Run,
    shape::Shape,
    sys::{executable::Loaded, owned::Owned},
    transfers::Counters,
    value::CostValue,
};

// ANCHOR: argument
/// An argument of a program.
#[derive(Debug)]
pub enum Argument<'a> {
    /// The program reads the buffer, and it can be used again.
    Keep(&'a Buffer),
    /// The program may reuse the buffer's memory for an output; it is gone afterwards, also
    /// when the run fails. For this to save memory, the program's parameter must name the
    /// output: `{tf.aliasing_output = 0 : i32}`.
    Donate(Buffer),
}
// ANCHOR_END: argument

impl Argument<'_> {
    fn buffer(&self) -> &Buffer {
        match self {
            Self::Keep(buffer) => buffer,
            Self::Donate(buffer) => buffer,
        }
    }
}

/// A compiled program on its device.
pub struct Executable {
    loaded: Loaded,
    transfers: Arc<Counters>,
}

impl Executable {
    pub(crate) fn new(loaded: Loaded, transfers: Arc<Counters>) -> Self {
        Self { loaded, transfers }
    }

    /// How many arrays a run returns.
    pub fn num_outputs(&self) -> usize {
        self.loaded.num_outputs()
    }

    /// Type and dimensions of each parameter; `None` where a plugin does not tell.
    pub fn parameter_shapes(&self) -> Option<&[Shape]> {
        self.loaded.parameter_shapes()
    }

    /// Type and dimensions of each output; `None` where a plugin does not tell.
    pub fn output_shapes(&self) -> Option<Vec<Shape>> {
        let shapes = self.loaded.output_shapes()?;
        Some(shapes.iter().map(|shape| Shape::clone(shape)).collect())
    }

    /// Looks whether the arguments are what the program takes.
    fn check(&self, arguments: &[Argument<'_>]) -> Result<(), Error> {
        let Some(parameters) = self.parameter_shapes() else {
            return Ok(());
        };
        if parameters.len() != arguments.len() {
            return Err(Error::ArgumentCount {
                expected: parameters.len(),
                got: arguments.len(),
            });
        }
        for (index, (expected, argument)) in parameters.iter().zip(arguments).enumerate() {
            let got = argument.buffer().shape();
            if got != expected {
                return Err(Error::Argument {
                    index,
                    expected: expected.clone(),
                    got: got.clone(),
                });
            }
        }
        Ok(())
    }

    /// Runs the program. It may still run when this returns: see [`Buffer::wait`]. Outputs can
    /// be arguments of the next run right away; if they are donated, that waits for the run
    /// that made them, not for the one that it begins.
    ///
    /// # Errors
    /// [`Error::ArgumentCount`], [`Error::Argument`] or [`Error::OtherClient`] if the arguments
    /// do not fit (types and dimensions are compared where the plugin tells them, see
    /// [`Executable::parameter_shapes`]), [`Error::Pjrt`] if the run could not begin. Donated
    /// buffers are gone then too. A failure while it runs shows in [`Buffer::wait`] and
    /// [`Buffer::to_host`].
    pub fn execute(&self, arguments: Vec<Argument<'_>>) -> Result<Vec<Buffer>, Error> {
        self.check(&arguments)?;
        let buffers = arguments
            .iter()
            .map(|argument| argument.buffer().owned())
            .collect::<Vec<_>>();
        let is_kept =
            |(_, argument): &(usize, &Argument<'_>)| matches!(argument, Argument::Keep(_));
        let kept = arguments
            .iter()
            .enumerate()
            .filter(is_kept)
            .map(|(index, _)| index as i64)
            .collect::<Vec<_>>();
        let outputs = self.loaded.execute(&buffers, &kept)?;
        let run = self.begun(arguments);
        let known = self.loaded.output_shapes();
        let shape = |index: usize, output: &_| match known {
            Some(shapes) => Ok(shapes[index].clone()),
            None => Owned::shape(output).map(Arc::new),
        };
        let mut made = Vec::with_capacity(outputs.len());
        for (index, output) in outputs.into_iter().enumerate() {
            let shape = shape(index, &output)?;
            let (transfers, run) = (self.transfers.clone(), Some(run.clone()));
            made.push(Buffer::new(output, shape, transfers, run));
        }
        Ok(made)
    }

    /// Takes the arguments of a run that has begun: waits for the runs that made them.
    fn begun(&self, arguments: Vec<Argument<'_>>) -> Arc<Run> {
        let mut donated = Vec::with_capacity(arguments.len());
        for argument in arguments {
            if let Argument::Donate(buffer) = argument {
                let (owned, made_by) = buffer.into_parts();
                donated.push(owned);
                if let Some(run) = made_by {
                    run.settle();
                }
            }
        }
        Arc::new(Run::new(donated))
    }

    /// What the compiler says a run costs, e.g. `flops` and `bytes accessed`. The compiler's
    /// estimate, not a measurement; the names are the plugin's.
    ///
    /// # Errors
    /// [`Error::Pjrt`] where a plugin does not say.
    pub fn cost(&self) -> Result<Vec<(String, CostValue)>, Error> {
        self.loaded.facts().cost()
    }

    /// What the compiler says of the memory that a run needs.
    ///
    /// # Errors
    /// [`Error::Pjrt`] where a plugin does not say.
    pub fn memory(&self) -> Result<MemoryStats, Error> {
        self.loaded.facts().memory()
    }
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executable")
            .field("num_outputs", &self.num_outputs())
            .finish_non_exhaustive()
    }
}
