// The worker in Go of the interop test: it does what it reads, a line of JSON each, and says what came of it in lines of JSON.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"leasehold.example/interop/leasehold"
	v1 "leasehold.example/interop/leasehold/v1"
)

const language = "go"

type command struct {
	Do       string   `json:"do"`
	Keys     []string `json:"keys"`
	Tag      string   `json:"tag"`
	Token    string   `json:"token"`
	TTLMs    int64    `json:"ttl_ms"`
	WaitMs   int64    `json:"wait_ms"`
	RenderMs int64    `json:"render_ms"`
	InFlight int      `json:"in_flight"`
	Pages    []page   `json:"pages"`
}

// One of the table: its entry is the contract's EntryRef as JSON.
type page struct {
	ID    string          `json:"id"`
	Entry json.RawMessage `json:"entry"`
	HTML  string          `json:"html"`
	Token string          `json:"token"`

	// What is to be rendered for it, and how that is to fail, where it is.
	Size        int         `json:"size"`
	Status      uint32      `json:"status"`
	ContentType string      `json:"content_type"`
	Headers     [][2]string `json:"headers"`
	Tag         string      `json:"tag"`
	Failure     string      `json:"failure"`
}

type report map[string]any

type worker struct {
	coordinator *leasehold.Coordinator
	renders     atomic.Int64
	out         sync.Mutex
}

func main() {
	address, isSecure := strings.CutPrefix(os.Args[1], "https://")
	security := leasehold.SecurityFromEnv()
	security.TLS = isSecure
	coordinator := leasehold.NewSecure(strings.TrimPrefix(address, "http://"), language, security)
	defer coordinator.Close()
	w := &worker{coordinator: coordinator}
	w.say(report{"event": "ready"})
	commands := bufio.NewScanner(os.Stdin)
	commands.Buffer(nil, 4<<20)
	for commands.Scan() {
		var c command
		if err := json.Unmarshal(commands.Bytes(), &c); err != nil {
			log.Fatal(err)
		}
		if err := w.do(context.Background(), c); err != nil {
			log.Fatal(err)
		}
		w.say(report{"event": "done"})
	}
}

func (w *worker) do(ctx context.Context, c command) error {
	switch c.Do {
	case "serve":
		forEach(c.Keys, c.InFlight, func(key string) { w.serve(ctx, c, key) })
	case "hold":
		forEach(c.Keys, c.InFlight, func(key string) { w.hold(ctx, c, key) })
	case "invalidate":
		scope := &v1.InvalidationScope{Scope: &v1.InvalidationScope_Tag{Tag: c.Tag}}
		token, err := w.coordinator.Invalidate(ctx, scope)
		if err != nil {
			return err
		}
		w.say(report{"event": "invalidated", "token": token})
	case "commit":
		forEach(c.Pages, c.InFlight, func(p page) { w.commit(ctx, p) })
	case "look_up":
		forEach(c.Pages, c.InFlight, func(p page) { w.lookUp(ctx, p) })
	case "sidecar":
		forEach(c.Pages, c.InFlight, func(p page) { w.sidecar(ctx, p) })
	case "show":
		forEach(c.Pages, c.InFlight, func(p page) { w.show(ctx, c, p) })
	default:
		return fmt.Errorf("what is %q?", c.Do)
	}
	return nil
}

func (w *worker) serve(ctx context.Context, c command, key string) {
	entry := leasehold.Key(key)
	options := leasehold.Options{TTL: milliseconds(c.TTLMs), Wait: milliseconds(c.WaitMs), ConsistencyToken: c.Token}
	name := ""
	served, err := w.coordinator.Serve(ctx, entry, options, func(grant *v1.LeaseGrant) (leasehold.Rendered, error) {
		time.Sleep(milliseconds(c.RenderMs))
		name = fmt.Sprintf("%s-%d", language, w.renders.Add(1))
		return rendered(key, name, grant, c.Tag), nil
	})
	if errors.Is(err, leasehold.ErrOvertaken) {
		w.say(report{"event": "overtaken", "key": key})
		w.serve(ctx, c, key)
		return
	}
	if err == nil && served.How == leasehold.Render {
		w.say(report{"event": "rendered", "key": key, "generation": served.Generation, "render": name})
	}
	var sidecar []byte
	if err == nil {
		sidecar, err = w.coordinator.Sidecar(ctx, entry, served.SidecarToken)
	}
	if err != nil {
		w.say(report{"event": "failed", "key": key, "why": err.Error()})
		return
	}
	w.say(report{
		"event": "served", "key": key, "how": served.How, "generation": served.Generation, "html": string(served.HTML),
		"sidecar": string(sidecar), "sidecar_token": served.SidecarToken,
	})
}

func rendered(key, name string, grant *v1.LeaseGrant, tag string) leasehold.Rendered {
	html := fmt.Sprintf("<!doctype html><h1 data-generation=\"%d\" data-render=\"%s\" data-sidecar=\"%s\">%s</h1>",
		grant.GetGeneration(), name, grant.GetSidecarToken(), key)
	sidecar := fmt.Sprintf("{\"key\":\"%s\",\"generation\":%d,\"render\":\"%s\"}", key, grant.GetGeneration(), name)
	return leasehold.Rendered{
		HTML: []byte(html), Sidecar: []byte(sidecar), Metadata: &v1.PageMetadata{Tags: []string{tag}},
	}
}

// Acquires, and never commits.
func (w *worker) hold(ctx context.Context, c command, key string) {
	acquired, err := w.coordinator.Acquire(ctx, &v1.AcquireLeaseRequest{
		Entry: leasehold.Key(key), Ttl: durationpb.New(milliseconds(c.TTLMs)),
	})
	if err != nil || acquired.GetGranted() == nil {
		w.say(report{"event": "failed", "key": key, "why": fmt.Sprintf("%T %v", acquired.GetOutcome(), err)})
		return
	}
	w.say(report{"event": "holding", "key": key, "generation": acquired.GetGranted().GetGeneration()})
}

func (w *worker) commit(ctx context.Context, p page) {
	options := leasehold.Options{TTL: 10 * time.Second}
	served, err := w.coordinator.Serve(ctx, entryOf(p), options, func(*v1.LeaseGrant) (leasehold.Rendered, error) {
		return leasehold.Rendered{HTML: []byte(p.HTML), Sidecar: []byte(p.HTML)}, nil
	})
	if err != nil {
		w.refused(p, err)
		return
	}
	w.say(report{"event": "committed", "id": p.ID, "how": served.How, "html": string(served.HTML), "sidecar_token": served.SidecarToken})
}

func (w *worker) lookUp(ctx context.Context, p page) {
	found, err := w.coordinator.Lookup(ctx, &v1.LookupRequest{
		Entry: entryOf(p), Body: v1.BodyDelivery_BODY_DELIVERY_INLINE,
		Consistency: v1.Consistency_CONSISTENCY_STRICT, ConsistencyToken: p.Token,
	})
	if err != nil {
		w.refused(p, err)
		return
	}
	w.say(report{"event": "found", "id": p.ID, "html": string(found.GetFresh().GetPage().GetInline())})
}

func (w *worker) sidecar(ctx context.Context, p page) {
	body, err := w.coordinator.Sidecar(ctx, entryOf(p), p.Token)
	if err != nil {
		w.refused(p, err)
		return
	}
	w.say(report{"event": "found", "id": p.ID, "html": string(body)})
}

func (w *worker) show(ctx context.Context, c command, p page) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	failure := fmt.Errorf("no %s today", p.ID)
	defer func() {
		if crash := recover(); crash != nil {
			w.say(report{"event": "failed", "id": p.ID, "error": fmt.Sprint(crash)})
		}
	}()
	options := leasehold.Options{TTL: milliseconds(c.TTLMs), ConsistencyToken: p.Token}
	served, err := w.coordinator.Serve(ctx, entryOf(p), options, func(*v1.LeaseGrant) (leasehold.Rendered, error) {
		switch p.Failure {
		case "error":
			return leasehold.Rendered{}, failure
		case "crash":
			panic(failure)
		case "left":
			leave()
			return leasehold.Rendered{}, failure
		}
		return response(p), nil
	})
	switch {
	case errors.Is(err, failure):
		w.say(report{"event": "failed", "id": p.ID, "error": failure.Error()})
	case errors.Is(err, leasehold.ErrBackingOff):
		w.say(report{"event": "backing_off", "id": p.ID})
	case err != nil:
		w.refused(p, err)
	default:
		headers := map[string]string{}
		for name := range served.Header {
			headers[strings.ToLower(name)] = served.Header.Get(name)
		}
		contentType := headers["content-type"]
		delete(headers, "content-type")
		delete(headers, "etag")
		w.say(report{
			"event": "shown", "id": p.ID, "how": served.How, "size": len(served.HTML),
			"digest": fmt.Sprintf("%x", sha256.Sum256(served.HTML)),
			"status": served.Status, "content_type": contentType, "headers": headers,
		})
	}
}

func response(p page) leasehold.Rendered {
	metadata := &v1.PageMetadata{Status: p.Status, ContentType: p.ContentType, Tags: []string{p.Tag}}
	if p.Failure == "refused" {
		metadata.Status = 503
	}
	for _, header := range p.Headers {
		metadata.Headers = append(metadata.Headers, &v1.NameValue{Name: header[0], Value: header[1]})
	}
	html := strings.Repeat(p.ID, 1+p.Size/len(p.ID))[:p.Size]
	return leasehold.Rendered{HTML: []byte(html), Metadata: metadata}
}

func (w *worker) refused(p page, err error) {
	refusal := leasehold.RefusalOf(err)
	// As JSON, what is empty is to be empty, and not null.
	metadata, fields := map[string]string{}, append([]string{}, refusal.Fields...)
	maps.Copy(metadata, refusal.Metadata)
	w.say(report{
		"event": "refused", "id": p.ID, "reason": refusal.Reason, "metadata": metadata, "fields": fields, "why": err.Error(),
	})
}

func (w *worker) say(r report) {
	line, err := json.Marshal(r)
	if err != nil {
		log.Fatal(err)
	}
	w.out.Lock()
	defer w.out.Unlock()
	fmt.Println(string(line))
}

func entryOf(p page) *v1.EntryRef {
	entry := &v1.EntryRef{}
	if err := protojson.Unmarshal(p.Entry, entry); err != nil {
		log.Fatal(err)
	}
	return entry
}

func milliseconds(count int64) time.Duration { return time.Duration(count) * time.Millisecond }

// Calls work for each of all, at most limit at a time.
func forEach[T any](all []T, limit int, work func(T)) {
	var group sync.WaitGroup
	places := make(chan struct{}, max(limit, 1))
	for _, one := range all {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			work(one)
		})
	}
	group.Wait()
}
