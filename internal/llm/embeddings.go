package llm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sashabaranov/go-openai"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/runbooks"
)

// EmbeddingConfig says which OpenAI-compatible endpoint embeds texts. Nothing is read from the
// environment.
type EmbeddingConfig struct {
	BaseURL    string // e.g. https://api.openai.com/v1; required
	APIKey     string // empty: none is sent
	Model      string // required
	Dimensions int    // asked of the model; 0: the model's own
	Batch      int    // texts a request; 0: 64
	Client     *http.Client
}

// Embeddings is a runbooks.Embedder over an OpenAI-compatible endpoint. It is safe for concurrent
// use. Requests are repeated on 429, 5xx and transport errors, at most four times with growing
// pauses, and never longer than the caller's context allows.
type Embeddings struct {
	client *openai.Client
	cfg    EmbeddingConfig
}

var _ runbooks.Embedder = (*Embeddings)(nil)

const (
	embeddingAttempts = 4
	embeddingTimeout  = 30 * time.Second // of one request
	embeddingReply    = 32 << 20         // bytes of one reply
	embeddingText     = 8 << 10          // bytes of one text; models take about 8,000 tokens
	maxDimensions     = 2000             // what the stores index
)

// NewEmbeddings checks the configuration; it sends nothing. Errors wrap ErrInvalid.
func NewEmbeddings(cfg EmbeddingConfig) (*Embeddings, error) {
	switch {
	case cfg.Model == "":
		return nil, incident.Invalidf("embedding model is empty")
	case !strings.HasPrefix(cfg.BaseURL, "https://") && !strings.HasPrefix(cfg.BaseURL, "http://"):
		return nil, incident.Invalidf("embedding base URL %q: want http(s)://…", incident.Clip(cfg.BaseURL, 80))
	case cfg.Dimensions < 0 || cfg.Dimensions > maxDimensions:
		return nil, incident.Invalidf("embedding dimensions %d: want 0..%d", cfg.Dimensions, maxDimensions)
	}
	if cfg.Batch <= 0 || cfg.Batch > 2048 {
		cfg.Batch = 64
	}
	inner := http.DefaultTransport
	if cfg.Client != nil && cfg.Client.Transport != nil {
		inner = cfg.Client.Transport
	}
	oc := openai.DefaultConfig(cfg.APIKey)
	oc.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	oc.HTTPClient = &http.Client{
		Timeout:   embeddingTimeout,
		Transport: limited{inner},
		// A redirect could carry texts and key to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Embeddings{client: openai.NewClientWithConfig(oc), cfg: cfg}, nil
}

// limited bounds the bytes read of a reply.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, embeddingReply), res.Body}
	}
	return res, err
}

// Name implements runbooks.Embedder. The endpoint is part of it: two servers may give one name to
// two models.
func (e *Embeddings) Name() string {
	return fmt.Sprintf("%s-%d-%s", e.cfg.Model, e.cfg.Dimensions, string(incident.HashParts(e.cfg.BaseURL))[:8])
}

// Embed implements runbooks.Embedder. Texts are clipped to what models take. An answer with
// missing, doubled, uneven or non-finite vectors is an error.
func (e *Embeddings) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, 0, len(texts))
	for batch := range slices.Chunk(texts, e.cfg.Batch) {
		vecs, err := e.batch(ctx, batch)
		if err != nil {
			return nil, fmt.Errorf("embedding with %s: %w", e.cfg.Model, err)
		}
		out = append(out, vecs...)
	}
	for _, v := range out {
		if len(v) != len(out[0]) {
			return nil, incident.Invalidf("embedding with %s: vectors of %d and %d dimensions", e.cfg.Model, len(out[0]), len(v))
		}
	}
	return out, nil
}

func (e *Embeddings) batch(ctx context.Context, texts []string) ([][]float32, error) {
	req := openai.EmbeddingRequestStrings{Model: openai.EmbeddingModel(e.cfg.Model), Dimensions: e.cfg.Dimensions}
	for _, t := range texts {
		t = strings.ToValidUTF8(incident.Clip(t, embeddingText), " ")
		if strings.TrimSpace(t) == "" {
			t = "-" // endpoints refuse empty texts
		}
		req.Input = append(req.Input, t)
	}
	for attempt := 1; ; attempt++ {
		res, err := e.client.CreateEmbeddings(ctx, req)
		if err == nil {
			return ordered(res.Data, len(texts))
		}
		if attempt == embeddingAttempts || !worthRepeating(err) {
			return nil, err
		}
		pause := time.Duration(1<<attempt) * 250 * time.Millisecond
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (last: %v)", ctx.Err(), err)
		case <-time.After(pause + rand.N(pause/2)):
		}
	}
}

// worthRepeating: the server is busy or broken, or was not reached. Other refusals are final.
func worthRepeating(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	status := 0
	if api := new(openai.APIError); errors.As(err, &api) {
		status = api.HTTPStatusCode
	} else if req := new(openai.RequestError); errors.As(err, &req) {
		status = req.HTTPStatusCode
	}
	return status == 0 || status == http.StatusTooManyRequests || status >= 500
}

// ordered sorts the answer by the index it gives and checks it.
func ordered(data []openai.Embedding, n int) ([][]float32, error) {
	if len(data) != n {
		return nil, incident.Invalidf("%d vectors for %d texts", len(data), n)
	}
	out := make([][]float32, n)
	for _, d := range data {
		if d.Index < 0 || d.Index >= n || out[d.Index] != nil {
			return nil, incident.Invalidf("vector index %d is out of range or given twice", d.Index)
		}
		if len(d.Embedding) == 0 || len(d.Embedding) > maxDimensions {
			return nil, incident.Invalidf("vector has %d dimensions, want 1..%d", len(d.Embedding), maxDimensions)
		}
		for _, x := range d.Embedding {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return nil, incident.Invalidf("vector holds NaN or infinity")
			}
		}
		out[d.Index] = d.Embedding
	}
	return out, nil
}
