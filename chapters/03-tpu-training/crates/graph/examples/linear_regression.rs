//! A straight line found by gradient descent, with no compiler and no device: the
//! interpreter computes each step.
//!
//! `cargo run -p training-graph --example linear_regression` trains;
//! `-- --text` behind it prints the line's StableHLO instead.

use std::error::Error;

use training_graph::{DType, Graph, GraphError, Literal, Program, TensorType, Value};

/// Points on `y = 3 x - 1`.
const POINTS: [(f32, f32); 4] = [(0.0, -1.0), (1.0, 2.0), (2.0, 5.0), (3.0, 8.0)];
/// The flattest direction of this loss shrinks by a factor of 0.94 a step at this rate.
const RATE: f32 = 0.1;
const STEPS: usize = 200;

// ANCHOR: line
/// `w x + b`, for each element of `x`.
fn line(g: &mut Graph, x: Value, w: Value, b: Value) -> Result<Value, GraphError> {
    let dims = g.dims(x).to_vec();
    let w = g.broadcast(w, &dims, &[])?;
    let scaled = g.mul(x, w)?;
    let b = g.broadcast(b, &dims, &[])?;
    g.add(scaled, b)
}
// ANCHOR_END: line

// ANCHOR: step
/// One step of gradient descent: `w`, `b` and the points in; `w`, `b` and the loss out.
fn step() -> Result<Program, GraphError> {
    let mut g = Graph::new();
    let number = TensorType::scalar(DType::F32);
    let numbers = TensorType::new(DType::F32, [POINTS.len()]);
    let w = g.parameter("w", number.clone())?;
    let b = g.parameter("b", number)?;
    let x = g.parameter("x", numbers.clone())?;
    let y = g.parameter("y", numbers)?;

    let predicted = line(&mut g, x, w, b)?;
    let error = g.sub(predicted, y)?;
    let square = g.mul(error, error)?;
    let sum = g.reduce_sum(square, &[0])?;
    let loss = g.mul_scalar(sum, 1.0 / POINTS.len() as f32)?;

    let gradients = g.gradients(loss, &[w, b])?;
    let mut outputs = vec![];
    for (parameter, gradient) in [w, b].into_iter().zip(gradients) {
        let change = g.mul_scalar(gradient, RATE)?;
        outputs.push(g.sub(parameter, change)?);
    }
    outputs.push(loss);
    Ok(Program {
        name: "step".into(),
        graph: g,
        outputs,
        donated: vec![(0, 0), (1, 1)],
    })
}
// ANCHOR_END: step

// ANCHOR: train
/// Trains from `w = 0`, `b = 0`; returns both.
fn train() -> Result<(f32, f32), Box<dyn Error>> {
    let (x, y): (Vec<f32>, Vec<f32>) = POINTS.into_iter().unzip();
    let x = Literal::from_f32(&x, [x.len()])?;
    let y = Literal::from_f32(&y, [y.len()])?;
    let zero = Literal::from_f32(&[0.0], [])?;
    let step = step()?;
    let (mut w, mut b) = (zero.clone(), zero);
    for number in 0..STEPS {
        let outputs = step.interpret(&[w, b, x.clone(), y.clone()])?;
        if number % 50 == 0 {
            println!("step {number:>3}: loss {:.6}", outputs[2].to_f32_vec()?[0]);
        }
        (w, b) = (outputs[0].clone(), outputs[1].clone());
    }
    Ok((w.to_f32_vec()?[0], b.to_f32_vec()?[0]))
}
// ANCHOR_END: train

/// The line alone, as a program.
fn text() -> Result<String, GraphError> {
    let mut g = Graph::new();
    let number = TensorType::scalar(DType::F32);
    let x = g.parameter("x", TensorType::new(DType::F32, [4]))?;
    let w = g.parameter("w", number.clone())?;
    let b = g.parameter("b", number)?;
    let y = line(&mut g, x, w, b)?;
    let program = Program {
        name: "line".into(),
        graph: g,
        outputs: vec![y],
        donated: vec![],
    };
    program.stablehlo()
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|argument| argument == "--text") {
        print!("{}", text()?);
        return Ok(());
    }
    let (w, b) = train()?;
    println!("y = {w:.3} x + {b:.3}");
    Ok(())
}
