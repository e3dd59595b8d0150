package receipt

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if reason, _ := refusal.ReasonOf(err); reason != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestGuestWithAnotherKeySignsNoReceipt: a guest with a lease of its own, for a resource
// of its own, signed receipts for a model whose key it never had, and they verified.
func TestGuestWithAnotherKeySignsNoReceipt(t *testing.T) {
	w := newWorld(t)
	if _, err := Verify(w.issue(t, begin).Receipt, w.roots(), Options{}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*protocol.LeaseCertificate)
		want   refusal.Reason
	}{
		"a key of another model": {func(c *protocol.LeaseCertificate) { c.Grants[0].Subject[0]++ }, protocol.ReasonNotGranted},
		"a key for nothing":      {func(c *protocol.LeaseCertificate) { c.Grants[0].Subject = [32]byte{} }, protocol.ReasonNotGranted},
		"no role":                {func(c *protocol.LeaseCertificate) { c.Grants[0].Roles = 0 }, protocol.ReasonRole},
		"the other roles": {func(c *protocol.LeaseCertificate) {
			c.Grants[0].Roles = protocol.RoleContribute | protocol.RoleDecrypt | protocol.RoleParty
		}, protocol.ReasonRole},
	} {
		adversary := *w
		adversary.lease.Grants = slices.Clone(w.lease.Grants)
		tc.change(&adversary.lease)
		report, err := Verify(adversary.issue(t, begin).Receipt, w.roots(), Options{})
		if reason, _ := refusal.ReasonOf(err); reason != tc.want || len(report.Links) > 0 {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
	zero := *w
	id := answer.ModelID
	answer.ModelID = [32]byte{}
	t.Cleanup(func() { answer.ModelID = id })
	zero.lease.Grants = []protocol.Granted{{Resource: "models/demo", Version: 1, Roles: protocol.RoleServe}}
	_, err := Verify(zero.issue(t, begin).Receipt, w.roots(), Options{})
	wantReason(t, err, protocol.ReasonNotGranted)
}

// TestExpectationsEachAlone asks one genuine receipt for what it is not.
func TestExpectationsEachAlone(t *testing.T) {
	w := newWorld(t)
	w.lease.Tenant, w.lease.PolicyDigest = "tenant-1", [32]byte{4}
	w.lease.Registers = []evidence.Register{{Name: "launch", Value: bytes.Repeat([]byte{7}, 48)}, {Name: "rtmr-0", Value: bytes.Repeat([]byte{9}, 48)}}
	r := w.issue(t, begin).Receipt
	model := answer.ModelID
	all := Expect{Measurements: w.lease.Registers, Images: []evidence.ImageDigest{{}, w.lease.Image}, Policies: []protocol.PolicyDigest{{4}},
		Tenants: []string{"tenant-0", "tenant-1"}, ModelID: &model, MinEpoch: 3}
	if _, err := Verify(r, w.roots(), Options{Expect: all}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*Expect)
		want   refusal.Reason
	}{
		"measurement": {func(e *Expect) {
			e.Measurements = []evidence.Register{{Name: "launch", Value: bytes.Repeat([]byte{8}, 48)}}
		}, ReasonMeasurement},
		"second measurement": {func(e *Expect) {
			e.Measurements = []evidence.Register{w.lease.Registers[0], {Name: "rtmr-0", Value: bytes.Repeat([]byte{7}, 48)}}
		}, ReasonMeasurement},
		"no such measurement": {func(e *Expect) {
			e.Measurements = []evidence.Register{{Name: "rtmr-1", Value: w.lease.Registers[1].Value}}
		}, ReasonMeasurement},
		"image":  {func(e *Expect) { e.Images = []evidence.ImageDigest{{Algorithm: evidence.ImageSHA256}} }, ReasonImage},
		"policy": {func(e *Expect) { e.Policies = []protocol.PolicyDigest{{5}} }, ReasonPolicy},
		"tenant": {func(e *Expect) { e.Tenants = []string{"tenant-2"} }, ReasonTenant},
		"model":  {func(e *Expect) { e.ModelID = &[32]byte{6} }, ReasonModel},
		"epoch":  {func(e *Expect) { e.MinEpoch = 4 }, protocol.ReasonEpochRetired},
	} {
		e := all
		tc.change(&e)
		if _, err := Verify(r, w.roots(), Options{Expect: e}); err == nil {
			t.Errorf("%s: verified", name)
		} else if reason, _ := refusal.ReasonOf(err); reason != tc.want {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
	w.lease.Tenant = ""
	_, err := Verify(w.issue(t, begin).Receipt, w.roots(), Options{Expect: Expect{Tenants: []string{""}}})
	wantReason(t, err, ReasonTenant)
}

// TestReportListsWhatNobodyAsked: whoever asks nothing is told that nothing was checked.
func TestReportListsWhatNobodyAsked(t *testing.T) {
	w := newWorld(t)
	issued := w.issue(t, begin)
	names := func(o Options) []string {
		report, err := Verify(issued.Receipt, w.roots(), o)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, u := range report.NotChecked {
			list = append(list, u.Name)
		}
		return list
	}
	if got, want := names(Options{}), []string{"measurement", "image", "policy", "model", "tenant", "epoch floor", "epoch since", "platform since", "input", "output", "software TEE"}; !slices.Equal(got, want) {
		t.Errorf("without expectations %v, want %v", got, want)
	}
	w.lease.SoftwareTEE, w.lease.Tenant = false, "t"
	issued = w.issue(t, begin)
	o, model := openings(issued), answer.ModelID
	o.Expect = Expect{Measurements: w.lease.Registers, Images: []evidence.ImageDigest{w.lease.Image}, Policies: []protocol.PolicyDigest{w.lease.PolicyDigest},
		Tenants: []string{"t"}, ModelID: &model, MinEpoch: 3}
	if got, want := names(o), []string{"epoch since", "platform since"}; !slices.Equal(got, want) {
		t.Errorf("with every expectation %v, want %v: no receipt can say these", got, want)
	}
}

func TestReportNamesGuestAndGrantedKey(t *testing.T) {
	w := newWorld(t)
	w.lease.Tenant = "tenant-1"
	report, err := Verify(w.issue(t, begin).Receipt, w.roots(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := report.Guest
	if g.Granted == nil || g.Granted.Resource != "models/demo" || g.Granted.Version != 4 || g.Tenant != "tenant-1" || g.Roles != "serve" ||
		g.Image != w.lease.Image || len(g.Measurements) != 1 || g.ImageID != "image-1" || !report.AuthorityRecorded {
		t.Errorf("%+v", g)
	}
}

// former is a receipt of version 1, as it was written then. The file stays for ever.
type former struct {
	Root          identity.Public `json:"root"`
	Issued        Issued          `json:"issued"`
	Input, Output string
}

func readFormer(t testing.TB) former {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "receipt-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f former
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestVersionOneHoldsWithoutAuthority: it is refused by name, with its links and what it
// cannot say; and whatever else is wrong with it is still found.
func TestVersionOneHoldsWithoutAuthority(t *testing.T) {
	f := readFormer(t)
	roots := []identity.Public{f.Root}
	o := Options{Input: &Opening{f.Issued.Salts.Input, []byte(f.Input)}, Output: &Opening{f.Issued.Salts.Output, []byte(f.Output)}}
	report, err := Verify(f.Issued.Receipt, roots, o)
	wantReason(t, err, protocol.ReasonAuthorityNotRecorded)
	if report.AuthorityRecorded || len(report.Links) != 8 || !strings.Contains(report.Links[3].Detail, "authority not recorded") || report.NotChecked[0].Name != "authority" {
		t.Errorf("report %+v", report)
	}
	if g := report.Guest; g.Granted != nil || g.Roles != "none" || g.Measurements[0].Value[0] != 0xab || g.Image.Algorithm != evidence.ImageSHA256 {
		t.Errorf("guest %+v", g)
	}
	raw, err := f.Issued.Receipt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(raw); err != nil || again.Body != f.Issued.Receipt.Body || !again.Body.Former() {
		t.Errorf("binary form: %+v, %v", again.Body, err)
	}
	w := newWorld(t)
	for name, tc := range map[string]struct {
		want   refusal.Reason
		change func(*Receipt, *Options, *[]identity.Public)
	}{
		"another root":     {protocol.ReasonBrokerUnknown, func(_ *Receipt, _ *Options, roots *[]identity.Public) { *roots = w.roots() }},
		"epoch floor":      {protocol.ReasonEpochRetired, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Expect.MinEpoch = 4 }},
		"body":             {ReasonSignature, func(r *Receipt, _ *Options, _ *[]identity.Public) { r.Body.PromptTokens++ }},
		"another key":      {ReasonSignature, func(r *Receipt, _ *Options, _ *[]identity.Public) { r.Signature = w.issue(t, begin).Receipt.Signature }},
		"another input":    {ReasonInput, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Input = o.Output }},
		"another image":    {ReasonImage, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Expect.Images = make([]evidence.ImageDigest, 1) }},
		"a tenant":         {protocol.ReasonAuthorityNotRecorded, func(_ *Receipt, o *Options, _ *[]identity.Public) { o.Expect.Tenants = []string{""} }},
		"as version 2":     {ReasonMalformed, func(r *Receipt, _ *Options, _ *[]identity.Public) { r.Body.former = false }},
		"a lease that has": {ReasonMalformed, func(r *Receipt, _ *Options, roots *[]identity.Public) { r.LeaseChain = w.chain(t); *roots = w.roots() }},
	} {
		r, o, roots := f.Issued.Receipt, o, slices.Clone(roots)
		tc.change(&r, &o, &roots)
		report, err := Verify(r, roots, o)
		if reason, _ := refusal.ReasonOf(err); reason != tc.want || len(report.Links) > 0 {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
}
