package broker

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// leasesBroker is an operator socket that answers for leases as a broker does.
func leasesBroker(t *testing.T, list operator.LeaseList, ended operator.LeasesEnded) (socket string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var paths []string
	socket = clitest.ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.Method+" "+r.URL.Path)
		mu.Unlock()
		var answer any = list
		if r.Method == http.MethodPost {
			answer = ended
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	return socket, func() []string { mu.Lock(); defer mu.Unlock(); return paths }
}

// TestLeasesAreListedAndEndedAsTextAndAsJSON: every field for who reads, all of it for scripts,
// and a bound that was met is said.
func TestLeasesAreListedAndEndedAsTextAndAsJSON(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	lease := operator.Lease{Lease: strings.Repeat("a", 32), Agent: digest.Digest{1}, Processor: digest.Digest{2}, Image: "sha256:cc", ImageID: "image-7", Tenant: "clinic",
		Resources: map[string]uint64{"models/b": 2, "models/a": 1}, Granted: at.Add(-time.Minute), Ends: at}
	ended := operator.LeasesEnded{Who: "agent/" + lease.Agent.String(), At: at, Running: []operator.Lease{lease}, LastEnds: at}
	list := operator.LeaseList{Leases: []operator.Lease{lease}, More: true, Ended: []operator.LeasesEnded{{Who: "processor/" + lease.Processor.String(), At: at}}}
	socket, asked := leasesBroker(t, list, ended)
	command := func(args ...string) []string { return append([]string{"leases", "--broker", socket}, args...) }

	out, code, err := run(t, command("list")...)
	for _, want := range []string{"lease      " + lease.Lease + ", until 2026-03-04T05:06:07Z", lease.Agent.String(), lease.Processor.String(), `sha256:cc (says it is "image-7")`,
		"tenant     clinic", "keys       models/a version 1, models/b version 2", "... and more\n", "ended      processor/" + lease.Processor.String() + ", at 2026-03-04T05:06:07Z"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, %v: no %q in\n%s", code, err, want, out)
		}
	}
	out, code, err = run(t, command("list", "--json")...)
	var read operator.LeaseList
	if bad := json.Unmarshal([]byte(out), &read); bad != nil || code != 0 || !read.More || len(read.Leases) != 1 || read.Leases[0].Resources["models/b"] != 2 || len(read.Ended) != 1 {
		t.Errorf("%d, %s, %v, %v", code, out, err, bad)
	}
	expectRun(t, 0, "leases that are active and cannot be revoked: 1; the last certificate ends 2026-03-04T05:06:07Z", command("end", "--lease", lease.Lease)...)
	expectRun(t, 0, "may get leases again", command("allow", "--processor", lease.Processor.String())...)
	out, code, err = run(t, command("end", "--agent", lease.Agent.String(), "--json")...)
	var said operator.LeasesEnded
	if bad := json.Unmarshal([]byte(out), &said); bad != nil || code != 0 || said.Who != ended.Who || !said.LastEnds.Equal(at) || len(said.Running) != 1 {
		t.Errorf("%d, %s, %v, %v", code, out, err, bad)
	}
	before := len(asked())
	expectRun(t, cli.StatusUsage, "exactly one of --lease, --agent and --processor", command("end")...)
	expectRun(t, cli.StatusUsage, "exactly one of --lease, --agent and --processor", command("end", "--lease", "a", "--agent", "b")...)
	expectRun(t, cli.StatusUsage, "exactly one of --agent and --processor", command("allow")...)
	if got := asked(); len(got) != before || !strings.HasSuffix(got[2], "/end/lease/"+lease.Lease) || !strings.HasSuffix(got[3], "/allow/processor/"+lease.Processor.String()) {
		t.Errorf("asked for %q", got)
	}

	socket, _ = leasesBroker(t, operator.LeaseList{}, operator.LeasesEnded{Who: "agent/b", At: at})
	expectRun(t, 0, "no lease is active", command("list")...)
	expectRun(t, 0, "none of its leases is active", command("end", "--agent", "b")...)
}
