//! A count of the plugin objects that are alive, so that a test can show that none leaks.

use std::sync::atomic::{AtomicI64, Ordering};

static CLIENTS: AtomicI64 = AtomicI64::new(0);
static BUFFERS: AtomicI64 = AtomicI64::new(0);
static EXECUTABLES: AtomicI64 = AtomicI64::new(0);
static EVENTS: AtomicI64 = AtomicI64::new(0);
static TOPOLOGIES: AtomicI64 = AtomicI64::new(0);

// ANCHOR: live
/// How many objects of each kind this process has, over all plugins.
///
/// A loaded program counts twice among the executables: PJRT has one object to run it and one
/// to ask about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveObjects {
    /// Clients: one for each [`Client`](crate::Client) that is not a clone.
    pub clients: i64,
    /// Arrays on devices. A donated one counts, empty, until its run is known to be over.
    pub buffers: i64,
    /// Compiled programs.
    pub executables: i64,
    /// Events: none but while a call waits for one.
    pub events: i64,
    /// Topologies.
    pub topologies: i64,
}
// ANCHOR_END: live

impl LiveObjects {
    /// Whether nothing is alive.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts the plugin objects that are alive now, in the whole process.
///
/// Other threads may change it at any time: a test that reads it runs alone in its process.
pub fn live_objects() -> LiveObjects {
    let read = |kind| counter(kind).load(Ordering::SeqCst);
    LiveObjects {
        clients: read(Kind::Client),
        buffers: read(Kind::Buffer),
        executables: read(Kind::Executable),
        events: read(Kind::Event),
        topologies: read(Kind::Topology),
    }
}

/// What is counted.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Client,
    Buffer,
    Executable,
    Event,
    Topology,
}

fn counter(kind: Kind) -> &'static AtomicI64 {
    match kind {
        Kind::Client => &CLIENTS,
        Kind::Buffer => &BUFFERS,
        Kind::Executable => &EXECUTABLES,
        Kind::Event => &EVENTS,
        Kind::Topology => &TOPOLOGIES,
    }
}

/// One more.
pub(crate) fn born(kind: Kind) {
    counter(kind).fetch_add(1, Ordering::SeqCst);
}

/// One less.
pub(crate) fn died(kind: Kind) {
    counter(kind).fetch_sub(1, Ordering::SeqCst);
}
