//! What stands before several coordinators: a balancer of connections, as cloud providers have.

use crate::coordinator::client_of;
use leasehold_client::{Builder, Coordinator};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Gives each new connection to the next node that takes it. A connection stays where it is: when its node dies, it breaks,
/// and the client's next one goes to another.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Front {
    pub(crate) async fn start(nodes: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.unwrap_or_else(|error| panic!("no socket: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        Self { address, accepting: tokio::spawn(accept(listener, nodes)) }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of whichever node its connections are given to, named `owner`.
    pub fn client_by(&self, owner: &str, configure: impl FnOnce(Builder) -> Builder) -> Coordinator {
        client_of(self.endpoint(), owner, configure)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The connections are tasks of this one, so that they end with it.
async fn accept(listener: TcpListener, nodes: Vec<SocketAddr>) {
    let mut connections = JoinSet::new();
    for turn in 0.. {
        let accepted = listener.accept().await;
        let (client, _) = accepted.unwrap_or_else(|error| panic!("the front: {error}"));
        while connections.try_join_next().is_some() {}
        let mut by_turn = nodes.clone();
        by_turn.rotate_left(turn % nodes.len());
        connections.spawn(join(client, by_turn));
    }
}

async fn join(mut client: TcpStream, nodes: Vec<SocketAddr>) {
    for node in nodes {
        // Nobody listens where a node is down.
        let Ok(mut node) = TcpStream::connect(node).await else { continue };
        // Small messages would wait for acknowledgements otherwise.
        let _ = (client.set_nodelay(true), node.set_nodelay(true));
        // Whichever side breaks off, the other is told by the end of its connection.
        let _ = copy_bidirectional(&mut client, &mut node).await;
        return;
    }
}
