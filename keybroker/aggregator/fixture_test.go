package aggregator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// site is a running aggregator, with its clients.
type site struct {
	*federationtest.World
	agg    *aggregator.Aggregator
	public *uplink.Client
	admin  *uplink.Client
	clock  atomic.Pointer[time.Time] // its present; the aggregator reads it at any time
	stop   func()
	tls    *tls.Config
	addr   string
	socket string // the administrator's
	dir    string // of its state
}

func (s *site) now() time.Time     { return *s.clock.Load() }
func (s *site) setNow(t time.Time) { s.clock.Store(&t) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// open starts an aggregator on a state directory.
func open(t *testing.T, w *federationtest.World, dir string, change func(*aggregator.Config)) *site {
	t.Helper()
	s := &site{World: w, dir: dir}
	s.setNow(federationtest.Begin.Add(time.Minute).Time())
	cfg := aggregator.Config{StateDir: dir, Roots: w.Roots(), Logger: quiet(), Now: s.now}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.agg, err = aggregator.New(cfg); err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := hybridtls.NewCertificate([]string{"127.0.0.1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	server, err := hybridtls.ServerConfig(pair, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	client, err := hybridtls.ClientConfig("127.0.0.1", pool, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "admin.sock")
	participants, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.agg.Serve(ctx, participants, server, admin) }()
	s.tls, s.addr, s.socket = client, participants.Addr().String(), socket
	s.public, s.admin = s.as(w.Agent(t, nil)), uplink.NewLocal(socket, w.Roots())
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		s.public.Close()
		s.admin.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// as is a client of a guest.
func (s *site) as(a *federationtest.Agent) *uplink.Client {
	return uplink.New(s.addr, s.tls, s.Roots(), func() (uplink.Guest, error) {
		return uplink.Guest{Key: a.Key, Chain: a.Chain, Now: federationtest.Begin.Add(time.Minute)}, nil
	})
}

func (s *site) send(t *testing.T, r federation.Round, manifest, blocks []byte) (uplink.Upload, error) {
	t.Helper()
	return s.public.Send(t.Context(), r.ID, manifest, nil, bytes.NewReader(blocks), rlwe.BlockBytes, nil)
}

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("reason %q, want %q: %v", got, want, err)
	}
}

// cohort returns the digests of all complete contributions.
func (s *site) cohort(t *testing.T, r federation.Round) []digest.Digest {
	t.Helper()
	list, err := s.admin.Contributions(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var digests []digest.Digest
	for _, signed := range list {
		digests = append(digests, digest.Of(signed))
	}
	return digests
}

// decrypt opens a sum as the decrypting guest would, after checking its hashes.
func decrypt(t *testing.T, r federation.Round, sk *rlwe.SecretKey, sum uplink.Sum, body io.ReadCloser) []int32 {
	t.Helper()
	d := rlwe.NewDecryptor(sk)
	var all []int32
	block, values := make([]byte, rlwe.BlockBytes), make([]int32, rlwe.BlockValues)
	for i, want := range sum.Hashes {
		if _, err := io.ReadFull(body, block); err != nil {
			t.Fatal(err)
		}
		if federation.BlockHash(r.ID, sum.First+uint64(i), block) != want {
			t.Fatalf("block %d of the sum has another hash", i)
		}
		if err := d.Decrypt(values, block); err != nil {
			t.Fatal(err)
		}
		all = append(all, values...)
	}
	if _, err := body.Read(block[:1]); !errors.Is(err, io.EOF) {
		t.Error("bytes after the sum")
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	return all
}

// ticket signs what the broker would sign.
func (s *site) ticket(t *testing.T, r federation.Round, signedRound []byte, sum uplink.Sum) []byte {
	t.Helper()
	signed, err := federation.SignTicket(s.EpochKey, s.EpochSigned, federation.Ticket{Round: r.ID, RoundDigest: digest.Of(signedRound),
		Broker: s.Epoch.Broker, Epoch: 1, Cohort: sum.Cohort, Count: uint32(sum.Count), TotalWeight: uint64(sum.Count),
		Sum: federation.UploadDigest(r.ID, sum.Hashes), Time: federationtest.Begin.Add(5 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
