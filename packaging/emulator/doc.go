// Package emulator runs guests for the tests that boot something: QEMU and a software TPM out of the tree that
// .ci/boot-trees makes, in a directory of their own that goes with the run ([Work]).
package emulator
