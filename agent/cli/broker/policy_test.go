package broker

import (
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

func TestPoliciesThatCannotBeReadAreNamed(t *testing.T) {
	good := operator.PolicyInfo{ID: "p", Version: 3, Active: true}
	expectRun(t, 0, "* p", "policy", "list", "--broker", clitest.Answers(t, []operator.PolicyInfo{good}))
	bad := clitest.Answers(t, []operator.PolicyInfo{good, {File: "policies/history/x.yaml", Unreadable: "line 3"}})
	for _, says := range []string{"* p", "! policies/history/x.yaml: line 3", "1 of 2 policies cannot be read: policies/history/x.yaml"} {
		expectRun(t, cli.StatusFailed, says, "policy", "list", "--broker", bad)
	}
	expectRun(t, cli.StatusFailed, `"unreadable": "line 3"`, "policy", "list", "--json", "--broker", bad)
}
