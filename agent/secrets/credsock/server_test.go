package credsock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestUnitsAndVolumesGetTheirSecrets(t *testing.T) {
	b := newBench(t)
	b.grant(all)
	b.serve()
	for from, want := range map[string]string{
		"@1a/unit/nginx.service/tls.key":                  "the web server's key",
		"@ffffffffffffffff/unit/postfix.service/password": "the password",
		"@0/cryptsetup/data":                              "a volume's key",
	} {
		if got := b.read(b.dial(from)); string(got) != want {
			t.Errorf("%s: %.40q, want %q", from, got, want)
		}
	}
	b.log.want(t, "secret handed on\" unit=nginx.service credential=tls.key version=7", 1)
}

// TestWhoIsRefusedGetsMoreThanACredentialMayHave: an end without data would start a unit with an
// empty credential. In each case one thing is wrong.
func TestWhoIsRefusedGetsMoreThanACredentialMayHave(t *testing.T) {
	b := newBench(t)
	b.grant(all)
	stop := b.serve()
	var before []byte
	for name, tc := range map[string]struct{ from, reason string }{
		"another unit":          {"@1/unit/apache.service/tls.key", "secret-not-allowed"},
		"a prefix of the unit":  {"@1/unit/nginx.service2/tls.key", "secret-not-allowed"},
		"another credential":    {"@1/unit/nginx.service/mail", "secret-not-allowed"},
		"another's credential":  {"@1/unit/nginx.service/password", "secret-not-allowed"},
		"a name of commands":    {"@1/unit/postfix.service/mail", "secret-not-allowed"},
		"a volume as a unit":    {"@1/unit/data/data", "secret-not-allowed"},
		"a unit as a volume":    {"@1/cryptsetup/nginx.service", "secret-not-allowed"},
		"a header that is bad":  {"@1/cryptsetup/bad", "volume-header-invalid"},
		"no header":             {"@1/cryptsetup/none", "volume-header-invalid"},
		"no kind that is known": {"@1/cryptsetup-tpm2/data", "credential-peer-invalid"},
		"no address":            {"", "credential-peer-invalid"},
		"no number":             {"@x/unit/nginx.service/tls.key", "credential-peer-invalid"},
	} {
		got := b.read(b.dial(tc.from))
		if len(got) <= 1<<20 || bytes.Contains(got, []byte("key")) && bytes.Contains(got, []byte("server's")) {
			t.Errorf("%s: %d bytes", name, len(got))
		}
		if bytes.Equal(got, before) || bytes.Equal(got, make([]byte, len(got))) {
			t.Errorf("%s: the bytes can be foretold", name)
		}
		before = got
		b.log.want(t, "reason="+tc.reason, 1)
	}
	stop()
	b.server.manager++
	b.serve()
	before = b.read(b.dial("@1/unit/nginx.service/tls.key"))
	if len(before) <= 1<<20 {
		t.Errorf("a user who is not the service manager: %d bytes", len(before))
	}
	b.log.want(t, "only root's service manager is answered", 1)
}

// TestWhoWaitsIsNotAccepted: an agent that ends while units wait for a lease takes nothing from
// them, and the next one answers.
func TestWhoWaitsIsNotAccepted(t *testing.T) {
	b := newBench(t)
	stop := b.serve()
	c := b.dial("@1/unit/nginx.service/tls.key")
	stop()
	b.serve()
	b.grant(all)
	if got := b.read(c); string(got) != all["secrets/web-tls"] {
		t.Errorf("%.40q", got)
	}
}

// TestWithoutALeaseAllAreRefusedInTheEnd, the one who may not have it for that reason.
func TestWithoutALeaseAllAreRefusedInTheEnd(t *testing.T) {
	b := newBench(t)
	b.server.wait = time.Nanosecond
	one, two := b.dial("@1/unit/nginx.service/tls.key"), b.dial("@2/unit/apache.service/tls.key")
	b.serve()
	if got := b.read(one); len(got) <= 1<<20 {
		t.Errorf("%d bytes", len(got))
	}
	if got := b.read(two); len(got) <= 1<<20 {
		t.Errorf("%d bytes", len(got))
	}
	b.log.want(t, "unit=nginx.service credential=tls.key reason=secret-not-held err=\"secret-not-held: no lease is held: still attesting", 1)
	b.log.want(t, "unit=apache.service credential=tls.key reason=secret-not-allowed", 1)
}

// TestASocketThatIsClosedResetsWhoWaits: nobody reads an end.
func TestASocketThatIsClosedResetsWhoWaits(t *testing.T) {
	b := newBench(t)
	stop := b.serve()
	c := b.dial("@1/unit/nginx.service/tls.key")
	stop()
	if err := b.socket.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestARotationReachesTheNextReader, and the end of the lease everybody.
func TestARotationReachesTheNextReader(t *testing.T) {
	b := newBench(t)
	b.grant(all)
	stop := b.serve()
	if got := b.read(b.dial("@1/unit/nginx.service/tls.key")); string(got) != all["secrets/web-tls"] {
		t.Errorf("%.40q", got)
	}
	b.grant(map[string]string{"secrets/web-tls": "another key", "secrets/mail": "x", "volumes/data": "y"})
	if got := b.read(b.dial("@2/unit/nginx.service/tls.key")); string(got) != "another key" {
		t.Errorf("%.40q", got)
	}
	stop()
	b.server.wait = time.Nanosecond
	b.serve()
	b.store.Wipe()
	if got := b.read(b.dial("@3/unit/nginx.service/tls.key")); len(got) <= 1<<20 {
		t.Errorf("after the lease: %d bytes", len(got))
	}
}

// TestPeersThatDoNotReadAreBounded: others wait in the queue until one of them is gone.
func TestPeersThatDoNotReadAreBounded(t *testing.T) {
	b := newBench(t)
	b.grant(all)
	b.serve()
	var slow []*net.UnixConn
	for i := range atOnce {
		slow = append(slow, b.dial(fmt.Sprintf("@%x/unit/apache.service/tls.key", i)))
	}
	b.log.want(t, "secret refused", atOnce)
	next := b.dial("@1/unit/nginx.service/tls.key")
	if raw, err := b.socket.SyscallConn(); err != nil {
		t.Error(err)
	} else if err := raw.Control(func(fd uintptr) {
		if some, err := readable(int(fd)); err != nil || !some {
			t.Errorf("it does not wait in the queue: %v", err)
		}
	}); err != nil {
		t.Error(err)
	}
	if err := slow[0].Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.read(next); string(got) != all["secrets/web-tls"] {
		t.Errorf("%.40q", got)
	}
	for _, c := range slow[1:] {
		_ = c.Close() // ends its answer
	}
}

// TestAStarvedReaderIsWaitedFor: its unit would start with what it has read so far. Others are answered meanwhile,
// up to a bound.
func TestAStarvedReaderIsWaitedFor(t *testing.T) {
	b := newBench(t)
	b.server.patience = time.Millisecond
	b.grant(all)
	b.serve()
	var slow []*net.UnixConn
	for i := range lateAtOnce {
		slow = append(slow, b.dial(fmt.Sprintf("@%x/unit/apache.service/tls.key", i)))
		b.log.want(t, "reads slowly; it is waited for", i+1)
	}
	if got := b.read(b.dial("@a0/unit/nginx.service/tls.key")); string(got) != all["secrets/web-tls"] {
		t.Errorf("%.40q", got)
	}
	for i := range atOnce {
		slow = append(slow, b.dial(fmt.Sprintf("@b%x/unit/apache.service/tls.key", i)))
	}
	b.log.want(t, "secret refused", lateAtOnce+atOnce)
	next := b.dial("@c0/unit/nginx.service/tls.key") // when somebody is gone
	for _, c := range slow {
		if got := b.read(c); len(got) <= 1<<20 {
			t.Fatalf("%d bytes are a credential", len(got))
		}
	}
	if got := b.read(next); string(got) != all["secrets/web-tls"] {
		t.Errorf("%.40q", got)
	}
}

// TestNobodyElseIsWaitedFor: who is not the service manager has its time and no more, and an agent that ends
// leaves nobody a place.
func TestNobodyElseIsWaitedFor(t *testing.T) {
	b := newBench(t)
	b.server.patience = time.Millisecond
	b.grant(all)
	stop := b.serve()
	b.dial("@1/unit/apache.service/tls.key")
	b.log.want(t, "reads slowly; it is waited for", 1)
	stop()
	b.log.want(t, "did not read to the end", 1)
	b.server.manager++
	b.serve()
	b.dial("@2/unit/nginx.service/tls.key")
	b.log.want(t, "did not read to the end", 2)
}

// TestOnlyUnixSocketsAreServed: elsewhere nobody knows who connects.
func TestOnlyUnixSocketsAreServed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := newBench(t).server.Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "is no unix socket") {
		t.Error(err)
	}
}

func TestHeadersAreOrdinaryFiles(t *testing.T) {
	dir := t.TempDir()
	file, link, open, fifo := filepath.Join(dir, "data.header"), filepath.Join(dir, "link"), filepath.Join(dir, "open"), filepath.Join(dir, "fifo")
	for path, mode := range map[string]os.FileMode{file: 0o640, open: 0o640} {
		if err := os.WriteFile(path, []byte("LUKS"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(open, 0o662), os.Symlink(file, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{link, open, fifo, dir, filepath.Join(dir, "none")} {
		if _, err := openHeader(bad); err == nil {
			t.Errorf("%s was opened", bad)
		}
	}
	f, err := openHeader(file)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "LUKS" || f.Close() != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestQueueEndsWithItsContext: nothing waits for a connection that never comes.
func TestQueueEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	q, err := newQueue(b.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.wait(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c := b.dial("")
	if err := q.wait(t.Context()); err != nil {
		t.Errorf("a connection waits: %v", err)
	}
	if err := errors.Join(c.Close(), q.close()); err != nil {
		t.Error(err)
	}
}
