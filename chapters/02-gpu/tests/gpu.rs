//! What only a GPU can show. Without one, each test is ignored with its reason.

mod program;

use std::process::{Command, ExitCode};

use accel::results::Status;
use libtest_mimic::{Arguments, Failed, Trial};
use program::{finish, program};

const NEED: &str = "needs: a GPU; cargo x setup --cuda on a machine with one";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let here = has_gpu();
    let trial = |(name, test): (&str, fn())| {
        let run = move || match here {
            true => {
                test();
                Ok(())
            }
            // Asked for by --ignored.
            false => Err(Failed::from(NEED)),
        };
        match here {
            true => Trial::test(name, run),
            false => Trial::test(name, run)
                .with_ignored_flag(true)
                .with_kind(NEED),
        }
    };
    let tests: [(&str, fn()); 6] = [
        ("auto_takes_the_gpu_and_says_why", auto_takes_the_gpu),
        ("the_digits_are_read_alike", the_digits_are_read_alike),
        ("a_gpu_that_does_not_exist", a_gpu_that_does_not_exist),
        ("every_step_of_the_ladder_runs", every_step_runs),
        ("the_sweep_ends_out_of_memory", the_sweep_ends),
        ("the_roofline_has_a_gpu_of_its_own", the_roofline),
    ];
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}

/// Whether the driver lists a GPU: not by our own code, which is to be tested.
fn has_gpu() -> bool {
    Command::new("nvidia-smi")
        .arg("-L")
        .output()
        .is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"GPU"))
}

fn auto_takes_the_gpu() {
    let folder = tempfile::tempdir().unwrap();
    finish(
        program()
            .args(["run", "--quick", "--out"])
            .arg(folder.path()),
    )
    .expect(0, &["device cuda:0: ", "working CUDA device"]);
}

fn the_digits_are_read_alike() {
    let summary = |device: &str| {
        let folder = tempfile::tempdir().unwrap();
        let run = finish(
            program()
                .args(["run", "--quick", "--json", "--quiet", "--device", device])
                .arg("--out")
                .arg(folder.path()),
        );
        run.expect(0, &[]);
        let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        summary["accuracy"].as_f64().unwrap()
    };
    assert_eq!(summary("cuda"), summary("cpu"));
}

fn a_gpu_that_does_not_exist() {
    finish(program().args(["run", "--device", "cuda:99"]))
        .expect(3, &["--device cuda:99 does not exist: this machine has"]);
}

fn every_step_runs() {
    let file = finish(program().args([
        "ladder", "--arch", "resnet18", "--image", "64", "--device", "cuda", "--quick", "--json",
        "--quiet", "--batch", "16",
    ]))
    .result();
    for row in &file.rows {
        assert_eq!(row.status, Status::Ok, "{}: {:?}", row.id, row.reason);
    }
}

fn the_sweep_ends() {
    // ResNet-50 on 1024 x 1024 pixels: 2 GB an image in f32, more than any GPU has for 4096.
    let file = finish(program().args([
        "tune", "--arch", "resnet50", "--image", "1024", "--dtype", "f32", "--rung", "eager",
        "--device", "cuda", "--quick", "--json", "--quiet",
    ]))
    .result();
    assert!(file.row("b1").is_some() && file.row("out-of-memory").is_some());
    assert!(file.row("knee").is_some());
}

fn the_roofline() {
    let file = finish(program().args([
        "roofline", "--archs", "resnet18", "--device", "cuda", "--quick", "--json", "--quiet",
    ]))
    .result();
    let share = file.row("resnet18-bf16").unwrap().metrics["roofline_share"];
    assert!((0.01..1.5).contains(&share), "{share}");
}
