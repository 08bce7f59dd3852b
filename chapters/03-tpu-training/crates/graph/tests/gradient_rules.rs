//! Every operation's rule of differentiation against central differences.
//!
//! The table below is matched against `Op` without a wildcard: an operation
//! that is added to the graph and not to the table is a compile error here.

mod derivative;

use derivative::Function;
use training_graph::{
    Comparison, Conv2d, ConvDims, ConvForm, ConvForms, Convolution, DType, DotDims, GradientRule,
    Graph, GraphError, Literal, Op, Pool, Program, Region, TensorType, Value,
};

type Case = fn(&mut Function) -> Result<Value, GraphError>;

/// How an operation's rule is tested.
enum Rule {
    /// Against central differences of each function, at several places.
    Derivative(&'static [Case]),
    /// There is none: asking for it is an error.
    Refused(&'static [Case]),
    /// The gradient is 0 whatever the derivative is.
    Stopped(&'static [Case]),
}
use Rule::{Derivative, Refused, Stopped};

struct Row {
    name: &'static str,
    is: fn(&Op) -> bool,
    rule: Rule,
}

macro_rules! operations {
    ($($pattern:pat => $rule:expr,)+) => {
        /// Has no wildcard, so that no operation is forgotten.
        fn row_of(op: &Op) -> &'static str {
            match op { $($pattern => stringify!($pattern),)+ }
        }

        const TABLE: &[Row] = &[$(
            Row { name: stringify!($pattern), is: |op| matches!(op, $pattern), rule: $rule },
        )+];
    };
}

operations! {
    // A parameter is its own derivative; what is no parameter has none, and is
    // a factor here so that something remains to be compared.
    Op::Parameter { .. } => Derivative(&[|f| Ok(f.input(&[2, 3]))]),
    Op::Constant(_) => Derivative(&[|f| {
        let x = f.input(&[3]);
        let constant = Literal::from_f32(&[0.5, -2.0, 3.0], [3]).unwrap();
        let constant = f.graph.constant(constant)?;
        f.graph.mul(x, constant)
    }]),
    Op::Iota { .. } => Derivative(&[|f| {
        let x = f.input(&[2, 3]);
        let count = f.graph.iota(&[2, 3], 1, DType::F32)?;
        f.graph.mul(x, count)
    }]),

    Op::Neg => Derivative(&[|f| { let x = f.input(&[2, 3]); f.graph.neg(x) }]),
    Op::Exp => Derivative(&[|f| { let x = f.input(&[2, 3]); f.graph.exp(x) }]),
    Op::Log => Derivative(&[|f| { let x = positive(f, &[2, 3]); f.graph.log(x) }]),
    Op::Rsqrt => Derivative(&[|f| { let x = positive(f, &[2, 3]); f.graph.rsqrt(x) }]),
    Op::Sqrt => Derivative(&[|f| { let x = positive(f, &[2, 3]); f.graph.sqrt(x) }]),
    // ANCHOR: tanh
    Op::Tanh => Derivative(&[|f| { let x = f.input(&[2, 3]); f.graph.tanh(x) }]),
    // ANCHOR_END: tanh
    Op::Abs => Derivative(&[|f| { let x = f.input_apart(&[2, 3]); f.graph.abs(x) }]),
    // Constant between its jumps, as all that follow it here.
    Op::Sign => Derivative(&[|f| { let x = f.input_apart(&[2, 3]); f.graph.sign(x) }]),
    Op::Not => Derivative(&[|f| {
        let (a, _) = signs(f)?;
        let not = f.graph.not(a)?;
        f.graph.convert(not, DType::F32)
    }]),
    Op::Convert => Derivative(&[
        // Back from bf16, to which f64 does not round.
        |f| { let x = f.input(&[5]); f.graph.convert(x, DType::Bf16) },
        // No gradient comes through integers, though the path leads on.
        |f| {
            let x = f.input_of(&[3], vec![1.5, -2.5, 7.25]);
            let whole = f.graph.convert(x, DType::I32)?;
            let whole = f.graph.convert(whole, DType::F32)?;
            f.graph.mul(whole, x)
        },
    ]),

    Op::Add => Derivative(&[|f| { let (a, b) = two(f); f.graph.add(a, b) }]),
    Op::Sub => Derivative(&[|f| { let (a, b) = two(f); f.graph.sub(a, b) }]),
    Op::Mul => Derivative(&[|f| { let (a, b) = two(f); f.graph.mul(a, b) }]),
    Op::Div => Derivative(&[|f| {
        let (a, b) = (f.input(&[2, 3]), positive(f, &[2, 3]));
        f.graph.div(a, b)
    }]),
    Op::Maximum => Derivative(&[
        |f| { let (a, b) = two_apart(f)?; f.graph.maximum(a, b) },
        |f| { let x = f.input_apart(&[2, 3]); f.graph.relu(x) },
    ]),
    Op::Minimum => Derivative(&[|f| { let (a, b) = two_apart(f)?; f.graph.minimum(a, b) }]),
    Op::Pow => Derivative(&[
        |f| { let (a, b) = (positive(f, &[2, 3]), f.input(&[2, 3])); f.graph.pow(a, b) },
        // A negative base, with whole powers that are not differentiated.
        |f| {
            let x = f.input_of(&[4], vec![-1.5, 2.5, -0.5, -3.0]);
            let ty = TensorType::new(DType::F32, [4]);
            let powers = f.undifferentiated(ty, vec![3.0, -2.0, 0.0, 1.0]);
            f.graph.pow(x, powers)
        },
    ]),
    Op::Remainder => Derivative(&[|f| {
        // Far from where the quotient jumps.
        let x = f.input_of(&[4], vec![7.5, -7.5, 1.0, -5.25]);
        let by = f.input_of(&[4], vec![2.0, 2.0, -3.0, -4.0]);
        f.graph.remainder(x, by)
    }]),
    Op::And => Derivative(&[|f| {
        let (a, b) = signs(f)?;
        let y = f.graph.and(a, b)?;
        f.graph.convert(y, DType::F32)
    }]),
    Op::Or => Derivative(&[|f| {
        let (a, b) = signs(f)?;
        let y = f.graph.or(a, b)?;
        f.graph.convert(y, DType::F32)
    }]),
    Op::Xor => Derivative(&[|f| {
        let (a, b) = signs(f)?;
        let y = f.graph.xor(a, b)?;
        f.graph.convert(y, DType::F32)
    }]),
    Op::ShiftLeft => Derivative(&[|f| {
        let (a, b) = wholes(f)?;
        let y = f.graph.shift_left(a, b)?;
        f.graph.convert(y, DType::F32)
    }]),
    Op::ShiftRightLogical => Derivative(&[|f| {
        let (a, b) = wholes(f)?;
        let y = f.graph.shift_right_logical(a, b)?;
        f.graph.convert(y, DType::F32)
    }]),
    Op::Compare(_) => Derivative(&[|f| {
        let (a, b) = two_apart(f)?;
        let y = f.graph.compare(Comparison::Lt, a, b)?;
        f.graph.convert(y, DType::F32)
    }]),
    Op::Select => Derivative(&[|f| {
        let (a, b) = two_apart(f)?;
        let larger = f.graph.compare(Comparison::Gt, a, b)?;
        let square = f.graph.mul(a, a)?;
        f.graph.select(larger, square, b)
    }]),

    Op::ReduceSum { .. } => Derivative(&[
        |f| { let x = f.input(&[2, 3, 4]); f.graph.reduce_sum(x, &[0, 2]) },
        |f| { let x = f.input(&[2, 3, 4]); f.graph.reduce_sum(x, &[1]) },
        |f| { let x = f.input(&[2, 3]); f.graph.reduce_sum(x, &[1, 0]) },
    ]),
    Op::ReduceMax { .. } => Derivative(&[
        |f| { let x = f.input_apart(&[2, 3, 4]); f.graph.reduce_max(x, &[0, 2]) },
        |f| { let x = f.input_apart(&[5]); f.graph.reduce_max(x, &[0]) },
    ]),

    Op::Broadcast { .. } => Derivative(&[
        |f| { let x = f.input(&[3]); f.graph.broadcast(x, &[2, 3, 4], &[1]) },
        |f| { let x = f.input(&[2, 1, 3]); f.graph.broadcast(x, &[2, 4, 3, 2], &[0, 1, 2]) },
        |f| { let x = f.input(&[1]); f.graph.broadcast(x, &[1, 3], &[1]) },
        |f| { let x = f.input(&[]); f.graph.broadcast(x, &[2, 2], &[]) },
    ]),
    Op::Reshape => Derivative(&[
        |f| { let x = f.input(&[2, 6]); f.graph.reshape(x, &[3, 1, 4]) },
        |f| { let x = f.input(&[1, 1]); f.graph.reshape(x, &[]) },
    ]),
    Op::Transpose { .. } => Derivative(&[
        |f| { let x = f.input(&[2, 3, 4]); f.graph.transpose(x, &[2, 0, 1]) },
        |f| { let x = f.input(&[2, 2, 3, 2]); f.graph.transpose(x, &[3, 1, 0, 2]) },
    ]),
    Op::Slice { .. } => Derivative(&[
        |f| { let x = f.input(&[4, 7]); f.graph.slice(x, &[1, 0], &[3, 7], &[1, 3]) },
        // The last step leaves elements over.
        |f| { let x = f.input(&[4, 7]); f.graph.slice(x, &[0, 2], &[4, 6], &[3, 2]) },
        // Nothing is taken.
        |f| { let x = f.input(&[4]); f.graph.slice(x, &[2], &[2], &[1]) },
    ]),
    Op::Pad { .. } => Derivative(&[
        |f| { let x = f.input(&[2, 3]); f.graph.pad(x, 5.0, &[1, 0], &[0, 2], &[0, 2]) },
        |f| { let x = f.input(&[4, 5]); f.graph.pad(x, -1.0, &[-1, 2], &[1, -3], &[0, 1]) },
        // More is taken away than was there, and put back as padding.
        |f| { let x = f.input(&[3]); f.graph.pad(x, 0.0, &[-4], &[3], &[0]) },
    ]),
    Op::Concatenate { .. } => Derivative(&[
        |f| {
            let parts = [f.input(&[2, 1]), f.input(&[2, 3]), f.input(&[2, 0]), f.input(&[2, 2])];
            f.graph.concatenate(&parts, 1)
        },
        |f| {
            let x = f.input(&[2, 3]);
            f.graph.concatenate(&[x, x, x], 0)
        },
    ]),
    Op::Reverse { .. } => Derivative(&[
        |f| { let x = f.input(&[2, 3, 4]); f.graph.reverse(x, &[0, 2]) },
    ]),

    Op::DynamicSlice { .. } => Derivative(&[
        |f| { let (x, at) = (f.input(&[4, 5]), starts(f, &[1, 2])); f.graph.dynamic_slice(x, &at, &[2, 3]) },
        // Both starts are moved so that the slice fits.
        |f| { let (x, at) = (f.input(&[4, 5]), starts(f, &[-3, 9])); f.graph.dynamic_slice(x, &at, &[2, 3]) },
    ]),
    Op::DynamicUpdateSlice => Derivative(&[
        |f| {
            let (x, part, at) = (f.input(&[4, 5]), f.input(&[2, 3]), starts(f, &[1, 2]));
            f.graph.dynamic_update_slice(x, part, &at)
        },
        |f| {
            let (x, part, at) = (f.input(&[4, 5]), f.input(&[4, 1]), starts(f, &[7, -1]));
            f.graph.dynamic_update_slice(x, part, &at)
        },
    ]),
    Op::GatherRows => Derivative(&[|f| {
        // A row twice, and rows outside the table.
        let (table, rows) = (f.input(&[4, 2, 3]), f.whole(&[6], &[2, 0, 2, -5, 4, 3]));
        f.graph.gather_rows(table, rows)
    }]),
    Op::ScatterAddRows => Derivative(&[|f| {
        let (table, rows) = (f.input(&[4, 2]), f.whole(&[5], &[2, 0, 2, -1, 4]));
        let updates = f.input(&[5, 2]);
        f.graph.scatter_add_rows(table, rows, updates)
    }]),

    Op::DotGeneral(_) => Derivative(&[
        |f| { let (a, b) = (f.input(&[2, 3]), f.input(&[3, 4])); f.graph.matmul(a, b) },
        |f| {
            let (a, b) = (f.input(&[3, 2, 4, 2]), f.input(&[2, 2, 3, 3]));
            let dims = DotDims {
                lhs_batch: vec![1],
                rhs_batch: vec![0],
                lhs_contract: vec![0, 3],
                rhs_contract: vec![2, 1],
            };
            f.graph.dot_general(a, b, &dims)
        },
        // Two batch dimensions in another order, nothing contracted.
        |f| {
            let (a, b) = (f.input(&[2, 3, 2]), f.input(&[3, 2, 2]));
            let dims = DotDims {
                lhs_batch: vec![0, 1],
                rhs_batch: vec![2, 0],
                ..DotDims::default()
            };
            f.graph.dot_general(a, b, &dims)
        },
        // All contracted: an inner product.
        |f| {
            let (a, b) = (f.input(&[3, 2]), f.input(&[2, 3]));
            let dims = DotDims {
                lhs_contract: vec![0, 1],
                rhs_contract: vec![1, 0],
                ..DotDims::default()
            };
            f.graph.dot_general(a, b, &dims)
        },
        // A matrix with itself.
        |f| { let a = f.input(&[3, 3]); f.graph.matmul(a, a) },
    ]),
    Op::Convolution(_) => Derivative(&[
        |f| any_convolution(f, 1), |f| any_convolution(f, 2), |f| any_convolution(f, 3),
        |f| any_convolution(f, 4), |f| any_convolution(f, 5), |f| any_convolution(f, 6),
    ]),
    Op::MaxPool(_) => Derivative(&[
        |f| pool(f, [2, 2], [2, 2], [[0, 0], [0, 0]]),
        |f| pool(f, [3, 3], [2, 2], [[1, 1], [1, 1]]),
        |f| pool(f, [3, 2], [1, 3], [[2, 0], [0, 1]]),
    ]),
    Op::MaxPoolGradient(_) => Refused(&[|f| {
        let (x, cotangent) = (f.input(&[1, 4, 4, 1]), f.input(&[1, 2, 2, 1]));
        let pool = Pool { window: [2, 2], strides: [2, 2], padding: [[0, 0], [0, 0]] };
        f.graph.max_pool_gradient(x, cotangent, &pool)
    }]),

    Op::While { .. } => Refused(&[|f| {
        let x = f.input(&[]);
        let (condition, body) = doubling()?;
        Ok(f.graph.while_loop(&[x], condition, body)?[0])
    }]),

    Op::WithGradient(GradientRule::Stop) => Stopped(&[|f| {
        let x = f.input(&[2, 3]);
        let square = f.graph.mul(x, x)?;
        f.graph.stop_gradient(square)
    }]),
    // Every form of it, and many geometries: see convolution_forms.rs.
    Op::WithGradient(GradientRule::Conv2d(_)) => Derivative(&[|f| {
        let (x, filter) = (f.input(&[2, 3, 4, 2]), f.input(&[3, 3, 2, 2]));
        let forms = ConvForms::all(ConvForm::Products);
        f.graph.conv2d(x, filter, &Conv2d::square(2, 1, forms))
    }]),
    Op::WithGradient(GradientRule::BatchNorm) => Derivative(&[
        // A bf16 image, f32 inside.
        |f| {
            let (x, scale, offset) = (f.input(&[4, 2]), f.input(&[2]), f.input(&[2]));
            let x = f.graph.convert(x, DType::Bf16)?;
            Ok(f.graph.batch_norm(x, scale, offset, 1e-5)?.y)
        },
        // The rule counts that mean and variance depend on x.
        |f| {
            let (x, scale, offset) = (f.input(&[2, 2, 2, 3]), f.input(&[3]), f.input(&[3]));
            Ok(f.graph.batch_norm(x, scale, offset, 1e-5)?.y)
        },
        // The statistics are outputs too, with derivatives of their own.
        |f| {
            let (x, scale, offset) = (f.input(&[8, 2]), f.input(&[2]), f.input(&[2]));
            let norm = f.graph.batch_norm(x, scale, offset, 0.125)?;
            let bent = f.graph.tanh(norm.variance)?;
            let statistics = f.graph.mul(bent, norm.mean)?;
            let statistics = f.graph.broadcast(statistics, &[8, 2], &[1])?;
            f.graph.mul(norm.y, statistics)
        },
    ]),
}

fn positive(f: &mut Function, dims: &[usize]) -> Value {
    f.input_between(dims, 0.3, 3.0)
}

fn two(f: &mut Function) -> (Value, Value) {
    (f.input(&[2, 3]), f.input(&[2, 3]))
}

/// Two inputs of which no pair of elements is equal.
fn two_apart(f: &mut Function) -> Result<(Value, Value), GraphError> {
    let both = f.input_apart(&[2, 5]);
    let row = |f: &mut Function, i: usize| -> Result<Value, GraphError> {
        let row = f.graph.slice(both, &[i, 0], &[i + 1, 5], &[1, 1])?;
        f.graph.reshape(row, &[5])
    };
    Ok((row(f, 0)?, row(f, 1)?))
}

/// Whether each of two inputs is above 0.
fn signs(f: &mut Function) -> Result<(Value, Value), GraphError> {
    let (a, b) = two_apart(f)?;
    let zero = f.graph.full_like(0.0, a)?;
    let a = f.graph.compare(Comparison::Gt, a, zero)?;
    let b = f.graph.compare(Comparison::Gt, b, zero)?;
    Ok((a, b))
}

/// Two inputs as unsigned integers, far from where they jump.
fn wholes(f: &mut Function) -> Result<(Value, Value), GraphError> {
    let a = f.input_of(&[3], vec![5.5, 9.25, 200.5]);
    let b = f.input_of(&[3], vec![0.5, 2.5, 1.5]);
    let a = f.graph.convert(a, DType::U32)?;
    let b = f.graph.convert(b, DType::U32)?;
    Ok((a, b))
}

fn starts(f: &mut Function, at: &[i32]) -> Vec<Value> {
    at.iter().map(|start| f.whole(&[], &[*start])).collect()
}

fn pool(
    f: &mut Function,
    window: [usize; 2],
    strides: [usize; 2],
    padding: [[i64; 2]; 2],
) -> Result<Value, GraphError> {
    let x = f.input_apart(&[2, 5, 6, 2]);
    let pool = Pool {
        window,
        strides,
        padding,
    };
    f.graph.max_pool(x, &pool)
}

/// A convolution with random sizes and attributes, in a random order of dimensions.
fn any_convolution(f: &mut Function, seed: u64) -> Result<Value, GraphError> {
    let r = &mut f.random;
    r.0 ^= seed << 32;
    let [batch, inputs, outputs] = [r.whole(1, 2), r.whole(1, 2), r.whole(1, 3)];
    let window = [r.whole(1, 3), r.whole(1, 3)];
    let lhs_dilation = [r.whole(1, 2), r.whole(1, 3)];
    let rhs_dilation = [r.whole(1, 2), r.whole(1, 2)];
    let strides = [r.whole(1, 3), r.whole(1, 2)];
    let padding = [0, 1].map(|_| [0, 1].map(|_| r.whole(0, 3) as i64 - 1));
    // Just large enough for one window, or up to three elements larger.
    let size = [0, 1].map(|i| {
        let spread = (window[i] - 1) * rhs_dilation[i] + 1;
        let padded: i64 = padding[i].iter().sum();
        let needed = (spread as i64 - padded).max(1) as usize;
        (needed - 1).div_ceil(lhs_dilation[i]) + 1 + r.whole(0, 3)
    });
    let [x, filter, y] = [0, 1, 2].map(|_| {
        let mut order = [0, 1, 2, 3];
        r.shuffle(&mut order);
        order
    });
    let dims = ConvDims {
        input_batch: x[0],
        input_spatial: [x[1], x[2]],
        input_feature: x[3],
        filter_spatial: [filter[0], filter[1]],
        filter_input_feature: filter[2],
        filter_output_feature: filter[3],
        output_batch: y[0],
        output_spatial: [y[1], y[2]],
        output_feature: y[3],
    };
    let mut x_dims = [0; 4];
    for (dim, size) in x.into_iter().zip([batch, size[0], size[1], inputs]) {
        x_dims[dim] = size;
    }
    let mut filter_dims = [0; 4];
    for (dim, size) in filter
        .into_iter()
        .zip([window[0], window[1], inputs, outputs])
    {
        filter_dims[dim] = size;
    }
    let attributes = Convolution {
        strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dims,
    };
    let (x, filter) = (f.input(&x_dims), f.input(&filter_dims));
    f.graph.convolution(x, filter, &attributes)
}

/// Doubles a number until it is at least 100.
fn doubling() -> Result<(Region, Region), GraphError> {
    let region = |build: &dyn Fn(&mut Graph, Value) -> Result<Value, GraphError>| {
        let mut graph = Graph::new();
        let x = graph.parameter("x", TensorType::scalar(DType::F32))?;
        let outputs = vec![build(&mut graph, x)?];
        Ok::<_, GraphError>(Region { graph, outputs })
    };
    let condition = region(&|g, x| {
        let limit = g.scalar(100.0, DType::F32)?;
        g.compare(Comparison::Lt, x, limit)
    })?;
    Ok((condition, region(&|g, x| g.add(x, x))?))
}

/// Places at which each function is differentiated: shapes that are random
/// change with them too.
const SEEDS: std::ops::Range<u64> = 0..3;

#[test]
fn each_rule_gives_what_central_differences_give() {
    for row in TABLE {
        let (Derivative(cases) | Refused(cases) | Stopped(cases)) = row.rule;
        assert!(!cases.is_empty(), "{}: no case", row.name);
        let mut compared = 0;
        for (index, case) in cases.iter().enumerate() {
            for seed in SEEDS {
                let what = format!("{} case {index} seed {seed}", row.name);
                let mut function = Function::new(seed);
                let output = match case(&mut function) {
                    Ok(output) => output,
                    Err(error) => panic!("{what}: {error}"),
                };
                let ops = function.graph.nodes().iter().map(|node| &node.op);
                let own = ops.clone().filter(|op| (row.is)(op));
                assert!(own.count() > 0, "{what}: the operation is not in the graph");
                for op in ops.filter(|op| (row.is)(op)) {
                    assert_eq!(row_of(op), row.name);
                }
                match row.rule {
                    Derivative(_) => compared += function.check(&what, output),
                    Refused(_) => assert_refused(&what, function, output),
                    Stopped(_) => assert_stopped(function, output),
                }
            }
        }
        println!("{}: {compared} derivatives", row.name);
    }
}

fn assert_refused(what: &str, mut function: Function, output: Value) {
    let g = &mut function.graph;
    let dims: Vec<usize> = (0..g.dims(output).len()).collect();
    let loss = g.reduce_sum(output, &dims).unwrap();
    let inputs = g.parameters().to_vec();
    let error = g.gradients(loss, &inputs).unwrap_err();
    assert!(
        matches!(error, GraphError::NotDifferentiable { .. }),
        "{what}: {error}"
    );
}

fn assert_stopped(mut function: Function, output: Value) {
    let g = &mut function.graph;
    let dims: Vec<usize> = (0..g.dims(output).len()).collect();
    let loss = g.reduce_sum(output, &dims).unwrap();
    let inputs = g.parameters().to_vec();
    let outputs = g.gradients(loss, &inputs).unwrap();
    let arguments = inputs
        .iter()
        .map(|input| vec![1.5; g.type_of(*input).element_count()]);
    let arguments: Vec<Vec<f64>> = arguments.collect();
    let program = Program {
        name: "stopped".into(),
        graph: function.graph,
        outputs,
        donated: vec![],
    };
    let gradients = program.interpret_f64(&arguments).unwrap();
    assert!(
        gradients.iter().flatten().all(|v| *v == 0.0),
        "{gradients:?}"
    );
}
