// Package journal keeps entries in chained segment files that survive a crash
// at any moment.
//
// It guarantees that entries are on stable storage when Append returns, that
// one sync serves all entries of a frame, and that opening finds every change
// to what was acknowledged: a flipped bit, a missing, repeated or exchanged
// frame, a missing segment. It removes only what a crash can leave behind: one
// write that is cut short or lacks whole sectors, at the very end. It trusts
// the disk to keep what it synced. A log that was cut off at a frame's border
// looks whole here; the signed checkpoints of package audit find that.
//
// Package audit calls it, once for records and once for checkpoints.
package journal
