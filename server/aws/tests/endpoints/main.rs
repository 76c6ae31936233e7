//! The suite of the ports on a DynamoDB and an S3 that are reached over a network: emulators, other servers, AWS itself.
//!
//! One module for each kind of server, with the clauses that it cannot pass and why. Which module runs is chosen by a
//! filter, because the names say what is asked: `tests/aws/run` does that, starts the servers, and sets the variables that
//! [`leasehold_aws::testing::endpoints`] tells of. The wire's part of the suite is beside the binary, in the same modules.

use leasehold_aws::testing::endpoints::EndpointFixture;

/// AWS, and whatever is like it in everything.
mod aws {
    use super::*;
    leasehold_store::conformance_suite!(EndpointFixture::new().await);
}

/// moto, for the table and the bucket.
mod moto {
    use super::*;
    leasehold_store::conformance_suite!(EndpointFixture::new().await);
}

/// versitygw over a directory, for the bucket; the table is moto's.
mod versitygw {
    use super::*;
    leasehold_store::conformance_suite!(EndpointFixture::new().await, exclude: {
        names_that_resemble_each_other_never_touch => "objects are files: none can be where the directory of another \
            one is, as with a/b and a/b/c",
    });
}
