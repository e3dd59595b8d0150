package expect

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/spf13/cobra"
)

// parse reads flags.
func parse(t *testing.T, args ...string) (receipt.Expect, error) {
	t.Helper()
	var e Expectation
	c := &cobra.Command{}
	e.Flags(c)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return e.Parse()
}

// TestNothingIsExpectedThatWasNotAskedFor, and what was asked for is read whole.
func TestNothingIsExpectedThatWasNotAskedFor(t *testing.T) {
	if got, err := parse(t); err != nil || len(got.Measurements)+len(got.Images)+len(got.Policies)+len(got.Tenants) != 0 || got.ModelID != nil || got.MinEpoch != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	launch, image, id := strings.Repeat("0a", 48), "sha256:"+strings.Repeat("0b", 32), strings.Repeat("0c", 32)
	got, err := parse(t, "--measurement", launch, "--measurement", "sha384:"+launch, "--measurement", "launch="+launch, "--image", image, "--image", image, "--policy", id, "--tenant", "a,b", "--model-id", id, "--min-epoch", "4")
	if err != nil || len(got.Measurements) != 3 || len(got.Images) != 2 || len(got.Policies) != 1 || len(got.Tenants) != 2 || got.ModelID[0] != 0x0c || got.MinEpoch != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, r := range got.Measurements {
		if r.Name != "launch" || len(r.Value) != 48 {
			t.Errorf("%+v", r)
		}
	}
}

// TestWhatIsMalformedIsAWrongCommandLine, by the flag that has it.
func TestWhatIsMalformedIsAWrongCommandLine(t *testing.T) {
	for _, args := range [][2]string{
		{"--measurement", "0a"}, {"--measurement", strings.Repeat("zz", 48)}, {"--measurement", "=" + strings.Repeat("0a", 48)}, {"--measurement", "sha256:" + strings.Repeat("0a", 32)},
		{"--image", strings.Repeat("0b", 32)}, {"--image", "sha256:0b"}, {"--policy", "0c"}, {"--model-id", strings.Repeat("0c", 31)}, {"--model-id", "sha256:" + strings.Repeat("0c", 32)},
	} {
		if _, err := parse(t, args[:]...); cli.StatusOf(err) != cli.StatusUsage || !strings.HasPrefix(err.Error(), args[0]+": ") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestASoftwareTEEIsRefusedUnlessItIsAccepted: nothing else is refused here.
func TestASoftwareTEEIsRefusedUnlessItIsAccepted(t *testing.T) {
	for _, c := range []struct{ accepted, software, refused bool }{{false, false, false}, {false, true, true}, {true, true, false}, {true, false, false}} {
		e := Expectation{software: c.accepted}
		err := e.Vouched(c.software)
		if reason, _ := refusal.ReasonOf(err); (err != nil) != c.refused || c.refused && reason != policy.ReasonSoftwareTEE {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestWhatIsLeftOpenIsPrinted with the flag that would have it checked, if there is one.
func TestWhatIsLeftOpenIsPrinted(t *testing.T) {
	var out strings.Builder
	PrintUnchecked(&out, []receipt.Unchecked{{Name: "measurement", Detail: "was not given"}, {Name: "epoch floor", Detail: "none"}, {Name: "platform since", Detail: "no receipt can say"}})
	if got, want := out.String(), "  NOT CHECKED  measurement: was not given (--measurement)\n  NOT CHECKED  epoch floor: none (--min-epoch)\n  NOT CHECKED  platform since: no receipt can say\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	out.Reset()
	g := receipt.Guest{Tenant: "", Epoch: 4}
	PrintGuest(&out, g, true)
	if !strings.Contains(out.String(), "tenant       not checked by the policy\n") || strings.Contains(out.String(), "granted") {
		t.Errorf("without a tenant and a key:\n%s", out.String())
	}
	out.Reset()
	PrintGuest(&out, g, false)
	if !strings.Contains(out.String(), "authority    not recorded: ") || strings.Contains(out.String(), "tenant") {
		t.Errorf("of version 1:\n%s", out.String())
	}
}
