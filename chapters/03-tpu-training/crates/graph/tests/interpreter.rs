//! The interpreter against numbers worked out by hand from the StableHLO
//! specification: what no other implementation was asked for, and what
//! implementations disagree about.

use half::bf16;
use training_graph::{
    Comparison, Convolution, DType, DotDims, Graph, GraphError, InterpretError, Literal, Pool,
    Program, Region, TensorType, Value,
};

fn f32s(values: &[f32], dims: &[usize]) -> Literal {
    Literal::from_f32(values, dims).unwrap()
}

fn i32s(values: &[i32]) -> Literal {
    Literal::from_i32(values, [values.len()]).unwrap()
}

fn u32s(values: &[u32]) -> Literal {
    Literal::from_u32(values, [values.len()]).unwrap()
}

fn u8s(values: &[u8]) -> Literal {
    Literal::from_u8(values, [values.len()]).unwrap()
}

fn preds(values: &[bool]) -> Literal {
    Literal::from_pred(values, [values.len()]).unwrap()
}

/// What `build` makes of these arguments.
fn run(
    arguments: impl AsRef<[Literal]>,
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Value, GraphError>,
) -> Literal {
    let arguments = arguments.as_ref();
    let mut graph = Graph::new();
    let parameters: Vec<Value> = arguments
        .iter()
        .map(|argument| graph.parameter("x", argument.ty().clone()).unwrap())
        .collect();
    let outputs = vec![build(&mut graph, &parameters).unwrap()];
    let program = Program {
        name: "test".into(),
        graph,
        outputs,
        donated: vec![],
    };
    let mut outputs = program.interpret(arguments).unwrap();
    let output = outputs.remove(0);
    assert_eq!(output.ty(), program.graph.type_of(program.outputs[0]));
    output
}

/// The same, of f32 results.
fn run_f32(
    arguments: impl AsRef<[Literal]>,
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Value, GraphError>,
) -> Vec<f32> {
    run(arguments, build).to_f32_vec().unwrap()
}

#[test]
fn arithmetic_of_special_floats() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let bits = |values: Vec<f32>| -> Vec<u32> {
        let zero = |v: f32| if v.is_nan() { f32::NAN } else { v };
        values.into_iter().map(|v| zero(v).to_bits()).collect()
    };
    let a = f32s(&[1.0, nan, nan, -0.0, inf, 2.0], &[6]);
    let b = f32s(&[nan, 1.0, nan, 0.0, -inf, 3.0], &[6]);
    let pair = [a, b];
    let largest = run_f32(&pair, |g, x| g.maximum(x[0], x[1]));
    assert!(largest[..3].iter().all(|v| v.is_nan()), "{largest:?}");
    assert_eq!(largest[3..], [0.0, inf, 3.0]);
    let smallest = run_f32(&pair, |g, x| g.minimum(x[0], x[1]));
    assert!(smallest[..3].iter().all(|v| v.is_nan()), "{smallest:?}");
    assert_eq!(smallest[3..], [0.0, -inf, 2.0]);

    let x = f32s(&[-2.5, -0.0, 0.0, 7.0, nan], &[5]);
    let signs = run_f32(&[x], |g, x| g.sign(x[0]));
    assert_eq!(bits(signs), bits(vec![-1.0, -0.0, 0.0, 1.0, nan]));

    // The remainder has the sign of what is divided.
    let x = f32s(&[5.5, -5.5, 5.5, 1.0], &[4]);
    let by = f32s(&[2.0, 2.0, -2.0, inf], &[4]);
    let left = run_f32(&[x, by], |g, x| g.remainder(x[0], x[1]));
    assert_eq!(left, [1.5, -1.5, 1.5, 1.0]);

    let x = f32s(&[0.0, -1.0, -0.0], &[3]);
    let logs = run_f32([x.clone()], |g, x| g.log(x[0]));
    assert!(
        logs[0] == -inf && logs[1].is_nan() && logs[2] == -inf,
        "{logs:?}"
    );
    let roots = run_f32(&[x], |g, x| g.rsqrt(x[0]));
    assert!(roots[0] == inf && roots[1].is_nan(), "{roots:?}");
}

#[test]
fn comparisons_with_nan_are_false_but_not_equal() {
    use Comparison::*;
    let a = f32s(&[1.0, 2.0, 2.0, f32::NAN, -0.0], &[5]);
    let b = f32s(&[2.0, 2.0, 1.0, f32::NAN, 0.0], &[5]);
    let holds = |comparison| {
        let literal = run(&[a.clone(), b.clone()], |g, x| {
            g.compare(comparison, x[0], x[1])
        });
        literal.to_pred_vec().unwrap()
    };
    assert_eq!(holds(Eq), [false, true, false, false, true]);
    assert_eq!(holds(Ne), [true, false, true, true, false]);
    assert_eq!(holds(Lt), [true, false, false, false, false]);
    assert_eq!(holds(Le), [true, true, false, false, true]);
    assert_eq!(holds(Gt), [false, false, true, false, false]);
    assert_eq!(holds(Ge), [false, true, true, false, true]);

    // A NaN that is not chosen leaves no trace.
    let p = preds(&[true, false]);
    let nan = f32s(&[1.0, f32::NAN], &[2]);
    let numbers = f32s(&[f32::NAN, 4.0], &[2]);
    let chosen = run_f32(&[p, nan, numbers], |g, x| g.select(x[0], x[1], x[2]));
    assert_eq!(chosen, [1.0, 4.0]);
}

#[test]
fn integers_wrap_around() {
    let (a, b) = (u32s(&[u32::MAX, 3, 1 << 31]), u32s(&[2, 5, 2]));
    let pair = [a, b];
    let u32_of = |literal: Literal| literal.to_u32_vec().unwrap();
    assert_eq!(
        u32_of(run(&pair, |g, x| g.add(x[0], x[1]))),
        [1, 8, 0x80000002]
    );
    assert_eq!(
        u32_of(run(&pair, |g, x| g.sub(x[1], x[0]))),
        [3, 2, 0x80000002]
    );
    assert_eq!(
        u32_of(run(&pair, |g, x| g.mul(x[0], x[1]))),
        [u32::MAX - 1, 15, 0]
    );
    assert_eq!(
        u32_of(run(&pair, |g, x| g.neg(x[0]))),
        [1, u32::MAX - 2, 1 << 31]
    );
    assert_eq!(u32_of(run(&pair, |g, x| g.not(x[1]))), [!2, !5, !2]);
    assert_eq!(
        u32_of(run(&pair, |g, x| g.xor(x[0], x[1]))),
        [!2, 6, 0x80000002]
    );
    assert_eq!(u32_of(run(&pair, |g, x| g.and(x[0], x[1]))), [2, 1, 0]);
    assert_eq!(
        u32_of(run(&pair, |g, x| g.or(x[0], x[1]))),
        [u32::MAX, 7, 0x80000002]
    );
    assert_eq!(
        u32_of(run(&pair, |g, x| g.reduce_sum(x[0], &[0]))),
        [0x80000002]
    );

    let i32_of = |literal: Literal| literal.to_i32_vec().unwrap();
    let (a, b) = (i32s(&[i32::MIN, -7, 7, 5]), i32s(&[-1, 2, -2, 0]));
    let pair = [a, b];
    // Division rounds towards zero; by zero it sets all bits, as XLA does.
    assert_eq!(
        i32_of(run(&pair, |g, x| g.div(x[0], x[1]))),
        [i32::MIN, -3, -3, -1]
    );
    assert_eq!(
        i32_of(run(&pair, |g, x| g.remainder(x[0], x[1]))),
        [0, -1, 1, 5]
    );
    assert_eq!(i32_of(run(&pair, |g, x| g.abs(x[0]))), [i32::MIN, 7, 7, 5]);
    assert_eq!(i32_of(run(&pair, |g, x| g.sign(x[1]))), [-1, 1, -1, 0]);
    assert_eq!(
        i32_of(run(&pair, |g, x| g.maximum(x[0], x[1]))),
        [-1, 2, 7, 5]
    );
    assert_eq!(i32_of(run(&pair, |g, x| g.reduce_max(x[0], &[0]))), [7]);

    let sum = run(&[u8s(&[200, 100])], |g, x| g.reduce_sum(x[0], &[0]));
    assert_eq!(sum.to_u8_vec().unwrap(), [44]);
}

#[test]
fn shifts_by_the_width_or_more_leave_nothing() {
    let x = u32s(&[0x80000001; 5]);
    let by = u32s(&[0, 1, 31, 32, u32::MAX]);
    let left = run(&[x.clone(), by.clone()], |g, x| g.shift_left(x[0], x[1]));
    assert_eq!(left.to_u32_vec().unwrap(), [0x80000001, 2, 1 << 31, 0, 0]);
    let right = run(&[x, by], |g, x| g.shift_right_logical(x[0], x[1]));
    assert_eq!(right.to_u32_vec().unwrap(), [0x80000001, 1 << 30, 1, 0, 0]);

    // A negative number is shifted as its bits; a negative shift is a large one.
    let (x, by) = (i32s(&[-1, -1, -8]), i32s(&[28, -1, 1]));
    let right = run(&[x, by], |g, x| g.shift_right_logical(x[0], x[1]));
    assert_eq!(right.to_i32_vec().unwrap(), [15, 0, i32::MAX - 3]);
    let (x, by) = (u8s(&[0x81, 0x81]), u8s(&[1, 8]));
    let left = run(&[x, by], |g, x| g.shift_left(x[0], x[1]));
    assert_eq!(left.to_u8_vec().unwrap(), [2, 0]);
}

#[test]
fn truth_values() {
    let pair = [
        preds(&[false, false, true, true]),
        preds(&[false, true, false, true]),
    ];
    let of = |literal: Literal| literal.to_pred_vec().unwrap();
    assert_eq!(
        of(run(&pair, |g, x| g.and(x[0], x[1]))),
        [false, false, false, true]
    );
    assert_eq!(
        of(run(&pair, |g, x| g.or(x[0], x[1]))),
        [false, true, true, true]
    );
    assert_eq!(
        of(run(&pair, |g, x| g.xor(x[0], x[1]))),
        [false, true, true, false]
    );
    assert_eq!(
        of(run(&pair, |g, x| g.not(x[0]))),
        [true, true, false, false]
    );
}

#[test]
fn conversions() {
    let x = f32s(&[-1.9, 1.9, 300.0, 3e9, f32::NAN, -f32::INFINITY], &[6]);
    let to = |dtype| run([x.clone()], |g, x| g.convert(x[0], dtype));
    assert_eq!(
        to(DType::I32).to_i32_vec().unwrap(),
        [-1, 1, 300, i32::MAX, 0, i32::MIN]
    );
    assert_eq!(
        to(DType::U32).to_u32_vec().unwrap(),
        [0, 1, 300, 3_000_000_000, 0, 0]
    );
    assert_eq!(to(DType::U8).to_u8_vec().unwrap(), [0, 1, 255, 255, 0, 0]);
    assert!(to(DType::Pred).to_pred_vec().unwrap().iter().all(|p| *p));

    // Integers keep their low bits.
    let x = i32s(&[-1, 256, 0, 16_777_217]);
    let to = |dtype| run([x.clone()], |g, x| g.convert(x[0], dtype));
    assert_eq!(
        to(DType::U32).to_u32_vec().unwrap(),
        [u32::MAX, 256, 0, 16_777_217]
    );
    assert_eq!(to(DType::U8).to_u8_vec().unwrap(), [255, 0, 0, 1]);
    assert_eq!(
        to(DType::Pred).to_pred_vec().unwrap(),
        [true, true, false, true]
    );
    // 2^24 + 1 is the first whole number that f32 lacks.
    assert_eq!(
        to(DType::F32).to_f32_vec().unwrap(),
        [-1.0, 256.0, 0.0, 16_777_216.0]
    );
}

#[test]
fn bf16_is_rounded_after_each_operation() {
    let x: Vec<bf16> = [1.0, 256.0, 3.0].map(bf16::from_f32).to_vec();
    let x = Literal::from_bf16(&x, [3]).unwrap();
    // 257 lies half-way between 256 and 258: once to the even one, and again.
    let twice = run_f32([x.clone()], |g, x| {
        let more = g.add_scalar(x[0], 1.0)?;
        g.add_scalar(more, 1.0)
    });
    assert_eq!(twice, [3.0, 256.0, 5.0]);
    // A sum is rounded once, at its end: 1 + 256 + 3 = 260.
    let sum = run_f32(&[x], |g, x| g.reduce_sum(x[0], &[0]));
    assert_eq!(sum, [260.0]);
}

#[test]
fn f32_is_rounded_after_each_operation_and_f64_is_not() {
    let mut graph = Graph::new();
    let x = graph
        .parameter("x", TensorType::scalar(DType::F32))
        .unwrap();
    let more = graph.add_scalar(x, 1.0).unwrap();
    let back = graph.sub(more, x).unwrap();
    let program = Program {
        name: "one".into(),
        graph,
        outputs: vec![back],
        donated: vec![],
    };
    let stored = program.interpret(&[Literal::from(1e9f32)]).unwrap();
    assert_eq!(stored[0].to_f32_vec().unwrap(), [0.0]);
    let exact = program.interpret_f64(&[vec![1e9]]).unwrap();
    assert_eq!(exact, [vec![1.0]]);
}

#[test]
fn elements_go_where_the_specification_says() {
    let x = f32s(&[1., 2., 3., 4., 5., 6.], &[2, 3]);
    let x = &[x];
    assert_eq!(
        run_f32(x, |g, x| g.transpose(x[0], &[1, 0])),
        [1., 4., 2., 5., 3., 6.]
    );
    assert_eq!(
        run_f32(x, |g, x| g.reverse(x[0], &[1])),
        [3., 2., 1., 6., 5., 4.]
    );
    assert_eq!(
        run_f32(x, |g, x| g.slice(x[0], &[0, 0], &[2, 3], &[1, 2])),
        [1., 3., 4., 6.]
    );
    assert_eq!(
        run_f32(x, |g, x| g.pad(x[0], 9.0, &[-1, 1], &[1, -2], &[0, 1])),
        // Row 1 alone is left; columns 9 4 9 5 9 6, the last two taken away.
        [9., 4., 9., 5., 9., 9., 9., 9.]
    );
    assert_eq!(
        run_f32(x, |g, x| g.concatenate(&[x[0], x[0]], 1)),
        [1., 2., 3., 1., 2., 3., 4., 5., 6., 4., 5., 6.]
    );
    assert_eq!(
        run_f32(x, |g, x| {
            let row = g.slice(x[0], &[1, 0], &[2, 3], &[1, 1])?;
            g.broadcast(row, &[2, 3, 2], &[0, 1])
        }),
        [4., 4., 5., 5., 6., 6., 4., 4., 5., 5., 6., 6.]
    );
    assert_eq!(run_f32(x, |g, x| g.reduce_sum(x[0], &[0])), [5., 7., 9.]);
    assert_eq!(run_f32(x, |g, x| g.reduce_max(x[0], &[1])), [3., 6.]);
    assert_eq!(
        run_f32(x, |g, _| g.iota(&[2, 3], 1, DType::F32)),
        [0., 1., 2., 0., 1., 2.]
    );
    let nan = f32s(&[1.0, f32::NAN, 2.0, 3.0], &[2, 2]);
    let largest = run_f32(&[nan], |g, x| g.reduce_max(x[0], &[1]));
    assert!(largest[0].is_nan() && largest[1] == 3.0, "{largest:?}");
}

#[test]
fn positions_outside_are_clamped_when_read_and_skipped_when_added() {
    let x = f32s(&[1., 2., 3., 4., 5., 6.], &[2, 3]);
    for (row, column, expected) in [
        (0, 1, [2., 3.]),
        (-7, -1, [1., 2.]),
        (9, i32::MAX, [5., 6.]),
    ] {
        let arguments = [x.clone(), Literal::from(row), Literal::from(column)];
        let part = run_f32(&arguments, |g, x| g.dynamic_slice(x[0], &x[1..], &[1, 2]));
        assert_eq!(part, expected, "start {row}, {column}");
    }
    let arguments = [
        x,
        f32s(&[0., 0.], &[1, 2]),
        Literal::from(5),
        Literal::from(2),
    ];
    let updated = run_f32(&arguments, |g, x| {
        g.dynamic_update_slice(x[0], x[1], &x[2..])
    });
    assert_eq!(updated, [1., 2., 3., 4., 0., 0.]);

    let table = f32s(&[1., 2., 3.], &[3]);
    let rows = i32s(&[2, -1, 3, i32::MIN]);
    let taken = run_f32(&[table.clone(), rows], |g, x| g.gather_rows(x[0], x[1]));
    assert_eq!(taken, [3., 1., 3., 1.]);
    let (rows, updates) = (i32s(&[1, 1, -1, 3]), f32s(&[10., 20., 30., 40.], &[4]));
    let sums = run_f32(&[table, rows, updates], |g, x| {
        g.scatter_add_rows(x[0], x[1], x[2])
    });
    assert_eq!(sums, [1., 32., 3.]);
}

#[test]
fn products() {
    let a = f32s(&[1., 2., 3., 4., 5., 6.], &[2, 3]);
    let b = f32s(&[1., 0., 2., 1., 0., 3.], &[3, 2]);
    let pair = [a, b];
    let product = run_f32(&pair, |g, x| g.matmul(x[0], x[1]));
    assert_eq!(product, [5., 11., 14., 23.]);
    // The lhs's columns against the rhs's rows, one after the other: no sum.
    let dims = DotDims {
        lhs_batch: vec![1],
        rhs_batch: vec![0],
        ..DotDims::default()
    };
    let outer = run_f32(&pair, |g, x| g.dot_general(x[0], x[1], &dims));
    assert_eq!(outer, [1., 0., 4., 0., 4., 2., 10., 5., 0., 9., 0., 18.]);
}

#[test]
fn a_convolution_of_one_row() {
    let x = f32s(&[1., 2., 3., 4.], &[1, 1, 4, 1]);
    let filter = f32s(&[1., 10.], &[1, 2, 1, 1]);
    let with = |attributes: Convolution| {
        let pair = [x.clone(), filter.clone()];
        run_f32(&pair, |g, x| g.convolution(x[0], x[1], &attributes))
    };
    let plain = Convolution::default;
    // The filter is not turned around.
    assert_eq!(with(plain()), [21., 32., 43.]);
    assert_eq!(
        with(Convolution {
            padding: [[0, 0], [1, 1]],
            ..plain()
        }),
        [10., 21., 32., 43., 4.]
    );
    assert_eq!(
        with(Convolution {
            strides: [1, 2],
            ..plain()
        }),
        [21., 43.]
    );
    assert_eq!(
        with(Convolution {
            rhs_dilation: [1, 2],
            ..plain()
        }),
        [31., 42.]
    );
    // 1 0 2 0 3 0 4
    assert_eq!(
        with(Convolution {
            lhs_dilation: [1, 2],
            ..plain()
        }),
        [1., 20., 2., 30., 3., 40.]
    );
    assert_eq!(
        with(Convolution {
            padding: [[0, 0], [-1, 0]],
            ..plain()
        }),
        [32., 43.]
    );
}

#[test]
fn pooling_and_its_gradient() {
    #[rustfmt::skip]
    let x = f32s(&[
        1., 2., 9.,
        4., 3., 9.,
        0., 5., 9.,
    ], &[1, 3, 3, 1]);
    let pool = Pool {
        window: [2, 2],
        strides: [1, 1],
        padding: [[0, 0], [0, 0]],
    };
    let pooled = run_f32([x.clone()], |g, x| g.max_pool(x[0], &pool));
    assert_eq!(pooled, [4., 9., 5., 9.]);
    // The first 9 of each window, in reading order, wins.
    let cotangent = f32s(&[1., 10., 100., 1000.], &[1, 2, 2, 1]);
    let gradient = run_f32(&[x, cotangent], |g, x| {
        g.max_pool_gradient(x[0], x[1], &pool)
    });
    #[rustfmt::skip]
    assert_eq!(gradient, [
        0., 0., 10.,
        1., 0., 1000.,
        0., 100., 0.,
    ]);

    // Padding never wins, not even over negative numbers.
    let x = f32s(&[-3., -4.], &[1, 1, 2, 1]);
    let pool = Pool {
        window: [1, 2],
        strides: [1, 1],
        padding: [[0, 0], [1, 1]],
    };
    let pooled = run_f32(&[x], |g, x| g.max_pool(x[0], &pool));
    assert_eq!(pooled, [-3., -3., -4.]);
}

#[test]
fn arrays_without_elements() {
    let empty = [f32s(&[], &[0, 2])];
    assert_eq!(run_f32(&empty, |g, x| g.reduce_sum(x[0], &[0])), [0.; 2]);
    assert_eq!(
        run_f32(&empty, |g, x| g.reduce_max(x[0], &[0])),
        [f32::NEG_INFINITY; 2]
    );
    assert_eq!(run_f32(&empty, |g, x| g.reduce_sum(x[0], &[1])), []);
    assert_eq!(run_f32(&empty, |g, x| g.transpose(x[0], &[1, 0])), []);
    assert_eq!(
        run_f32(&empty, |g, x| g.pad(x[0], 7., &[1, 0], &[0, -1], &[3, 0])),
        [7.]
    );
    let lowest = run(&[i32s(&[])], |g, x| g.reduce_max(x[0], &[0]));
    assert_eq!(lowest, Literal::from(i32::MIN));
    let columns = f32s(&[], &[2, 0]);
    let product = run_f32([columns, empty[0].clone()], |g, x| g.matmul(x[0], x[1]));
    assert_eq!(product, [0.; 4]);
}

type Build<'a> = dyn Fn(&mut Graph, Value, Value) -> Result<Vec<Value>, GraphError> + 'a;

/// Carries (i, sum) and adds i to the sum while i < limit.
fn sum_below(limit: i32) -> Literal {
    let i32_scalar = TensorType::scalar(DType::I32);
    let region = |build: &Build| {
        let mut graph = Graph::new();
        let i = graph.parameter("i", i32_scalar.clone()).unwrap();
        let sum = graph.parameter("sum", i32_scalar.clone()).unwrap();
        let outputs = build(&mut graph, i, sum).unwrap();
        Region { graph, outputs }
    };
    let condition = region(&|g, i, _| {
        let limit = g.constant(Literal::from(limit))?;
        Ok(vec![g.compare(Comparison::Lt, i, limit)?])
    });
    let body = region(&|g, i, sum| {
        let one = g.constant(Literal::from(1))?;
        Ok(vec![g.add(i, one)?, g.add(sum, i)?])
    });
    run(&[Literal::from(0), Literal::from(0)], |g, x| {
        Ok(g.while_loop(x, condition, body)?[1])
    })
}

#[test]
fn a_loop_runs_while_its_condition_holds() {
    assert_eq!(sum_below(5), Literal::from(10));
    assert_eq!(sum_below(0), Literal::from(0));
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let mut graph = Graph::new();
    let ty = TensorType::new(DType::F32, [2]);
    let x = graph.parameter("pixels", ty).unwrap();
    let n = graph.parameter("n", TensorType::scalar(DType::U8)).unwrap();
    let program = Program {
        name: "step".into(),
        graph,
        outputs: vec![x, n],
        donated: vec![],
    };
    let n = Literal::from(7u8);
    let error = program.interpret(std::slice::from_ref(&n)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "program step: expected 2 arguments, one a parameter, got 1"
    );
    let error = program.interpret(&[i32s(&[1, 2]), n]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "program step: argument 0 (pixels): expected f32[2], got i32[2]"
    );
    let error = program.interpret_f64(&[vec![0.0; 3], vec![1.0]]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "program step: argument 0 (pixels): f32[2]: expected 2 elements, got 3"
    );
    for wrong in [0.5, 256.0, -1.0, f64::NAN] {
        let error = program.interpret_f64(&[vec![0.0; 2], vec![wrong]]);
        let error = error.unwrap_err();
        assert!(
            matches!(error, InterpretError::ArgumentElements { index: 1, .. }),
            "{error}"
        );
    }

    let mut larger = Graph::new();
    let foreign = (0..9).map(|_| larger.scalar(0.0, DType::F32).unwrap());
    let program = Program {
        outputs: vec![foreign.last().unwrap()],
        ..program
    };
    let error = program.interpret_f64(&[vec![0.0; 2], vec![1.0]]);
    assert!(matches!(
        error.unwrap_err(),
        InterpretError::UnknownOutput { count: 2, .. }
    ));
}
