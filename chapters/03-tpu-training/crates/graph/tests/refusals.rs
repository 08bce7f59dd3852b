//! What cannot be built is refused when it is added, by name and with the shapes.

use training_graph::{
    Comparison, Conv2d, ConvForm, ConvForms, Convolution, DType, DotDims, Graph, GraphError, Pool,
    Program, Region, TensorType, Value,
};

/// A graph with parameters of the given types.
fn graph<const N: usize>(types: [(DType, &[usize]); N]) -> (Graph, [Value; N]) {
    let mut g = Graph::new();
    let values = types.map(|(dtype, dims)| g.parameter("p", TensorType::new(dtype, dims)).unwrap());
    (g, values)
}

fn message<T: std::fmt::Debug>(result: Result<T, GraphError>) -> String {
    result.expect_err("should have been refused").to_string()
}

use DType::{Bf16, F32, I32, Pred, U8, U32};

#[test]
fn shapes_of_pairs_must_be_equal() {
    let (mut g, [a, b]) = graph([(F32, &[2, 3]), (F32, &[3, 2])]);
    let before = g.nodes().len();
    assert_eq!(
        message(g.add(a, b)),
        "add: lhs f32[2,3], rhs f32[3,2]: shapes must be equal"
    );
    assert_eq!(
        message(g.compare(Comparison::Lt, a, b)),
        "compare: lhs f32[2,3], rhs f32[3,2]: shapes must be equal"
    );
    assert!(matches!(g.select(a, b, b), Err(GraphError::Shape { .. })));
    assert_eq!(
        g.nodes().len(),
        before,
        "a refused operation leaves no node"
    );
}

#[test]
fn element_types_must_fit() {
    let (mut g, [f, i, u, p, h]) = graph([
        (F32, &[2]),
        (I32, &[2]),
        (U32, &[2]),
        (Pred, &[2]),
        (Bf16, &[2]),
    ]);
    assert_eq!(
        message(g.mul(f, h)),
        "mul: lhs f32[2], rhs bf16[2]: element types must be equal; use convert"
    );
    assert_eq!(
        message(g.exp(i)),
        "exp: x i32[2]: elements must be bf16 or f32"
    );
    assert_eq!(
        message(g.add(p, p)),
        "add: lhs pred[2], rhs pred[2]: elements must be numbers"
    );
    assert_eq!(
        message(g.shift_left(f, f)),
        "shift_left: lhs f32[2], rhs f32[2]: elements must be integers"
    );
    assert_eq!(
        message(g.not(f)),
        "not: x f32[2]: elements must be integers or pred"
    );
    assert_eq!(
        message(g.select(u, f, f)),
        "select: predicate u32[2], on_true f32[2], on_false f32[2]: predicate must be pred"
    );
    assert!(matches!(
        g.reduce_sum(p, &[0]),
        Err(GraphError::ElementType { .. })
    ));
    assert!(matches!(
        g.iota(&[2], 0, Pred),
        Err(GraphError::ElementType { .. })
    ));
    assert!(matches!(
        g.mean(i, &[0]),
        Err(GraphError::ElementType { .. })
    ));
}

#[test]
fn attributes_must_be_in_range() {
    let (mut g, [x]) = graph([(F32, &[4, 5])]);
    for refused in [
        g.reduce_sum(x, &[2]),
        g.reduce_max(x, &[0, 0]),
        g.transpose(x, &[0, 0]),
        g.transpose(x, &[0]),
        g.slice(x, &[0, 0], &[5, 5], &[1, 1]),
        g.slice(x, &[3, 0], &[2, 5], &[1, 1]),
        g.slice(x, &[0, 0], &[4, 5], &[0, 1]),
        g.slice(x, &[0], &[4], &[1]),
        g.pad(x, 0.0, &[-3, 0], &[-2, 0], &[0, 0]),
        g.pad(x, 0.0, &[i64::MIN, 0], &[i64::MAX, 0], &[0, 0]),
        g.pad(x, 0.0, &[0], &[0], &[0]),
        g.concatenate(&[], 0),
        g.concatenate(&[x, x], 2),
        g.reverse(x, &[2]),
        g.broadcast(x, &[4, 5], &[1, 0]),
        g.broadcast(x, &[4, 5], &[0]),
        g.iota(&[3], 1, F32),
    ] {
        assert!(
            matches!(refused, Err(GraphError::Attribute { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(
        message(g.slice(x, &[0, 2], &[4, 9], &[1, 1])),
        "slice: x f32[4,5]: dimension 1 from 2 to 9 by 1: \
         need from <= to <= 5 and a step of at least 1"
    );
    assert_eq!(
        message(g.broadcast(x, &[3, 5, 6], &[0, 1])),
        "broadcast: x f32[4,5]: size 4 must be 1 or that of dimension 0 of [3, 5, 6]"
    );
    assert_eq!(
        message(g.reshape(x, &[3, 7])),
        "reshape: x f32[4,5]: 20 elements do not fill [3, 7]"
    );
}

#[test]
fn parts_of_a_concatenation_agree() {
    let (mut g, [a, b, c]) = graph([(F32, &[2, 3]), (F32, &[2, 4]), (F32, &[2])]);
    let both = g.concatenate(&[a, b, a], 1).unwrap();
    assert_eq!(g.dims(both), [2, 10]);
    assert_eq!(
        message(g.concatenate(&[a, b], 0)),
        "concatenate: part f32[2,3], part f32[2,4]: shapes must be equal but for dimension 0"
    );
    assert!(matches!(
        g.concatenate(&[a, c], 1),
        Err(GraphError::Shape { .. })
    ));
}

#[test]
fn products_pair_equal_dimensions() {
    let (mut g, [a, b, i]) = graph([(F32, &[4, 5]), (F32, &[4, 3]), (I32, &[4, 5])]);
    assert_eq!(
        message(g.matmul(a, b)),
        "matmul: lhs f32[4,5], rhs f32[4,3]: columns of lhs and rows of rhs must be equal in number"
    );
    let mut dims = DotDims {
        lhs_contract: vec![0],
        rhs_contract: vec![0],
        ..DotDims::default()
    };
    let product = g.dot_general(a, b, &dims).unwrap();
    assert_eq!(g.dims(product), [5, 3]);
    assert!(matches!(
        g.dot_general(i, i, &dims),
        Err(GraphError::ElementType { .. })
    ));
    dims.rhs_contract = vec![1];
    assert!(matches!(
        g.dot_general(a, b, &dims),
        Err(GraphError::Shape { .. })
    ));
    dims.rhs_batch = vec![1];
    assert!(matches!(
        g.dot_general(a, b, &dims),
        Err(GraphError::Attribute { .. })
    ));
}

#[test]
fn windows_must_fit() {
    let (mut g, [x, w, narrow, few]) = graph([
        (F32, &[2, 8, 8, 3]),
        (F32, &[3, 3, 3, 4]),
        (F32, &[3, 3, 2, 4]),
        (F32, &[3, 3]),
    ]);
    let forms = ConvForms::all(ConvForm::Products);
    assert_eq!(
        message(g.conv2d(x, narrow, &Conv2d::square(1, 1, forms))),
        "conv2d: x f32[2,8,8,3], filter f32[3,3,2,4]: x and filter must have equally many input channels"
    );
    assert_eq!(
        message(g.conv2d(x, w, &Conv2d::square(1, -3, forms))),
        "conv2d: x f32[2,8,8,3], filter f32[3,3,3,4]: \
         a window of 3 does not fit in 8 elements with padding [-3, -3]"
    );
    assert!(matches!(
        g.conv2d(x, few, &Conv2d::square(1, 1, forms)),
        Err(GraphError::Shape { .. })
    ));
    assert!(matches!(
        g.conv2d(x, w, &Conv2d::square(0, 1, forms)),
        Err(GraphError::Attribute { .. })
    ));
    let dilated = Convolution {
        rhs_dilation: [usize::MAX, 1],
        ..Convolution::default()
    };
    assert!(matches!(
        g.convolution(x, w, &dilated),
        Err(GraphError::Shape { .. })
    ));
    let mut pool = Pool {
        window: [2, 2],
        strides: [2, 2],
        padding: [[0, 0], [0, 2]],
    };
    // A window that sees only padding has no largest element.
    assert!(matches!(
        g.max_pool(x, &pool),
        Err(GraphError::Attribute { .. })
    ));
    pool.padding = [[0, 0], [0, 0]];
    let pooled = g.max_pool(x, &pool).unwrap();
    assert_eq!(g.dims(pooled), [2, 4, 4, 3]);
    pool.window = [9, 2];
    assert!(matches!(
        g.max_pool(x, &pool),
        Err(GraphError::Shape { .. })
    ));
}

#[test]
fn positions_are_i32() {
    let (mut g, [x, u, i, f, rows, bytes]) = graph([
        (F32, &[4, 5]),
        (F32, &[2, 6]),
        (I32, &[]),
        (F32, &[]),
        (I32, &[3]),
        (U8, &[3]),
    ]);
    assert!(matches!(
        g.dynamic_slice(x, &[i, f], &[1, 1]),
        Err(GraphError::ElementType { .. })
    ));
    assert!(matches!(
        g.dynamic_slice(x, &[i], &[1, 1]),
        Err(GraphError::Attribute { .. })
    ));
    assert!(matches!(
        g.dynamic_slice(x, &[i, i], &[1, 6]),
        Err(GraphError::Shape { .. })
    ));
    assert_eq!(
        message(g.dynamic_update_slice(x, u, &[i, i])),
        "dynamic_update_slice: x f32[4,5], update f32[2,6]: update must fit into x"
    );
    let taken = g.gather_rows(x, rows).unwrap();
    assert_eq!(g.dims(taken), [3, 5]);
    assert!(matches!(
        g.gather_rows(x, bytes),
        Err(GraphError::ElementType { .. })
    ));
    assert_eq!(
        message(g.scatter_add_rows(x, rows, u)),
        "scatter_add_rows: table f32[4,5], indices i32[3], updates f32[2,6]: \
         updates must be of shape [3, 5]"
    );
}

#[test]
fn a_value_of_a_larger_graph_is_refused() {
    let (large, [.., last]) = graph([(F32, &[]), (F32, &[]), (F32, &[])]);
    let (mut small, [x]) = graph([(F32, &[])]);
    assert_eq!(
        message(small.add(x, last)),
        "add: value number 2 is not in this graph of 1 values; \
         a value can only be used in the graph that made it"
    );
    let program = Program {
        name: "p".into(),
        graph: small,
        outputs: vec![last],
        donated: vec![],
    };
    assert!(matches!(
        program.stablehlo(),
        Err(GraphError::UnknownValue { .. })
    ));
    drop(large);
}

#[test]
fn nothing_larger_than_memory_is_made() {
    let (mut g, [x]) = graph([(F32, &[])]);
    let huge = [1 << 40, 1 << 40];
    assert!(matches!(
        g.broadcast(x, &huge, &[]),
        Err(GraphError::TooLarge {
            op: "broadcast",
            ..
        })
    ));
    assert!(matches!(
        g.parameter("huge", TensorType::new(F32, huge)),
        Err(GraphError::TooLarge { .. })
    ));
    assert!(matches!(
        g.full(0.0, &huge, F32),
        Err(GraphError::TooLarge { .. })
    ));
    assert!(matches!(g.reshape(x, &huge), Err(GraphError::Shape { .. })));
    let key = g.parameter("key", TensorType::new(U32, [2])).unwrap();
    assert!(matches!(
        g.random_bits(key, &[1 << 33]),
        Err(GraphError::TooLarge { .. })
    ));
}

/// Counts `i` up to 3, with a body that returns what `body` says.
fn counting(body: impl FnOnce(&mut Graph, Value) -> Vec<Value>) -> (Region, Region) {
    let (mut g, [i]) = graph([(I32, &[])]);
    let three = g.scalar(3.0, I32).unwrap();
    let less = g.compare(Comparison::Lt, i, three).unwrap();
    let condition = Region {
        graph: g,
        outputs: vec![less],
    };
    let (mut g, [i]) = graph([(I32, &[])]);
    let outputs = body(&mut g, i);
    (condition, Region { graph: g, outputs })
}

#[test]
fn loops_carry_what_they_say() {
    let (mut g, [start, other]) = graph([(I32, &[]), (F32, &[2])]);
    let (condition, body) = counting(|g, i| vec![g.add_scalar(i, 1.0).unwrap()]);
    assert_eq!(
        message(g.while_loop(&[other], condition.clone(), body.clone())),
        "while_loop: condition has 1 parameters, expected 1; number 0 is i32[], expected f32[2]"
    );
    assert_eq!(
        message(g.while_loop(&[start, other], condition.clone(), body.clone())),
        "while_loop: condition has 1 parameters, expected 2; number 1 is nothing, expected f32[2]"
    );
    assert!(matches!(
        g.while_loop(&[], condition, body),
        Err(GraphError::Region(_))
    ));
    let (condition, body) = counting(|g, i| vec![g.convert(i, F32).unwrap()]);
    assert_eq!(
        message(g.while_loop(&[start], condition, body)),
        "while_loop: body has 1 outputs, expected 1; number 0 is f32[], expected i32[]"
    );
}

#[test]
fn gradients_of_what_has_none() {
    let (mut g, [x, i]) = graph([(F32, &[2]), (I32, &[2])]);
    assert_eq!(
        message(g.gradients(x, &[x])),
        "gradients: the loss is f32[2], expected f32[]; reduce it, or use vjp"
    );
    let loss = g.reduce_sum(x, &[0]).unwrap();
    assert_eq!(
        message(g.gradients(loss, &[i])),
        "gradients: a value to differentiate by is i32[2], expected bf16 or f32"
    );
    assert_eq!(
        message(g.vjp(x, loss, &[x])),
        "gradients: the cotangent is f32[], expected the type of the output"
    );
}

#[test]
fn a_loop_has_no_gradient_but_is_no_obstacle_beside_the_way() {
    let through_loop = |wanted_through_it: bool| {
        let (mut g, [x, y]) = graph([(F32, &[]), (F32, &[])]);
        let (mut c, [v]) = graph([(F32, &[])]);
        let one = c.scalar(1.0, F32).unwrap();
        let less = c.compare(Comparison::Lt, v, one).unwrap();
        let condition = Region {
            graph: c,
            outputs: vec![less],
        };
        let (mut b, [v]) = graph([(F32, &[])]);
        let next = b.add_scalar(v, 1.0).unwrap();
        let body = Region {
            graph: b,
            outputs: vec![next],
        };
        let end = g.while_loop(&[x], condition, body).unwrap()[0];
        let loss = g.mul(end, y).unwrap();
        g.gradients(loss, &[if wanted_through_it { x } else { y }])
    };
    assert!(matches!(
        through_loop(true),
        Err(GraphError::NotDifferentiable { op: "while_loop" })
    ));
    assert!(through_loop(false).is_ok());
}

#[test]
fn donated_pairs_are_of_one_type_and_used_once() {
    let (mut g, [a, b]) = graph([(F32, &[2]), (F32, &[3])]);
    let outputs = vec![g.neg(a).unwrap(), g.neg(b).unwrap()];
    let with = |donated: Vec<(usize, usize)>| Program {
        name: "step".into(),
        graph: g.clone(),
        outputs: outputs.clone(),
        donated,
    };
    assert!(with(vec![(0, 0), (1, 1)]).stablehlo().is_ok());
    assert_eq!(
        message(with(vec![(0, 1)]).stablehlo()),
        "program \"step\": parameter 0 donated to output 1: types f32[2] and f32[3] must be equal"
    );
    for wrong in [vec![(2, 0)], vec![(0, 2)], vec![(0, 0), (0, 0)]] {
        assert!(matches!(
            with(wrong).stablehlo(),
            Err(GraphError::Donation { .. })
        ));
    }
}
