//! A Dask cluster of one scheduler and two workers, each a process of its own, as the book's page
//! starts it.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long the cluster may take to come up.
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster; its processes end with it.
pub struct Cluster {
    /// `tcp://127.0.0.1:PORT`.
    pub address: String,
    scheduler: Child,
    workers: Vec<Child>,
}

impl Cluster {
    /// Starts a cluster, and waits until both workers have found the scheduler.
    ///
    /// * `python`: a Python with Dask, which finds the pipelines' modules
    pub fn start(python: impl Fn() -> Command) -> Self {
        let port = free_port();
        let address = format!("tcp://127.0.0.1:{port}");
        let scheduler = python()
            .args(["-m", "dask", "scheduler", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--no-dashboard"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut cluster = Cluster {
            address,
            scheduler,
            workers: vec![],
        };
        for _ in 0..2 {
            // One thread: a Rust process works on one element at a time. No nanny: it would
            // start a killed worker anew.
            let worker = python()
                .args(["-m", "dask", "worker", &cluster.address])
                .args(["--nthreads", "1", "--no-nanny", "--no-dashboard"])
                .args(["--host", "127.0.0.1"])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            cluster.workers.push(worker);
        }
        for worker in &mut cluster.workers {
            registered(worker);
        }
        cluster
    }

    /// Ends a worker's process, and with it what it has.
    pub fn kill_one(&mut self) {
        let worker = &mut self.workers[0];
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain([&mut self.scheduler]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for a worker's word that it has found the scheduler, and reads on, so that its pipe
/// never fills.
fn registered(worker: &mut Child) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let stderr = worker.stderr.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let start = Instant::now();
    let mut words = vec![];
    while !words
        .iter()
        .any(|line: &String| line.contains("Registered to"))
    {
        match receiver.recv_timeout(LIMIT.saturating_sub(start.elapsed())) {
            Ok(line) => words.push(line),
            Err(error) => panic!("no Dask worker ({error}): {words:#?}"),
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
