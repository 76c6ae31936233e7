//! How many connections it has, and with whom.

use crate::process::{Coordinator, PATIENCE, get};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

/// What a client says first: the preface, and settings that change nothing.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn connect(coordinator: &Coordinator) -> TcpStream {
    let connection = TcpStream::connect(coordinator.endpoint.strip_prefix("http://").unwrap()).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// A connection that was answered.
fn begin(coordinator: &Coordinator) -> TcpStream {
    let mut connection = connect(coordinator);
    connection.write_all(BEGINNING).unwrap();
    connection.read_exact(&mut [0]).unwrap();
    connection
}

/// Waits until the coordinator closes it, without a word.
fn assert_closed(mut connection: &TcpStream) {
    match connection.read(&mut [0]) {
        Ok(0) => {}
        // Where it was sent something that it did not read.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn connections_over_the_limit_are_closed_and_places_come_back() {
    let settings = ["--admin-listen", "127.0.0.1:0", "--max-connections", "2"];
    let coordinator = Coordinator::start(&settings);
    let [one, other] = [begin(&coordinator), begin(&coordinator)];
    let mut over = connect(&coordinator);
    over.write_all(BEGINNING).unwrap();
    assert_closed(&over);
    coordinator.process.wait_for_log("over the limit of connections");
    let (_, metrics) = get(coordinator.admin(), "/metrics");
    for line in [
        "leasehold_places{what=\"connections\"} 2",
        "leasehold_places_taken{what=\"connections\"} 2",
        "leasehold_connections_refused_total 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    drop((one, other));
    assert!((0..1000).any(|_| coordinator.run("healthcheck").code == Some(0)), "no place comes back");
}

#[test]
fn connections_that_say_nothing_take_no_places_and_are_closed() {
    let coordinator = Coordinator::start(&["--max-connections", "1"]);
    let silent: Vec<_> = (0..8).map(|_| connect(&coordinator)).collect();
    let serving = begin(&coordinator);
    for connection in &silent {
        assert_closed(connection);
    }
    drop(serving);
}

#[test]
fn whoever_speaks_another_protocol_is_not_waited_for() {
    let coordinator = Coordinator::start(&["--max-connections", "1"]);
    for said in ["GET / HTTP/1.1\r\n\r\n", "\u{16}\u{3}\u{1}"] {
        let mut connection = connect(&coordinator);
        connection.write_all(said.as_bytes()).unwrap();
        assert_closed(&connection);
    }
}
