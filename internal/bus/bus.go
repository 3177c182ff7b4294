package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tocsin-io/tocsin/incident"
)

// Bus is an open connection to the store.
type Bus struct {
	cfg      Config
	log      *slog.Logger
	srv      *embedded // nil with an external NATS
	nc       *nats.Conn
	js       jetstream.JetStream
	storeCap int64  // of the embedded store; 0: not known
	boot     string // set where no other process can reach the store: this opening of it

	mu      sync.Mutex
	streams map[string]jetstream.Stream // those known to exist
	fresh   chan struct{}               // closed and replaced when a signal stream was made
	link    context.Context             // ends with the current connection to the server
	cut     context.CancelFunc          // ends link
	links   uint64                      // reconnects that relink was told of
}

// Open opens the data folder or connects to the external NATS. It fails rather than waits when
// that is not possible. The caller closes the Bus and, with an embedded server, runs Run.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Bus, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Bus{cfg: cfg.withDefaults(), log: log, streams: map[string]jetstream.Stream{}, fresh: make(chan struct{})}
	b.link, b.cut = context.WithCancel(context.Background())
	opts := []nats.Option{
		nats.Name("tocsin"), nats.MaxReconnects(-1), nats.PingInterval(15 * time.Second), nats.MaxPingsOutstanding(2),
		// Only a durable acknowledgement counts, so nothing may wait unseen in a client buffer.
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(250 * time.Millisecond), nats.Timeout(5 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.relink(0)
			if err != nil {
				log.Warn("bus: connection lost, reconnecting", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			b.relink(1)
			log.Info("bus: connected again")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("bus: client", "err", err) }),
	}
	if b.cfg.Token != "" {
		opts = append(opts, nats.Token(b.cfg.Token))
	}
	if b.cfg.URL != "" {
		opts = append(opts, externalOptions(b.cfg)...)
	} else {
		srv, err := startEmbedded(b.cfg, log)
		if err != nil {
			return nil, err
		}
		b.srv, b.storeCap = srv, srv.cap
		if b.cfg.Listen == "" {
			b.boot = rand.Text()
		}
		opts = append(opts, nats.InProcessServer(srv), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	}
	err := b.connect(ctx, opts)
	if err == nil && b.srv != nil {
		err = b.fit(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

// fit makes the quotas of existing streams fit the store's cap. A server whose streams were
// promised more than the cap refuses every change, so it runs without one meanwhile.
func (b *Bus) fit(ctx context.Context) error {
	err := b.shrink(ctx)
	if apiCode(err) != codeStorageExceeded {
		return err
	}
	defer func() { b.srv.cap = b.storeCap }()
	b.srv.cap = 1 << 60
	if err := b.heal(ctx); err != nil {
		return err
	}
	if err := b.shrink(ctx); err != nil {
		return err
	}
	b.srv.cap = b.storeCap
	return b.heal(ctx)
}

// shrink lowers the quotas that were given when the disk had more room, but not below what a
// stream holds: their sum would leave none for new streams.
func (b *Bus) shrink(ctx context.Context) error {
	list := b.js.ListStreams(ctx)
	for info := range list.Info() {
		cfg := info.Config
		for _, prefix := range []string{cfg.Name, streamSignals, streamCommands} {
			if _, ok := quotas[prefix]; !ok || !strings.HasPrefix(cfg.Name, prefix) {
				continue
			}
			want := max(b.quota(prefix), int64(info.State.Bytes)+minQuota)
			if cfg.MaxBytes <= want {
				continue
			}
			b.log.Info("bus: a stream gets less room, the disk has less", "stream", cfg.Name, "MiB", want>>20)
			cfg.MaxBytes = want
			if _, err := b.js.UpdateStream(ctx, cfg); err != nil {
				return fmt.Errorf("bus: stream %s: %w", cfg.Name, err)
			}
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("bus: list streams: %w", err)
	}
	return nil
}

func externalOptions(cfg Config) []nats.Option {
	var opts []nats.Option
	if cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredsFile))
	}
	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}
	return opts
}

func (b *Bus) connect(ctx context.Context, opts []nats.Option) error {
	var err error
	if b.nc, err = nats.Connect(b.cfg.URL, opts...); err != nil {
		return fmt.Errorf("bus: connect to NATS: %w", err)
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(b.cfg.AckTimeout), jetstream.WithPublishAsyncTimeout(b.cfg.AckTimeout)); err != nil {
		return fmt.Errorf("bus: JetStream: %w", err)
	}
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("bus: JetStream does not answer: %w", err)
	}
	return nil
}

// Close ends the connection and stops the embedded server. Blocking methods must have returned;
// what they had not finished is delivered again next time.
func (b *Bus) Close(context.Context) error {
	if b.nc != nil {
		_ = b.nc.FlushTimeout(time.Second) // messages given back; unsent ones come again later
		b.nc.Close()
	}
	if b.srv != nil {
		return b.srv.close()
	}
	return nil
}

// ClientURL returns the address at which others reach the embedded server, "" when it has no
// open port.
func (b *Bus) ClientURL() string {
	if b.srv == nil {
		return ""
	}
	return b.srv.clientURL()
}

// Healthy returns nil when writes can be expected to succeed, or what is wrong: not connected,
// or an embedded store that has stopped writing (full disk).
func (b *Bus) Healthy() error {
	if b.srv != nil {
		if err := b.srv.healthy(); err != nil {
			return err
		}
	}
	if st := b.nc.Status(); st != nats.CONNECTED {
		return fmt.Errorf("bus: connection to NATS is %s", st)
	}
	return nil
}

// healEvery is how often Run looks at the store: a full disk is noticed within it.
const healEvery = time.Second

// Run keeps the embedded server alive until ctx ends: a store that has stopped writing stays so
// until its server restarts, which Run does as soon as the folder takes writes again. With an
// external NATS it only waits.
func (b *Bus) Run(ctx context.Context) error {
	if b.srv == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	var last string // of the reasons logged: said once, not every second
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := b.srv.healthy()
		if err == nil {
			last = ""
			continue
		}
		if last == "" {
			b.log.Error("bus: the store does not accept writes", "err", err)
		}
		if rerr := b.heal(ctx); rerr == nil {
			b.log.Info("bus: embedded server restarted")
			last = ""
		} else if rerr.Error() != last {
			b.log.Error("bus: cannot restart the embedded server yet", "err", rerr)
			last = rerr.Error()
		}
	}
}

// heal restarts the embedded server and waits until we are connected to the new one.
func (b *Bus) heal(ctx context.Context) error {
	b.mu.Lock()
	link := b.link
	b.mu.Unlock()
	if err := b.srv.restart(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AckTimeout)
	defer cancel()
	select {
	case <-link.Done():
	case <-ctx.Done():
	}
	ctx, cancel = b.linked(ctx, b.cfg.AckTimeout)
	defer cancel()
	return ctx.Err()
}

// stream returns the stream of cfg, making it when it is missing. One that exists is taken as
// it is: its limits are the operator's.
func (b *Bus) stream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	b.mu.Lock()
	s := b.streams[cfg.Name]
	b.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := b.js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = b.createStream(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("bus: stream %s: %w", cfg.Name, translate(err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams[cfg.Name] = s
	if _, ok := clusterOf(cfg.Name, streamSignals); ok {
		close(b.fresh)
		b.fresh = make(chan struct{})
	}
	return s, nil
}

// createStream halves the quota until it fits: with very many clusters each gets less.
func (b *Bus) createStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	for {
		s, err := b.js.CreateStream(ctx, cfg)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody was faster
			return b.js.Stream(ctx, cfg.Name)
		}
		if apiCode(err) != codeStorageExceeded || cfg.MaxBytes/2 < minQuota {
			return s, err
		}
		cfg.MaxBytes /= 2
	}
}

// forget makes the next use of the stream look whether it exists.
func (b *Bus) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.streams, name)
}

func (b *Bus) created() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fresh
}

// Error codes of JetStream that nats.go does not name.
const (
	codeStorageExceeded = 10047
	codeWrongLastSeq    = 10071
	codeWrongLastSeqFmt = 10164
)

func apiCode(err error) int {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return int(api.ErrorCode)
	}
	var js jetstream.JetStreamError
	if errors.As(err, &js) && js.APIError() != nil {
		return int(js.APIError().ErrorCode)
	}
	return 0
}

// translate gives errors on which callers act their sentinel.
func translate(err error) error {
	switch code := apiCode(err); {
	case err == nil:
		return nil
	case code == codeWrongLastSeq || code == codeWrongLastSeqFmt:
		return fmt.Errorf("%w: %w", incident.ErrStale, err)
	case errors.Is(err, jetstream.ErrMsgNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: %w", incident.ErrNotFound, err)
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("%w: %w", incident.ErrInvalid, err)
	}
	return err
}

// explain adds what the store says to an error that says nothing (a full disk shows as a
// time-out).
func (b *Bus) explain(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrAsyncPublishTimeout) {
		if herr := b.Healthy(); herr != nil {
			return fmt.Errorf("%w: %w", err, herr)
		}
	}
	return err
}

// relink ends everything that waits for an answer on a connection that is gone.
func (b *Bus) relink(reconnects uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut()
	b.link, b.cut = context.WithCancel(context.Background())
	b.links += reconnects
}

// linked waits until there is a connection and returns ctx bounded by d and by the life of that
// connection: an answer asked for on it cannot come on the next one. Nothing is buffered on our
// side, so what is sent without a connection would fail at once.
func (b *Bus) linked(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	for {
		b.mu.Lock()
		link, links := b.link, b.links
		b.mu.Unlock()
		// The handlers run late: one that has yet to run would cut the new connection's work.
		if b.nc.IsConnected() && b.nc.Stats().Reconnects == links {
			stop := context.AfterFunc(link, cancel)
			return ctx, func() { stop(); cancel() }
		}
		if b.nc.IsClosed() || !waitFor(ctx, nil, 5*time.Millisecond) {
			cancel() // what is tried with it fails at once
			return ctx, cancel
		}
	}
}

// publish stores one message and returns its sequence.
func (b *Bus) publish(ctx context.Context, cfg jetstream.StreamConfig, msg *nats.Msg, opts ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := b.linked(ctx, b.cfg.AckTimeout)
	defer cancel()
	if _, err := b.stream(ctx, cfg); err != nil {
		return 0, err
	}
	ack, err := b.js.PublishMsg(ctx, msg, opts...)
	if err != nil {
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			b.forget(cfg.Name)
		}
		return 0, b.explain(translate(err))
	}
	return ack.Sequence, nil
}
