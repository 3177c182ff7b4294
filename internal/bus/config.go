package bus

import (
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/incident"
)

// Config says where the data is. Exactly one of Dir and URL is set; everything else may be zero.
type Config struct {
	// Dir is the data folder of the embedded server; made if missing. One process at a time.
	Dir string
	// Listen opens the embedded server to others at host:port; a missing host means loopback.
	// Empty: no port. It needs Token.
	Listen string
	// MaxStore caps the embedded store in bytes. 0: 16 GiB or 80 % of the space available to it,
	// whichever is less. More than that share is refused: a full disk is worse than a full store.
	MaxStore int64

	// URL of an external NATS with JetStream: nats://host:4222 or tls://…, several parted by commas.
	URL string
	// CredsFile is a NATS credentials file for URL.
	CredsFile string
	// CAFile is a PEM file of the authority that signed the certificate of URL.
	CAFile string
	// Replicas of every stream on URL: 1 (or 0) or 3.
	Replicas int

	// Token authenticates clients of Listen, or us at URL. It is never logged.
	Token string
	// Partitions of the signal stream; 0 counts as 1. All processes of one bus agree on it.
	Partitions int
	// AckTimeout bounds one durable write. 0: 5 s.
	AckTimeout time.Duration

	// lazySync lets the embedded server acknowledge before fsync: for measuring what that costs
	// and proving that the power-cut test bites.
	lazySync bool
	// ackWait shortens workAckWait in tests.
	ackWait time.Duration
}

// Validate refuses a configuration that cannot work. The error wraps ErrInvalid.
func (c Config) Validate() error {
	switch {
	case c.Dir == "" && c.URL == "":
		return incident.Invalidf("bus: neither a data folder nor a NATS URL is set")
	case c.Dir != "" && c.URL != "":
		return incident.Invalidf("bus: both a data folder and a NATS URL are set; choose one")
	case c.Listen != "" && c.Dir == "":
		return incident.Invalidf("bus: only an embedded server can listen")
	case c.Listen != "" && len(c.Token) < 16:
		return incident.Invalidf("bus: listening on %s needs a token of at least 16 bytes", c.Listen)
	case c.Replicas != 0 && c.Replicas != 1 && c.Replicas != 3:
		return incident.Invalidf("bus: %d replicas; use 1 or 3", c.Replicas)
	case c.Replicas == 3 && c.Dir != "":
		return incident.Invalidf("bus: an embedded server keeps one replica")
	case c.Partitions < 0 || c.Partitions > 1024:
		return incident.Invalidf("bus: %d partitions; use 1 to 1024", c.Partitions)
	case c.MaxStore < 0:
		return incident.Invalidf("bus: the store cap is negative")
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			return incident.Invalidf("bus: listen address %q: %v", c.Listen, err)
		}
	}
	for one := range strings.SplitSeq(c.URL, ",") {
		// The text is left out of the error: a URL may hold a password.
		if u, err := url.Parse(strings.TrimSpace(one)); c.URL != "" && (err != nil || u.Host == "") {
			return incident.Invalidf("bus: the NATS URL is not of the form nats://host:port")
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Replicas = max(c.Replicas, 1)
	c.Partitions = max(c.Partitions, 1)
	if c.AckTimeout <= 0 {
		c.AckTimeout = 5 * time.Second
	}
	if c.ackWait <= 0 {
		c.ackWait = workAckWait
	}
	return c
}
