package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
)

type embedRequest struct {
	Input      []string `json:"input"`
	Model      string   `json:"model"`
	Dimensions int      `json:"dimensions"`
}

// fakeEndpoint answers in reverse order with vectors whose first element is the text's length,
// after failing the first `failures` requests with status.
func fakeEndpoint(t *testing.T, status int, failures int32) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var calls atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= failures {
			http.Error(w, `{"error":{"message":"busy"}}`, status)
			return
		}
		var req embedRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.URL.Path != "/v1/embeddings" {
			http.Error(w, "bad", 400)
			return
		}
		var data []string
		for i := len(req.Input) - 1; i >= 0; i-- {
			data = append(data, fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":[%d,1]}`, i, len(req.Input[i])))
		}
		fmt.Fprintf(w, `{"object":"list","model":%q,"data":[%s]}`, req.Model, strings.Join(data, ","))
	}))
	t.Cleanup(srv.Close)
	return srv, &calls
}

func embedder(t *testing.T, url string) *Embeddings {
	t.Helper()
	e, err := NewEmbeddings(EmbeddingConfig{BaseURL: url + "/v1", APIKey: "k", Model: "m", Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestVectorsComeBackInTheOrderOfTheTexts(t *testing.T) {
	srv, calls := fakeEndpoint(t, 0, 0)
	vecs, err := embedder(t, srv.URL).Embed(t.Context(), []string{"a", "bb", "ccc", "dddd", "eeeee"})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vecs {
		if int(v[0]) != i+1 {
			t.Errorf("vector %d is that of a text of length %v", i, v[0])
		}
	}
	if calls.Load() != 3 {
		t.Errorf("%d requests for five texts in batches of two, want 3", calls.Load())
	}
}

func TestOnlyPassingTroubleIsRepeated(t *testing.T) {
	tests := []struct {
		name   string
		status int
		calls  int32
		ok     bool
	}{
		{"a busy server is asked again", 429, 2, true},
		{"a broken server is asked again", 503, 2, true},
		{"a refused key is final", 401, 1, false},
		{"a bad request is final", 400, 1, false},
		{"a redirect is not followed", 307, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv, calls := fakeEndpoint(t, tt.status, 1)
			_, err := embedder(t, srv.URL).Embed(t.Context(), []string{"x"})
			if (err == nil) != tt.ok || calls.Load() != tt.calls {
				t.Errorf("error %v after %d requests; want success %v after %d", err, calls.Load(), tt.ok, tt.calls)
			}
		})
	}
}

func TestALyingEndpointIsAnError(t *testing.T) {
	for name, body := range map[string]string{
		"fewer vectors than texts": `{"data":[{"index":0,"embedding":[1]}]}`,
		"one index twice":          `{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}`,
		"an index out of range":    `{"data":[{"index":0,"embedding":[1]},{"index":7,"embedding":[1]}]}`,
		"an empty vector":          `{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[]}]}`,
		"uneven vectors":           `{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
			defer srv.Close()
			if _, err := embedder(t, srv.URL).Embed(t.Context(), []string{"a", "b"}); !errors.Is(err, incident.ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
		})
	}
}

func TestNamesOfTwoModelsOrEndpointsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, cfg := range []EmbeddingConfig{{BaseURL: "http://a", Model: "m"}, {BaseURL: "http://b", Model: "m"}, {BaseURL: "http://a", Model: "n"}, {BaseURL: "http://a", Model: "m", Dimensions: 256}} {
		e, err := NewEmbeddings(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if seen[e.Name()] {
			t.Errorf("name %q is used twice", e.Name())
		}
		seen[e.Name()] = true
	}
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	for _, cfg := range []EmbeddingConfig{{BaseURL: "http://a"}, {Model: "m"}, {BaseURL: "file:///etc", Model: "m"}, {BaseURL: "http://a", Model: "m", Dimensions: 9999}} {
		if _, err := NewEmbeddings(cfg); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("%+v: error %v, want ErrInvalid", cfg, err)
		}
	}
}
