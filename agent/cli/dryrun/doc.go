// Package dryrun has the commands that ask a policy without a broker: "policy explain", which says
// how it decides on evidence from a file, "policy test", which holds it against a table of expected
// decisions, and "policy replay", which asks it about the past decisions of an audit log.
//
// Evidence is read by package evidencefile and judged by package evidencejudge; decisions are those of
// package policy, by the function that the broker calls. What a guest states of itself is bound to
// evidence by an exchange with a broker, of which a file has nothing: for "explain" and "test" the
// operator says it. Nothing is fetched and nothing is changed.
package dryrun
