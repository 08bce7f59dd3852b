//! Gradients of graphs: where paths meet, where they begin, and where there is
//! a choice. The rules themselves are tested in gradient_rules.rs.

mod derivative;

use derivative::Function;
use training_graph::{DType, Graph, Literal, Program, TensorType};

#[test]
fn a_value_used_several_times_gets_the_sum_of_what_arrives() {
    let mut f = Function::new(0);
    let x = f.input(&[3]);
    let g = &mut f.graph;
    let square = g.mul(x, x).unwrap();
    let bent = g.tanh(square).unwrap();
    // x arrives four times, `square` twice, and one node takes a value twice.
    let sum = g.add(bent, square).unwrap();
    let sum = g.add(sum, x).unwrap();
    let y = g.mul(sum, x).unwrap();
    assert_eq!(f.check("diamonds", y), 3);
}

#[test]
fn gradients_by_values_inside_the_graph() {
    let mut graph = Graph::new();
    let x = graph
        .parameter("x", TensorType::scalar(DType::F32))
        .unwrap();
    let aside = graph
        .parameter("aside", TensorType::new(DType::Bf16, [2]))
        .unwrap();
    let inner = graph.exp(x).unwrap();
    let loss = graph.mul(inner, inner).unwrap();
    let wanted = [inner, aside, loss, x, x];
    let outputs = graph.gradients(loss, &wanted).unwrap();
    for (wanted, gradient) in wanted.iter().zip(&outputs) {
        assert_eq!(graph.type_of(*wanted), graph.type_of(*gradient));
    }
    let program = Program {
        name: "inner".into(),
        graph,
        outputs,
        donated: vec![],
    };
    let gradients = program.interpret_f64(&[vec![0.5], vec![1.0, 2.0]]).unwrap();
    let e = 0.5f64.exp();
    // By `inner` as if it were an input; by what has no part in the loss, nothing.
    let expected = [
        vec![2.0 * e],
        vec![0.0; 2],
        vec![1.0],
        vec![2.0 * e * e],
        vec![2.0 * e * e],
    ];
    for (got, expected) in gradients.iter().flatten().zip(expected.iter().flatten()) {
        assert!(
            (got - expected).abs() < 1e-12,
            "{got} instead of {expected}"
        );
    }
}

#[test]
fn a_gradient_can_be_differentiated_again() {
    let mut f = Function::new(0);
    let (x, w) = (f.input(&[2, 3]), f.input(&[3, 2]));
    let g = &mut f.graph;
    let product = g.matmul(x, w).unwrap();
    let bent = g.tanh(product).unwrap();
    let loss = g.reduce_sum(bent, &[0, 1]).unwrap();
    let by_w = g.gradients(loss, &[w]).unwrap()[0];
    assert_eq!(f.check("second derivatives", by_w), 12);
}

/// Where two are equally large there is a choice; this is ours.
#[test]
fn at_ties_the_cotangent_goes_where_the_documentation_says() {
    let mut graph = Graph::new();
    let ty = TensorType::new(DType::F32, [3]);
    let [x, y] = ["x", "y"].map(|name| graph.parameter(name, ty.clone()).unwrap());
    let mut outputs = vec![];
    let cotangent = Literal::from_f32(&[6.0, 12.0, 18.0], [3]).unwrap();
    let cotangent = graph.constant(cotangent).unwrap();
    let maximum = graph.maximum(x, y).unwrap();
    outputs.extend(graph.vjp(maximum, cotangent, &[x, y]).unwrap());
    let minimum = graph.minimum(x, y).unwrap();
    outputs.extend(graph.vjp(minimum, cotangent, &[x, y]).unwrap());
    let relu = graph.relu(x).unwrap();
    outputs.extend(graph.vjp(relu, cotangent, &[x]).unwrap());
    let abs = graph.abs(x).unwrap();
    outputs.extend(graph.vjp(abs, cotangent, &[x]).unwrap());
    let largest = graph.reduce_max(y, &[0]).unwrap();
    outputs.extend(graph.gradients(largest, &[y]).unwrap());
    let program = Program {
        name: "ties".into(),
        graph,
        outputs,
        donated: vec![],
    };
    let arguments = [vec![0.0, 1.0, -1.0], vec![0.0, 0.0, -1.0]];
    let expected = [
        // maximum: to rhs
        [0.0, 12.0, 0.0],
        [6.0, 0.0, 18.0],
        // minimum: to rhs
        [0.0, 0.0, 0.0],
        [6.0, 12.0, 18.0],
        // relu and abs: nothing at 0
        [0.0, 12.0, 0.0],
        [0.0, 12.0, -18.0],
        // reduce_max: equal shares
        [0.5, 0.5, 0.0],
    ];
    assert_eq!(program.interpret_f64(&arguments).unwrap(), expected);
}
