//! TLS: the coordinator's own certificate, and whom those of clients name.

use super::{TlsSettings, source::Source};
use leasehold_core::{identity::Principal, time::Timestamp};
use leasehold_service::access::Peer;
use parking_lot::RwLock;
use std::sync::Arc;
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// Why certificates cannot be used. Never shows a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// There is none in it.
    #[error("{place}: holds no {what} in PEM")]
    Missing {
        /// Where.
        place: String,
        /// Of what.
        what: &'static str,
    },
    /// One cannot be used.
    #[error("{place}: {why}")]
    Unusable {
        /// Where.
        place: String,
        /// Why.
        why: String,
    },
}

/// TLS as it is at present.
#[derive(Debug)]
pub(crate) struct Tls {
    settings: TlsSettings,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// `texts` are those of [`Tls::sources`].
    pub(super) fn load(settings: TlsSettings, texts: &[String]) -> Result<Arc<Self>, CertificateError> {
        let current = RwLock::new(Arc::new(config(&settings, texts)?));
        Ok(Arc::new(Self { settings, current }))
    }

    /// For the next connection.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }

    /// From here on new connections see these; those that are open go on.
    pub(super) fn reload(&self, texts: &[String]) -> Result<(), CertificateError> {
        let config = Arc::new(config(&self.settings, texts)?);
        *self.current.write() = config;
        Ok(())
    }
}

/// Certificate, key, and authorities of clients where there are any.
pub(super) fn sources(settings: &TlsSettings) -> Vec<Source> {
    let TlsSettings { certificate, key, client_ca } = settings;
    [certificate, key].into_iter().chain(client_ca).cloned().collect()
}

fn config(settings: &TlsSettings, texts: &[String]) -> Result<ServerConfig, CertificateError> {
    let TlsSettings { certificate, key, client_ca } = settings;
    let text = |at: usize| texts.get(at).map(String::as_str).unwrap_or_default();
    let unusable =
        |source: &Source, why: String| CertificateError::Unusable { place: source.to_string(), why };
    let chain = certificates(certificate, text(0))?;
    let private = PrivateKeyDer::from_pem_slice(text(1).as_bytes())
        .map_err(|_| CertificateError::Missing { place: key.to_string(), what: "private key" })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(certificate, error.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(source) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(source, text(2))? {
                roots.add(authority).map_err(|error| unusable(source, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error: VerifierBuilderError| unusable(source, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            unusable(key, format!("is not the key of the certificate in {certificate}"))
        }
        error => unusable(certificate, error.to_string()),
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(source: &Source, text: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let missing = || CertificateError::Missing { place: source.to_string(), what: "certificate" };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|_| missing())?;
    if chain.is_empty() { Err(missing()) } else { Ok(chain) }
}

/// Whom the client's certificate names, which was verified. `None` where there is none, or it names nobody.
pub(crate) fn peer(connection: &ServerConnection) -> Option<Peer> {
    named(connection.peer_certificates()?.first()?)
}

/// Its SPIFFE id, of which it must have one only (SPIFFE X.509-SVID, section 2); else its first DNS name, in lower case.
fn named(certificate: &CertificateDer<'_>) -> Option<Peer> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = &parsed.subject_alternative_name().ok()??.value.general_names;
    let mut spiffe = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("spiffe://") => Some(*uri),
        _ => None,
    });
    let principal = match (spiffe.next(), spiffe.next()) {
        (Some(_), Some(_)) => return None,
        (Some(id), None) => id.to_owned(),
        (None, _) => names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })?,
    };
    let until = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(Peer {
        principal: Principal::parse(&principal).ok()?,
        until: Timestamp::from_millis(until.saturating_mul(1000)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn principal(names: Vec<SanType>) -> Option<String> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        named(certificate.der()).map(|peer| peer.principal.to_string())
    }

    #[test]
    fn a_certificate_names_its_spiffe_id_else_its_first_dns_name() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
        let table = [
            (vec![uri("spiffe://shop/a")], Some("spiffe://shop/a")),
            (vec![dns("a.shop"), uri("https://shop/a"), uri("spiffe://shop/a")], Some("spiffe://shop/a")),
            (vec![uri("spiffe://shop/a"), uri("spiffe://shop/b")], None),
            (vec![dns("Render.Shop"), dns("b.shop")], Some("render.shop")),
            (vec![uri("https://shop/a")], None),
            (vec![], None),
        ];
        for (names, expected) in table {
            assert_eq!(principal(names.clone()).as_deref(), expected, "{names:?}");
        }
    }
}
