// Package fetch gets small documents from the vendors' servers without burdening them.
//
// A [Client] asks each host no faster than a [Pace] allows, waits as long as a host asks for with
// 429 or 503, and lets everything that is waiting wait in one bounded queue per host, in which
// lists that the whole broker needs pass certificates that one guest needs. Answers are bounded in
// size and time. A [Base] is https, or http on this machine alone; a redirect leads to the same
// host or is refused.
//
// The package believes no answer; its callers, packages amd and intel, parse and verify them.
package fetch
