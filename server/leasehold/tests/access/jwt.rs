//! Tokens that somebody else signs.

use super::*;
use axum::{Router, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use std::{sync::Arc, time::SystemTime};

/// Signs tokens.
pub(crate) struct Signer {
    id: &'static str,
    key: KeyPair,
}

impl Signer {
    pub(crate) fn new(id: &'static str) -> Self {
        Self { id, key: KeyPair::generate().unwrap() }
    }

    fn public(&self) -> Value {
        let point = self.key.der_bytes();
        let [x, y] = [&point[1..33], &point[33..65]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "alg": "ES256", "use": "sig", "x": x, "y": y})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(self.id, claims)
    }

    fn sign_as(&self, id: &str, claims: &Value) -> String {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &EncodingKey::from_ec_der(&self.key.serialize_der())).unwrap()
    }
}

pub(crate) fn set(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.public()).collect::<Vec<_>>()}).to_string()
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

fn claims() -> Value {
    json!({"iss": "https://issuer", "aud": "leasehold", "sub": "render-acme", "exp": seconds_from_now(600)})
}

/// The usual claims, but for one.
pub(crate) fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn presenting(token: impl Into<String>) -> Security {
    Security::default().token(token)
}

pub(crate) const FLAGS: &str =
    "--auth token --policy @/policy.toml --jwt-issuer https://issuer --jwt-audience leasehold";

#[tokio::test]
async fn a_token_is_believed_that_is_signed_rightly_by_the_right_one_for_here_and_for_now() {
    let (signer, foreign) = (Signer::new("one"), Signer::new("two"));
    let mut world = World::new();
    world.write("keys.json", &set(&[&signer]));
    world.start(&format!("{FLAGS} --jwt-keys @/keys.json")).await;
    let unsigned = |algorithm: &str| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": algorithm, "kid": "one", "typ": "JWT"});
        format!("{}.{}.", part(header), part(claims()))
    };
    // The public key, taken for a shared secret.
    let confused = {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims(), &EncodingKey::from_secret(signer.key.der_bytes())).unwrap()
    };
    let good = signer.sign(&claims());
    let tampered = {
        let other = signer.sign(&with("sub", json!("render-globex")));
        let (head, signature) = good.rsplit_once('.').unwrap();
        let payload = other.split('.').nth(1).unwrap();
        format!("{}.{payload}.{signature}", head.split('.').next().unwrap())
    };
    let table = [
        ("right", good.clone(), MAY_BOTH),
        ("for several", signer.sign(&with("aud", json!(["other", "leasehold"]))), MAY_BOTH),
        ("valid since now", signer.sign(&with("nbf", json!(seconds_from_now(0)))), MAY_BOTH),
        ("with fractions", signer.sign(&with("exp", json!(seconds_from_now(600) as f64 + 0.5))), MAY_BOTH),
        ("of another tenant", signer.sign(&with("sub", json!("render-globex"))), DENIED),
        ("of nobody", signer.sign(&with("sub", json!("nobody"))), DENIED),
        ("expired", signer.sign(&with("exp", json!(seconds_from_now(-60)))), UNKNOWN),
        ("without an end", signer.sign(&without("exp")), UNKNOWN),
        ("with an end that is none", signer.sign(&with("exp", json!("tomorrow"))), UNKNOWN),
        ("too early", signer.sign(&with("nbf", json!(seconds_from_now(60)))), UNKNOWN),
        ("of another issuer", signer.sign(&with("iss", json!("https://issuer.evil"))), UNKNOWN),
        ("of no issuer", signer.sign(&without("iss")), UNKNOWN),
        ("for another", signer.sign(&with("aud", json!("other"))), UNKNOWN),
        ("for nobody", signer.sign(&without("aud")), UNKNOWN),
        ("without a principal", signer.sign(&without("sub")), UNKNOWN),
        ("with a principal that is no text", signer.sign(&with("sub", json!(["render-acme"]))), UNKNOWN),
        ("with a principal that is no name", signer.sign(&with("sub", json!(" "))), UNKNOWN),
        ("by an unknown key", foreign.sign(&claims()), UNKNOWN),
        ("by another key of the same id", foreign.sign_as("one", &claims()), UNKNOWN),
        ("with another's claims", tampered, UNKNOWN),
        ("unsigned", unsigned("none"), UNKNOWN),
        ("without a signature", unsigned("ES256"), UNKNOWN),
        ("with the public key as secret", confused, UNKNOWN),
        ("too long", format!("{good}{}", "x".repeat(8 * 1024)), UNKNOWN),
        ("no token at all", "x.y.z".to_owned(), UNKNOWN),
    ];
    for (which, token, expected) in table {
        assert_eq!(tried(&world.caller(presenting(token))).await, expected, "{which}");
    }
    world.stop().await;
}

#[tokio::test]
async fn keys_in_a_file_are_replaced_while_calls_go_on() {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let mut world = World::new();
    world.write("keys.json", &set(&[&one]));
    world.start(&format!("{FLAGS} --jwt-keys @/keys.json")).await;
    let (by_one, by_two) =
        (world.caller(presenting(one.sign(&claims()))), world.caller(presenting(two.sign(&claims()))));
    assert_eq!((tried(&by_one).await, tried(&by_two).await), (MAY_BOTH, UNKNOWN));
    world.write("keys.json", &set(&[&two]));
    becomes(&by_two, MAY_BOTH).await;
    assert_eq!(tried(&by_one).await, UNKNOWN);
    world.stop().await;
}

#[tokio::test]
async fn keys_are_fetched_anew_for_a_token_of_an_unknown_key_but_not_for_each() {
    let (one, two, three) = (Signer::new("one"), Signer::new("two"), Signer::new("three"));
    let served = Arc::new(Mutex::new((set(&[&one]), 0)));
    let answer = {
        let served = Arc::clone(&served);
        move || async move {
            let mut served = served.lock();
            served.1 += 1;
            served.0.clone()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/keys", get(answer))).await.unwrap();
    });
    let mut world = World::new();
    world.start(&format!("{FLAGS} --jwt-keys http://{address}/keys")).await;
    assert_eq!(tried(&world.caller(presenting(one.sign(&claims())))).await, MAY_BOTH);
    assert_eq!(served.lock().1, 1, "once, at the start");
    let by_one = world.caller(presenting(one.sign(&claims())));
    let mut watch = by_one.watch(&[leasehold_client::WatchFilter::whole_tenant("acme")], None);
    watch.next().await.expect("it begins").expect("and stands");

    served.lock().0 = set(&[&two]);
    assert_eq!(tried(&world.caller(presenting(two.sign(&claims())))).await, MAY_BOTH);
    assert_eq!(served.lock().1, 2);
    // Made up tokens are not worth a request each.
    for _ in 0..5 {
        assert_eq!(tried(&world.caller(presenting(three.sign(&claims())))).await, UNKNOWN);
    }
    assert_eq!(served.lock().1, 2);
    // What was let in by a key that is there no more ends with it.
    assert_eq!(tried(&by_one).await, UNKNOWN);
    let ended = tokio::time::timeout(PATIENCE, watch.next()).await.expect("an end").expect("a reason");
    assert_eq!(why(ended.map(drop)), Some(Reason::Unauthenticated));
    world.stop().await;
    serving.abort();
}
