//! A convolution is the same function in whatever form it is written.

mod derivative;

use derivative::{Function, Random};
use training_graph::{
    Conv2d, ConvForm, ConvForms, DType, Graph, Literal, Op, Program, TensorType, Value,
};

macro_rules! all_forms {
    ($($form:ident),+) => {
        const FORMS: &[ConvForm] = &[$(ConvForm::$form),+];

        /// Has no wildcard, so that no form is forgotten.
        fn name(form: ConvForm) -> &'static str {
            match form { $(ConvForm::$form => stringify!($form)),+ }
        }
    };
}

all_forms!(
    Convolution,
    Products,
    PaddedProducts,
    Patches,
    Columns,
    Mixed,
    Dense
);

/// Sizes and attributes of one convolution.
#[derive(Clone, Debug)]
struct Case {
    x: [usize; 4],
    filter: [usize; 4],
    strides: [usize; 2],
    padding: [[i64; 2]; 2],
}

/// Those that ResNets have on small images, and those at the edges of what fits.
fn chosen_cases() -> Vec<Case> {
    let case = |x, filter, stride: usize, padding| Case {
        x,
        filter,
        strides: [stride; 2],
        padding,
    };
    let (none, one) = ([[0, 0]; 2], [[1, 1]; 2]);
    vec![
        case([2, 4, 4, 3], [3, 3, 3, 2], 1, one),
        case([2, 4, 4, 3], [3, 3, 3, 2], 2, one),
        case([2, 5, 5, 3], [3, 3, 3, 2], 2, one),
        case([2, 4, 4, 3], [1, 1, 3, 2], 2, none),
        case([1, 8, 8, 1], [7, 7, 1, 2], 2, [[3, 3]; 2]),
        // One pixel: eight of nine taps see nothing but padding.
        case([3, 1, 1, 4], [3, 3, 4, 2], 1, one),
        case([3, 1, 1, 4], [3, 3, 4, 2], 2, one),
        case([1, 1, 3, 1], [3, 3, 1, 1], 1, one),
        // The filter as large as the image; a step past its end.
        case([2, 3, 2, 2], [3, 2, 2, 2], 1, none),
        case([2, 3, 2, 2], [3, 2, 2, 2], 3, none),
        // Rows and columns that no window sees.
        case([1, 5, 6, 1], [2, 2, 1, 1], 3, none),
        // Outputs that see nothing but padding.
        case([1, 2, 2, 1], [2, 2, 1, 1], 1, [[3, 2], [2, 3]]),
        // No output sees anything but padding.
        case([2, 1, 1, 3], [1, 1, 3, 2], 3, [[2, 2]; 2]),
        // Padding on one side only, and a part of the image cut off.
        case([1, 4, 5, 2], [3, 2, 2, 1], 1, [[2, 0], [0, 1]]),
        case([1, 6, 6, 1], [3, 3, 1, 1], 1, [[-1, 1], [0, -2]]),
    ]
}

fn random_case(r: &mut Random) -> Case {
    let filter = [r.whole(1, 4), r.whole(1, 3), r.whole(1, 3), r.whole(1, 3)];
    let padding = [0, 1].map(|_| [0, 1].map(|_| r.whole(0, 2) as i64));
    let size = [0, 1].map(|i| {
        let padded: i64 = padding[i].iter().sum();
        (filter[i] as i64 - padded).max(1) as usize + r.whole(0, 4)
    });
    Case {
        x: [r.whole(1, 3), size[0], size[1], filter[2]],
        filter,
        strides: [r.whole(1, 3), r.whole(1, 3)],
        padding,
    }
}

/// Values, and gradients by image and filter for a given cotangent, and the
/// program that computed them.
fn run(case: &Case, forms: ConvForms, numbers: &[Vec<f64>; 2]) -> (Program, Vec<Vec<f64>>) {
    let mut graph = Graph::new();
    let attributes = Conv2d {
        strides: case.strides,
        padding: case.padding,
        forms,
    };
    let mut parameter = |dims: &[usize]| {
        let ty = TensorType::new(DType::F32, dims);
        graph.parameter("x", ty).unwrap()
    };
    let (x, filter) = (parameter(&case.x), parameter(&case.filter));
    let y = graph.conv2d(x, filter, &attributes).unwrap();
    let dims = graph.dims(y).to_vec();
    let count: usize = dims.iter().product();
    // Another number at each place, the same for all forms.
    let cotangent: Vec<f32> = (0..count)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 32.0)
        .collect();
    let cotangent = Literal::from_f32(&cotangent, dims).unwrap();
    let cotangent = graph.constant(cotangent).unwrap();
    let gradients = graph.vjp(y, cotangent, &[x, filter]).unwrap();
    let program = Program {
        name: "convolution".into(),
        graph,
        outputs: [vec![y], gradients].concat(),
        donated: vec![],
    };
    let outputs = program.interpret_f64(numbers).unwrap();
    (program, outputs)
}

fn numbers(case: &Case, r: &mut Random) -> [Vec<f64>; 2] {
    [case.x, case.filter].map(|dims| {
        let count = dims.iter().product();
        (0..count).map(|_| r.between(-1.0, 1.0)).collect()
    })
}

#[test]
fn all_forms_are_equal() {
    let mut r = Random(1);
    let mut cases = chosen_cases();
    cases.extend((0..60).map(|_| random_case(&mut r)));
    for case in &cases {
        let numbers = numbers(case, &mut r);
        let plain = ConvForms::all(ConvForm::Convolution);
        let (_, expected) = run(case, plain, &numbers);
        // Each form for all three, and a mixture.
        let mixture = ConvForms {
            forward: r.pick(FORMS),
            input_gradient: r.pick(FORMS),
            filter_gradient: r.pick(FORMS),
        };
        let each = FORMS.iter().map(|form| ConvForms::all(*form));
        for forms in each.chain([mixture]) {
            let (_, got) = run(case, forms, &numbers);
            for (what, (got, expected)) in ["y", "by x", "by filter"]
                .iter()
                .zip(got.iter().zip(&expected))
            {
                assert_eq!(got.len(), expected.len(), "{case:?} {forms:?} {what}");
                for (got, expected) in got.iter().zip(expected) {
                    // Sums of at most some hundred terms about 1, in f64.
                    assert!(
                        (got - expected).abs() < 1e-12,
                        "{case:?} {forms:?} {what}: {got} instead of {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn each_form_gives_what_central_differences_give() {
    // Few and small: the forms are equal, and convolutions are differentiated
    // in many ways in gradient_rules.rs.
    let case = Case {
        x: [2, 3, 2, 2],
        filter: [3, 2, 2, 2],
        strides: [2, 1],
        padding: [[1, 1], [0, 1]],
    };
    for form in FORMS {
        let mut f = Function::new(0);
        let (x, filter) = (f.input(&case.x), f.input(&case.filter));
        let attributes = Conv2d {
            strides: case.strides,
            padding: case.padding,
            forms: ConvForms::all(*form),
        };
        let y = f.graph.conv2d(x, filter, &attributes).unwrap();
        assert_eq!(f.check(name(*form), y), 48);
    }
}

/// Otherwise the tests above could compare the convolution with itself.
#[test]
fn only_the_convolution_is_a_convolution() {
    let case = &chosen_cases()[0];
    let zeros = [case.x, case.filter].map(|dims| vec![0.0; dims.iter().product()]);
    let count = |program: &Program| {
        let nodes = program.graph.nodes().iter();
        nodes.filter(|n| matches!(n.op, Op::Convolution(_))).count()
    };
    for form in FORMS {
        let (program, _) = run(case, ConvForms::all(*form), &zeros);
        let expected = if *form == ConvForm::Convolution { 3 } else { 0 };
        assert_eq!(count(&program), expected, "{}", name(*form));
        for (parts, expected) in [([true, false, false], 1), ([false, true, true], 2)] {
            let [forward, input_gradient, filter_gradient] = parts.map(|is_plain| match is_plain {
                true => ConvForm::Convolution,
                false => *form,
            });
            let forms = ConvForms {
                forward,
                input_gradient,
                filter_gradient,
            };
            if *form != ConvForm::Convolution {
                let (program, _) = run(case, forms, &zeros);
                assert_eq!(count(&program), expected, "{forms:?}");
            }
        }
    }
}

/// In bf16 the forms round at different places: after each tap, or once.
#[test]
fn forms_in_bf16_are_equal_within_its_rounding() {
    let case = &chosen_cases()[0];
    let mut r = Random(2);
    let arguments = [case.x, case.filter].map(|dims| {
        let count = dims.iter().product();
        let numbers: Vec<f32> = (0..count).map(|_| r.between(-1.0, 1.0) as f32).collect();
        Literal::from_f32(&numbers, dims).unwrap()
    });
    let run = |form: ConvForm| {
        let mut graph = Graph::new();
        let inputs: Vec<Value> = arguments
            .iter()
            .map(|a| graph.parameter("x", a.ty().clone()).unwrap())
            .collect();
        let narrow: Vec<Value> = inputs
            .iter()
            .map(|x| graph.convert(*x, DType::Bf16).unwrap())
            .collect();
        let attributes = Conv2d::square(1, 1, ConvForms::all(form));
        let y = graph.conv2d(narrow[0], narrow[1], &attributes).unwrap();
        let square = graph.mul(y, y).unwrap();
        let wide = graph.convert(square, DType::F32).unwrap();
        let loss = graph.reduce_sum(wide, &[0, 1, 2, 3]).unwrap();
        let gradients = graph.gradients(loss, &inputs).unwrap();
        assert_eq!(graph.type_of(y).dtype, DType::Bf16);
        let program = Program {
            name: "bf16".into(),
            graph,
            outputs: [vec![y], gradients].concat(),
            donated: vec![],
        };
        let outputs = program.interpret(&arguments).unwrap();
        let outputs = outputs.iter().map(|o| o.to_f32_vec().unwrap());
        outputs.collect::<Vec<_>>()
    };
    let expected = run(ConvForm::Convolution);
    for form in FORMS {
        for (got, expected) in run(*form).iter().zip(&expected) {
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (got, expected) in got.iter().zip(expected) {
                // A sum of nine taps may round nine times, each time by 2^-9 of
                // what it has come to.
                let difference = (got - expected).abs();
                assert!(
                    difference <= 9.0 / 512.0 * largest,
                    "{}: {got} instead of {expected}",
                    name(*form)
                );
            }
        }
    }
}
