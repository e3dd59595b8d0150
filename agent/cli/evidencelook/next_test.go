package evidencelook

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli/evidencejudge"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// TestNextStepsAreOfKnownReasons: each is for a reason of the protocol's list, and names flags and
// commands that there are.
func TestNextStepsAreOfKnownReasons(t *testing.T) {
	page, err := os.ReadFile("../../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for reason, text := range next {
		if !strings.Contains(string(page), "`"+reason+"`") {
			t.Errorf("%s is no reason of docs/protocol.md", reason)
		}
		if !strings.Contains(text, "--") && !strings.Contains(text, "'anchorhold ") {
			t.Errorf("%s: %q names nothing to write", reason, text)
		}
	}
}

// TestARefusalSaysWhatToDo where something is missing, in text and JSON, and nothing where the guest is
// at fault.
func TestARefusalSaysWhatToDo(t *testing.T) {
	for reason, says := range map[refusal.Reason]string{"certificate-missing": "What to do: give the chip's certificate", "report-signature-invalid": ""} {
		v := verified{Verdict: evidencejudge.Verdict{Error: &evidencejudge.Failure{Reason: reason, Message: "why"}}, Next: next[string(reason)]}
		var out bytes.Buffer
		printVerdict(&out, v)
		if got := strings.Contains(out.String(), "What to do:"); got != (says != "") || !strings.Contains(out.String(), says) {
			t.Errorf("%s:\n%s", reason, &out)
		}
	}
}

// TestRegistersAreInTheirOrder, as people count: JSON and claims have them in that of their digits.
func TestRegistersAreInTheirOrder(t *testing.T) {
	var out bytes.Buffer
	printObject(&out, []byte(`{"0":"a","10":"b","2":"c"}`), "")
	if got := strings.Join(strings.Fields(out.String()), " "); got != "0 a 2 c 10 b" {
		t.Errorf("got %q", got)
	}
	out.Reset()
	printObject(&out, []byte(`{"b2":"a","10":"b","a1":"c"}`), "")
	if got := strings.Join(strings.Fields(out.String()), " "); got != "b2 a 10 b a1 c" {
		t.Errorf("got %q", got)
	}
	for _, c := range []struct{ first, then string }{{"pcr2", "pcr10"}, {"launch", "pcr0"}, {"mrtd", "rtmr0"}, {"pcr9", "pcr10"}} {
		if byNumber(c.first, c.then) >= 0 || byNumber(c.then, c.first) <= 0 {
			t.Errorf("%s is not before %s", c.first, c.then)
		}
	}
}
