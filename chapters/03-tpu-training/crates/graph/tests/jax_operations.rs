//! One operation at a time against JAX: values by the interpreter, gradients by
//! the graph's rules.

mod jax;

use half::bf16;
use jax::{Reference, assert_close};
use training_graph::{
    ConvDims, Convolution, DType, DotDims, Graph, GraphError, Literal, Pool, Program, Value,
};

/// JAX computed in f64 and rounded to f32 once, which is off by at most 2^-24
/// of a number. The interpreter in f64 adds nothing that could be seen.
const ROUNDED_ONCE: f64 = 1.0 / (1 << 24) as f64 * 1.01;

/// Layers have constants, such as `1 / count` and epsilon, which the graph holds
/// in f32 and JAX held in f64: a few roundings more, on numbers that are squared
/// and divided.
const ROUNDED_CONSTANTS: f64 = 3e-7;

/// With f32 after each operation: sums here have up to 30 terms.
const ROUNDED_OFTEN: f64 = 1e-6;

fn operations() -> Reference {
    Reference::open("operations.safetensors")
}

/// Evaluates `build` on tensors of the file, in f64 and in f32, and compares
/// with other tensors of it; those in f64 to within `tolerance`.
fn compare(
    reference: &Reference,
    tolerance: f64,
    prefix: &str,
    arguments: &[&str],
    expected: &[&str],
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Vec<Value>, GraphError>,
) {
    let mut graph = Graph::new();
    let name = |part: &&str| format!("{prefix}.{part}");
    let arguments: Vec<String> = arguments.iter().map(name).collect();
    let parameters: Vec<Value> = arguments
        .iter()
        .map(|name| graph.parameter(name, reference.ty(name)).unwrap())
        .collect();
    let outputs = build(&mut graph, &parameters).unwrap_or_else(|e| panic!("{prefix}: {e}"));
    assert_eq!(outputs.len(), expected.len());
    let program = Program {
        name: prefix.into(),
        graph,
        outputs,
        donated: vec![],
    };
    let elements: Vec<Vec<f64>> = arguments.iter().map(|name| reference.f64(name)).collect();
    let exact = program.interpret_f64(&elements).unwrap();
    let literals: Vec<Literal> = arguments.iter().map(|n| reference.literal(n)).collect();
    let stored = program.interpret(&literals).unwrap();
    for (index, expected) in expected.iter().map(name).enumerate() {
        let stored = &stored[index];
        assert_eq!(*stored.ty(), reference.ty(&expected), "{expected}");
        let numbers = reference.f64(&expected);
        assert_close(&expected, &exact[index], &numbers, tolerance);
        let stored = stored.to_f32_vec().unwrap();
        let stored: Vec<f64> = stored.into_iter().map(f64::from).collect();
        assert_close(&expected, &stored, &numbers, ROUNDED_OFTEN);
    }
}

/// An attribute of two numbers.
fn two<T: TryFrom<i64>>(value: &serde_json::Value) -> [T; 2] {
    [0, 1].map(|i| {
        let number = value[i].as_i64().unwrap();
        T::try_from(number).ok().unwrap()
    })
}

fn padding(value: &serde_json::Value) -> [[i64; 2]; 2] {
    [0, 1].map(|i| two(&value[i]))
}

/// Positions of the letters: `["NHWC", "HWIO", "NHWC"]`.
fn dimensions(value: &serde_json::Value) -> ConvDims {
    let at = |text: usize, letter: char| {
        let text = value[text].as_str().unwrap();
        text.find(letter).unwrap()
    };
    ConvDims {
        input_batch: at(0, 'N'),
        input_feature: at(0, 'C'),
        input_spatial: [at(0, 'H'), at(0, 'W')],
        filter_input_feature: at(1, 'I'),
        filter_output_feature: at(1, 'O'),
        filter_spatial: [at(1, 'H'), at(1, 'W')],
        output_batch: at(2, 'N'),
        output_feature: at(2, 'C'),
        output_spatial: [at(2, 'H'), at(2, 'W')],
    }
}

#[test]
fn convolutions() {
    let reference = operations();
    let about = reference.about();
    let cases = about["convolution"].as_object().unwrap();
    assert_eq!(cases.len(), 10);
    for (case, attributes) in cases {
        let attributes = Convolution {
            strides: two(&attributes["strides"]),
            padding: padding(&attributes["padding"]),
            lhs_dilation: two(&attributes["lhs_dilation"]),
            rhs_dilation: two(&attributes["rhs_dilation"]),
            dims: dimensions(&attributes["dimensions"]),
        };
        compare(
            &reference,
            ROUNDED_ONCE,
            &format!("convolution.{case}"),
            &["x", "filter", "cotangent"],
            &["y", "x_gradient", "filter_gradient"],
            |g, x| {
                let y = g.convolution(x[0], x[1], &attributes)?;
                let gradients = g.vjp(y, x[2], &x[..2])?;
                Ok([vec![y], gradients].concat())
            },
        );
    }
}

#[test]
fn max_pools() {
    let reference = operations();
    let about = reference.about();
    let cases = about["max_pool"].as_object().unwrap();
    assert_eq!(cases.len(), 4);
    for (case, attributes) in cases {
        let pool = Pool {
            window: two(&attributes["window"]),
            strides: two(&attributes["strides"]),
            padding: padding(&attributes["padding"]),
        };
        compare(
            &reference,
            ROUNDED_ONCE,
            &format!("max_pool.{case}"),
            &["x", "cotangent"],
            &["y", "x_gradient"],
            |g, x| {
                let y = g.max_pool(x[0], &pool)?;
                Ok(vec![y, g.vjp(y, x[1], &x[..1])?[0]])
            },
        );
    }
}

#[test]
fn dot_general() {
    let dims = DotDims {
        lhs_batch: vec![1],
        rhs_batch: vec![0],
        lhs_contract: vec![0, 3],
        rhs_contract: vec![2, 1],
    };
    compare(
        &operations(),
        ROUNDED_ONCE,
        "dot_general",
        &["lhs", "rhs", "cotangent"],
        &["y", "lhs_gradient", "rhs_gradient"],
        |g, x| {
            let y = g.dot_general(x[0], x[1], &dims)?;
            let gradients = g.vjp(y, x[2], &x[..2])?;
            Ok([vec![y], gradients].concat())
        },
    );
}

#[test]
fn gather_rows() {
    compare(
        &operations(),
        ROUNDED_ONCE,
        "gather_rows",
        &["table", "indices", "cotangent"],
        &["y", "table_gradient"],
        |g, x| {
            let y = g.gather_rows(x[0], x[1])?;
            Ok(vec![y, g.vjp(y, x[2], &x[..1])?[0]])
        },
    );
}

#[test]
fn batch_norm() {
    let epsilon = 1e-5;
    compare(
        &operations(),
        ROUNDED_CONSTANTS,
        "batch_norm",
        &["x", "weight", "bias", "cotangent", "mean", "variance"],
        &[
            "y",
            "x_gradient",
            "weight_gradient",
            "bias_gradient",
            "inference",
        ],
        |g, x| {
            let norm = g.batch_norm(x[0], x[1], x[2], epsilon)?;
            let gradients = g.vjp(norm.y, x[3], &x[..3])?;
            let inference = g.batch_norm_inference(x[0], x[1], x[2], x[4], x[5], epsilon)?;
            Ok([vec![norm.y], gradients, vec![inference]].concat())
        },
    );
}

#[test]
fn softmax_cross_entropy() {
    compare(
        &operations(),
        ROUNDED_CONSTANTS,
        "softmax_cross_entropy",
        &["logits", "labels"],
        &["loss", "gradient"],
        |g, x| {
            let loss = g.softmax_cross_entropy(x[0], x[1])?;
            Ok(vec![loss, g.gradients(loss, &x[..1])?[0]])
        },
    );
}

/// Bits, not nearly: the same key must give the same run everywhere.
#[test]
fn random_numbers_are_those_of_jax() {
    let reference = operations();
    let run = |arguments: &[&str], build: Build| {
        let mut graph = Graph::new();
        let parameters: Vec<Value> = arguments
            .iter()
            .map(|name| graph.parameter(name, reference.ty(name)).unwrap())
            .collect();
        let outputs = vec![build(&mut graph, &parameters).unwrap()];
        let program = Program {
            name: "random".into(),
            graph,
            outputs,
            donated: vec![],
        };
        let literals: Vec<Literal> = arguments.iter().map(|n| reference.literal(n)).collect();
        program.interpret(&literals).unwrap().remove(0)
    };
    type Build = fn(&mut Graph, &[Value]) -> Result<Value, GraphError>;

    let bits = run(&["threefry.key", "threefry.counters"], |g, x| {
        let first = g.slice(x[1], &[0], &[8], &[1])?;
        let second = g.slice(x[1], &[8], &[16], &[1])?;
        let words = g.threefry2x32(x[0], [first, second])?;
        g.concatenate(&words, 0)
    });
    assert_eq!(bits, reference.literal("threefry.bits"));
    let bits = run(&["random.key"], |g, x| g.random_bits(x[0], &[5, 3]));
    assert_eq!(bits, reference.literal("random.bits"));
    let uniform = run(&["random.key"], |g, x| g.random_uniform(x[0], &[4, 4]));
    assert_eq!(uniform, reference.literal("random.uniform"));
    let folded = run(&["random.key"], |g, x| {
        let number = g.constant(Literal::from(12345u32))?;
        g.random_fold_in(x[0], number)
    });
    assert_eq!(folded, reference.literal("random.folded"));
}

/// The generator's own test vectors: key, counter and result.
///
/// Source: Random123's `kat_vectors`, threefry2x32 with 20 rounds.
#[test]
fn threefry_gives_its_authors_numbers() {
    let cases = [
        ([0; 2], [0; 2], [0x6b200159, 0x99ba4efe]),
        ([u32::MAX; 2], [u32::MAX; 2], [0x1cb996fc, 0xbb002be7]),
        (
            [0x13198a2e, 0x03707344],
            [0x243f6a88, 0x85a308d3],
            [0xc4923a9c, 0x483df7a0],
        ),
    ];
    for (key, counter, expected) in cases {
        let [key, counter] = [key, counter].map(|words: [u32; 2]| words.map(f64::from).to_vec());
        let bits = evaluate(&[key, counter], &[DType::U32; 2], |g, x| {
            let first = g.slice(x[1], &[0], &[1], &[1])?;
            let second = g.slice(x[1], &[1], &[2], &[1])?;
            let words = g.threefry2x32(x[0], [first, second])?;
            g.concatenate(&words, 0)
        });
        assert_eq!(bits.to_u32_vec().unwrap(), expected);
    }
}

#[test]
fn elementwise_functions() {
    let reference = operations();
    for name in ["exp", "log", "rsqrt", "sqrt", "tanh"] {
        // One operation, rounded once: equal to the last bit, but where f64's own
        // rounding tipped the balance.
        let x = reference.f64("elementwise.x");
        let y = evaluate(&[x], &[DType::F32], |g, x| match name {
            "exp" => g.exp(x[0]),
            "log" => g.log(x[0]),
            "rsqrt" => g.rsqrt(x[0]),
            "sqrt" => g.sqrt(x[0]),
            _ => g.tanh(x[0]),
        });
        let expected = reference.f32(&format!("elementwise.{name}"));
        for (y, expected) in y.to_f32_vec().unwrap().iter().zip(&expected) {
            let apart = y.to_bits().abs_diff(expected.to_bits());
            assert!(apart <= 1, "{name}: {y} instead of {expected}");
        }
    }
}

#[test]
fn bf16_rounds_to_nearest_even() {
    let reference = operations();
    let expected = |name: &str| -> Vec<bf16> {
        let bits = reference.u16(&format!("bf16.{name}"));
        bits.into_iter().map(bf16::from_bits).collect()
    };
    let run = |build: fn(&mut Graph, Value, Value) -> Result<Value, GraphError>| {
        let x = reference.f64("bf16.x");
        let y = evaluate(&[x], &[DType::F32], |g, x| {
            let rounded = g.convert(x[0], DType::Bf16)?;
            let reversed = g.reverse(rounded, &[0])?;
            build(g, rounded, reversed)
        });
        y.to_bf16_vec().unwrap()
    };
    assert_eq!(run(|_, x, _| Ok(x)), expected("rounded"));
    assert_eq!(run(|g, x, reversed| g.add(x, reversed)), expected("sum"));
    assert_eq!(
        run(|g, x, reversed| g.mul(x, reversed)),
        expected("product")
    );
}

#[test]
fn integers_are_equal() {
    let reference = operations();
    type Build = fn(&mut Graph, Value, Value) -> Result<Value, GraphError>;
    let cases: [(&str, &str, &str, Build); 6] = [
        ("add", "a", "b", Graph::add),
        ("mul", "a", "b", Graph::mul),
        ("remainder", "a", "b", Graph::remainder),
        ("shift_left", "a", "shift", Graph::shift_left),
        (
            "shift_right_logical",
            "a",
            "shift",
            Graph::shift_right_logical,
        ),
        ("signed_remainder", "signed", "divisor", Graph::remainder),
    ];
    for (name, lhs, rhs, build) in cases {
        let [lhs, rhs, expected] = [lhs, rhs, name].map(|n| format!("integers.{n}"));
        let arguments = [reference.f64(&lhs), reference.f64(&rhs)];
        let dtypes = [reference.ty(&lhs).dtype, reference.ty(&rhs).dtype];
        let y = evaluate(&arguments, &dtypes, |g, x| build(g, x[0], x[1]));
        assert_eq!(y, reference.literal(&expected), "{name}");
    }
}

/// What `build` makes of vectors, each of one element type.
fn evaluate(
    vectors: &[Vec<f64>],
    dtypes: &[DType],
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Value, GraphError>,
) -> Literal {
    let literals: Vec<Literal> = vectors
        .iter()
        .zip(dtypes)
        .map(|(vector, dtype)| match dtype {
            DType::U32 => {
                let vector: Vec<u32> = vector.iter().map(|v| *v as u32).collect();
                Literal::from_u32(&vector, [vector.len()]).unwrap()
            }
            DType::I32 => {
                let vector: Vec<i32> = vector.iter().map(|v| *v as i32).collect();
                Literal::from_i32(&vector, [vector.len()]).unwrap()
            }
            _ => {
                let vector: Vec<f32> = vector.iter().map(|v| *v as f32).collect();
                Literal::from_f32(&vector, [vector.len()]).unwrap()
            }
        })
        .collect();
    let mut graph = Graph::new();
    let parameters: Vec<Value> = literals
        .iter()
        .map(|literal| graph.parameter("x", literal.ty().clone()).unwrap())
        .collect();
    let outputs = vec![build(&mut graph, &parameters).unwrap()];
    let program = Program {
        name: "test".into(),
        graph,
        outputs,
        donated: vec![],
    };
    program.interpret(&literals).unwrap().remove(0)
}
