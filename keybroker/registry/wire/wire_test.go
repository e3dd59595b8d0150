package wire_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

const begin = federationtest.Begin

func record(w *federationtest.World) wire.Record {
	return wire.Record{Broker: w.Epoch.Broker, Epoch: 1, Registered: begin, Record: statement.Record{
		System: statement.Groth16, Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, ProvingKey: digest.Digest{3}, Library: "a test",
		Ceremony: digest.Digest{4}, Inference: &statement.InferenceCircuit{Architecture: digest.Digest{5}, Items: 1, Outputs: 2}}}
}

func challenge(w *federationtest.World) wire.Challenge {
	return wire.Challenge{Broker: w.Epoch.Broker, Epoch: 1, Nonce: digest.Digest{1}, Agent: digest.Digest{2},
		Receipts: []digest.ReceiptID{{1}, {2}}, Time: begin, Deadline: begin.Add(time.Hour)}
}

func bundle() wire.Bundle {
	return wire.Bundle{OutputSalts: []wire.Salt{{1}, {2}}, Envelope: statement.Envelope{Key: digest.Digest{1}, Proof: []byte{1, 2}, Statement: statement.Statement{System: statement.Groth16,
		Inference: &statement.Inference{Items: []statement.Item{{Receipt: digest.ReceiptID{1}, Outputs: []int32{-1, 2}}, {Receipt: digest.ReceiptID{2}, Outputs: []int32{3, 4}}}}}}}
}

func wantReason(t *testing.T, name string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("%s: got %v, want the reason %s", name, err, want)
	}
}

// TestFloorReachesRecordsAndChallenges: a stolen key of a retired epoch vouches for no key
// and asks for no proof.
func TestFloorReachesRecordsAndChallenges(t *testing.T) {
	w := federationtest.New(t)
	r, err := wire.SignRecord(w.EpochKey, w.EpochSigned, record(w))
	if err != nil {
		t.Fatal(err)
	}
	c, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, challenge(w))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		floor protocol.Floor
		want  refusal.Reason
	}{
		"retired": {protocol.Recorded(protocol.AtLeast(2)), protocol.ReasonEpochRetired}, "none stated": {protocol.Floor{}, protocol.ReasonEpochRetired},
		"over": {protocol.Live(protocol.AtLeast(1), w.Epoch.NotAfter), protocol.ReasonEpochNotValid},
	} {
		_, err := wire.VerifyRecord(r, w.Roots(), w.Broker(), tc.floor)
		wantReason(t, "record, "+name, err, tc.want)
		_, err = wire.VerifyChallenge(c, w.Roots(), w.Broker(), tc.floor)
		wantReason(t, "challenge, "+name, err, tc.want)
	}
}

func TestSignedStatementsVerifyWithTheRootsAlone(t *testing.T) {
	w := federationtest.New(t)
	raw, err := wire.SignRecord(w.EpochKey, w.EpochSigned, record(w))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := wire.VerifyRecord(raw, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))); err != nil || r.Record.Library != "a test" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := wire.ParseRecord(raw); err != nil || r.Epoch != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	other, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, challenge(w))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := wire.VerifyChallenge(other, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))); err != nil || len(c.Receipts) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = wire.VerifyRecord(other, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1)))
	wantReason(t, "a challenge as a record", err, wire.ReasonMalformed)
	_, err = wire.VerifyChallenge(raw, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1)))
	wantReason(t, "a record as a challenge", err, wire.ReasonMalformed)
	for _, roots := range [][]identity.Public{nil, federationtest.New(t).Roots()} {
		if _, err := wire.VerifyRecord(raw, roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err == nil {
			t.Error("verifies with other roots")
		}
		if _, err := wire.VerifyChallenge(other, roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err == nil {
			t.Error("verifies with other roots")
		}
	}
}

// Every byte counts, wherever it stands.
func TestChangedStatementsAreRefused(t *testing.T) {
	w := federationtest.New(t)
	raw, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, challenge(w))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(raw); i += 97 {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if _, err := wire.VerifyChallenge(changed, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))); err == nil {
			t.Errorf("byte %d was changed, and it verifies", i)
		}
	}
	for name, bad := range map[string][]byte{"empty": nil, "short": raw[:len(raw)-1], "long": append(bytes.Clone(raw), 0), "huge": make([]byte, wire.MaxSignedBytes+1)} {
		_, err := wire.VerifyChallenge(bad, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1)))
		wantReason(t, name, err, wire.ReasonMalformed)
	}
}

func TestStatementOfAnotherEpochBrokerOrTimeIsRefused(t *testing.T) {
	w := federationtest.New(t)
	sign := map[string]func(int) ([]byte, error){
		"record": func(i int) ([]byte, error) {
			r := record(w)
			switch i {
			case 0:
				r.Broker[0]++
			case 1:
				r.Epoch++
			case 2:
				r.Registered = w.Epoch.NotAfter + 1
			}
			return wire.SignRecord(w.EpochKey, w.EpochSigned, r)
		},
		"challenge": func(i int) ([]byte, error) {
			c := challenge(w)
			switch i {
			case 0:
				c.Broker[0]++
			case 1:
				c.Epoch++
			case 2:
				c.Time, c.Deadline = w.Epoch.NotBefore-1, begin
			}
			return wire.SignChallenge(w.EpochKey, w.EpochSigned, c)
		},
	}
	for i := range 4 {
		raw, err := sign["record"](i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = wire.VerifyRecord(raw, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))); (err == nil) != (i == 3) {
			t.Errorf("record %d: %v", i, err)
		}
		if raw, err = sign["challenge"](i); err != nil {
			t.Fatal(err)
		}
		if _, err = wire.VerifyChallenge(raw, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))); (err == nil) != (i == 3) {
			t.Errorf("challenge %d: %v", i, err)
		}
	}
	// Another key than the epoch's: an agent's.
	raw, err := wire.SignRecord(w.Agent(t, nil).Key, w.EpochSigned, record(w))
	if err != nil {
		t.Fatal(err)
	}
	_, err = wire.VerifyRecord(raw, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1)))
	wantReason(t, "another key", err, wire.ReasonSignature)
}

func TestWhatIsNotAStatementIsNotSigned(t *testing.T) {
	w := federationtest.New(t)
	for name, change := range map[string]func(*wire.Challenge){
		"none":       func(c *wire.Challenge) { c.Receipts = nil },
		"many":       func(c *wire.Challenge) { c.Receipts = make([]digest.ReceiptID, wire.MaxChallenged+1) },
		"twice":      func(c *wire.Challenge) { c.Receipts[1] = c.Receipts[0] },
		"descending": func(c *wire.Challenge) { c.Receipts[0] = digest.ReceiptID{9} },
		"no time":    func(c *wire.Challenge) { c.Time = 0 },
		"due at once": func(c *wire.Challenge) {
			c.Deadline = c.Time
		},
	} {
		c := challenge(w)
		change(&c)
		_, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, c)
		wantReason(t, name, err, wire.ReasonMalformed)
	}
	for name, change := range map[string]func(*wire.Record){
		"no time":      func(r *wire.Record) { r.Registered = 0 },
		"not a record": func(r *wire.Record) { r.Record.Library = "" },
	} {
		r := record(w)
		change(&r)
		_, err := wire.SignRecord(w.EpochKey, w.EpochSigned, r)
		wantReason(t, name, err, wire.ReasonMalformed)
	}
	_, err := wire.SignRecord(w.EpochKey, make([]byte, 25<<10), record(w))
	wantReason(t, "a long chain", err, wire.ReasonMalformed)
}

// A statement that was signed in another spelling is not one.
func TestSignedButNotCanonicalIsRefused(t *testing.T) {
	w := federationtest.New(t)
	c := challenge(w)
	body, err := json.Marshal(&c)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"as it is": body, "space": append([]byte(" "), body...), "case": bytes.Replace(body, []byte(`"epoch"`), []byte(`"Epoch"`), 1),
		"unknown": append([]byte(`{"more":1,`), body[1:]...), "twice": append([]byte(`{"epoch":1,`), body[1:]...), "behind": append(bytes.Clone(body), "{}"...)} {
		sig, err := w.EpochKey.Sign(wire.ContextChallenge, protocol.Join(wire.ContextChallenge, body, w.EpochSigned))
		if err != nil {
			t.Fatal(err)
		}
		var b cryptobyte.Builder
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(wire.ContextChallenge)) })
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(body) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(w.EpochSigned) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
		_, err = wire.VerifyChallenge(b.BytesOrPanic(), w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1)))
		if name == "as it is" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		wantReason(t, name, err, wire.ReasonMalformed)
	}
}

// The largest challenge fits into the limits of its encoding.
func TestLargestChallengeFits(t *testing.T) {
	w := federationtest.New(t)
	c := challenge(w)
	c.Receipts = nil
	for i := range wire.MaxChallenged {
		c.Receipts = append(c.Receipts, digest.ReceiptID{byte(i >> 8), byte(i)})
	}
	raw, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.VerifyChallenge(raw, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))); err != nil {
		t.Error(err)
	}
}

func TestBundleHasOneForm(t *testing.T) {
	b := bundle()
	raw, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := wire.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := again.Marshal(); err != nil || !bytes.Equal(second, raw) {
		t.Errorf("%s, %v", second, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "space": string(raw) + " ", "trailing": string(raw) + "{}", "unknown": strings.Replace(string(raw), `{"proof"`, `{"more":1,"proof"`, 1),
		"case": strings.Replace(string(raw), `"output_salts"`, `"OUTPUT_SALTS"`, 1), "huge": strings.Repeat(" ", wire.MaxBundleBytes+1),
		"salt": strings.Replace(string(raw), "AQAAAA", "AQAAA", 1), "padding bits": strings.Replace(string(raw), `AAAAA",`, `AAAAB",`, 1), "null": "null",
	} {
		if bad == string(raw) {
			t.Errorf("%s: not changed", name)
		}
		_, err := wire.ParseBundle([]byte(bad))
		wantReason(t, name, err, wire.ReasonBundle)
	}
}

// The largest bundle fits into its limit.
func TestLargestBundleFits(t *testing.T) {
	b := bundle()
	b.Envelope.Proof = bytes.Repeat([]byte{0xFF}, statement.MaxProofBytes)
	b.OutputSalts, b.Envelope.Statement.Inference.Items = nil, nil
	for i := range statement.MaxItems {
		item := statement.Item{Receipt: digest.ReceiptID{byte(i)}, Outputs: make([]int32, 64)}
		for k := range item.Outputs {
			item.Outputs[k] = -1 << 31
		}
		b.Envelope.Statement.Inference.Items = append(b.Envelope.Statement.Inference.Items, item)
		b.OutputSalts = append(b.OutputSalts, wire.Salt{0xFF})
	}
	check := func() {
		t.Helper()
		raw, err := b.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wire.ParseBundle(raw); err != nil {
			t.Errorf("%d bytes: %v", len(raw), err)
		}
	}
	check()
	b.OutputSalts, b.Envelope.Statement.Inference.Items = b.OutputSalts[:4], b.Envelope.Statement.Inference.Items[:4]
	for i := range b.Envelope.Statement.Inference.Items {
		b.Envelope.Statement.Inference.Items[i].Outputs = make([]int32, statement.MaxOutputs)
	}
	check()
}

// Of lists that are too long nothing is decoded: hundreds of thousands of empty entries would
// hold many times the bytes that the listener accounts for.
func TestManyEntriesAreNotDecoded(t *testing.T) {
	b := bundle()
	raw, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	many := func(n int, entry string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(entry+",", n), ",") + "]"
	}
	announcement := func(list string) []byte { return []byte(`{"receipts":` + list + `}`) }
	if a, err := wire.ParseAnnouncement(announcement(many(wire.MaxAnnounced, `""`))); err != nil || len(a.Receipts) != wire.MaxAnnounced {
		t.Errorf("%d receipts: %v", len(a.Receipts), err)
	}
	for name, tc := range map[string]struct {
		raw   []byte
		parse func([]byte) error
		want  refusal.Reason
	}{
		"one receipt too many": {announcement(many(wire.MaxAnnounced+1, `""`)), parseAnnouncement, wire.ReasonMalformed},
		"receipts":             {announcement(many(690_000, `""`)), parseAnnouncement, wire.ReasonMalformed},
		"lists of receipts":    {announcement(many(32, many(20_000, `""`))), parseAnnouncement, wire.ReasonMalformed},
		"items":                {bytes.Replace(raw, []byte(`"items":[`), []byte(`"items":[`+strings.Repeat("{},", 80_000)), 1), parseBundle, wire.ReasonBundle},
		"salts":                {bytes.Replace(raw, []byte(`"output_salts":[`), []byte(`"output_salts":[`+strings.Repeat("null,", 50_000)), 1), parseBundle, wire.ReasonBundle},
	} {
		if len(tc.raw) == len(raw) {
			t.Errorf("%s: not changed", name)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := tc.parse(tc.raw)
		runtime.ReadMemStats(&after)
		wantReason(t, name, err, tc.want)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%s: %d bytes were allocated for %d", name, n, len(tc.raw))
		}
	}
}

func parseAnnouncement(raw []byte) error {
	_, err := wire.ParseAnnouncement(raw)
	return err
}

func parseBundle(raw []byte) error {
	_, err := wire.ParseBundle(raw)
	return err
}

func TestAnnouncementIsStrict(t *testing.T) {
	a, err := wire.ParseAnnouncement([]byte(`{"receipts":["AQ=="]}`))
	if err != nil || len(a.Receipts) != 1 || a.Receipts[0][0] != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"", "[]", `{"receipts":[1]}`, `{"other":1}`, `{"receipts":[]}x`} {
		_, err := wire.ParseAnnouncement([]byte(bad))
		wantReason(t, bad, err, wire.ReasonMalformed)
	}
}

func TestRedactedAnswerTellsNoOutputs(t *testing.T) {
	p := &wire.ProofView{System: statement.Groth16, Outputs: []int32{1}, Statement: digest.Digest{1}, Digest: digest.Digest{2}}
	a := wire.Answer{Proof: p, Documents: wire.Documents{Bundle: []byte("bundle"), Receipt: []byte("receipt")}}
	a.Redact()
	raw, err := json.Marshal(a)
	if err != nil || strings.Contains(string(raw), "outputs") || strings.Contains(string(raw), `"statement"`) || strings.Contains(string(raw), `"bundle"`) {
		t.Errorf("%s, %v", raw, err)
	}
	if p.Outputs == nil || a.Proof.Digest != p.Digest {
		t.Error("changed what it was made from")
	}
	empty := wire.Answer{Documents: wire.Documents{Receipt: []byte{1}}, Receipt: wire.ReceiptView{Digest: sha256.Sum256([]byte{1})}}
	empty.Redact()
	if err := empty.Verify(nil, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err != nil {
		t.Error(err)
	}
}

// seeds are a signed record and challenge whose signatures are random, for the parsers.
func seeds(f testing.TB) [][]byte {
	w := federationtest.New(f)
	r, err := wire.SignRecord(w.EpochKey, w.EpochSigned, record(w))
	if err != nil {
		f.Fatal(err)
	}
	c, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, challenge(w))
	if err != nil {
		f.Fatal(err)
	}
	return [][]byte{r, c, r[:50], c[:200]}
}

// Each refusal of an introduction alone: it is of the attested key, under a lease that may
// serve, for one connection.
func TestIntroductions(t *testing.T) {
	w := federationtest.New(t)
	connection := wire.ConnectionOf([]byte("exporter"))
	now := federationtest.Begin.Add(time.Minute)
	introduced := func(a *federationtest.Agent, key *identity.Private, change func(*wire.Introduction)) []byte {
		i := wire.Introduction{Connection: connection, Agent: a.Key.Public().ID(), Time: now}
		if change != nil {
			change(&i)
		}
		raw, err := wire.SignIntroduction(key, a.Chain, i)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	agent, other := w.Agent(t, nil), w.Agent(t, nil)
	for name, tc := range map[string]struct {
		raw   []byte
		floor protocol.Floor
		want  refusal.Reason
	}{
		"as it should be":    {introduced(agent, agent.Key, nil), w.Floor(), ""},
		"another connection": {introduced(agent, agent.Key, func(i *wire.Introduction) { i.Connection[0] ^= 1 }), w.Floor(), wire.ReasonSignature},
		"another agent":      {introduced(agent, agent.Key, func(i *wire.Introduction) { i.Agent = other.Key.Public().ID() }), w.Floor(), wire.ReasonSignature},
		"another key":        {introduced(agent, other.Key, nil), w.Floor(), wire.ReasonSignature},
		"after the lease":    {introduced(agent, agent.Key, func(i *wire.Introduction) { i.Time = agent.Lease.NotAfter }), w.Floor(), wire.ReasonSignature},
		"another role": {func() []byte {
			a := w.Agent(t, func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, protocol.RoleContribute) })
			return introduced(a, a.Key, nil)
		}(), w.Floor(), protocol.ReasonRole},
		"a retired epoch":       {introduced(agent, agent.Key, nil), protocol.Live(protocol.AtLeast(2), now), protocol.ReasonEpochRetired},
		"an epoch that is over": {introduced(agent, agent.Key, nil), protocol.Live(protocol.AtLeast(1), w.Epoch.NotAfter), protocol.ReasonEpochNotValid},
		"a challenge":           {seeds(t)[1], w.Floor(), wire.ReasonMalformed},
		"nothing":               {nil, w.Floor(), wire.ReasonMalformed},
	} {
		a, err := wire.VerifyIntroduction(tc.raw, w.Roots(), w.Broker(), tc.floor, connection)
		wantReason(t, name, err, tc.want)
		if tc.want == "" && a.Lease.AgentKey.ID() != agent.Key.Public().ID() {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for name, i := range map[string]wire.Introduction{"no connection": {Time: now}, "no time": {Connection: connection}} {
		_, err := wire.SignIntroduction(agent.Key, agent.Chain, i)
		wantReason(t, name, err, wire.ReasonMalformed)
	}
}

// What parses has the limits that its fields promise.
func FuzzParseSigned(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := wire.ParseRecord(raw); err == nil && (r.Record.Check() != nil || r.Registered == 0) {
			t.Errorf("%+v", r)
		}
		if c, err := wire.ParseChallenge(raw); err == nil && (len(c.Receipts) == 0 || c.Deadline <= c.Time || c.Time == protocol.Time(0)) {
			t.Errorf("%+v", c)
		}
		if _, err := wire.VerifyIntroduction(raw, nil, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), digest.Digest{1}); err == nil {
			t.Error("believed without a root")
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	b := bundle()
	raw, err := b.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"proof":{},"output_salts":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := wire.ParseBundle(raw)
		if err != nil {
			return
		}
		if again, err := b.Marshal(); err != nil || !bytes.Equal(again, raw) || b.Check() != nil {
			t.Errorf("a bundle has two forms: %v", err)
		}
	})
}

func FuzzParseAnnouncement(f *testing.F) {
	f.Add([]byte(`{"receipts":["AQ=="]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := wire.ParseAnnouncement(raw)
		if err == nil && len(a.Receipts) > len(raw) {
			t.Error("more receipts than bytes")
		}
	})
}
