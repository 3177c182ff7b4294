// Package bus is the durable spine between the stages: signals, incidents, actions, commands,
// outcomes and the audit log, kept in NATS JetStream. It is the only package that knows NATS.
//
// Open starts a server inside this process (Config.Dir: a file store that is fsynced before
// anything is acknowledged, no open port unless asked) or connects to one (Config.URL). What is
// stored where stands in layout.go; streams and buckets are made on first use, so a process
// touches only what its role needs.
//
// What it promises:
//   - A nil error from a publishing or writing method means the data is on disk (on a quorum of
//     disks with replicas). After any other error it may or may not be; repeat it: identifiers
//     are deterministic and repeats within DuplicateWindow are dropped.
//   - Delivery is at least once. Handlers must be idempotent. nil moves on, an error that wraps
//     incident.ErrInvalid parks the message in DEADLETTER at once, any other error is retried
//     with growing pauses and then parked: one bad message never blocks the others for good.
//   - Readers (ConsumeEvents, KV.Watch, Log.Read) are in order and without loss across
//     reconnects, server restarts and deleted consumers; they notice lost deliveries by sequence
//     and read again from where they stood.
//   - The data folder has one owner: a second process is refused, and so is a folder written by
//     a newer version, before anything in it changes.
//   - A full disk makes writes fail, never lie. Run restarts the embedded server when its store
//     has stopped accepting writes and space is back; nothing acknowledged is lost.
//
// What it refuses: names that cannot be encoded (ErrInvalid), values above the payload limit
// (ErrInvalid), events of one cluster published as another's (ErrInvalid), compare-and-set on
// an old revision (ErrStale). Every other error means "not now": webhooks answer 503.
//
// A Bus and everything it returns is safe for concurrent use. Methods named Run, Consume…,
// Watch, Receive and Serve block until their context ends, and then return nil.
//
//	b, err := bus.Open(ctx, bus.Config{Dir: dataDir}, log)
//	defer b.Close(context.Background())
//	err = b.PublishEvents(ctx, "eu-1", events)            // durable when nil
//	err = b.ConsumeEvents(ctx, bus.ConsumeOptions{From: positions}, func(ctx context.Context, c incident.ClusterName, evs []incident.Event, p bus.Position) error { … })
//	rev, err := b.KV(bus.Incidents).Update(ctx, "inc-x", value, rev)
package bus
