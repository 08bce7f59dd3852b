//! An operation composed of others: softplus, `log(1 + e^x)`. Its gradient is compared with
//! central differences.
//!
//! `cargo run -p training-graph --example softplus`

use std::error::Error;

use training_graph::{DType, Graph, GraphError, Program, TensorType, Value};

/// The nudge of the central differences.
const H: f64 = 1e-5;
const PLACES: [f64; 6] = [-20.0, -1.5, -0.25, 0.25, 1.5, 20.0];

// ANCHOR: softplus
/// `log(1 + e^x)`, written so that no power of e overflows.
fn softplus(g: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let size = g.abs(x)?;
    let below = g.neg(size)?;
    let small = g.exp(below)?;
    let sum = g.add_scalar(small, 1.0)?;
    let rest = g.log(sum)?;
    let positive = g.relu(x)?;
    g.add(positive, rest)
}
// ANCHOR_END: softplus

// ANCHOR: smooth
/// The same numbers, with `(x + |x|) / 2` in place of `relu(x)`.
fn smooth_softplus(g: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let size = g.abs(x)?;
    let below = g.neg(size)?;
    let small = g.exp(below)?;
    let sum = g.add_scalar(small, 1.0)?;
    let rest = g.log(sum)?;
    let twice = g.add(x, size)?;
    let positive = g.mul_scalar(twice, 0.5)?;
    g.add(positive, rest)
}
// ANCHOR_END: smooth

type Function = fn(&mut Graph, Value) -> Result<Value, GraphError>;

// ANCHOR: compare
/// The slope of `function` at `x`: by the graph, and by central differences.
fn slopes(function: Function, x: f64) -> Result<(f64, f64), Box<dyn Error>> {
    let mut g = Graph::new();
    let input = g.parameter("x", TensorType::scalar(DType::F32))?;
    let y = function(&mut g, input)?;
    let gradient = g.gradients(y, &[input])?[0];
    let program = Program {
        name: "slope".into(),
        graph: g,
        outputs: vec![y, gradient],
        donated: vec![],
    };
    let at = |x: f64| program.interpret_f64(&[vec![x]]);
    let by_graph = at(x)?[1][0];
    let by_differences = (at(x + H)?[0][0] - at(x - H)?[0][0]) / (2.0 * H);
    Ok((by_graph, by_differences))
}
// ANCHOR_END: compare

fn main() -> Result<(), Box<dyn Error>> {
    for x in PLACES {
        for function in [softplus as Function, smooth_softplus] {
            let (graph, differences) = slopes(function, x)?;
            assert!(
                (graph - differences).abs() < 1e-7,
                "{x}: {graph}, {differences}"
            );
        }
    }
    println!("away from 0 both agree with central differences");
    for (name, function) in [
        ("relu(x)", softplus as Function),
        ("(x + |x|) / 2", smooth_softplus),
    ] {
        let (graph, differences) = slopes(function, 0.0)?;
        println!(
            "at 0, with {name}: {graph} by the graph, {differences:.6} by central differences"
        );
    }
    Ok(())
}
