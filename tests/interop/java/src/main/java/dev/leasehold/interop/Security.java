package dev.leasehold.interop;

import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import java.util.concurrent.Executor;
import java.util.function.UnaryOperator;

/**
 * Who a {@link Coordinator} says that it is, and whom it believes. {@link #NONE}: nobody, and no TLS.
 *
 * @param isTls whether there is TLS; also where any of the next three is given. Without authorities, those of the JDK are believed
 * @param ca the authorities whose coordinators are believed, and no others: PEM, in a file that is read once. May be null
 * @param certificate the certificate to present, with its chain, and
 * @param key its key: PEM, in files that are read once. Both or neither may be null
 * @param serverName what is expected in the coordinator's certificate instead of the host of its address. May be null
 * @param token asked for what to present with a call, for every call: it may keep what it has got. May be null; see {@link #tokenIn}
 */
public record Security(
    boolean isTls, File ca, File certificate, File key, String serverName, Callable<String> token) {
  /** Nobody, and no TLS. */
  public static final Security NONE = new Security(false, null, null, null, null, null);

  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  /**
   * What the environment says, by the names that all clients know: {@code LEASEHOLD_CA}, {@code LEASEHOLD_CLIENT_CERT} and {@code
   * LEASEHOLD_CLIENT_KEY} (files), {@code LEASEHOLD_SERVER_NAME}, {@code LEASEHOLD_AUTH_TOKEN} or {@code
   * LEASEHOLD_AUTH_TOKEN_FILE}. What is empty counts as not set.
   */
  public static Security fromEnvironment(boolean isTls) {
    UnaryOperator<String> variable =
        name -> {
          var value = System.getenv(name);
          return value == null || value.isEmpty() ? null : value;
        };
    var fixed = variable.apply("LEASEHOLD_AUTH_TOKEN");
    var path = variable.apply("LEASEHOLD_AUTH_TOKEN_FILE");
    Callable<String> token = fixed != null ? () -> fixed : path != null ? tokenIn(Path.of(path)) : null;
    return new Security(
        isTls,
        file(variable.apply("LEASEHOLD_CA")),
        file(variable.apply("LEASEHOLD_CLIENT_CERT")),
        file(variable.apply("LEASEHOLD_CLIENT_KEY")),
        variable.apply("LEASEHOLD_SERVER_NAME"),
        token);
  }

  /** Reads the token in a file, without the white space around it, for every call: it may be replaced while calls go on. */
  public static Callable<String> tokenIn(Path path) {
    return () -> Files.readString(path).strip();
  }

  private static File file(String path) {
    return path == null ? null : new File(path);
  }

  /**
   * How channels are made.
   *
   * @throws IllegalArgumentException where a file cannot be used, or one of a pair is missing
   */
  ChannelCredentials ofChannel() {
    if (!isTls && ca == null && certificate == null && key == null && serverName == null) {
      return InsecureChannelCredentials.create();
    }
    if ((certificate == null) != (key == null)) {
      throw new IllegalArgumentException("a certificate to present and its key must be given together");
    }
    var tls = TlsChannelCredentials.newBuilder();
    try {
      if (ca != null) {
        tls.trustManager(ca);
      }
      if (certificate != null) {
        tls.keyManager(certificate, key);
      }
    } catch (IOException e) {
      throw new IllegalArgumentException("certificates cannot be read: " + e.getMessage(), e);
    }
    return tls.build();
  }

  /** What is presented with every call; null for nothing. */
  CallCredentials ofCalls() {
    return token == null ? null : new Bearer(token);
  }

  private static final class Bearer extends CallCredentials {
    private final Callable<String> token;

    Bearer(Callable<String> token) {
      this.token = token;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
      executor.execute(
          () -> {
            try {
              var headers = new Metadata();
              headers.put(AUTHORIZATION, "Bearer " + token.call());
              applier.apply(headers);
            } catch (Exception e) {
              applier.fail(Status.UNAUTHENTICATED.withDescription("there is no token to present").withCause(e));
            }
          });
    }
  }
}
