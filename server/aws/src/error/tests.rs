use super::*;
use aws_smithy_runtime_api::{client::result::SdkError, http::StatusCode};
use aws_smithy_types::{body::SdkBody, error::ErrorMetadata};
use std::io;

const CALL: Call<'_> = Call { operation: "PutItem", resource: Resource::Table("pages") };

type Failure = SdkError<ErrorMetadata, HttpResponse>;

fn raw(status: u16) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from("k=secret"))
}

fn answer(status: u16, code: &str) -> Failure {
    let error = ErrorMetadata::builder().code(code).message("key secret").build();
    SdkError::service_error(error, raw(status))
}

fn connection(kind: io::ErrorKind) -> Failure {
    SdkError::dispatch_failure(ConnectorError::io(io::Error::from(kind).into()))
}

fn is(error: &WriteError) -> &'static str {
    match error {
        WriteError::NotApplied(_) => "not applied",
        WriteError::Unknown(_) => "unknown",
        WriteError::Corrupt(_) => "corrupt",
        WriteError::TooLarge(_) => "too large",
    }
}

#[test]
fn each_failure_of_a_write_says_whether_it_can_have_had_an_effect() {
    let credentials = CredentialsError::not_loaded_no_source();
    let table: Vec<(Failure, &str)> = vec![
        // Refused by DynamoDB.
        (answer(400, "ProvisionedThroughputExceededException"), "not applied"),
        (answer(400, "RequestLimitExceeded"), "not applied"),
        (answer(400, "ThrottlingException"), "not applied"),
        (answer(400, "TransactionConflictException"), "not applied"),
        (answer(400, "IdempotentParameterMismatchException"), "not applied"),
        (answer(400, "ConditionalCheckFailedException"), "not applied"),
        (answer(400, "TransactionCanceledException"), "not applied"),
        (answer(400, "ResourceNotFoundException"), "not applied"),
        (answer(400, "AccessDeniedException"), "not applied"),
        (answer(400, "ExpiredTokenException"), "not applied"),
        (answer(400, "ValidationException"), "not applied"),
        (answer(413, "RequestEntityTooLarge"), "not applied"),
        // Refused by S3.
        (answer(403, "AccessDenied"), "not applied"),
        (answer(404, "NoSuchBucket"), "not applied"),
        (answer(400, "BadDigest"), "not applied"),
        (answer(400, "RequestTimeout"), "not applied"),
        (answer(409, "ConditionalRequestConflict"), "not applied"),
        (answer(412, "PreconditionFailed"), "not applied"),
        (answer(503, "SlowDown"), "not applied"),
        (answer(501, "NotImplemented"), "not applied"),
        // Too large.
        (answer(400, "ItemCollectionSizeLimitExceededException"), "too large"),
        (answer(400, "EntityTooLarge"), "too large"),
        (answer(400, "MetadataTooLarge"), "too large"),
        (answer(400, "KeyTooLongError"), "too large"),
        // Nobody knows.
        (answer(400, "TransactionInProgressException"), "unknown"),
        (answer(500, "InternalServerError"), "unknown"),
        (answer(500, "InternalError"), "unknown"),
        (answer(503, "ServiceUnavailable"), "unknown"),
        (answer(504, "GatewayTimeout"), "unknown"),
        (SdkError::service_error(ErrorMetadata::builder().build(), raw(400)), "unknown"),
        (SdkError::service_error(ErrorMetadata::builder().build(), raw(502)), "unknown"),
        (SdkError::response_error("not JSON", raw(200)), "unknown"),
        (SdkError::timeout_error("attempt"), "unknown"),
        (SdkError::dispatch_failure(ConnectorError::timeout("read".into())), "unknown"),
        (SdkError::dispatch_failure(ConnectorError::other("incomplete".into(), None)), "unknown"),
        (connection(io::ErrorKind::ConnectionReset), "unknown"),
        (connection(io::ErrorKind::BrokenPipe), "unknown"),
        (connection(io::ErrorKind::UnexpectedEof), "unknown"),
        // Never sent.
        (connection(io::ErrorKind::ConnectionRefused), "not applied"),
        (SdkError::construction_failure("no region"), "not applied"),
        (SdkError::dispatch_failure(ConnectorError::other(credentials.into(), None)), "not applied"),
    ];
    for (failure, expected) in &table {
        assert_eq!(is(&CALL.write(failure)), *expected, "{failure:?}");
        assert!(matches!(CALL.read(failure), ReadError::Unavailable(_)), "{failure:?}");
    }
}

#[test]
fn each_reason_of_a_part_says_whether_it_can_have_had_an_effect() {
    let table = [
        ("TransactionConflict", "not applied"),
        ("ThrottlingError", "not applied"),
        ("ProvisionedThroughputExceeded", "not applied"),
        ("ValidationError", "not applied"),
        ("AccessDenied", "not applied"),
        ("SlowDown", "not applied"),
        ("ItemCollectionSizeLimitExceeded", "too large"),
        ("InternalError", "unknown"),
        ("SomethingNew", "unknown"),
    ];
    for (code, expected) in table {
        assert_eq!(is(&CALL.write_part(code)), expected, "{code}");
    }
}

#[test]
fn what_may_pass_is_told_from_what_stays_as_it_is() {
    let table = [
        (answer(400, "ThrottlingException"), true),
        (answer(400, "ProvisionedThroughputExceededException"), true),
        (answer(503, "SlowDown"), true),
        (answer(500, "InternalError"), true),
        (answer(501, "NotImplemented"), false),
        (answer(400, "ValidationException"), false),
        (answer(403, "AccessDenied"), false),
        (answer(404, "NoSuchBucket"), false),
        (SdkError::timeout_error("slow"), true),
        (connection(io::ErrorKind::ConnectionReset), true),
        (SdkError::response_error("garbled", raw(200)), true),
        (SdkError::construction_failure("no region"), false),
    ];
    for (failure, expected) in table {
        assert_eq!(Cause::of(&failure).may_pass(), expected, "{failure:?}");
    }
}

#[test]
fn of_a_part_too_it_is_told_what_may_pass() {
    let table = [
        (Some("InternalError"), true, "InternalError (500)"),
        (Some("SlowDown"), true, "SlowDown (503)"),
        (Some("AccessDenied"), false, "AccessDenied (400)"),
        (None, false, "status 400"),
    ];
    for (code, may_pass, said) in table {
        let cause = Cause::of_code(code);
        assert_eq!((cause.may_pass(), cause.to_string().as_str()), (may_pass, said));
    }
}

#[test]
fn a_right_that_is_missing_is_told_by_the_status_and_by_the_code() {
    let table = [
        (answer(403, "SignatureDoesNotMatch"), true),
        (answer(401, "Unauthorized"), true),
        (answer(400, "AccessDeniedException"), true),
        (answer(400, "AccessDenied"), true),
        (answer(400, "ValidationException"), false),
        (answer(503, "SlowDown"), false),
        (connection(io::ErrorKind::ConnectionRefused), false),
    ];
    for (failure, expected) in table {
        assert_eq!(Cause::of(&failure).is_denied(), expected, "{failure:?}");
    }
}

#[test]
fn messages_name_call_resource_and_code_and_nothing_that_is_stored() {
    let credentials = ConnectorError::other(CredentialsError::not_loaded_no_source().into(), None);
    let slow = ConnectorError::timeout("secret".into());
    let said = [
        (SdkError::dispatch_failure(credentials), "PutItem on table pages: no credentials could be loaded"),
        (SdkError::dispatch_failure(slow), "PutItem on table pages: no answer in time"),
        (answer(400, "ThrottlingException"), "PutItem on table pages: ThrottlingException (400)"),
        (SdkError::timeout_error("secret"), "PutItem on table pages: no answer in time"),
        (connection(io::ErrorKind::ConnectionRefused), "PutItem on table pages: no connection"),
        (connection(io::ErrorKind::ConnectionReset), "PutItem on table pages: the connection broke"),
        (SdkError::response_error("secret", raw(200)), "PutItem on table pages: an answer that is none"),
    ];
    for (failure, said) in said {
        let (WriteError::NotApplied(message) | WriteError::Unknown(message)) = CALL.write(&failure) else {
            panic!("another kind of error");
        };
        assert_eq!(message, said);
    }
}

/// Against a real socket, because only the real client knows that it never connected.
#[tokio::test]
async fn a_connection_that_was_refused_or_timed_out_is_not_applied_with_the_real_client() {
    // Bound and dropped: nobody listens there. The other is reserved for documentation: nothing answers.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for endpoint in [format!("http://{closed}"), "http://no-such-host.invalid".into()] {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_dynamodb::config::Region::new("eu-west-1"))
            .credentials_provider(aws_credential_types::Credentials::new(
                "key", "secret", None, None, "fixed",
            ))
            .endpoint_url(&endpoint)
            .retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
            .build();
        let client = aws_sdk_dynamodb::Client::from_conf(config);
        let error = client.list_tables().send().await.unwrap_err();
        assert_eq!(is(&CALL.write(&error)), "not applied", "{endpoint}: {error:?}");
    }
}
