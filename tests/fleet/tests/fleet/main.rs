//! Promises that only real processes can break. A test may take some seconds, because what it shows takes
//! some.

mod crash;
mod cut_off;
mod lambda;
mod load;
mod nodes;
mod outage;
mod rolling;
mod sharing;
mod takeover;
mod tenants;
