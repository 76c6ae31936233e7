package dev.leasehold.interop;

import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.leasehold.v1.AcquireLeaseRequest;
import dev.leasehold.v1.AcquireLeaseResponse;
import dev.leasehold.v1.BodyDelivery;
import dev.leasehold.v1.BodySource;
import dev.leasehold.v1.CommitPointerRequest;
import dev.leasehold.v1.CommitPointerResponse;
import dev.leasehold.v1.CoordinatorServiceGrpc;
import dev.leasehold.v1.EntryRef;
import dev.leasehold.v1.InvalidateRequest;
import dev.leasehold.v1.InvalidationScope;
import dev.leasehold.v1.LeaseGrant;
import dev.leasehold.v1.LeaseRef;
import dev.leasehold.v1.LookupRequest;
import dev.leasehold.v1.LookupResponse;
import dev.leasehold.v1.Page;
import dev.leasehold.v1.PageMetadata;
import dev.leasehold.v1.ReleaseLeaseRequest;
import dev.leasehold.v1.ServeSidecarRequest;
import dev.leasehold.v1.StalePage;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * A small client of the coordinator over the stubs that are generated from its contract: one to copy.
 *
 * <p>The contract ({@code proto/leasehold/v1/coordinator.proto}) says what each call means. What a client must add to the stubs is
 * here: the service config that all languages share, one request id for each intent, the repetition of an acquire, and what a
 * refusal says of itself. Calls throw {@link StatusRuntimeException}; see {@link Refusal}. Make one, and share it.
 */
public final class Coordinator implements AutoCloseable {
  private static final SecureRandom RANDOM = new SecureRandom();

  private final ManagedChannel channel;
  private final CoordinatorServiceGrpc.CoordinatorServiceBlockingStub stub;
  private final String owner;

  /**
   * A handle on the coordinator at {@code host:port}. Leases are acquired under the name {@code owner}, for people. It connects
   * with the first call, so that a coordinator that is down shows as an exception of the calls.
   */
  public Coordinator(String address, String owner) {
    channel =
        ManagedChannelBuilder.forTarget(address)
            .usePlaintext()
            // How long calls take, and which of them the channel repeats.
            .defaultServiceConfig(serviceConfig())
            // A connection that fell silent, as after a freeze of this process, is given up.
            .keepAliveTime(10, TimeUnit.SECONDS)
            .keepAliveTimeout(5, TimeUnit.SECONDS)
            .build();
    // While the coordinator restarts, calls wait for it until their deadline.
    stub = CoordinatorServiceGrpc.newBlockingStub(channel).withWaitForReady();
    this.owner = owner;
  }

  @Override
  public void close() {
    channel.shutdown();
  }

  /** Names an entry by a ready key. Entries are also named by the request that they answer: {@link EntryRef}'s. */
  public static EntryRef key(String key) {
    return EntryRef.newBuilder().setKey(key).build();
  }

  /** Tells what is current for an entry. */
  public LookupResponse lookup(LookupRequest request) {
    return stub.lookup(request);
  }

  /**
   * Asks for the right to render the next generation of an entry, under a request id that names the lease afterwards: {@link
   * #newRequestId}. The channel does not repeat an acquire, because only a caller can say that it does.
   */
  public AcquireLeaseResponse acquire(AcquireLeaseRequest request) {
    var named = request.toBuilder().setOwner(owner);
    return repeat(attempt -> stub.acquireLease(named.setRetry(attempt > 0).build()));
  }

  /** Makes a page the current one and ends its lease. */
  public CommitPointerResponse commit(CommitPointerRequest request) {
    return stub.commitPointer(request);
  }

  /** Gives a lease back after a failed render: nobody is granted it for a while. The reason must hold no secrets. */
  public void fail(EntryRef entry, LeaseRef lease, String reason) {
    stub.releaseLease(
        ReleaseLeaseRequest.newBuilder().setEntry(entry).setLease(lease).setFailure(reason).build());
  }

  /** Reads the hydration sidecar that a page's token names. */
  public ByteString sidecar(EntryRef entry, String token) {
    var request = ServeSidecarRequest.newBuilder().setEntry(entry).setSidecarToken(token).build();
    return repeat(
        attempt -> {
          var body = ByteString.EMPTY;
          var parts = stub.withDeadlineAfter(20, TimeUnit.SECONDS).serveSidecar(request);
          while (parts.hasNext()) {
            body = body.concat(parts.next().getChunk());
          }
          return body;
        });
  }

  /** Declares pages out of date, softly. Whoever presents the token that it answers with sees that at once. */
  public String invalidate(InvalidationScope... scopes) {
    var request =
        InvalidateRequest.newBuilder().setRequestId(newRequestId()).addAllScopes(List.of(scopes));
    return stub.invalidate(request.build()).getConsistencyToken();
  }

  /** The identity of one intent: new for each, the same for every repetition of the call. */
  public static ByteString newRequestId() {
    var id = new byte[16];
    RANDOM.nextBytes(id);
    return ByteString.copyFrom(id);
  }

  /** What a render makes. Where the HTML names its sidecar, it does so by the grant's token. */
  public record Rendered(ByteString html, ByteString sidecar, PageMetadata metadata) {
    /** A page without a sidecar, which stays fresh until it is invalidated. */
    public static Rendered html(String html) {
      return new Rendered(ByteString.copyFromUtf8(html), null, PageMetadata.getDefaultInstance());
    }
  }

  /** It was there; another rendered it meanwhile; rendered; another renders the next one, or failed to. */
  public enum How {
    HIT,
    WAIT,
    RENDER,
    STALE
  }

  /** A page with its HTML. */
  public record Served(How how, ByteString html, long generation, String sidecarToken) {
    private static Served of(How how, Page page) {
      return new Served(how, page.getInline(), page.getGeneration(), page.getSidecarToken());
    }
  }

  /** A render that came too late to become current: another was granted the lease meanwhile. */
  public static final class OvertakenException extends RuntimeException {}

  /**
   * How {@link #serve} goes about it.
   *
   * @param ttlMillis how long the lease lasts, and with it how long a render may take
   * @param waitMillis how long to wait for the page that another renders
   * @param consistencyToken one of {@link #invalidate}, which the page is to take into account; empty: none
   */
  public record Options(long ttlMillis, long waitMillis, String consistencyToken) {
    /** For most pages. */
    public static final Options DEFAULT = new Options(10_000, 30_000, "");
  }

  /** Answers with the current page, which it renders where that is this caller's to do. */
  public Served serve(EntryRef entry, Options options, Function<LeaseGrant, Rendered> render) {
    var found =
        lookup(
            LookupRequest.newBuilder()
                .setEntry(entry)
                .setConsistencyToken(options.consistencyToken)
                .setBody(BodyDelivery.BODY_DELIVERY_INLINE)
                .build());
    if (found.hasFresh()) {
      return Served.of(How.HIT, found.getFresh().getPage());
    }
    var requestId = newRequestId();
    var acquired =
        acquire(
            AcquireLeaseRequest.newBuilder()
                .setEntry(entry)
                .setRequestId(requestId)
                .setTtl(duration(options.ttlMillis))
                .setWait(duration(options.waitMillis))
                .setConsistencyToken(options.consistencyToken)
                .setBody(BodyDelivery.BODY_DELIVERY_INLINE)
                .build());
    return switch (acquired.getOutcomeCase()) {
      case GRANTED -> renderAndCommit(entry, requestId, acquired.getGranted(), render);
      case READY -> {
        var ready = acquired.getReady();
        yield Served.of(How.WAIT, ready.hasFresh() ? ready.getFresh().getPage() : ready.getStale().getPage());
      }
      case HELD -> previous(acquired.getHeld().getPrevious(), "another renders the page, and has not finished in time");
      case BACKING_OFF ->
          previous(
              acquired.getBackingOff().getPrevious(),
              "the last render failed: " + acquired.getBackingOff().getReason());
      case ENDED, OUTCOME_NOT_SET ->
          throw new IllegalStateException("not an answer to a new request: " + acquired.getOutcomeCase());
    };
  }

  private Served renderAndCommit(
      EntryRef entry, ByteString requestId, LeaseGrant grant, Function<LeaseGrant, Rendered> render) {
    var lease =
        LeaseRef.newBuilder().setRequestId(requestId).setGeneration(grant.getGeneration()).build();
    Rendered page;
    try {
      page = render.apply(grant);
    } catch (RuntimeException e) {
      fail(entry, lease, "the render failed");
      throw e;
    }
    var request =
        CommitPointerRequest.newBuilder()
            .setEntry(entry)
            .setLease(lease)
            .setHtml(BodySource.newBuilder().setInline(page.html))
            .setMetadata(page.metadata);
    if (page.sidecar != null) {
      request.setSidecar(BodySource.newBuilder().setInline(page.sidecar));
    }
    var committed = commit(request.build());
    return switch (committed.getOutcomeCase()) {
      case COMMITTED ->
          new Served(How.RENDER, page.html, grant.getGeneration(), committed.getCommitted().getSidecarToken());
      case COMMITTED_STALE ->
          new Served(How.RENDER, page.html, grant.getGeneration(), committed.getCommittedStale().getSidecarToken());
      case SUPERSEDED, FENCED -> throw new OvertakenException();
      case OUTCOME_NOT_SET -> throw new IllegalStateException("a commit without an outcome");
    };
  }

  private static Served previous(StalePage stale, String otherwise) {
    if (!stale.hasPage()) {
      throw new IllegalStateException(otherwise);
    }
    return Served.of(How.STALE, stale.getPage());
  }

  /**
   * What the coordinator says of an error.
   *
   * @param reason one of {@code ErrorReason}, without its prefix; empty: it was not the coordinator that refused
   * @param metadata more about the reason, such as the header or the limit
   * @param fields the dotted paths of what is wrong with the request
   * @param retryAfterMillis when it is worth trying again
   */
  public record Refusal(String reason, Map<String, String> metadata, List<String> fields, long retryAfterMillis) {
    /** Reads it from the exception of a call. */
    public static Refusal of(StatusRuntimeException exception) {
      var reason = "";
      Map<String, String> metadata = Map.of();
      List<String> fields = List.of();
      var retryAfterMillis = 0L;
      try {
        for (Any detail : StatusProto.fromThrowable(exception).getDetailsList()) {
          if (detail.is(ErrorInfo.class)) {
            var info = detail.unpack(ErrorInfo.class);
            if (info.getDomain().equals("leasehold")) {
              reason = info.getReason();
              metadata = info.getMetadataMap();
            }
          } else if (detail.is(BadRequest.class)) {
            fields =
                detail.unpack(BadRequest.class).getFieldViolationsList().stream()
                    .map(BadRequest.FieldViolation::getField)
                    .toList();
          } else if (detail.is(RetryInfo.class)) {
            var delay = detail.unpack(RetryInfo.class).getRetryDelay();
            retryAfterMillis = delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000;
          }
        }
      } catch (InvalidProtocolBufferException e) {
        // Not the coordinator's: what is known so far.
      }
      return new Refusal(reason, metadata, fields, retryAfterMillis);
    }
  }

  /** What the channel cannot repeat by itself, by the same rule: UNAVAILABLE, five attempts, a pause that doubles. */
  private static <T> T repeat(Function<Integer, T> call) {
    for (var attempt = 0; ; attempt++) {
      try {
        return call.apply(attempt);
      } catch (StatusRuntimeException e) {
        if (e.getStatus().getCode() != Status.Code.UNAVAILABLE || attempt == 4) {
          throw e;
        }
        var pause = Math.max(25L << attempt, Refusal.of(e).retryAfterMillis);
        try {
          Thread.sleep(pause / 2 + ThreadLocalRandom.current().nextLong(pause));
        } catch (InterruptedException interrupted) {
          Thread.currentThread().interrupt();
          throw e;
        }
      }
    }
  }

  private static Duration duration(long millis) {
    return Duration.newBuilder().setSeconds(millis / 1000).setNanos((int) (millis % 1000) * 1_000_000).build();
  }

  @SuppressWarnings("unchecked")
  private static Map<String, ?> serviceConfig() {
    try (var resource = Coordinator.class.getResourceAsStream("/dev/leasehold/v1/service_config.json");
        var reader = new InputStreamReader(resource, StandardCharsets.UTF_8)) {
      return new Gson().fromJson(reader, Map.class);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
