//! Devices that are not there, libraries that are broken, batches without memory: each
//! has its message and its exit code.

mod program;

use std::{fs, path::Path};

use accel::results::{ResultFile, Status};
use program::{finish, program, root};

/// The shortest run: a few of the digits.
fn run(out: &Path) -> assert_cmd::Command {
    let mut command = program();
    command.args(["run", "--quick", "--count", "8", "--batch", "4", "--out"]);
    command.arg(out);
    command
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn wrong_usage_ends_with_2() {
    for (words, said) in [
        (&["fly"][..], "unrecognized subcommand 'fly'"),
        (&["run", "--device", "gpu"], "unknown device \"gpu\""),
        (
            &["run", "--batch", "0"],
            "expected a batch size from 1 to 4096",
        ),
        (
            &["run", "--dtype", "int8"],
            "expected f32, bf16 or f16, got \"int8\"",
        ),
        (
            &["tune", "--max-batch", "0"],
            "expected a batch size from 1 to",
        ),
        (
            &["tune", "--knee", "1.5"],
            "expected a share from 0 to 1, got \"1.5\"",
        ),
        (
            &["tune", "--knee", "nan"],
            "expected a share from 0 to 1, got \"nan\"",
        ),
        (&["ladder", "--rounds", "0"], "expected a count from 1"),
        (&["roofline", "--image", "16"], "16 is not in 32..=1024"),
        (
            &["roofline", "--archs", "vgg16"],
            "expected resnet18, resnet34 or resnet50",
        ),
        (&["learn", "--publish", "--quick"], "cannot be used with"),
    ] {
        finish(program().args(words)).expect(2, &[said]);
    }
}

#[test]
fn an_empty_cuda_visible_devices_is_told_from_a_machine_without_a_gpu() {
    let out = folder();
    for value in ["", "-1"] {
        finish(
            run(out.path())
                .args(["--device", "cuda"])
                .env("CUDA_VISIBLE_DEVICES", value),
        )
        .expect(
            3,
            &[
                "--device cuda is not available",
                "CUDA_VISIBLE_DEVICES=",
                "hides every GPU; unset it",
            ],
        );
    }
    assert!(!out.path().join("predictions.jsonl").exists());
}

#[test]
fn auto_says_what_it_chose_and_why() {
    let out = folder();
    finish(run(out.path()).env("CUDA_VISIBLE_DEVICES", "")).expect(
        0,
        &[
            "device cpu: ",
            "no CUDA device works",
            "CUDA_VISIBLE_DEVICES",
        ],
    );
    let file = ResultFile::read(out.path().join("result.json")).unwrap();
    assert_eq!(file.chapter, "02-gpu");
    assert_eq!(file.row("pipeline").unwrap().workload["device"], "cpu");
}

#[test]
fn a_fallback_warns_also_where_the_rest_is_quiet() {
    let out = folder();
    let run = finish(
        run(out.path())
            .args(["--device", "cuda:7", "--fallback", "--quiet"])
            .env("CUDA_VISIBLE_DEVICES", ""),
    );
    run.expect(
        0,
        &[
            "warning: --device cuda:7 is not available",
            "going on with cpu",
        ],
    );
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(out.path().join("summary.json").exists());
}

#[test]
fn a_tpu_is_for_chapter_3() {
    finish(program().args(["run", "--device", "tpu"]))
        .expect(3, &["--device tpu is not available", "chapter 3"]);
}

#[test]
fn every_command_ends_with_3_without_the_device() {
    for words in [
        &["ladder", "--arch", "resnet18", "--image", "32"][..],
        &["tune", "--arch", "resnet18", "--image", "32"],
        &["roofline", "--archs", "resnet18"],
        &["learn", "--quick"],
    ] {
        finish(
            program()
                .args(words)
                .args(["--device", "cuda"])
                .env("CUDA_VISIBLE_DEVICES", ""),
        )
        .expect(3, &["--device cuda is not available"]);
    }
}

#[cfg(target_os = "linux")]
mod library {
    use super::*;

    /// The program with another libtorch_cuda.so before all others.
    fn with_library(bytes: &[u8]) -> program::Finished {
        let (libraries, out) = (folder(), folder());
        fs::write(libraries.path().join("libtorch_cuda.so"), bytes).unwrap();
        finish(
            run(out.path())
                .args(["--device", "cuda"])
                .env("LD_LIBRARY_PATH", libraries.path()),
        )
    }

    #[test]
    fn a_file_that_is_no_library_is_broken() {
        for bytes in [
            &b""[..],
            b"no library at all, and long enough for a header of ELF, really",
        ] {
            with_library(bytes).expect(
                3,
                &["libtorch_cuda.so cannot be loaded", "cargo x setup --cuda"],
            );
        }
    }

    #[test]
    fn a_library_that_registers_nothing_is_of_another_build() {
        // Any library will do; this one is here wherever libtorch is.
        let other = root().join(".native/libtorch/cpu/lib/libgomp.so.1");
        let Ok(bytes) = fs::read(&other) else {
            // A libtorch of the user's has it elsewhere, or has none.
            assert!(
                std::env::var_os("LIBTORCH").is_some(),
                "{}",
                other.display()
            );
            return;
        };
        with_library(&bytes).expect(
            3,
            &[
                "libtorch_cuda.so was loaded, and libtorch still has no CUDA",
                "same build",
            ],
        );
    }
}

#[test]
fn the_fused_rung_needs_a_gpu() {
    let out = folder();
    finish(run(out.path()).args(["--rung", "fused", "--device", "cpu"])).expect(
        3,
        &["the rung fused in f32 does not work", "need a CUDA device"],
    );
}

#[test]
fn a_result_that_cannot_be_written_is_told() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    finish(
        program()
            .args([
                "tune",
                "--weights",
                "digits",
                "--device",
                "cpu",
                "--max-batch",
                "1",
            ])
            .args(["--quick", "--out"])
            .arg(file.join("tune.json")),
    )
    .expect(1, &["cannot write"]);
}

/// Memory runs out for real: the system lets the program have no more than this.
#[cfg(target_os = "linux")]
mod memory {
    use super::*;

    /// The program under a limit of address space, in KiB.
    fn limited(kilobytes: u64, words: &[&str]) -> assert_cmd::Command {
        let mut command = assert_cmd::Command::new("sh");
        let script = format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_gpu-inference")])
            .args(words)
            .timeout(program::LIMIT)
            .env_remove("PJRT_DEVICE");
        command
    }

    #[test]
    fn a_sweep_that_runs_out_of_memory_has_that_as_its_result() {
        let file = finish(&mut limited(
            LIMIT,
            &[
                "tune",
                "--arch",
                "resnet18",
                "--image",
                "64",
                "--device",
                "cpu",
                "--threads",
                "2",
                "--max-batch",
                "65536",
                "--quick",
                "--json",
                "--quiet",
            ],
        ))
        .result();
        let out = file.row("out-of-memory").expect("a row for it");
        let batch = out.metrics["out_of_memory_batch"];
        assert!(batch >= 2.0 && (batch as u64).is_power_of_two(), "{batch}");
        // What was measured before stays, up to the size below.
        assert!(file.row(&format!("b{}", batch as u64 / 2)).is_some());
        assert!(file.row("knee").is_some());
        assert!(file.rows.iter().all(|row| row.status == Status::Ok));
    }

    const LIMIT: u64 = 1_400_000;
}
