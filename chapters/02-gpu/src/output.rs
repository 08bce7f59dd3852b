//! Where a measurement ends: a file, lines or JSON on stdout, an exit code.

use accel::{
    exit,
    results::{ResultFile, Status},
};
use anyhow::Context;
use cpu_inference::{
    failure::print_line,
    setting::{self, Setting},
};

use crate::{cli::OutputArgs, commands::CHAPTER};

/// A result file of this chapter, with the versions of what computes on this device.
pub fn new_file(measurement: &str, setting: &Setting) -> ResultFile {
    let mut file = CHAPTER.result_file(measurement);
    if setting.device.is_cuda() {
        // Asked only where CUDA works: without it libtorch has no answer.
        let libraries = &mut file.environment.libraries;
        libraries.insert("cuDNN".into(), cudnn(tch::utils::version_cudnn()));
        libraries.insert("CUDA".into(), cuda(tch::utils::version_cudart()));
    }
    file
}

/// 91900 is 9.19.0.
fn cudnn(version: i64) -> String {
    let (major, rest) = (version / 10_000, version % 10_000);
    format!("{major}.{}.{}", rest / 100, rest % 100)
}

/// 13000 is 13.0.
fn cuda(version: i64) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// Whether this CPU computes in bf16; without its instructions every product goes by f32.
pub fn cpu_has_bf16() -> bool {
    let features = setting::environment().cpu_features;
    features.iter().any(|feature| feature.contains("bf16"))
}

/// A measurement's rows for people.
pub type Lines = fn(&ResultFile) -> Vec<String>;

/// A library's message without the folders of the machine that it was built or runs on:
/// a result file may be published.
pub fn without_folders(message: &str) -> String {
    let name = |word: &str| match word.trim_start_matches(['(', '"', '\'']).starts_with('/') {
        true => word.rsplit('/').next().unwrap_or(word).to_owned(),
        false => word.to_owned(),
    };
    message.split(' ').map(name).collect::<Vec<_>>().join(" ")
}

/// Writes the file, and prints it, or its rows for people.
///
/// Returns the exit code: 1 if a row failed.
///
/// # Errors
/// What could not be written.
pub fn finish(file: ResultFile, output: &OutputArgs, lines: Lines) -> anyhow::Result<u8> {
    let mut file = file;
    for reason in file.rows.iter_mut().filter_map(|row| row.reason.as_mut()) {
        *reason = without_folders(reason);
    }
    if let Some(path) = &output.out {
        file.write(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if output.json {
        print_line(&serde_json::to_string(&file)?)?;
    } else {
        for line in lines(&file) {
            print_line(&line)?;
        }
    }
    let failed = file.rows.iter().any(|row| row.status == Status::Failed);
    Ok(if failed { exit::FAILED } else { exit::OK })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_as_people_do() {
        assert_eq!(cudnn(91900), "9.19.0");
        assert_eq!(cudnn(91002), "9.10.2");
        assert_eq!(cuda(13000), "13.0");
        assert_eq!(cuda(12080), "12.8");
    }

    #[test]
    fn folders_are_cut_and_nothing_else() {
        for (said, told) in [
            (
                "/opt/x/libtorch_cuda.so: file too short",
                "libtorch_cuda.so: file too short",
            ),
            (
                "raised (/pytorch/c10/cuda/CUDA.cpp:42)",
                "raised CUDA.cpp:42)",
            ),
            ("needs 5 GiB/s, and/or more", "needs 5 GiB/s, and/or more"),
        ] {
            assert_eq!(without_folders(said), told);
        }
    }
}
