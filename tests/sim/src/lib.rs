//! A deterministic simulation of the whole system, one process for each seed.
//!
//! What runs is real: the client (`leasehold-client`), coordinators (`leasehold-service`, engine and gRPC edge) and the
//! adapters under them (`leasehold-aws`, with the AWS SDK) over the doubles of DynamoDB and S3. Simulated are the network
//! between them, time, and every clock: see [`machine`]. A seed decides everything: the [`plan`] of how many there are and of
//! what goes wrong, the [`load`], every delay, and every random choice. What clients asked and were answered is the history
//! that [`leasehold_checker`] judges, which knows the promises and nothing of the system. Neither it nor the load knows where it runs:
//! `tests/chaos` has both with processes.
//!
//! Nothing is interposed. Three things that the operating system draws are left, and change neither what happens nor when: the
//! order of std's hash maps, which the SDK writes the attributes of an item in; the signature over that; and the date in the
//! answers of hyper's HTTP/2 server. So a trace has the arrival of every packet, but of those that hold any of this not the
//! bytes.

pub mod audit;
pub mod load;
pub mod machine;
pub mod many;
pub mod mutants;
pub mod parts;
pub mod plan;
pub mod recorder;
pub mod report;
pub mod stage;
pub mod trace;
pub mod world;
