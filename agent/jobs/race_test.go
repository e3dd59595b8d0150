//go:build race

package jobs

// checked says that the race detector's build stops at pointers past a page, which
// the damage of a test makes and an ordinary build turns into errors.
const checked = true
