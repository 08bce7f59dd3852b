//! Training on a device: data and parameters go there once, losses come back
//! once an epoch.
//!
//! A [`Trainer`] is one training in progress. It knows nothing of folders and
//! command lines; [`crate::training_run`] does.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use pjrt_runtime::{Argument, Buffer, Client, CompileOptions, Executable, OptionValue, Transfers};
use training_graph::{Literal, Program};

use crate::{
    bridge,
    config::{CompileEffort, LoopStyle, TrainConfig},
    data_set::DataSet,
    evaluation,
    order::Order,
    parameters::{self, Array, Parameter, Role},
    programs::Programs,
    schedule::Schedule,
    training_step::StepPlan,
};

/// Why a training cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A number that cannot be trained with.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// A schedule that has no meaning.
    #[error(transparent)]
    Schedule(#[from] crate::schedule::ScheduleError),
    /// A network that is not trained here.
    #[error(transparent)]
    Arch(#[from] crate::network::UnsupportedArch),
    /// The data set has labels or rows out of range.
    #[error(transparent)]
    Data(#[from] crate::data_set::DataError),
    /// The network and the data do not fit.
    #[error("the network has {what} = {network}, the data set {data}; expected the same")]
    Mismatch {
        /// `channels` or `classes`.
        what: &'static str,
        /// The network's.
        network: usize,
        /// The data set's.
        data: usize,
    },
    /// The graph could not be built.
    #[error("the program could not be built: {0}")]
    Graph(#[from] training_graph::GraphError),
    /// An array has not the elements that its shape wants.
    #[error(transparent)]
    Literal(#[from] training_graph::LiteralError),
    /// The device or its plugin failed.
    #[error(transparent)]
    Runtime(#[from] pjrt_runtime::Error),
    /// The loss is no number any more.
    #[error(
        "the loss is {loss} at step {step} of epoch {epoch} (step {total} in all); parameters \
         after it are lost; begin again with a smaller --lr or more --warmup-steps"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: usize,
        /// The step within it, from 1.
        step: usize,
        /// Steps taken over all epochs, this one included.
        total: u64,
        /// NaN or infinite.
        loss: f32,
    },
    /// Tensors of another network.
    #[error("tensor {name:?}: expected {expected} elements, got {got}")]
    Elements {
        /// torchvision's name, or a slot's.
        name: String,
        /// What the network has.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A place in another run.
    #[error(
        "step {step} of epoch {epoch}, after {losses} losses: no place in a run of {steps} steps \
         an epoch; go on from a snapshot of this run"
    )]
    Place {
        /// The epoch, from 0.
        epoch: usize,
        /// Steps taken in it.
        step: usize,
        /// Losses of those steps.
        losses: usize,
        /// Steps in an epoch of this run.
        steps: usize,
    },
}

/// How the host drives the device. Changes speed, not results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driving {
    /// Training steps in one execution.
    pub steps_per_call: usize,
    /// How they are put into one program.
    pub loop_style: LoopStyle,
}

/// One epoch, or the part of it that was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// Its number, from 0.
    pub number: usize,
    /// The loss of each step, before its update, in nats.
    pub losses: Vec<f32>,
    /// From the first call to the last loss on the host, without evaluation.
    pub seconds: f64,
    /// Images in those steps that were trained on now (not before a resume).
    pub images: usize,
    /// Copies between host and device in that time.
    pub transfers: Transfers,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// How good the network is on some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss in nats.
    pub loss: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Rows.
    pub images: usize,
}

/// What the host gets to keep: everything that training goes on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Epoch in progress, from 0, or the next one.
    pub epoch: usize,
    /// Steps taken in it.
    pub step: usize,
    /// Their losses.
    pub losses: Vec<f32>,
    /// The network's tensors, in order, in a file's layout.
    pub tensors: Vec<Vec<f32>>,
    /// The optimiser's, for each slot the learned parameters, in a file's layout.
    pub slots: Vec<Vec<f32>>,
}

/// The compiler's options for training programs.
pub fn compile_options(client: &Client, device: usize, effort: CompileEffort) -> CompileOptions {
    let options = CompileOptions::default().on_device(device);
    match (client.platform_name(), effort) {
        // A quarter of the time goes into what narrow networks hardly gain by.
        ("cpu", CompileEffort::Fast) => {
            options.with_override("xla_backend_optimization_level", OptionValue::Int(1))
        }
        // Off by default in the pinned version; one program's loops are then fused further.
        ("cpu", CompileEffort::Thorough) => {
            options.with_override("xla_cpu_use_fusion_emitters", OptionValue::Bool(true))
        }
        _ => options,
    }
}

/// Longest run-ahead of the host, in calls: an interrupt waits for so many.
const CALLS_IN_FLIGHT: usize = 32;

/// A training in progress on one device.
pub struct Trainer {
    client: Client,
    device: usize,
    config: TrainConfig,
    plan: StepPlan,
    rate: Schedule,
    driving: Driving,
    programs: Programs,
    one: Option<Arc<Executable>>,
    many: Option<Arc<Executable>>,
    evaluate: Option<(usize, Arc<Executable>)>,
    compile_time: Duration,
    first_compile_time: Duration,
    train_rows: Vec<i32>,
    order: Order,
    images: Buffer,
    labels: Buffer,
    /// Every carried input but the last two, `step` and `losses`.
    state: Vec<Buffer>,
    epoch: usize,
    step: usize,
    losses: Vec<f32>,
}

impl Trainer {
    /// Brings the data set to the device and starts from the seed's first weights.
    ///
    /// # Errors
    /// If the configuration, the data or the device are not fit.
    pub fn new(
        client: &Client,
        device: usize,
        config: &TrainConfig,
        data: &DataSet,
        driving: Driving,
    ) -> Result<Self, TrainError> {
        data.check()?;
        config.check(data.train.len())?;
        crate::network::check(&config.network)?;
        let expected = [
            ("channels", config.network.channels, data.channels),
            ("classes", config.network.classes, data.classes()),
        ];
        for (what, network, data) in expected {
            if network != data {
                return Err(TrainError::Mismatch {
                    what,
                    network,
                    data,
                });
            }
        }
        let plan = StepPlan::new(config, data, client.platform_name());
        let pixels = plan.images.pixels(data)?;
        let labels = Literal::from_i32(&data.labels, [data.rows()])?;
        let rate = Schedule::new(
            config.schedule,
            config.learning_rate,
            config.warmup_steps as u64,
            (config.epochs * plan.steps) as u64,
        )?;
        let first = parameters::initial(&plan.parameters, config.seed);
        let mut trainer = Trainer {
            images: bridge::to_device(client, device, &pixels)?,
            labels: bridge::to_device(client, device, &labels)?,
            client: client.clone(),
            device,
            config: config.clone(),
            plan,
            rate,
            driving,
            programs: Programs::default(),
            one: None,
            many: None,
            evaluate: None,
            compile_time: Duration::ZERO,
            first_compile_time: Duration::ZERO,
            train_rows: data.train.clone(),
            order: Order::Shuffled { seed: config.seed },
            state: vec![],
            epoch: 0,
            step: 0,
            losses: vec![],
        };
        let slots = trainer.config.optimizer.slots().iter();
        let zeros = |parameter: &Parameter| vec![0.0; parameter.elements()];
        let slots = slots
            .flat_map(|_| trainer.learned().iter().map(zeros))
            .collect();
        trainer.restore(&Snapshot {
            epoch: 0,
            step: 0,
            losses: vec![],
            tensors: first,
            slots,
        })?;
        Ok(trainer)
    }

    /// Takes programs from those that were compiled before, by this trainer or others on the
    /// same client.
    #[must_use]
    pub fn with_programs(mut self, programs: Programs) -> Self {
        self.programs = programs;
        self
    }

    /// The network's tensors, in the order of a snapshot's.
    pub fn parameters(&self) -> &[Parameter] {
        &self.plan.parameters
    }

    /// The learned ones of them, in the order of a snapshot's slots.
    pub fn learned(&self) -> &[Parameter] {
        let parameters = &self.plan.parameters;
        let count = parameters
            .iter()
            .filter(|p| p.role == Role::Learned)
            .count();
        &parameters[..count]
    }

    /// What is being trained.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Steps in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.plan.steps
    }

    /// The epoch in progress, from 0.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// Steps taken in it.
    pub fn steps_into_epoch(&self) -> usize {
        self.step
    }

    /// Takes the training rows in another order from the next epoch on.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// Steps taken over all epochs.
    pub fn total_steps(&self) -> u64 {
        (self.epoch * self.plan.steps + self.step) as u64
    }

    /// The learning rate of a step, counted from 0 over all epochs.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        self.rate.learning_rate(step)
    }

    /// Time spent in the compiler so far.
    pub fn compile_time(&self) -> Duration {
        self.compile_time
    }

    /// The part of it for the first program. [`Trainer::compile`] begins with the one that
    /// takes most steps: the loop, where there is one.
    pub fn first_compile_time(&self) -> Duration {
        self.first_compile_time
    }

    /// The device's memory that the larger of the compiled programs takes, in bytes, as the
    /// compiler says; `None` before [`Trainer::compile`], or where the plugin does not say.
    pub fn device_bytes(&self) -> Option<u64> {
        let programs = self.many.iter().chain(&self.one);
        programs
            .filter_map(|program| u64::try_from(program.memory().ok()?.device_bytes()).ok())
            .filter(|bytes| *bytes > 0)
            .max()
    }

    /// Goes on from a snapshot.
    ///
    /// # Errors
    /// [`TrainError::Elements`] if it is of another network; [`TrainError::Place`] if it is of a
    /// run with other epochs; the runtime's.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), TrainError> {
        let (epoch, step, losses) = (snapshot.epoch, snapshot.step, snapshot.losses.len());
        let steps = self.plan.steps;
        let total = epoch
            .checked_add(1)
            .and_then(|epochs| epochs.checked_mul(steps));
        if step > steps || losses != step || total.is_none() {
            return Err(TrainError::Place {
                epoch,
                step,
                losses,
                steps,
            });
        }
        let learned = self.learned().len();
        let slots = self.config.optimizer.slots();
        let names = slots.iter().flat_map(|slot| {
            self.learned()
                .iter()
                .map(move |p| (format!("{}.{slot}", p.name), p.elements()))
        });
        let own = self
            .plan
            .parameters
            .iter()
            .map(|p| (p.name.clone(), p.elements()));
        let expected: Vec<_> = own.chain(names).collect();
        let values: Vec<_> = snapshot.tensors.iter().chain(&snapshot.slots).collect();
        let wrong = |name: &str, expected, got| TrainError::Elements {
            name: name.to_owned(),
            expected,
            got,
        };
        if values.len() != expected.len() {
            return Err(wrong("all tensors", expected.len(), values.len()));
        }
        for ((name, elements), values) in expected.iter().zip(values) {
            if values.len() != *elements {
                return Err(wrong(name, *elements, values.len()));
            }
        }
        let mut state = vec![];
        let mut upload = |array: &Array, values: &[Vec<f32>]| {
            let packed = array.pack(&self.plan.parameters, values);
            let literal = Literal::from_f32(&packed, &array.dims[..])?;
            state.push(bridge::to_device(&self.client, self.device, &literal)?);
            Ok::<_, TrainError>(())
        };
        for array in &self.plan.arrays {
            upload(array, &snapshot.tensors)?;
        }
        for slot in snapshot.slots.chunks(learned) {
            for array in self.plan.learned() {
                upload(array, slot)?;
            }
        }
        self.state = state;
        self.epoch = snapshot.epoch;
        self.step = snapshot.step;
        self.losses.clone_from(&snapshot.losses);
        Ok(())
    }

    /// Copies everything that training goes on from to the host.
    ///
    /// # Errors
    /// The runtime's.
    pub fn snapshot(&self) -> Result<Snapshot, TrainError> {
        let learned = self.learned().len();
        let parameters = &self.plan.parameters;
        let mut tensors = vec![vec![]; parameters.len()];
        let mut slots = vec![vec![]; learned * self.config.optimizer.slots().len()];
        let (arrays, slot_arrays) = self.state.split_at(self.plan.arrays.len());
        let fetch = |array: &Array, buffer: &Buffer, into: &mut [Vec<f32>]| {
            for (place, values) in array.unpack(parameters, &bridge::read_f32(buffer)?) {
                into[place] = values;
            }
            Ok::<_, TrainError>(())
        };
        for (array, buffer) in self.plan.arrays.iter().zip(arrays) {
            fetch(array, buffer, &mut tensors)?;
        }
        let count = self.plan.learned().len();
        for (own, buffers) in slots.chunks_mut(learned).zip(slot_arrays.chunks(count)) {
            for (array, buffer) in self.plan.learned().iter().zip(buffers) {
                fetch(array, buffer, own)?;
            }
        }
        Ok(Snapshot {
            epoch: self.epoch,
            step: self.step,
            losses: self.losses.clone(),
            tensors,
            slots,
        })
    }

    /// Compiles what an epoch needs, so that its time is none of the compiler's.
    ///
    /// # Errors
    /// The compiler's, and those of building the program.
    pub fn compile(&mut self) -> Result<(), TrainError> {
        let left = self.plan.steps - self.step;
        let many = self.driving.steps_per_call.min(self.plan.steps);
        if many > 1 && self.many.is_none() {
            let program = self.plan.program(many, self.driving.loop_style)?;
            self.many = Some(self.compiled(&program)?);
        }
        if (many <= 1 || !left.is_multiple_of(many) || !self.plan.steps.is_multiple_of(many))
            && self.one.is_none()
        {
            let program = self.plan.program(1, self.driving.loop_style)?;
            self.one = Some(self.compiled(&program)?);
        }
        Ok(())
    }

    fn compiled(&mut self, program: &Program) -> Result<Arc<Executable>, TrainError> {
        let start = Instant::now();
        let text = program.stablehlo()?;
        let options = compile_options(&self.client, self.device, self.config.compile);
        let executable = self.programs.compiled(&self.client, &text, &options)?;
        let elapsed = start.elapsed();
        if self.compile_time.is_zero() {
            self.first_compile_time = elapsed;
        }
        self.compile_time += elapsed;
        Ok(executable)
    }

    // ANCHOR: epoch
    /// Trains to the end of the epoch in progress, or until `go_on` says to stop.
    ///
    /// * `go_on`: asked before each call, with the step within the epoch
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if a loss is no number; the runtime's. The trainer
    /// is then of no more use: go on from a snapshot with a new one.
    pub fn train_epoch(
        &mut self,
        mut go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Epoch, TrainError> {
        self.compile()?;
        let kept = self.epoch_inputs()?;
        let first = self.step;
        let mut carried = std::mem::take(&mut self.state);
        carried.push(self.upload_i32(&[first as i32], &[])?);
        let mut losses = self.losses.clone();
        losses.resize(self.plan.steps, 0.0);
        carried.push(self.upload_f32(&losses)?);

        let start = Instant::now();
        let before = self.client.transfers();
        let many = self.driving.steps_per_call;
        let mut stopped = false;
        for call in 1.. {
            let left = self.plan.steps - self.step;
            if left == 0 {
                break;
            }
            if go_on(self.step).is_break() {
                stopped = true;
                break;
            }
            let (program, steps) = match (&self.many, &self.one) {
                (Some(program), _) if left >= many.min(self.plan.steps) => {
                    (program, many.min(self.plan.steps))
                }
                (_, Some(program)) => (program, 1),
                _ => unreachable!("compile() made what the steps left need"),
            };
            let given = carried.into_iter().map(Argument::Donate);
            let read = [&self.images, &self.labels].into_iter().chain(&kept);
            carried = program.execute(given.chain(read.map(Argument::Keep)).collect())?;
            self.step += steps;
            if call % CALLS_IN_FLIGHT == 0 {
                carried[carried.len() - 1].wait()?;
            }
        }
        let last = carried.pop().expect("a program returns what it was given");
        let losses = bridge::read_f32(&last)?;
        let seconds = start.elapsed().as_secs_f64();
        // The step's number is known here.
        carried.pop();
        self.state = carried;
        let transfers = self.client.transfers() - before;
        self.close_epoch(losses, first, seconds, transfers, stopped)
    }
    // ANCHOR_END: epoch

    /// Order, factors and key of the epoch, on the device.
    fn epoch_inputs(&self) -> Result<Vec<Buffer>, TrainError> {
        let (seed, rows) = (self.config.seed, &self.train_rows);
        let inputs = self
            .plan
            .epoch_inputs(self.epoch, seed, &self.order, rows, &self.rate)?;
        let upload = |input| Ok(bridge::to_device(&self.client, self.device, input)?);
        inputs.iter().map(upload).collect()
    }

    fn close_epoch(
        &mut self,
        mut losses: Vec<f32>,
        first: usize,
        seconds: f64,
        transfers: Transfers,
        stopped: bool,
    ) -> Result<Epoch, TrainError> {
        losses.truncate(self.step);
        if let Some(step) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(TrainError::Diverged {
                epoch: self.epoch + 1,
                step: step + 1,
                total: (self.epoch * self.plan.steps + step + 1) as u64,
                loss: losses[step],
            });
        }
        let epoch = Epoch {
            number: self.epoch,
            images: (self.step - first) * self.plan.batch,
            losses: losses.clone(),
            seconds,
            transfers,
            stopped,
        };
        self.losses = losses;
        if self.step == self.plan.steps {
            self.epoch += 1;
            self.step = 0;
            self.losses.clear();
        }
        Ok(epoch)
    }

    /// Evaluates the network as it is.
    ///
    /// * `rows`: of the data set
    ///
    /// # Errors
    /// The compiler's and the runtime's.
    pub fn evaluate(&mut self, rows: &[i32]) -> Result<Evaluation, TrainError> {
        let batch = rows.len().clamp(1, 512);
        let padded = evaluation::padded(rows, batch);
        if self
            .evaluate
            .as_ref()
            .is_none_or(|(size, _)| *size != padded.len())
        {
            let program = self.plan.evaluation(padded.len(), batch)?;
            self.evaluate = Some((padded.len(), self.compiled(&program)?));
        }
        let (_, program) = self.evaluate.as_ref().expect("compiled above");
        let places = self.upload_i32(&padded, &[padded.len()])?;
        let scalar = |value: f32| Literal::from_f32(&[value], []);
        let mut carried = vec![
            self.upload_i32(&[0], &[])?,
            bridge::to_device(&self.client, self.device, &scalar(0.0)?)?,
            bridge::to_device(&self.client, self.device, &scalar(0.0)?)?,
        ];
        let tensors = &self.state[..self.plan.arrays.len()];
        for _ in 0..padded.len() / batch {
            let given = carried.into_iter().map(Argument::Donate);
            let read = tensors.iter().chain([&self.images, &self.labels, &places]);
            carried = program.execute(given.chain(read.map(Argument::Keep)).collect())?;
        }
        let loss = f64::from(bridge::read_f32(&carried[1])?[0]);
        let right = f64::from(bridge::read_f32(&carried[2])?[0]);
        let count = rows.len().max(1) as f64;
        Ok(Evaluation {
            loss: loss / count,
            accuracy: right / count,
            images: rows.len(),
        })
    }

    // ANCHOR: infer
    /// Logits of images of the host's, f32 `[images, classes]`, row-major.
    ///
    /// * `pixels`: f32 `[images, side, side, channels]`, normalised, row-major
    ///
    /// # Errors
    /// The compiler's and the runtime's.
    pub fn logits(&mut self, pixels: &[f32], side: usize) -> Result<Vec<f32>, TrainError> {
        let elements = side * side * self.config.network.channels;
        let count = pixels.len() / elements;
        let program = self.plan.inference(side, count)?;
        let dims = [count, side, side, self.config.network.channels];
        let images = Literal::from_f32(pixels, dims)?;
        let images = bridge::to_device(&self.client, self.device, &images)?;
        let program = self.compiled(&program)?;
        let tensors = self.state[..self.plan.arrays.len()].iter();
        let read = tensors.chain([&images]).map(Argument::Keep);
        let outputs = program.execute(read.collect())?;
        Ok(bridge::read_f32(&outputs[0])?)
    }
    // ANCHOR_END: infer

    fn upload_i32(&self, values: &[i32], dims: &[usize]) -> Result<Buffer, TrainError> {
        let literal = Literal::from_i32(values, dims)?;
        Ok(bridge::to_device(&self.client, self.device, &literal)?)
    }

    fn upload_f32(&self, values: &[f32]) -> Result<Buffer, TrainError> {
        let literal = Literal::from_f32(values, [values.len()])?;
        Ok(bridge::to_device(&self.client, self.device, &literal)?)
    }
}
