//! The suite of the ports, on DynamoDB and S3. No clause is excluded.

use leasehold_aws::{
    AwsSettings, Layout,
    testing::{AwsFixture, Doubles, Fault, Rule},
};
use leasehold_store::decorators::faults::Gate;

/// Behind the empty script and the counters that every double has.
mod plain {
    use super::*;
    leasehold_store::conformance_suite!(AwsFixture::new().await);
}

/// Faults that a caller cannot tell from a slow service.
mod with_an_open_gate_before_every_request {
    use super::*;
    leasehold_store::conformance_suite!({
        let (doubles, gate) = (Doubles::new(), Gate::new());
        gate.open();
        doubles.faults.add(Rule::on_any(Fault::Hold(gate)));
        AwsFixture::with(doubles, Doubles::settings()).await
    });
}

/// Another template, another log, and keys of objects without their prefix.
mod under_another_layout {
    use super::*;
    leasehold_store::conformance_suite!(
        AwsFixture::with(
            Doubles::new(),
            AwsSettings {
                layout: Layout {
                    entry_key: "A#{tenant}#B#{deployment}#C#{digest}".parse().expect("a template"),
                    log_key: "another log".into(),
                    s3_key_prefix: "isr/".into(),
                },
                ..Doubles::settings()
            },
        )
        .await
    );
}
