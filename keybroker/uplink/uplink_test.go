package uplink_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/uplink"
)

// peer answers like an aggregator and remembers what came, in order.
type peer struct {
	mu     sync.Mutex
	came   []string
	upload uplink.Upload
	refuse string // the kind of request that is refused
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a client that ends early shows in what came
	kind := "blocks"
	switch {
	case r.Method == http.MethodPost:
		kind = "manifest"
	case strings.HasSuffix(r.URL.Path, "/proof"):
		kind = "proof"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.came = append(p.came, kind+" "+string(body))
	if kind == p.refuse {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"error":{"code":"norm-proof-invalid","message":"no"}}`) // it has gone if it fails
		return
	}
	u := p.upload
	u.Complete = u.Complete || kind == "blocks"
	_ = json.NewEncoder(w).Encode(u) // it has gone if it fails
}

func start(t *testing.T, p *peer) *uplink.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	c := uplink.NewLocal(socket, nil)
	t.Cleanup(func() {
		c.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return c
}

// The proof goes between manifest and blocks: again with each try, never without need, and
// nothing follows one that is refused.
func TestTheProofGoesBeforeTheBlocks(t *testing.T) {
	for name, tc := range map[string]struct {
		upload uplink.Upload
		proof  string
		refuse string
		want   []string
		reason evidence.Reason
	}{
		"no proof":       {uplink.Upload{Blocks: 2}, "", "", []string{"manifest m", "blocks aabb"}, ""},
		"a proof":        {uplink.Upload{Blocks: 2}, "p", "", []string{"manifest m", "proof p", "blocks aabb"}, ""},
		"goes on":        {uplink.Upload{Blocks: 2, Next: 1}, "p", "", []string{"manifest m", "proof p", "blocks bb"}, ""},
		"a shard's part": {uplink.Upload{Blocks: 1, First: 1}, "p", "", []string{"manifest m", "proof p", "blocks bb"}, ""},
		"complete":       {uplink.Upload{Blocks: 2, Next: 2, Complete: true}, "p", "", []string{"manifest m"}, ""},
		"refused":        {uplink.Upload{Blocks: 2}, "p", "proof", []string{"manifest m", "proof p"}, "norm-proof-invalid"},
		"no manifest":    {uplink.Upload{Blocks: 2}, "p", "manifest", []string{"manifest m"}, "norm-proof-invalid"},
	} {
		p := &peer{upload: tc.upload, refuse: tc.refuse}
		u, err := start(t, p).Send(t.Context(), federation.ID{1}, []byte("m"), []byte(tc.proof), bytes.NewReader([]byte("aabb")), 2, nil)
		if got, _ := evidence.ReasonOf(err); got != tc.reason || (err == nil) != u.Complete {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
		p.mu.Lock()
		if !slices.Equal(p.came, tc.want) {
			t.Errorf("%s: %q, want %q", name, p.came, tc.want)
		}
		p.mu.Unlock()
	}
}
