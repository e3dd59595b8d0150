// Package model holds authority.pml, a Promela model of who may say what and until when
// (docs/protocol.md 16), restart.pml, one of restarts without the broker (5.12), and the trails by which
// Spin finds each of their mutants.
//
// Tests replay each trail, step by step, against the real code. Honest steps must succeed; the step
// that only the mutant takes must be refused, for the reason of the rule that the mutant lacks.
// Trails whose steps happen inside an agent are replayed by the agent's own tests, with [Read].
//
// `make model-check` keeps model and trails together; no program links this package.
package model
