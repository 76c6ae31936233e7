//! Two coordinators on one table and one bucket, behind what balances connections, for the driver of the interop test: at a
//! line on its input, the next of them is told to stop and is started again.
//!
//! ```text
//! leasehold-interop-nodes PROGRAM    the coordinator's
//!
//! {"event":"ready","url":"http://127.0.0.1:40000"}
//! {"event":"rolled","status":0,"seconds":0.4,"tag":"rolled 0"}    for every line; an invalidation of this tag came after it
//! ```

use anyhow::Context as _;
use leasehold_client::{Depth, Scope};
use leasehold_fleet::{Node, Program, now, since};
use serde_json::{Value, json};
use std::{
    io::{self, BufRead as _, Write as _},
    time::Duration,
};

/// What it is given to stop in is the coordinator's default. Only ever reached by one that is broken.
const LONGEST_STOP: Duration = Duration::from_secs(40);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).context("the coordinator's program")?.into();
    let program = Program { path, arguments: Vec::new() };
    let mut nodes: [Node; 2] = Node::start_by(program, &[]).await;
    let front = Node::front(&nodes).await;
    let client = front.client_by("nodes", |builder| builder);
    say(&json!({"event": "ready", "url": front.endpoint()}));
    // This thread has nothing else to do.
    for (turn, line) in io::stdin().lock().lines().enumerate() {
        line?;
        let coordinator = &mut nodes[turn % 2].coordinator;
        let begun = now();
        coordinator.terminate();
        let status = coordinator.ended(LONGEST_STOP).await;
        let seconds = since(begun).as_secs_f64();
        coordinator.restart().await;
        let tag = format!("rolled {turn}");
        client.invalidate(&[Scope::tag(&tag)], Depth::Soft).await?;
        say(&json!({"event": "rolled", "status": status.code(), "seconds": seconds, "tag": tag}));
    }
    Ok(())
}

fn say(report: &Value) {
    let mut out = io::stdout().lock();
    // Whoever started it has gone: so does this.
    if writeln!(out, "{report}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
