//! The shapes that lines have.

use super::{Lines, constant};
use crate::{Node, TensorType, Value};

impl Lines<'_> {
    /// `%result = operation`
    pub(super) fn assign(&mut self, result: Value, operation: &str) {
        let name = format!("{}{}", self.prefix, result.index());
        self.line(&format!("{name} = {operation}"));
        self.names[result.index()] = Some(name);
    }

    /// `stablehlo.operation %a, %b : type`, where all have one type.
    pub(super) fn same(&mut self, operation: &str, node: &Node) {
        let names = self.names_of(&node.operands);
        let ty = self.ty(node.result());
        self.assign(
            node.result(),
            &format!("stablehlo.{operation} {names} : {ty}"),
        );
    }

    /// `stablehlo.operation %a, %b<attributes> : (types) -> type`
    pub(super) fn mapped(&mut self, operation: &str, node: &Node, attributes: &str) {
        let names = self.names_of(&node.operands);
        let types = self.function_type(&node.operands, node.result());
        self.assign(
            node.result(),
            &format!("stablehlo.{operation} {names}{attributes} : {types}"),
        );
    }

    /// `(types of operands) -> type of result`
    pub(super) fn function_type(&self, operands: &[Value], result: Value) -> String {
        format!("({}) -> {}", self.types_of(operands), self.ty(result))
    }

    /// A constant that only the node of `result` reads. Returns its name.
    pub(super) fn extra(
        &mut self,
        result: Value,
        role: &str,
        number: &str,
        ty: &TensorType,
    ) -> String {
        // Names of values end in digits, so this one is free.
        let prefix = match self.prefix.as_str() {
            "%" => "%v",
            prefix => prefix,
        };
        let name = format!("{prefix}{}_{role}", result.index());
        self.line(&format!(
            "{name} = stablehlo.constant dense<{number}> : {ty}"
        ));
        name
    }

    /// Sum or maximum over `dims`, starting from `init`.
    pub(super) fn reduce(&mut self, operation: &str, init: f32, node: &Node, dims: &[usize]) {
        let (x, result) = (node.operands[0], node.result());
        let dtype = self.ty(x).dtype;
        let scalar = TensorType::scalar(dtype);
        let init = self.extra(result, "init", &constant::number(init, dtype), &scalar);
        let (name, from, to) = (self.name(x), self.ty(x), self.ty(result));
        self.assign(
            result,
            &format!(
                "stablehlo.reduce({name} init: {init}) applies stablehlo.{operation} \
                 across dimensions = {dims:?} : ({from}, {scalar}) -> {to}"
            ),
        );
    }
}
