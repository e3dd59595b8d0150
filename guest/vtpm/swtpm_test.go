package vtpm

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/vtpm/vtpmtest"
)

// startTPM starts a software TPM and returns its socket.
func startTPM(tb testing.TB) string { return vtpmtest.Start(tb) }

func newCollector(tb testing.TB, o Options) *Collector {
	tb.Helper()
	if o.PCRs == nil {
		o.PCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 23}
	}
	if o.Log == "" {
		o.Log = filepath.Join(tb.TempDir(), "log")
		if err := os.WriteFile(o.Log, []byte("the log"), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	c, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func wantReason(tb testing.TB, err error, reason refusal.Reason, words ...string) {
	tb.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != reason {
		tb.Fatalf("got %v, want %q", err, reason)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("%q does not say %q", err, w)
		}
	}
}

// extend measures something, as a running system does.
func extend(tb testing.TB, device tpm2Sender, pcr uint32) {
	tb.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(device)
	if err != nil {
		tb.Error(err)
	}
}

type tpm2Sender interface {
	Send(command []byte) ([]byte, error)
}

// between is a device that does something before a command.
type between struct {
	Device
	before func(command uint32)
}

func (b between) Send(command []byte) ([]byte, error) {
	b.before(binary.BigEndian.Uint32(command[6:]))
	return b.Device.Send(command)
}

func openSocket(tb testing.TB, socket string) Device {
	tb.Helper()
	device, err := linuxudstpm.Open(socket)
	if err != nil {
		tb.Fatal(err)
	}
	return device
}

// silent is a socket whose TPM never answers.
func silent(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) }) // best effort
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { listener.Close() }) // ends the goroutine below
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			tb.Cleanup(func() { conn.Close() }) // what waits for an answer ends with an error
		}
	}()
	return filepath.Join(dir, "s")
}

func soon(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Millisecond)
	tb.Cleanup(cancel)
	return ctx
}
