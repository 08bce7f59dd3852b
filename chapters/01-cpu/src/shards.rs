//! Pictures on request, a shard at a time, for whatever hands out work to machines (chapter 4 has
//! Apache Beam do it). One JSON object a line in, one a line out.
//!
//! | line | meaning |
//! | --- | --- |
//! | `{"ready": {"device", "model"}}` | said once: the model is loaded, and stays |
//! | request `{"id", "paths": [...]}` | classify these, relative to the root |
//! | `{"done": {"id", "predictions", "bad", "seconds"}}` | each path is in one of the two lists |
//! | `{"failed": {"id", "kind", "message"}}` | no request (`refused`), or the model failed (`other`) |
//!
//! A prediction is `{"path", "top": [{"class", "name", "probability"}]}`, a bad picture
//! `{"path", "error"}`.

use std::{
    fs,
    io::{self, BufRead},
    path::{Component, Path, PathBuf},
    sync::{Arc, atomic::AtomicBool, mpsc},
    time::Instant,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    engine::Engine,
    failure::{Refused, print_line},
    model::Model,
    pipeline::{self, Input, Item, Prediction, Settings},
    preprocess::Transform,
};

/// Most paths in a shard: an answer is held in memory.
pub const MAX_PATHS: usize = 100_000;

/// A shard.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: String,
    paths: Vec<String>,
}

/// A picture without a prediction, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Bad {
    path: String,
    error: String,
}

/// Makes the engine: at the beginning, and again after one that failed.
pub type Load<'a> = dyn Fn(&Model) -> anyhow::Result<Box<dyn Engine>> + 'a;

/// A model that waits for shards.
pub struct Classifier<'a> {
    root: PathBuf,
    model: Model,
    load: &'a Load<'a>,
    /// None after a failure.
    engine: Option<Box<dyn Engine>>,
    settings: Settings,
    runtime: Runtime,
}

impl<'a> Classifier<'a> {
    /// Loads the model.
    ///
    /// * `root`: no picture outside of this folder is read
    ///
    /// # Errors
    /// [`Refused`]: no such folder. The model's.
    pub fn new(
        root: &Path,
        model: Model,
        settings: Settings,
        load: &'a Load<'a>,
    ) -> anyhow::Result<Self> {
        let refuse = |why: String| {
            Refused(format!(
                "--root {}: {why}; give the folder that the pictures lie in",
                root.display()
            ))
        };
        let root = fs::canonicalize(root).map_err(|error| refuse(error.to_string()))?;
        if !root.is_dir() {
            return Err(refuse("not a folder".to_owned()).into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        Ok(Classifier {
            engine: Some(load(&model)?),
            root,
            model,
            load,
            settings,
            runtime,
        })
    }

    /// Answers requests on stdin until it ends.
    ///
    /// * `device`: its name, for the first line
    ///
    /// # Errors
    /// Only if stdin or stdout break; a shard that fails is an answer.
    pub fn serve(mut self, device: &str) -> anyhow::Result<()> {
        let ready = json!({"ready": {"device": device, "model": self.model.origin}});
        print_line(&ready.to_string())?;
        // By bytes: a line that is not UTF-8 is a bad request, not the end of the input.
        for line in io::stdin().lock().split(b'\n') {
            let line = line.context("cannot read requests from stdin")?;
            if !line.iter().all(u8::is_ascii_whitespace) {
                print_line(&self.answer(&line).to_string())?;
            }
        }
        Ok(())
    }

    fn answer(&mut self, line: &[u8]) -> Value {
        let request = match parse(line) {
            Ok(request) => request,
            Err((id, message)) => return failed(&id, "refused", &message),
        };
        let start = Instant::now();
        match self.classify(&request) {
            Ok((predictions, bad)) => json!({"done": {
                "id": request.id,
                "predictions": predictions,
                "bad": bad,
                "seconds": start.elapsed().as_secs_f64(),
            }}),
            Err(error) => failed(&request.id, "other", &format!("{error:#}")),
        }
    }

    // ANCHOR: classify
    /// Sends a shard through the pipeline; the engine comes back for the next one.
    fn classify(&mut self, request: &Request) -> anyhow::Result<(Vec<Value>, Vec<Bad>)> {
        let engine = match self.engine.take() {
            Some(engine) => engine,
            None => (self.load)(&self.model)?,
        };
        let (items, mut bad) = self.locate_all(&request.paths);
        let (sender, receiver) = mpsc::channel();
        let sink = move |prediction: &Prediction| {
            // Received below, once the pipeline has ended.
            let _ = sender.send((prediction.name.clone(), prediction.outcome.clone()));
            Ok(())
        };
        let transform: Transform = self.model.transform.clone();
        let (_, engine) = self.runtime.block_on(pipeline::run(
            items.into_iter(),
            transform,
            engine,
            self.settings.clone(),
            Arc::new(AtomicBool::new(false)),
            sink,
        ))?;
        self.engine = Some(engine);
        let mut predictions = vec![];
        for (path, outcome) in receiver {
            match outcome {
                Ok(scores) => predictions.push(prediction(&path, &scores, &self.model.labels)),
                Err(error) => bad.push(Bad { path, error }),
            }
        }
        Ok((predictions, bad))
    }
    // ANCHOR_END: classify

    fn locate_all(&self, paths: &[String]) -> (Vec<Item>, Vec<Bad>) {
        let (mut items, mut bad) = (vec![], vec![]);
        for path in paths {
            match locate(&self.root, path) {
                Ok(file) => items.push(Item {
                    index: items.len(),
                    name: path.clone(),
                    label: None,
                    input: Input::File(file),
                }),
                Err(error) => bad.push(Bad {
                    path: path.clone(),
                    error,
                }),
            }
        }
        (items, bad)
    }
}

fn failed(id: &str, kind: &str, message: &str) -> Value {
    json!({"failed": {"id": id, "kind": kind, "message": message}})
}

/// A request, or the id if the line has one, and what was expected.
fn parse(line: &[u8]) -> Result<Request, (String, String)> {
    let value: Value = serde_json::from_slice(line).map_err(|error| {
        let message = format!("expected a JSON object a line: {error}");
        (String::new(), message)
    })?;
    let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
    let id: String = id.chars().take(128).collect();
    let request = Request::deserialize(&value).map_err(|error| {
        let message = format!("expected {{\"id\", \"paths\": [...]}}: {error}");
        (id.clone(), message)
    })?;
    match request.paths.len() {
        0..=MAX_PATHS => Ok(request),
        more => Err((id, format!("{more} paths; expected at most {MAX_PATHS}"))),
    }
}

// ANCHOR: locate
/// The file of a path below `root`, which is canonical: what comes through a pipe may say anything.
fn locate(root: &Path, path: &str) -> Result<PathBuf, String> {
    let below = |part: Component| matches!(part, Component::Normal(_));
    if path.is_empty() || path.contains('\0') || !Path::new(path).components().all(below) {
        return Err("leads out of the folder of pictures, or nowhere".to_owned());
    }
    let file = fs::canonicalize(root.join(path)).map_err(|e| format!("cannot be read: {e}"))?;
    match file.starts_with(root) {
        true => Ok(file),
        false => Err("leads out of the folder of pictures by a link".to_owned()),
    }
}
// ANCHOR_END: locate

fn prediction(path: &str, scores: &[pipeline::Score], labels: &[String]) -> Value {
    let top: Vec<_> = scores
        .iter()
        .map(|score| {
            json!({
                "class": score.class,
                "name": labels.get(score.class),
                "probability": score.probability,
            })
        })
        .collect();
    json!({"path": path, "top": top})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_requests_are_told_with_their_id() {
        let error = |line: &str| parse(line.as_bytes()).unwrap_err();
        assert!(error("x").1.contains("a JSON object a line"));
        let (id, message) = error(r#"{"id": "s", "paths": "a"}"#);
        assert_eq!(id, "s");
        assert!(message.contains("expected {\"id\", \"paths\""), "{message}");
        assert!(error(r#"{"id": "s", "paths": [], "x": 1}"#).1.contains("x"));
        let many = json!({"id": "s", "paths": vec!["a"; MAX_PATHS + 1]}).to_string();
        assert!(error(&many).1.contains("at most 100000"));
        let one = parse(br#"{"id": "s", "paths": ["a"]}"#).unwrap();
        assert_eq!(one.paths, ["a"]);
    }
}
