// Package dp is the differential privacy of rounds: norms and clipping, exact noise over the
// integers, and accountants that say how much privacy was spent.
//
// Noise follows the distribution that it names: a discrete [Gaussian] or [Laplace] over the
// integers, within a statistical distance of 2^-100 for a whole vector. Floating point is used
// only where its result is certain, and arithmetic of any precision elsewhere, because samples
// rounded from floats leak through their low bits (Mironov 2012). Accountants never state less
// than was spent.
//
// The package trusts the seeds that it is given. It refuses values that are not finite and
// parameters outside its limits.
//
// Timing: a sample takes a table look-up by its magnitude, so whoever can watch the guest's caches
// learns something about the noise; docs/threat-model.md discusses it.
//
// Workers draw noise with it; the broker calibrates noise and accounts for it ([Calibrate],
// [RDPEpsilon]).
package dp

import "errors"

// ErrRange means a parameter outside its limits.
var ErrRange = errors.New("parameter out of range")

// ErrNotFinite means a value that is infinite or not a number.
var ErrNotFinite = errors.New("value is not finite")
