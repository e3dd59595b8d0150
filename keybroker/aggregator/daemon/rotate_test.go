package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// authority is a root of TLS certificates, as `anchorhold keygen tls` makes it.
type authority struct {
	*hybridtls.Root
	pem []byte
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	certPEM, keyPEM, err := hybridtls.NewRoot(name, 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	root, err := hybridtls.ParseRoot(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return authority{root, certPEM}
}

// install puts a certificate of the authority where the aggregator reads it.
func (a authority) install(t *testing.T, s Settings) {
	t.Helper()
	certPEM, keyPEM, err := a.Issue([]string{"127.0.0.1"}, time.Hour)
	if err == nil {
		err = errors.Join(os.WriteFile(s.TLSCertificate, certPEM, 0o600), os.WriteFile(s.TLSKey, keyPEM, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// present is a world whose epoch runs now: the aggregator looks at its own clock.
func present(t *testing.T) (*federationtest.World, protocol.Time) {
	t.Helper()
	w, now := federationtest.New(t), protocol.TimeOf(time.Now())
	w.Epoch.NotBefore, w.Epoch.NotAfter = now.Add(-time.Minute), now.Add(24*time.Hour)
	var err error
	if w.EpochSigned, err = protocol.SignEpoch(w.Root, w.Epoch); err != nil {
		t.Fatal(err)
	}
	return w, now
}

// TestARoundGoesOnThroughARotationOfTLSRoots: the guests learn the new root, the certificate
// is replaced, the guests forget the old root. A contribution of a round arrives at each step,
// also over a connection from before the reload, and a guest that missed the new root is
// refused after it.
func TestARoundGoesOnThroughARotationOfTLSRoots(t *testing.T) {
	dir := t.TempDir()
	w, now := present(t)
	old, next := newAuthority(t, "the old root"), newAuthority(t, "the next root")
	root, err := w.Root.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	certificate(t, dir)
	s, err := settings(t, dir, func(text string) string {
		at := strings.Index(text, "root_keys: [") + len("root_keys: [")
		return text[:at] + string(root) + text[at+strings.Index(text[at:], "]"):]
	})
	if err != nil {
		t.Fatal(err)
	}
	old.install(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	reload, done := make(chan os.Signal), make(chan error, 1)
	go func() { done <- Run(ctx, s, quiet(), reload) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	const length = 8
	r, signed, _ := w.Round(t, length, func(r *federation.Round) { r.Opened, r.Closes = now, now.Add(10*time.Minute) })
	guest := func(roots ...authority) (*federationtest.Agent, *uplink.Client) {
		t.Helper()
		pool := x509.NewCertPool()
		for _, a := range roots {
			pool.AppendCertsFromPEM(a.pem)
		}
		cfg, err := hybridtls.ClientConfig("127.0.0.1", pool, hybridtls.ProfileDefault)
		if err != nil {
			t.Fatal(err)
		}
		a := w.Agent(t, func(c *protocol.LeaseCertificate) { c.NotBefore, c.NotAfter = now, now.Add(15*time.Minute) })
		client := uplink.New(s.Listen, cfg, w.Roots(), func() (uplink.Guest, error) {
			return uplink.Guest{Key: a.Key, Chain: a.Chain, Now: now}, nil
		})
		t.Cleanup(client.Close)
		return a, client
	}
	contribute := func(a *federationtest.Agent, c *uplink.Client) error {
		manifest, blocks := a.ContributeWith(t, r, signed, make([]int32, length), func(c *federation.Contribution) { c.Time = now })
		_, err := c.Send(t.Context(), r.ID, manifest, nil, bytes.NewReader(blocks), rlwe.BlockBytes, nil)
		return err
	}

	first, both := guest(old, next)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); ; {
		if err = both.AddRound(t.Context(), signed); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal(err)
		}
	}
	if err := contribute(first, both); err != nil {
		t.Errorf("both roots in the image: %v", err)
	}
	if a, c := guest(old); contribute(a, c) != nil {
		t.Error("a guest that has only the old root yet is refused before the certificate is replaced")
	}

	next.install(t, s)
	reload <- syscall.SIGHUP
	reload <- syscall.SIGHUP // taken only after the first was dealt with
	if _, _, err := both.Round(t.Context(), w.Broker(), protocol.Live(protocol.AtLeast(1), now), r.ID); err != nil {
		t.Errorf("over the connection from before: %v", err)
	}
	if err := contribute(guest(old, next)); err != nil {
		t.Errorf("the certificate replaced: %v", err)
	}
	var unknown x509.UnknownAuthorityError
	if err := contribute(guest(old)); !errors.As(err, &unknown) {
		t.Errorf("a guest that never learned the new root: %v", err)
	}
	if err := contribute(guest(next)); err != nil {
		t.Errorf("the old root removed: %v", err)
	}
	list, err := uplink.NewLocal(s.AdminSocket, w.Roots()).Contributions(t.Context(), r.ID)
	if err != nil || len(list) != 4 {
		t.Errorf("%d contributions arrived, want 4: %v", len(list), err)
	}
}
