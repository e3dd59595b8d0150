// Package openmodel opens a sealed language model with a released key: weights in the arena,
// and the engine over them, in the memory that the configuration grants the process.
//
// It guarantees that a model whose seal does not verify is not opened, that the key and all
// memory it opens into are wiped together, whoever still uses them ([Custody]), and that
// nothing of an attempt that failed is left. It trusts the guest's memory and the publisher's
// key in the measured configuration; it does not trust the disk. It refuses a model that does
// not fit, before it decrypts weights.
//
// A tenure opens and closes a [Model]. [Examine] says beforehand whether a second one has room
// beside it.
package openmodel
