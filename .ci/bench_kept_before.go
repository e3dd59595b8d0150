//go:build !release

package keybroker_test

import "github.com/anchorhold/anchorhold/keybroker/brokertest"

// What keybroker/kept_guest_test.go has, for a build whose connections carry one
// exchange alone: .ci/bench-release puts it there.

func keeping() []brokertest.Option { return nil }

func stay(g *guest) { g.whole() }

func again(*guest) bool { return false }

func leave(*guest) {}
