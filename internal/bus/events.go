package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/incident"
)

// PublishEvents stores the events of one cluster, in order, as CloudEvents batches, and returns
// when all of them are durable. Nil or empty events are nothing. An event of another cluster or
// one above the server's payload limit refuses the call with ErrInvalid before anything is
// stored. After any other error some may be stored: repeat the same call (batches with the same
// events get the same message ID).
func (b *Bus) PublishEvents(ctx context.Context, c incident.ClusterName, events []incident.Event) error {
	token, err := EncodeName(string(c))
	if err != nil {
		return fmt.Errorf("bus: cluster: %w", err)
	}
	batches, err := b.batches(c, events)
	if err != nil || len(batches) == 0 {
		return err
	}
	cfg := b.signalsConfig(token)
	ctx, cancel := b.linked(ctx, b.cfg.AckTimeout)
	defer cancel()
	if _, err := b.stream(ctx, cfg); err != nil {
		return err
	}
	subject := signalSubject(PartitionOf(c, b.cfg.Partitions), token)
	acks := make([]jetstream.PubAckFuture, len(batches))
	for i, batch := range batches {
		msg := &nats.Msg{Subject: subject, Data: batch.data}
		if acks[i], err = b.js.PublishMsgAsync(msg, jetstream.WithMsgID(batch.id), jetstream.WithExpectStream(cfg.Name)); err != nil {
			return fmt.Errorf("bus: publish signals of %s: %w", c, b.explain(translate(err)))
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			if errors.Is(err, jetstream.ErrNoStreamResponse) {
				b.forget(cfg.Name)
			}
			return fmt.Errorf("bus: publish signals of %s: %w", c, b.explain(translate(err)))
		case <-ctx.Done():
			return fmt.Errorf("bus: publish signals of %s: %w", c, b.explain(ctx.Err()))
		}
	}
	return nil
}

type batch struct {
	id   string
	data []byte
}

// batches splits events into messages of at most MaxBatchEvents and MaxBatchBytes; an event
// larger than that travels alone.
func (b *Bus) batches(c incident.ClusterName, events []incident.Event) ([]batch, error) {
	var out []batch
	var buf bytes.Buffer
	ids := make([]string, 0, min(len(events), incident.MaxBatchEvents)+1)
	flush := func() {
		if len(ids) == 0 {
			return
		}
		buf.WriteByte(']')
		out = append(out, batch{id: string(incident.HashParts(append(ids, string(c))...))[:32], data: bytes.Clone(buf.Bytes())})
		buf.Reset()
		ids = ids[:0]
	}
	limit := int(b.nc.MaxPayload()) - 1024 // room for headers
	for i, e := range events {
		if got := e.Cluster(); got != c {
			return nil, incident.Invalidf("events[%d] is of cluster %q, published as %q", i, got, c)
		}
		raw, err := e.MarshalJSON() // json.Marshal would check and copy it all again
		if err != nil {
			return nil, fmt.Errorf("bus: events[%d]: %w", i, err)
		}
		if len(raw)+2 > limit {
			return nil, incident.Invalidf("events[%d] (%s) is %d bytes long, the NATS server takes %d (its max_payload)", i, eventID(e), len(raw), limit)
		}
		if len(ids) == incident.MaxBatchEvents || len(ids) > 0 && buf.Len()+len(raw)+2 > incident.MaxBatchBytes {
			flush()
		}
		if len(ids) == 0 {
			buf.WriteByte('[')
		} else {
			buf.WriteByte(',')
		}
		buf.Write(raw)
		ids = append(ids, eventID(e))
	}
	flush()
	return out, nil
}

func eventID(e incident.Event) string {
	switch {
	case e.Signal != nil:
		return string(e.Signal.ID)
	case e.Inventory != nil:
		return string(e.Inventory.ID)
	case e.Topology != nil:
		return string(e.Topology.ID)
	}
	return ""
}

// Position is the place of a batch in its cluster's stream.
type Position struct {
	Seq    uint64    // sequence of the batch; keep the last one handled per cluster and pass it as From
	Missed uint64    // batches just before it that are gone for good: dropped by quota or age unread
	At     time.Time // when it was stored, by the server's clock
}

// ConsumeOptions say what ConsumeEvents reads.
type ConsumeOptions struct {
	// From holds the last sequence handled per cluster; clusters not in it are read from their
	// oldest signal.
	From map[incident.ClusterName]uint64
	// Partitions limits reading to clusters of these partitions; nil: all.
	Partitions []int
	// Attempts a batch gets before it is parked; 0: 5.
	Attempts int
}

// EventHandler handles one batch; at least one event, all of cluster c.
type EventHandler func(ctx context.Context, c incident.ClusterName, events []incident.Event, p Position) error

// ConsumeEvents hands the signals of every cluster to handler, including clusters that appear
// later, until ctx ends. Calls never overlap; the batches of one cluster come in order, each
// once per run unless handler failed. The caller keeps the positions: nothing is stored about
// the reader. Decoding runs beside the handler, one cluster each.
//
// The cluster is that of the stream: a batch that holds an event of another one, or that does
// not decode, is parked in DEADLETTER and skipped. A failing handler is called again with
// growing pauses (0.1 s to 5 s), only its own cluster waiting, and the batch parked after
// Attempts; ErrInvalid parks at once.
func (b *Bus) ConsumeEvents(ctx context.Context, opts ConsumeOptions, handler EventHandler) error {
	if opts.Attempts <= 0 {
		opts.Attempts = 5
	}
	var serial sync.Mutex
	one := func(ctx context.Context, c incident.ClusterName, events []incident.Event, p Position) error {
		serial.Lock()
		defer serial.Unlock()
		return handler(ctx, c, events, p)
	}
	g, ctx := errgroup.WithContext(ctx)
	known := map[incident.ClusterName]bool{}
	var readers atomic.Int64
	share := func() int { return int(max(waitingBatches/max(readers.Load(), 1), 1)) }
	for {
		created := b.created()
		clusters, err := b.clusters(ctx, opts.Partitions)
		if err != nil && ctx.Err() == nil {
			b.log.Warn("bus: cannot list the clusters' streams", "err", err)
		}
		for _, c := range clusters {
			if !known[c] {
				known[c] = true
				readers.Add(1)
				g.Go(func() error { return b.consumeCluster(ctx, c, opts, share, one) })
			}
		}
		if !waitFor(ctx, created, discoverEvery) {
			return g.Wait()
		}
	}
}

// waitingBatches bounds the batches that wait in memory for the handler, over all clusters
// (at least one each): a backlog of a thousand clusters must not fill the hub.
const waitingBatches = 512

// discoverEvery is how often streams made by other processes are looked for.
const discoverEvery = 2 * time.Second

// waitFor waits for a signal or a time; false: ctx ended.
func waitFor(ctx context.Context, c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-c:
	case <-t.C:
	}
	return true
}

// Clusters lists the clusters that have a signal stream, sorted.
func (b *Bus) Clusters(ctx context.Context) ([]incident.ClusterName, error) {
	return b.clusters(ctx, nil)
}

func (b *Bus) clusters(ctx context.Context, partitions []int) ([]incident.ClusterName, error) {
	ctx, cancel := b.linked(ctx, b.cfg.AckTimeout)
	defer cancel()
	list := b.js.StreamNames(ctx, jetstream.WithStreamListSubject(subjectSignals+">"))
	var out []incident.ClusterName
	for name := range list.Name() {
		c, ok := clusterOf(name, streamSignals)
		if ok && (partitions == nil || slices.Contains(partitions, PartitionOf(c, b.cfg.Partitions))) {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	if err := list.Err(); err != nil {
		return out, fmt.Errorf("bus: list streams: %w", err)
	}
	return out, nil
}

func (b *Bus) consumeCluster(ctx context.Context, c incident.ClusterName, opts ConsumeOptions, share func() int, handler EventHandler) error {
	token, err := EncodeName(string(c))
	if err != nil {
		return err
	}
	r := reader{stream: streamSignals + token, next: opts.From[c] + 1, follow: true, batch: share}
	pause := backoff{base: time.Second, max: 10 * time.Second}
	for {
		err := b.read(ctx, r, func(d delivery) error {
			p := Position{Seq: d.seq, Missed: d.missed, At: d.at}
			if d.missed > 0 {
				b.log.Warn("bus: signals were dropped before they were read", "cluster", c, "batches", d.missed)
			}
			r.next = d.seq + 1
			return b.handleEvents(ctx, c, opts.Attempts, d, func(events []incident.Event) error { return handler(ctx, c, events, p) })
		})
		if ctx.Err() != nil {
			return nil
		}
		// Only a stream that was removed gets here: it may be made again.
		b.log.Warn("bus: cannot read signals", "cluster", c, "err", err)
		if pause.wait(ctx) != nil {
			return nil
		}
	}
}

// handleEvents returns an error only when ctx ended.
func (b *Bus) handleEvents(ctx context.Context, c incident.ClusterName, attempts int, d delivery, handler func([]incident.Event) error) error {
	events, err := decodeFor(c, d.msg.Data())
	pause := backoff{base: 100 * time.Millisecond, max: 5 * time.Second}
	tried := 1
	for ; err == nil; tried++ {
		herr := handler(events)
		if herr == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if tried >= attempts || errors.Is(herr, incident.ErrInvalid) {
			err = herr
			break
		}
		b.log.Warn("bus: signals not handled, trying again", "cluster", c, "seq", d.seq, "attempt", tried, "err", herr)
		if pause.wait(ctx) != nil {
			return ctx.Err()
		}
	}
	token, _ := EncodeName(string(c))
	return b.park(ctx, "signals."+token, d, tried, err)
}

func decodeFor(c incident.ClusterName, data []byte) ([]incident.Event, error) {
	events, err := incident.DecodeBatch(data)
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, incident.Invalidf("batch is empty")
	}
	for i, e := range events {
		if got := e.Cluster(); got != c {
			return nil, incident.Invalidf("batch[%d] claims cluster %q on the stream of %q", i, incident.Clip(string(got), 80), c)
		}
	}
	return events, nil
}

// park stores a message nobody could handle, with the reason. It does not give up before ctx
// ends: a message is handled, parked or still in its stream.
func (b *Bus) park(ctx context.Context, tail string, d delivery, tried int, reason error) error {
	md, err := d.msg.Metadata()
	if err != nil {
		return err
	}
	b.log.Error("bus: message parked in "+streamDead, "stream", md.Stream, "seq", d.seq, "attempts", tried, "err", reason)
	msg := &nats.Msg{Subject: subjectDead + tail, Data: d.msg.Data(), Header: nats.Header{}}
	msg.Header.Set(headerReason, incident.UntrustedText(reason.Error()).Plain(1024))
	msg.Header.Set(headerStream, md.Stream)
	msg.Header.Set(headerSequence, fmt.Sprint(d.seq))
	msg.Header.Set(headerAttempts, fmt.Sprint(tried))
	pause := backoff{base: 100 * time.Millisecond, max: 5 * time.Second}
	for {
		_, err := b.publish(ctx, b.deadConfig(), msg, jetstream.WithMsgID(fmt.Sprintf("%s/%d", md.Stream, d.seq)))
		if err == nil {
			return nil
		}
		b.log.Error("bus: cannot park a message", "stream", md.Stream, "seq", d.seq, "err", err)
		if pause.wait(ctx) != nil {
			return ctx.Err()
		}
	}
}
