// Package dp has what differential privacy needs: norms and clipping, exact noise
// over the integers, and accountants that say what was spent.
//
// It guarantees noise of the distribution that it names: a discrete Gaussian or
// Laplace over the integers, within a statistical distance of 2^-100 for a whole
// vector. Floating point decides nothing by itself: it is used where it is certain,
// and arithmetic of any precision where it is not, because samples rounded from
// floats leak through their low bits (Mironov 2012). Accountants never state less
// than was spent.
//
// It trusts the seeds that it is given. It refuses values that are not finite and
// parameters outside its limits.
//
// Timing: a sample takes a table look-up by its magnitude. Whoever can watch the
// guest's caches learns something about noise; docs/threat-model.md says so.
//
// Workers draw noise with it, the broker calibrates and accounts.
package dp

import "errors"

// ErrRange means a parameter outside its limits.
var ErrRange = errors.New("parameter out of range")

// ErrNotFinite means a value that is infinite or not a number.
var ErrNotFinite = errors.New("value is not finite")
