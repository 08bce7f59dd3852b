//! The runtime with the CPU's plugin: what goes in, what comes out, what is refused.

mod arrays;
#[path = "../harness/mod.rs"]
mod harness;
mod programs;
mod refusals;

use std::{process::ExitCode, sync::LazyLock};

use harness::{Floats, Need, floats, run};
use pjrt_runtime::{
    Buffer, Client, ClientOption, CompileOptions, Error, Executable, Platform, Plugin,
    quiet_plugins,
};

/// `a + b`, with `a` donated for the sum.
const ADD: &str = "
    module @add {
      func.func public @main(%a: tensor<3xf32> {tf.aliasing_output = 0 : i32},
                             %b: tensor<3xf32>) -> tensor<3xf32> {
        %0 = stablehlo.add %a, %b : tensor<3xf32>
        return %0 : tensor<3xf32>
      }
    }";

/// One client for most tests: making one takes longer than they do.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let path = Need::plugin(Platform::Cpu).path.unwrap();
    let options = [("cpu_device_count", ClientOption::Int(2))];
    Client::new(&Plugin::load(&path).unwrap(), &options).unwrap()
});

fn compile(stablehlo: &str) -> Result<Executable, Error> {
    CLIENT.compile(stablehlo, &CompileOptions::default())
}

fn upload(values: &[f32]) -> Buffer {
    CLIENT
        .buffer_from_host(Floats::vector(values).array(), 0)
        .unwrap()
}

fn read(buffer: &Buffer) -> Vec<f32> {
    floats(&buffer.to_host().unwrap())
}

fn main() -> ExitCode {
    quiet_plugins();
    run(
        &Need::plugin(Platform::Cpu),
        false,
        tests![
            programs::the_plugin_says_what_it_is,
            arrays::arrays_of_every_type_come_back,
            arrays::host_memory_is_free_after_the_call,
            arrays::arrays_that_do_not_fit_their_bytes_are_refused,
            refusals::a_device_that_is_not_there_is_refused,
            programs::a_program_runs_on_the_device_it_was_compiled_for,
            programs::a_program_computes,
            programs::outputs_have_their_own_types_and_dimensions,
            arrays::arrays_are_row_major_whatever_their_layout_on_the_device,
            programs::programs_without_arguments_or_outputs_run,
            programs::a_run_with_a_donated_argument_is_not_waited_for,
            programs::outputs_feed_the_next_run_without_waiting,
            programs::a_loop_inside_the_program_runs,
            programs::a_kept_argument_is_not_touched_even_where_donation_was_foreseen,
            refusals::a_donation_of_another_size_fails_the_compilation,
            refusals::arguments_that_do_not_fit_are_refused,
            refusals::a_buffer_of_another_client_is_refused,
            refusals::programs_that_are_none_are_refused,
            refusals::compiler_flags_reach_the_compiler,
            refusals::a_client_runs_on_one_device,
            refusals::too_large_an_array_is_out_of_memory,
            programs::threads_share_client_program_and_buffers,
            refusals::what_this_plugin_cannot_do_is_typed,
        ],
    )
}
