//! Training with the crate's client: what [`crate::trainer`] does with `pjrt-runtime`,
//! for one step a call.

use std::time::Instant;

use accel::{device::DeviceRequest, exit, human, progress::Progress, stdout::print_line};
use training_graph::{Literal, Program, TensorType};
use xla::{PjRtBuffer, PjRtClient, PjRtLoadedExecutable};

use super::lower::{XlaRsError, element_type, lower, words};
use crate::{
    cli::TrainArgs,
    config::{LoopStyle, TrainConfig},
    data_set::DataSet,
    evaluation,
    failure::{Refused, Unavailable},
    order::Order,
    parameters,
    schedule::Schedule,
    trainer::{Evaluation, TrainError},
    training_step::StepPlan,
};

/// Trains as `--lower xla-rs` asks, and saves nothing.
///
/// # Errors
/// [`Refused`] for flags that have no meaning here, [`XlaRsError`] and [`TrainError`].
pub fn run(args: &TrainArgs, config: &TrainConfig, data: &DataSet) -> anyhow::Result<u8> {
    refuse(args)?;
    let progress = Progress::new(Some(config.epochs as u64), "epochs", args.quiet);
    let client = open(args.device.device, &progress)?;
    progress.println("--lower xla-rs saves no checkpoints and no model");
    let start = Instant::now();
    let mut training = Training::new(client, config, data)?;
    let loading_seconds = start.elapsed().as_secs_f64();
    let images = training.plan.steps * config.batch;
    let mut seconds = 0.0;
    for epoch in 0..config.epochs {
        let start = Instant::now();
        let losses = training.epoch(epoch)?;
        let own = start.elapsed().as_secs_f64();
        seconds += own;
        progress.inc(1);
        progress.println(&format!(
            "epoch {:>3}/{}  loss {:.4}  {}",
            epoch + 1,
            config.epochs,
            losses.iter().sum::<f32>() / losses.len() as f32,
            human::rate(images as f64 / own, "images"),
        ));
    }
    let validation = training.evaluate(&data.validation)?;
    progress.finish();
    print_line(&format!(
        "trained {} images in {}, compiled and loaded in {}",
        config.epochs * images,
        human::duration(seconds),
        human::duration(loading_seconds),
    ))?;
    print_line(&format!(
        "validation accuracy {:.2}% of {} images held out",
        100.0 * validation.accuracy,
        validation.images
    ))?;
    Ok(exit::OK)
}

/// Flags that would be passed over in silence: those that differ from a command line
/// without any.
fn refuse(args: &TrainArgs) -> anyhow::Result<()> {
    let plain = TrainArgs::plain();
    let given = [
        ("--plugin", args.device.plugin.is_some()),
        (
            "--steps-per-call",
            args.driving.steps_per_call.is_some_and(|steps| steps != 1),
        ),
        (
            "--loop",
            args.driving.loop_style != plain.driving.loop_style,
        ),
        ("--out", args.out != plain.out),
        ("--resume", args.resume),
        ("--keep", args.keep != plain.keep),
        ("--json", args.json),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => Err(Refused(format!(
            "{flag} has no meaning with --lower xla-rs, which takes one step a call with the \
             client of the crate xla and writes no files; leave one of the two out"
        ))
        .into()),
    }
}

/// A client of the device that was asked for: the CPU, or the first GPU, as the crate
/// compiles for its client's first device and has no option for another.
fn open(request: DeviceRequest, progress: &Progress) -> anyhow::Result<PjRtClient> {
    // Memory as it is needed, up to nine tenths: see `crate::device`.
    let gpu = || PjRtClient::gpu(0.9, false).map_err(|error| words(&error));
    let (client, why) = match request {
        DeviceRequest::Cpu => (PjRtClient::cpu(), "as asked".to_owned()),
        DeviceRequest::Auto => match gpu() {
            Ok(client) => (Ok(client), "a GPU works".to_owned()),
            Err(error) => (PjRtClient::cpu(), format!("no GPU: {error}")),
        },
        DeviceRequest::Cuda(None | Some(0)) => match gpu() {
            Ok(client) => (Ok(client), "as asked".to_owned()),
            Err(error) => return Err(Unavailable(format!("--device {request}: {error}")).into()),
        },
        DeviceRequest::Cuda(Some(_)) | DeviceRequest::Tpu => {
            let wrong = "--lower xla-rs runs on the CPU or the first GPU (CUDA_VISIBLE_DEVICES)";
            return Err(Unavailable(format!("--device {request}: {wrong}")).into());
        }
    };
    let client = client.map_err(XlaRsError::Xla)?;
    let platform = client.platform_name();
    progress.println(&format!(
        "device {platform} ({why}); client of the crate xla"
    ));
    Ok(client)
}

/// A training in progress.
struct Training<'a> {
    client: PjRtClient,
    config: &'a TrainConfig,
    rows: &'a [i32],
    plan: StepPlan,
    rate: Schedule,
    step: PjRtLoadedExecutable,
    images: PjRtBuffer,
    labels: PjRtBuffer,
    /// Every carried input but the last two, `step` and `losses`.
    state: Vec<PjRtBuffer>,
}

impl<'a> Training<'a> {
    /// Compiles the training step, brings the data set and the first weights to the device.
    fn new(client: PjRtClient, config: &'a TrainConfig, data: &'a DataSet) -> anyhow::Result<Self> {
        let plan = StepPlan::new(config, data, &client.platform_name());
        let rate = Schedule::new(
            config.schedule,
            config.learning_rate,
            config.warmup_steps as u64,
            (config.epochs * plan.steps) as u64,
        )?;
        let step = compile(&client, &plan.program(1, LoopStyle::Unroll)?)?;

        let images = upload(&client, &plan.images.pixels(data)?)?;
        let labels = upload(&client, &Literal::from_i32(&data.labels, [data.rows()])?)?;
        let first = parameters::initial(&plan.parameters, config.seed);
        let mut state = vec![];
        for array in &plan.arrays {
            let values = Literal::from_f32(&array.pack(&plan.parameters, &first), &array.dims[..])?;
            state.push(upload(&client, &values)?);
        }
        let carried = plan.inputs().carried;
        for (_, ty) in &carried[state.len()..carried.len() - 2] {
            state.push(upload(&client, &Literal::splat(0.0, ty.clone())?)?);
        }
        let rows = &data.train;
        Ok(Training {
            client,
            config,
            rows,
            plan,
            rate,
            step,
            images,
            labels,
            state,
        })
    }

    // ANCHOR: epoch
    /// Trains for one epoch; returns the loss of each step, in nats.
    fn epoch(&mut self, epoch: usize) -> anyhow::Result<Vec<f32>> {
        let steps = self.plan.steps;
        let kept = self.epoch_inputs(epoch)?;
        let mut carried = std::mem::take(&mut self.state);
        carried.push(upload(&self.client, &Literal::from(0i32))?);
        carried.push(upload(
            &self.client,
            &Literal::from_f32(&vec![0.0; steps], [steps])?,
        )?);
        for _ in 0..steps {
            let read = [&self.images, &self.labels].into_iter().chain(&kept);
            carried = execute(&self.step, carried.iter().chain(read))?;
        }
        let losses = read_f32(&carried[carried.len() - 1])?;
        carried.truncate(carried.len() - 2);
        self.state = carried;
        match losses.iter().position(|loss| !loss.is_finite()) {
            None => Ok(losses),
            Some(step) => Err(TrainError::Diverged {
                epoch: epoch + 1,
                step: step + 1,
                total: (epoch * steps + step + 1) as u64,
                loss: losses[step],
            }
            .into()),
        }
    }
    // ANCHOR_END: epoch

    /// Order, factors and key of the epoch, as the trainer has them.
    fn epoch_inputs(&self, epoch: usize) -> anyhow::Result<Vec<PjRtBuffer>> {
        let seed = self.config.seed;
        let order = Order::Shuffled { seed };
        let inputs = self
            .plan
            .epoch_inputs(epoch, seed, &order, self.rows, &self.rate)?;
        let upload = |input| Ok(upload(&self.client, input)?);
        inputs.iter().map(upload).collect()
    }

    /// Evaluates the network as it is on some rows of the data set.
    fn evaluate(&self, rows: &[i32]) -> anyhow::Result<Evaluation> {
        let batch = rows.len().clamp(1, 512);
        let padded = evaluation::padded(rows, batch);
        let program = compile(&self.client, &self.plan.evaluation(padded.len(), batch)?)?;
        let places = upload(&self.client, &Literal::from_i32(&padded, [padded.len()])?)?;
        let mut carried = vec![];
        for (_, ty) in StepPlan::evaluation_carried() {
            carried.push(upload(&self.client, &Literal::splat(0.0, ty)?)?);
        }
        let tensors = &self.state[..self.plan.arrays.len()];
        for _ in 0..padded.len() / batch {
            let read = tensors.iter().chain([&self.images, &self.labels, &places]);
            carried = execute(&program, carried.iter().chain(read))?;
        }
        let count = rows.len().max(1) as f64;
        Ok(Evaluation {
            loss: f64::from(read_f32(&carried[1])?[0]) / count,
            accuracy: f64::from(read_f32(&carried[2])?[0]) / count,
            images: rows.len(),
        })
    }
}

fn compile(client: &PjRtClient, program: &Program) -> Result<PjRtLoadedExecutable, XlaRsError> {
    Ok(client.compile(&lower(program)?)?)
}

/// Copies an array to the client's first device.
fn upload(client: &PjRtClient, literal: &Literal) -> Result<PjRtBuffer, XlaRsError> {
    let TensorType { dtype, dims } = literal.ty();
    let bytes = literal.as_bytes();
    Ok(client.buffer_from_host_raw_bytes(element_type(*dtype), bytes, dims, None)?)
}

/// Runs a program; its outputs, one buffer each. Inputs that are aliases of outputs are
/// used up, though the crate takes them by reference: the caller must let them go.
fn execute<'b>(
    program: &PjRtLoadedExecutable,
    inputs: impl Iterator<Item = &'b PjRtBuffer>,
) -> Result<Vec<PjRtBuffer>, XlaRsError> {
    let inputs: Vec<_> = inputs.collect();
    // One list of outputs for each device that takes part.
    let mut outputs = program.execute_b(&inputs)?;
    Ok(outputs.pop().unwrap_or_default())
}

fn read_f32(buffer: &PjRtBuffer) -> Result<Vec<f32>, XlaRsError> {
    Ok(buffer.to_literal_sync()?.to_vec()?)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::{
        device,
        trainer::{Driving, Trainer},
    };

    /// Two epochs of one step each: the second loss shows the first step's update.
    #[test]
    #[ignore = "needs: the archive of the crate xla; XLA_EXTENSION_DIR=FOLDER cargo test --release -p tpu-training --features xla-rs -- --ignored"]
    fn losses_are_those_of_the_other_front_door() {
        let data = DataSet::made_up(128, 8, 1, 10);
        let config = TrainConfig {
            epochs: 2,
            warmup_steps: 0,
            ..TrainConfig::digits()
        };
        let opened = device::open(DeviceRequest::Cpu, None).unwrap();
        let driving = Driving {
            steps_per_call: 1,
            loop_style: LoopStyle::While,
        };
        let mut trainer = Trainer::new(&opened.client, 0, &config, &data, driving).unwrap();
        let mut training = Training::new(PjRtClient::cpu().unwrap(), &config, &data).unwrap();
        for epoch in 0..2 {
            let expected = trainer
                .train_epoch(|_| ControlFlow::Continue(()))
                .unwrap()
                .losses;
            let got = training.epoch(epoch).unwrap();
            assert_eq!((expected.len(), got.len()), (1, 1));
            let off = (got[0] / expected[0] - 1.0).abs();
            assert!(off < 1e-3, "epoch {epoch}: {} and {}", got[0], expected[0]);
        }
    }
}
