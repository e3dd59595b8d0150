// Package secrets holds the secrets that the broker released for other services of this guest,
// and says who may have which.
//
// It guarantees that nobody gets a secret whom the measured configuration does not name for it,
// that none is handed out after the end of the lease that brought it, and that after a rotation at
// the broker the next reader gets the new one. Who asks waits while there is no lease, as long as
// he likes. The package trusts its callers to know who asks: the kernel says so.
//
// The agent keeps one [Store]. The socket of package credsock serves systemd from it, and
// the local API the command "anchorhold secret get".
package secrets
