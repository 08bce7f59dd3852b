//! The training step as a program: one execution trains for one step or for many.
//!
//! Everything that a step changes is carried: given up as inputs, got back as
//! outputs in the same order, in the same memory. Everything else (data set,
//! order, factors) lies on the device and stays there. So the host sends nothing
//! and reads nothing while an epoch runs.

use std::collections::HashMap;

use training_graph::{
    Comparison, DType, Graph, GraphError, Literal, LiteralError, Program, Region, TensorType, Value,
};

use crate::{
    augment::{self, Augmentation},
    config::{LoopStyle, Optimizer, Precision, TrainConfig},
    conv_forms::ConvForms,
    data_set::{DataSet, Pixels},
    network::{self, Mode, Style},
    optimizer,
    order::Order,
    parameters::{self, Array, Parameter, Role},
    schedule::Schedule,
};

use datasets::resnet::Config as Network;

/// The data set's part in a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    rows: usize,
    side: usize,
    channels: usize,
    /// Element type on the device, and for bytes the one that means full brightness.
    bytes_scale: Option<f32>,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Images {
    /// Of a data set.
    pub fn of(data: &DataSet) -> Self {
        Images {
            rows: data.rows(),
            side: data.side,
            channels: data.channels,
            bytes_scale: match &data.pixels {
                Pixels::U8 { scale, .. } => Some(*scale),
                Pixels::F32(_) => None,
            },
            mean: data.mean.clone(),
            std: data.std.clone(),
        }
    }

    /// Type of all images together, `[rows, side, side, channels]`.
    pub fn pixels_type(&self) -> TensorType {
        let dtype = match self.bytes_scale {
            Some(_) => DType::U8,
            None => DType::F32,
        };
        TensorType::new(dtype, [self.rows, self.side, self.side, self.channels])
    }

    /// Type of all labels together.
    pub fn labels_type(&self) -> TensorType {
        TensorType::new(DType::I32, [self.rows])
    }

    /// The pixels of their data set, as it holds them.
    ///
    /// # Errors
    /// If it has more or fewer than its rows take.
    pub fn pixels(&self, data: &DataSet) -> Result<Literal, LiteralError> {
        match &data.pixels {
            Pixels::U8 { bytes, .. } => Literal::from_bytes(self.pixels_type(), bytes.clone()),
            Pixels::F32(values) => Literal::from_f32(values, &self.pixels_type().dims[..]),
        }
    }

    /// The images of some rows, normalised, f32 `[batch, side, side, channels]`.
    pub(crate) fn gather(
        &self,
        graph: &mut Graph,
        pixels: Value,
        rows: Value,
    ) -> Result<Value, GraphError> {
        let x = graph.gather_rows(pixels, rows)?;
        let Some(scale) = self.bytes_scale else {
            return Ok(x);
        };
        let x = graph.convert(x, DType::F32)?;
        // (x / scale - mean) / std as one product and one sum.
        let dims = graph.dims(x).to_vec();
        let mut by_channel = |values: Vec<f32>| {
            let values = graph.constant(Literal::from_f32(&values, [self.channels])?)?;
            graph.broadcast(values, &dims, &[3])
        };
        let factor = by_channel(self.std.iter().map(|std| 1.0 / (scale * std)).collect())?;
        let moments = self.mean.iter().zip(&self.std);
        let addend = by_channel(moments.map(|(mean, std)| -mean / std).collect())?;
        let x = graph.mul(x, factor)?;
        graph.add(x, addend)
    }
}

/// Everything that fixes a training program.
#[derive(Clone, Debug)]
pub struct StepPlan {
    /// The network.
    pub network: Network,
    /// Its tensors, in order.
    pub parameters: Vec<Parameter>,
    /// The arrays that hold them on the device.
    pub arrays: Vec<Array>,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Arithmetic of the layers.
    pub precision: Precision,
    /// How convolutions are expressed.
    pub forms: ConvForms,
    /// The images.
    pub images: Images,
    /// Images in a batch.
    pub batch: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// Random changes of the images.
    pub augmentation: Option<Augmentation>,
}

/// Inputs of a training program, by kind, each with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// Given up and got back: parameters, slots, step, losses.
    pub carried: Vec<(String, TensorType)>,
    /// Only read: images, labels, order, factors, key.
    pub kept: Vec<(String, TensorType)>,
}

impl StepPlan {
    /// The programs of a training.
    ///
    /// * `platform`: as the client names it: "cpu", "cuda", "tpu"
    pub fn new(config: &TrainConfig, data: &DataSet, platform: &str) -> Self {
        let parameters = parameters::parameters(&config.network);
        StepPlan {
            network: config.network,
            arrays: parameters::arrays(&parameters),
            parameters,
            optimizer: config.optimizer,
            precision: config.precision,
            forms: ConvForms::new(config.conv, platform),
            images: Images::of(data),
            batch: config.batch,
            steps: data.train.len() / config.batch,
            augmentation: config
                .augment
                .then(|| Augmentation::for_images(data.side, data.channels)),
        }
    }

    /// Order, factors and key of an epoch: the inputs that change from one to the next.
    ///
    /// * `epoch`: from 0
    /// * `rows`: those that train
    ///
    /// # Errors
    /// If there are fewer rows than an epoch takes.
    pub fn epoch_inputs(
        &self,
        epoch: usize,
        seed: u64,
        order: &Order,
        rows: &[i32],
        rate: &Schedule,
    ) -> Result<[Literal; 3], LiteralError> {
        let count = self.steps * self.batch;
        let order = order.of_epoch(epoch as u64, rows.len());
        let rows: Vec<i32> = order
            .iter()
            .take(count)
            .map(|&place| rows[place as usize])
            .collect();
        let first = (epoch * self.steps) as u64;
        let factors: Vec<f32> = (first..first + self.steps as u64)
            .flat_map(|step| {
                let rate = rate.learning_rate(step);
                self.optimizer.factors_of_step(step, rate)
            })
            .collect();
        Ok([
            Literal::from_i32(&rows, [count])?,
            Literal::from_f32(&factors, [self.steps, self.optimizer.factors()])?,
            Literal::from_u32(&augment::key(seed, epoch), [2])?,
        ])
    }

    /// Names and types of the inputs, in the program's order: carried, then kept.
    pub fn inputs(&self) -> Inputs {
        let f32 = |dims: &[usize]| TensorType::new(DType::F32, dims);
        let mut carried = vec![];
        for array in &self.arrays {
            carried.push((array.name.clone(), f32(&array.dims)));
        }
        for slot in self.optimizer.slots() {
            for array in self.learned() {
                carried.push((format!("{}.{slot}", array.name), f32(&array.dims)));
            }
        }
        carried.push(("step".into(), TensorType::new(DType::I32, [])));
        carried.push(("losses".into(), f32(&[self.steps])));
        let kept = vec![
            ("images".into(), self.images.pixels_type()),
            ("labels".into(), self.images.labels_type()),
            (
                "order".into(),
                TensorType::new(DType::I32, [self.steps * self.batch]),
            ),
            (
                "factors".into(),
                f32(&[self.steps, self.optimizer.factors()]),
            ),
            ("key".into(), TensorType::new(DType::U32, [2])),
        ];
        Inputs { carried, kept }
    }

    /// The arrays that gradients change: the first ones.
    pub fn learned(&self) -> &[Array] {
        let count = self
            .arrays
            .iter()
            .filter(|array| array.role == Role::Learned)
            .count();
        &self.arrays[..count]
    }

    // ANCHOR: program
    /// A program of `steps` training steps, which must fit into what is left of the epoch.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn program(&self, steps: usize, style: LoopStyle) -> Result<Program, GraphError> {
        let inputs = self.inputs();
        let mut graph = Graph::new();
        let mut carried = declare(&mut graph, &inputs.carried)?;
        let kept = declare(&mut graph, &inputs.kept)?;
        match style {
            LoopStyle::While if steps > 1 => {
                carried = self.repeat(&mut graph, carried, kept, steps)?
            }
            _ => {
                for _ in 0..steps {
                    carried = self.step(&mut graph, &self.forms, &carried, &kept)?;
                }
            }
        }
        Ok(Program {
            name: format!("train_{steps}"),
            donated: (0..carried.len()).map(|place| (place, place)).collect(),
            outputs: carried,
            graph,
        })
    }
    // ANCHOR_END: program

    /// A `while` around one step. A region is closed, so what is only read is
    /// carried along unchanged, beside a counter.
    fn repeat(
        &self,
        graph: &mut Graph,
        carried: Vec<Value>,
        kept: Vec<Value>,
        steps: usize,
    ) -> Result<Vec<Value>, GraphError> {
        let changed = carried.len();
        let inputs = self.inputs();
        let counter = ("counter".to_owned(), TensorType::new(DType::I32, []));
        let types = [inputs.carried, inputs.kept, vec![counter]].concat();

        let mut condition = Graph::new();
        let values = declare(&mut condition, &types)?;
        let end = condition.scalar(steps as f32, DType::I32)?;
        let counted = values[values.len() - 1];
        let go_on = condition.compare(Comparison::Lt, counted, end)?;

        let mut body = Graph::new();
        let values = declare(&mut body, &types)?;
        let (state, rest) = values.split_at(changed);
        let (read, counter) = rest.split_at(rest.len() - 1);
        let mut next = self.step(&mut body, &self.forms.in_loop(), state, read)?;
        let one = body.scalar(1.0, DType::I32)?;
        next.extend(read);
        next.push(body.add(counter[0], one)?);

        let zero = graph.scalar(0.0, DType::I32)?;
        let start = [carried, kept, vec![zero]].concat();
        let condition = Region {
            graph: condition,
            outputs: vec![go_on],
        };
        let body = Region {
            graph: body,
            outputs: next,
        };
        let mut end = graph.while_loop(&start, condition, body)?;
        end.truncate(changed);
        Ok(end)
    }

    // ANCHOR: step
    /// One training step: batch, forward, loss, gradients, update.
    fn step(
        &self,
        graph: &mut Graph,
        forms: &ConvForms,
        carried: &[Value],
        kept: &[Value],
    ) -> Result<Vec<Value>, GraphError> {
        let (state, [step, losses]) = carried.split_last_chunk().expect("inputs() ends in these");
        let [images, labels, order, factors, key] = *kept else {
            unreachable!("inputs() lists five");
        };
        let rows = self.rows(graph, order, *step)?;
        let labels = graph.gather_rows(labels, rows)?;
        let mut x = self.images.gather(graph, images, rows)?;
        if let Some(augmentation) = self.augmentation {
            x = augment::augment(graph, augmentation, x, key, *step)?;
        }

        let (arrays, slots) = state.split_at(self.arrays.len());
        let tensors = self.tensors(graph, arrays)?;
        let by_name = self.by_name(&tensors);
        let style = Style {
            precision: self.precision,
            forms,
        };
        let output = network::forward(graph, &self.network, style, Mode::Training, &by_name, x)?;
        let loss = graph.softmax_cross_entropy(output.logits, labels)?;
        let learned: Vec<_> = self
            .learned()
            .iter()
            .flat_map(|array| &array.parts)
            .collect();
        let wanted: Vec<_> = learned.iter().map(|&&part| tensors[part]).collect();
        let mut gradients = vec![None; self.parameters.len()];
        for (part, gradient) in learned.iter().zip(graph.gradients(loss, &wanted)?) {
            gradients[**part] = Some(gradient);
        }

        let factors = self.factors(graph, factors, *step)?;
        let mut next = vec![];
        let mut next_slots = vec![vec![]; self.optimizer.slots().len()];
        for (place, array) in self.learned().iter().enumerate() {
            let parts: Vec<_> = array
                .parts
                .iter()
                .filter_map(|&part| gradients[part])
                .collect();
            let gradient = packed(graph, &parts)?;
            let own = slots.iter().skip(place).step_by(self.learned().len());
            let own: Vec<_> = own.copied().collect();
            let (new, kept) = optimizer::update(
                graph,
                &self.optimizer,
                &factors,
                arrays[place],
                gradient,
                &own,
            )?;
            next.push(new);
            for (all, slot) in next_slots.iter_mut().zip(kept) {
                all.push(slot);
            }
        }
        for (array, &old) in self.arrays.iter().zip(arrays).skip(self.learned().len()) {
            let names = array.parts.iter().map(|&part| &self.parameters[part].name);
            let parts: Vec<_> = names.map(|name| output.statistics[name]).collect();
            let batch = packed(graph, &parts)?;
            next.push(network::running_average(graph, old, batch)?);
        }
        next.extend(next_slots.into_iter().flatten());

        let one = graph.scalar(1.0, DType::I32)?;
        next.push(graph.add(*step, one)?);
        let loss = graph.reshape(loss, &[1])?;
        next.push(graph.dynamic_update_slice(*losses, loss, &[*step])?);
        Ok(next)
    }
    // ANCHOR_END: step

    /// Each parameter, cut out of the arrays that hold them.
    pub(crate) fn tensors(
        &self,
        graph: &mut Graph,
        arrays: &[Value],
    ) -> Result<Vec<Value>, GraphError> {
        let mut tensors = vec![None; self.parameters.len()];
        for (array, &value) in self.arrays.iter().zip(arrays) {
            let mut start = 0;
            for &part in &array.parts {
                let end = start + self.parameters[part].elements();
                tensors[part] = Some(match array.parts[..] {
                    [_] => value,
                    _ => graph.slice(value, &[start], &[end], &[1])?,
                });
                start = end;
            }
        }
        Ok(tensors.into_iter().flatten().collect())
    }

    /// The network's tensors by torchvision's names.
    pub(crate) fn by_name(&self, tensors: &[Value]) -> HashMap<String, Value> {
        let names = self
            .parameters
            .iter()
            .map(|parameter| parameter.name.clone());
        names.zip(tensors.iter().copied()).collect()
    }

    /// The rows of this step's batch, i32 `[batch]`.
    fn rows(&self, graph: &mut Graph, order: Value, step: Value) -> Result<Value, GraphError> {
        let batch = graph.scalar(self.batch as f32, DType::I32)?;
        let start = graph.mul(step, batch)?;
        graph.dynamic_slice(order, &[start], &[self.batch])
    }

    /// This step's row of the table of factors, each f32 `[]`.
    fn factors(
        &self,
        graph: &mut Graph,
        table: Value,
        step: Value,
    ) -> Result<Vec<Value>, GraphError> {
        let zero = graph.scalar(0.0, DType::I32)?;
        let columns = self.optimizer.factors();
        let row = graph.dynamic_slice(table, &[step, zero], &[1, columns])?;
        let mut factors = vec![];
        for column in 0..columns {
            let one = graph.slice(row, &[0, column], &[1, column + 1], &[1, 1])?;
            factors.push(graph.reshape(one, &[])?);
        }
        Ok(factors)
    }
}

/// Adds a parameter for each name and type.
///
/// # Errors
/// The graph's.
pub(crate) fn declare(
    graph: &mut Graph,
    inputs: &[(String, TensorType)],
) -> Result<Vec<Value>, GraphError> {
    let add = |(name, ty): &(String, TensorType)| graph.parameter(name, ty.clone());
    inputs.iter().map(add).collect()
}

/// Vectors end to end, or the one array as it is.
fn packed(graph: &mut Graph, parts: &[Value]) -> Result<Value, GraphError> {
    match parts {
        [one] => Ok(*one),
        many => graph.concatenate(many, 0),
    }
}
