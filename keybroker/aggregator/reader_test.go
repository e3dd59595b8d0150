package aggregator_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// closer closes a client at the end of a test.
func closer(t *testing.T, c *uplink.Client) *uplink.Client {
	t.Helper()
	t.Cleanup(c.Close)
	return c
}

// readings asks for everything that can be read of a round, and returns why not.
func readings(t *testing.T, s *site, c *uplink.Client, r federation.Round, signed []byte, contribution digest.Digest) (terms, sums map[string]error) {
	t.Helper()
	ctx := t.Context()
	drop := func(body io.ReadCloser, err error) error {
		if err == nil {
			err = body.Close()
		}
		return err
	}
	terms, sums = map[string]error{}, map[string]error{}
	_, _, terms["round"] = c.Round(ctx, s.Broker(), s.Floor(), r.ID)
	_, _, terms["ticket"] = c.Ticket(ctx, s.Floor(), r, digest.Of(signed))
	_, terms["result"] = c.SignedResult(ctx, r.ID)
	terms["values"] = drop(c.Values(ctx, r.ID))
	_, sums["sum"] = c.SumManifest(ctx, r)
	sums["sum blocks"] = drop(c.SumBlocks(ctx, r.ID))
	sums["blocks"] = drop(c.UploadBlocks(ctx, r.ID, contribution))
	_, _, sums["manifest"] = c.UploadManifest(ctx, s.Floor(), r, digest.Of(signed), contribution)
	return terms, sums
}

// Nothing is shown to a stranger, to a guest that the round does not name, nor to one whose
// lease or epoch is over; contributors see terms and results, and no sums.
func TestOnlyNamedGuestsRead(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, cohort, _ := closedRound(t, s)
	values := make([]byte, 8*length)
	for i := range length {
		binary.LittleEndian.PutUint64(values[8*i:], uint64(i))
	}
	ticket, err := io.ReadAll(must(t)(s.get(t, "/v1/rounds/"+r.ID.String()+"/ticket")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.public.Publish(t.Context(), r.ID, s.result(t, s.Agent(t, nil).GrantRound(t, r, signed), r, signed, ticket, values), bytes.NewReader(values)); err != nil {
		t.Fatal(err)
	}
	roles := func(roles protocol.Role) *uplink.Client {
		return closer(t, s.as(s.Agent(t, func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, roles) })))
	}
	for name, tc := range map[string]struct {
		c           *uplink.Client
		terms, sums refusal.Reason
	}{
		"nobody":         {closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil)), aggregator.ReasonNobody, aggregator.ReasonNobody},
		"another tenant": {closer(t, s.as(s.Agent(t, func(c *protocol.LeaseCertificate) { c.Tenant = "mallory" }))), aggregator.ReasonNotNamed, aggregator.ReasonNotNamed},
		"serves alone":   {roles(protocol.RoleServe), protocol.ReasonRole, protocol.ReasonRole},
		"contributes":    {roles(protocol.RoleContribute), "", aggregator.ReasonNotNamed},
		"decrypts":       {roles(protocol.RoleDecrypt), "", ""},
		"a party":        {roles(protocol.RoleParty), aggregator.ReasonNotNamed, aggregator.ReasonNotNamed},
		"another broker": {closer(t, s.as(federationtest.New(t).Agent(t, nil))), protocol.ReasonBrokerUnknown, protocol.ReasonBrokerUnknown},
	} {
		terms, sums := readings(t, s, tc.c, r, signed, cohort[0])
		for what, err := range terms {
			wantReasonOf(t, name+": "+what, err, tc.terms)
		}
		for what, err := range sums {
			wantReasonOf(t, name+": "+what, err, tc.sums)
		}
	}
	nobody := closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil))
	_, _, err = nobody.Round(t.Context(), s.Broker(), s.Floor(), digest.RoundID{1})
	wantReasonOf(t, "a stranger asks for a round that is not there", err, aggregator.ReasonNobody)
}

// A reader's connection ends with its lease; the next one is begun under the lease of then.
func TestReadingEndsWithTheLease(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _ := s.Round(t, length, nil)
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	a := s.Agent(t, nil)
	now := federationtest.Begin.Add(time.Minute)
	c := closer(t, uplink.New(s.addr, s.tls, s.Roots(), func() (uplink.Guest, error) { return uplink.Guest{Key: a.Key, Chain: a.Chain, Now: now}, nil }))
	if _, _, err := c.Round(t.Context(), s.Broker(), s.Floor(), r.ID); err != nil {
		t.Fatal(err)
	}
	s.setNow(a.Lease.NotAfter.Time().Add(2 * time.Minute))
	_, _, err := c.Round(t.Context(), s.Broker(), s.Floor(), r.ID)
	wantReasonOf(t, "after the lease", err, "client-identity-expired")
	a = s.Agent(t, func(c *protocol.LeaseCertificate) {
		c.NotBefore, c.NotAfter = protocol.TimeOf(s.now()), protocol.TimeOf(s.now().Add(15*time.Minute))
	})
	now = protocol.TimeOf(s.now())
	if _, _, err := c.Round(t.Context(), s.Broker(), s.Floor(), r.ID); err != nil {
		t.Errorf("under the next lease: %v", err)
	}
}

// What a guest says on one connection is worth nothing on another.
func TestIdentityIsOfOneConnection(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	a := s.Agent(t, nil)
	cfg := hybridtls.For(s.tls, hybridtls.ALPNFederation)
	say := func(binding func(*hybridtls.Conn) digest.Digest) int {
		conn, err := hybridtls.Dial(t.Context(), "tcp", s.addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() // it was asked once
		signed, err := federation.SignAccess(a.Key, a.Chain, federation.Access{Binding: binding(conn), Agent: a.Key.Public().ID(), Time: federationtest.Begin.Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a/v1/identity", bytes.NewReader(signed))
		if err != nil {
			t.Fatal(err)
		}
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	own := func(c *hybridtls.Conn) digest.Digest { e := c.Exporter(); return federation.BindingOf(e[:]) }
	var first digest.Digest
	if status := say(func(c *hybridtls.Conn) digest.Digest { first = own(c); return first }); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if status := say(func(*hybridtls.Conn) digest.Digest { return first }); status == http.StatusOK {
		t.Error("another connection's statement was taken")
	}
}

// A result is written once, by whom the round names; nobody else writes or replaces it.
func TestResultIsWrittenOnce(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _, _ := closedRound(t, s)
	ticket, err := io.ReadAll(must(t)(s.get(t, "/v1/rounds/"+r.ID.String()+"/ticket")))
	if err != nil {
		t.Fatal(err)
	}
	values := make([]byte, 8*length)
	for name, tc := range map[string]struct {
		by   *federationtest.Agent
		want refusal.Reason
	}{
		"not granted":    {s.Agent(t, nil), protocol.ReasonNotGranted},
		"another tenant": {s.Agent(t, func(c *protocol.LeaseCertificate) { c.Tenant = "mallory" }).GrantRound(t, r, signed), protocol.ReasonAudience},
		"contributes":    {s.Agent(t, func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, protocol.RoleContribute) }).GrantRound(t, r, signed), protocol.ReasonRole},
	} {
		wantReasonOf(t, name, s.public.Publish(t.Context(), r.ID, s.result(t, tc.by, r, signed, ticket, values), bytes.NewReader(values)), tc.want)
	}
	good := s.result(t, s.Agent(t, nil).GrantRound(t, r, signed), r, signed, ticket, values)
	for range 2 {
		if err := s.public.Publish(t.Context(), r.ID, good, bytes.NewReader(values)); err != nil {
			t.Fatal(err)
		}
	}
	other := s.result(t, s.Agent(t, nil).GrantRound(t, r, signed), r, signed, ticket, append([]byte{1}, values[1:]...))
	wantReasonOf(t, "another result", s.public.Publish(t.Context(), r.ID, other, bytes.NewReader(values)), aggregator.ReasonPublished)
	if got, err := s.public.SignedResult(t.Context(), r.ID); err != nil || !bytes.Equal(got, good) {
		t.Errorf("the result changed: %v", err)
	}
}

// A round is handed over when it is opened, runs within limits, and by an epoch that
// neither ended nor was retired: not even with the key of then, dated back.
func TestRoundsOfEndedEpochsAreNotTaken(t *testing.T) {
	w, dir := federationtest.New(t), t.TempDir()
	s := open(t, w, dir, func(c *aggregator.Config) { c.MaxDuration = time.Hour })
	for name, tc := range map[string]struct {
		change func(*federation.Round)
		want   refusal.Reason
	}{
		"opened a minute ago": {func(r *federation.Round) {
			r.Opened, r.Closes = federationtest.Begin-500, federationtest.Begin.Add(30*time.Minute)
		}, ""},
		"runs too long": {func(r *federation.Round) { r.Closes = r.Opened.Add(time.Hour + time.Second) }, federation.ReasonRound},
	} {
		_, signed, _ := s.Round(t, length, tc.change)
		wantReasonOf(t, name, s.public.AddRound(t.Context(), signed), tc.want)
	}
	late, lateSigned, _ := s.Round(t, length, func(r *federation.Round) { r.Closes = r.Opened.Add(time.Hour) })
	s.setNow(late.Opened.Time().Add(11 * time.Minute))
	wantReasonOf(t, "comes late", s.public.AddRound(t.Context(), lateSigned), aggregator.ReasonStale)
	s.setNow(late.Opened.Time().Add(-11 * time.Minute))
	_, soon, _ := s.Round(t, length, nil)
	if reason, _ := refusal.ReasonOf(s.public.AddRound(t.Context(), soon)); reason != protocol.ReasonEpochNotValid && reason != aggregator.ReasonStale {
		t.Errorf("comes early: %q", reason)
	}
	s.setNow(w.Epoch.NotAfter.Time().Add(time.Minute))
	_, back, _ := s.Round(t, length, func(r *federation.Round) { r.Opened, r.Closes = w.Epoch.NotAfter-1000, w.Epoch.NotAfter })
	wantReasonOf(t, "an ended epoch, dated back", s.public.AddRound(t.Context(), back), protocol.ReasonEpochNotValid)

	// The root's next statement retires the epoch: for what comes, and for what is here.
	s.setNow(federationtest.Begin.Add(2 * time.Minute).Time())
	held, heldSigned, _ := s.Round(t, length, nil)
	if err := s.public.AddRound(t.Context(), heldSigned); err != nil {
		t.Fatal(err)
	}
	next := w.NextEpoch(t, 2)
	_, newer, _ := next.Round(t, length, func(r *federation.Round) { r.Epoch = 2 })
	if err := s.public.AddRound(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	_, old, _ := s.Round(t, length, nil)
	wantReasonOf(t, "a retired epoch", s.public.AddRound(t.Context(), old), protocol.ReasonEpochRetired)
	m, b := s.Agent(t, nil).Contribute(t, held, heldSigned, vector(length, 1))
	_, err := s.send(t, held, m, b)
	wantReasonOf(t, "a round of a retired epoch", err, protocol.ReasonEpochRetired)
	s.stop()
	again := open(t, w, dir, nil)
	wantReasonOf(t, "after a restart", again.public.AddRound(t.Context(), old), protocol.ReasonEpochRetired)
	if err := again.agg.Remove(t.Context(), held.ID); err != nil {
		t.Errorf("a round of a retired epoch cannot be removed: %v", err)
	}
	measured := open(t, w, t.TempDir(), func(c *aggregator.Config) { c.MinEpoch = 3 })
	wantReasonOf(t, "below the configured minimum", measured.public.AddRound(t.Context(), newer), protocol.ReasonEpochRetired)
}

func wantReasonOf(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want || want == "" && err != nil {
		t.Errorf("%s: reason %q, want %q: %v", what, got, want, err)
	}
}

func must(t *testing.T) func(io.ReadCloser, error) io.Reader {
	return func(r io.ReadCloser, err error) io.Reader {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() }) // read only
		return r
	}
}

// result signs a result of a guest.
func (s *site) result(t *testing.T, by *federationtest.Agent, r federation.Round, signed, ticket, values []byte) []byte {
	t.Helper()
	raw, err := federation.SignResult(by.Key, by.Chain, federation.Result{Round: r.ID, RoundDigest: digest.Of(signed), TicketDigest: digest.Of(ticket),
		Agent: by.Key.Public().ID(), Length: r.Length, Values: sha256.Sum256(values), Step: 1, Divisor: 2, Time: federationtest.Begin.Add(6 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A stranger's ticket is answered in the same way for a round that is here and for one that
// is not, and so is a ticket of another round; a bearer of the round's own is told.
func TestTicketsTellNoStrangerWhichRoundsThereAre(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _ := s.Round(t, 100, nil)
	other, otherSigned, _ := s.Round(t, 100, nil)
	if _, err := s.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	stranger := closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil)) // says nothing of who it is
	sum := uplink.Sum{Cohort: digest.Digest{1}, Count: 2}
	forged, ofThird := s.ticket(t, r, signed, sum), s.ticket(t, federation.Round{ID: digest.RoundID{1}}, signed, sum)
	forged[len(forged)-1] ^= 1
	for name, tc := range map[string]struct {
		ticket []byte
		want   refusal.Reason
	}{
		"nonsense":         {[]byte("x"), federation.ReasonMalformed},
		"forged":           {forged, federation.ReasonSignature},
		"of a third round": {ofThird, federation.ReasonWrongRound},
	} {
		wantReasonOf(t, name+", for a round that is here", stranger.SetTicket(t.Context(), r.ID, tc.ticket), tc.want)
		wantReasonOf(t, name+", for one that is not", stranger.SetTicket(t.Context(), other.ID, tc.ticket), tc.want)
	}
	wantReasonOf(t, "its bearer", stranger.SetTicket(t.Context(), r.ID, s.ticket(t, r, signed, sum)), aggregator.ReasonNoSum)
	wantReasonOf(t, "the bearer of another's", stranger.SetTicket(t.Context(), other.ID, s.ticket(t, other, otherSigned, sum)), aggregator.ReasonUnknownRound)
}

// get asks the administrator's socket.
func (s *site) get(t *testing.T, path string) (io.ReadCloser, error) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	}}}
	t.Cleanup(c.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(errors.New("status "+strconv.Itoa(resp.StatusCode)), resp.Body.Close())
	}
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
