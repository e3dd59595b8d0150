package broker

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

func TestVolumesAreListedAndReset(t *testing.T) {
	v := operator.Volume{Volume: "volumes/var", Generation: 7, Mark: digest.Digest{1}, Reset: true, Disputed: true, Agent: digest.Digest{2}, Lease: digest.LeaseID{3}, At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	list := []operator.Volume{v}
	var reset string
	socket := clitest.ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = list
		if r.Method == http.MethodPost {
			reset, answer = r.URL.Path, v
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	command := func(args ...string) []string { return append([]string{"volume", "--broker", socket}, args...) }
	out, code, err := run(t, command("list")...)
	for _, want := range []string{"volumes/var\n", "generation 7, confirmed 2026-03-04T05:06:07Z", v.Agent.String(), v.Lease.String(), "RESET", "DISPUTED"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, %v: no %q in\n%s", code, err, want, out)
		}
	}
	out, code, err = run(t, command("list", "--json")...)
	var read struct{ Volumes []operator.Volume }
	if bad := json.Unmarshal([]byte(out), &read); bad != nil || code != 0 || len(read.Volumes) != 1 || read.Volumes[0] != v {
		t.Errorf("%d, %s, %v, %v", code, out, err, bad)
	}
	expectRun(t, 0, "volumes/var: the next opening may begin with any state; generation 7 was confirmed last", command("reset", "volumes/var")...)
	if reset != "/v1/volumes/reset/volumes/var" {
		t.Errorf("asked for %s", reset)
	}
	expectRun(t, cli.StatusUsage, "one volume's name", command("reset")...)
	list = []operator.Volume{}
	expectRun(t, 0, "no guest has opened a volume", command("list")...)
}
