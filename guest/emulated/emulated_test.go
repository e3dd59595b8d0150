//go:build !release

package emulated_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/emulated"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/brokertest/domaintest"
)

var challenge = [64]byte{7, 8, 9}

// verifier believes a guest by what it says that a broker has to know.
func verifier(t *testing.T, g *emulated.Guest) *kinds.Verifier {
	t.Helper()
	var o kinds.Options
	if g.KeyName() != nil {
		o.Enrolled = [][]byte{g.KeyName()}
	}
	if td := g.Domain(); td != nil {
		o.TDX, o.TDXCollateral = domaintest.Verifier(t, td, g.RootsPEM())
	}
	return kinds.New(o)
}

// TestGuestsAreWhatTheySay: the broker's verifier finds the registers that a guest names, its log
// leads to them, and a guest of another measurement differs in what names the image. SEV-SNP's keys
// take long to make; the demo and guest/teesim show them.
func TestGuestsAreWhatTheySay(t *testing.T) {
	for _, kind := range []evidence.Kind{evidence.KindTDX, evidence.KindVTPM, evidence.KindAzureTDX} {
		dir := t.TempDir()
		g, err := emulated.New(t.Context(), emulated.Options{Kind: kind, Dir: dir, Measurement: [48]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		env, err := g.Collect(t.Context(), challenge)
		if err != nil || env.Kind != kind || !slices.Equal(g.Kinds(), []evidence.Kind{kind}) {
			t.Fatal(env.Kind, err)
		}
		claims, err := verifier(t, g).Appraise(t.Context(), env, challenge, time.Now())
		if err != nil || claims.EventLog == nil || !*claims.EventLog.SecureBoot {
			t.Fatalf("%s: %+v, %v", kind, claims, err)
		}
		if claims.SoftwareTEE != (kind != evidence.KindVTPM) {
			t.Errorf("%s: software %t", kind, claims.SoftwareTEE)
		}
		for name, value := range g.Registers() {
			if !slices.ContainsFunc(claims.Registers, func(m evidence.Measured) bool { return m.Name == name && m.Value.String() == value }) {
				t.Errorf("%s: %s is not %s", kind, name, value)
			}
		}
		other, err := emulated.New(t.Context(), emulated.Options{Kind: kind, Dir: dir, Measurement: [48]byte{2}})
		if err != nil {
			t.Fatal(err)
		}
		if string(other.KeyName()) != string(g.KeyName()) {
			t.Errorf("%s: another key in the same directory", kind)
		}
		same := true
		for name, value := range g.Registers() {
			same = same && other.Registers()[name] == value
		}
		if same {
			t.Errorf("%s: another image has the same measurements", kind)
		}
	}
}

// TestAGuestThatNobodyEnrolledIsRefused: nothing but the name makes its key believed.
func TestAGuestThatNobodyEnrolledIsRefused(t *testing.T) {
	one, err := emulated.New(t.Context(), emulated.Options{Kind: evidence.KindVTPM, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	another, err := emulated.New(t.Context(), emulated.Options{Kind: evidence.KindVTPM, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	env, err := one.Collect(t.Context(), challenge)
	if err != nil {
		t.Fatal(err)
	}
	_, err = verifier(t, another).Appraise(t.Context(), env, challenge, time.Now())
	if reason, _ := refusal.ReasonOf(err); reason != "tpm-key-untrusted" {
		t.Error(err)
	}
}

func TestUnknownKindsHaveNoGuest(t *testing.T) {
	if _, err := emulated.New(t.Context(), emulated.Options{Kind: "arm-cca", Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "arm-cca") {
		t.Error(err)
	}
}
