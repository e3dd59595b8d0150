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

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
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

func start(t *testing.T, p http.Handler) *uplink.Client {
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
		reason refusal.Reason
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
		u, err := start(t, p).Send(t.Context(), digest.RoundID{1}, []byte("m"), []byte(tc.proof), bytes.NewReader([]byte("aabb")), 2, nil)
		if got, _ := refusal.ReasonOf(err); got != tc.reason || (err == nil) != u.Complete {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
		p.mu.Lock()
		if !slices.Equal(p.came, tc.want) {
			t.Errorf("%s: %q, want %q", name, p.came, tc.want)
		}
		p.mu.Unlock()
	}
}

// talker answers everything with a beginning, and then with as much more as is taken.
type talker struct {
	begin, more string
	said        chan int // how much was taken
}

func (p talker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	said, err := io.WriteString(w, p.begin)
	for err == nil && said < 256<<20 {
		var n int
		n, err = io.WriteString(w, p.more)
		said += n
	}
	p.said <- said
}

// TestAnswersEndWhereHonestOnesDo: an aggregator that goes on and on is refused after as much as
// an honest one could have to say.
func TestAnswersEndWhereHonestOnesDo(t *testing.T) {
	w := federationtest.New(t)
	r, _, _ := w.Round(t, 3*rlwe.BlockValues, nil) // three blocks, at most eight contributions
	digests, spaces := strings.Repeat(`"`+strings.Repeat("0", 64)+`",`, 1<<10), strings.Repeat(" ", 64<<10)
	for name, tc := range map[string]struct {
		begin, more string
		most        int
		ask         func(c *uplink.Client) error
	}{
		"a sum's hashes":  {`{"hashes":[`, digests, 5000, func(c *uplink.Client) error { _, err := c.SumManifest(t.Context(), r); return err }},
		"numbers instead": {`{"hashes":[`, strings.Repeat("0,", 1<<10), 5000, func(c *uplink.Client) error { _, err := c.SumManifest(t.Context(), r); return err }},
		"a cohort":        {`{"contributions":[`, digests, 5000, func(c *uplink.Client) error { _, err := c.SumManifest(t.Context(), r); return err }},
		"an upload": {"{", spaces, 4096, func(c *uplink.Client) error {
			_, err := c.Send(t.Context(), r.ID, []byte("m"), nil, nil, 1, nil)
			return err
		}},
		"a manifest": {"", spaces, 1<<20 + 1<<10, func(c *uplink.Client) error {
			_, _, err := c.UploadManifest(t.Context(), w.Floor(), r, digest.Digest{}, digest.Digest{})
			return err
		}},
		"a share's manifest": {"", spaces, 1<<20 + 1<<10, func(c *uplink.Client) error {
			_, _, err := c.Share(t.Context(), w.Floor(), r, digest.Digest{}, 1)
			return err
		}},
		"a statement": {"", spaces, federation.MaxStatementBytes, func(c *uplink.Client) error { _, err := c.SignedResult(t.Context(), r.ID); return err }},
	} {
		p := talker{tc.begin, tc.more, make(chan int, 1)}
		err := tc.ask(start(t, p))
		if reason, _ := refusal.ReasonOf(err); reason != uplink.ReasonTooLarge {
			t.Errorf("%s: %v, want the reason %s", name, err, uplink.ReasonTooLarge)
		}
		const buffers = 4 << 20 // of the connection
		if said := <-p.said; said > tc.most+buffers {
			t.Errorf("%s: %d bytes were taken, an honest answer has at most %d", name, said, tc.most)
		}
	}
}

// TestAHeaderEndsWhereAnHonestOneDoes: whatever the answer.
func TestAHeaderEndsWhereAnHonestOneDoes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan int, 1)
	go func() {
		n := 0
		defer func() { said <- n }()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close() // the client has gone
		n, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for line := "X-Long: " + strings.Repeat("a", 1<<10) + "\r\n"; err == nil && n < 256<<20; {
			var k int
			k, err = io.WriteString(conn, line)
			n += k
		}
	}()
	c := uplink.NewLocal(socket, nil)
	defer c.Close()
	_, err = c.SignedResult(t.Context(), digest.RoundID{1})
	if reason, _ := refusal.ReasonOf(err); reason != uplink.ReasonUnreachable {
		t.Errorf("%v", err)
	}
	const buffers = 1 << 20 // of the connection
	if n := <-said; n > buffers {
		t.Errorf("%d bytes of a header were taken", n)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestLargestHonestAnswersAreTaken: a sum over the largest cohort, with every hash.
func TestLargestHonestAnswersAreTaken(t *testing.T) {
	r, _, _ := federationtest.New(t).Round(t, 3*rlwe.BlockValues, nil)
	sum := uplink.Sum{Round: r.ID, Count: int(r.Maximum), Contributions: make([]digest.Digest, r.Maximum), Hashes: make([]digest.Digest, 3)}
	raw, err := json.Marshal(sum)
	if err != nil {
		t.Fatal(err)
	}
	got, err := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) })).SumManifest(t.Context(), r) // it has gone if it fails
	if err != nil || len(got.Contributions) != int(r.Maximum) || len(got.Hashes) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}
