// Package worker runs one task in one process of its own and ends it: large
// cryptographic libraries never share an address space with the agent's keys.
//
// The agent's half is a Pool, which starts workers through a Runner (Exec
// starts the binary over a socketpair, Socket asks the service manager for an
// anchorhold-worker@.service) and passes each one a bounded header and the
// descriptors of its inputs and outputs. The worker's half is Serve, which
// closes every door of its process (package confine) before it reads the first
// byte of a task.
//
// Guarantees: a worker has no network, no file but the descriptors that it was
// handed, no way to start a program, and no environment; it ends at its memory
// bound, at its time bound, on cancellation, and with the agent; Run returns
// when it is gone, except from a service manager's worker that heeds no order,
// which its unit ends; whatever it sends is parsed under limits and cannot
// reach further than one *Failure. A flood of workers runs at the scheduler's
// idle class.
//
// Trusts: the kernel's filters and limits, and the agent's side of the socket.
// A worker is not trusted with more than its inputs; its outputs are for the
// caller to check.
//
// Refuses: unknown versions, fields and classes; encodings that are not the
// canonical one; limits of zero; descriptors that are neither files nor pipes,
// and inputs that the worker could write to.
//
// The agent's job runner calls Run; the main of anchorhold-worker calls
// Inherited and Serve.
package worker
