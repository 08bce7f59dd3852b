//! A small project on disk with tiny wheels, and stand-ins for the machine's programs.
#![allow(dead_code, reason = "every test program uses its own part of this")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// Stands in for python3 with pip: takes wheels from $INDEX, and misbehaves as $PIP_DOES says.
const FAKE_PYTHON: &str = r#"#!/bin/sh
case "$*" in *--version*) echo "Python 3.12.0"; exit 0;; esac
echo "$@" >> "$INDEX/calls"
while [ $# -gt 0 ]; do
    case "$1" in
        --dest) dest=$2;;
        --requirement) name=$(sed 's/==.*//' "$2");;
    esac
    shift
done
case "$PIP_DOES" in
    hang)
        echo partial > "$TMPDIR/partial.whl"
        echo $$ > "$INDEX/pid"
        exec sleep 60;;
    fail) echo "ERROR: the mirror is down" >&2; exit 1;;
    tamper) echo tampered > "$dest/$name.whl"; exit 0;;
    slow) sleep 1;;
esac
cp "$INDEX/$name"-*.whl "$dest/"
"#;

pub struct Project {
    folder: TempDir,
}

impl Project {
    /// A project that pins one part for `platform` made of two wheels; the wheels lie in `index()`.
    pub fn new() -> Self {
        let project = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        fs::create_dir_all(project.index()).expect("a folder");
        let tiny = project.wheel(
            "tiny",
            &[("tiny/include/a.h", "header"), ("tiny/lib/liba.so", "a")],
        );
        let small = project.wheel("small", &[("small/libb.so", "bb"), ("small/unwanted", "c")]);
        let pins = format!(
            r#"
schema_version = 1
[[part]]
title = "tiny libtorch"
path = "libtorch/cpu"
platform = "test"
libtorch = "2.11.0"
unpacked_bytes = 10
write = {{ "build-version" = "2.11.0\n" }}
[[part.wheel]]
name = "tiny"
version = "1.0"
platforms = ["any"]
sha256 = "{}"
bytes = {}
keep = {{ "tiny/include/" = "include/", "tiny/lib/liba.so" = "lib/liba.so" }}
[[part.wheel]]
name = "small"
version = "1.0"
platforms = ["any"]
sha256 = "{}"
bytes = {}
keep = {{ "small/libb.so" = "lib/libb.so" }}
"#,
            tiny.0, tiny.1, small.0, small.1
        );
        project.write("ci/native.toml", &pins);
        let python = project.path("bin/python3");
        project.write("bin/python3", FAKE_PYTHON);
        executable(&python);
        project
    }

    /// Pins two PJRT plugins as well: one that is always fetched, and one for `--tpu`.
    pub fn pin_plugins(&self) {
        let mut pins = fs::read_to_string(self.path("ci/native.toml")).expect("the pins");
        for (name, flag) in [("cpu", ""), ("tpu", "flag = \"tpu\"\n")] {
            let (sha256, bytes) = self.wheel(name, &[("p/plugin.so", "plugin"), ("p/notes", "")]);
            pins.push_str(&format!(
                r#"
[[part]]
title = "tiny {} plugin"
path = "pjrt/{name}"
platform = "test"
{flag}pjrt = "{name}"
unpacked_bytes = 6
[[part.wheel]]
name = "{name}"
version = "1.0"
platforms = ["any"]
sha256 = "{sha256}"
bytes = {bytes}
keep = {{ "p/plugin.so" = "{name}.so" }}
"#,
                name.to_uppercase(),
            ));
        }
        self.write("ci/native.toml", &pins);
    }

    /// Pins a libtorch for CUDA, for `--cuda`.
    pub fn pin_cuda_libtorch(&self) {
        let (sha256, bytes) = self.wheel("torch", &[("torch/lib/libtorch_cuda.so", "cuda")]);
        self.pin(&format!(
            r#"
[[part]]
title = "tiny libtorch for CUDA"
path = "libtorch/cuda"
platform = "test"
flag = "cuda"
libtorch = "2.11.0"
unpacked_bytes = 4
link = {{ lib = "torch/lib" }}
[[part.wheel]]
name = "torch"
version = "1.0"
platforms = ["any"]
sha256 = "{sha256}"
bytes = {bytes}
keep = {{ "torch/lib/" = "torch/lib/" }}
"#
        ));
    }

    /// Pins both engines, for `--engines`.
    pub fn pin_engines(&self) {
        for (name, title) in [
            ("onnxruntime", "tiny ONNX Runtime"),
            ("openvino", "tiny OpenVINO"),
        ] {
            let (sha256, bytes) = self.wheel(name, &[("e/library.so", name)]);
            self.pin(&format!(
                r#"
[[part]]
title = "{title}"
path = "engines/{name}"
platform = "test"
flag = "engines"
engine = "{name}"
unpacked_bytes = 11
[[part.wheel]]
name = "{name}"
version = "1.0"
platforms = ["any"]
sha256 = "{sha256}"
bytes = {bytes}
keep = {{ "e/library.so" = "lib{name}.so" }}
"#
            ));
        }
    }

    /// Adds to the pins.
    fn pin(&self, text: &str) {
        let pins = fs::read_to_string(self.path("ci/native.toml")).expect("the pins");
        self.write("ci/native.toml", &(pins + text));
    }

    /// Makes the pins those of the machine that runs the tests.
    pub fn pin_for_this_platform(&self) {
        let arch = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("macos", "aarch64") => "arm64",
            (_, arch) => arch,
        };
        let here = format!("\"{}-{arch}\"", std::env::consts::OS);
        let pins = fs::read_to_string(self.path("ci/native.toml")).expect("the pins");
        self.write("ci/native.toml", &pins.replace("\"test\"", &here));
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    pub fn index(&self) -> PathBuf {
        self.path("index")
    }

    pub fn part(&self) -> PathBuf {
        self.path(".native/libtorch/cpu")
    }

    pub fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// A program of the machine that is replaced by a shell script.
    pub fn fake(&self, name: &str, script: &str) {
        self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
        executable(&self.path(&format!("bin/{name}")));
    }

    /// Writes a wheel that pip accepts into the index; its SHA-256 and size.
    pub fn wheel(&self, name: &str, entries: &[(&str, &str)]) -> (String, u64) {
        let path = self.index().join(format!("{name}-1.0-py3-none-any.whl"));
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).expect("a file"));
        let info = |file: &str| format!("{name}-1.0.dist-info/{file}");
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
        let wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned();
        let mut entries: Vec<(String, String)> = (entries.iter())
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect();
        entries.push((info("METADATA"), metadata));
        entries.push((info("WHEEL"), wheel));
        entries.push((info("RECORD"), String::new()));
        for (path, text) in entries {
            zip.start_file(path, SimpleFileOptions::default())
                .expect("an entry");
            zip.write_all(text.as_bytes()).expect("an entry");
        }
        zip.finish().expect("a wheel");
        let bytes = fs::read(&path).expect("the wheel");
        let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (hex(&Sha256::digest(&bytes)), bytes.len() as u64)
    }

    /// `cargo x` in this project, with the fake python3 first on PATH.
    pub fn x(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_x"));
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let mut path = std::ffi::OsString::from(self.path("bin"));
        path.push(":");
        path.push(rest);
        command
            .arg("--root")
            .arg(self.root())
            .args(arguments)
            .current_dir(self.root())
            .env("PATH", path)
            .env("INDEX", self.index())
            .env_remove("LIBTORCH")
            .env_remove("PJRT_PLUGIN_LIBRARY_PATH")
            .env_remove("ORT_DYLIB_PATH")
            .env_remove("OPENVINO_INSTALL_DIR")
            .env_remove("PIP_DOES");
        command
    }

    pub fn setup(&self) -> Command {
        self.x(&["setup", "--platform", "test"])
    }

    /// The pip downloads so far.
    pub fn downloads(&self) -> usize {
        let calls = fs::read_to_string(self.index().join("calls")).unwrap_or_default();
        calls.lines().count()
    }

    /// Asserts that the part is whole, and that nothing but it and the lock is left.
    pub fn assert_ready(&self) {
        let read = |path: &str| fs::read_to_string(self.part().join(path)).expect(path);
        assert_eq!(read("include/a.h"), "header");
        assert_eq!(read("lib/liba.so"), "a");
        assert_eq!(read("lib/libb.so"), "bb");
        assert_eq!(read("build-version"), "2.11.0\n");
        assert!(!self.part().join("lib/unwanted").exists());
        assert_eq!(self.native_names(), [".lock", "libtorch"]);
    }

    /// What lies in .native, sorted.
    pub fn native_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path(".native")).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| {
                let name = entry.expect("an entry").file_name();
                name.to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }

    /// A folder that looks like a libtorch of this version.
    pub fn libtorch(&self, version: &str) -> PathBuf {
        let library = format!("mine/lib/libtorch_cpu{}", std::env::consts::DLL_SUFFIX);
        self.write("mine/include/torch/csrc/api/include/torch/torch.h", "");
        self.write(&library, "");
        self.write("mine/build-version", &format!("{version}\n"));
        self.path("mine")
    }
}

/// Lets a file be run.
pub fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}
