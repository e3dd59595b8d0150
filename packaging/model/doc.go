// Package model holds authority.pml, which says in Promela who may say what and until
// when (docs/protocol.md 16), and the trails by which Spin finds each of its mutants.
//
// Tests take each trail, step by step, to the code as it is. Honest steps must succeed;
// the step that only the mutant takes must be refused, for the reason that the rule left
// out stands for. Trails whose steps happen inside an agent are taken there by the agent's
// own tests, with [Read].
//
// `make model-check` keeps model and trails together; no binary links this package.
package model
