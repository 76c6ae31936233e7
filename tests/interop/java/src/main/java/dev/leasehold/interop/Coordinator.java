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
import dev.leasehold.v1.BodyKind;
import dev.leasehold.v1.BodySource;
import dev.leasehold.v1.CommitPointerRequest;
import dev.leasehold.v1.CommitPointerResponse;
import dev.leasehold.v1.CoordinatorServiceGrpc;
import dev.leasehold.v1.EntryRef;
import dev.leasehold.v1.FreshPage;
import dev.leasehold.v1.InvalidateRequest;
import dev.leasehold.v1.InvalidationScope;
import dev.leasehold.v1.LeaseGrant;
import dev.leasehold.v1.LeaseRef;
import dev.leasehold.v1.LookupRequest;
import dev.leasehold.v1.LookupResponse;
import dev.leasehold.v1.Page;
import dev.leasehold.v1.PageMetadata;
import dev.leasehold.v1.PageReady;
import dev.leasehold.v1.ReleaseLeaseRequest;
import dev.leasehold.v1.ServePageRequest;
import dev.leasehold.v1.ServeSidecarRequest;
import dev.leasehold.v1.StalePage;
import dev.leasehold.v1.StoredBody;
import dev.leasehold.v1.UploadBodyRequest;
import dev.leasehold.v1.UploadBodyResponse;
import dev.leasehold.v1.UploadHead;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * A small client of the coordinator over the stubs that are generated from its contract: one to copy.
 *
 * <p>The contract ({@code proto/leasehold/v1/coordinator.proto}) says what each call means. What a client must add to the stubs is
 * here: the service config that all languages share, one request id for each intent, the repetition of an acquire, bodies that
 * do not fit a message, a lease that is given back whatever becomes of the render, and what a refusal says of itself. Calls
 * throw {@link StatusRuntimeException}; see {@link Refusal}. Make one, and share it.
 */
public final class Coordinator implements AutoCloseable {
  private static final SecureRandom RANDOM = new SecureRandom();

  /** What is committed in one message, of HTML and sidecar together, and what a message of an upload has. */
  private static final int INLINE_BYTES = 3 << 20;

  private static final int CHUNK_BYTES = 256 << 10;

  private final ManagedChannel channel;
  private final CoordinatorServiceGrpc.CoordinatorServiceBlockingStub stub;
  private final CoordinatorServiceGrpc.CoordinatorServiceStub streaming;
  private final String owner;

  /**
   * A handle on the coordinator at {@code host:port}, without TLS and as nobody. Leases are acquired under the name {@code
   * owner}, for people. It connects with the first call, so that a coordinator that is down shows as an exception of the calls.
   */
  public Coordinator(String address, String owner) {
    this(address, owner, Security.NONE);
  }

  /**
   * For one that asks who calls, or by TLS.
   *
   * @throws IllegalArgumentException where a file of the security cannot be used, or one of a pair is missing
   */
  public Coordinator(String address, String owner, Security security) {
    var builder = Grpc.newChannelBuilder(address, security.ofChannel());
    if (security.serverName() != null) {
      builder.overrideAuthority(security.serverName());
    }
    channel =
        builder
            // How long calls take, and which of them the channel repeats.
            .defaultServiceConfig(serviceConfig())
            // A connection that fell silent, as after a freeze of this process, is given up.
            .keepAliveTime(10, TimeUnit.SECONDS)
            .keepAliveTimeout(5, TimeUnit.SECONDS)
            .build();
    // While the coordinator restarts, calls wait for it until their deadline.
    var identity = security.ofCalls();
    stub = CoordinatorServiceGrpc.newBlockingStub(channel).withWaitForReady().withCallCredentials(identity);
    streaming = CoordinatorServiceGrpc.newStub(channel).withWaitForReady().withCallCredentials(identity);
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
    return repeat(attempt -> stub.lookup(request));
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
    return repeat(attempt -> stub.commitPointer(request));
  }

  /** Gives a lease back after a failed render: nobody is granted it for a while. The reason must hold no secrets. */
  public void fail(EntryRef entry, LeaseRef lease, String reason) {
    var request =
        ReleaseLeaseRequest.newBuilder().setEntry(entry).setLease(lease).setFailure(reason).build();
    repeat(attempt -> stub.releaseLease(request));
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

  /** Reads the current page with its HTML, however large that is. Where there is none: {@code PAGE_NOT_FOUND}. */
  public Current page(EntryRef entry, String consistencyToken) {
    var request = ServePageRequest.newBuilder().setEntry(entry).setConsistencyToken(consistencyToken).build();
    return repeat(
        attempt -> {
          var parts = stub.withDeadlineAfter(40, TimeUnit.SECONDS).servePage(request);
          var head = parts.next().getHead();
          var html = ByteString.EMPTY;
          while (parts.hasNext()) {
            html = html.concat(parts.next().getChunk());
          }
          var page = head.hasFresh() ? head.getFresh().getPage() : head.getStale().getPage();
          return new Current(page, html, head.hasFresh());
        });
  }

  /** Stores a body ahead of the commit that names it, under a lease that was granted: one that does not fit a message. */
  public UploadBodyResponse upload(UploadHead head, ByteString body) {
    return repeat(
        attempt -> {
          var answer = new CompletableFuture<UploadBodyResponse>();
          var parts = streaming.uploadBody(completing(answer));
          parts.onNext(UploadBodyRequest.newBuilder().setHead(head).build());
          // Once there is an answer, the rest is not heard.
          for (var at = 0; at < body.size() && !answer.isDone(); at += CHUNK_BYTES) {
            var chunk = body.substring(at, Math.min(at + CHUNK_BYTES, body.size()));
            parts.onNext(UploadBodyRequest.newBuilder().setChunk(chunk).build());
          }
          parts.onCompleted();
          try {
            return answer.join();
          } catch (CompletionException e) {
            throw e.getCause() instanceof RuntimeException cause ? cause : e;
          }
        });
  }

  /** Declares pages out of date, softly. Whoever presents the token that it answers with sees that at once. */
  public String invalidate(InvalidationScope... scopes) {
    var request =
        InvalidateRequest.newBuilder().setRequestId(newRequestId()).addAllScopes(List.of(scopes)).build();
    return repeat(attempt -> stub.invalidate(request)).getConsistencyToken();
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

  /**
   * A page, as it is to be answered with.
   *
   * @param headers names in lower case; content type and entity tag are among them
   */
  public record Served(
      How how, int status, Map<String, List<String>> headers, ByteString html, long generation, String sidecarToken) {
    private static Served of(
        How how, PageMetadata metadata, String etag, ByteString html, long generation, String sidecarToken) {
      var headers = new TreeMap<String, List<String>>();
      for (var header : metadata.getHeadersList()) {
        var name = header.getName().toLowerCase(Locale.ROOT);
        // What clients tell each other of a page is not for its visitors.
        if (!name.startsWith("leasehold-")) {
          headers.computeIfAbsent(name, unused -> new ArrayList<>()).add(header.getValue());
        }
      }
      var contentType = metadata.getContentType();
      headers.put("content-type", List.of(contentType.isEmpty() ? "text/html; charset=utf-8" : contentType));
      if (!etag.isEmpty()) {
        headers.put("etag", List.of(etag));
      }
      return new Served(
          how, metadata.getStatus() == 0 ? 200 : metadata.getStatus(), headers, html, generation, sidecarToken);
    }

    /** The HTML as text. */
    public String text() {
      return html.toStringUtf8();
    }
  }

  /** The current page, and whether the coordinator calls it fresh. */
  public record Current(Page page, ByteString html, boolean isFresh) {
    private Served served(How how) {
      var metadata = page.getMetadata();
      return Served.of(how, metadata, metadata.getEtag(), html, page.getGeneration(), page.getSidecarToken());
    }
  }

  /** A render that came too late to become current: another was granted the lease meanwhile. */
  public static final class OvertakenException extends RuntimeException {}

  /** There is no page of before, and another renders the next one, or the last render failed a moment ago. */
  public static final class NoPageException extends RuntimeException {
    private final boolean isBackingOff;

    private NoPageException(String why, boolean isBackingOff) {
      super(why);
      this.isBackingOff = isBackingOff;
    }

    /** The last render failed: nobody renders for a while. */
    public boolean isBackingOff() {
      return isBackingOff;
    }
  }

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

  /** Answers with a page that is nothing but HTML, by a ready key: it stays fresh until it is invalidated. */
  public Served serve(String key, Supplier<String> render) {
    return serve(key(key), Options.DEFAULT, grant -> Rendered.html(render.get()));
  }

  /**
   * Answers with the current page, which it renders where that is this caller's to do. What was rendered is committed even where
   * the thread was interrupted or its {@link Context} has ended meanwhile, as others wait for it; and whatever a render throws,
   * its lease is not left behind.
   */
  public Served serve(EntryRef entry, Options options, Function<LeaseGrant, Rendered> render) {
    var found =
        lookup(
            LookupRequest.newBuilder()
                .setEntry(entry)
                .setConsistencyToken(options.consistencyToken)
                .setBody(BodyDelivery.BODY_DELIVERY_INLINE)
                .build());
    if (found.hasFresh()) {
      try {
        var current = whole(entry, options, found.getFresh());
        if (current.isFresh) {
          return current.served(How.HIT);
        }
      } catch (StatusRuntimeException e) {
        if (!isNotFound(e)) {
          throw e;
        }
      }
      // It was invalidated while its body was read.
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
      case READY -> ready(entry, options, acquired.getReady()).served(How.WAIT);
      case HELD ->
          previous(
              entry,
              options,
              acquired.getHeld().getPrevious(),
              new NoPageException("another renders the page, and has not finished in time", false));
      case BACKING_OFF ->
          previous(
              entry,
              options,
              acquired.getBackingOff().getPrevious(),
              new NoPageException("the last render failed: " + acquired.getBackingOff().getReason(), true));
      case ENDED, OUTCOME_NOT_SET ->
          throw new IllegalStateException("not an answer to a new request: " + acquired.getOutcomeCase());
    };
  }

  private Served renderAndCommit(
      EntryRef entry, ByteString requestId, LeaseGrant grant, Function<LeaseGrant, Rendered> render) {
    var lease =
        LeaseRef.newBuilder().setRequestId(requestId).setGeneration(grant.getGeneration()).build();
    var failure = "the render failed";
    try {
      var page = render.apply(grant);
      failure = "the page could not be committed";
      var committed = toTheEnd(() -> store(entry, lease, page));
      return switch (committed.getOutcomeCase()) {
        case COMMITTED -> {
          var applied = committed.getCommitted();
          yield Served.of(
              How.RENDER, page.metadata, applied.getEtag(), page.html, grant.getGeneration(), applied.getSidecarToken());
        }
        case COMMITTED_STALE -> {
          var applied = committed.getCommittedStale();
          yield Served.of(
              How.RENDER, page.metadata, applied.getEtag(), page.html, grant.getGeneration(), applied.getSidecarToken());
        }
        case SUPERSEDED, FENCED -> throw new OvertakenException();
        case OUTCOME_NOT_SET -> throw new IllegalStateException("a commit without an outcome");
      };
    } catch (OvertakenException e) {
      throw e;
    } catch (Throwable e) {
      giveBack(entry, lease, failure, e);
      throw e;
    }
  }

  /**
   * Commits, and uploads before that what does not fit the commit: the sidecar first, so that no page is there without its own,
   * and only where it must be, as one that comes with its commit is stored with the page's tags and path.
   */
  private CommitPointerResponse store(EntryRef entry, LeaseRef lease, Rendered page) {
    var request =
        CommitPointerRequest.newBuilder().setEntry(entry).setLease(lease).setMetadata(page.metadata);
    var head = UploadHead.newBuilder().setEntry(entry).setLease(lease);
    var beside = 0;
    if (page.sidecar != null) {
      var isInline = page.sidecar.size() <= INLINE_BYTES;
      beside = isInline ? page.sidecar.size() : 0;
      request.setSidecar(source(head.setKind(BodyKind.BODY_KIND_SIDECAR).build(), page.sidecar, isInline));
    }
    head.setKind(BodyKind.BODY_KIND_HTML).setContentType(page.metadata.getContentType());
    request.setHtml(source(head.build(), page.html, beside + page.html.size() <= INLINE_BYTES));
    return commit(request.build());
  }

  private BodySource source(UploadHead head, ByteString body, boolean isInline) {
    if (isInline) {
      return BodySource.newBuilder().setInline(body).build();
    }
    var uploaded = upload(head, body);
    if (!uploaded.hasUploaded()) {
      throw new OvertakenException();
    }
    var stored =
        StoredBody.newBuilder()
            .setDigest(uploaded.getUploaded().getDigest())
            .setSizeBytes(uploaded.getUploaded().getSizeBytes());
    return BodySource.newBuilder().setStored(stored).build();
  }

  /** Where it cannot be given back, it ends by itself: what went wrong before is what there is to tell. */
  private void giveBack(EntryRef entry, LeaseRef lease, String failure, Throwable because) {
    try {
      toTheEnd(
          () -> {
            fail(entry, lease, failure);
            return null;
          });
    } catch (RuntimeException e) {
      because.addSuppressed(e);
    }
  }

  /** Makes calls also where the visitor has left: an interrupted thread and an ended context can make none. */
  private static <T> T toTheEnd(Supplier<T> calls) {
    var wasInterrupted = Thread.interrupted();
    var context = Context.ROOT.attach();
    try {
      return calls.get();
    } finally {
      Context.ROOT.detach(context);
      if (wasInterrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  private Current ready(EntryRef entry, Options options, PageReady ready) {
    return ready.hasFresh()
        ? whole(entry, options, ready.getFresh())
        : whole(entry, options, ready.getStale().getPage(), false);
  }

  private Served previous(EntryRef entry, Options options, StalePage stale, NoPageException otherwise) {
    if (!stale.hasPage()) {
      throw otherwise;
    }
    try {
      var current = whole(entry, options, stale.getPage(), false);
      return current.served(current.isFresh ? How.WAIT : How.STALE);
    } catch (StatusRuntimeException e) {
      throw isNotFound(e) ? otherwise : e;
    }
  }

  private Current whole(EntryRef entry, Options options, FreshPage fresh) {
    return whole(entry, options, fresh.getPage(), true);
  }

  /**
   * A page with its HTML, which is read by itself where it did not come along: because it is too large for that, or was not there
   * in time.
   */
  private Current whole(EntryRef entry, Options options, Page page, boolean isFresh) {
    return page.hasInline()
        ? new Current(page, page.getInline(), isFresh)
        : page(entry, options.consistencyToken);
  }

  private static boolean isNotFound(StatusRuntimeException exception) {
    return Refusal.of(exception).reason.equals("PAGE_NOT_FOUND");
  }

  private static <T> StreamObserver<T> completing(CompletableFuture<T> answer) {
    return new StreamObserver<>() {
      @Override
      public void onNext(T value) {
        answer.complete(value);
      }

      @Override
      public void onError(Throwable error) {
        answer.completeExceptionally(error);
      }

      @Override
      public void onCompleted() {
        answer.completeExceptionally(new IllegalStateException("an end without an answer"));
      }
    };
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

  /**
   * What the channel cannot repeat by itself, an acquire and whatever breaks off once its answer has begun, by the same rule:
   * UNAVAILABLE, five attempts, a pause that doubles.
   */
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
