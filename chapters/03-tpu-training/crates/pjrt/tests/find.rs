//! Where plugins are looked for, in temporary folders.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use pjrt_runtime::{Platform, PluginError, SearchPath, find_plugin};

/// A folder with these empty files.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    folder
}

fn environment(paths: &[&Path]) -> SearchPath {
    SearchPath {
        environment: Some(env::join_paths(paths).unwrap()),
        ..SearchPath::default()
    }
}

fn looked(platform: Platform, search: &SearchPath) -> (Vec<PathBuf>, String) {
    let error = find_plugin(platform, search).unwrap_err();
    let text = error.to_string();
    match error {
        PluginError::NotFound { looked, .. } => (looked, text),
        other => panic!("{other}"),
    }
}

#[test]
fn each_platform_has_a_folder() {
    let native = folder(&[
        "cpu/xla_cpu_pjrt.so",
        "cuda/xla_cuda_plugin.so",
        "tpu/libtpu.so",
    ]);
    let search = SearchPath {
        folders: vec![native.path().to_owned()],
        ..SearchPath::default()
    };
    for (platform, file) in [
        (Platform::Cpu, "cpu/xla_cpu_pjrt.so"),
        (Platform::Cuda, "cuda/xla_cuda_plugin.so"),
        (Platform::Tpu, "tpu/libtpu.so"),
    ] {
        assert_eq!(
            find_plugin(platform, &search).unwrap(),
            native.path().join(file)
        );
    }
}

#[test]
fn the_explicit_path_wins_and_nothing_replaces_it() {
    let native = folder(&["cpu/xla_cpu_pjrt.so"]);
    let mine = folder(&["any-name.so", "other/libtpu.so"]);
    let search = |explicit: PathBuf| SearchPath {
        explicit: Some(explicit),
        environment: Some(native.path().join("cpu").into_os_string()),
        folders: vec![native.path().to_owned()],
    };
    let file = mine.path().join("any-name.so");
    assert_eq!(
        find_plugin(Platform::Cpu, &search(file.clone())).unwrap(),
        file
    );
    let other = mine.path().join("other");
    let found = find_plugin(Platform::Tpu, &search(other.clone())).unwrap();
    assert_eq!(found, other.join("libtpu.so"));
    // Nothing there, and a folder without one: an error, although the others have one.
    let missing = mine.path().join("missing.so");
    assert_eq!(looked(Platform::Cpu, &search(missing.clone())).0, [missing]);
    let paths = looked(Platform::Cpu, &search(other.clone())).0;
    assert_eq!(paths, [other.clone(), other.join("cpu")]);
}

#[test]
fn the_environment_comes_before_the_folders() {
    let native = folder(&["cpu/xla_cpu_pjrt.so"]);
    let listed = folder(&["empty/nothing", "second/xla_cpu_pjrt.so", "third/libtpu.so"]);
    let [empty, second, third] = ["empty", "second", "third"].map(|name| listed.path().join(name));
    let missing = listed.path().join("missing");
    let library = third.join("libtpu.so");
    let search = SearchPath {
        folders: vec![native.path().to_owned()],
        ..environment(&[&missing, &empty, &second, &library])
    };
    let found = find_plugin(Platform::Cpu, &search).unwrap();
    assert_eq!(found, second.join("xla_cpu_pjrt.so"));
    // A file in the list counts for the platform whose name it has.
    assert_eq!(find_plugin(Platform::Tpu, &search).unwrap(), library);
    let search = SearchPath {
        folders: vec![native.path().to_owned()],
        ..environment(&[&library])
    };
    let found = find_plugin(Platform::Cpu, &search).unwrap();
    assert_eq!(found, native.path().join("cpu/xla_cpu_pjrt.so"));
}

#[test]
fn an_empty_list_names_no_folder() {
    // Two empty parts: not the folder where the program runs.
    let search = SearchPath {
        environment: Some(":".into()),
        ..SearchPath::default()
    };
    assert!(looked(Platform::Cpu, &search).0.is_empty());
}

#[test]
fn the_error_says_where_and_what_to_do() {
    let folder = folder(&[]);
    let search = SearchPath {
        folders: vec![folder.path().to_owned()],
        ..SearchPath::default()
    };
    for (platform, name, command) in [
        (Platform::Cpu, "cpu", "cargo x setup\""),
        (Platform::Cuda, "cuda", "cargo x setup --cuda\""),
        (Platform::Tpu, "tpu", "cargo x setup --tpu\""),
    ] {
        let (paths, text) = looked(platform, &search);
        assert_eq!(paths, [folder.path().to_owned(), folder.path().join(name)]);
        let path = folder.path().join(name).display().to_string();
        for part in [
            &format!("{name:?}"),
            path.as_str(),
            command,
            "--plugin PATH",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
