//! The doubles on loopback sockets, for coordinators that are processes of their own.

use super::{
    Doubles,
    connector::{Answer, Server},
};
use crate::{connect::Aws, settings::AwsSettings};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_runtime_api::client::{orchestrator::HttpRequest, result::ConnectorError};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use http::{Request, Response, Uri, header::HOST, uri::PathAndQuery};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

/// Where [`Doubles::listen`] listens, until it is dropped: then every connection breaks, and no new one is made. What the
/// services keep stays.
#[derive(Debug)]
pub struct Listening {
    /// DynamoDB.
    pub dynamodb_url: String,
    /// S3. Buckets are named in the path: `s3_path_style`.
    pub s3_url: String,
    tasks: [JoinHandle<()>; 2],
}

impl Listening {
    /// On sockets that the system picks, before this script and these counts.
    pub(super) async fn start(dynamodb: Server, s3: Server) -> Self {
        let (dynamodb_url, for_dynamodb) = serve(dynamodb).await;
        let (s3_url, for_s3) = serve(s3).await;
        Self { dynamodb_url, s3_url, tasks: [for_dynamodb, for_s3] }
    }

    /// These settings, with what is needed to come here.
    pub fn settings(&self, settings: AwsSettings) -> AwsSettings {
        AwsSettings {
            dynamodb_endpoint: Some(self.dynamodb_url.clone()),
            s3_endpoint: Some(self.s3_url.clone()),
            s3_path_style: true,
            ..settings
        }
    }

    /// A handle with connections of its own, made by the SDK's own HTTP client as in production. Nothing is taken from the
    /// environment.
    pub fn connect(&self, settings: AwsSettings) -> Aws {
        let credentials = Credentials::new(Doubles::ACCESS_KEY, Doubles::SECRET_KEY, None, None, "fixed");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(settings.region.clone().map(Region::new))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        Aws::on(&config, None, self.settings(settings))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn serve(server: Server) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback socket");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    (url, tokio::spawn(accept(listener, server)))
}

/// The connections are tasks of this one, so that they end with it.
async fn accept(listener: TcpListener, server: Server) {
    let mut connections = JoinSet::new();
    loop {
        // Out of descriptors, for one: those who wait are taken when there are some again.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        // An answer is small, and its reader waits for it.
        let _ = stream.set_nodelay(true);
        let server = server.clone();
        let service = service_fn(move |request| answer(server.clone(), request));
        // Broken connections are what the other side is told of.
        connections.spawn(async {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await)
        });
    }
}

/// An error breaks the connection without an answer.
async fn answer(server: Server, request: Request<Incoming>) -> Result<Response<SdkBody>, ConnectorError> {
    let answer: Answer = server(received(request).await?).await;
    answer?.try_into_http1x().map_err(|error| ConnectorError::other(error.into(), None))
}

/// As the SDK hands it to a connector: the URI is a whole one, and the body is in memory.
async fn received(request: Request<Incoming>) -> Result<HttpRequest, ConnectorError> {
    let user = |error: http::Error| ConnectorError::user(error.into());
    let (mut head, body) = request.into_parts();
    let host = head.headers.get(HOST).map_or(&b""[..], |host| host.as_bytes());
    let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    head.uri = Uri::builder().scheme("http").authority(host).path_and_query(path).build().map_err(user)?;
    let body = ByteStream::new(SdkBody::from_body_1_x(body)).collect().await;
    let body = body.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    HttpRequest::try_from(Request::from_parts(head, SdkBody::from(body)))
        .map_err(|error| ConnectorError::user(error.into()))
}
