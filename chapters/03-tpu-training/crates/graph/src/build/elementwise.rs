//! Operations on corresponding elements. Shapes are never stretched silently:
//! `broadcast` says how.

use crate::{Comparison, DType, Graph, GraphError, Op, TensorType, Value};

/// Which element types an operation takes.
#[derive(Clone, Copy)]
enum Elements {
    Floats,
    Numbers,
    Integers,
    IntegersAndPred,
}

impl Elements {
    fn accept(self, dtype: DType) -> bool {
        match self {
            Elements::Floats => dtype.is_float(),
            Elements::Numbers => dtype.is_float() || dtype.is_integer(),
            Elements::Integers => dtype.is_integer(),
            Elements::IntegersAndPred => dtype.is_integer() || dtype == DType::Pred,
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Elements::Floats => "elements must be bf16 or f32",
            Elements::Numbers => "elements must be numbers",
            Elements::Integers => "elements must be integers",
            Elements::IntegersAndPred => "elements must be integers or pred",
        }
    }
}

/// Builders that differ only in the operation and the element types it takes.
macro_rules! builders {
    ($kind:ident: $($(#[$doc:meta])* $name:ident($($operand:ident),+) $op:ident $elements:ident;)+) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`GraphError`] if the element type is not one the operation
            /// takes, or the operands differ in type.
            pub fn $name(&mut self, $($operand: Value),+) -> Result<Value, GraphError> {
                self.$kind(Op::$op, $($operand,)+ Elements::$elements)
            }
        )+
    };
}

impl Graph {
    builders! { unary:
        /// `-x`. On unsigned integers, modulo 2 to the width.
        neg(x) Neg Numbers;
        /// `e^x`, of floats.
        exp(x) Exp Floats;
        /// Natural logarithm, of floats.
        log(x) Log Floats;
        /// `1 / sqrt(x)`, of floats.
        rsqrt(x) Rsqrt Floats;
        /// Square root, of floats.
        sqrt(x) Sqrt Floats;
        // ANCHOR: tanh
        /// Hyperbolic tangent, of floats.
        tanh(x) Tanh Floats;
        // ANCHOR_END: tanh
        /// `|x|`, of numbers.
        abs(x) Abs Numbers;
        /// -1, 0 or 1 by the sign of `x`, of numbers.
        sign(x) Sign Numbers;
        /// Logical not of `Pred`, bitwise not of integers.
        not(x) Not IntegersAndPred;
    }

    builders! { binary:
        /// `lhs + rhs`
        add(lhs, rhs) Add Numbers;
        /// `lhs - rhs`
        sub(lhs, rhs) Sub Numbers;
        /// `lhs * rhs`
        mul(lhs, rhs) Mul Numbers;
        /// `lhs / rhs`; of integers, rounded towards zero.
        div(lhs, rhs) Div Numbers;
        /// The larger of each pair; NaN if either is. Where both are equal, the
        /// gradient flows to `rhs`.
        maximum(lhs, rhs) Maximum Numbers;
        /// The smaller of each pair; NaN if either is. Where both are equal, the
        /// gradient flows to `rhs`.
        minimum(lhs, rhs) Minimum Numbers;
        /// `lhs` to the power `rhs`, of floats.
        pow(lhs, rhs) Pow Floats;
        /// What `lhs / rhs`, rounded towards zero, leaves over.
        remainder(lhs, rhs) Remainder Numbers;
        /// Logical and of `Pred`, bitwise and of integers.
        and(lhs, rhs) And IntegersAndPred;
        /// Logical or of `Pred`, bitwise or of integers.
        or(lhs, rhs) Or IntegersAndPred;
        /// Logical exclusive or of `Pred`, bitwise of integers.
        xor(lhs, rhs) Xor IntegersAndPred;
        /// `lhs << rhs`, of integers; 0 where `rhs` is not below the bit width.
        shift_left(lhs, rhs) ShiftLeft Integers;
        /// `lhs >> rhs` with zeros shifted in, of integers; 0 where `rhs` is not
        /// below the bit width.
        shift_right_logical(lhs, rhs) ShiftRightLogical Integers;
    }

    fn unary(&mut self, op: Op, x: Value, elements: Elements) -> Result<Value, GraphError> {
        let args = self.operands(op.name(), &[("x", x)])?;
        if !elements.accept(args.ty(0).dtype) {
            return Err(args.dtype(elements.rule()));
        }
        let ty = args.ty(0).clone();
        self.push(op, vec![x], ty)
    }

    // ANCHOR: binary
    fn binary(
        &mut self,
        op: Op,
        lhs: Value,
        rhs: Value,
        elements: Elements,
    ) -> Result<Value, GraphError> {
        let args = self.operands(op.name(), &[("lhs", lhs), ("rhs", rhs)])?;
        args.equal_dtypes()?;
        args.equal_shapes()?;
        if !elements.accept(args.ty(0).dtype) {
            return Err(args.dtype(elements.rule()));
        }
        let ty = args.ty(0).clone();
        self.push(op, vec![lhs, rhs], ty)
    }
    // ANCHOR_END: binary

    /// Compares corresponding elements.
    ///
    /// Returns `Pred`, of the operands' shape. No gradient.
    ///
    /// # Errors
    /// [`GraphError`] if the operands differ in type.
    pub fn compare(
        &mut self,
        comparison: Comparison,
        lhs: Value,
        rhs: Value,
    ) -> Result<Value, GraphError> {
        let args = self.operands("compare", &[("lhs", lhs), ("rhs", rhs)])?;
        args.equal_dtypes()?;
        args.equal_shapes()?;
        let ty = args.ty(0).with_dtype(DType::Pred);
        self.push(Op::Compare(comparison), vec![lhs, rhs], ty)
    }

    /// Elements of `on_true` where `predicate` holds, of `on_false` elsewhere.
    ///
    /// * `predicate`: `Pred`
    /// * `on_true`, `on_false`: of one type, and of `predicate`'s shape
    ///
    /// # Errors
    /// [`GraphError`] if a type does not fit.
    pub fn select(
        &mut self,
        predicate: Value,
        on_true: Value,
        on_false: Value,
    ) -> Result<Value, GraphError> {
        let args = self.operands(
            "select",
            &[
                ("predicate", predicate),
                ("on_true", on_true),
                ("on_false", on_false),
            ],
        )?;
        args.equal_shapes()?;
        if args.ty(0).dtype != DType::Pred {
            return Err(args.dtype("predicate must be pred"));
        }
        if args.ty(1).dtype != args.ty(2).dtype {
            return Err(args.dtype("on_true and on_false must have one element type"));
        }
        let ty = args.ty(1).clone();
        self.push(Op::Select, vec![predicate, on_true, on_false], ty)
    }

    /// The same values in another element type.
    ///
    /// To `Bf16` rounds to nearest, ties to even; floats to integers drops the
    /// part after the point; to `Pred` is "not zero". The same type is `x`
    /// itself, without a node. Gradient: the cotangent, converted back; none
    /// through integers and `Pred`.
    ///
    /// # Errors
    /// [`GraphError::UnknownValue`].
    pub fn convert(&mut self, x: Value, dtype: DType) -> Result<Value, GraphError> {
        let from = self.checked_type("convert", x)?;
        if from.dtype == dtype {
            return Ok(x);
        }
        let ty: TensorType = from.with_dtype(dtype);
        self.push(Op::Convert, vec![x], ty)
    }

    /// The larger of `x` and 0: a rectified linear unit. Its gradient at 0 is 0,
    /// as in PyTorch.
    ///
    /// # Errors
    /// As [`Graph::maximum`].
    pub fn relu(&mut self, x: Value) -> Result<Value, GraphError> {
        let zero = self.full_like(0.0, x)?;
        self.maximum(x, zero)
    }

    /// One number with the type of `x`.
    ///
    /// # Errors
    /// [`GraphError::UnknownValue`].
    pub fn full_like(&mut self, value: f32, x: Value) -> Result<Value, GraphError> {
        let ty = self.checked_type("full_like", x)?.clone();
        self.full(value, &ty.dims, ty.dtype)
    }

    /// `x` plus one number.
    ///
    /// # Errors
    /// As [`Graph::add`].
    pub fn add_scalar(&mut self, x: Value, number: f32) -> Result<Value, GraphError> {
        let number = self.full_like(number, x)?;
        self.add(x, number)
    }

    /// `x` times one number.
    ///
    /// # Errors
    /// As [`Graph::mul`].
    pub fn mul_scalar(&mut self, x: Value, number: f32) -> Result<Value, GraphError> {
        let number = self.full_like(number, x)?;
        self.mul(x, number)
    }
}
