//! Promises that only real processes can break. A test may take some seconds, because what it shows takes
//! some.

mod crash;
mod load;
mod outage;
mod sharing;
mod takeover;
mod tenants;
