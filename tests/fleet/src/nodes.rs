//! Several coordinators on one table and one bucket.

use crate::{CoordinatorProcess, Front, Program, coordinator};
use leasehold_aws::testing::{Doubles, Fault, Rule};
use std::fmt;

/// A coordinator that shares its table and its bucket with others, and nothing else. The doubles of both run in the
/// process of the test.
pub struct Node {
    /// The process.
    pub coordinator: CoordinatorProcess,
    /// Its way to the table and the bucket: faults that are added here happen to nobody else, and counts are of its own
    /// requests.
    pub network: Doubles,
}

impl Node {
    /// So many, with these flags besides, on a table and a bucket that `leasehold init` has created.
    pub async fn start<const NODES: usize>(settings: &[&'static str]) -> [Self; NODES] {
        Self::start_by(Program::default(), settings).await
    }

    /// As [`start`](Self::start), each by this program.
    pub async fn start_by<const NODES: usize>(program: Program, settings: &[&'static str]) -> [Self; NODES] {
        let doubles = Doubles::new();
        coordinator::init(&program, &doubles.listen().await).await;
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let network = doubles.beside();
            let listening = network.listen().await;
            let coordinator = CoordinatorProcess::start_on_aws(program.clone(), listening, settings).await;
            nodes.push(Self { coordinator, network });
        }
        nodes.try_into().unwrap_or_else(|_| unreachable!("as many as were started"))
    }

    /// What `leasehold sweep` with these flags says of the table and the bucket, as JSON.
    ///
    /// # Panics
    /// When it fails.
    pub async fn sweep(&self, flags: &[&str]) -> String {
        self.network.dynamodb.allow_scan(100);
        coordinator::sweep(&self.network.beside().listen().await, flags).await
    }

    /// What balances connections between these.
    pub async fn front(nodes: &[Self]) -> Front {
        Front::start(nodes.iter().map(|node| node.coordinator.address()).collect()).await
    }

    /// Cuts it off from DynamoDB: what it asks is never answered. S3 goes on.
    pub fn cut_off_from_dynamodb(&self) {
        for operation in ["GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"] {
            self.network.faults.add(Rule::on(operation, Fault::HangBefore));
        }
    }

    /// Ends every fault of its network. What hangs by then hangs on.
    pub fn reconnect(&self) {
        self.network.faults.clear();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}
