package receipt

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

const begin = protocol.Time(1_795_000_000_000)

// world is a broker and an attested agent, by their keys alone.
type world struct {
	root, epochKey, agentKey *identity.Private
	epoch                    protocol.EpochStatement
	lease                    protocol.LeaseCertificate
}

func newKey(t testing.TB, level identity.Level) *identity.Private {
	t.Helper()
	k, err := identity.Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func newWorld(t testing.TB) *world {
	w := &world{root: newKey(t, identity.LevelRoot), epochKey: newKey(t, identity.LevelEpoch), agentKey: newKey(t, identity.LevelEpoch)}
	w.epoch = protocol.EpochStatement{
		Broker: w.root.Public().ID(), Epoch: 3, MinEpoch: 2, Key: w.epochKey.Public(),
		NotBefore: begin - 1000, NotAfter: begin + 1e9, AnyPolicy: true, AuditKey: [32]byte{1},
	}
	w.lease = protocol.LeaseCertificate{
		Lease: digest.LeaseID{7}, Broker: w.epoch.Broker, Epoch: 3, AgentKey: w.agentKey.Public(),
		Kind: evidence.KindSNP, SoftwareTEE: true, EvidenceDigest: [32]byte{8}, Registers: []evidence.Register{{Name: evidence.RegisterLaunch, Value: make([]byte, 48)}},
		Grants:  []protocol.Granted{{Resource: "models/demo", Version: 4, Subject: [32]byte{5}, Roles: protocol.RoleServe}},
		ImageID: "image-1", PolicyID: "demo", PolicyVersion: 4, NotBefore: begin, NotAfter: begin + 300_000,
	}
	return w
}

func (w *world) chain(t testing.TB) []byte {
	t.Helper()
	epoch, err := protocol.SignEpoch(w.root, w.epoch)
	if err != nil {
		t.Fatal(err)
	}
	if w.lease.Image, err = evidence.ImageOf(w.lease.Kind, w.lease.Registers); err != nil {
		t.Fatal(err)
	}
	lease, err := protocol.SignLease(w.epochKey, w.lease)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := protocol.MarshalLeaseChain(epoch, lease)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func (w *world) roots() []identity.Public { return []identity.Public{w.root.Public()} }

var answer = Answer{
	ID: digest.ReceiptID{6}, ModelID: [32]byte{5}, ModelName: "smollm2-135m", ModelVersion: 2,
	Input: []byte(`{"messages":[]}`), Output: []byte("Paris."), PromptTokens: 30, CompletionTokens: 8,
}

func (w *world) issue(t testing.TB, now protocol.Time) Issued {
	t.Helper()
	id, err := NewID()
	if err != nil {
		t.Fatal(err)
	}
	answer := answer
	answer.ID = id
	out, err := Issue(w.agentKey, Lease{ID: w.lease.Lease, EvidenceDigest: w.lease.EvidenceDigest, Chain: w.chain(t), Now: now}, answer)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// openings are the client's proof of what it asked and got.
func openings(i Issued) Options {
	return Options{Input: &Opening{i.Salts.Input, answer.Input}, Output: &Opening{i.Salts.Output, answer.Output}}
}

func TestReceiptVerifiesWithTheRootAlone(t *testing.T) {
	w := newWorld(t)
	issued := w.issue(t, begin+1000)
	raw, err := issued.Receipt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Verify(parsed, append([]identity.Public{newKey(t, identity.LevelRoot).Public()}, w.roots()...), openings(issued))
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(report.Links))
	for i, l := range report.Links {
		names[i] = l.Name
	}
	if !slices.Equal(names, []string{"broker root", "epoch statement", "lease certificate", "authority", "agent key", "body", "input", "output"}) {
		t.Errorf("links %v", names)
	}
	if !report.SoftwareTEE || !report.InputShown || !report.OutputShown || !strings.Contains(report.Links[2].Detail, "NO protection") {
		t.Errorf("report %+v", report)
	}
	t.Logf("%d bytes", len(raw))
}

func TestReportSaysWhatWasNotChecked(t *testing.T) {
	w := newWorld(t)
	report, err := Verify(w.issue(t, begin).Receipt, w.roots(), Options{})
	if err != nil || report.InputShown || report.OutputShown || len(report.Links) != 6 {
		t.Errorf("report %+v, %v", report, err)
	}
}

// TestTamperMatrix changes one thing at a time; each is refused for its own reason.
func TestTamperMatrix(t *testing.T) {
	w := newWorld(t)
	good := w.issue(t, begin+1000)
	resign := func(r Receipt) Receipt {
		out, err := Sign(w.agentKey, r.Body, r.LeaseChain)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, c := range []struct {
		name  string
		want  refusal.Reason
		tweak func(r *Receipt, o *Options, roots *[]identity.Public)
	}{
		{"no roots", protocol.ReasonBrokerUnknown, func(_ *Receipt, _ *Options, roots *[]identity.Public) { *roots = nil }},
		{"other root", protocol.ReasonBrokerUnknown, func(_ *Receipt, _ *Options, roots *[]identity.Public) {
			*roots = []identity.Public{newKey(t, identity.LevelRoot).Public()}
		}},
		{"zero root", protocol.ReasonBrokerUnknown, func(_ *Receipt, _ *Options, roots *[]identity.Public) { *roots = []identity.Public{{}} }},
		{"epoch key as root", protocol.ReasonBrokerUnknown, func(_ *Receipt, _ *Options, roots *[]identity.Public) {
			*roots = []identity.Public{w.epochKey.Public()}
		}},
		{"epoch below minimum", protocol.ReasonEpochRetired, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Expect.MinEpoch = 4 }},
		{"body changed", ReasonSignature, func(r *Receipt, _ *Options, _ *[]identity.Public) { r.Body.CompletionTokens++ }},
		{"signed by another key", ReasonSignature, func(r *Receipt, _ *Options, _ *[]identity.Public) {
			*r, _ = Sign(newKey(t, identity.LevelEpoch), r.Body, r.LeaseChain)
		}},
		{"signed under another context", ReasonSignature, func(r *Receipt, _ *Options, _ *[]identity.Public) {
			msg, _ := r.Body.Marshal()
			r.Signature, _ = w.agentKey.Sign("anchorhold/kbp/1/M7", msg)
		}},
		{"other lease", ReasonLease, func(r *Receipt, _ *Options, _ *[]identity.Public) { r.Body.LeaseID[0]++; *r = resign(*r) }},
		{"other evidence", ReasonEvidence, func(r *Receipt, _ *Options, _ *[]identity.Public) {
			r.Body.EvidenceDigest[0]++
			*r = resign(*r)
		}},
		{"before the lease", ReasonTime, func(r *Receipt, _ *Options, _ *[]identity.Public) { r.Body.Time = begin - 1; *r = resign(*r) }},
		{"at the lease's end", ReasonTime, func(r *Receipt, _ *Options, _ *[]identity.Public) {
			r.Body.Time = begin + 300_000
			*r = resign(*r)
		}},
		{"body without name", ReasonMalformed, func(r *Receipt, _ *Options, _ *[]identity.Public) { r.Body.ModelName = "" }},
		{"input", ReasonInput, func(_ *Receipt, o *Options, _ *[]identity.Public) {
			o.Input.Data = append(bytes.Clone(o.Input.Data), 'x')
		}},
		{"input salt", ReasonInput, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Input.Salt[31]++ }},
		{"output", ReasonOutput, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Output.Data = nil }},
		{"output salt", ReasonOutput, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Output.Salt[0]++ }},
		{"output shown as input", ReasonInput, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Input = o.Output }},
		{"other broker's lease", protocol.ReasonBrokerSignature, func(r *Receipt, _ *Options, _ *[]identity.Public) {
			rogue := *w
			rogue.epochKey = newKey(t, identity.LevelEpoch)
			lease, _ := protocol.SignLease(rogue.epochKey, w.lease)
			epoch, _ := protocol.SignEpoch(w.root, w.epoch)
			r.LeaseChain, _ = protocol.MarshalLeaseChain(epoch, lease)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, o, roots := good.Receipt, openings(good), w.roots()
			c.tweak(&r, &o, &roots)
			_, err := Verify(r, roots, o)
			if reason, _ := refusal.ReasonOf(err); reason != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if _, err := Verify(good.Receipt, w.roots(), openings(good)); err != nil {
		t.Errorf("the untouched receipt: %v", err)
	}
}

// TestFlippedBitsRefused flips a bit in every byte of the body and in every 17th of
// the signatures and the chain.
func TestFlippedBitsRefused(t *testing.T) {
	w := newWorld(t)
	raw, err := w.issue(t, begin+1000).Receipt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	other := newWorld(t).issue(t, begin).Receipt.Body
	body, err := other.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(raw); i++ {
		if i > len(body)+64 { // within signatures and keys a sample will do
			i += 16
		}
		if i >= len(raw) {
			break
		}
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		r, err := Parse(bad)
		if err == nil {
			_, err = Verify(r, w.roots(), Options{})
		}
		if _, ok := refusal.ReasonOf(err); !ok {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

func TestTruncatedAndTrailingRefused(t *testing.T) {
	raw, err := newWorld(t).issue(t, begin).Receipt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for n := range raw {
		if _, err := Parse(raw[:n]); err == nil {
			t.Fatalf("%d of %d bytes parse", n, len(raw))
		}
	}
	if _, err := Parse(append(bytes.Clone(raw), 0)); err == nil {
		t.Error("a trailing byte parses")
	}
	if b, _ := (&Body{ID: digest.ReceiptID{1}, ModelName: "m", Time: 1}).Marshal(); len(b) == 0 {
		t.Error("no body")
	} else if _, err := parseBody(append(b, 0)); err == nil {
		t.Error("a trailing byte within the body parses")
	}
	if _, err := Parse(make([]byte, MaxBytes+1)); err == nil {
		t.Error("an oversized receipt parses")
	}
}

func TestJSONHasOneSpelling(t *testing.T) {
	w := newWorld(t)
	issued := w.issue(t, begin+1234)
	text, err := json.MarshalIndent(issued, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var back Issued
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(back.Receipt, w.roots(), openings(back)); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(issued.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"unknown field":   {`{"format"`, `{"extra":1,"format"`},
		"duplicate field": {`"model_name":"smollm2-135m"`, `"model_name":"other","model_name":"smollm2-135m"`},
		"other case":      {`"model_version"`, `"Model_Version"`},
		"number spelling": {`"model_version":2`, `"model_version":2.0`},
		"escape":          {`"smollm2-135m"`, `"smollm2\u002d135m"`},
		"time precision":  {`234Z"`, `2340Z"`},
		"other format":    {Context, "anchorhold/receipt/3"},
		"upper case hex":  {`"model_id":"05`, `"model_id":"0A`},
		"short digest":    {`"model_id":"05`, `"model_id":"`},
		"no signature":    {`"signature":"`, `"signature":"","x":"`},
		"bad name":        {`"smollm2-135m"`, `"smol lm"`},
		"trailing":        {`"lease_chain"`, `"lease_chain":"","lease_chain"`},
	} {
		bad := strings.Replace(string(raw), edit[0], edit[1], 1)
		if bad == string(raw) {
			t.Fatalf("%s: nothing replaced", name)
		}
		if r, err := ParseJSON([]byte(bad)); err == nil {
			t.Errorf("%s: parsed as %+v", name, r.Body)
		}
	}
	if _, err := ParseJSON(bytes.Repeat([]byte(" "), MaxJSONBytes+1)); err == nil {
		t.Error("oversized JSON parses")
	}
}

func TestFileWithAndWithoutSalts(t *testing.T) {
	w := newWorld(t)
	issued := w.issue(t, begin)
	alone, err := json.Marshal(issued.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := json.MarshalIndent(issued, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if r, _, has, err := ParseFile(alone); err != nil || has || r.Body != issued.Receipt.Body {
		t.Error(has, err)
	}
	if r, salts, has, err := ParseFile(whole); err != nil || !has || salts != issued.Salts || r.Body != issued.Receipt.Body {
		t.Error(has, err)
	}
	for _, bad := range []string{"", "[]", `{"receipt":{}}`, `{"receipt":1,"salts":{}}`, strings.Replace(string(whole), `"output": "`, `"output": "x`, 1)} {
		if _, _, _, err := ParseFile([]byte(bad)); err == nil {
			t.Errorf("%.40q parses", bad)
		}
	}
	if _, _, _, err := ParseFile(make([]byte, MaxJSONBytes+1)); err == nil {
		t.Error("an oversized file parses")
	}
}

func TestSignRefusesWhatParseWould(t *testing.T) {
	w := newWorld(t)
	good := w.issue(t, begin).Receipt.Body
	for name, edit := range map[string]func(*Body, *[]byte){
		"no id":     func(b *Body, _ *[]byte) { b.ID = digest.ReceiptID{} },
		"no name":   func(b *Body, _ *[]byte) { b.ModelName = "" },
		"long name": func(b *Body, _ *[]byte) { b.ModelName = strings.Repeat("x", maxNameBytes+1) },
		"no time":   func(b *Body, _ *[]byte) { b.Time = 0 },
		"no chain":  func(_ *Body, c *[]byte) { *c = nil },
		"big chain": func(_ *Body, c *[]byte) { *c = make([]byte, maxChainBytes+1) },
	} {
		b, chain := good, w.chain(t)
		edit(&b, &chain)
		if _, err := Sign(w.agentKey, b, chain); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestCommitmentsHideAndDiffer(t *testing.T) {
	w := newWorld(t)
	a, b := w.issue(t, begin).Receipt.Body, w.issue(t, begin).Receipt.Body
	if a.InputCommitment == b.InputCommitment || a.OutputCommitment == b.OutputCommitment || a.ID == b.ID {
		t.Error("two receipts of the same answer are linkable")
	}
	if CommitInput(Salt{1}, []byte("x")) == CommitOutput(Salt{1}, []byte("x")) {
		t.Error("input and output commit alike")
	}
}

func TestParseID(t *testing.T) {
	id := digest.ReceiptID{1, 0xab}
	if got, err := digest.ParseID[digest.Receipt](id.String()); err != nil || got != id {
		t.Error(got, err)
	}
	for _, bad := range []string{"", "xy", strings.ToUpper(id.String()), id.String() + "0", "../" + id.String()[3:]} {
		if _, err := digest.ParseID[digest.Receipt](bad); err == nil {
			t.Errorf("%q parses", bad)
		}
	}
}

func TestSaltHasOneText(t *testing.T) {
	var s Salt
	text, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.UnmarshalText([]byte(string(text[:4]) + "\n" + string(text[4:]))); err == nil {
		t.Error("a salt with a line break inside was read")
	}
}
