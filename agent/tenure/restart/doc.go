// Package restart lets an agent that restarts while no broker answers go on serving, where its broker permitted
// that before.
//
// With each lease the agent may ask for a permit. The keys that the permit names are sealed to this guest
// (guest/localseal) and kept on the disk with it. The package guarantees that they are opened at most once in
// the life of a process, at its start, only where no broker answered, only within the broker's signed permit, and
// only after the opening was counted and recorded for the broker; that a broker's refusal of this guest
// destroys them; and that they are wiped when the permit ends, whatever hangs. It trusts the guest's memory and,
// as far as the permit's end, the guest's clock; it does not trust the disk. Unknown is refused: a clock that
// nobody knows, a refusal that it does not know.
//
// A [Restarts] stands between the lease's keeper and the broker's client.
package restart
