package leasehold

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "leasehold.example/interop/leasehold/v1"
)

// A coordinator that answers as it is told, and keeps what it was asked.
type double struct {
	v1.UnimplementedCoordinatorServiceServer
	found    *v1.LookupResponse
	acquired *v1.AcquireLeaseResponse
	whole    *v1.ServePageHead
	html     []byte
	commit   func() (*v1.CommitPointerResponse, error)

	uploads  []v1.BodyKind
	failures []string

	// How often a connection is to break once its answer has begun.
	breaks      int
	connections connections
}

// What was accepted, to be broken off.
type connections struct {
	net.Listener
	open []net.Conn
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.open = append(c.open, conn)
	}
	return conn, err
}

// Begins the answer, and breaks the connection as a coordinator does that is killed, where there is a break left.
func (d *double) breakOff(ctx context.Context) {
	if d.breaks == 0 {
		return
	}
	d.breaks--
	_ = grpc.SendHeader(ctx, nil)
	// Until they have arrived: from then on, no channel repeats the call.
	time.Sleep(50 * time.Millisecond)
	for _, conn := range d.connections.open {
		_ = conn.Close()
	}
}

func (d *double) Lookup(ctx context.Context, _ *v1.LookupRequest) (*v1.LookupResponse, error) {
	d.breakOff(ctx)
	if d.found == nil {
		missing := &v1.MissingPage{Reason: v1.MissingReason_MISSING_REASON_NEVER_RENDERED}
		return &v1.LookupResponse{Outcome: &v1.LookupResponse_Missing{Missing: missing}}, nil
	}
	return d.found, nil
}

func (d *double) AcquireLease(context.Context, *v1.AcquireLeaseRequest) (*v1.AcquireLeaseResponse, error) {
	if d.acquired == nil {
		grant := &v1.LeaseGrant{Generation: 7}
		return &v1.AcquireLeaseResponse{Outcome: &v1.AcquireLeaseResponse_Granted{Granted: grant}}, nil
	}
	return d.acquired, nil
}

func (d *double) ServePage(_ *v1.ServePageRequest, stream grpc.ServerStreamingServer[v1.ServePageResponse]) error {
	if d.whole == nil {
		return status.Error(codes.Unimplemented, "no page is to be read by itself")
	}
	if err := stream.Send(&v1.ServePageResponse{Part: &v1.ServePageResponse_Head{Head: d.whole}}); err != nil {
		return err
	}
	for _, chunk := range [][]byte{d.html[:1], d.html[1:]} {
		if err := stream.Send(&v1.ServePageResponse{Part: &v1.ServePageResponse_Chunk{Chunk: chunk}}); err != nil {
			return err
		}
	}
	return nil
}

func (d *double) UploadBody(stream grpc.ClientStreamingServer[v1.UploadBodyRequest, v1.UploadBodyResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	d.uploads = append(d.uploads, first.GetHead().GetKind())
	body, err := collect(stream.Recv)
	if err != nil {
		return err
	}
	stored := &v1.UploadedBody{SizeBytes: uint64(len(body))}
	return stream.SendAndClose(&v1.UploadBodyResponse{Outcome: &v1.UploadBodyResponse_Uploaded{Uploaded: stored}})
}

func (d *double) CommitPointer(context.Context, *v1.CommitPointerRequest) (*v1.CommitPointerResponse, error) {
	if d.commit != nil {
		return d.commit()
	}
	applied := &v1.CommitApplied{Etag: `"e"`}
	return &v1.CommitPointerResponse{Outcome: &v1.CommitPointerResponse_Committed{Committed: applied}}, nil
}

func (d *double) ReleaseLease(_ context.Context, request *v1.ReleaseLeaseRequest) (*v1.ReleaseLeaseResponse, error) {
	d.failures = append(d.failures, request.GetFailure())
	return &v1.ReleaseLeaseResponse{}, nil
}

// The client of a double that listens until the test is over.
func (d *double) client(t *testing.T) *Coordinator {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	v1.RegisterCoordinatorServiceServer(server, d)
	d.connections.Listener = listener
	go func() { _ = server.Serve(&d.connections) }()
	client := New(listener.Addr().String(), "test")
	t.Cleanup(func() {
		_ = client.Close()
		server.Stop()
	})
	return client
}

func page(generation uint64) *v1.Page {
	return &v1.Page{Generation: generation, BodyTooLarge: true, Metadata: &v1.PageMetadata{Status: 404}}
}

func fresh(generation uint64) *v1.FreshPage { return &v1.FreshPage{Page: page(generation)} }

func stale(generation uint64) *v1.StalePage { return &v1.StalePage{Page: page(generation)} }

func html(text string) func(*v1.LeaseGrant) (Rendered, error) {
	return func(*v1.LeaseGrant) (Rendered, error) { return Rendered{HTML: []byte(text)}, nil }
}

func TestAPageThatDoesNotFitItsAnswerIsReadByItself(t *testing.T) {
	told := &v1.ServePageHead{Page: &v1.ServePageHead_Fresh{Fresh: fresh(4)}}
	of := &v1.ServePageHead{Page: &v1.ServePageHead_Stale{Stale: stale(4)}}
	ready := &v1.AcquireLeaseResponse_Ready{Ready: &v1.PageReady{Page: &v1.PageReady_Fresh{Fresh: fresh(3)}}}
	held := &v1.AcquireLeaseResponse_Held{Held: &v1.LeaseHeld{Previous: stale(3)}}
	backingOff := &v1.AcquireLeaseResponse_BackingOff{BackingOff: &v1.BackingOff{Previous: stale(3)}}
	for name, each := range map[string]struct {
		double *double
		how    How
	}{
		"fresh":       {&double{found: &v1.LookupResponse{Outcome: &v1.LookupResponse_Fresh{Fresh: fresh(3)}}, whole: told}, Hit},
		"ready":       {&double{acquired: &v1.AcquireLeaseResponse{Outcome: ready}, whole: told}, Wait},
		"held":        {&double{acquired: &v1.AcquireLeaseResponse{Outcome: held}, whole: of}, Stale},
		"backing off": {&double{acquired: &v1.AcquireLeaseResponse{Outcome: backingOff}, whole: of}, Stale},
	} {
		t.Run(name, func(t *testing.T) {
			each.double.html = []byte("<h1>all of it</h1>")
			served, err := each.double.client(t).Serve(t.Context(), Key("k"), Options{}, html("another"))
			if err != nil || served.How != each.how || string(served.HTML) != "<h1>all of it</h1>" {
				t.Fatalf("%v %q %v", served.How, served.HTML, err)
			}
			// Metadata and bytes are of one generation: what was current when it was read.
			if served.Generation != 4 || served.Status != 404 {
				t.Fatalf("generation %d, status %d", served.Generation, served.Status)
			}
		})
	}
}

func TestAPageThatIsInvalidatedWhileItIsReadIsRenderedAgain(t *testing.T) {
	coordinator := &double{
		found: &v1.LookupResponse{Outcome: &v1.LookupResponse_Fresh{Fresh: fresh(3)}},
		whole: &v1.ServePageHead{Page: &v1.ServePageHead_Stale{Stale: stale(3)}},
		html:  []byte("old"),
	}
	served, err := coordinator.client(t).Serve(t.Context(), Key("k"), Options{}, html("new"))
	if err != nil || served.How != Render || string(served.HTML) != "new" {
		t.Fatalf("%v %q %v", served.How, served.HTML, err)
	}
}

func TestWhatDoesNotFitACommitIsUploadedBeforeItAndNothingElse(t *testing.T) {
	const limit = inlineBytes
	kinds := map[string][]v1.BodyKind{
		"":     nil,
		"html": {v1.BodyKind_BODY_KIND_HTML},
		"both": {v1.BodyKind_BODY_KIND_SIDECAR, v1.BodyKind_BODY_KIND_HTML},
	}
	for name, each := range map[string]struct {
		html, sidecar int
		uploaded      string
	}{
		"fits":                {limit, 0, ""},
		"does not fit":        {limit + 1, 0, "html"},
		"nor with its other":  {limit, 1, "html"},
		"neither of them":     {limit + 1, limit + 1, "both"},
		"together they do":    {limit - 9, 9, ""},
		"an empty one always": {0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			coordinator := &double{}
			made := Rendered{HTML: bytes.Repeat([]byte("h"), each.html)}
			if each.sidecar > 0 {
				made.Sidecar = bytes.Repeat([]byte("s"), each.sidecar)
			}
			render := func(*v1.LeaseGrant) (Rendered, error) { return made, nil }
			if _, err := coordinator.client(t).Serve(t.Context(), Key("k"), Options{}, render); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(coordinator.uploads, kinds[each.uploaded]) {
				t.Fatalf("uploaded %v", coordinator.uploads)
			}
			if len(coordinator.failures) > 0 {
				t.Fatalf("given back: %v", coordinator.failures)
			}
		})
	}
}

func TestALeaseIsGivenBackHoweverTheRenderEnds(t *testing.T) {
	broken := errors.New("broken")
	for name, each := range map[string]struct {
		commit  error
		render  func(leave func()) (Rendered, error)
		failure string
	}{
		"an error":   {nil, func(func()) (Rendered, error) { return Rendered{}, broken }, "the render failed"},
		"a panic":    {nil, func(func()) (Rendered, error) { panic(broken) }, "the render failed"},
		"a departed": {nil, func(leave func()) (Rendered, error) { leave(); return Rendered{}, broken }, "the render failed"},
		"a refusal": {
			status.Error(codes.InvalidArgument, broken.Error()),
			func(func()) (Rendered, error) { return Rendered{}, nil },
			"the page could not be committed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			coordinator := &double{}
			if each.commit != nil {
				coordinator.commit = func() (*v1.CommitPointerResponse, error) { return nil, each.commit }
			}
			client := coordinator.client(t)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			serve := func() (err error) {
				defer func() {
					if crash := recover(); crash != nil {
						err = crash.(error)
					}
				}()
				_, err = client.Serve(ctx, Key("k"), Options{}, func(*v1.LeaseGrant) (Rendered, error) { return each.render(leave) })
				return err
			}
			if err := serve(); err == nil || !strings.Contains(err.Error(), "broken") {
				t.Fatalf("what went wrong is not told: %v", err)
			}
			if len(coordinator.failures) != 1 || coordinator.failures[0] != each.failure {
				t.Fatalf("given back: %q", coordinator.failures)
			}
		})
	}
}

func TestWhatIsRenderedIsCommittedAlsoWhereTheVisitorHasLeft(t *testing.T) {
	coordinator := &double{}
	client := coordinator.client(t)
	ctx, leave := context.WithCancel(t.Context())
	served, err := client.Serve(ctx, Key("k"), Options{}, func(*v1.LeaseGrant) (Rendered, error) {
		leave()
		return Rendered{HTML: []byte("whole")}, nil
	})
	if err != nil || served.How != Render || served.Header.Get("etag") != `"e"` {
		t.Fatalf("%v %v", served, err)
	}
	if len(coordinator.failures) > 0 {
		t.Fatalf("given back: %q", coordinator.failures)
	}
}

func TestHeadersBetweenClientsAreNotServed(t *testing.T) {
	metadata := &v1.PageMetadata{Headers: []*v1.NameValue{
		{Name: "leasehold-policy", Value: "x"}, {Name: "link", Value: "a"}, {Name: "link", Value: "b"},
	}}
	want := http.Header{"Link": {"a", "b"}, "Content-Type": {"text/html; charset=utf-8"}}
	if status, header := response(metadata, ""); status != 200 || !maps.EqualFunc(header, want, slices.Equal) {
		t.Fatalf("%d %v", status, header)
	}
}

func TestAnAddressThatIsNoneShowsInTheCalls(t *testing.T) {
	client := New("\x00", "test")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := client.ServeHTML(ctx, "k", func() (string, error) { return "", nil }); err == nil || ctx.Err() != nil {
		t.Fatalf("%v %v", err, ctx.Err())
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnAnswerThatBreaksOffIsAskedForAgain(t *testing.T) {
	d := &double{breaks: 1}
	answer, err := d.client(t).Lookup(t.Context(), &v1.LookupRequest{Entry: Key("shop")})
	if err != nil || answer.GetMissing() == nil || d.breaks != 0 {
		t.Fatalf("%v, %v, %d breaks left", answer, err, d.breaks)
	}
}
