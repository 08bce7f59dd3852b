//! A copy of the network that works with one thread.
//!
//! With one operator on all cores, every layer ends at a barrier: a core that
//! was held up for a moment, by the decoder or by another program, holds up the
//! others. Copies that share nothing but the weights meet once a batch instead
//! of once a layer.

use std::{
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use tch::{TchError, Tensor};

use crate::{resnet::network::Network, tch_engine::set_threads};

type Job = (Tensor, Sender<Result<Tensor, TchError>>);

/// The thread, and the way to it. It ends when this is dropped.
#[derive(Debug)]
pub struct Stream(Sender<Job>);

/// Logits under way.
#[derive(Debug)]
pub struct Reply(Receiver<Result<Tensor, TchError>>);

// ANCHOR: stream
impl Stream {
    /// Starts the thread. It lives as long as the model: oneDNN keeps its
    /// compiled kernels by thread.
    pub fn start(network: Network) -> Self {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || {
            set_threads(1);
            let _inference = tch::no_grad_guard();
            for (x, reply) in jobs {
                // Nobody waits any more: the batch was given up.
                let _ = reply.send(network.forward(&x, false));
            }
        });
        Stream(sender)
    }

    /// Hands over a part of a batch.
    pub fn send(&self, x: Tensor) -> Reply {
        let (reply, logits) = mpsc::channel();
        // A thread that has died drops the job, and the reply says so.
        let _ = self.0.send((x, reply));
        Reply(logits)
    }
}
// ANCHOR_END: stream

impl Reply {
    /// Waits for the logits.
    ///
    /// # Errors
    /// libtorch's, or that the thread died.
    pub fn wait(self) -> Result<Tensor, TchError> {
        self.0
            .recv()
            .unwrap_or_else(|_| Err(TchError::Torch("a stream's thread died".into())))
    }
}
