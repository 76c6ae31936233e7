//! Who may call: flags that make sense together.

use crate::{
    access::{AccessSettings, Auth, JwtSettings, Source, TlsSettings},
    cli::{Refused, variable},
    flags::{AccessFlags, AuthMode},
};
use std::{net::SocketAddr, path::PathBuf};

impl AccessFlags {
    /// The settings, where they make sense for a coordinator that listens there.
    pub(super) fn into_settings(
        self,
        listen: SocketAddr,
        allow_remote: bool,
    ) -> Result<AccessSettings, Refused> {
        let Self {
            auth,
            policy,
            tokens,
            jwt_keys,
            jwt_issuer,
            jwt_audience,
            jwt_principal_claim,
            tls_cert,
            tls_key,
            tls_client_ca,
            reload_interval,
        } = self;
        let policy = source("policy", policy, "LEASEHOLD_POLICY_TOML")?;
        let tokens = source("tokens", tokens, "LEASEHOLD_TOKENS_TOML")?;
        let certificate = source("tls-cert", tls_cert, "LEASEHOLD_TLS_CERT_PEM")?;
        let key = source("tls-key", tls_key, "LEASEHOLD_TLS_KEY_PEM")?;
        let client_ca = source("tls-client-ca", tls_client_ca, "LEASEHOLD_TLS_CLIENT_CA_PEM")?;

        let by_token = auth == AuthMode::Token;
        let given = [
            ("policy", policy.is_some(), auth != AuthMode::None, "--auth token or mtls"),
            ("tokens", tokens.is_some(), by_token, "--auth token"),
            ("jwt-keys", jwt_keys.is_some(), by_token, "--auth token"),
            ("jwt-issuer", jwt_issuer.is_some(), jwt_keys.is_some(), "--jwt-keys"),
            ("jwt-audience", jwt_audience.is_some(), jwt_keys.is_some(), "--jwt-keys"),
            ("tls-key", key.is_some(), certificate.is_some(), "--tls-cert"),
            ("tls-client-ca", client_ca.is_some(), auth == AuthMode::Mtls, "--auth mtls"),
        ];
        // Somebody who sets these believes that they guard something.
        for (flag, is_given, has_effect, with) in given {
            if is_given && !has_effect {
                return Err(Refused::usage(format!(
                    "--{flag} ({}) has no effect without {with}; add the one or leave out the other",
                    variable(flag)
                )));
            }
        }
        let tls = match (certificate, key) {
            (None, _) => None,
            (Some(_), None) => return Err(needed("--tls-cert", "tls-key", "the certificate's private key")),
            (Some(certificate), Some(key)) => Some(TlsSettings { certificate, key, client_ca }),
        };
        let auth = match auth {
            AuthMode::None => Auth::None,
            AuthMode::Token => {
                let policy = policy.ok_or_else(|| needed("--auth token", "policy", WHAT_A_POLICY_IS))?;
                let jwt = match jwt_keys {
                    None => None,
                    Some(keys) => Some(JwtSettings {
                        keys,
                        issuer: stated("jwt-issuer", jwt_issuer, "who issues them")?,
                        audience: stated("jwt-audience", jwt_audience, "for whom they are")?,
                        principal_claim: jwt_principal_claim,
                    }),
                };
                if tokens.is_none() && jwt.is_none() {
                    return Err(needed("--auth token", "tokens", "static ones; or --jwt-keys"));
                }
                Auth::Token { policy, tokens, jwt }
            }
            AuthMode::Mtls => {
                let policy = policy.ok_or_else(|| needed("--auth mtls", "policy", WHAT_A_POLICY_IS))?;
                let has_ca = tls.as_ref().map(|tls| tls.client_ca.is_some());
                match has_ca {
                    None => {
                        return Err(needed("--auth mtls", "tls-cert", "the coordinator's own certificate"));
                    }
                    Some(false) => {
                        return Err(needed("--auth mtls", "tls-client-ca", "the authorities of clients"));
                    }
                    Some(true) => {}
                }
                Auth::Mtls { policy }
            }
        };
        let is_exposed = match &auth {
            Auth::None => true,
            Auth::Token { .. } => tls.is_none(),
            Auth::Mtls { .. } => false,
        };
        if is_exposed && !allow_remote && !listen.ip().to_canonical().is_loopback() {
            return Err(reachable(listen, &auth));
        }
        Ok(AccessSettings { auth, tls, reload_interval })
    }
}

const WHAT_A_POLICY_IS: &str = "what each principal may do";

/// A file, or the text in a variable; not both.
fn source(flag: &str, file: Option<PathBuf>, name: &'static str) -> Result<Option<Source>, Refused> {
    // Templates of tasks set what they do not know to nothing.
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    match (file, text) {
        (Some(_), Some(_)) => Err(Refused::usage(format!(
            "--{flag} ({}) and {name} are both given; leave out one",
            variable(flag)
        ))),
        (Some(file), None) => Ok(Some(Source::File(file))),
        (None, Some(text)) => Ok(Some(Source::Variable { name, text: text.into() })),
        (None, None) => Ok(None),
    }
}

fn needed(by: &str, flag: &str, what: &str) -> Refused {
    Refused::usage(format!("{by} needs --{flag} ({}): {what}", variable(flag)))
}

fn stated(flag: &str, text: Option<String>, what: &str) -> Result<String, Refused> {
    text.filter(|text| !text.trim().is_empty()).ok_or_else(|| needed("--jwt-keys", flag, what))
}

fn reachable(listen: SocketAddr, auth: &Auth) -> Refused {
    let local = format!("a loopback address such as 127.0.0.1:{}", listen.port());
    let remote = "any with --allow-remote (LEASEHOLD_ALLOW_REMOTE=true) in a network that you trust";
    let (danger, better) = match auth {
        Auth::None => (
            "there is no authentication: whoever reaches it can read, replace and purge every page",
            "--auth token or mtls",
        ),
        Auth::Token { .. } | Auth::Mtls { .. } => {
            ("there is no TLS: whoever sees its traffic has the tokens of its callers", "--tls-cert")
        }
    };
    Refused::usage(format!(
        "--listen {listen} (LEASEHOLD_LISTEN) can be reached from other machines, and {danger}; allowed: {local}, \
         any with {better}, or {remote}"
    ))
}
