//go:build !release

package keybroker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// permitting is the test policy with a rule for restarts.
func permitting(rule string) string {
	return strings.Replace(brokertest.DefaultPolicy(), `{resources: ["models/*"]}`, `{resources: ["models/*"], local_restart: `+rule+`}`, 1)
}

const threeRestarts = "{max_hours: 8, max_restarts: 3, seal: [tpm]}"

// asking has a client ask, with a clock that its kernel names.
func asking(ask func(*client.Lease) *client.PermitAsk) func(*client.Config) {
	return func(c *client.Config) {
		c.Permit = ask
		c.Claims.ClockSource = evidence.ClockParavirtual
	}
}

func askFor(f *brokertest.Fixture, s protocol.Sealing) (func(*client.Lease) *client.PermitAsk, *identity.Private) {
	key := f.NewKey(identity.LevelEpoch)
	return func(*client.Lease) *client.PermitAsk { return &client.PermitAsk{Sealing: s, RestartKey: key.Public()} }, key
}

func acquire(t *testing.T, c *client.Client) *client.Lease {
	t.Helper()
	l, err := c.Acquire(t.Context(), []string{brokertest.Resource})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Wipe)
	return l
}

func actions(f *brokertest.Fixture, action string) (list []audit.Record) {
	for _, r := range f.Records() {
		if r.Action == action {
			list = append(list, r)
		}
	}
	return list
}

// TestAPermitIsGivenWhereTheRuleSaysSo: with the broker's word for exactly what the rule says, and
// on record before it leaves, whether or not the broker keeps connections.
func TestAPermitIsGivenWhereTheRuleSaysSo(t *testing.T) {
	for _, kept := range []int{0, 4} {
		f := brokertest.New(t, brokertest.WithPolicy(permitting(threeRestarts)), brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Kept = kept }))
		ask, key := askFor(f, protocol.SealingTPM)
		c := f.Client(asking(ask))
		for range 2 { // on the same connection if it is kept
			l := acquire(t, c)
			p := l.Permit
			if p == nil || p.Err != nil || p.Refused != "" {
				t.Fatalf("kept %d: %+v", kept, p)
			}
			q := p.Permit
			if q.Restarts != 3 || q.Lease.String() != l.ID || !q.RestartKey.Equal(key.Public()) || !slices.Equal(q.Keys, []protocol.Permitted{{Resource: brokertest.Resource, Version: 1}}) ||
				q.NotAfter.Time().Sub(q.NotBefore.Time()) != 8*time.Hour {
				t.Errorf("%+v", q)
			}
		}
		records := actions(f, keybroker.ActionPermitted)
		if len(records) != 2 || records[0].Kind != audit.KindService || records[0].Grant == "" || records[0].ClaimsDigest.IsZero() || records[0].AgentKey.IsZero() ||
			!strings.Contains(records[0].Detail, "restarts 3 sealed with tpm keys models/test") || records[0].Expiry.Sub(records[0].Time) > 8*time.Hour+time.Second {
			t.Errorf("%+v", records)
		}
	}
}

// TestNoPermit: in each only one thing is missing, the lease is granted all the same, and no permit
// is on record.
func TestNoPermit(t *testing.T) {
	uncounted := `{max_hours: 8, seal: [sev-snp], restarts_not_counted: "the hosts are ours"}`
	for name, tc := range map[string]struct {
		policy  string
		sealing protocol.Sealing
		change  func(*client.Config)
		want    refusal.Reason
	}{
		"no rule":          {brokertest.DefaultPolicy(), protocol.SealingTPM, nil, protocol.ReasonNoPermit},
		"another sealing":  {permitting(threeRestarts), protocol.SealingSNP, nil, protocol.ReasonSealing},
		"half the sealing": {permitting(`{max_hours: 8, max_restarts: 3, seal: [sev-snp+tpm]}`), protocol.SealingTPM, nil, protocol.ReasonSealing},
		"a TPM not meant":  {permitting(uncounted), protocol.SealingTPM, nil, protocol.ReasonSealing},
		"unknown clock":    {permitting(threeRestarts), protocol.SealingTPM, func(c *client.Config) { c.Claims.ClockSource = evidence.ClockUnknown }, protocol.ReasonRestartClock},
	} {
		f := brokertest.New(t, brokertest.WithPolicy(tc.policy), brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Kept = 4 }))
		ask, _ := askFor(f, tc.sealing)
		l := acquire(t, f.Client(func(c *client.Config) {
			asking(ask)(c)
			if tc.change != nil {
				tc.change(c)
			}
		}))
		if p := l.Permit; p == nil || p.Err != nil || p.Refused != tc.want || len(p.Chain.Permit) > 0 {
			t.Errorf("%s: %+v, want %s", name, p, tc.want)
		}
		if r := actions(f, keybroker.ActionPermitted); len(r) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	f := brokertest.New(t, brokertest.WithPolicy(permitting(uncounted)))
	ask, _ := askFor(f, protocol.SealingSNP)
	if p := acquire(t, f.Client(asking(ask))).Permit; p == nil || p.Err != nil || p.Permit.Restarts != 0 {
		t.Fatalf("%+v", p)
	}
	if r := actions(f, keybroker.ActionPermitted); len(r) != 1 || !slices.Contains(r[0].Waived, "restarts-not-counted: the hosts are ours") {
		t.Errorf("%+v", r)
	}
}

// TestAPermitEndsWithItsEpoch: the fixture's epoch ends in 23 hours.
func TestAPermitEndsWithItsEpoch(t *testing.T) {
	f := brokertest.New(t, brokertest.WithPolicy(permitting("{max_hours: 24, max_restarts: 1, seal: [tpm]}")))
	ask, _ := askFor(f, protocol.SealingTPM)
	p := acquire(t, f.Client(asking(ask))).Permit
	if p == nil || p.Err != nil || p.Permit.NotAfter.Time().Sub(p.Permit.NotBefore.Time()) > 23*time.Hour {
		t.Errorf("%+v", p)
	}
}

// TestNoPermitWithoutARecord: a log that fails refuses M8, and the lease stays.
func TestNoPermitWithoutARecord(t *testing.T) {
	f := brokertest.New(t, brokertest.WithPolicy(permitting(threeRestarts)))
	ask, _ := askFor(f, protocol.SealingTPM)
	l := acquire(t, f.Client(asking(func(l *client.Lease) *client.PermitAsk {
		if err := f.Audit.Flush(context.Background()); err != nil {
			t.Error(err)
		}
		if err := f.Audit.Close(); err != nil {
			t.Error(err)
		}
		return ask(l)
	})))
	if p := l.Permit; p == nil || p.Err == nil || len(p.Chain.Permit) > 0 || len(l.Keys) != 1 {
		t.Fatalf("%+v", l.Permit)
	} else if reason, _ := refusal.ReasonOf(p.Err); reason != protocol.ReasonAuditUnavailable && !strings.Contains(p.Err.Error(), string(protocol.ReasonAuditUnavailable)) {
		t.Error(p.Err)
	}
}

// TestNoPermitForAnEndedAgent: an operator ends it between the release and the request.
func TestNoPermitForAnEndedAgent(t *testing.T) {
	ended := false
	f := brokertest.New(t, brokertest.WithPolicy(permitting(threeRestarts)), brokertest.WithConfig(func(c *keybroker.Config) {
		c.Ended = func(agent, chip digest.Digest) (func(), error) {
			if ended && !agent.IsZero() && !chip.IsZero() {
				return nil, refusal.New(protocol.ReasonEnded, "ended")
			}
			return func() {}, nil
		}
	}))
	ask, _ := askFor(f, protocol.SealingTPM)
	l := acquire(t, f.Client(asking(func(l *client.Lease) *client.PermitAsk { ended = true; return ask(l) })))
	if p := l.Permit; p == nil || p.Err == nil || !strings.Contains(p.Err.Error(), string(protocol.ReasonEnded)) {
		t.Errorf("%+v", p)
	}
}

// TestNoPermitAfterTheLease: the broker's clock says that the lease is over.
func TestNoPermitAfterTheLease(t *testing.T) {
	f := brokertest.New(t, brokertest.WithPolicy(permitting(threeRestarts)))
	ask, _ := askFor(f, protocol.SealingTPM)
	l := acquire(t, f.Client(asking(func(l *client.Lease) *client.PermitAsk { f.Clock.Move(time.Hour); return ask(l) })))
	if p := l.Permit; p == nil || p.Err == nil || !strings.Contains(p.Err.Error(), string(protocol.ReasonGrantExpired)) {
		t.Errorf("%+v", p)
	}
}

// TestRestartsAreReported: each restart is a record with its number and time, also where the policy permits none any
// more; and what does not verify is an anomaly.
func TestRestartsAreReported(t *testing.T) {
	f := brokertest.New(t, brokertest.WithPolicy(permitting(threeRestarts)), brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Kept = 4 }))
	ask, key := askFor(f, protocol.SealingTPM)
	p := acquire(t, f.Client(asking(ask))).Permit
	if p == nil || p.Err != nil {
		t.Fatal(p)
	}
	boot := f.NewKey(identity.LevelEpoch)
	report := func(key *identity.Private) *client.PermitAsk {
		chain, err := p.Chain.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		a := &client.PermitAsk{Report: chain}
		for n := range uint16(2) {
			signed, err := protocol.SignRestart(key, protocol.Restart{Permit: digest.Of(p.Chain.Permit), Number: n + 1, AgentKey: boot.Public(), At: p.Permit.NotBefore.Add(time.Hour), Clock: evidence.ClockTSC})
			if err != nil {
				t.Fatal(err)
			}
			a.Restarts = append(a.Restarts, signed)
		}
		return a
	}
	f.SetPolicy(brokertest.DefaultPolicy())
	l := acquire(t, f.Client(asking(func(*client.Lease) *client.PermitAsk { return report(key) })))
	if l.Permit.Err != nil || !l.Permit.Reported || l.Permit.Refused != "" || len(l.Permit.Chain.Permit) > 0 {
		t.Errorf("%+v", l.Permit)
	}
	records := actions(f, keybroker.ActionRestarted)
	if len(records) != 2 || !strings.Contains(records[1].Detail, "restart 2 of 3 at ") || records[1].Grant != p.Permit.Lease.String() || records[1].MessageDigest != digest.Of(p.Chain.Permit) {
		t.Errorf("%+v", records)
	}
	l = acquire(t, f.Client(asking(func(*client.Lease) *client.PermitAsk { return report(boot) })))
	if l.Permit.Err != nil {
		t.Error(l.Permit.Err)
	}
	anomalies := actions(f, "local-restart-report")
	if len(anomalies) != 1 || anomalies[0].Kind != audit.KindAnomaly || anomalies[0].Reasons[0].Code != string(protocol.ReasonRestart) || len(actions(f, keybroker.ActionRestarted)) != 2 {
		t.Errorf("%+v", anomalies)
	}
}

// m8 is a correct request for the exchange that the guest has just confirmed.
func (g *guest) m8(key *identity.Private) *protocol.PermitRequest {
	return &protocol.PermitRequest{Release: protocol.HashMessage(g.frames[5]), Sealing: protocol.SealingTPM, RestartKey: key.Public()}
}

// ask signs M8 with a key and for a connection, sends it and reads M9.
func (g *guest) ask(m8 *protocol.PermitRequest, agent *identity.Private, ekm [48]byte) (m9 protocol.PermitAnswer, err error) {
	g.t.Helper()
	g.fatal(m8.Sign(agent, ekm))
	frame, err := protocol.Marshal(m8)
	g.fatal(err)
	g.write(frame)
	typ, frame, err := protocol.ReadFrame(g.conn, protocol.TypePermitAnswer, protocol.TypeRefusal)
	if err != nil {
		return m9, err
	}
	if typ == protocol.TypeRefusal {
		var r protocol.Refusal
		g.fatal(protocol.Parse(frame, &r))
		return m9, &refusal.Error{Reason: r.Reason, Detail: r.ID.String()}
	}
	return m9, protocol.Parse(frame, &m9)
}

// TestRequestForAPermitIsOfThisExchange: in each only one thing is another, and no permit is given.
func TestRequestForAPermitIsOfThisExchange(t *testing.T) {
	f := brokertest.New(t, brokertest.WithPolicy(permitting(threeRestarts)))
	key := f.NewKey(identity.LevelEpoch)
	for name, tc := range map[string]struct {
		change func(*guest, *protocol.PermitRequest) (agent *identity.Private, ekm [48]byte)
		want   refusal.Reason
	}{
		"another agent":   {func(g *guest, _ *protocol.PermitRequest) (*identity.Private, [48]byte) { return key, g.ekm }, protocol.ReasonAgentSignature},
		"another channel": {func(g *guest, _ *protocol.PermitRequest) (*identity.Private, [48]byte) { return g.agent, [48]byte{1} }, protocol.ReasonAgentSignature},
		"another release": {func(g *guest, m *protocol.PermitRequest) (*identity.Private, [48]byte) {
			m.Release[0]++
			return g.agent, g.ekm
		}, protocol.ReasonReleaseMismatch},
	} {
		g := dial(t, f)
		g.claims.ClockSource = evidence.ClockTSC
		g.released()
		g.confirm()
		m8 := g.m8(key)
		agent, ekm := tc.change(g, m8)
		m9, err := g.ask(m8, agent, ekm)
		if reason, _ := refusal.ReasonOf(err); reason != tc.want || len(m9.Permit) > 0 {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
	if r := actions(f, keybroker.ActionPermitted); len(r) > 0 {
		t.Errorf("%+v", r)
	}
	g := dial(t, f)
	g.claims.ClockSource = evidence.ClockTSC
	g.released()
	g.confirm()
	if m9, err := g.ask(g.m8(key), g.agent, g.ekm); err != nil || len(m9.Permit) == 0 {
		t.Fatal(m9.Reason, err)
	}
	g.ended() // the broker keeps none: there is no second permit
}

// TestOnePermitForEachExchange: another request on a kept connection is no message that the state admits.
func TestOnePermitForEachExchange(t *testing.T) {
	f := brokertest.New(t, brokertest.WithPolicy(permitting(threeRestarts)), brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Kept = 4 }))
	key := f.NewKey(identity.LevelEpoch)
	g := dial(t, f)
	g.claims.ClockSource = evidence.ClockTSC
	g.released()
	g.confirm()
	if m9, err := g.ask(g.m8(key), g.agent, g.ekm); err != nil || len(m9.Permit) == 0 {
		t.Fatal(m9.Reason, err)
	}
	_, err := g.ask(g.m8(key), g.agent, g.ekm)
	wantReason(t, err, protocol.ReasonUnexpectedMessage)
	if r := actions(f, keybroker.ActionPermitted); len(r) != 1 {
		t.Errorf("%d permits", len(r))
	}
}

// TestNextExchangeMayComeInThePlaceOfTheRequest, from a guest that wants no permit.
func TestNextExchangeMayComeInThePlaceOfTheRequest(t *testing.T) {
	f := brokertest.New(t, brokertest.WithPolicy(permitting(threeRestarts)), brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Kept = 4 }))
	g := dial(t, f)
	for range 3 {
		g.released()
		g.confirm()
		g.next()
	}
	if r := actions(f, keybroker.ActionPermitted); len(r) > 0 {
		t.Errorf("%+v", r)
	}
}
