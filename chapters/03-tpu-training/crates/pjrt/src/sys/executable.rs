//! Compiled programs: what the compiler knows of one, and running one.

#![expect(unsafe_code, reason = "calls the plugin")]

use std::{ptr, sync::Arc};

use crate::{
    error::Error,
    ffi,
    memory::MemoryStats,
    shape::Shape,
    signature,
    sys::{
        api::{self, borrow, copy_text, made},
        named_value,
        owned::Owned,
    },
    value::Value,
};

/// A program as the compiler left it.
pub struct Facts {
    executable: Owned<ffi::Executable>,
}

impl Facts {
    /// Takes an executable.
    pub fn new(executable: Owned<ffi::Executable>) -> Self {
        Self { executable }
    }

    /// `PJRT_Executable_NumOutputs`, for each device.
    pub fn num_outputs(&self) -> Result<usize, Error> {
        let mut args = ffi::ExecutableNumOutputsArgs::new();
        args.executable = self.executable.pointer();
        // SAFETY: the executable is alive.
        unsafe { self.executable.api().call(&mut args)? };
        Ok(args.num_outputs)
    }

    /// `PJRT_Executable_GetCostAnalysis`
    pub fn cost(&self) -> Result<Vec<(String, Value)>, Error> {
        let mut args = ffi::ExecutableCostArgs::new();
        args.executable = self.executable.pointer();
        // SAFETY: the executable is alive, and so are its properties.
        unsafe {
            self.executable.api().call(&mut args)?;
            Ok(named_value::read(args.properties, args.num_properties))
        }
    }

    /// `PJRT_Executable_GetCompiledMemoryStats`
    pub fn memory(&self) -> Result<MemoryStats, Error> {
        let mut args = ffi::ExecutableMemoryArgs::new();
        args.executable = self.executable.pointer();
        // SAFETY: the executable is alive.
        unsafe { self.executable.api().call(&mut args)? };
        Ok(MemoryStats {
            generated_code_bytes: args.generated_code_size_in_bytes,
            argument_bytes: args.argument_size_in_bytes,
            output_bytes: args.output_size_in_bytes,
            alias_bytes: args.alias_size_in_bytes,
            temp_bytes: args.temp_size_in_bytes,
            peak_bytes: args.peak_memory_in_bytes,
            total_bytes: args.total_size_in_bytes,
            host_bytes: args
                .host_generated_code_size_in_bytes
                .saturating_add(args.host_argument_size_in_bytes)
                .saturating_add(args.host_output_size_in_bytes)
                .saturating_sub(args.host_alias_size_in_bytes)
                .saturating_add(args.host_temp_size_in_bytes),
        })
    }

    /// `PJRT_Executable_OptimizedProgram`: (format, bytes).
    fn optimized_program(&self) -> Result<(String, Vec<u8>), Error> {
        let api = self.executable.api();
        let mut program = ffi::Program::new();
        let mut args = ffi::ExecutableOptimizedProgramArgs::new();
        args.executable = self.executable.pointer();
        args.program = &raw mut program;
        // SAFETY: the executable is alive. With a null `code`, only the size is written.
        unsafe { api.call(&mut args)? };
        // Not null even for no bytes: null would ask for the size again.
        let mut bytes = vec![0_u8; program.code_size.max(1)];
        program.code = bytes.as_mut_ptr().cast();
        args.program = &raw mut program;
        // SAFETY: `code` has room for `code_size` bytes, which the plugin just asked for. The
        // format is the plugin's, and lives as long as the executable.
        let format = unsafe {
            api.call(&mut args)?;
            copy_text(program.format, program.format_size)
        };
        bytes.truncate(program.code_size);
        Ok((format, bytes))
    }

    /// Types and dimensions of the parameters. `None` if the plugin does not tell.
    fn parameter_shapes(&self) -> Option<Vec<Shape>> {
        let (format, program) = self.optimized_program().ok()?;
        signature::parameters(&format, &program)
    }

    /// Types and dimensions of the outputs. `None` if the plugin does not tell.
    ///
    /// # Errors
    /// [`Error::ElementType`] if an output's type is not one of ours.
    fn output_shapes(&self, num_outputs: usize) -> Result<Option<Vec<Arc<Shape>>>, Error> {
        let api = self.executable.api();
        let mut types = ffi::ExecutableOutputTypesArgs::new();
        types.executable = self.executable.pointer();
        let mut dims = ffi::ExecutableOutputDimensionsArgs::new();
        dims.executable = self.executable.pointer();
        // SAFETY: the executable is alive, and so are the lists that it gives out; their
        // lengths are as the header says.
        let (types, ranks, dims) = unsafe {
            if api.call(&mut types).is_err() || api.call(&mut dims).is_err() {
                return Ok(None);
            }
            let ranks = borrow(dims.dim_sizes, dims.num_outputs);
            let total = ranks.iter().sum();
            let types = borrow(types.output_types, types.num_output_types);
            (types, ranks, borrow(dims.dims, total))
        };
        if types.len() != num_outputs || ranks.len() != num_outputs {
            return Ok(None);
        }
        let mut rest = dims;
        let mut shapes = Vec::with_capacity(num_outputs);
        for (number, rank) in types.iter().zip(ranks) {
            let Some((dims, after)) = rest.split_at_checked(*rank) else {
                return Ok(None);
            };
            rest = after;
            let dims = api::dims("PJRT_Executable_OutputDimensions", dims)?;
            shapes.push(Arc::new(Shape::from_plugin(*number, dims)?));
        }
        Ok(Some(shapes))
    }
}

/// A program on its device.
pub struct Loaded {
    loaded: Owned<ffi::LoadedExecutable>,
    facts: Facts,
    num_outputs: usize,
    output_shapes: Option<Vec<Arc<Shape>>>,
    parameter_shapes: Option<Vec<Shape>>,
}

impl Loaded {
    /// Takes a program and what is known of it.
    ///
    /// # Errors
    /// If the plugin does not say how many outputs it has.
    pub fn new(loaded: Owned<ffi::LoadedExecutable>, facts: Facts) -> Result<Self, Error> {
        let num_outputs = facts.num_outputs()?;
        let output_shapes = facts.output_shapes(num_outputs)?;
        Ok(Self {
            loaded,
            parameter_shapes: facts.parameter_shapes(),
            facts,
            num_outputs,
            output_shapes,
        })
    }

    /// What the compiler knows.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How many arrays a run returns.
    pub fn num_outputs(&self) -> usize {
        self.num_outputs
    }

    /// Type and dimensions of each output, if the plugin told.
    pub fn output_shapes(&self) -> Option<&[Arc<Shape>]> {
        self.output_shapes.as_deref()
    }

    /// Type and dimensions of each parameter, if the plugin told.
    pub fn parameter_shapes(&self) -> Option<&[Shape]> {
        self.parameter_shapes.as_deref()
    }

    /// `PJRT_LoadedExecutable_Execute` on the one device that it was compiled for. An
    /// argument whose index is not in `keep` may be gone afterwards.
    ///
    /// # Errors
    /// [`Error::OtherClient`] if an argument belongs to another client, or the plugin's error.
    pub fn execute(
        &self,
        arguments: &[&Owned<ffi::Buffer>],
        keep: &[i64],
    ) -> Result<Vec<Owned<ffi::Buffer>>, Error> {
        let client = self.loaded.client();
        for (index, argument) in arguments.iter().enumerate() {
            let same = match (argument.client(), client) {
                (Some(its), Some(ours)) => Arc::ptr_eq(its, ours),
                _ => false,
            };
            if !same {
                return Err(Error::OtherClient { index });
            }
        }
        let arguments = arguments
            .iter()
            .map(|buffer| buffer.pointer())
            .collect::<Vec<_>>();
        let argument_list = arguments.as_ptr();
        let mut outputs = vec![ptr::null_mut(); self.num_outputs];
        let output_list = outputs.as_mut_ptr();
        let mut options = ffi::ExecuteOptions::new();
        options.non_donatable_input_indices = keep.as_ptr();
        options.num_non_donatable_input_indices = keep.len();
        let mut args = ffi::ExecuteArgs::new();
        args.executable = self.loaded.pointer();
        args.options = &mut options;
        args.argument_lists = &argument_list;
        args.num_devices = 1;
        args.num_args = arguments.len();
        args.output_lists = &output_list;
        // SAFETY: the program is for one device, so both lists have one element, and the
        // output list has room for as many buffers as the program has outputs. The arguments
        // are alive and of the same client. No event is asked for: each output has its own.
        unsafe { self.loaded.api().call(&mut args)? };
        let own = |output: &*mut ffi::Buffer| {
            let output = made("PJRT_LoadedExecutable_Execute", *output)?;
            // SAFETY: outputs are ours to destroy.
            Ok(unsafe { Owned::new(self.loaded.api(), output, client.cloned()) })
        };
        // All are taken before the first error is looked at, so that none leaks.
        let outputs = outputs.iter().map(own).collect::<Vec<_>>();
        outputs.into_iter().collect()
    }
}
