//! Inference engines beside libtorch: the user's own libraries, by their usual
//! variables, win over the project's.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An engine whose library is loaded at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// ONNX Runtime, with its CPU provider.
    OnnxRuntime,
    /// OpenVINO, with its CPU plugin.
    OpenVino,
}

/// All of them, in the order of reports.
pub const ALL: [Engine; 2] = [Engine::OnnxRuntime, Engine::OpenVino];

impl Engine {
    /// The name that its makers write.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "ONNX Runtime",
            Self::OpenVino => "OpenVINO",
        }
    }

    /// The variable by which a user points at a library of their own: for ONNX Runtime
    /// the file, for OpenVINO the folder of an installation.
    pub fn variable(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "ORT_DYLIB_PATH",
            Self::OpenVino => "OPENVINO_INSTALL_DIR",
        }
    }
}

/// The user's library for `engine`; `None` if the variable is unset or leads nowhere.
pub fn of_the_user(engine: Engine) -> Option<PathBuf> {
    existing(engine, std::env::var_os(engine.variable())?.into())
}

fn existing(engine: Engine, path: PathBuf) -> Option<PathBuf> {
    let there = match engine {
        Engine::OnnxRuntime => path.is_file(),
        Engine::OpenVino => path.is_dir(),
    };
    there.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_leads_nowhere_is_no_library() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libonnxruntime.so");
        std::fs::write(&file, "").unwrap();
        let folder = folder.path().to_owned();
        let found = |engine, path: &PathBuf| existing(engine, path.clone()).is_some();
        assert!(found(Engine::OnnxRuntime, &file));
        assert!(!found(Engine::OnnxRuntime, &folder));
        assert!(found(Engine::OpenVino, &folder));
        assert!(!found(Engine::OpenVino, &file));
        for engine in ALL {
            assert!(!found(engine, &PathBuf::new()));
            assert!(!found(engine, &folder.join("none")));
        }
    }
}
