//! Error paths, without a real plugin: a small one is compiled that fails where it is told to.
//!
//! Also what runs under valgrind and AddressSanitizer (see the crate's README): the plugin
//! ends the process if an object is destroyed twice or after its client.

mod harness;

use std::{
    path::Path,
    process::ExitCode,
    sync::{Mutex, OnceLock},
};

use harness::{Floats, Need, compiler, fake_plugin, floats, run};
use pjrt_runtime::{
    Argument, Client, ClientOption, Code, CompileOptions, Error, Plugin, PluginError, Topology,
    Value, live_objects,
};

/// Functions of the table that every caller of a client meets, in the order of the first call.
const CALLS: [&str; 19] = [
    "PJRT_Client_Create",
    "PJRT_Client_AddressableDevices",
    "PJRT_Client_PlatformName",
    "PJRT_Client_PlatformVersion",
    "PJRT_Device_GetDescription",
    "PJRT_DeviceDescription_Id",
    "PJRT_DeviceDescription_Kind",
    "PJRT_Device_MemoryStats",
    "PJRT_Client_Compile",
    "PJRT_LoadedExecutable_GetExecutable",
    "PJRT_Executable_NumOutputs",
    "PJRT_Executable_GetCostAnalysis",
    "PJRT_Executable_GetCompiledMemoryStats",
    "PJRT_Client_BufferFromHostBuffer",
    "PJRT_LoadedExecutable_Execute",
    "PJRT_Buffer_ElementType",
    "PJRT_Buffer_Dimensions",
    "PJRT_Buffer_ReadyEvent",
    "PJRT_Buffer_ToHostBuffer",
];

/// The plugin that loads: one for the whole process, since it stays loaded.
static FAKE: OnceLock<Plugin> = OnceLock::new();

fn fake() -> &'static Plugin {
    FAKE.get().unwrap()
}

/// Objects and errors that the plugin has made and nobody has destroyed, by its own count.
fn alive() -> i64 {
    match &fake().attributes().unwrap()[..] {
        [(name, Value::Int(count))] if name == "alive" => *count,
        other => panic!("{other:?}"),
    }
}

/// Makes a client that was told something, and uses everything that there is.
fn use_everything(options: &[(&str, ClientOption)]) -> Result<Vec<f32>, Error> {
    let client = Client::new(fake(), options)?;
    client.device_memory(0)?;
    let program = client.compile("module", &CompileOptions::default())?;
    program.cost()?;
    program.memory()?;
    let upload = |values: &[f32]| client.buffer_from_host(Floats::vector(values).array(), 0);
    let (first, second) = (upload(&[1.0, 2.0])?, upload(&[3.0])?);
    let outputs = program.execute(vec![Argument::Donate(first), Argument::Keep(&second)])?;
    outputs[0].wait()?;
    Ok(floats(&outputs[0].to_host()?))
}

fn told(what: &'static str, name: &str) -> [(&'static str, ClientOption); 1] {
    [(what, ClientOption::Text(name.to_owned()))]
}

fn nothing_is_left(after: &str) {
    assert!(live_objects().is_empty(), "{after}: {:?}", live_objects());
    assert_eq!(alive(), 0, "{after}");
}

fn everything_works_when_nothing_fails(_: &Path) {
    assert_eq!(use_everything(&[]), Ok(vec![1.0, 2.0]));
    nothing_is_left("a run");
}

fn each_function_can_fail(_: &Path) {
    for call in CALLS {
        let expected = Error::Pjrt {
            call,
            code: Code::ResourceExhausted,
            message: format!("{call} was told to fail"),
        };
        assert!(expected.is_out_of_memory());
        assert_eq!(use_everything(&told("fail", call)), Err(expected));
        nothing_is_left(call);
    }
    // Waiting fails: with the error of the work that was waited for.
    let error = use_everything(&told("fail", "PJRT_Event_Await")).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Pjrt {
                call: "PJRT_Event_Await",
                ..
            }
        ),
        "{error}"
    );
    nothing_is_left("PJRT_Event_Await");
}

fn each_function_can_be_missing(_: &Path) {
    // Without the function that makes a client, the rest cannot be told of.
    for call in &CALLS[1..] {
        let error = use_everything(&told("missing", call)).unwrap_err();
        assert!(
            matches!(error, Error::Missing { call: missing, .. } if missing == *call),
            "{call}: {error}"
        );
        assert!(error.to_string().contains("0.81"), "{error}");
        nothing_is_left(call);
    }
    let error = use_everything(&told("missing", "PJRT_Event_Await")).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Missing {
                call: "PJRT_Event_Await",
                ..
            }
        ),
        "{error}"
    );
    nothing_is_left("PJRT_Event_Await");
}

fn a_function_that_makes_nothing_is_an_error(_: &Path) {
    for call in [
        "PJRT_Client_Create",
        "PJRT_Device_GetDescription",
        "PJRT_Client_Compile",
        "PJRT_LoadedExecutable_GetExecutable",
        "PJRT_Client_BufferFromHostBuffer",
        "PJRT_LoadedExecutable_Execute",
        "PJRT_Buffer_ReadyEvent",
        "PJRT_Buffer_ToHostBuffer",
    ] {
        let error = use_everything(&told("hollow", call)).unwrap_err();
        assert!(
            matches!(error, Error::Plugin { call: hollow, .. } if hollow == call),
            "{call}: {error}"
        );
        nothing_is_left(call);
    }
}

fn a_destruction_that_fails_leaks_nothing(_: &Path) {
    for call in [
        "PJRT_Client_Destroy",
        "PJRT_LoadedExecutable_Destroy",
        "PJRT_Executable_Destroy",
        "PJRT_Buffer_Destroy",
        "PJRT_Event_Destroy",
    ] {
        assert_eq!(
            use_everything(&told("fail", call)),
            Ok(vec![1.0, 2.0]),
            "{call}"
        );
        nothing_is_left(call);
    }
}

fn what_is_optional_may_be_missing(_: &Path) {
    for call in [
        "PJRT_DeviceDescription_Attributes",
        "PJRT_Executable_OutputElementTypes",
        "PJRT_Executable_OutputDimensions",
        "PJRT_Executable_OptimizedProgram",
    ] {
        for what in ["fail", "missing"] {
            assert_eq!(
                use_everything(&told(what, call)),
                Ok(vec![1.0, 2.0]),
                "{what} {call}"
            );
        }
    }
    nothing_is_left("optional functions");
}

fn options_and_attributes_keep_their_values(_: &Path) {
    let options = [
        ("text", Value::Text("größer".to_owned())),
        ("empty", Value::Text(String::new())),
        ("int", Value::Int(-3)),
        ("ints", Value::Ints(vec![i64::MIN, 0, i64::MAX])),
        ("float", Value::Float(0.1)),
        ("bool", Value::Bool(true)),
        ("no", Value::Bool(false)),
    ];
    let client = Client::new(fake(), &options).unwrap();
    let [device] = client.devices() else {
        panic!("{:?}", client.devices());
    };
    assert_eq!((device.id, device.kind.as_str()), (7, "a fake device"));
    // The plugin gives them back, and one of a type that nobody knows.
    let expected = options.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(device.attributes, expected);
    assert_eq!(
        (client.platform_name(), client.platform_version()),
        ("fake", "")
    );
    let memory = client.device_memory(0).unwrap();
    assert_eq!(memory.bytes_in_use, 100);
    assert_eq!(
        (memory.peak_bytes_in_use, memory.bytes_limit),
        (None, Some(300))
    );
}

fn costs_and_memory_are_read_from_their_places(_: &Path) {
    let client = Client::new(fake(), &[]).unwrap();
    let program = client
        .compile("module", &CompileOptions::default())
        .unwrap();
    assert_eq!(
        program.cost().unwrap(),
        [("flops".to_owned(), Value::Float(12.5))]
    );
    let memory = program.memory().unwrap();
    assert_eq!(memory.generated_code_bytes, 3);
    assert_eq!(memory.argument_bytes, 4);
    assert_eq!(memory.output_bytes, 5);
    assert_eq!(memory.alias_bytes, 6);
    assert_eq!(memory.temp_bytes, 7);
    assert_eq!(memory.host_bytes, 8 + 9 + 10 - 11 + 12);
    assert_eq!(memory.peak_bytes, 13);
    assert_eq!(memory.total_bytes, 14);
    assert_eq!(memory.device_bytes(), 4 + 5 - 6 + 7 + 3);
}

fn a_donated_buffer_is_gone_and_a_kept_one_is_not(_: &Path) {
    let client = Client::new(fake(), &[]).unwrap();
    let program = client
        .compile("module", &CompileOptions::default())
        .unwrap();
    let upload = |values: &[f32]| {
        let values = Floats::vector(values);
        client.buffer_from_host(values.array(), 0).unwrap()
    };
    let (donated, kept) = (upload(&[1.0]), upload(&[2.0]));
    let outputs = program
        .execute(vec![Argument::Donate(donated), Argument::Keep(&kept)])
        .unwrap();
    // Two outputs and the kept one; the donated one stays until its run is known to be over.
    assert_eq!(live_objects().buffers, 4);
    outputs[1].wait().unwrap();
    assert_eq!(live_objects().buffers, 3);
    assert_eq!(floats(&kept.to_host().unwrap()), [2.0]);
    drop(kept);
    // The other way round, and the outputs of one run are the arguments of the next.
    let [first, second] = <[_; 2]>::try_from(outputs).unwrap();
    let outputs = program
        .execute(vec![Argument::Keep(&first), Argument::Donate(second)])
        .unwrap();
    assert_eq!(floats(&outputs[1].to_host().unwrap()), [2.0]);
    assert_eq!(floats(&first.to_host().unwrap()), [1.0]);
    // The same buffer may be kept twice.
    program
        .execute(vec![Argument::Keep(&first), Argument::Keep(&first)])
        .unwrap();
    // A run that the plugin refuses takes its donated arguments with it.
    let refused = program.execute(vec![Argument::Donate(first)]).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Pjrt {
                code: Code::InvalidArgument,
                ..
            }
        ),
        "{refused}"
    );
    drop((client, program));
    assert_eq!(live_objects().buffers, 2);
    drop(outputs);
    nothing_is_left("donations");
}

fn a_topology_is_made_asked_and_destroyed(_: &Path) {
    let error = Topology::new(fake(), "fake:9x9").unwrap_err();
    assert!(
        error.to_string().contains("no topology fake:9x9"),
        "{error}"
    );
    let topology = Topology::new(fake(), "fake:1x2").unwrap();
    assert_eq!(topology.devices().len(), 2);
    assert_eq!(topology.platform_name().unwrap(), "fake");
    assert_eq!(topology.platform_version().unwrap(), "1");
    let options = CompileOptions::default().with_copies(2, 1);
    let program = topology.compile("module", &options).unwrap();
    let refused = topology.compile("nonsense", &options).unwrap_err();
    assert!(refused.to_string().contains("not a module"), "{refused}");
    // The program does not need the topology.
    drop(topology);
    assert_eq!(program.num_outputs().unwrap(), 2);
    assert_eq!(program.memory().unwrap().temp_bytes, 7);
    drop(program);
    nothing_is_left("a topology");
}

fn threads_share_a_client(_: &Path) {
    let client = Client::new(fake(), &[]).unwrap();
    let program = client
        .compile("module", &CompileOptions::default())
        .unwrap();
    let seen = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (client, program, seen) = (client.clone(), &program, &seen);
            scope.spawn(move || {
                let values = [thread as f32, 0.5];
                let upload = || client.buffer_from_host(Floats::vector(&values).array(), 0);
                let arguments = [upload().unwrap(), upload().unwrap()];
                let outputs = program
                    .execute(arguments.map(Argument::Donate).into())
                    .unwrap();
                let output = floats(&outputs[1].to_host().unwrap());
                assert_eq!(output, values);
                seen.lock().unwrap().push(thread);
            });
        }
    });
    assert_eq!(seen.lock().unwrap().len(), 8);
    let transfers = client.transfers();
    assert_eq!(
        (transfers.host_to_device, transfers.host_to_device_bytes),
        (16, 128)
    );
    assert_eq!(
        (transfers.device_to_host, transfers.device_to_host_bytes),
        (8, 64)
    );
    drop((client, program));
    nothing_is_left("eight threads");
}

fn a_plugin_is_loaded_once(_: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link.so");
    #[cfg(unix)]
    std::os::unix::fs::symlink(fake().path(), &link).unwrap();
    #[cfg(not(unix))]
    std::fs::copy(fake().path(), &link).unwrap();
    let again = Plugin::load(&link).unwrap();
    assert_eq!(again.path(), fake().path());
    assert_eq!(again.api_version().to_string(), "0.81");
}

/// Loads a plugin that does not load.
fn refused(compiler: &Path, macros: &[&str]) -> PluginError {
    let folder = tempfile::tempdir().unwrap();
    let library = fake_plugin(compiler, folder.path(), "broken.cpp", macros);
    let error = Plugin::load(&library).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(library.to_str().unwrap()), "{text}");
    error
}

fn plugins_that_do_not_load_say_why(compiler: &Path) {
    let error = refused(compiler, &["NO_ENTRY_POINT"]);
    assert!(matches!(error, PluginError::NoEntryPoint { .. }), "{error}");
    assert!(error.to_string().contains("GetPjrtApi"), "{error}");

    let error = refused(compiler, &["NULL_TABLE"]);
    assert!(matches!(error, PluginError::NullTable { .. }), "{error}");

    // Too short for a version, and for the functions that read errors.
    for bytes in [8, 39, 63] {
        let error = refused(compiler, &[&format!("TABLE_BYTES={bytes}")]);
        assert!(
            matches!(error, PluginError::ShortTable { size, .. } if size == bytes),
            "{error}"
        );
    }

    for (major, advice) in [("1", "older plugin"), ("-1", "newer plugin")] {
        let error = refused(compiler, &[&format!("MAJOR={major}")]);
        assert!(matches!(error, PluginError::Version { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("{major}.81")) && text.contains(advice),
            "{text}"
        );
    }

    let error = refused(compiler, &["FAIL_TO_START"]);
    assert!(matches!(error, PluginError::Initialize { .. }), "{error}");
    assert!(error.to_string().contains("no such chip here"), "{error}");
}

fn an_older_plugin_works_as_far_as_its_table_goes(compiler: &Path) {
    // Ends before PJRT_Compile (slot 89): a client works, a topology is too new.
    let folder = tempfile::tempdir().unwrap();
    let bytes = format!("TABLE_BYTES={}", 40 + 8 * 89);
    let library = fake_plugin(compiler, folder.path(), "plugin.cpp", &[&bytes]);
    let plugin = Plugin::load(&library).unwrap();
    let client = Client::new(&plugin, &[]).unwrap();
    let program = client
        .compile("module", &CompileOptions::default())
        .unwrap();
    assert!(matches!(program.memory(), Err(Error::Missing { .. })));
    let topology = Topology::new(&plugin, "fake:1x2").unwrap();
    let error = topology
        .compile("module", &CompileOptions::default())
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Missing {
                call: "PJRT_Compile",
                ..
            }
        ),
        "{error}"
    );
    let error = client
        .compile("nonsense", &CompileOptions::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("INVALID_ARGUMENT: not a module"),
        "{error}"
    );
}

fn main() -> ExitCode {
    let need = Need {
        path: compiler(),
        reason: "needs: a C++ compiler; install g++ or clang++",
    };
    let folder = tempfile::tempdir().unwrap();
    if let Some(compiler) = &need.path {
        let library = fake_plugin(compiler, folder.path(), "plugin.cpp", &[]);
        FAKE.set(Plugin::load(&library).unwrap()).unwrap();
    }
    run(
        &need,
        true,
        tests![
            everything_works_when_nothing_fails,
            each_function_can_fail,
            each_function_can_be_missing,
            a_function_that_makes_nothing_is_an_error,
            a_destruction_that_fails_leaks_nothing,
            what_is_optional_may_be_missing,
            options_and_attributes_keep_their_values,
            costs_and_memory_are_read_from_their_places,
            a_donated_buffer_is_gone_and_a_kept_one_is_not,
            a_topology_is_made_asked_and_destroyed,
            threads_share_a_client,
            a_plugin_is_loaded_once,
            plugins_that_do_not_load_say_why,
            an_older_plugin_works_as_far_as_its_table_goes,
        ],
    )
}
