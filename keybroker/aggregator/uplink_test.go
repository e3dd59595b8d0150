package aggregator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// closedRound is a round of two contributions that is closed and may be recounted.
func closedRound(t *testing.T, s *site) (federation.Round, []byte, []digest.Digest, [][]byte) {
	t.Helper()
	r, signed, _ := s.Round(t, length, func(r *federation.Round) { r.Recount = true })
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	var blocks [][]byte
	for i := range 2 {
		m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(length, i))
		u, err := s.send(t, r, m, b)
		if err != nil {
			t.Fatal(err)
		}
		if u.Contribution != digest.Of(manifestOf(t, m).Signed) {
			t.Fatal("another contribution")
		}
		blocks = append(blocks, b)
	}
	cohort := s.cohort(t, r)
	sum, err := s.admin.MakeSum(t.Context(), r.ID, cohort)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.admin.MakeSum(t.Context(), r.ID, cohort); err != nil || again.Cohort != sum.Cohort {
		t.Errorf("the same sum again: %v", err)
	}
	if err := s.public.SetTicket(t.Context(), r.ID, s.ticket(t, r, signed, sum)); err != nil {
		t.Fatal(err)
	}
	return r, signed, cohort, blocks
}

// Contributions are fetched apart, whole and in ranges, and verified.
func TestContributionsOfARecountedRound(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, cohort, blocks := closedRound(t, s)
	for _, d := range cohort {
		_, m, err := s.public.UploadManifest(t.Context(), s.Floor(), r, digest.Of(signed), d)
		if err != nil || digest.Of(m.Signed) != d {
			t.Fatalf("%v", err)
		}
		body, err := s.public.UploadBlocks(t.Context(), r.ID, d)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(whole, blocks[0]) && !bytes.Equal(whole, blocks[1]) {
			t.Fatalf("%d bytes, %v", len(whole), err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
		part := make([]byte, 2*rlwe.BlockBytes)
		if err := s.public.UploadRange(t.Context(), r.ID, d, rlwe.BlockBytes, part); err != nil || !bytes.Equal(part, whole[rlwe.BlockBytes:]) {
			t.Errorf("a range: %v", err)
		}
		if err := s.public.UploadRange(t.Context(), r.ID, d, int64(len(whole)), part); err == nil {
			t.Error("a range beyond the end")
		}
	}
	if _, _, err := s.public.UploadManifest(t.Context(), s.Floor(), r, digest.Digest{1}, cohort[0]); err == nil {
		t.Error("a contribution to another statement of the round")
	}
	if _, _, err := s.public.UploadManifest(t.Context(), s.Floor(), r, digest.Of(signed), digest.Digest{1}); err == nil {
		t.Error("an unknown contribution")
	}
	if _, err := s.public.SignedResult(t.Context(), r.ID); err == nil {
		t.Error("a result that was not published")
	} else {
		wantReason(t, err, aggregator.ReasonNoResult)
	}
	if _, err := s.public.Values(t.Context(), r.ID); err == nil {
		t.Error("values that were not published")
	}
}

// raw asks the admin socket as a script would.
func raw(t *testing.T, socket, method, path, body string) (int, map[string]any) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://a"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	object, _ := out.(map[string]any)
	return resp.StatusCode, object
}

// What the administrator can do and see, and what is refused there in form.
func TestAdminSocket(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, _, _, _ := closedRound(t, s)
	id := "/v1/rounds/" + r.ID.String()
	if code, _ := raw(t, s.socket, "GET", "/v1/rounds", ""); code != 200 {
		t.Errorf("list: %d", code)
	}
	if st := s.agg.Rounds(); len(st) != 1 || !st[0].Closed || st[0].Published || st[0].Complete != 2 {
		t.Errorf("%+v", st)
	}
	long := `{"cohort":[` + strings.Repeat("null,", 1<<19) + "null]}" // more than its bytes have room for
	for _, tc := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/v1/rounds/xyz", "", 404}, {"GET", id + "/uploads/xyz", "", 404}, {"POST", id + "/sum", "{", 422}, {"POST", id + "/sum", long, 422}, {"POST", "/v1/rounds", "nonsense", 422},
		{"PUT", id + "/uploads/" + digest.Digest{1}.String() + "?from=0", "", 404}, {"POST", id + "/uploads", "nonsense", 422},
		{"PUT", id + "/ticket", "nonsense", 422}, {"PUT", id + "/result", "nonsense", 422}, {"PUT", id + "/values", "x", 404},
		{"DELETE", id, "", 200}, {"DELETE", id, "", 404}, {"GET", id + "/contributions", "", 404}, {"POST", id + "/sum", `{"cohort":[]}`, 404}, {"GET", id + "/sum", "", 404},
		{"GET", id + "/ticket", "", 404}, {"GET", id + "/sum/blocks", "", 404}, {"PUT", id + "/ticket", "x", 422}, {"PUT", id + "/result", "x", 404}, {"PUT", id + "/values", "x", 404},
	} {
		if code, answer := raw(t, s.socket, tc.method, tc.path, tc.body); code != tc.want {
			t.Errorf("%s %s: %d %v, want %d", tc.method, tc.path, code, answer, tc.want)
		}
	}
}

// An aggregator that is not there, and one that says nothing sensible.
func TestUnreachableAggregators(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	s.stop()
	_, _, err := s.public.Round(t.Context(), s.Broker(), s.Floor(), digest.RoundID{1})
	wantReason(t, err, uplink.ReasonUnreachable)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = w.Write([]byte(`{"next": 9, "blocks": 3}`)) // the client is judged by what it makes of it
			return
		}
		w.WriteHeader(http.StatusTeapot)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	c := uplink.NewLocal(socket, nil)
	if _, _, err := c.Round(t.Context(), s.Broker(), s.Floor(), digest.RoundID{1}); err == nil {
		t.Error("a teapot has a round")
	}
	if _, err := c.Send(t.Context(), digest.RoundID{1}, nil, nil, bytes.NewReader(nil), 1, nil); err == nil {
		t.Error("block 9 of 3 is next")
	}
	c.Close()
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

// A peer that stands still in the middle of a body, on either side, is not waited
// for.
func TestIdlePeersAreCutOff(t *testing.T) {
	dir := t.TempDir()
	s := open(t, federationtest.New(t), dir, func(c *aggregator.Config) { c.Idle = 300 * time.Millisecond })
	r, signed, _ := s.Round(t, length, nil)
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20 // more than any buffer on the way
	if err := os.WriteFile(filepath.Join(dir, "rounds", r.ID.String(), "values"), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	body, err := s.public.Values(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	idle := time.NewTimer(time.Second)
	<-idle.C
	if n, err := io.Copy(io.Discard, body); err == nil || n == size {
		t.Errorf("a reader that stood still got %d bytes, %v", n, err)
	}
	_ = body.Close() // the connection is gone
	m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(length, 1))
	stuck, w := io.Pipe()
	go func() { _, _ = w.Write(b[:1000]) }() // and nothing more
	if _, err := s.public.Send(t.Context(), r.ID, m, nil, readerAt{stuck}, rlwe.BlockBytes, nil); err == nil {
		t.Error("an upload that stood still was completed")
	}
	_ = stuck.Close() // ends the writer
}

// readerAt reads from a stream, whatever the place.
type readerAt struct{ io.Reader }

// ReadAt reads on.
func (r readerAt) ReadAt(p []byte, _ int64) (int, error) { return r.Read(p) }

// The state directory is read strictly.
func TestForeignStateIsNotServed(t *testing.T) {
	w, dir := federationtest.New(t), t.TempDir()
	s := open(t, w, dir, nil)
	closedRound(t, s)
	s.stop()
	if _, err := aggregator.New(aggregator.Config{StateDir: dir, Roots: federationtest.New(t).Roots(), Logger: quiet()}); err == nil {
		t.Error("rounds of another broker were opened")
	}
	again := open(t, w, dir, nil)
	if st := again.agg.Rounds(); len(st) != 1 || !st[0].Closed || st[0].Complete != 2 {
		t.Errorf("after a restart: %+v", st)
	}
	for name, cfg := range map[string]aggregator.Config{
		"nothing": {}, "shard": {StateDir: dir, Roots: w.Roots(), Logger: quiet(), Shard: 2, Shards: 2}, "negative": {StateDir: dir, Roots: w.Roots(), Logger: quiet(), Workers: -1},
	} {
		if _, err := aggregator.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
