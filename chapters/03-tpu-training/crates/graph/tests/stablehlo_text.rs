//! The text that compilers get, word by word.

use training_graph::{
    Comparison, Conv2d, ConvForm, ConvForms, DType, DotDims, Graph, GraphError, Literal, Pool,
    Program, Region, TensorType, Value,
};

fn program(build: impl FnOnce(&mut Graph) -> Result<Vec<Value>, GraphError>) -> Program {
    let mut graph = Graph::new();
    let outputs = build(&mut graph).unwrap();
    Program {
        name: "test".into(),
        graph,
        outputs,
        donated: vec![],
    }
}

fn text(build: impl FnOnce(&mut Graph) -> Result<Vec<Value>, GraphError>) -> String {
    program(build).stablehlo().unwrap()
}

/// The lines inside `main`, without indentation, return excluded.
fn body(build: impl FnOnce(&mut Graph) -> Result<Vec<Value>, GraphError>) -> String {
    let text = text(build);
    let lines: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("  ) -> "))
        .skip(1)
        .take_while(|line| !line.contains("func.return"))
        .map(str::trim_start)
        .collect();
    lines.join("\n")
}

fn f32s(dims: &[usize]) -> TensorType {
    TensorType::new(DType::F32, dims)
}

#[test]
fn a_whole_module() {
    let mut graph = Graph::new();
    let w = graph.parameter("layer1.weight\n", f32s(&[2, 3])).unwrap();
    let rate = graph.parameter("rate", f32s(&[])).unwrap();
    let unused = graph
        .parameter("", TensorType::new(DType::U8, [4]))
        .unwrap();
    let rates = graph.broadcast(rate, &[2, 3], &[]).unwrap();
    let dead = graph.exp(w).unwrap();
    let step = graph.mul(w, rates).unwrap();
    let next = graph.sub(w, step).unwrap();
    let _ = (unused, dead);
    let program = Program {
        name: "one step".into(),
        graph,
        outputs: vec![rate, next],
        donated: vec![(0, 1)],
    };
    assert_eq!(
        program.stablehlo().unwrap(),
        "module @one_step {
  func.func public @main(
      %arg0: tensor<2x3xf32> {tf.aliasing_output = 1 : i32}, // layer1.weight\\n
      %arg1: tensor<f32>, // rate
      %arg2: tensor<4xui8>
  ) -> (tensor<f32>, tensor<2x3xf32>) {
    %3 = stablehlo.broadcast_in_dim %arg1, dims = [] : (tensor<f32>) -> tensor<2x3xf32>
    %5 = stablehlo.multiply %arg0, %3 : tensor<2x3xf32>
    %6 = stablehlo.subtract %arg0, %5 : tensor<2x3xf32>
    func.return %arg1, %6 : tensor<f32>, tensor<2x3xf32>
  }
}
"
    );
}

#[test]
fn a_program_that_returns_nothing() {
    let text = text(|_| Ok(vec![]));
    assert_eq!(
        text,
        "module @test {\n  func.func public @main(\n  ) -> () {\n    func.return\n  }\n}\n"
    );
}

#[test]
fn element_wise() {
    assert_eq!(
        body(|g| {
            let x = g.parameter("x", f32s(&[4]))?;
            let y = g.tanh(x)?;
            let larger = g.compare(Comparison::Ge, x, y)?;
            let chosen = g.select(larger, x, y)?;
            let half = g.convert(chosen, DType::Bf16)?;
            Ok(vec![half])
        }),
        "%1 = stablehlo.tanh %arg0 : tensor<4xf32>\n\
         %2 = stablehlo.compare GE, %arg0, %1, FLOAT : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xi1>\n\
         %3 = stablehlo.select %2, %arg0, %1 : tensor<4xi1>, tensor<4xf32>\n\
         %4 = stablehlo.convert %3 : (tensor<4xf32>) -> tensor<4xbf16>"
    );
}

#[test]
fn comparisons_say_how_integers_are_signed() {
    for (dtype, kind) in [
        (DType::I32, "SIGNED"),
        (DType::U32, "UNSIGNED"),
        (DType::U8, "UNSIGNED"),
        (DType::Pred, "UNSIGNED"),
        (DType::Bf16, "FLOAT"),
    ] {
        let text = body(|g| {
            let x = g.parameter("x", TensorType::new(dtype, [2]))?;
            Ok(vec![g.compare(Comparison::Ne, x, x)?])
        });
        assert!(
            text.contains(&format!("NE, %arg0, %arg0, {kind} :")),
            "{text}"
        );
    }
}

#[test]
fn constants_and_counts() {
    assert_eq!(
        body(|g| {
            let table = g.constant(Literal::from_i32(&[3, 1, 2], [3]).unwrap())?;
            let count = g.iota(&[2, 3], 1, DType::I32)?;
            let ones = g.full(1.0, &[2], DType::Bf16)?;
            Ok(vec![table, count, ones])
        }),
        "%0 = stablehlo.constant dense<[3, 1, 2]> : tensor<3xi32>\n\
         %1 = stablehlo.iota dim = 1 : tensor<2x3xi32>\n\
         %2 = stablehlo.constant dense<1.0> : tensor<bf16>\n\
         %3 = stablehlo.broadcast_in_dim %2, dims = [] : (tensor<bf16>) -> tensor<2xbf16>"
    );
}

#[test]
fn reductions() {
    assert_eq!(
        body(|g| {
            let x = g.parameter("x", f32s(&[2, 3, 4]))?;
            let sum = g.reduce_sum(x, &[2, 0])?;
            Ok(vec![g.reduce_max(sum, &[0])?])
        }),
        "%v1_init = stablehlo.constant dense<0.0> : tensor<f32>\n\
         %1 = stablehlo.reduce(%arg0 init: %v1_init) applies stablehlo.add across dimensions = [0, 2] : (tensor<2x3x4xf32>, tensor<f32>) -> tensor<3xf32>\n\
         %v2_init = stablehlo.constant dense<0xFF800000> : tensor<f32>\n\
         %2 = stablehlo.reduce(%1 init: %v2_init) applies stablehlo.maximum across dimensions = [0] : (tensor<3xf32>, tensor<f32>) -> tensor<f32>"
    );
}

#[test]
fn layouts() {
    assert_eq!(
        body(|g| {
            let x = g.parameter("x", f32s(&[4, 6]))?;
            let x = g.slice(x, &[0, 1], &[4, 6], &[1, 2])?;
            let x = g.pad(x, 1.0, &[0, -1], &[2, 0], &[1, 0])?;
            let x = g.transpose(x, &[1, 0])?;
            let x = g.concatenate(&[x, x], 0)?;
            let x = g.reverse(x, &[1])?;
            Ok(vec![g.reshape(x, &[36])?])
        }),
        "%1 = stablehlo.slice %arg0 [0:4, 1:6:2] : (tensor<4x6xf32>) -> tensor<4x3xf32>\n\
         %v2_fill = stablehlo.constant dense<1.0> : tensor<f32>\n\
         %2 = stablehlo.pad %1, %v2_fill, low = [0, -1], high = [2, 0], interior = [1, 0] : (tensor<4x3xf32>, tensor<f32>) -> tensor<9x2xf32>\n\
         %3 = stablehlo.transpose %2, dims = [1, 0] : (tensor<9x2xf32>) -> tensor<2x9xf32>\n\
         %4 = stablehlo.concatenate %3, %3, dim = 0 : (tensor<2x9xf32>, tensor<2x9xf32>) -> tensor<4x9xf32>\n\
         %5 = stablehlo.reverse %4, dims = [1] : tensor<4x9xf32>\n\
         %6 = stablehlo.reshape %5 : (tensor<4x9xf32>) -> tensor<36xf32>"
    );
}

#[test]
fn positions() {
    assert_eq!(
        body(|g| {
            let x = g.parameter("x", f32s(&[4, 6]))?;
            let i = g.parameter("i", TensorType::scalar(DType::I32))?;
            let rows = g.parameter("rows", TensorType::new(DType::I32, [3]))?;
            let part = g.dynamic_slice(x, &[i, i], &[2, 2])?;
            let x = g.dynamic_update_slice(x, part, &[i, i])?;
            let taken = g.gather_rows(x, rows)?;
            Ok(vec![g.scatter_add_rows(x, rows, taken)?])
        }),
        "%3 = stablehlo.dynamic_slice %arg0, %arg1, %arg1, sizes = [2, 2] : (tensor<4x6xf32>, tensor<i32>, tensor<i32>) -> tensor<2x2xf32>\n\
         %4 = stablehlo.dynamic_update_slice %arg0, %3, %arg1, %arg1 : (tensor<4x6xf32>, tensor<2x2xf32>, tensor<i32>, tensor<i32>) -> tensor<4x6xf32>\n\
         %5 = \"stablehlo.gather\"(%4, %arg2) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 6>}> : (tensor<4x6xf32>, tensor<3xi32>) -> tensor<3x6xf32>\n\
         %6 = \"stablehlo.scatter\"(%4, %arg2, %5) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}> ({\n\
         ^bb0(%a: tensor<f32>, %b: tensor<f32>):\n\
         %c = stablehlo.add %a, %b : tensor<f32>\n\
         stablehlo.return %c : tensor<f32>\n\
         }) : (tensor<4x6xf32>, tensor<3xi32>, tensor<3x6xf32>) -> tensor<4x6xf32>"
    );
}

#[test]
fn products_and_convolutions() {
    assert_eq!(
        body(|g| {
            let x = g.parameter("x", f32s(&[2, 8, 8, 3]))?;
            let w = g.parameter("w", f32s(&[3, 3, 3, 4]))?;
            let forms = ConvForms::all(ConvForm::Convolution);
            let y = g.conv2d(x, w, &Conv2d::square(2, 1, forms))?;
            let dims = DotDims {
                lhs_batch: vec![0],
                rhs_batch: vec![0],
                lhs_contract: vec![1, 2],
                rhs_contract: vec![1, 2],
            };
            Ok(vec![g.dot_general(y, y, &dims)?])
        }),
        "%2 = stablehlo.convolution(%arg0, %arg1) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f], window = {stride = [2, 2], pad = [[1, 1], [1, 1]], lhs_dilate = [1, 1], rhs_dilate = [1, 1]} {batch_group_count = 1 : i64, feature_group_count = 1 : i64} : (tensor<2x8x8x3xf32>, tensor<3x3x3x4xf32>) -> tensor<2x4x4x4xf32>\n\
         %3 = stablehlo.dot_general %2, %2, batching_dims = [0] x [0], contracting_dims = [1, 2] x [1, 2] : (tensor<2x4x4x4xf32>, tensor<2x4x4x4xf32>) -> tensor<2x4x4xf32>"
    );
}

#[test]
fn pooling_and_its_gradient() {
    assert_eq!(
        body(|g| {
            let x = g.parameter("x", f32s(&[1, 4, 4, 2]))?;
            let pool = Pool {
                window: [2, 2],
                strides: [2, 2],
                padding: [[0, 0], [0, 1]],
            };
            let y = g.max_pool(x, &pool)?;
            Ok(vec![g.max_pool_gradient(x, y, &pool)?])
        }),
        "%v1_init = stablehlo.constant dense<0xFF800000> : tensor<f32>\n\
         %1 = \"stablehlo.reduce_window\"(%arg0, %v1_init) <{padding = dense<[[0, 0], [0, 0], [0, 1], [0, 0]]> : tensor<4x2xi64>, window_dimensions = array<i64: 1, 2, 2, 1>, window_strides = array<i64: 1, 2, 2, 1>}> ({\n\
         ^bb0(%a: tensor<f32>, %b: tensor<f32>):\n\
         %c = stablehlo.maximum %a, %b : tensor<f32>\n\
         stablehlo.return %c : tensor<f32>\n\
         }) : (tensor<1x4x4x2xf32>, tensor<f32>) -> tensor<1x2x2x2xf32>\n\
         %v2_init = stablehlo.constant dense<0.0> : tensor<f32>\n\
         %2 = \"stablehlo.select_and_scatter\"(%arg0, %1, %v2_init) <{padding = dense<[[0, 0], [0, 0], [0, 1], [0, 0]]> : tensor<4x2xi64>, window_dimensions = array<i64: 1, 2, 2, 1>, window_strides = array<i64: 1, 2, 2, 1>}> ({\n\
         ^bb0(%a: tensor<f32>, %b: tensor<f32>):\n\
         %c = stablehlo.compare GE, %a, %b, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>\n\
         stablehlo.return %c : tensor<i1>\n\
         }, {\n\
         ^bb0(%a: tensor<f32>, %b: tensor<f32>):\n\
         %c = stablehlo.add %a, %b : tensor<f32>\n\
         stablehlo.return %c : tensor<f32>\n\
         }) : (tensor<1x4x4x2xf32>, tensor<1x2x2x2xf32>, tensor<f32>) -> tensor<1x4x4x2xf32>"
    );
}

#[test]
fn loops() {
    assert_eq!(
        body(|g| {
            let mut c = Graph::new();
            let i = c.parameter("i", TensorType::scalar(DType::I32))?;
            c.parameter("x", f32s(&[2]))?;
            let three = c.scalar(3.0, DType::I32)?;
            let less = c.compare(Comparison::Lt, i, three)?;
            let mut b = Graph::new();
            let i = b.parameter("i", TensorType::scalar(DType::I32))?;
            let x = b.parameter("x", f32s(&[2]))?;
            let one = b.scalar(1.0, DType::I32)?;
            let next = b.add(i, one)?;
            let twice = b.add(x, x)?;
            let zero = g.scalar(0.0, DType::I32)?;
            let x = g.parameter("x", f32s(&[2]))?;
            let end = g.while_loop(
                &[zero, x],
                Region {
                    graph: c,
                    outputs: vec![less],
                },
                Region {
                    graph: b,
                    outputs: vec![next, twice],
                },
            )?;
            Ok(vec![g.neg(end[1])?])
        }),
        "%0 = stablehlo.constant dense<0> : tensor<i32>\n\
         %2:2 = stablehlo.while(%w2_arg0 = %0, %w2_arg1 = %arg0) : tensor<i32>, tensor<2xf32>\n\
         cond {\n\
         %w2_cond_2 = stablehlo.constant dense<3> : tensor<i32>\n\
         %w2_cond_3 = stablehlo.compare LT, %w2_arg0, %w2_cond_2, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>\n\
         stablehlo.return %w2_cond_3 : tensor<i1>\n\
         } do {\n\
         %w2_body_2 = stablehlo.constant dense<1> : tensor<i32>\n\
         %w2_body_3 = stablehlo.add %w2_arg0, %w2_body_2 : tensor<i32>\n\
         %w2_body_4 = stablehlo.add %w2_arg1, %w2_arg1 : tensor<2xf32>\n\
         stablehlo.return %w2_body_3, %w2_body_4 : tensor<i32>, tensor<2xf32>\n\
         }\n\
         %4 = stablehlo.negate %2#1 : tensor<2xf32>"
    );
}

#[test]
fn a_gradient_rule_prints_nothing_and_hides_nothing() {
    assert_eq!(
        body(|g| {
            let x = g.parameter("x", f32s(&[2]))?;
            let y = g.exp(x)?;
            let y = g.stop_gradient(y)?;
            Ok(vec![g.neg(y)?])
        }),
        "%1 = stablehlo.exponential %arg0 : tensor<2xf32>\n\
         %3 = stablehlo.negate %1 : tensor<2xf32>"
    );
}

#[test]
fn the_same_program_has_the_same_text() {
    let step = || {
        text(|g| {
            let x = g.parameter("x", f32s(&[4, 4, 4, 3]))?;
            let w = g.parameter("w", f32s(&[3, 3, 3, 3]))?;
            let mut y = x;
            for _ in 0..3 {
                let forms = ConvForms::all(ConvForm::Products);
                let conv = g.conv2d(y, w, &Conv2d::square(1, 1, forms))?;
                let sum = g.add(conv, y)?;
                y = g.relu(sum)?;
            }
            let loss = g.mean(y, &[0, 1, 2, 3])?;
            g.gradients(loss, &[x, w])
        })
    };
    assert_eq!(step(), step());
}

#[test]
fn work_of_products_and_convolutions_is_counted() {
    let counted = program(|g| {
        let x = g.parameter("x", f32s(&[2, 8, 8, 3]))?;
        let w = g.parameter("w", f32s(&[3, 3, 3, 4]))?;
        let forms = ConvForms::all(ConvForm::Convolution);
        let y = g.conv2d(x, w, &Conv2d::square(2, 1, forms))?;
        let rows = g.reshape(y, &[2, 64])?;
        let v = g.parameter("v", f32s(&[64, 5]))?;
        let _unused = g.matmul(v, v).err();
        let dead = g.parameter("dead", f32s(&[64, 64]))?;
        let _dead = g.matmul(dead, dead)?;
        Ok(vec![g.matmul(rows, v)?])
    });
    let convolution = 2 * (2 * 4 * 4 * 4) * (3 * 3 * 3);
    let product = 2 * (2 * 5) * 64;
    assert_eq!(counted.flops(), convolution + product);
}

/// Many steps unrolled make long chains. Nothing may recurse along them, and
/// nothing may be quadratic: this takes about a second, or it takes hours.
#[test]
fn a_deep_graph_fits_a_small_stack() {
    let deep = || {
        program(|g| {
            let x = g.parameter("x", f32s(&[]))?;
            let mut y = x;
            for _ in 0..20_000 {
                let z = g.tanh(y)?;
                y = g.add(z, x)?;
            }
            let gradient = g.gradients(y, &[x])?;
            Ok(vec![y, gradient[0]])
        })
    };
    let lines = std::thread::Builder::new()
        .stack_size(128 * 1024)
        .spawn(move || {
            let program = deep();
            let nodes = program.graph.nodes().len();
            assert!(nodes > 100_000, "{nodes} nodes");
            assert_eq!(program.flops(), 0);
            program.stablehlo().unwrap().lines().count()
        })
        .unwrap()
        .join()
        .unwrap();
    assert!(lines > 100_000, "{lines} lines");
}
