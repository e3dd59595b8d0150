// Package brokertest runs a whole key broker inside a test: real TLS on
// loopback, real policy, key store and audit log in a temporary directory, and
// the software TEE as the guest's hardware.
//
// It guarantees that everything it starts has ended when the test ends. It
// trusts its caller to be a test: with the software TEE nothing here is secret,
// and no release build contains it. It refuses to start without a testing.TB.
//
// Tests of keybroker, keybroker/client and agent call it.
package brokertest
