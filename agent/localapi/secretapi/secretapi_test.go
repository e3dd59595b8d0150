package secretapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/secrets"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// guest is an agent that attests nothing.
type guest struct{}

func (guest) Serving() error { return errors.New("no model") }
func (guest) Collect(context.Context, [64]byte) (evidence.Envelope, error) {
	return evidence.Envelope{}, errors.New("no evidence")
}
func (guest) AgentKeyID() [32]byte { return [32]byte{} }

// text is a log.
type text struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *text) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.String(), s)
}

// serve serves a store to this user, who may connect in any case.
func serve(t *testing.T, store *secrets.Store) (get func(path string) (int, string, http.Header), log *text) {
	t.Helper()
	log = &text{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	api, err := localapi.New(localapi.Config{Gate: guest{}, Attester: guest{}, Logger: logger, AllowedUIDs: []uint32{uint32(os.Getuid())}})
	if err != nil {
		t.Fatal(err)
	}
	Mount(api, store, logger)
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	return func(path string) (int, string, http.Header) {
		t.Helper()
		r, err := c.Get("http://agent" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		return r.StatusCode, string(body), r.Header
	}, log
}

func take(t *testing.T, store *secrets.Store, value string) {
	t.Helper()
	key, err := keybuf.Take([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	lease := &client.Lease{Expires: time.Now().Add(time.Hour), Keys: map[string]client.Key{"secrets/db": {Version: 4, Key: key}, "secrets/other": {Version: 4, Key: key}}}
	if err := store.Take(lease); err != nil {
		t.Fatal(err)
	}
}

// TestASecretIsForItsUsersAlone: that a user may connect is no permission.
func TestASecretIsForItsUsersAlone(t *testing.T) {
	own := settings.Account(strconv.Itoa(os.Getuid()))
	other := settings.Account(strconv.Itoa(os.Getuid() + 1))
	group := settings.Account(strconv.Itoa(os.Getgid()))
	store := secrets.New(func() error { return errors.New("still attesting") })
	if err := store.Allow([]settings.Secret{
		{Name: "mine", Resource: "secrets/db", Users: []settings.Account{own}},
		{Name: "ours", Resource: "secrets/db", Groups: []settings.Account{group}},
		{Name: "theirs", Resource: "secrets/other", Users: []settings.Account{other}},
		{Name: "unit", Resource: "secrets/other", Units: []string{"a.service"}},
	}); err != nil {
		t.Fatal(err)
	}
	get, log := serve(t, store)
	if status, body, _ := get("/v1/secrets/mine"); status != http.StatusServiceUnavailable || !strings.Contains(body, `"secret-not-held"`) {
		t.Errorf("without a lease: %d %s", status, body)
	}
	value := strings.Repeat("\x00\xff\r\n", 4096)
	take(t, store, value)
	for _, name := range []string{"mine", "ours"} {
		status, body, header := get("/v1/secrets/" + name)
		if status != http.StatusOK || body != value || header.Get(VersionHeader) != "4" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, %d bytes, %v", name, status, len(body), header)
		}
	}
	for _, name := range []string{"theirs", "unit", "none", "secrets%2Fdb", "%0a"} {
		status, body, _ := get("/v1/secrets/" + name)
		if status != http.StatusForbidden || !strings.Contains(body, `"secret-not-allowed"`) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	uid := strconv.Itoa(os.Getuid())
	for _, want := range []string{`msg="secret handed on" secret=mine uid=` + uid + ` version=4`, `msg="secret refused" secret="\"theirs\"" uid=` + uid + ` reason=secret-not-allowed`} {
		for deadline := time.Now().Add(10 * time.Second); !log.has(want); { // the answer may be here before its line is
			if time.Now().After(deadline) {
				t.Fatalf("the log lacks %s: %s", want, log.String())
			}
		}
	}
	for _, wait := range []string{"-1", "291", "x", "1s"} {
		if status, body, _ := get("/v1/secrets/mine?wait=" + wait); status != http.StatusBadRequest || !strings.Contains(body, "wait-invalid") {
			t.Errorf("wait=%s: %d %s", wait, status, body)
		}
	}
}

// TestARequestWaitsForALease that comes.
func TestARequestWaitsForALease(t *testing.T) {
	store := secrets.New(func() error { return errors.New("still attesting") })
	if err := store.Allow([]settings.Secret{{Name: "mine", Resource: "secrets/db", Users: []settings.Account{settings.Account(strconv.Itoa(os.Getuid()))}}}); err != nil {
		t.Fatal(err)
	}
	get, _ := serve(t, store)
	got := make(chan string, 1)
	go func() { _, body, _ := get("/v1/secrets/mine?wait=290"); got <- body }()
	take(t, store, "the password")
	if body := <-got; body != "the password" {
		t.Error(body)
	}
}
