package dev.leasehold.interop;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.annotations.SerializedName;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import dev.leasehold.interop.Coordinator.How;
import dev.leasehold.interop.Coordinator.NoPageException;
import dev.leasehold.interop.Coordinator.Options;
import dev.leasehold.interop.Coordinator.OvertakenException;
import dev.leasehold.interop.Coordinator.Refusal;
import dev.leasehold.interop.Coordinator.Rendered;
import dev.leasehold.interop.Coordinator.Served;
import dev.leasehold.v1.AcquireLeaseRequest;
import dev.leasehold.v1.BodyDelivery;
import dev.leasehold.v1.Consistency;
import dev.leasehold.v1.EntryRef;
import dev.leasehold.v1.InvalidationScope;
import dev.leasehold.v1.LeaseGrant;
import dev.leasehold.v1.LookupRequest;
import dev.leasehold.v1.NameValue;
import dev.leasehold.v1.PageMetadata;
import io.grpc.StatusRuntimeException;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;

/**
 * The worker in Java of the interop test: it does what it reads, a line of JSON each, and says what came of it in lines of
 * JSON.
 */
public final class Worker {
  private static final String LANGUAGE = "java";
  private static final Gson JSON = new GsonBuilder().disableHtmlEscaping().create();
  private static final PrintStream OUT =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

  private final Coordinator coordinator;
  private final AtomicLong renders = new AtomicLong();

  private record Command(
      @SerializedName("do") String what,
      List<String> keys,
      String tag,
      String token,
      @SerializedName("ttl_ms") long ttlMillis,
      @SerializedName("wait_ms") long waitMillis,
      @SerializedName("render_ms") long renderMillis,
      @SerializedName("in_flight") int inFlight,
      List<PageOf> pages) {}

  /** One of the table: its entry is the contract's EntryRef as JSON. */
  private record PageOf(
      String id,
      JsonObject entry,
      String html,
      String token,
      // What is to be rendered for it, and how that is to fail, where it is.
      int size,
      int status,
      @SerializedName("content_type") String contentType,
      List<List<String>> headers,
      String tag,
      String failure) {
    EntryRef entryRef() {
      var builder = EntryRef.newBuilder();
      try {
        JsonFormat.parser().merge(entry.toString(), builder);
      } catch (InvalidProtocolBufferException e) {
        throw new IllegalArgumentException(e);
      }
      return builder.build();
    }
  }

  private Worker(Coordinator coordinator) {
    this.coordinator = coordinator;
  }

  private static Coordinator coordinatorAt(URI url) {
    var security = Security.fromEnvironment("https".equals(url.getScheme()));
    return new Coordinator(url.getAuthority(), LANGUAGE, security);
  }

  /** Argument: the coordinator's URL. */
  public static void main(String[] arguments) throws Exception {
    try (var coordinator = coordinatorAt(URI.create(arguments[0]));
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
      var worker = new Worker(coordinator);
      say("event", "ready");
      for (var line = lines.readLine(); line != null; line = lines.readLine()) {
        worker.run(JSON.fromJson(line, Command.class));
        say("event", "done");
      }
    }
  }

  private void run(Command command) throws Exception {
    switch (command.what) {
      case "serve" -> forEach(command.keys, command.inFlight, key -> serve(command, key));
      case "hold" -> forEach(command.keys, command.inFlight, key -> hold(command, key));
      case "invalidate" ->
          say(
              "event",
              "invalidated",
              "token",
              coordinator.invalidate(InvalidationScope.newBuilder().setTag(command.tag).build()));
      case "commit" -> forEach(command.pages, command.inFlight, this::commit);
      case "look_up" -> forEach(command.pages, command.inFlight, this::lookUp);
      case "sidecar" -> forEach(command.pages, command.inFlight, this::sidecar);
      case "show" -> forEach(command.pages, command.inFlight, page -> show(command, page));
      default -> throw new IOException("what is " + command.what);
    }
  }

  private void serve(Command command, String key) {
    var entry = Coordinator.key(key);
    var token = command.token == null ? "" : command.token;
    try {
      var name = new String[1];
      var served =
          coordinator.serve(
              entry,
              new Options(command.ttlMillis, command.waitMillis, token),
              grant -> {
                sleep(command.renderMillis);
                name[0] = LANGUAGE + "-" + renders.incrementAndGet();
                return rendered(key, name[0], grant, command.tag);
              });
      if (served.how() == How.RENDER) {
        say("event", "rendered", "key", key, "generation", served.generation(), "render", name[0]);
      }
      var sidecar = coordinator.sidecar(entry, served.sidecarToken());
      say(
          "event", "served", "key", key, "how", how(served), "generation", served.generation(), "html",
          served.text(), "sidecar", sidecar.toStringUtf8(), "sidecar_token", served.sidecarToken());
    } catch (OvertakenException e) {
      say("event", "overtaken", "key", key);
      serve(command, key);
    } catch (StatusRuntimeException | NoPageException e) {
      say("event", "failed", "key", key, "why", e.toString());
    }
  }

  private static Rendered rendered(String key, String name, LeaseGrant grant, String tag) {
    var generation = grant.getGeneration();
    var html =
        "<!doctype html><h1 data-generation=\"%d\" data-render=\"%s\" data-sidecar=\"%s\">%s</h1>"
            .formatted(generation, name, grant.getSidecarToken(), key);
    var sidecar = "{\"key\":\"%s\",\"generation\":%d,\"render\":\"%s\"}".formatted(key, generation, name);
    return new Rendered(
        ByteString.copyFromUtf8(html),
        ByteString.copyFromUtf8(sidecar),
        PageMetadata.newBuilder().addTags(tag).build());
  }

  /** Acquires, and never commits. */
  private void hold(Command command, String key) {
    var ttl = Duration.newBuilder().setSeconds(command.ttlMillis / 1000);
    var acquired =
        coordinator.acquire(
            AcquireLeaseRequest.newBuilder()
                .setEntry(Coordinator.key(key))
                .setRequestId(Coordinator.newRequestId())
                .setTtl(ttl.setNanos((int) (command.ttlMillis % 1000) * 1_000_000))
                .build());
    if (acquired.hasGranted()) {
      say("event", "holding", "key", key, "generation", acquired.getGranted().getGeneration());
    } else {
      say("event", "failed", "key", key, "why", acquired.getOutcomeCase().toString());
    }
  }

  private void commit(PageOf page) {
    var html = ByteString.copyFromUtf8(page.html);
    try {
      var served =
          coordinator.serve(
              page.entryRef(),
              new Options(10_000, 0, ""),
              grant -> new Rendered(html, html, PageMetadata.getDefaultInstance()));
      say(
          "event", "committed", "id", page.id, "how", how(served), "html", served.text(),
          "sidecar_token", served.sidecarToken());
    } catch (StatusRuntimeException e) {
      refused(page, e);
    }
  }

  private void lookUp(PageOf page) {
    var request =
        LookupRequest.newBuilder()
            .setEntry(page.entryRef())
            .setConsistency(Consistency.CONSISTENCY_STRICT)
            .setConsistencyToken(page.token == null ? "" : page.token)
            .setBody(BodyDelivery.BODY_DELIVERY_INLINE)
            .build();
    try {
      var html = coordinator.lookup(request).getFresh().getPage().getInline();
      say("event", "found", "id", page.id, "html", html.toStringUtf8());
    } catch (StatusRuntimeException e) {
      refused(page, e);
    }
  }

  private void sidecar(PageOf page) {
    try {
      var body = coordinator.sidecar(page.entryRef(), page.token);
      say("event", "found", "id", page.id, "html", body.toStringUtf8());
    } catch (StatusRuntimeException e) {
      refused(page, e);
    }
  }

  private void show(Command command, PageOf page) {
    try {
      var options = new Options(command.ttlMillis, 0, page.token);
      var served = coordinator.serve(page.entryRef(), options, grant -> response(page));
      var headers = new LinkedHashMap<String, String>();
      served.headers().forEach((name, values) -> headers.put(name, String.join(",", values)));
      headers.remove("etag");
      var contentType = headers.remove("content-type");
      say(
          "event", "shown", "id", page.id, "how", how(served), "size", served.html().size(), "digest",
          digest(served.html()), "status", served.status(), "content_type", contentType, "headers", headers);
    } catch (NotTodayException | NotTodayError e) {
      say("event", "failed", "id", page.id, "error", e.getMessage());
    } catch (NoPageException e) {
      say("event", e.isBackingOff() ? "backing_off" : "held", "id", page.id);
    } catch (StatusRuntimeException e) {
      refused(page, e);
    } finally {
      // The thread has more to do.
      Thread.interrupted();
    }
  }

  private static final class NotTodayException extends RuntimeException {
    NotTodayException(String message) {
      super(message);
    }
  }

  private static final class NotTodayError extends Error {
    NotTodayError(String message) {
      super(message);
    }
  }

  private static Rendered response(PageOf page) {
    var message = "no " + page.id + " today";
    switch (page.failure) {
      case "error" -> throw new NotTodayException(message);
      case "crash" -> throw new NotTodayError(message);
      case "left" -> {
        Thread.currentThread().interrupt();
        throw new NotTodayException(message);
      }
      default -> {}
    }
    var metadata =
        PageMetadata.newBuilder()
            .setStatus(page.failure.isEmpty() ? page.status : 503)
            .setContentType(page.contentType)
            .addTags(page.tag);
    for (var header : page.headers) {
      metadata.addHeaders(NameValue.newBuilder().setName(header.get(0)).setValue(header.get(1)));
    }
    var html = page.id.repeat(1 + page.size / page.id.length()).substring(0, page.size);
    return new Rendered(ByteString.copyFromUtf8(html), null, metadata.build());
  }

  private static String digest(ByteString bytes) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes.toByteArray()));
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  private static void refused(PageOf page, StatusRuntimeException exception) {
    var refusal = Refusal.of(exception);
    say(
        "event", "refused", "id", page.id, "reason", refusal.reason(), "metadata", refusal.metadata(), "fields",
        refusal.fields(), "why", exception.toString());
  }

  private static String how(Served served) {
    return served.how().name().toLowerCase(Locale.ROOT);
  }

  private static void say(Object... namesAndValues) {
    Map<String, Object> report = new LinkedHashMap<>();
    for (var i = 0; i < namesAndValues.length; i += 2) {
      report.put((String) namesAndValues[i], namesAndValues[i + 1]);
    }
    // One write for each line: threads do not mix.
    synchronized (OUT) {
      OUT.println(JSON.toJson(report));
    }
  }

  private static void sleep(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Calls {@code work} for each of {@code all}, at most {@code limit} at a time. */
  private static <T> void forEach(List<T> all, int limit, Consumer<T> work)
      throws InterruptedException, ExecutionException {
    var threads = Executors.newFixedThreadPool(Math.max(limit, 1));
    try {
      var tasks = new ArrayList<Future<?>>();
      for (var one : all) {
        tasks.add(threads.submit(() -> work.accept(one)));
      }
      for (var task : tasks) {
        task.get();
      }
    } finally {
      threads.shutdown();
    }
  }
}
