// Package leasehold is a small client of the coordinator over the stubs that are generated from its contract: one to copy.
//
// The contract (proto/leasehold/v1/coordinator.proto) says what each call means. What a client must add to the stubs is here:
// the service config that all languages share, one request id for each intent, the repetition of an acquire, and what a
// refusal says of itself.
package leasehold

//go:generate npx -y @bufbuild/buf@1.75.0 generate ../../../../proto --template ../buf.gen.yaml --output ..
//go:generate cp ../../../../proto/leasehold/v1/service_config.json v1/

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
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
	conn  *grpc.ClientConn
	owner string
}

// Dial makes a handle on the coordinator at host:port. Leases are acquired under the name owner, for people. It connects with
// the first call, so that a coordinator that is down shows as an error of the calls.
func Dial(address, owner string) (*Coordinator, error) {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// A connection that fell silent, as after a freeze of this process, is given up.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// While the coordinator restarts, calls wait for it until their deadline.
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return nil, err
	}
	return &Coordinator{stub: v1.NewCoordinatorServiceClient(conn), conn: conn, owner: owner}, nil
}

// Close closes the connection. Calls in progress fail.
func (c *Coordinator) Close() error { return c.conn.Close() }

// Key names an entry by a ready key. Entries are also named by the request that they answer: EntryRef's PageRequest.
func Key(key string) *v1.EntryRef { return &v1.EntryRef{Name: &v1.EntryRef_Key{Key: key}} }

// Lookup tells what is current for an entry.
func (c *Coordinator) Lookup(ctx context.Context, request *v1.LookupRequest) (*v1.LookupResponse, error) {
	return c.stub.Lookup(ctx, request)
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
	return c.stub.CommitPointer(ctx, request)
}

// Fail gives a lease back after a failed render: nobody is granted it for a while. The reason must hold no secrets.
func (c *Coordinator) Fail(ctx context.Context, entry *v1.EntryRef, lease *v1.LeaseRef, reason string) error {
	_, err := c.stub.ReleaseLease(ctx, &v1.ReleaseLeaseRequest{Entry: entry, Lease: lease, Failure: &reason})
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
		var body []byte
		for {
			part, err := stream.Recv()
			if err == io.EOF {
				return body, nil
			}
			if err != nil {
				return nil, err
			}
			body = append(body, part.GetChunk()...)
		}
	})
}

// Invalidate declares pages out of date, softly. Whoever presents the token that it answers with sees that at once.
func (c *Coordinator) Invalidate(ctx context.Context, scopes ...*v1.InvalidationScope) (string, error) {
	response, err := c.stub.Invalidate(ctx, &v1.InvalidateRequest{RequestId: newRequestID(), Scopes: scopes})
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

// Served is a page with its HTML.
type Served struct {
	How          How
	HTML         []byte
	Generation   uint64
	SidecarToken string
}

// ErrOvertaken is returned for a render that came too late to become current.
var ErrOvertaken = errors.New("another was granted the lease meanwhile")

// Options are how Serve goes about it.
type Options struct {
	// TTL is how long the lease lasts, and with it how long a render may take. Zero: the coordinator's default.
	TTL time.Duration
	// Wait is how long to wait for the page that another renders. Zero: not at all.
	Wait time.Duration
	// ConsistencyToken is one of Invalidate, which the page is to take into account. Empty: none.
	ConsistencyToken string
}

// Serve answers with the current page, which it renders where that is this caller's to do.
func (c *Coordinator) Serve(
	ctx context.Context, entry *v1.EntryRef, options Options, render func(*v1.LeaseGrant) (Rendered, error),
) (Served, error) {
	found, err := c.Lookup(ctx, &v1.LookupRequest{
		Entry: entry, ConsistencyToken: options.ConsistencyToken, Body: v1.BodyDelivery_BODY_DELIVERY_INLINE,
	})
	if err != nil {
		return Served{}, err
	}
	if fresh := found.GetFresh(); fresh != nil {
		return served(Hit, fresh.GetPage())
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
		if fresh := outcome.Ready.GetFresh(); fresh != nil {
			return served(Wait, fresh.GetPage())
		}
		return served(Wait, outcome.Ready.GetStale().GetPage())
	case *v1.AcquireLeaseResponse_Held:
		return previous(outcome.Held.GetPrevious(), "another renders the page, and has not finished in time")
	case *v1.AcquireLeaseResponse_BackingOff:
		return previous(outcome.BackingOff.GetPrevious(), "the last render failed: "+outcome.BackingOff.GetReason())
	default:
		return Served{}, fmt.Errorf("not an answer to a new request: %T", outcome)
	}
}

func (c *Coordinator) renderAndCommit(
	ctx context.Context, entry *v1.EntryRef, lease *v1.LeaseRef, grant *v1.LeaseGrant,
	render func(*v1.LeaseGrant) (Rendered, error),
) (Served, error) {
	page, err := render(grant)
	if err != nil {
		return Served{}, errors.Join(err, c.Fail(ctx, entry, lease, "the render failed"))
	}
	request := &v1.CommitPointerRequest{Entry: entry, Lease: lease, Html: inline(page.HTML), Metadata: page.Metadata}
	if page.Sidecar != nil {
		request.Sidecar = inline(page.Sidecar)
	}
	if request.Metadata == nil {
		request.Metadata = &v1.PageMetadata{}
	}
	committed, err := c.Commit(ctx, request)
	if err != nil {
		return Served{}, err
	}
	answer := Served{How: Render, HTML: page.HTML, Generation: grant.GetGeneration()}
	switch outcome := committed.GetOutcome().(type) {
	case *v1.CommitPointerResponse_Committed:
		answer.SidecarToken = outcome.Committed.GetSidecarToken()
	case *v1.CommitPointerResponse_CommittedStale:
		answer.SidecarToken = outcome.CommittedStale.GetSidecarToken()
	default:
		return Served{}, ErrOvertaken
	}
	return answer, nil
}

func served(how How, page *v1.Page) (Served, error) {
	return Served{how, page.GetInline(), page.GetGeneration(), page.GetSidecarToken()}, nil
}

func previous(stale *v1.StalePage, otherwise string) (Served, error) {
	if stale == nil {
		return Served{}, errors.New(otherwise)
	}
	return served(Stale, stale.GetPage())
}

func inline(body []byte) *v1.BodySource {
	return &v1.BodySource{Source: &v1.BodySource_Inline{Inline: body}}
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

// What the channel cannot repeat by itself, by the same rule: UNAVAILABLE, five attempts, a pause that doubles.
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

func newRequestID() []byte {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return id
}
