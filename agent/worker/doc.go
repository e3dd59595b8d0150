// Package worker runs one task in a process of its own and ends it, so that large
// cryptographic libraries never share an address space with the agent's keys.
//
// The agent's half is a [Pool]. It starts workers through a [Runner] ([Exec] starts the
// binary over a socketpair, [Socket] asks the service manager for an
// anchorhold-worker@.service) and passes each one a bounded header and the descriptors of
// its inputs and outputs; [Feed] and [Drain] are inputs and outputs in memory. The worker's
// half is [Serve], which confines its process (package confine) before it reads the first
// byte of a task.
//
// A worker has no network, no environment, no files but the descriptors that it was handed,
// and no way to start a program. It ends at its memory bound, at its time bound, on
// cancellation, and with the agent. Run returns when the worker is gone; the exception is a
// service manager's worker that ignores its orders, which its unit ends. Whatever a worker
// sends is parsed under limits, and can at most become a [*Failure]. Workers run in the
// scheduler's idle class, so that a flood of them does not slow the agent down.
//
// The kernel's filters and limits are trusted, and so is the agent's side of the socket. A
// worker is trusted with nothing but its inputs: its outputs are for the caller to check.
//
// Unknown versions, fields and classes are refused, as are encodings that are not canonical,
// limits of zero, descriptors that are neither files nor pipes, and inputs that the worker
// could write to.
//
// The agent's services call Run; the main of anchorhold-worker calls Inherited and Serve.
package worker
