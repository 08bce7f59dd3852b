//! Files that are no plugins. What a compiler must make first is in `fake.rs`.

use std::{fs, path::Path};

use pjrt_runtime::{Plugin, PluginError};

/// Loads a path that must be refused: the error names it.
fn refused(path: &Path) -> PluginError {
    let error = Plugin::load(path).unwrap_err();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name), "{error}");
    error
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PluginError) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::write(&path, bytes).unwrap();
    let error = refused(&path);
    (folder, error)
}

#[test]
fn a_path_that_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(&folder.path().join("nothing.so"));
    assert!(matches!(error, PluginError::Open { .. }), "{error}");
}

#[test]
fn a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, PluginError::NotAFile { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_device() {
    let error = refused(Path::new("/dev/null"));
    assert!(matches!(error, PluginError::NotAFile { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.so");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let error = refused(&path);
    // Root may read it all the same, and finds it empty.
    let is_root = fs::read(&path).is_ok();
    match error {
        PluginError::Open { .. } => assert!(!is_root),
        PluginError::NotALibrary { .. } => assert!(is_root),
        other => panic!("{other}"),
    }
}

#[cfg(unix)]
#[test]
fn files_that_are_no_libraries() {
    for bytes in [
        &b""[..],
        b"#!/bin/sh\n",
        &[0x7f, b'E', b'L', b'F'],
        &[0; 4096],
        b"PK\x03\x04",
    ] {
        let (_, error) = file(bytes);
        assert!(matches!(error, PluginError::NotALibrary { .. }), "{error}");
    }
}

/// The first 64 bytes of an ELF file: 64-bit, little-endian, of that type and machine.
#[cfg(target_os = "linux")]
fn elf(kind: u8, machine: u8) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16] = kind;
    header[18] = machine;
    header[20] = 1;
    header
}

#[cfg(target_os = "linux")]
const SHARED_OBJECT: u8 = 3;

#[cfg(target_os = "linux")]
#[test]
fn a_library_for_another_processor() {
    let (x86_64, aarch64, riscv) = (62, 183, 243);
    let (other, name) = if cfg!(target_arch = "x86_64") {
        (aarch64, "aarch64")
    } else {
        (x86_64, "x86-64")
    };
    for (machine, name) in [(other, name), (riscv, "machine 243")] {
        let (_, error) = file(&elf(SHARED_OBJECT, machine));
        assert!(matches!(error, PluginError::Architecture { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_elf_file_that_is_not_a_library() {
    let object_file = 1;
    let (_, error) = file(&elf(
        object_file,
        if cfg!(target_arch = "x86_64") {
            62
        } else {
            183
        },
    ));
    assert!(matches!(error, PluginError::NotALibrary { .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_that_was_cut_short() {
    // The header says what it should, and nothing follows.
    let (_, error) = file(&elf(
        SHARED_OBJECT,
        if cfg!(target_arch = "x86_64") {
            62
        } else {
            183
        },
    ));
    assert!(matches!(error, PluginError::Load { .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_program() {
    // Position-independent, so that its header is a library's: the loader refuses it.
    let error = refused(&std::env::current_exe().unwrap());
    assert!(matches!(error, PluginError::Load { .. }), "{error}");
}
