package longtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMarkedTestsAreNamedAndRunOnDemand(t *testing.T) {
	for name, want := range map[string]bool{"marked": false, "wanted": true} {
		value := map[bool]string{true: "1"}[want]
		t.Setenv(Variable, value)
		ran := false
		t.Run(name, func(t *testing.T) {
			Run(t, "it counts to a billion")
			ran = true
		})
		if ran != want {
			t.Errorf("%s=%q: it ran: %t", Variable, value, ran)
		}
	}
}

// TestCIRunsMarkedTests: whoever runs all tests sets the variable.
func TestCIRunsMarkedTests(t *testing.T) {
	for _, name := range []string{"Makefile", ".ci/steady", ".ci/fuzz", ".ci/arithmetic"} {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil || !strings.Contains(string(text), Variable+"=1") {
			t.Errorf("%s does not set %s, %v", name, Variable, err)
		}
	}
}
