// Package leasehold is a small client of the coordinator over the stubs that are generated from its contract: one to copy.
//
// The contract (proto/leasehold/v1/coordinator.proto) says what each call means. What a client must add to the stubs is here:
// the service config that all languages share, one request id for each intent, the repetition of an acquire, bodies that do not
// fit a message, a lease that is given back whatever becomes of the render, and what a refusal says of itself.
package leasehold

//go:generate npx -y @bufbuild/buf@1.75.0 generate ../../../../proto --template ../buf.gen.yaml --output ..
//go:generate cp ../../../../proto/leasehold/v1/service_config.json v1/

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "leasehold.example/interop/leasehold/v1"
)

// How long calls take, and which of them the channel repeats: the same for every language.
//
//go:embed v1/service_config.json
var serviceConfig string

// Coordinator is a handle on the coordinator. Make one, and share it.
type Coordinator struct {
	stub  v1.CoordinatorServiceClient
	close func() error
	owner string
}

// New makes a handle on the coordinator at host:port, without TLS and as nobody. Leases are acquired under the name owner, for
// people. It connects with the first call, so that a coordinator that is down, or an address that is none, shows as an error of
// the calls.
func New(address, owner string) *Coordinator { return NewSecure(address, owner, Security{}) }

// NewSecure is New for whom the coordinator asks who it is, or by TLS. What is wrong with the security shows as an error of the
// calls.
func NewSecure(address, owner string, security Security) *Coordinator {
	options, err := security.options()
	if err != nil {
		return broken(err, owner)
	}
	options = append(options,
		grpc.WithDefaultServiceConfig(serviceConfig),
		// A connection that fell silent, as after a freeze of this process, is given up.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// While the coordinator restarts, calls wait for it until their deadline.
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return broken(err, owner)
	}
	return &Coordinator{v1.NewCoordinatorServiceClient(conn), conn.Close, owner}
}

func broken(err error, owner string) *Coordinator {
	return &Coordinator{v1.NewCoordinatorServiceClient(noConnection{err}), func() error { return nil }, owner}
}

// Close closes the connection. Calls in progress fail.
func (c *Coordinator) Close() error { return c.close() }

// Key names an entry by a ready key. Entries are also named by the request that they answer: EntryRef's PageRequest.
func Key(key string) *v1.EntryRef { return &v1.EntryRef{Name: &v1.EntryRef_Key{Key: key}} }

// Lookup tells what is current for an entry.
func (c *Coordinator) Lookup(ctx context.Context, request *v1.LookupRequest) (*v1.LookupResponse, error) {
	return repeat(ctx, func(int) (*v1.LookupResponse, error) { return c.stub.Lookup(ctx, request) })
}

// Acquire asks for the right to render the next generation of an entry. It fills in a new request id and the owner, which stay
// in request: its id names the lease. The channel does not repeat an acquire, because only a caller can say that it does.
func (c *Coordinator) Acquire(ctx context.Context, request *v1.AcquireLeaseRequest) (*v1.AcquireLeaseResponse, error) {
	request.RequestId, request.Owner = newRequestID(), c.owner
	return repeat(ctx, func(attempt int) (*v1.AcquireLeaseResponse, error) {
		request.Retry = attempt > 0
		return c.stub.AcquireLease(ctx, request)
	})
}

// Commit makes a page the current one and ends its lease.
func (c *Coordinator) Commit(ctx context.Context, request *v1.CommitPointerRequest) (*v1.CommitPointerResponse, error) {
	return repeat(ctx, func(int) (*v1.CommitPointerResponse, error) { return c.stub.CommitPointer(ctx, request) })
}

// Fail gives a lease back after a failed render: nobody is granted it for a while. The reason must hold no secrets.
func (c *Coordinator) Fail(ctx context.Context, entry *v1.EntryRef, lease *v1.LeaseRef, reason string) error {
	request := &v1.ReleaseLeaseRequest{Entry: entry, Lease: lease, Failure: &reason}
	_, err := repeat(ctx, func(int) (*v1.ReleaseLeaseResponse, error) { return c.stub.ReleaseLease(ctx, request) })
	return err
}

// Sidecar reads the hydration sidecar that a page's token names.
func (c *Coordinator) Sidecar(ctx context.Context, entry *v1.EntryRef, token string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return repeat(ctx, func(int) ([]byte, error) {
		stream, err := c.stub.ServeSidecar(ctx, &v1.ServeSidecarRequest{Entry: entry, SidecarToken: token})
		if err != nil {
			return nil, err
		}
		return collect(stream.Recv)
	})
}

// Current is the current page, and whether the coordinator calls it fresh.
type Current struct {
	Page    *v1.Page
	HTML    []byte
	IsFresh bool
}

// Page reads the current page with its HTML, however large that is. Where there is none: PAGE_NOT_FOUND.
func (c *Coordinator) Page(ctx context.Context, entry *v1.EntryRef, consistencyToken string) (Current, error) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	return repeat(ctx, func(int) (Current, error) {
		stream, err := c.stub.ServePage(ctx, &v1.ServePageRequest{Entry: entry, ConsistencyToken: consistencyToken})
		if err != nil {
			return Current{}, err
		}
		first, err := stream.Recv()
		if err != nil {
			return Current{}, err
		}
		current := currentOf(first.GetHead())
		current.HTML, err = collect(stream.Recv)
		return current, err
	})
}

// Upload stores a body ahead of the commit that names it, under a lease that was granted: one that does not fit a message.
func (c *Coordinator) Upload(ctx context.Context, head *v1.UploadHead, body []byte) (*v1.UploadBodyResponse, error) {
	return repeat(ctx, func(int) (*v1.UploadBodyResponse, error) {
		stream, err := c.stub.UploadBody(ctx)
		if err != nil {
			return nil, err
		}
		err = stream.Send(&v1.UploadBodyRequest{Part: &v1.UploadBodyRequest_Head{Head: head}})
		for chunk := range slices.Chunk(body, chunkBytes) {
			// Once it fails there is an answer already, which is why.
			if err == nil {
				err = stream.Send(&v1.UploadBodyRequest{Part: &v1.UploadBodyRequest_Chunk{Chunk: chunk}})
			}
		}
		return stream.CloseAndRecv()
	})
}

// Invalidate declares pages out of date, softly. Whoever presents the token that it answers with sees that at once.
func (c *Coordinator) Invalidate(ctx context.Context, scopes ...*v1.InvalidationScope) (string, error) {
	request := &v1.InvalidateRequest{RequestId: newRequestID(), Scopes: scopes}
	response, err := repeat(ctx, func(int) (*v1.InvalidateResponse, error) { return c.stub.Invalidate(ctx, request) })
	return response.GetConsistencyToken(), err
}

// Rendered is what a render makes. Where the HTML names its sidecar, it does so by the SidecarToken of the grant.
type Rendered struct {
	HTML, Sidecar []byte
	Metadata      *v1.PageMetadata
}

// How says where a page comes from: Hit (it was there), Wait (another rendered it meanwhile), Render, or Stale (another renders
// the next one, or failed to).
type How string

// What How may be.
const (
	Hit    How = "hit"
	Wait   How = "wait"
	Render How = "render"
	Stale  How = "stale"
)

// Served is a page, as it is to be answered with.
type Served struct {
	How    How
	Status int
	// Header has the content type and the entity tag, too.
	Header       http.Header
	HTML         []byte
	Generation   uint64
	SidecarToken string
}

// What Serve fails with when nobody is to blame.
var (
	// ErrOvertaken is for a render that came too late to become current.
	ErrOvertaken = errors.New("another was granted the lease meanwhile")
	// ErrHeld is for want of any page, where there is nothing of before.
	ErrHeld = errors.New("another renders the page, and has not finished in time")
	// ErrBackingOff is for the same, a moment after a render that failed.
	ErrBackingOff = errors.New("the last render failed")
)

// Options are how Serve goes about it.
type Options struct {
	// TTL is how long the lease lasts, and with it how long a render may take. Zero: the coordinator's default.
	TTL time.Duration
	// Wait is how long to wait for the page that another renders. Zero: not at all.
	Wait time.Duration
	// ConsistencyToken is one of Invalidate, which the page is to take into account. Empty: none.
	ConsistencyToken string
}

// ServeHTML is Serve for a page that is nothing but HTML, by a ready key: it stays fresh until it is invalidated.
func (c *Coordinator) ServeHTML(ctx context.Context, key string, render func() (string, error)) (Served, error) {
	options := Options{Wait: 30 * time.Second}
	return c.Serve(ctx, Key(key), options, func(*v1.LeaseGrant) (Rendered, error) {
		html, err := render()
		return Rendered{HTML: []byte(html)}, err
	})
}

// Serve answers with the current page, which it renders where that is this caller's to do. What was rendered is committed even
// where ctx has ended meanwhile, as others wait for it; and however the render ends, also by a panic, its lease is not left
// behind.
func (c *Coordinator) Serve(
	ctx context.Context, entry *v1.EntryRef, options Options, render func(*v1.LeaseGrant) (Rendered, error),
) (Served, error) {
	found, err := c.Lookup(ctx, &v1.LookupRequest{
		Entry: entry, ConsistencyToken: options.ConsistencyToken, Body: v1.BodyDelivery_BODY_DELIVERY_INLINE,
	})
	if err != nil {
		return Served{}, err
	}
	if found.GetFresh() != nil {
		current, err := c.whole(ctx, entry, options, found)
		if err == nil && current.IsFresh {
			return current.served(Hit), nil
		}
		// Else it was invalidated while its body was read.
		if err != nil && RefusalOf(err).Reason != "PAGE_NOT_FOUND" {
			return Served{}, err
		}
	}
	request := &v1.AcquireLeaseRequest{
		Entry: entry, Wait: durationpb.New(options.Wait),
		ConsistencyToken: options.ConsistencyToken, Body: v1.BodyDelivery_BODY_DELIVERY_INLINE,
	}
	if options.TTL > 0 {
		request.Ttl = durationpb.New(options.TTL)
	}
	acquired, err := c.Acquire(ctx, request)
	if err != nil {
		return Served{}, err
	}
	switch outcome := acquired.GetOutcome().(type) {
	case *v1.AcquireLeaseResponse_Granted:
		lease := &v1.LeaseRef{RequestId: request.GetRequestId(), Generation: outcome.Granted.GetGeneration()}
		return c.renderAndCommit(ctx, entry, lease, outcome.Granted, render)
	case *v1.AcquireLeaseResponse_Ready:
		current, err := c.whole(ctx, entry, options, outcome.Ready)
		if err != nil {
			return Served{}, err
		}
		return current.served(Wait), nil
	case *v1.AcquireLeaseResponse_Held:
		return c.previous(ctx, entry, options, outcome.Held.GetPrevious(), ErrHeld)
	case *v1.AcquireLeaseResponse_BackingOff:
		why := fmt.Errorf("%w: %s", ErrBackingOff, outcome.BackingOff.GetReason())
		return c.previous(ctx, entry, options, outcome.BackingOff.GetPrevious(), why)
	default:
		return Served{}, fmt.Errorf("not an answer to a new request: %T", outcome)
	}
}

func (c *Coordinator) renderAndCommit(
	ctx context.Context, entry *v1.EntryRef, lease *v1.LeaseRef, grant *v1.LeaseGrant,
	render func(*v1.LeaseGrant) (Rendered, error),
) (Served, error) {
	// The visitor may leave; the others still wait for what was granted here.
	lasting := context.WithoutCancel(ctx)
	failure, isOver := "the render failed", false
	defer func() {
		if isOver {
			return
		}
		// Where it cannot be given back, it ends by itself; what went wrong before is what there is to tell.
		patient, cancel := context.WithTimeout(lasting, 5*time.Second)
		defer cancel()
		_ = c.Fail(patient, entry, lease, failure)
	}()
	page, err := render(grant)
	if err != nil {
		return Served{}, err
	}
	if page.Metadata == nil {
		page.Metadata = &v1.PageMetadata{}
	}
	failure = "the page could not be committed"
	committed, err := c.store(lasting, entry, lease, page)
	isOver = err == nil || errors.Is(err, ErrOvertaken)
	if err != nil {
		return Served{}, err
	}
	answer := Served{How: Render, HTML: page.HTML, Generation: grant.GetGeneration()}
	etag := ""
	switch outcome := committed.GetOutcome().(type) {
	case *v1.CommitPointerResponse_Committed:
		answer.SidecarToken, etag = outcome.Committed.GetSidecarToken(), outcome.Committed.GetEtag()
	case *v1.CommitPointerResponse_CommittedStale:
		answer.SidecarToken, etag = outcome.CommittedStale.GetSidecarToken(), outcome.CommittedStale.GetEtag()
	default:
		return Served{}, ErrOvertaken
	}
	answer.Status, answer.Header = response(page.Metadata, etag)
	return answer, nil
}

// What is committed in one message, of HTML and sidecar together, and what a message of an upload has.
const (
	inlineBytes = 3 << 20
	chunkBytes  = 256 << 10
)

// Commits, and uploads before that what does not fit the commit: the sidecar first, so that no page is there without its own,
// and only where it must be, as one that comes with its commit is stored with the page's tags and path.
func (c *Coordinator) store(
	ctx context.Context, entry *v1.EntryRef, lease *v1.LeaseRef, page Rendered,
) (*v1.CommitPointerResponse, error) {
	request := &v1.CommitPointerRequest{Entry: entry, Lease: lease, Metadata: page.Metadata}
	var err error
	beside := 0
	if page.Sidecar != nil {
		head := &v1.UploadHead{Entry: entry, Lease: lease, Kind: v1.BodyKind_BODY_KIND_SIDECAR}
		if len(page.Sidecar) <= inlineBytes {
			beside = len(page.Sidecar)
		}
		request.Sidecar, err = c.source(ctx, head, page.Sidecar, beside == len(page.Sidecar))
		if err != nil {
			return nil, err
		}
	}
	head := &v1.UploadHead{
		Entry: entry, Lease: lease, Kind: v1.BodyKind_BODY_KIND_HTML, ContentType: page.Metadata.GetContentType(),
	}
	request.Html, err = c.source(ctx, head, page.HTML, beside+len(page.HTML) <= inlineBytes)
	if err != nil {
		return nil, err
	}
	return c.Commit(ctx, request)
}

func (c *Coordinator) source(ctx context.Context, head *v1.UploadHead, body []byte, isInline bool) (*v1.BodySource, error) {
	if isInline {
		return &v1.BodySource{Source: &v1.BodySource_Inline{Inline: body}}, nil
	}
	uploaded, err := c.Upload(ctx, head, body)
	if err != nil {
		return nil, err
	}
	if uploaded.GetUploaded() == nil {
		return nil, ErrOvertaken
	}
	stored := &v1.StoredBody{Digest: uploaded.GetUploaded().GetDigest(), SizeBytes: uploaded.GetUploaded().GetSizeBytes()}
	return &v1.BodySource{Source: &v1.BodySource_Stored{Stored: stored}}, nil
}

// A verdict on a page: the answer to a lookup, a page that is ready, what comes before a page's bytes.
type verdict interface {
	GetFresh() *v1.FreshPage
	GetStale() *v1.StalePage
}

func currentOf(told verdict) Current {
	page, isFresh := told.GetStale().GetPage(), false
	if told.GetFresh() != nil {
		page, isFresh = told.GetFresh().GetPage(), true
	}
	return Current{page, page.GetInline(), isFresh}
}

// A page with its HTML, which is read by itself where it did not come along: because it is too large for that, or was not
// there in time.
func (c *Coordinator) whole(ctx context.Context, entry *v1.EntryRef, options Options, told verdict) (Current, error) {
	current := currentOf(told)
	if _, isInline := current.Page.GetBody().(*v1.Page_Inline); isInline {
		return current, nil
	}
	return c.Page(ctx, entry, options.ConsistencyToken)
}

func (c *Coordinator) previous(
	ctx context.Context, entry *v1.EntryRef, options Options, stale *v1.StalePage, otherwise error,
) (Served, error) {
	if stale == nil {
		return Served{}, otherwise
	}
	current, err := c.whole(ctx, entry, options, &v1.PageReady{Page: &v1.PageReady_Stale{Stale: stale}})
	switch {
	case RefusalOf(err).Reason == "PAGE_NOT_FOUND":
		return Served{}, otherwise
	case err != nil:
		return Served{}, err
	case current.IsFresh:
		return current.served(Wait), nil
	}
	return current.served(Stale), nil
}

func (c Current) served(how How) Served {
	status, header := response(c.Page.GetMetadata(), c.Page.GetMetadata().GetEtag())
	return Served{how, status, header, c.HTML, c.Page.GetGeneration(), c.Page.GetSidecarToken()}
}

func response(metadata *v1.PageMetadata, etag string) (int, http.Header) {
	header := http.Header{}
	for _, each := range metadata.GetHeaders() {
		// What clients tell each other of a page is not for its visitors.
		if !strings.HasPrefix(strings.ToLower(each.GetName()), "leasehold-") {
			header.Add(each.GetName(), each.GetValue())
		}
	}
	header.Set("Content-Type", cmp.Or(metadata.GetContentType(), "text/html; charset=utf-8"))
	if etag != "" {
		header.Set("ETag", etag)
	}
	return int(cmp.Or(metadata.GetStatus(), http.StatusOK)), header
}

// Refusal is what the coordinator says of an error.
type Refusal struct {
	// Reason is one of ErrorReason, without its prefix. Empty: it was not the coordinator that refused.
	Reason string
	// Metadata is more about the reason, such as the header or the limit.
	Metadata map[string]string
	// Fields are the dotted paths of what is wrong with the request.
	Fields []string
	// RetryAfter is when it is worth trying again.
	RetryAfter time.Duration
}

// RefusalOf reads it from the error of a call.
func RefusalOf(err error) Refusal {
	refusal := Refusal{}
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == "leasehold" {
				refusal.Reason, refusal.Metadata = detail.GetReason(), detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				refusal.Fields = append(refusal.Fields, violation.GetField())
			}
		case *errdetails.RetryInfo:
			refusal.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return refusal
}

// What the channel cannot repeat by itself, an acquire and whatever breaks off once its answer has begun, by the same rule:
// UNAVAILABLE, five attempts, a pause that doubles.
func repeat[T any](ctx context.Context, call func(attempt int) (T, error)) (T, error) {
	for attempt := 0; ; attempt++ {
		answer, err := call(attempt)
		if status.Code(err) != codes.Unavailable || attempt == 4 {
			return answer, err
		}
		pause := max(25*time.Millisecond<<attempt, RefusalOf(err).RetryAfter)
		select {
		case <-time.After(pause/2 + mathrand.N(pause)):
		case <-ctx.Done():
			return answer, err
		}
	}
}

// What a stream brings, up to its end.
func collect[P interface{ GetChunk() []byte }](receive func() (P, error)) ([]byte, error) {
	var body []byte
	for {
		part, err := receive()
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		body = append(body, part.GetChunk()...)
	}
}

func newRequestID() []byte {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return id
}

// A connection to an address that is none.
type noConnection struct{ error }

func (n noConnection) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return n.error
}

func (n noConnection) NewStream(
	context.Context, *grpc.StreamDesc, string, ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return nil, n.error
}
