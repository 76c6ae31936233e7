//! What is measured: every cell has its turn in every round.

use crate::{
    drive::{self, Measured, Turn},
    echo::wire::echo_service_client::EchoServiceClient,
    echoes::{Echoes, Sizes},
    pages::{self, Lookups, Naming, Regenerations},
    process::ServerProcess,
};
use leasehold_proto::v1::{self, coordinator_service_client::CoordinatorServiceClient};
use prost::Message as _;
use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};
use tonic::transport::{Channel, Endpoint};

/// In flight over [`CONNECTIONS`] in the cells under load; the others have one, over one connection.
pub(crate) const MANY: usize = 64;
/// Connections under load.
const CONNECTIONS: usize = 4;

/// Unary, or over one stream on each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    Lookup,
    LookupStream,
}

/// One kind of lookup at one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) rpc: Rpc,
    pub(crate) naming: Naming,
    pub(crate) with_body: bool,
    pub(crate) in_flight: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rpc = match self.rpc {
            Rpc::Lookup => "Lookup",
            Rpc::LookupStream => "LookupStream",
        };
        let naming = match self.naming {
            Naming::Key => "",
            Naming::Request => " by request",
        };
        let body = if self.with_body { " with 20 KB" } else { "" };
        write!(f, "{rpc}{naming}{body}, {} in flight", self.in_flight)
    }
}

impl Cell {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for rpc in [Rpc::Lookup, Rpc::LookupStream] {
            for with_body in [false, true] {
                for in_flight in [1, MANY] {
                    cells.push(Self { rpc, naming: Naming::Key, with_body, in_flight });
                }
            }
            // What it costs to derive the key shows best where nothing else does.
            cells.push(Self { rpc, naming: Naming::Request, with_body: false, in_flight: MANY });
        }
        cells
    }
}

/// Connections to both servers.
pub(crate) struct Clients {
    coordinator: Vec<CoordinatorServiceClient<Channel>>,
    echo: Vec<EchoServiceClient<Channel>>,
    regenerated: Arc<AtomicU64>,
}

/// The bytes of one cell's messages.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct CellSizes {
    pub(crate) unary: Sizes,
    pub(crate) stream: Sizes,
}

impl Clients {
    pub(crate) async fn connect(coordinator: &ServerProcess, echo: &ServerProcess) -> anyhow::Result<Self> {
        let mut clients = Self { coordinator: Vec::new(), echo: Vec::new(), regenerated: Arc::default() };
        for _ in 0..CONNECTIONS {
            clients.coordinator.push(CoordinatorServiceClient::new(channel(coordinator.address()).await?));
            clients.echo.push(EchoServiceClient::new(channel(echo.address()).await?));
        }
        Ok(clients)
    }

    /// A client of the coordinator, and the number of the next regeneration.
    pub(crate) fn seeding(&self) -> (CoordinatorServiceClient<Channel>, &AtomicU64) {
        (self.coordinator[0].clone(), &self.regenerated)
    }

    fn lookups(&self, cell: Cell) -> Vec<Lookups> {
        let clients = &self.coordinator[..connections(cell.in_flight)];
        clients
            .iter()
            .map(|client| {
                Lookups::new(client.clone(), pages::TENANT, pages::PAGES, cell.naming, cell.with_body)
            })
            .collect()
    }

    /// How large a cell's messages are, by a real exchange.
    pub(crate) async fn sizes(&self, cell: Cell) -> anyhow::Result<CellSizes> {
        let (request, response) = self.lookups(cell)[0].exchange().await?;
        let unary = Sizes { request_bytes: request.encoded_len(), response_bytes: response.encoded_len() };
        let request = v1::LookupStreamRequest { id: 1, lookup: Some(request), timeout: None };
        let result = Some(v1::lookup_stream_response::Result::Response(response));
        let response = v1::LookupStreamResponse { id: 1, result };
        let stream = Sizes { request_bytes: request.encoded_len(), response_bytes: response.encoded_len() };
        Ok(CellSizes { unary, stream })
    }

    /// One turn of the coordinator.
    pub(crate) async fn look_up(
        &self,
        cell: Cell,
        turn: Turn,
        server: &mut ServerProcess,
    ) -> anyhow::Result<Measured> {
        let lookups = self.lookups(cell);
        match cell.rpc {
            Rpc::Lookup => drive::unary(&lookups, cell.in_flight, turn, server).await,
            Rpc::LookupStream => drive::streams(&lookups, cell.in_flight, turn, server).await,
        }
    }

    /// One turn of the bare echo, with messages of the same sizes.
    pub(crate) async fn echo(
        &self,
        cell: Cell,
        sizes: CellSizes,
        turn: Turn,
        server: &mut ServerProcess,
    ) -> anyhow::Result<Measured> {
        let clients = &self.echo[..connections(cell.in_flight)];
        let echoes = clients.iter().map(|client| Echoes::new(client.clone(), sizes.unary, sizes.stream));
        let echoes = echoes.collect::<Vec<_>>();
        match cell.rpc {
            Rpc::Lookup => drive::unary(&echoes, cell.in_flight, turn, server).await,
            Rpc::LookupStream => drive::streams(&echoes, cell.in_flight, turn, server).await,
        }
    }

    /// One turn of regenerations.
    pub(crate) async fn regenerate(
        &self,
        in_flight: usize,
        turn: Turn,
        server: &mut ServerProcess,
    ) -> anyhow::Result<Measured> {
        let clients = &self.coordinator[..connections(in_flight)];
        let regenerations =
            clients.iter().map(|client| Regenerations::new(client.clone(), Arc::clone(&self.regenerated)));
        drive::unary(&regenerations.collect::<Vec<_>>(), in_flight, turn, server).await
    }
}

fn connections(in_flight: usize) -> usize {
    in_flight.min(CONNECTIONS)
}

/// A connection to a server.
pub(crate) async fn channel(address: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024);
    Ok(endpoint.connect().await?)
}
