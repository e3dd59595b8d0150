// Package agent is the daemon in the guest: it puts the parts together that one configuration
// asks for, and runs them until it is told to stop.
//
// What it runs:
//
//   - a [tenure.Keeper] that attests, opens the sealed models and renews the lease
//   - the local API on a unix socket ([serving.API]), with long work mounted on it
//   - long work on a queue that is open while a lease lasts ([session.Sessions])
//   - reloads, the watchdog, and warnings of dates that come near
//
// It guarantees that the socket answers from the start on, if only with the reason why nothing
// is served; that a reload which fails changes nothing; and that [Run] returns after all that it
// started has ended, with keys and weights wiped. It trusts the measured configuration. Only the
// main package calls it.
package agent
