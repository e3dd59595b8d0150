//go:build release

package appraisal

import "github.com/anchorhold/anchorhold/keybroker/appraise"

// allow believes nobody: a release has no other roots than the pinned ones.
func (Roots) allow(*appraise.Verifier) error { return nil }
