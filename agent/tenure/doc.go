// Package tenure holds the guest's leases: it attests, opens the sealed models with the keys
// that it receives, renews before a lease ends, and wipes keys and weights when one does end.
//
// It guarantees that nothing is served outside a lease, whatever hangs: the broker, the report
// device, the disk, a request or the log; that every failure to attest is the reason that
// requests are refused with; that while one model takes the place of another no request is
// refused for it; and that a model whose seal does not verify is never served. It trusts the
// guest's memory, the measured configuration and broker time; it does not trust the guest's
// clock, the disk or the network.
//
// The agent runs one [Keeper], which changes the [Tenure]; the local API asks the Tenure what may
// be served now.
package tenure
