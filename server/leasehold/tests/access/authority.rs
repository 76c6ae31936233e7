//! Certificates, made in the test.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use std::time::Duration;

/// Signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Certified {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// For the coordinator.
    pub(crate) fn server(&self) -> Certified {
        self.certify(vec![SanType::DnsName("localhost".try_into().unwrap())], Duration::from_secs(3600))
    }

    /// For somebody of this name: a SPIFFE id, or a DNS name.
    pub(crate) fn client(&self, name: &str) -> Certified {
        self.certify(vec![named(name)], Duration::from_secs(3600))
    }

    /// For as long as this. Certificates go by whole seconds.
    pub(crate) fn short_lived(&self, name: &str, life: Duration) -> Certified {
        self.certify(vec![named(name)], life)
    }

    /// One that is over.
    pub(crate) fn expired(&self, name: &str) -> Certified {
        self.certify(vec![named(name)], Duration::ZERO)
    }

    fn certify(&self, names: Vec<SanType>, life: Duration) -> Certified {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let now = super::now();
        params.not_before = (now - Duration::from_secs(3600)).into();
        params.not_after = (now + life - Duration::from_secs(1)).into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certified { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn named(name: &str) -> SanType {
    if name.contains("://") {
        SanType::URI(name.try_into().unwrap())
    } else {
        SanType::DnsName(name.try_into().unwrap())
    }
}
