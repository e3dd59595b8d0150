//go:build release

package main

import "testing"

// evidenceFixture has nothing to make evidence with: no release links the software TEE.
func evidenceFixture(t *testing.T, _ string) { t.Skip("a release build has no software TEE") }
